//! How a cluster is brought back that has lost most of its voters.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};

/// Every step names the flag, so that nobody takes one of them for a repair that loses nothing.
#[derive(Debug, Args)]
pub(crate) struct RecoverArguments {
    /// Say that writes which were acknowledged may be lost
    #[arg(long, required = true, action = ArgAction::SetTrue)]
    unsafe_quorum: bool,
    #[command(subcommand)]
    pub(crate) step: RecoverStep,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RecoverStep {
    /// Print what the data of a node holds of each shard, as JSON; changes nothing
    Report(RecoverReportArguments),
    /// From the reports of all nodes that are left, choose the copy with which each shard goes on, and say what may be lost
    Plan(RecoverPlanArguments),
    /// On a node that is left, say what a plan would do, and do it with --yes
    Apply(RecoverApplyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RecoverReportArguments {
    /// The data of the node, which does not run
    #[arg(long, value_name = "DIR", default_value = "./metastore-data")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverPlanArguments {
    /// The reports of all nodes that are left
    #[arg(value_name = "REPORT", required = true)]
    pub(crate) reports: Vec<PathBuf>,
    /// The nodes that are lost for good, with commas between them: they must never run again with the data that they had
    #[arg(long, value_name = "IDS", required = true, value_delimiter = ',')]
    pub(crate) lost: Vec<u32>,
    /// Where to write the plan, a file that does not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Go on although nobody has a copy of some shards: these stay unavailable
    #[arg(long)]
    pub(crate) leave_gone_shards: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverApplyArguments {
    /// The data of the node, which does not run
    #[arg(long, value_name = "DIR", default_value = "./metastore-data")]
    pub(crate) data: PathBuf,
    /// The plan, the same for all nodes that are left
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: PathBuf,
    /// Do it; without this nothing is changed
    #[arg(long)]
    pub(crate) yes: bool,
}
