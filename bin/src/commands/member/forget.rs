//! `metastore member forget`: a node of which nothing is left is taken off the lists of the others.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::arguments::{Format, MemberForgetArguments};
use crate::commands::operator::{NodeAnswer, Operator, OperatorError, PAUSE};
use crate::commands::{CommandError, Exit, json};

/// How long a node may say that a shard lives there still: what it knows of other nodes' shards is seconds old.
const SETTLES_WITHIN: Duration = Duration::from_secs(15);

/// What a node said when it was told.
enum Told {
    Forgets,
    Refuses(String),
    /// It hears of it from the others, once it answers.
    Silent(String),
}

pub(super) fn run(
    arguments: &MemberForgetArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let deadline = Instant::now() + arguments.operator.timeout;
    let mut operator = Operator::connect(&arguments.operator.connect, arguments.operator.timeout)?;
    let node = arguments.node;
    let survey = operator.survey();
    operator.node(node)?;
    if let NodeAnswer::Answers(_) = survey.node(node) {
        let address = operator.node(node)?.address(0);
        return Err(OperatorError::StillRuns { node, address }.into());
    }
    check_empty(&mut operator, node, deadline)?;
    let others: Vec<u32> = operator.nodes().map(|one| one.entry.node_id).collect();
    let mut is_refused = false;
    for other in others.into_iter().filter(|&other| other != node) {
        let told = tell_node(&mut operator, other, node, deadline);
        is_refused |= matches!(told, Told::Refuses(_));
        print(arguments.operator.format(), other, &told, out)?;
    }
    match is_refused {
        true => Ok(Exit::Negative),
        false => Ok(Exit::Done),
    }
}

/// Refuses while the leader of some shard names a member on the node.
fn check_empty(operator: &mut Operator, node: u32, deadline: Instant) -> Result<(), OperatorError> {
    let shards: Vec<u32> = operator.shards().iter().map(|place| place.shard).collect();
    let mut left = Vec::new();
    for shard in shards {
        let view = operator.look_until(shard, deadline);
        let view = view.map_err(OperatorError::NoLeader)?;
        if view.member_on(node).is_some() {
            left.push(shard);
        }
    }
    match left.is_empty() {
        true => Ok(()),
        false => Err(OperatorError::NotEmpty { node, shards: left }),
    }
}

fn tell_node(operator: &mut Operator, told: u32, node: u32, deadline: Instant) -> Told {
    let until = deadline.min(Instant::now() + SETTLES_WITHIN);
    loop {
        let failed = match operator.forget_node(told, node) {
            Ok(_) => return Told::Forgets,
            Err(failed) => failed,
        };
        if !failed.is_refusal() {
            return Told::Silent(failed.to_string());
        }
        if Instant::now() + PAUSE >= until {
            return Told::Refuses(failed.to_string());
        }
        thread::sleep(PAUSE);
    }
}

fn print(format: Format, node: u32, told: &Told, out: &mut dyn Write) -> Result<(), CommandError> {
    match format {
        Format::Json => json::print(
            out,
            &json!({
                "node": node,
                "forgets": matches!(told, Told::Forgets),
                "why": match told {
                    Told::Forgets => None,
                    Told::Refuses(why) | Told::Silent(why) => Some(why),
                },
            }),
        ),
        Format::People => {
            let line = match told {
                Told::Forgets => format!("node {node} has it off its list"),
                Told::Refuses(why) => format!("node {node} refuses: {why}"),
                Told::Silent(why) => {
                    format!("node {node} was not told, and hears of it from the others: {why}")
                }
            };
            writeln!(out, "{line}").map_err(CommandError::Output)
        }
    }
}
