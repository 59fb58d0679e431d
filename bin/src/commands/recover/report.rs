//! `metastore recover report`: what a node that is left holds of each shard.

use std::io::Write;
use std::path::{Path, PathBuf};

use metastore_engine::{Group, Member, ShardCopy, TermRun};
use serde::{Deserialize, Serialize};

use super::RecoverError;
use super::copies::{CoreLog, read_all};
use crate::arguments::RecoverReportArguments;
use crate::commands::{CommandError, Exit};
use crate::node::cluster::Cluster;
use crate::node::node_file::{NodeFile, NodeState};
use crate::node::{NodeLock, StartError};

/// Of the documents of reports and plans.
pub(super) const DOCUMENT_VERSION: u32 = 1;

/// What a node that is left holds, as the others are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    pub(super) metastore_recovery_report: u32,
    pub(super) cluster: String,
    /// Of the initial map and the recoveries.
    pub(super) map: String,
    pub(super) recoveries: Vec<String>,
    pub(super) shards: u32,
    /// Those that are on its list, itself included.
    pub(super) nodes: Vec<u32>,
    pub(super) node: u32,
    /// The number that was drawn when its data was formatted.
    pub(super) data: String,
    pub(super) copies: Vec<CopyEntry>,
}

/// A copy of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CopyEntry {
    pub(super) shard: u32,
    pub(super) replica: u64,
    pub(super) core: u16,
    pub(super) term: u64,
    pub(super) last_term: u64,
    pub(super) last_index: u64,
    pub(super) committed: u64,
    /// From the last entry that it knows to be committed on.
    pub(super) runs: Vec<RunEntry>,
    pub(super) newest_replica: u64,
    pub(super) keys: u64,
    pub(super) groups: Vec<GroupEntry>,
    /// Why it cannot be used.
    pub(super) fault: Option<String>,
}

/// Entries that follow each other and have one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunEntry {
    pub(super) first_index: u64,
    pub(super) term: u64,
}

/// Which replicas of a shard vote, and on which nodes all of them live.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupEntry {
    pub(super) voters: Vec<u64>,
    /// In a joint state, those of the half that goes.
    pub(super) outgoing: Vec<u64>,
    pub(super) members: Vec<MemberEntry>,
}

/// A replica, and the node on which it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberEntry {
    pub(super) replica: u64,
    pub(super) node: u32,
}

/// The data of a node that does not run, held so that it cannot be started.
pub(super) struct StoppedNode {
    pub(super) path: PathBuf,
    pub(super) node: NodeFile,
    pub(super) cluster: Cluster,
    _lock: NodeLock,
}

impl StoppedNode {
    /// Opens the data of a node of a cluster.
    pub(super) fn open(path: &Path) -> Result<StoppedNode, RecoverError> {
        let unformatted = || StartError::Unformatted {
            path: path.to_owned(),
        };
        if NodeFile::read(path)?.is_none() {
            return Err(unformatted().into());
        }
        let lock = NodeLock::take(path)?;
        // What was read before the lock may have been replaced.
        let node = NodeFile::read(path)?.ok_or_else(unformatted)?;
        let Some(cluster) = node.cluster_plan.clone() else {
            return Err(RecoverError::Alone {
                data: path.to_owned(),
            });
        };
        if node.state == NodeState::Formatted {
            return Err(RecoverError::NeverServed {
                data: path.to_owned(),
            });
        }
        Ok(StoppedNode {
            path: path.to_owned(),
            node,
            cluster,
            _lock: lock,
        })
    }

    /// The number that was drawn when its data was formatted.
    pub(super) fn data_id(&self) -> String {
        let id = self.node.data_ids.get(&self.node.node);
        format!("{:016x}", id.expect("a clustered node knows its own"))
    }
}

/// The name of a cluster's map and of what was recovered since.
pub(super) fn map_name(cluster: &Cluster) -> String {
    format!("{:016x}", cluster.initial_map_hash())
}

/// A number of 128 bits as documents have it.
pub(super) fn digits(number: u128) -> String {
    format!("{number:032x}")
}

pub(super) fn run(
    arguments: &RecoverReportArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let stopped = StoppedNode::open(&arguments.data)?;
    if stopped.node.state == NodeState::Recovering {
        let error = StartError::RecoveryUnfinished { path: stopped.path };
        return Err(error.into());
    }
    let logs = read_all(&stopped.path, &stopped.node)?;
    let report = Report::new(&stopped, &logs);
    let text = serde_json::to_string_pretty(&report).expect("plain data can be written as JSON");
    writeln!(out, "{text}").map_err(CommandError::Output)?;
    Ok(Exit::Done)
}

impl Report {
    fn new(stopped: &StoppedNode, logs: &[CoreLog]) -> Report {
        let cluster = &stopped.cluster;
        let copies = logs.iter().flat_map(|log| {
            let copies = log.copies.iter();
            copies.map(|copy| CopyEntry::new(copy, log.core.0))
        });
        Report {
            metastore_recovery_report: DOCUMENT_VERSION,
            cluster: digits(cluster.id.0),
            map: map_name(cluster),
            recoveries: cluster.recoveries.iter().copied().map(digits).collect(),
            shards: u32::try_from(cluster.members.len()).expect("shards are bounded"),
            nodes: cluster.living().map(|node| node.node.0).collect(),
            node: stopped.node.node.0,
            data: stopped.data_id(),
            copies: copies.collect(),
        }
    }
}

impl CopyEntry {
    pub(super) fn new(copy: &ShardCopy, core: u16) -> CopyEntry {
        CopyEntry {
            shard: copy.shard.0,
            replica: copy.replica.0,
            core,
            term: copy.term.0,
            last_term: copy.last_term.0,
            last_index: copy.last_index.0,
            committed: copy.committed.0,
            runs: copy.runs.iter().map(RunEntry::new).collect(),
            newest_replica: copy.newest.0,
            keys: copy.keys,
            groups: copy.groups.iter().map(GroupEntry::new).collect(),
            fault: copy.fault.map(|fault| fault.to_string()),
        }
    }
}

impl RunEntry {
    fn new(run: &TermRun) -> RunEntry {
        RunEntry {
            first_index: run.first_index.0,
            term: run.term.0,
        }
    }
}

impl GroupEntry {
    fn new(group: &Group) -> GroupEntry {
        let replicas = |members: &[Member]| members.iter().map(|member| member.replica.0).collect();
        let members = group.members.iter().map(|member| MemberEntry {
            replica: member.replica.0,
            node: member.home.node.0,
        });
        GroupEntry {
            voters: replicas(&group.voters),
            outgoing: replicas(&group.outgoing),
            members: members.collect(),
        }
    }
}
