//! `metastore recover plan`: from the reports of all nodes that are left to what is to be done, and what it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::RecoverError;
use super::choice::{ChoiceError, Forced, Loss, Verdict, choose};
use super::report::{DOCUMENT_VERSION, Report, digits};
use crate::arguments::RecoverPlanArguments;
use crate::commands::table::Table;
use crate::commands::{CommandError, Exit};
use crate::node::random_u128;

/// No report and no plan is as long as this.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// What is to be done on the nodes that are left: the same for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub(super) metastore_recovery_plan: u32,
    pub(super) cluster: String,
    /// Of the cluster before.
    pub(super) map: String,
    /// The number that was drawn for it.
    pub(super) recovery: String,
    /// Those before it, oldest first.
    pub(super) recoveries: Vec<String>,
    pub(super) lost: Vec<u32>,
    pub(super) left: Vec<LeftEntry>,
    pub(super) shards: Vec<ShardEntry>,
}

/// A node that is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeftEntry {
    pub(super) node: u32,
    pub(super) data: String,
}

/// A shard that goes on with one copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShardEntry {
    pub(super) shard: u32,
    pub(super) node: u32,
    pub(super) core: u16,
    pub(super) replica: u64,
    pub(super) last_term: u64,
    pub(super) last_index: u64,
    pub(super) committed: u64,
    /// Revisions are passed over behind this entry.
    pub(super) passed_behind: u64,
    pub(super) term: u64,
    pub(super) newest_replica: u64,
}

impl ShardEntry {
    fn new(forced: &Forced) -> ShardEntry {
        ShardEntry {
            shard: forced.shard,
            node: forced.node,
            core: forced.core,
            replica: forced.replica,
            last_term: forced.last_term,
            last_index: forced.last_index,
            committed: forced.committed,
            passed_behind: forced.passed_behind,
            term: forced.term,
            newest_replica: forced.newest_replica,
        }
    }
}

pub(super) fn run(
    arguments: &RecoverPlanArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let reports: Vec<Report> = arguments
        .reports
        .iter()
        .map(|path| {
            let report: Report = read_document(path)?;
            check_version(path, report.metastore_recovery_report)?;
            Ok(report)
        })
        .collect::<Result<_, RecoverError>>()?;
    let lost: BTreeSet<u32> = arguments.lost.iter().copied().collect();
    let verdicts = choose(&reports, &lost).map_err(RecoverError::from)?;
    let gone = verdicts.iter().filter(|&(_, one)| *one == Verdict::Gone);
    let gone: Vec<u32> = gone.map(|(&shard, _)| shard).collect();
    if !gone.is_empty() && !arguments.leave_gone_shards {
        return Err(RecoverError::from(ChoiceError::Gone { shards: gone }).into());
    }
    let plan = new_plan(&reports, &lost, &verdicts, random_u128()?);
    write_new(&arguments.out, &plan)?;
    tell_cost(&verdicts, out)
        .and_then(|()| tell_next(&arguments.out, &plan, out))
        .map_err(CommandError::Output)?;
    Ok(Exit::Done)
}

fn new_plan(
    reports: &[Report],
    lost: &BTreeSet<u32>,
    verdicts: &BTreeMap<u32, Verdict>,
    recovery: u128,
) -> Plan {
    let first = &reports[0];
    let forced = verdicts.values().filter_map(|verdict| match verdict {
        Verdict::Forced(forced) => Some(ShardEntry::new(forced)),
        Verdict::Kept | Verdict::Gone => None,
    });
    let left = reports.iter().map(|report| LeftEntry {
        node: report.node,
        data: report.data.clone(),
    });
    Plan {
        metastore_recovery_plan: DOCUMENT_VERSION,
        cluster: first.cluster.clone(),
        map: first.map.clone(),
        recovery: digits(recovery),
        recoveries: first.recoveries.clone(),
        lost: lost.iter().copied().collect(),
        left: left.collect(),
        shards: forced.collect(),
    }
}

fn tell_cost(verdicts: &BTreeMap<u32, Verdict>, out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = Table::new([
        "shard",
        "node",
        "replica",
        "last term",
        "last index",
        "undecided",
        "other copies",
        "acknowledged and lost",
    ]);
    let (mut kept, mut gone, mut undecided) = (0, 0, 0);
    for verdict in verdicts.values() {
        let forced = match verdict {
            Verdict::Forced(forced) => forced,
            Verdict::Kept => {
                kept += 1;
                continue;
            }
            Verdict::Gone => {
                gone += 1;
                continue;
            }
        };
        let open = forced.last_index - forced.committed;
        undecided += open;
        table.row([
            forced.shard.to_string(),
            forced.node.to_string(),
            forced.replica.to_string(),
            forced.last_term.to_string(),
            forced.last_index.to_string(),
            open.to_string(),
            forced.others.to_string(),
            match forced.loss {
                Loss::Nothing => "nothing".to_owned(),
                Loss::Perhaps => format!("whatever came behind entry {}", forced.last_index),
            },
        ]);
    }
    if !table.is_empty() {
        table.print(out)?;
        writeln!(out)?;
    }
    if undecided > 0 {
        writeln!(
            out,
            "Entries that are not known to be committed, and will be: {undecided}. Some of these may have been acknowledged; all will be committed."
        )?;
    }
    if kept > 0 {
        writeln!(out, "{kept} shards have a quorum and stay as they are.")?;
    }
    if gone > 0 {
        writeln!(
            out,
            "{gone} shards have no copy that can be used: they stay unavailable, and what they held is lost."
        )?;
    }
    Ok(())
}

fn tell_next(path: &Path, plan: &Plan, out: &mut dyn Write) -> std::io::Result<()> {
    let numbers = |nodes: &mut dyn Iterator<Item = u32>| {
        nodes
            .map(|node| node.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let left = numbers(&mut plan.left.iter().map(|left| left.node));
    let lost = numbers(&mut plan.lost.iter().copied());
    writeln!(
        out,
        "All nodes that these know of: {left} are left, {lost} are lost. If there was another, do not go on without its report."
    )?;
    writeln!(
        out,
        "The plan is in {}. Nothing was changed. On each node that is left ({left}), to hear what it would do:",
        path.display()
    )?;
    writeln!(
        out,
        "  metastore recover --unsafe-quorum apply --data DIR --plan PLAN"
    )?;
    writeln!(
        out,
        "Once all of them have agreed, and not before, on each of them:"
    )?;
    writeln!(
        out,
        "  metastore recover --unsafe-quorum apply --data DIR --plan PLAN --yes"
    )?;
    writeln!(
        out,
        "Make sure before that the lost nodes ({lost}) never run again with the data that they had: enough of them together would serve it to clients as if nothing had happened."
    )
}

/// Reads a document of JSON.
pub(super) fn read_document<T: DeserializeOwned>(path: &Path) -> Result<T, RecoverError> {
    let wrong = |cause: String| RecoverError::Document {
        path: path.to_owned(),
        cause,
    };
    let bytes = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(wrong(format!("longer than {DOCUMENT_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

pub(super) fn check_version(path: &Path, found: u32) -> Result<(), RecoverError> {
    match found == DOCUMENT_VERSION {
        true => Ok(()),
        false => Err(RecoverError::Document {
            path: path.to_owned(),
            cause: format!("it has version {found}, this program reads {DOCUMENT_VERSION}"),
        }),
    }
}

fn write_new(path: &Path, plan: &Plan) -> Result<(), RecoverError> {
    let text = serde_json::to_string_pretty(plan).expect("plain data can be written as JSON");
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| {
            writeln!(file, "{text}")?;
            file.sync_all()
        });
    written.map_err(|source| RecoverError::Write {
        path: path.to_owned(),
        source,
    })
}
