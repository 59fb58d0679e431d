//! `metastore recover apply`: what a plan says for one node that is left.
//!
//! | step | a crash behind it |
//! |---|---|
//! | everything is read and compared with the plan | nothing has happened |
//! | the plan is in the data, then `node.toml` has the recovery and says that it is not finished | the node does not start; the same command goes on |
//! | in each log, each shard that goes on here with one copy says so | as before: what stands there already is left alone |
//! | `node.toml` says that it has served | it is done |

use std::collections::BTreeMap;
use std::io::Write;

use metastore_engine::{
    CoreId, Force, LogIndex, Member, NodeId, PeerCore, ReplicaId, ShardCopy, ShardId, Term,
};

use super::RecoverError;
use super::copies::{CoreLog, read_all};
use super::plan::{Plan, ShardEntry, check_version, read_document};
use super::report::{StoppedNode, digits, map_name};
use super::writer::write_parts;
use crate::arguments::RecoverApplyArguments;
use crate::commands::{CommandError, Exit};
use crate::node::cluster::RECOVERIES_MAX;
use crate::node::cluster_file::{parse_digits, recoveries_line};
use crate::node::log_directory;
use crate::node::node_file::{NodeState, RECOVERY_PLAN_NAME, write_whole};

/// How far a node has come with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    NotBegun,
    Begun,
    Done,
}

/// A plan as it concerns a node.
struct Task {
    recovery: u128,
    /// Those before it, and it.
    recoveries: Vec<u128>,
    progress: Progress,
}

pub(super) fn run(
    arguments: &RecoverApplyArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let plan: Plan = read_document(&arguments.plan)?;
    check_version(&arguments.plan, plan.metastore_recovery_plan)?;
    let mut stopped = StoppedNode::open(&arguments.data)?;
    let task = compare(&plan, &stopped)?;
    if task.progress == Progress::Done {
        say(out, "it is done already: the node can be started")?;
        return Ok(Exit::Done);
    }
    let logs = read_all(&stopped.path, &stopped.node)?;
    let mut forces = choose_forces(&plan, &task, &stopped, &logs)?;
    for force in forces.values().flatten() {
        say(
            out,
            &format!(
                "shard {} goes on with replica {} alone, and with everything up to entry {}",
                force.shard, force.voter.replica, force.last_index
            ),
        )?;
    }
    let epoch = task.recoveries.len();
    say(
        out,
        &format!(
            "node {} belongs to epoch {epoch} of the cluster, and hears only nodes that do",
            stopped.node.node
        ),
    )?;
    if !arguments.yes {
        say(out, "nothing was changed: --yes does it")?;
        return Ok(Exit::Done);
    }
    begin(&mut stopped, &plan, &task)?;
    for log in logs {
        let forces = forces.remove(&log.core).unwrap_or_default();
        write(&stopped, log, &forces)?;
    }
    stopped.node.state = NodeState::Serving;
    stopped.node.write(&stopped.path)?;
    say(
        out,
        "done: the node can be started, once this was done on every node that is left",
    )?;
    say(
        out,
        &format!(
            "before nodes are formatted that join, cluster.toml must have, above its first [[node]] and [history]:\n{}",
            recoveries_line(&task.recoveries)
        ),
    )?;
    Ok(Exit::Done)
}

fn say(out: &mut dyn Write, line: &str) -> Result<(), CommandError> {
    writeln!(out, "{line}").map_err(CommandError::Output)
}

/// Whether the plan is for this data, and how far it has come.
fn compare(plan: &Plan, stopped: &StoppedNode) -> Result<Task, RecoverError> {
    let other = |why: String| RecoverError::OtherData {
        data: stopped.path.clone(),
        why,
    };
    let (node, cluster) = (&stopped.node, &stopped.cluster);
    if plan.cluster != digits(cluster.id.0) {
        return Err(other(format!("it is for cluster {}", plan.cluster)));
    }
    let here = node.node.0;
    let entry = plan.left.iter().find(|left| left.node == here);
    match entry {
        Some(left) if left.data == stopped.data_id() => {}
        Some(_) => return Err(other(format!("node {here} had other data"))),
        None => {
            return Err(other(format!(
                "node {here} is not one of those that are left"
            )));
        }
    }
    let parse = |text: &String| {
        parse_digits(text).ok_or_else(|| other(format!("\"{text}\" is no number of a recovery")))
    };
    let recovery = parse(&plan.recovery)?;
    let mut recoveries = plan
        .recoveries
        .iter()
        .map(parse)
        .collect::<Result<Vec<u128>, _>>()?;
    if recoveries.len() >= RECOVERIES_MAX {
        return Err(other(format!("{RECOVERIES_MAX} recoveries are enough")));
    }
    let before = recoveries.clone();
    recoveries.push(recovery);
    let progress = match node.state {
        NodeState::Serving if cluster.recoveries == recoveries => Progress::Done,
        NodeState::Recovering if cluster.recoveries == recoveries => Progress::Begun,
        NodeState::Serving if cluster.recoveries == before => Progress::NotBegun,
        NodeState::Recovering => {
            return Err(other(
                "another recovery was begun there and is not finished".to_owned(),
            ));
        }
        NodeState::Serving | NodeState::Formatted => {
            return Err(other("the cluster was recovered since".to_owned()));
        }
    };
    let unforced = cluster.clone().with_recoveries(before);
    if plan.map != map_name(&unforced) {
        return Err(other("its shards began with other members".to_owned()));
    }
    Ok(Task {
        recovery,
        recoveries,
        progress,
    })
}

/// What is to be written into the log of each core. Every copy must be what its report said.
fn choose_forces(
    plan: &Plan,
    task: &Task,
    stopped: &StoppedNode,
    logs: &[CoreLog],
) -> Result<BTreeMap<CoreId, Vec<Force>>, RecoverError> {
    let mut forces: BTreeMap<CoreId, Vec<Force>> = BTreeMap::new();
    let here = stopped.node.node;
    for entry in plan.shards.iter().filter(|entry| entry.node == here.0) {
        let changed = |why: &str| RecoverError::Changed {
            shard: entry.shard,
            why: why.to_owned(),
        };
        let core = CoreId(entry.core);
        let log = logs.iter().find(|log| log.core == core);
        let copy = log.and_then(|log| {
            let mut copies = log.copies.iter();
            copies.find(|copy| copy.replica.0 == entry.replica && copy.shard.0 == entry.shard)
        });
        let copy = copy.ok_or_else(|| changed("its copy is gone"))?;
        if copy.forced_last == Some(task.recovery) {
            // It was done before an interruption.
            continue;
        }
        if let Some(why) = is_as_reported(entry, copy) {
            return Err(changed(&why));
        }
        forces
            .entry(core)
            .or_default()
            .push(to_force(entry, task, here));
    }
    Ok(forces)
}

/// Why a copy is not the one that was chosen, if it is not.
fn is_as_reported(entry: &ShardEntry, copy: &ShardCopy) -> Option<String> {
    if let Some(fault) = copy.fault {
        return Some(fault.to_string());
    }
    let found = (copy.last_term.0, copy.last_index.0, copy.committed.0);
    let chosen = (entry.last_term, entry.last_index, entry.committed);
    let is_newer = entry.term > copy.term.0;
    (found != chosen || !is_newer).then(|| {
        format!(
            "it ends with entry {} of term {}, and the chosen one with entry {} of term {}",
            found.1, found.0, chosen.1, chosen.0
        )
    })
}

fn to_force(entry: &ShardEntry, task: &Task, node: NodeId) -> Force {
    Force {
        shard: ShardId(entry.shard),
        voter: Member {
            replica: ReplicaId(entry.replica),
            home: PeerCore {
                node,
                core: CoreId(entry.core),
            },
        },
        last_index: LogIndex(entry.last_index),
        passed_behind: LogIndex(entry.passed_behind),
        term: Term(entry.term),
        newest: ReplicaId(entry.newest_replica),
        epoch: u32::try_from(task.recoveries.len()).expect("recoveries are few"),
        recovery: task.recovery,
    }
}

/// From here on the node does not start until everything is done.
fn begin(stopped: &mut StoppedNode, plan: &Plan, task: &Task) -> Result<(), RecoverError> {
    let text = serde_json::to_string_pretty(plan).expect("plain data can be written as JSON");
    write_whole(&stopped.path, RECOVERY_PLAN_NAME, &text)?;
    let cluster = stopped.node.cluster_plan.take();
    let cluster = cluster.expect("it was opened as a node of a cluster");
    stopped.node.cluster_plan = Some(cluster.with_recoveries(task.recoveries.clone()));
    stopped.node.state = NodeState::Recovering;
    stopped.node.write(&stopped.path)?;
    Ok(())
}

fn write(stopped: &StoppedNode, log: CoreLog, forces: &[Force]) -> Result<(), RecoverError> {
    if forces.is_empty() {
        return Ok(());
    }
    let parts = forces.iter().map(Force::to_part).collect();
    let directory = log_directory(&stopped.path, log.core);
    let flush_method = stopped.node.flush_method;
    write_parts(&directory, flush_method, log.options, log.start, parts)?;
    Ok(())
}
