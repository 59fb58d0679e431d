//! `metastore shard list`: who leads each shard, and how its members stand.

use std::io::Write;

use metastore_net::{ShardMember, ShardPlace};
use serde_json::{Value, json};

use crate::arguments::{Format, ShardListArguments};
use crate::commands::operator::{Operator, ShardView, part_name};
use crate::commands::table::Table;
use crate::commands::{CommandError, Exit, json, tell};

/// A shard and what is known of it.
struct ShardRow {
    place: ShardPlace,
    /// What its leader says, or, where there is none, the one that knows most.
    view: Option<ShardView>,
    /// Where clients reach the leader.
    address: Option<String>,
}

/// A shard that nobody leads is told of as such; it is no reason to fail.
pub(super) fn run(
    arguments: &ShardListArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let client = &arguments.client;
    let mut operator = Operator::connect(&client.connect, client.timeout)?;
    operator.survey();
    let mut rows = Vec::new();
    for place in operator.shards().to_vec() {
        let view = match operator.look(place.shard) {
            Ok(view) => Some(view),
            Err(none) => {
                tell(&format_args!("warning: {none}"));
                none.best.map(|best| *best)
            }
        };
        let led = view.as_ref().filter(|view| view.is_of_leader());
        let address = led.map(|view| operator.address(view.at));
        rows.push(ShardRow {
            place,
            view,
            address,
        });
    }
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

/// A line for each member of each shard.
fn table(rows: &[ShardRow]) -> Table {
    let mut table = Table::new([
        "shard", "slots", "leader", "member", "node", "core", "part", "holds", "healthy",
    ]);
    for row in rows {
        let leader = row.address.clone().unwrap_or_else(|| "none".to_owned());
        let members = row.view.iter().flat_map(|view| &view.reply.members);
        for member in members {
            let (matched, is_healthy) = as_the_leader_knows(row, member);
            table.row([
                row.place.shard.to_string(),
                slots(&row.place),
                leader.clone(),
                member.replica.to_string(),
                member.home.node_id.to_string(),
                member.home.core_index.to_string(),
                part(row, member).to_owned(),
                matched.map_or_else(|| "-".to_owned(), |matched| matched.to_string()),
                match is_healthy {
                    Some(true) => "yes".to_owned(),
                    Some(false) => "no".to_owned(),
                    None => "-".to_owned(),
                },
            ]);
        }
    }
    table
}

fn part(row: &ShardRow, member: &ShardMember) -> &'static str {
    let leader = row.view.as_ref().filter(|view| view.is_of_leader());
    match leader.is_some_and(|view| view.reply.leader == member.replica) {
        true => "leader",
        false => part_name(member.part),
    }
}

/// Nobody but the leader knows how the others stand.
fn as_the_leader_knows(row: &ShardRow, member: &ShardMember) -> (Option<u64>, Option<bool>) {
    let is_led = row.view.as_ref().is_some_and(ShardView::is_of_leader);
    match is_led {
        true => (Some(member.matched), Some(member.is_healthy)),
        false => (None, None),
    }
}

fn slots(place: &ShardPlace) -> String {
    let ranges = place.slots.iter();
    let ranges: Vec<_> = ranges
        .map(|range| format!("{}-{}", range.first, range.last))
        .collect();
    ranges.join(",")
}

fn document(row: &ShardRow) -> Value {
    let led = row.view.as_ref().filter(|view| view.is_of_leader());
    let slots = row.place.slots.iter();
    let members = row.view.iter().flat_map(|view| &view.reply.members);
    let members = members.map(|member| {
        let (matched, is_healthy) = as_the_leader_knows(row, member);
        json!({
            "replica": member.replica,
            "node": member.home.node_id,
            "core": member.home.core_index,
            "part": part_name(member.part),
            "leads": led.is_some_and(|view| view.reply.leader == member.replica),
            "matched": matched,
            "healthy": is_healthy,
        })
    });
    json!({
        "shard": row.place.shard,
        "slots": slots.map(|range| json!([range.first, range.last])).collect::<Vec<_>>(),
        "leader": led.map(|view| json!({
            "replica": view.reply.leader,
            "node": view.at.node_id,
            "core": view.at.core_index,
            "address": row.address,
        })),
        "joint": row.view.as_ref().map(ShardView::is_joint),
        "settled": led.map(|view| view.reply.is_settled),
        "members": members.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use metastore_net::{MemberPart, SlotRange};

    use crate::commands::operator::view_tests::{member, view};

    use super::*;

    fn row() -> ShardRow {
        let members = vec![
            member(1, 1, MemberPart::Voter),
            member(4, 4, MemberPart::Learner),
        ];
        ShardRow {
            place: ShardPlace {
                shard: 7,
                slots: vec![SlotRange { first: 0, last: 99 }],
                node_id: 1,
                core_index: 0,
                address: String::new(),
                followers: Vec::new(),
                follower_nodes: Vec::new(),
            },
            view: Some(view(members)),
            address: Some("n1:7400".to_owned()),
        }
    }

    fn printed(row: ShardRow) -> String {
        let mut out = Vec::new();
        table(&[row]).print(&mut out).expect("memory takes it");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_member_has_a_line_with_its_part() {
        let text = printed(row());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[1].contains("n1:7400") && lines[1].contains("leader"),
            "{text}"
        );
        assert!(lines[2].contains("learner"), "{text}");
        let document = document(&row());
        assert_eq!(document["leader"]["address"], "n1:7400");
        assert_eq!(document["slots"][0][1], 99);
        assert_eq!(document["members"][1]["part"], "learner");
        assert_eq!(document["joint"], false);
    }

    #[test]
    fn without_a_leader_nobody_knows_how_the_others_stand() {
        let mut row = row();
        let view = row.view.as_mut().expect("it has one");
        view.reply.leader = 4;
        row.address = None;
        let document = document(&row);
        assert!(document["leader"].is_null());
        assert!(document["members"][0]["healthy"].is_null());
        assert!(printed(row).contains("none"));
    }
}
