//! `metastore member add`: a node becomes known to the others.

use std::io::Write;
use std::time::Instant;

use metastore_net::{NodeStanding, OwnedNodeEntry, SpareVoter};
use serde_json::json;

use super::drive::{Drive, Goal, Step};
use super::report;
use crate::arguments::{Format, MemberAddArguments};
use crate::commands::operator::{NodeAnswer, Operator, OperatorError, ShardView};
use crate::commands::{CommandError, Exit, json, tell};

/// A node learns every shard, or every one that has few members.
struct Learn {
    node: u32,
    fewer_than: Option<usize>,
}

/// What a node said when it was told.
enum Told {
    Knows,
    /// It does not take it.
    Refuses(String),
    /// It hears of it from the others, once it answers.
    Silent(String),
}

pub(super) fn run(
    arguments: &MemberAddArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let many = &arguments.many;
    let deadline = Instant::now() + many.operator.timeout;
    let mut operator = Operator::connect(&many.operator.connect, many.operator.timeout)?;
    operator.survey();
    let entry = OwnedNodeEntry {
        node_id: arguments.node,
        cores: arguments.cores,
        clients: arguments.clients.to_string(),
        peers: arguments.peers.to_string(),
        data_id: operator.data_at(arguments.node, &arguments.clients.to_string()),
        standing: NodeStanding::Member,
    };
    let told = tell_all(&mut operator, &entry);
    if !told.iter().any(|(_, told)| matches!(told, Told::Knows)) {
        let refused = told.iter().map(|(node, told)| in_words(*node, told));
        let error = OperatorError::NotKnown {
            node: entry.node_id,
            refused: refused.collect(),
        };
        return Err(error.into());
    }
    for (node, told) in &told {
        match many.operator.format() {
            Format::Json => json::print(
                out,
                &json!({
                    "node": node,
                    "knows": matches!(told, Told::Knows),
                    "why": match told {
                        Told::Knows => None,
                        Told::Refuses(why) | Told::Silent(why) => Some(why),
                    },
                }),
            )?,
            Format::People => {
                writeln!(out, "{}", in_words(*node, told)).map_err(CommandError::Output)?;
            }
        }
    }
    operator.know(entry);
    let survey = operator.survey();
    let silent = match survey.node(arguments.node) {
        NodeAnswer::Answers(_) => {
            tell_newcomer(&mut operator, arguments.node);
            None
        }
        NodeAnswer::Silent(why) => Some(why.clone()),
    };
    match (silent, arguments.learn) {
        (Some(why), true) => {
            let node = arguments.node;
            return Err(OperatorError::Silent { node, why }.into());
        }
        (Some(why), false) => tell(&format_args!(
            "warning: node {} does not answer yet: {why}",
            arguments.node
        )),
        (None, true) => {
            let goal = Learn {
                node: arguments.node,
                fewer_than: arguments.fewer_than,
            };
            let reports =
                Drive::new(&goal, SpareVoter::Kept, deadline).all(&operator, many.at_once);
            return report::print(&reports, many.operator.format(), out);
        }
        (None, false) => {}
    }
    let is_refused = told
        .iter()
        .any(|(_, told)| matches!(told, Told::Refuses(_)));
    match is_refused {
        true => Ok(Exit::Negative),
        false => Ok(Exit::Done),
    }
}

/// Tells all nodes but the new one, which knows itself.
fn tell_all(operator: &mut Operator, entry: &OwnedNodeEntry) -> Vec<(u32, Told)> {
    let nodes = operator.nodes().map(|node| node.entry.node_id);
    let others: Vec<u32> = nodes.filter(|&node| node != entry.node_id).collect();
    let told = others.into_iter().map(|node| {
        let told = match operator.add_node(node, entry) {
            Ok(_) => Told::Knows,
            Err(failed) if failed.is_refusal() => Told::Refuses(failed.to_string()),
            Err(failed) => Told::Silent(failed.to_string()),
        };
        (node, told)
    });
    told.collect()
}

/// Tells the new node of those that joined before it: the file that it was formatted with does not name them, and whoever
/// could tell it later may be lost by then.
fn tell_newcomer(operator: &mut Operator, newcomer: u32) {
    let nodes = operator.nodes().map(|node| node.entry.clone());
    let others: Vec<_> = nodes.filter(|entry| entry.node_id != newcomer).collect();
    for entry in others {
        if let Err(failed) = operator.add_node(newcomer, &entry) {
            tell(&format_args!(
                "warning: node {newcomer} was not told of node {}: {failed}",
                entry.node_id
            ));
        }
    }
}

fn in_words(node: u32, told: &Told) -> String {
    match told {
        Told::Knows => format!("node {node} knows it"),
        Told::Refuses(why) => format!("node {node} refuses it: {why}"),
        Told::Silent(why) => {
            format!("node {node} was not told, and hears of it from the others: {why}")
        }
    }
}

impl Goal for Learn {
    fn from(&self) -> Option<u32> {
        None
    }

    fn onto(&self) -> Option<u32> {
        Some(self.node)
    }

    fn next(&self, view: &ShardView) -> Step {
        let members = view.reply.members.len();
        let has_enough = self.fewer_than.is_some_and(|bound| members >= bound);
        match view.member_on(self.node) {
            Some(_) => Step::Done,
            None if has_enough => Step::Done,
            None => Step::Settle(self.node),
        }
    }
}

#[cfg(test)]
mod tests {
    use metastore_net::MemberPart;

    use crate::commands::operator::view_tests::{member, view};

    use super::*;

    #[test]
    fn a_node_learns_what_it_does_not_have() {
        let goal = Learn {
            node: 4,
            fewer_than: None,
        };
        let one = member(1, 1, MemberPart::Voter);
        assert_eq!(goal.next(&view(vec![one])), Step::Settle(4));
        let members = vec![one, member(4, 4, MemberPart::Voter)];
        assert_eq!(goal.next(&view(members)), Step::Done);
        let few = |fewer_than| Learn {
            fewer_than: Some(fewer_than),
            node: 4,
        };
        assert_eq!(few(2).next(&view(vec![one])), Step::Settle(4));
        assert_eq!(few(1).next(&view(vec![one])), Step::Done);
    }
}
