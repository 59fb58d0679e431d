//! The file that all nodes of a new cluster share: who they are, how many shards there are, and how often each is stored.
//!
//! It is read once on each node, when that is formatted. Where replicas live follows from it and does **not** stand in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use metastore_engine::{ClusterId, NodeId, SLOT_COUNT};
use serde::Deserialize;
use thiserror::Error;

use super::cluster::{
    CORES_MAX, Cluster, ClusterError, ClusterNode, HostPort, HostPortError, NewCluster,
    RECOVERIES_MAX, REPLICAS_MAX,
};
use super::node_file::HistoryBounds;
use crate::config::{Key, KeyRefusal, Value, line_at, read_value};
use crate::quantity::{show_duration_ms, show_size};

/// No file of a cluster is as long as this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why the file of a cluster cannot be used.
#[derive(Debug, Error)]
#[error("{path}: {fault}", path = .path.display())]
pub(crate) struct ClusterFileError {
    path: PathBuf,
    fault: ClusterFileFault,
}

/// What is wrong with it.
#[derive(Debug, Error)]
enum ClusterFileFault {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// It is larger than any.
    #[error("longer than {FILE_BYTES_MAX} bytes: this is no file of a cluster")]
    TooLong,
    /// It is not TOML, or not of this kind.
    #[error("line {line}: {cause}")]
    Toml {
        /// Where, counted from 1.
        line: usize,
        /// What the parser says.
        cause: String,
    },
    /// The name of the cluster is none.
    #[error(
        "cluster is \"{found}\", it must be 32 hexadecimal digits, as `metastore cluster new` draws them"
    )]
    ClusterId {
        /// What was written.
        found: String,
    },
    /// The number of a recovery is none.
    #[error(
        "recoveries has \"{found}\", it must be 32 hexadecimal digits, as `metastore recover` prints them"
    )]
    Recovery {
        /// What was written.
        found: String,
    },
    /// More recoveries than there can have been.
    #[error("recoveries has {found} entries, {RECOVERIES_MAX} are allowed")]
    Recoveries {
        /// How many there are.
        found: usize,
    },
    /// A number of the cluster is out of bounds.
    #[error("{key} is {found}, it must lie between 1 and {max}")]
    Number {
        /// Which.
        key: &'static str,
        /// What was written.
        found: i64,
        /// The largest that is allowed.
        max: i64,
    },
    /// A number of a node is out of bounds.
    #[error("node {node}: {key} is {found}, it must lie between 1 and {max}")]
    NodeNumber {
        /// Which node.
        node: i64,
        /// Which number.
        key: &'static str,
        /// What was written.
        found: i64,
        /// The largest that is allowed.
        max: i64,
    },
    /// A place where a node can be reached is none.
    #[error("node {node}: {key}: {cause}")]
    Endpoint {
        /// Which node.
        node: i64,
        /// Which place.
        key: &'static str,
        /// What is wrong with it.
        cause: HostPortError,
    },
    /// A bound of the history cannot be.
    #[error(transparent)]
    History(#[from] KeyRefusal),
    /// What was written does not go together.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    cluster: String,
    shards: Option<i64>,
    replicas: Option<i64>,
    #[serde(default)]
    history: HistoryEntry,
    #[serde(default)]
    recoveries: Vec<String>,
    #[serde(default)]
    node: Vec<NodeEntry>,
}

/// The same keys as in the configuration, with the same units and bounds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryEntry {
    max_revisions: Option<toml::Value>,
    max_age: Option<toml::Value>,
    max_bytes: Option<toml::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    id: i64,
    clients: String,
    peers: String,
    cores: i64,
}

/// Reads a file, and finds a place for every replica.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn read(path: &Path) -> Result<Cluster, ClusterFileError> {
    let read = read_text(path).and_then(|text| {
        let cluster = parse(&text)?.place()?;
        Ok(cluster)
    });
    read.map_err(|fault| ClusterFileError {
        path: path.to_owned(),
        fault,
    })
}

fn read_text(path: &Path) -> Result<String, ClusterFileFault> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(ClusterFileFault::Unreadable)?;
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(ClusterFileFault::TooLong),
        false => Ok(text),
    }
}

fn parse(text: &str) -> Result<NewCluster, ClusterFileFault> {
    let document: Document = toml::from_str(text).map_err(|error| ClusterFileFault::Toml {
        line: line_at(text, error.span().map_or(0, |span| span.start)),
        cause: error.message().to_owned(),
    })?;
    let nodes = document.node.iter().map(parse_node);
    Ok(NewCluster {
        id: parse_id(&document.cluster)?,
        history: parse_history(&document.history)?,
        nodes: nodes.collect::<Result<_, _>>()?,
        shards: parse_count("shards", document.shards, SLOT_COUNT)?,
        replicas: parse_count("replicas", document.replicas, REPLICAS_MAX)?,
        recoveries: parse_recoveries(&document.recoveries)?,
    })
}

fn parse_id(text: &str) -> Result<ClusterId, ClusterFileFault> {
    let fault = || ClusterFileFault::ClusterId {
        found: text.chars().take(64).collect(),
    };
    parse_digits(text).map(ClusterId).ok_or_else(fault)
}

fn parse_recoveries(texts: &[String]) -> Result<Vec<u128>, ClusterFileFault> {
    if texts.len() > RECOVERIES_MAX {
        return Err(ClusterFileFault::Recoveries { found: texts.len() });
    }
    let parse = |text: &String| {
        let fault = || ClusterFileFault::Recovery {
            found: text.chars().take(64).collect(),
        };
        parse_digits(text).ok_or_else(fault)
    };
    texts.iter().map(parse).collect()
}

/// A number of 128 bits as 32 hexadecimal digits.
pub(crate) fn parse_digits(text: &str) -> Option<u128> {
    // The parser of numbers takes a sign, and any length.
    let is_plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_plain)
}

fn parse_count(
    key: &'static str,
    written: Option<i64>,
    max: usize,
) -> Result<Option<usize>, ClusterFileFault> {
    let Some(found) = written else {
        return Ok(None);
    };
    let max = i64::try_from(max).expect("bounds are small");
    match usize::try_from(found) {
        Ok(count) if (1..=max).contains(&found) => Ok(Some(count)),
        Ok(_) | Err(_) => Err(ClusterFileFault::Number { key, found, max }),
    }
}

fn parse_node(entry: &NodeEntry) -> Result<ClusterNode, ClusterFileFault> {
    let node = entry.id;
    let bounded = |key, found: i64, max: i64| match (1..=max).contains(&found) {
        true => Ok(found),
        false => Err(ClusterFileFault::NodeNumber {
            node,
            key,
            found,
            max,
        }),
    };
    let endpoint = |key, text: &str| {
        let endpoint = text.parse::<HostPort>();
        endpoint.map_err(|cause| ClusterFileFault::Endpoint { node, key, cause })
    };
    let id = bounded("id", node, i64::from(u32::MAX))?;
    let cores_max = i64::try_from(CORES_MAX).expect("bounds are small");
    let cores = bounded("cores", entry.cores, cores_max)?;
    Ok(ClusterNode {
        node: NodeId(u32::try_from(id).expect("it is bounded")),
        clients: endpoint("clients", &entry.clients)?,
        peers: endpoint("peers", &entry.peers)?,
        cores: usize::try_from(cores).expect("it is bounded"),
    })
}

fn parse_history(entry: &HistoryEntry) -> Result<HistoryBounds, KeyRefusal> {
    let read = |key, written: &Option<toml::Value>, default| match written {
        None => Ok(default),
        Some(written) => match read_value(key, written)? {
            Value::Number(number) | Value::Bytes(number) | Value::Milliseconds(number) => {
                Ok(number)
            }
            Value::Text(_) | Value::Auto | Value::Off => {
                unreachable!("the bounds of the history are quantities")
            }
        },
    };
    let default = HistoryBounds::default();
    Ok(HistoryBounds {
        revisions_max: read(
            Key::HistoryMaxRevisions,
            &entry.max_revisions,
            default.revisions_max,
        )?,
        age_ms_max: read(Key::HistoryMaxAge, &entry.max_age, default.age_ms_max)?,
        bytes_max: read(Key::HistoryMaxBytes, &entry.max_bytes, default.bytes_max)?,
    })
}

const HEAD: &str = "\
# A cluster of MetaStore nodes, as it begins. Every node is formatted from the same file, once, as the node that it is:
#
#   metastore format --cluster FILE --node ID --data DIR
#   metastore serve --data DIR
#
# What stands here is copied into the data; what is changed here later changes nothing.
";

/// The text of a file from which the cluster can be read, every number of it written out.
pub(crate) fn to_text(cluster: &NewCluster) -> String {
    let mut text = HEAD.to_owned();
    text += &format!(
        "\n# Drawn at random: it tells this cluster from all others.\ncluster = \"{}\"\n",
        cluster.id
    );
    text += &format!(
        "\n# Shards of the whole cluster, 1 to {SLOT_COUNT}; as many as all nodes have cores, if it is left out.\nshards = {}\n",
        cluster.shards()
    );
    text += &format!(
        "\n# Voters of each shard, 1 to {REPLICAS_MAX}, at most one on a node. An odd number is best: of 4 not more may be lost than of 3.\nreplicas = {}\n",
        cluster.replicas()
    );
    if !cluster.recoveries.is_empty() {
        text += &format!(
            "\n# Each time that the cluster was recovered without most of its voters.\n{}\n",
            recoveries_line(&cluster.recoveries)
        );
    }
    text += &format!(
        "\n# How far back reads can go: whichever is reached first. All replicas of a shard must forget the same.\n[history]\nmax_revisions = {}\nmax_age = \"{}\"\nmax_bytes = \"{}\"\n",
        cluster.history.revisions_max,
        show_duration_ms(cluster.history.age_ms_max),
        show_size(cluster.history.bytes_max)
    );
    text += "\n# Where clients reach core 0 of a node, and where other nodes do; core n is at the port n above.\n";
    for node in &cluster.nodes {
        text += &format!(
            "[[node]]\nid = {}\nclients = \"{}\"\npeers = \"{}\"\ncores = {}\n\n",
            node.node, node.clients, node.peers, node.cores
        );
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// The line that says how often a cluster was recovered.
pub(crate) fn recoveries_line(recoveries: &[u128]) -> String {
    let numbers: Vec<_> = recoveries
        .iter()
        .map(|number| format!("\"{number:032x}\""))
        .collect();
    format!("recoveries = [{}]", numbers.join(", "))
}

/// A text for fuzzers.
#[cfg(test)]
pub(crate) fn sample_text() -> String {
    to_text(&super::cluster::tests::new_cluster(&[2, 1, 4]))
}

/// A text that is taken can be written and read again; one that is not is refused with a reason.
#[cfg(test)]
pub(crate) fn fuzz_cluster_file(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let placed = parse(text).and_then(|new| Ok((to_text(&new), new.place()?)));
    match placed {
        Ok((written, cluster)) => {
            let again = parse(&written).expect("what is written can be read");
            assert_eq!(again.place(), Ok(cluster));
            true
        }
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::tests::new_cluster;
    use super::*;

    const TEXT: &str = "cluster = \"0123456789abcdef0011223344556677\"\nshards = 4\nreplicas = 1\n[history]\nmax_age = \"1m\"\n[[node]]\nid = 2\nclients = \"b:7400\"\npeers = \"b:7500\"\ncores = 1\n[[node]]\nid = 1\nclients = \"[::1]:7400\"\npeers = \"10.0.0.1:7500\"\ncores = 2\n";

    fn refusal(text: &str) -> String {
        let fault = parse(text).and_then(|cluster| Ok(cluster.place()?));
        fault.expect_err("it is refused").to_string()
    }

    #[test]
    fn a_file_says_what_the_cluster_is() {
        let new = parse(TEXT).expect("it can be read");
        assert_eq!((new.shards, new.replicas), (Some(4), Some(1)));
        assert_eq!(new.history.age_ms_max, 60_000);
        assert_eq!(
            new.history.bytes_max,
            HistoryBounds::default().bytes_max,
            "what is left out has its default"
        );
        let cluster = new.place().expect("it can be");
        assert_eq!(cluster.id.0, 0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        let node = cluster.node(NodeId(1)).expect("it is there");
        assert_eq!(node.clients.to_string(), "[::1]:7400");
        assert_eq!((node.peers.port, node.cores), (7500, 2));
        assert_eq!(cluster.members.len(), 4);
    }

    #[test]
    fn what_is_printed_says_the_same_with_every_number() {
        let new = new_cluster(&[2, 1, 4]);
        let text = to_text(&new);
        let read = parse(&text).expect("it can be read");
        assert_eq!((read.shards, read.replicas), (Some(7), Some(3)));
        assert_eq!(read.place(), new.place());
        assert!(
            !text.contains("\n\n\n") && text.ends_with("cores = 4\n"),
            "{text}"
        );
    }

    #[test]
    fn whatever_is_wrong_is_named_with_key_node_and_bounds() {
        for (old, new, expected) in [
            ("shards = 4", "shard = 4", "line 2: unknown field `shard`"),
            (
                "cores = 1",
                "cores = 1\nrack = 3",
                "line 11: unknown field `rack`",
            ),
            ("max_age", "max_agee", "line 5: unknown field `max_agee`"),
            (
                "shards = 4",
                "shards = \"4\"",
                "line 2: invalid type: string",
            ),
            ("shards = 4", "shards = ", "line 2: "),
            ("cores = 1\n", "", "missing field `cores`"),
            (
                "cluster = \"0",
                "cluster = \"",
                "cluster is \"123456789abcdef0011223344556677\", it must be 32",
            ),
            (
                "cluster = \"0",
                "cluster = \"+",
                "it must be 32 hexadecimal digits",
            ),
            (
                "cluster = \"0",
                "cluster = \"g",
                "it must be 32 hexadecimal digits",
            ),
            (
                "shards = 4",
                "shards = 0",
                "shards is 0, it must lie between 1 and 16384",
            ),
            (
                "shards = 4",
                "shards = -4",
                "shards is -4, it must lie between 1 and 16384",
            ),
            (
                "replicas = 1",
                "replicas = 9",
                "replicas is 9, it must lie between 1 and 7",
            ),
            (
                "replicas = 1",
                "replicas = 3",
                "replicas is 3, and there are 2 nodes",
            ),
            (
                "id = 2",
                "id = 0",
                "node 0: id is 0, it must lie between 1 and 4294967295",
            ),
            ("id = 2", "id = 1", "two nodes have id = 1"),
            (
                "cores = 1",
                "cores = 1025",
                "node 2: cores is 1025, it must lie between 1 and 1024",
            ),
            ("b:7400", "b", "node 2: clients: \"b\" has no port"),
            (
                "b:7500",
                "0.0.0.0:7500",
                "node 2: peers: \"0.0.0.0:7500\" is no address",
            ),
            (
                "b:7400",
                "b:7500",
                "node 2: peers of its cores include b:7500",
            ),
            (
                "\"1m\"",
                "\"1\"",
                "history.max_age is \"1\": the unit is missing",
            ),
            (
                "\"1m\"",
                "60",
                "history.max_age is 60: a number without a unit",
            ),
            (
                "\"1m\"",
                "\"1ms\"",
                "history.max_age is \"1ms\": out of bounds; allowed: 1s to",
            ),
            ("[[node]]", "[[nodes]]", "unknown field `nodes`"),
        ] {
            assert!(TEXT.contains(old), "{old}");
            let found = refusal(&TEXT.replacen(old, new, 1));
            assert!(found.contains(expected), "{found:?}, not {expected:?}");
        }
        let no_nodes = TEXT.split_once("[[node]]").expect("there are nodes").0;
        assert!(refusal(no_nodes).contains("[[node]] entries is 0"));
    }

    #[test]
    fn a_node_that_joins_is_told_of_recoveries() {
        let mut new = new_cluster(&[1, 1]);
        new.recoveries = vec![0xABCD, u128::MAX];
        let text = to_text(&new);
        let read = parse(&text).expect("it can be read");
        assert_eq!(read.recoveries, new.recoveries);
        let cluster = read.place().expect("it can be");
        assert_eq!((cluster.recoveries.len(), cluster.epoch()), (2, 2));
        let wrong = text.replacen("ffff", "fff", 1);
        assert!(refusal(&wrong).contains("recoveries has \"fff"), "{wrong}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = read(Path::new("/nowhere/cluster.toml")).expect_err("there is none");
        assert!(
            error.to_string().contains("/nowhere/cluster.toml"),
            "{error}"
        );
    }
}
