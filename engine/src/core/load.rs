//! Loading the snapshots that a log names, before its entries come.

use metastore_statemachine::{ImportError, Parameters, SnapshotImport, StateMachine};
use metastore_wal::ReplicaId;
use thiserror::Error;

use super::CoreBuilder;
use crate::ids::SnapshotId;
use crate::snapshot::{SnapshotError, SnapshotIdentity, SnapshotReader, SnapshotStep};

/// Why a snapshot cannot be loaded. Who reads the file adds its name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotLoadError {
    /// The bytes are not those of the snapshot that the log names.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// The file is intact, and what it holds is not a state.
    #[error("offset {offset}: {cause}")]
    State {
        /// Where in the file the chunk begins in which it was noticed; the length of the file when at its end.
        offset: u64,
        /// What is wrong.
        cause: ImportError,
    },
    /// File and log disagree about the members of the shard.
    #[error("it names other members of the shard than the log")]
    OtherMembers,
}

/// A snapshot on its way from its file into a replica: bytes go in as they are read, cut anywhere.
#[derive(Debug)]
pub struct SnapshotLoad {
    replica: ReplicaId,
    members: bytes::Bytes,
    reader: SnapshotReader,
    import: SnapshotImport,
    bytes: u64,
}

impl SnapshotLoad {
    /// Begins to load the file of `expected` into a state of these parameters.
    pub(super) fn new(expected: SnapshotIdentity, parameters: Parameters) -> SnapshotLoad {
        SnapshotLoad {
            replica: expected.replica,
            members: bytes::Bytes::copy_from_slice(&expected.members),
            reader: SnapshotReader::new(Some(expected)),
            import: SnapshotImport::new(parameters),
            bytes: 0,
        }
    }

    /// Every byte of the file has been taken: the state that it held.
    pub(super) fn finish(self) -> Result<StateMachine, SnapshotLoadError> {
        self.reader.finish()?;
        let offset = self.bytes;
        let state = self.import.finish();
        state.map_err(|cause| SnapshotLoadError::State { offset, cause })
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// What is wrong with them; then the snapshot is of no use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotLoadError> {
        self.bytes += bytes.len() as u64;
        self.reader.feed(bytes);
        loop {
            match self.reader.read_next()? {
                SnapshotStep::NeedMore | SnapshotStep::Finished(_) => return Ok(()),
                SnapshotStep::Identity(identity) => {
                    if identity.members != self.members {
                        return Err(SnapshotLoadError::OtherMembers);
                    }
                }
                SnapshotStep::Section {
                    section,
                    bytes,
                    offset,
                } => self
                    .import
                    .section(section, bytes)
                    .map_err(|cause| SnapshotLoadError::State { offset, cause })?,
            }
        }
    }
}

impl CoreBuilder {
    /// The snapshots to load before anything else is replayed: known after
    /// [`ReplayEvent::Snapshots`](metastore_wal::ReplayEvent::Snapshots), in the order of their shards' replicas.
    #[must_use]
    pub fn snapshots_to_load(&self) -> Vec<SnapshotId> {
        let recovering = self.recovering.values();
        recovering
            .filter_map(|recovering| recovering.snapshot_to_load())
            .collect()
    }

    /// Begins to load one of [`CoreBuilder::snapshots_to_load`].
    ///
    /// # Panics
    /// When it is none of them.
    #[must_use]
    pub fn begin_load(&self, snapshot: SnapshotId) -> SnapshotLoad {
        let wanted = self
            .recovering
            .iter()
            .find(|(_, recovering)| recovering.snapshot_to_load() == Some(snapshot));
        let Some((&replica, recovering)) = wanted else {
            panic!("{snapshot} is not to be loaded");
        };
        let expected = SnapshotIdentity {
            cluster: self.config.identity.cluster,
            node: self.config.identity.node,
            shard: snapshot.shard,
            replica,
            index: snapshot.index,
            term: snapshot.term,
            members: recovering.members().to_vec(),
        };
        SnapshotLoad::new(expected, self.config.parameters)
    }

    /// Every byte of the file has been taken: the replica begins with what it held.
    ///
    /// # Errors
    /// When the file ends too early, or its sections do not make up a state.
    pub fn finish_load(&mut self, load: SnapshotLoad) -> Result<(), SnapshotLoadError> {
        let (replica, bytes) = (load.replica, load.bytes);
        let state = load.finish()?;
        let recovering = self
            .recovering
            .get_mut(&replica)
            .expect("a load is begun by the replica that it is for");
        recovering.on_loaded(state, bytes);
        Ok(())
    }
}
