//! `metastore wal`: a look at the log of a node that does not run. Nothing is changed.

mod describe;
mod inspect;
mod judgement;
mod records;
mod verify;

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{CommandError, Exit};
use crate::arguments::WalCommand;
use crate::node::node_file::{FILE_NAME, NodeFile};
use crate::node::{StartError, data_lock_path};
pub(crate) use judgement::Refusal;
pub(in crate::commands) use judgement::core_config;

/// Why a log cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError {
    /// There is no data of a store.
    #[error("{} holds no {FILE_NAME}: it is not the data of a store", path.display())]
    NoData {
        /// The directory.
        path: PathBuf,
    },
    /// A process uses the data: what is read would be half of what is being written.
    #[error("{} is locked: a store is running on this data; stop it first", path.display())]
    Running {
        /// The lock.
        path: PathBuf,
    },
    /// The lock cannot be tried.
    #[error("{}: {source}", path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What the directory is cannot be read.
    #[error(transparent)]
    NodeFile(StartError),
    /// The node has fewer cores.
    #[error("there is no core {asked}: the node has {cores}, counted from 0")]
    NoCore {
        /// What was asked for.
        asked: u16,
        /// How many there are.
        cores: usize,
    },
}

impl WalError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            WalError::NoData { .. } | WalError::NoCore { .. } => Exit::Usage,
            WalError::Running { .. } | WalError::Lock { .. } => Exit::Unavailable,
            WalError::NodeFile(StartError::File { .. }) => Exit::Unavailable,
            // The file is there, and no node starts from it.
            WalError::NodeFile(_) => Exit::Negative,
        }
    }
}

/// A data directory that no process changes while this is held.
struct Data {
    path: PathBuf,
    node: NodeFile,
    _lock: Option<File>,
}

pub(super) fn run(command: &WalCommand, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match command {
        WalCommand::Inspect(arguments) => inspect::run(arguments, out),
        WalCommand::Verify(arguments) => verify::run(arguments, out),
    }
}

impl Data {
    fn open(path: &Path) -> Result<Data, WalError> {
        // The lock comes first: what is read before it may be replaced.
        let lock = lock(path)?;
        let node = NodeFile::read(path).map_err(WalError::NodeFile)?;
        let node = node.ok_or_else(|| WalError::NoData {
            path: path.to_owned(),
        })?;
        Ok(Data {
            path: path.to_owned(),
            node,
            _lock: lock,
        })
    }
}

/// Holds the lock together with others who only look, so that no store starts meanwhile. Without a lock file no store
/// has ever been there.
fn lock(data: &Path) -> Result<Option<File>, WalError> {
    let path = data_lock_path(data);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(WalError::Lock { path, source }),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(WalError::Running { path }),
        Err(TryLockError::Error(source)) => Err(WalError::Lock { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn a_directory_without_data_is_wrong_usage() {
        let directory = TestDirectory::new("wal-none");
        let Err(error) = Data::open(directory.path()) else {
            panic!("there is nothing");
        };
        assert!(matches!(error, WalError::NoData { .. }), "{error}");
        assert_eq!(error.exit(), Exit::Usage);
    }

    #[test]
    fn the_data_of_a_running_store_is_left_alone() {
        let directory = TestDirectory::new("wal-locked");
        let lock = File::create(directory.path().join("lock")).expect("creates");
        lock.lock().expect("nobody else has it");
        let Err(error) = Data::open(directory.path()) else {
            panic!("it is locked");
        };
        assert!(matches!(error, WalError::Running { .. }), "{error}");
        assert_eq!(error.exit(), Exit::Unavailable);
    }

    #[test]
    fn a_damaged_description_is_an_answer_and_not_a_fault() {
        let directory = TestDirectory::new("wal-node-file");
        std::fs::write(directory.path().join(FILE_NAME), "format = 1\n").expect("writes");
        let Err(error) = Data::open(directory.path()) else {
            panic!("it lacks everything");
        };
        assert_eq!(error.exit(), Exit::Negative);
    }
}
