//! The command line: what can be asked for, and what is refused before anything is done.

mod operators;
mod recover;
mod settings;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::node::cluster::HostPort;
use crate::quantity::parse_duration;
pub(crate) use operators::{
    MemberAddArguments, MemberCommand, MemberForgetArguments, MemberListArguments,
    MemberNodeArguments, MemberReplaceArguments, ShardCommand, ShardListArguments,
    TransferLeaderArguments,
};
pub(crate) use recover::{
    RecoverApplyArguments, RecoverArguments, RecoverPlanArguments, RecoverReportArguments,
    RecoverStep,
};
pub(crate) use settings::SettingArguments;

const AFTER_HELP: &str = "\
Keys and values are bytes, taken as they are given. With --json, what is not UTF-8 is written as {\"hex\": \"..\"}; \
in lists for people it is escaped as \\xNN.

Exit codes: 0 done; 1 a negative answer (absent, a failed condition, differences, damage, shards that are not as they should be); 2 wrong usage; \
3 unavailable; 4 the outcome is unknown (a change was sent, and no answer came).";

pub(crate) const TXN_HELP: &str = r#"The document:

  {"if":   [{"key": "/d/a", "exists": false}, {"key": "/d/n", "version": 3, "is": ">"},
            {"range": {"prefix": "/d/", "children": true}, "lease": 0}],
   "then": [{"put": {"key": "/d/a", "value": "x"}}, {"add": {"key": "/d/n", "number": 5}},
            {"get": "/d/n"}, {"delete": {"key": "/d/b"}}],
   "else": [{"range": {"prefix": "/d/", "children": true, "limit": 10}}]}

A condition names a key or a range, and one of value, mod_revision, create_revision, version, lease, exists; "is" is
one of ==, !=, < and >, and == if it is not there. Over a range a condition holds if it holds for every key.

Operations: put {key, value, if_absent, if_revision, previous}, append {key, value}, add {key, number},
delete {key, if_revision, previous}, get KEY, range {prefix, start, end, children, limit, reverse, keys_only},
delete_range {prefix, start, end, children}, txn {if, then, else}.

Keys and values are texts, or {"hex": "ff00"}."#;

/// A sharded, durable, linearizable metadata store.
#[derive(Debug, Parser)]
#[command(name = "metastore", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one node for development, or a whole cluster, on the loopback interface, with no configuration
    ///
    /// One node is the same as serve with --format if-empty and --admin off, and more cores than processors take turns. With
    /// --nodes the others are processes of their own, and end with this one.
    Dev(DevArguments),
    /// Run one node as its configuration says
    Serve(ServeArguments),
    /// Make an empty or missing data directory ready for use, and start nothing
    ///
    /// With --cluster and --node it becomes that node of that cluster; without them, a node that is alone.
    Format(FormatArguments),
    /// Describe a cluster of nodes that is to begin
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Check a configuration and print every key with what it is set to and where that comes from
    Config(ConfigArguments),
    /// Set a key to a value; prints the revision
    Put(PutArguments),
    /// Print the value of a key
    Get(GetArguments),
    /// Remove a key, and print the revision; or every key with a prefix, and print how many
    ///
    /// Removing by prefix is not atomic and may end half way, for instance when the time is up: do it again then.
    Delete(DeleteArguments),
    /// Add to a counter, a value of eight bytes; prints its new number
    Add(AddArguments),
    /// Print the keys that begin with a prefix, in order, with their values
    List(ListArguments),
    /// Compare, then do one of two lists of operations, all of it or nothing; reads a JSON document
    ///
    /// Exits with 0 if every condition of "if" held and "then" was done, and with 1 if one did not and "else" was done, or
    /// if nothing could be done. All keys belong to one directory.
    #[command(after_help = TXN_HELP)]
    Txn(TxnArguments),
    /// Forget what happened before a revision: reads below it are refused
    Compact(CompactArguments),
    /// Count the keys that begin with a prefix
    Count(CountArguments),
    /// Print what every core of a node is doing
    Status(StatusArguments),
    /// List, add and replace the nodes of a cluster that runs
    #[command(subcommand)]
    Member(MemberCommand),
    /// List the shards of a cluster that runs, and move their leaders
    #[command(subcommand)]
    Shard(ShardCommand),
    /// Go on with the nodes that are left, after most voters of some shards were lost for good; writes may be lost
    ///
    /// All nodes that are left are stopped. On each of them `report` prints what it holds; `plan` chooses the best copy of each
    /// shard and says what may be lost; `apply` does it, on each of them. Nothing but `apply --yes` changes anything.
    Recover(RecoverArguments),
    /// Look at the log of a node that does not run
    #[command(subcommand)]
    Wal(WalCommand),
    /// Look at the file of a snapshot
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Store the attributes of every entry of a file tree, or compare them with what is stored
    ///
    /// Each entry is stored under the prefix and its absolute path, as "type=file mode=0644 uid=0 gid=0 size=12
    /// mtime=1700000000.000000001", a symbolic link with its target behind that. `metastore list DIR/ --children` lists a
    /// directory. Other file systems that are mounted below PATH are not entered, and nothing is removed from the store.
    ///
    /// With --verify-only each difference is printed, and the last line counts them.
    ImportTree(ImportTreeArguments),
}

/// More processes than anybody wants to watch.
const DEV_NODES_MAX: i64 = 64;

#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    /// How many nodes to run, in node-1, node-2 and so on below the data directory; several have one core each unless
    /// --cores says otherwise, and listen for each other 1000 ports above those for clients
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=DEV_NODES_MAX),
        conflicts_with_all = ["dev_node", "fail_log_write"],
    )]
    pub(crate) nodes: u16,
    /// For `dev --nodes`: end with the standard input, and tell the standard output once the node serves
    #[arg(long, hide = true)]
    pub(crate) dev_node: bool,
    #[command(flatten)]
    pub(crate) settings: SettingArguments,
    #[command(flatten)]
    pub(crate) faults: FaultArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) config: ConfigFileArguments,
    #[command(flatten)]
    pub(crate) faults: FaultArguments,
}

#[derive(Debug, Args)]
pub(crate) struct FormatArguments {
    /// The file that all nodes of the cluster share; `metastore cluster new` prints one
    #[arg(long, value_name = "FILE", requires = "node")]
    pub(crate) cluster: Option<PathBuf>,
    /// Which node of the cluster this one is
    #[arg(long, value_name = "ID", requires = "cluster")]
    pub(crate) node: Option<u32>,
    /// For a node that joins later, and is not in the file: where clients are to reach its core 0
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "node",
        requires = "join_peers"
    )]
    pub(crate) join_clients: Option<HostPort>,
    /// For a node that joins later: where other nodes are to reach its core 0
    #[arg(long, value_name = "HOST:PORT", requires = "join_clients")]
    pub(crate) join_peers: Option<HostPort>,
    #[command(flatten)]
    pub(crate) config: ConfigFileArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Print the file of a new cluster, with a name drawn at random, for `metastore format` on each of its nodes
    New(ClusterNewArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ClusterNewArguments {
    /// Where clients reach core 0 of a node, as in 10.0.0.1:7400 or `[::1]:7400`; once for each node, which have the ids 1, 2
    /// and so on
    #[arg(long = "node", value_name = "HOST:PORT", required = true)]
    pub(crate) nodes: Vec<HostPort>,
    /// How many cores each node runs; edit the file where they differ
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) cores: usize,
    /// How many shards the cluster has [default: one for each core of all nodes]
    #[arg(long, value_name = "S")]
    pub(crate) shards: Option<usize>,
    /// How many nodes have a replica of each shard [default: 3, or as many as there are nodes]
    #[arg(long, value_name = "R")]
    pub(crate) replicas: Option<usize>,
    /// How far above its port for clients a core has its port for other nodes
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) peer_port_offset: u16,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    #[command(flatten)]
    pub(crate) config: ConfigFileArguments,
    /// Answer as JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Print a file with every key, its meaning, its bounds and its default
    #[arg(long, conflicts_with_all = ["json", "config"])]
    pub(crate) example: bool,
}

impl ConfigArguments {
    pub(crate) fn format(&self) -> Format {
        Format::new(self.json)
    }
}

/// What the tests break.
#[derive(Debug, Args)]
pub(crate) struct FaultArguments {
    /// For tests: the log write of each core with this number, counted from 1, fails as on a broken disk
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) fail_log_write: Option<u64>,
}

/// A configuration: a file, and flags that override it.
#[derive(Debug, Args)]
pub(crate) struct ConfigFileArguments {
    /// The configuration, a TOML file; `metastore config --example` prints one
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: SettingArguments,
}

/// How a command reaches a server, and how it answers.
#[derive(Debug, Args)]
pub(crate) struct ClientArguments {
    /// Any core of any node; of several, with commas between them, the first that answers
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "METASTORE_CONNECT",
        default_value = "127.0.0.1:7400"
    )]
    pub(crate) connect: String,
    /// Answer as JSON, one object a line; bytes that are not UTF-8 as {"hex": ".."}
    #[arg(long)]
    json: bool,
    /// How long to wait for an answer, as in 500ms or 5s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

/// For whom an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    People,
    Json,
}

impl Format {
    pub(crate) fn new(json: bool) -> Format {
        if json { Format::Json } else { Format::People }
    }
}

impl ClientArguments {
    pub(crate) fn format(&self) -> Format {
        Format::new(self.json)
    }
}

#[derive(Debug, Args)]
pub(crate) struct PutArguments {
    /// Any bytes; put -- before a key that begins with a dash
    #[arg(value_name = "KEY", value_parser = parse_key())]
    pub(crate) key: Key,
    /// Any bytes, none at all too
    #[arg(value_name = "VALUE")]
    pub(crate) value: OsString,
    /// Only if the key does not exist
    #[arg(long, conflicts_with = "if_revision")]
    pub(crate) if_absent: bool,
    /// Only if the key was last changed at this revision; 0: only if it does not exist
    #[arg(long, value_name = "R")]
    pub(crate) if_revision: Option<u64>,
    /// Print the value that was replaced before the revision
    #[arg(long)]
    pub(crate) previous: bool,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct GetArguments {
    /// Any bytes; put -- before a key that begins with a dash
    #[arg(value_name = "KEY", value_parser = parse_key())]
    pub(crate) key: Key,
    /// As it was at this revision
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) at: Option<u64>,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// Any bytes; put -- before a key that begins with a dash
    #[arg(value_name = "KEY", value_parser = parse_key(), required_unless_present = "prefix")]
    pub(crate) key: Option<Key>,
    /// Every key that begins with this
    #[arg(long, value_name = "P", value_parser = parse_key(), conflicts_with = "key")]
    pub(crate) prefix: Option<Key>,
    /// Only keys without a / behind the prefix, as the entries of a directory
    #[arg(long, requires = "prefix")]
    pub(crate) children: bool,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct TxnArguments {
    /// Where the document is; - for the standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CompactArguments {
    /// The oldest revision that can be read from then on
    #[arg(value_name = "REVISION")]
    pub(crate) revision: u64,
    /// Any key of the shard that is meant: each shard has revisions of its own
    #[arg(long, value_name = "KEY", value_parser = parse_key())]
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// Any bytes; put -- before a key that begins with a dash
    #[arg(value_name = "KEY", value_parser = parse_key())]
    pub(crate) key: Key,
    /// What to add; it may be negative
    #[arg(value_name = "N", allow_negative_numbers = true)]
    pub(crate) number: i64,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// What every key begins with; empty for all keys
    #[arg(value_name = "PREFIX")]
    pub(crate) prefix: OsString,
    /// Only keys without a / behind the prefix, as the entries of a directory
    #[arg(long)]
    pub(crate) children: bool,
    /// Show keys that have this character behind the prefix by what they begin with, up to and including the first of it
    #[arg(long, value_name = "C", value_parser = parse_byte, conflicts_with = "children")]
    pub(crate) delimiter: Option<u8>,
    /// Read at this revision, which must be one of the shard that holds all the keys
    #[arg(long, value_name = "REVISION")]
    pub(crate) at: Option<u64>,
    /// At most so many keys
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Without the values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// In descending order
    #[arg(long)]
    pub(crate) reverse: bool,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CountArguments {
    /// What every key begins with; empty for all keys
    #[arg(value_name = "PREFIX")]
    pub(crate) prefix: OsString,
    /// Only keys without a / behind the prefix, as the entries of a directory
    #[arg(long)]
    pub(crate) children: bool,
    /// Count keys that have this character behind the prefix and begin alike, up to and including the first of it, once
    #[arg(long, value_name = "C", value_parser = parse_byte, conflicts_with = "children")]
    pub(crate) delimiter: Option<u8>,
    /// Count at this revision, which must be one of the shard that holds all the keys
    #[arg(long, value_name = "REVISION")]
    pub(crate) at: Option<u64>,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Print what the log holds: segments, records, marks, replicas, and what recovery would decide
    Inspect(InspectArguments),
    /// Tell whether a node would start from its log: exits with 0 if so, and with 1 and the damage if not
    Verify(VerifyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct WalArguments {
    /// Where the data lies; nothing is changed there
    #[arg(long, value_name = "DIR", default_value = "./metastore-data")]
    pub(crate) data: PathBuf,
    /// Answer as JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl WalArguments {
    pub(crate) fn format(&self) -> Format {
        Format::new(self.json)
    }
}

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    #[command(flatten)]
    pub(crate) wal: WalArguments,
    /// Only the log of this core
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<u16>,
    /// Print only the last so many records of each core
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    pub(crate) wal: WalArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Check every byte of the file, and print whose snapshot it is and what sections it has
    Inspect(SnapshotArguments),
    /// The same, and load the state as a store would: exits with 0 if it can, and with 1 and the damage if not
    Verify(SnapshotArguments),
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArguments {
    /// As in metastore-data/shard-0000/snap-1-1000.snap; nothing is changed
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Answer as JSON, one object
    #[arg(long)]
    json: bool,
}

impl SnapshotArguments {
    pub(crate) fn format(&self) -> Format {
        Format::new(self.json)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ImportTreeArguments {
    /// The top of the tree; its absolute path without symbolic links is used
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// What to put before each path to make it a key
    #[arg(long, value_name = "P", default_value = "")]
    pub(crate) prefix: OsString,
    /// Change nothing: look at the tree anew, read everything back and name every difference
    #[arg(long)]
    pub(crate) verify_only: bool,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

/// A key as it was given: any bytes but none at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(OsString);

impl Key {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// clap hands values that may not be UTF-8 only to a parser of its own kind.
fn parse_key() -> impl clap::builder::TypedValueParser<Value = Key> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(|text: OsString| {
        if text.is_empty() {
            return Err(KeyEmpty);
        }
        Ok(Key(text))
    })
}

#[derive(Debug, thiserror::Error)]
#[error("a key has at least one byte")]
struct KeyEmpty;

/// Why a delimiter is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a delimiter is one character of ASCII")]
struct NotOneByte;

fn parse_byte(text: &str) -> Result<u8, NotOneByte> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(NotOneByte),
    }
}

/// The bytes of an argument.
pub(crate) fn bytes_of(argument: &OsStr) -> &[u8] {
    argument.as_bytes()
}

#[cfg(test)]
mod tests;
