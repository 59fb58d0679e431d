//! The data directory: made once, locked while a process runs.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use metastore_engine::{ClusterId, CoreId, NodeId, ReplicaId, ShardId};
use metastore_wal::SealKey;
use metastore_wal::device;

use super::keeper::NodeKeeper;
use super::layout::Layout;
use super::node_file::{FILE_NAME, NodeFile, NodeState, ReplicaPlace};
use super::{FormatPolicy, NodeOptions, StartError};

const LOCK_NAME: &str = "lock";
/// What formatting may find. The lock and what an interrupted formatting left behind are our own.
const OURS: [&str; 3] = [LOCK_NAME, "node.toml.new", "lost+found"];

/// A data directory that this process has locked.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    keeper: NodeKeeper,
    _lock: NodeLock,
}

/// The lock of a data directory. It is gone with the process, however that ends.
#[derive(Debug)]
pub(crate) struct NodeLock {
    _file: File,
}

impl DataDirectory {
    /// Opens the data of a store, or formats an empty or missing directory for `cpus` processors where the options say
    /// so.
    ///
    /// # Errors
    /// When another process uses it, it belongs to something else, or it does not fit the options.
    pub(crate) fn open(options: &NodeOptions, cpus: usize) -> Result<DataDirectory, StartError> {
        let path = options.data.clone();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::File { path, source }
        };
        if NodeFile::read(&path)?.is_none() {
            refuse_strange(&path, FILE_NAME, &OURS)?;
            if options.format == FormatPolicy::Never {
                return Err(StartError::Unformatted { path });
            }
            Layout::choose(options, cpus)?;
        }
        make_durable_directory(&path)?;
        let path = path.canonicalize().map_err(failed(&options.data))?;
        match device::check_directory(&path) {
            // The store was formatted here, so the directory will do; on a full disk it starts all the same, to serve
            // reads and deletes.
            Err(error) if error.is_no_space() && NodeFile::read(&path)?.is_some() => {}
            checked => {
                checked?;
            }
        }
        if NodeFile::read(&path)?.is_none() {
            refuse_strange(&path, FILE_NAME, &OURS)?;
        }
        let lock = NodeLock::take(&path)?;
        // Read again under the lock: another process may have formatted it meanwhile.
        let node = match NodeFile::read(&path)? {
            Some(_) if options.format == FormatPolicy::Anew => {
                return Err(StartError::AlreadyFormatted { path });
            }
            Some(node) if node.state == NodeState::Recovering => {
                return Err(StartError::RecoveryUnfinished { path });
            }
            Some(node) => check(node, options)?,
            None => format(&path, options, Layout::choose(options, cpus)?)?,
        };
        if node.state == NodeState::Formatted {
            make_core_directories(&path, node.cores)?;
        }
        Ok(DataDirectory {
            keeper: NodeKeeper::new(path.clone(), node),
            path,
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What `node.toml` says.
    pub(crate) fn node(&self) -> NodeFile {
        self.keeper.node()
    }

    /// Whoever changes `node.toml` while the node runs.
    pub(crate) fn keeper(&self) -> &NodeKeeper {
        &self.keeper
    }

    pub(crate) fn log_directory(&self, core: CoreId) -> PathBuf {
        log_directory(&self.path, core)
    }
}

/// Makes a directory and what is missing above it, each with a name that survives a crash: otherwise the whole store
/// could be gone after one, with everything that was acknowledged.
pub(crate) fn make_durable_directory(path: &Path) -> Result<(), StartError> {
    let is_missing = |ancestor: &&Path| !ancestor.as_os_str().is_empty() && !ancestor.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    for directory in missing.into_iter().rev() {
        // Another process may make it at this moment.
        fs::create_dir_all(directory).map_err(|source| StartError::File {
            path: directory.to_owned(),
            source,
        })?;
        let parent = directory
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        device::sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Where a core's log is.
pub(crate) fn log_directory(data: &Path, core: CoreId) -> PathBuf {
    data.join(format!("core-{}", core.0))
}

impl NodeLock {
    /// Locks the data of a node.
    ///
    /// # Errors
    /// When another process has it, or the file cannot be made.
    pub(crate) fn take(directory: &Path) -> Result<NodeLock, StartError> {
        let path = directory.join(LOCK_NAME);
        let failed = |source| StartError::File {
            path: path.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(NodeLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StartError::Locked { path }),
            Err(TryLockError::Error(source)) => Err(StartError::File { path, source }),
        }
    }
}

/// Refuses a directory that belongs to somebody else: one that has other files than `ours`, and has no `file`.
pub(crate) fn refuse_strange(
    path: &Path,
    file: &'static str,
    ours: &[&str],
) -> Result<(), StartError> {
    if path.exists() && holds_other_files(path, ours)? {
        return Err(StartError::NotOurs {
            path: path.to_owned(),
            file,
        });
    }
    Ok(())
}

fn holds_other_files(directory: &Path, ours: &[&str]) -> Result<bool, StartError> {
    let failed = |source| StartError::File {
        path: directory.to_owned(),
        source,
    };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !ours.iter().any(|&own| name == own) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check(node: NodeFile, options: &NodeOptions) -> Result<NodeFile, StartError> {
    if let Some(asked) = options.cores.filter(|&asked| asked != node.cores) {
        return Err(StartError::CoreCount {
            data: node.cores,
            asked,
        });
    }
    let shards = node.shards();
    if let Some(asked) = options.shards.filter(|&asked| asked != shards) {
        return Err(StartError::ShardCount {
            data: shards,
            asked,
        });
    }
    if let Some(asked) = options
        .wal
        .segment_bytes
        .filter(|&asked| asked != node.segment_bytes)
    {
        return Err(StartError::SegmentBytes {
            data: node.segment_bytes,
            asked,
        });
    }
    let (record, history) = (node.record_bytes_max as u64, &node.history);
    let asked_record = options.wal.record_bytes_max.map(|bytes| bytes as u64);
    let asked = &options.history;
    for (name, data, asked) in [
        ("wal.max_record_bytes", record, asked_record),
        (
            "history.max_revisions",
            history.revisions_max,
            asked.revisions_max,
        ),
        (
            "history.max_age in milliseconds",
            history.age_ms_max,
            asked.age_ms_max,
        ),
        ("history.max_bytes", history.bytes_max, asked.bytes_max),
    ] {
        if let Some(asked) = asked.filter(|&asked| asked != data) {
            return Err(StartError::Fixed { name, data, asked });
        }
    }
    Ok(node)
}

fn format(path: &Path, options: &NodeOptions, layout: Layout) -> Result<NodeFile, StartError> {
    let Layout {
        cores,
        shards,
        segment_bytes,
        record_bytes_max,
        history,
    } = layout;
    let flush_method = match options.wal.flush_method {
        Some(method) => method,
        None => device::probe_flush_method(path)?.method,
    };
    let founding = options.founding.as_ref();
    let (cluster, node) = match founding {
        Some(founding) => (founding.cluster.id, founding.node),
        None => (ClusterId(random_u128()?), NodeId(1)),
    };
    let node = NodeFile {
        cluster,
        seal: SealKey(random_u64()?),
        node,
        state: NodeState::Formatted,
        flush_method,
        cores,
        segment_bytes,
        record_bytes_max,
        history,
        replicas: match founding {
            Some(founding) => founding.cluster.replicas_of(node),
            None => replicas_alone(shards, cores),
        },
        cluster_plan: founding.map(|founding| founding.cluster.clone()),
        data_ids: match founding {
            Some(_) => BTreeMap::from([(node, random_u64()?)]),
            None => BTreeMap::new(),
        },
    };
    node.write(path)?;
    Ok(node)
}

/// The replicas of a node that is alone: one of each shard, on one core after the other.
fn replicas_alone(shards: usize, cores: usize) -> Vec<ReplicaPlace> {
    let replicas = (0..shards).map(|shard| ReplicaPlace {
        replica: ReplicaId(shard as u64 + 1),
        shard: ShardId(u32::try_from(shard).expect("fewer shards than slots")),
        core: CoreId(u16::try_from(shard % cores).expect("cores were counted")),
    });
    replicas.collect()
}

/// The directories of the cores with empty marks. Formatting may have been interrupted, so what is there is kept.
fn make_core_directories(path: &Path, cores: usize) -> Result<(), StartError> {
    for core in 0..cores {
        let directory = log_directory(
            path,
            CoreId(u16::try_from(core).expect("cores were counted")),
        );
        fs::create_dir_all(&directory).map_err(|source| StartError::File {
            path: directory.clone(),
            source,
        })?;
        if !device::mark_path(&directory).exists() {
            device::create_marks(&directory)?;
        }
    }
    device::sync_directory(path)?;
    Ok(())
}

/// A number that no other cluster has, from the kernel.
pub(crate) fn random_u128() -> Result<u128, StartError> {
    let mut bytes = [0; 16];
    read_random(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

/// A number that nobody can guess, from the kernel.
pub(crate) fn random_u64() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    read_random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_random(bytes: &mut [u8]) -> Result<(), StartError> {
    let path = PathBuf::from("/dev/urandom");
    File::open(&path)
        .and_then(|mut file| file.read_exact(bytes))
        .map_err(|source| StartError::File { path, source })
}

/// The lock file's path, for tools that must not read the data of a running store.
pub(crate) fn lock_path(data: &Path) -> PathBuf {
    data.join(LOCK_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn a_directory_is_made_with_all_that_is_missing_above_it() {
        let root = TestDirectory::new("durable-directory");
        let path = root.path().join("a/b/c");
        make_durable_directory(&path).expect("it can be made");
        assert!(path.is_dir());
        make_durable_directory(&path).expect("it is there already");
    }

    #[test]
    fn a_directory_below_a_file_is_named() {
        let root = TestDirectory::new("durable-file");
        fs::write(root.path().join("a"), "").expect("it can be written");
        let error = make_durable_directory(&root.path().join("a/b")).expect_err("a is a file");
        assert!(error.to_string().contains("a/b"), "{error}");
    }
}
