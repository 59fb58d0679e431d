//! Flags that set keys of the configuration.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::Args;

use crate::config::FlagValue;

/// The keys that are set most often have flags of their own. What they take is checked with the configuration, which
/// names the flag.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SettingArguments {
    /// Where the data lies [default: ./metastore-data]
    #[arg(long, value_name = "DIR", value_parser = utf8())]
    data: Option<String>,
    /// Whether an empty or missing data directory is made ready for use: never or if-empty
    #[arg(long, value_name = "WHEN")]
    format: Option<String>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The port of core 0; core n listens on the port n above it [default: 7400]
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// How many cores to run, fixed when the data is formatted [default: one for each allowed processor]
    #[arg(long, value_name = "N")]
    cores: Option<String>,
    /// How many shards to create, fixed when the data is formatted [default: one for each core]
    #[arg(long, value_name = "S")]
    shards: Option<String>,
    /// The processors to use, as in 0-3,8 [default: the allowed ones]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Length of a log segment, as in 64MiB, fixed when the data is formatted [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    segment_bytes: Option<String>,
    /// How large the log of one core may become, as in 8GiB [default: 8GiB]
    #[arg(long, value_name = "SIZE")]
    wal_budget: Option<String>,
    /// How much memory the node may use, as in 4GiB [default: half of the machine's]
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<String>,
    /// How many connections each core takes [default: 16384, or what RLIMIT_NOFILE allows]
    #[arg(long, value_name = "N")]
    connections_max: Option<String>,
    /// How writes are made durable, dsync or write-then-sync [default: measured when the data is formatted]
    #[arg(long, value_name = "METHOD")]
    flush: Option<String>,
    /// Where metrics and health are answered over HTTP, as in 127.0.0.1:7399, or off
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    /// The least important messages to write: error, warn, info or debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How messages are written: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Set any key of the configuration, as in wal.spare_segments=8; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_assignment)]
    set: Vec<Assignment>,
}

/// A key and a value in one word.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    name: String,
    text: String,
}

#[derive(Debug, thiserror::Error)]
#[error("a key and a value are expected, as in wal.spare_segments=8")]
struct NoAssignment;

fn parse_assignment(word: &str) -> Result<Assignment, NoAssignment> {
    let (name, text) = word.split_once('=').ok_or(NoAssignment)?;
    Ok(Assignment {
        name: name.trim().to_owned(),
        text: text.trim().to_owned(),
    })
}

#[derive(Debug, thiserror::Error)]
#[error("a path in the configuration is UTF-8")]
struct NotUtf8;

/// clap hands values that may not be UTF-8 only to a parser of its own kind, and would call this one invalid without
/// saying why.
fn utf8() -> impl clap::builder::TypedValueParser<Value = String> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new()
        .try_map(|text: OsString| String::from_utf8(text.into_vec()).map_err(|_| NotUtf8))
}

impl SettingArguments {
    /// What was given, in an order in which the last one wins.
    pub(crate) fn flags(&self) -> Vec<FlagValue> {
        let own = [
            ("data", "--data", &self.data),
            ("format", "--format", &self.format),
            ("listen.address", "--listen", &self.listen),
            ("listen.port", "--port", &self.port),
            ("cores", "--cores", &self.cores),
            ("shards", "--shards", &self.shards),
            ("cpus", "--cpus", &self.cpus),
            ("wal.segment_bytes", "--segment-bytes", &self.segment_bytes),
            ("wal.budget", "--wal-budget", &self.wal_budget),
            ("memory.budget", "--memory-budget", &self.memory_budget),
            (
                "limits.connections",
                "--connections-max",
                &self.connections_max,
            ),
            ("wal.flush", "--flush", &self.flush),
            ("admin.listen", "--admin", &self.admin),
            ("log.level", "--log-level", &self.log_level),
            ("log.format", "--log-format", &self.log_format),
        ];
        let own = own.into_iter().filter_map(|(name, flag, value)| {
            Some(FlagValue {
                name: name.to_owned(),
                text: value.clone()?,
                flag: flag.to_owned(),
            })
        });
        let set = self.set.iter().map(|assignment| FlagValue {
            name: assignment.name.clone(),
            text: assignment.text.clone(),
            flag: "--set".to_owned(),
        });
        own.chain(set).collect()
    }
}
