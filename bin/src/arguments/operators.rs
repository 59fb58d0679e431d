//! What operators of a cluster can ask for: nodes, members of shards, and who leads.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{ClientArguments, Format};
use crate::node::cluster::HostPort;
use crate::quantity::parse_duration;

/// Shards that are changed at a time where nobody says.
const SHARDS_AT_ONCE: u16 = 4;
/// Each has a thread and connections of its own.
const SHARDS_AT_ONCE_MAX: i64 = 64;

/// How a command reaches a cluster that it changes, and how it answers.
#[derive(Debug, Args)]
pub(crate) struct OperatorArguments {
    /// Any core of any node; of several, with commas between them, the first that answers
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "METASTORE_CONNECT",
        default_value = "127.0.0.1:7400"
    )]
    pub(crate) connect: String,
    /// Answer as JSON, one object a line
    #[arg(long)]
    json: bool,
    /// How long all of it may take, as in 30s or 10m; what is not done by then is named
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

impl OperatorArguments {
    pub(crate) fn format(&self) -> Format {
        Format::new(self.json)
    }
}

/// How a command goes through many shards.
#[derive(Debug, Args)]
pub(crate) struct ManyShardsArguments {
    /// How many shards to change at a time
    #[arg(
        long,
        value_name = "N",
        default_value_t = SHARDS_AT_ONCE,
        value_parser = clap::value_parser!(u16).range(1..=SHARDS_AT_ONCE_MAX),
    )]
    pub(crate) at_once: u16,
    #[command(flatten)]
    pub(crate) operator: OperatorArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Print the nodes, whether each answers, and what lives there
    List(MemberListArguments),
    /// Make a node known to all that answer; the others hear of it from them
    ///
    /// The node is formatted first, with `metastore format --cluster FILE --node ID --join-clients HOST:PORT --join-peers
    /// HOST:PORT --cores N`, and started. It may be asked for again, also with other addresses.
    Add(MemberAddArguments),
    /// Replace every replica of a node that is lost by one on another node
    ///
    /// For each shard a replica is created, learns, and takes the place of the lost one in one change once it has caught
    /// up. Asked for again after an interruption, it goes on with what is there.
    Replace(MemberReplaceArguments),
    /// Let the replicas of a node that only learn begin to vote
    Promote(MemberNodeArguments),
    /// Take every replica of a node out of its shard, and have the node remove them
    Remove(MemberNodeArguments),
    /// Take a node that does not run, and of which nothing is left, off the list
    ///
    /// Another node may have its addresses then. Its id stays used: who comes back under it is not heard.
    Forget(MemberForgetArguments),
}

#[derive(Debug, Args)]
pub(crate) struct MemberForgetArguments {
    /// The node
    #[arg(long, value_name = "ID")]
    pub(crate) node: u32,
    #[command(flatten)]
    pub(crate) operator: OperatorArguments,
}

#[derive(Debug, Args)]
pub(crate) struct MemberListArguments {
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct MemberAddArguments {
    /// The id that it was formatted with
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) node: u32,
    /// Where clients reach its core 0
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) clients: HostPort,
    /// Where other nodes reach its core 0
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) peers: HostPort,
    /// How many cores it has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) cores: u16,
    /// Have it learn every shard, too
    #[arg(long)]
    pub(crate) learn: bool,
    /// Only shards that have fewer members than this, as after a quorum was lost
    #[arg(long, value_name = "N", requires = "learn")]
    pub(crate) fewer_than: Option<usize>,
    #[command(flatten)]
    pub(crate) many: ManyShardsArguments,
}

#[derive(Debug, Args)]
pub(crate) struct MemberReplaceArguments {
    /// The node that is lost
    #[arg(long, value_name = "ID")]
    pub(crate) dead: u32,
    /// The node whose replicas take the place of its own
    #[arg(long, value_name = "ID")]
    pub(crate) with: u32,
    /// Also where it answers
    #[arg(long)]
    pub(crate) even_if_alive: bool,
    /// Also where the next failure would end the service of a shard
    #[arg(long)]
    pub(crate) give_up_spare: bool,
    #[command(flatten)]
    pub(crate) many: ManyShardsArguments,
}

/// A node of which every shard is changed.
#[derive(Debug, Args)]
pub(crate) struct MemberNodeArguments {
    /// The node
    #[arg(long, value_name = "ID")]
    pub(crate) node: u32,
    /// Also where the next failure would end the service of a shard
    #[arg(long)]
    pub(crate) give_up_spare: bool,
    #[command(flatten)]
    pub(crate) many: ManyShardsArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ShardCommand {
    /// Print the shards, who leads each, and how its members stand
    List(ShardListArguments),
    /// Have another voter lead a shard, and wait until it does
    TransferLeader(TransferLeaderArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ShardListArguments {
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct TransferLeaderArguments {
    /// The shard
    #[arg(long, value_name = "S")]
    pub(crate) shard: u32,
    /// The node that is to lead; the voter that is best for it where none is named
    #[arg(long, value_name = "ID")]
    pub(crate) to: Option<u32>,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}
