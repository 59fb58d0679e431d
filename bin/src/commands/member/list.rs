//! `metastore member list`: the nodes and what lives there.

use std::collections::BTreeMap;
use std::io::Write;

use metastore_net::MemberPart;
use serde_json::{Value, json};

use crate::arguments::{Format, MemberListArguments};
use crate::commands::operator::{NodeAnswer, OperatedNode, Operator, ShardView};
use crate::commands::table::Table;
use crate::commands::{CommandError, Exit, json, tell};

/// What lives on a node, as the leaders of its shards know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Residents {
    leaders: u32,
    voters: u32,
    learners: u32,
}

/// A node and what is known of it.
struct NodeRow<'a> {
    node: &'a OperatedNode,
    /// Why it does not answer, if it does not.
    silent: Option<&'a str>,
    residents: Residents,
}

pub(super) fn run(
    arguments: &MemberListArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let client = &arguments.client;
    let mut operator = Operator::connect(&client.connect, client.timeout)?;
    let survey = operator.survey();
    let mut views = Vec::new();
    let shards: Vec<u32> = operator.shards().iter().map(|place| place.shard).collect();
    for shard in shards {
        match operator.look(shard) {
            Ok(view) => views.push(view),
            Err(none) => {
                tell(&format_args!("warning: {none}"));
                views.extend(none.best.map(|best| *best));
            }
        }
    }
    let residents = count(&views);
    let rows = operator.nodes().map(|node| {
        let id = node.entry.node_id;
        NodeRow {
            node,
            silent: match survey.node(id) {
                NodeAnswer::Answers(_) => None,
                NodeAnswer::Silent(why) => Some(why),
            },
            residents: residents.get(&id).copied().unwrap_or_default(),
        }
    });
    let rows: Vec<NodeRow<'_>> = rows.collect();
    match client.format() {
        Format::Json => {
            for row in &rows {
                json::print(out, &document(row))?;
            }
        }
        Format::People => table(&rows).print(out).map_err(CommandError::Output)?,
    }
    Ok(Exit::Done)
}

fn count(views: &[ShardView]) -> BTreeMap<u32, Residents> {
    let mut counted: BTreeMap<u32, Residents> = BTreeMap::new();
    for view in views {
        for member in &view.reply.members {
            let of_node = counted.entry(member.home.node_id).or_default();
            match member.part {
                MemberPart::Voter | MemberPart::Incoming | MemberPart::Outgoing => {
                    of_node.voters += 1;
                }
                MemberPart::Learner => of_node.learners += 1,
            }
        }
        if view.is_of_leader() {
            counted.entry(view.at.node_id).or_default().leaders += 1;
        }
    }
    counted
}

fn table(rows: &[NodeRow<'_>]) -> Table {
    let mut table = Table::new([
        "node", "clients", "peers", "cores", "answers", "leads", "voters", "learners",
    ]);
    for row in rows {
        let entry = &row.node.entry;
        table.row([
            entry.node_id.to_string(),
            entry.clients.clone(),
            entry.peers.clone(),
            entry.cores.to_string(),
            row.silent.map_or("yes", |_| "no").to_owned(),
            row.residents.leaders.to_string(),
            row.residents.voters.to_string(),
            row.residents.learners.to_string(),
        ]);
    }
    table
}

fn document(row: &NodeRow<'_>) -> Value {
    let entry = &row.node.entry;
    json!({
        "node": entry.node_id,
        "clients": entry.clients,
        "peers": entry.peers,
        "cores": entry.cores,
        "answers": row.silent.is_none(),
        "why_silent": row.silent,
        "leads": row.residents.leaders,
        "voters": row.residents.voters,
        "learners": row.residents.learners,
    })
}

#[cfg(test)]
mod tests {
    use crate::commands::operator::view_tests::{member, view};

    use super::*;

    #[test]
    fn who_lives_where_is_counted_as_leaders_know_it() {
        let all = vec![
            member(1, 1, MemberPart::Voter),
            member(2, 2, MemberPart::Voter),
            member(4, 4, MemberPart::Learner),
        ];
        let led = view(all.clone());
        let mut not_led = view(all);
        not_led.reply.leader = 0;
        let counted = count(&[led, not_led]);
        let residents = |leaders, voters, learners| Residents {
            leaders,
            voters,
            learners,
        };
        assert_eq!(counted[&1], residents(1, 2, 0));
        assert_eq!(counted[&2], residents(0, 2, 0));
        assert_eq!(counted[&4], residents(0, 0, 2));
    }
}
