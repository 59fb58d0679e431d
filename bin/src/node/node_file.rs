//! `node.toml`: what a data directory is, fixed when it is formatted.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use metastore_engine::{ClusterId, CoreId, NodeId, ReplicaId, ShardId};
use metastore_statemachine::Parameters;
use metastore_wal::SealKey;
use metastore_wal::device::FlushMethod;
use serde::{Deserialize, Serialize};

use super::StartError;

/// Version of the directory's layout that this program writes and reads.
const FORMAT: u32 = 2;
/// The file's name in the data directory.
pub(crate) const FILE_NAME: &str = "node.toml";

/// What a data directory is.
///
/// After a crash the file is either the old or the new one: it is written beside, synced and renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeFile {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// The secret that seals the records of its logs. Never told to clients.
    pub(crate) seal: SealKey,
    pub(crate) state: NodeState,
    pub(crate) flush_method: FlushMethod,
    pub(crate) cores: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) record_bytes_max: usize,
    pub(crate) history: HistoryBounds,
    /// Ascending by shard.
    pub(crate) replicas: Vec<ReplicaPlace>,
}

/// How far back reads can go: part of the replicated state. The log is replayed with the bounds it was written under, and
/// every replica of a shard has the same; otherwise they could decide differently about a change that reads history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryBounds {
    pub(crate) revisions_max: u64,
    pub(crate) age_ms_max: u64,
    pub(crate) bytes_max: u64,
}

impl Default for HistoryBounds {
    fn default() -> HistoryBounds {
        let parameters = Parameters::default();
        HistoryBounds {
            revisions_max: parameters.history_revisions_max,
            age_ms_max: parameters.history_age_ms_max,
            bytes_max: parameters.history_bytes_max,
        }
    }
}

impl HistoryBounds {
    /// The parameters of every shard.
    pub(crate) fn parameters(self) -> Parameters {
        Parameters {
            history_revisions_max: self.revisions_max,
            history_age_ms_max: self.age_ms_max,
            history_bytes_max: self.bytes_max,
            ..Parameters::default()
        }
    }
}

/// Whether the data may be incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeState {
    /// Formatted; no client was ever answered, so logs may lack anything.
    Formatted,
    /// It has served: every log must be there.
    Serving,
}

/// Where a replica lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplicaPlace {
    pub(crate) replica: ReplicaId,
    pub(crate) shard: ShardId,
    pub(crate) core: CoreId,
}

/// The file as it is written, so that the types of other crates need not know about TOML.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    cluster: String,
    node: u32,
    seal: String,
    state: NodeState,
    flush_method: FlushMethodName,
    cores: usize,
    segment_bytes: u64,
    record_bytes_max: usize,
    /// Data that was formatted before there was a choice has the defaults.
    #[serde(default)]
    history: HistoryBounds,
    replica: Vec<ReplicaEntry>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FlushMethodName {
    Dsync,
    WriteThenSync,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicaEntry {
    replica: u64,
    shard: u32,
    core: u16,
}

/// Only the version, for files that a newer program wrote.
#[derive(Debug, Deserialize)]
struct FormatOnly {
    format: u32,
}

impl NodeFile {
    /// Reads the file, `None` when there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<NodeFile>, StartError> {
        let path = directory.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StartError::File { path, source }),
        };
        NodeFile::parse(path, &text).map(Some)
    }

    /// Reads the text of the file at `path`.
    pub(crate) fn parse(path: PathBuf, text: &str) -> Result<NodeFile, StartError> {
        let bad = |error: toml::de::Error| StartError::NodeFile {
            path: path.clone(),
            cause: error.message().to_owned(),
        };
        let format = toml::from_str::<FormatOnly>(text).map_err(bad)?.format;
        if format != FORMAT {
            return Err(StartError::NodeFileFormat {
                path,
                found: format,
                supported: FORMAT,
            });
        }
        let document: Document = toml::from_str(text).map_err(bad)?;
        let cluster = u128::from_str_radix(&document.cluster, 16).map_err(|_| {
            let cause = format!(
                "cluster \"{}\" is not a hexadecimal number",
                document.cluster
            );
            StartError::NodeFile {
                path: path.clone(),
                cause,
            }
        })?;
        let seal = u64::from_str_radix(&document.seal, 16).map_err(|_| StartError::NodeFile {
            path: path.clone(),
            // The value is a secret, and this goes to a terminal.
            cause: "seal is not a hexadecimal number of 64 bits".to_owned(),
        })?;
        let mut replicas: Vec<ReplicaPlace> = document
            .replica
            .iter()
            .map(|entry| ReplicaPlace {
                replica: ReplicaId(entry.replica),
                shard: ShardId(entry.shard),
                core: CoreId(entry.core),
            })
            .collect();
        replicas.sort_by_key(|place| place.shard);
        let stray = replicas
            .iter()
            .find(|place| usize::from(place.core.0) >= document.cores);
        if let Some(place) = stray {
            let cause = format!(
                "shard {} is on core {}, of {}",
                place.shard, place.core, document.cores
            );
            return Err(StartError::NodeFile { path, cause });
        }
        if replicas.is_empty()
            || replicas
                .windows(2)
                .any(|pair| pair[0].shard == pair[1].shard)
        {
            let cause = "every shard has one replica, and there is at least one".to_owned();
            return Err(StartError::NodeFile { path, cause });
        }
        Ok(NodeFile {
            cluster: ClusterId(cluster),
            node: NodeId(document.node),
            seal: SealKey(seal),
            state: document.state,
            flush_method: match document.flush_method {
                FlushMethodName::Dsync => FlushMethod::Dsync,
                FlushMethodName::WriteThenSync => FlushMethod::WriteThenSync,
            },
            cores: document.cores,
            segment_bytes: document.segment_bytes,
            record_bytes_max: document.record_bytes_max,
            history: document.history,
            replicas,
        })
    }

    /// Replaces the file atomically; it is durable when this returns.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), StartError> {
        let path = directory.join(FILE_NAME);
        replace(directory, &path, self.to_text().as_bytes())
            .map_err(|source| StartError::File { path, source })
    }

    /// The text of the file.
    pub(crate) fn to_text(&self) -> String {
        let document = Document {
            format: FORMAT,
            cluster: format!("{:032x}", self.cluster.0),
            node: self.node.0,
            seal: format!("{:016x}", self.seal.0),
            state: self.state,
            flush_method: match self.flush_method {
                FlushMethod::Dsync => FlushMethodName::Dsync,
                FlushMethod::WriteThenSync => FlushMethodName::WriteThenSync,
            },
            cores: self.cores,
            segment_bytes: self.segment_bytes,
            record_bytes_max: self.record_bytes_max,
            history: self.history,
            replica: self
                .replicas
                .iter()
                .map(|place| ReplicaEntry {
                    replica: place.replica.0,
                    shard: place.shard.0,
                    core: place.core.0,
                })
                .collect(),
        };
        toml::to_string(&document).expect("plain data can be written as TOML")
    }
}

/// Write beside, sync, rename, sync the directory: whatever crashes in between, one whole file is found.
fn replace(directory: &Path, path: &Path, content: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("toml.new");
    // It holds the secret of the logs.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(directory)?.sync_all()
}

/// A node of two cores, for tests and fuzzers.
#[cfg(test)]
pub(crate) fn sample() -> NodeFile {
    let place = |shard: u32| ReplicaPlace {
        replica: ReplicaId(u64::from(shard) + 1),
        shard: ShardId(shard),
        core: CoreId(u16::try_from(shard % 2).expect("small")),
    };
    NodeFile {
        cluster: ClusterId(0xABCD),
        node: NodeId(1),
        seal: SealKey(0xFEED),
        state: NodeState::Formatted,
        flush_method: FlushMethod::WriteThenSync,
        cores: 2,
        segment_bytes: 64 << 20,
        record_bytes_max: 4 << 20,
        history: HistoryBounds {
            age_ms_max: 60_000,
            ..HistoryBounds::default()
        },
        replicas: (0..3).map(place).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn a_file_survives_the_round_trip_and_is_replaced_whole() {
        let directory = TestDirectory::new("node-file");
        assert_eq!(
            NodeFile::read(directory.path()).expect("no file is fine"),
            None
        );
        let mut file = sample();
        file.write(directory.path()).expect("writes");
        file.state = NodeState::Serving;
        file.write(directory.path()).expect("writes again");
        assert_eq!(NodeFile::read(directory.path()).expect("reads"), Some(file));
    }

    #[test]
    fn data_from_before_the_history_was_a_choice_has_the_defaults() {
        let directory = TestDirectory::new("node-file-history");
        let file = NodeFile {
            history: HistoryBounds::default(),
            ..sample()
        };
        file.write(directory.path()).expect("writes");
        let path = directory.path().join(FILE_NAME);
        let text = fs::read_to_string(&path).expect("reads");
        let (before, after) = text.split_once("[history]").expect("it is written");
        let (_, replicas) = after.split_once("[[replica]]").expect("they come last");
        fs::write(&path, format!("{before}[[replica]]{replicas}")).expect("writes");
        assert_eq!(NodeFile::read(directory.path()).expect("reads"), Some(file));
    }

    #[test]
    fn a_newer_format_is_named() {
        let directory = TestDirectory::new("node-file-newer");
        fs::write(
            directory.path().join(FILE_NAME),
            "format = 99\nnew_key = 1\n",
        )
        .expect("writes");
        let error = NodeFile::read(directory.path()).expect_err("newer");
        assert!(
            matches!(error, StartError::NodeFileFormat { found: 99, .. }),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_key_is_named() {
        let directory = TestDirectory::new("node-file-key");
        sample().write(directory.path()).expect("writes");
        let path = directory.path().join(FILE_NAME);
        let text = fs::read_to_string(&path).expect("reads");
        fs::write(&path, format!("surprise = 1\n{text}")).expect("writes");
        let error = NodeFile::read(directory.path())
            .expect_err("unknown key")
            .to_string();
        assert!(error.contains("surprise"), "{error}");
    }
}
