//! Reading a snapshot's file to its end.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use metastore_engine::snapshot::{
    SnapshotError, SnapshotIdentity, SnapshotReader, SnapshotStep, SnapshotSummary,
};
use metastore_statemachine::{ImportError, Parameters, SnapshotImport};

use super::SnapshotFileError;

/// How closely a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Every checksum, the order of chunks, the totals.
    File,
    /// The state is loaded as well, which takes as much memory as in a store.
    State,
}

/// What a file turned out to be.
#[derive(Debug)]
pub(super) struct Examination {
    /// Whose snapshot it is, if the header is readable.
    pub(super) identity: Option<SnapshotIdentity>,
    /// What it holds, or why a store would not take it.
    pub(super) content: Result<Content, Fault>,
}

/// What a whole file holds.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) summary: SnapshotSummary,
    /// Live keys, if the state was loaded.
    pub(super) key_count: Option<u64>,
}

/// Why a store would not take a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    File(#[from] SnapshotError),
    #[error("the file is whole, but it holds no state: {0}")]
    State(#[from] ImportError),
}

/// Bytes that are read at once.
const PIECE_BYTES: usize = 256 * 1024;

impl Examination {
    pub(super) fn of(path: &Path, depth: Depth) -> Result<Examination, SnapshotFileError> {
        let failed = |source| SnapshotFileError::File {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let mut load = Load {
            reader: SnapshotReader::new(None),
            import: match depth {
                Depth::File => None,
                Depth::State => Some(SnapshotImport::new(Parameters::default())),
            },
            identity: None,
            state_fault: None,
        };
        let mut piece = vec![0; PIECE_BYTES];
        let content = loop {
            let length = file.read(&mut piece).map_err(failed)?;
            if length == 0 {
                break load.finish();
            }
            if let Err(error) = load.take(&piece[..length]) {
                break Err(error.into());
            }
        };
        Ok(Examination {
            identity: load.identity,
            content,
        })
    }
}

struct Load {
    reader: SnapshotReader,
    import: Option<SnapshotImport>,
    identity: Option<SnapshotIdentity>,
    /// What is wrong with the state. The rest of the file is read all the same: damage to the file explains more.
    state_fault: Option<ImportError>,
}

impl Load {
    fn take(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.reader.feed(bytes);
        loop {
            match self.reader.read_next()? {
                SnapshotStep::NeedMore | SnapshotStep::Finished(_) => return Ok(()),
                SnapshotStep::Identity(identity) => self.identity = Some(identity.clone()),
                SnapshotStep::Section { section, bytes, .. } => {
                    if let Some(import) = &mut self.import
                        && let Err(fault) = import.section(section, bytes)
                    {
                        self.state_fault = Some(fault);
                        self.import = None;
                    }
                }
            }
        }
    }

    fn finish(&mut self) -> Result<Content, Fault> {
        let summary = self.reader.finish()?.clone();
        if let Some(fault) = self.state_fault {
            return Err(fault.into());
        }
        let key_count = match self.import.take() {
            Some(import) => Some(import.finish()?.key_count()),
            None => None,
        };
        Ok(Content { summary, key_count })
    }
}
