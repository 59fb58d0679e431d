//! What the logs of a node that does not run hold of each shard.

use std::path::Path;

use metastore_engine::{CoreBuilder, CoreId, ShardCopy};
use metastore_wal::device::{DirectorySource, mark_path};
use metastore_wal::{LogOptions, recovery};

use super::RecoverError;
use crate::commands::wal::{Refusal, core_config};
use crate::node::log_directory;
use crate::node::node_file::NodeFile;
use crate::node::snapshot_files::Replay;

/// The log of a core, read to its end.
pub(super) struct CoreLog {
    pub(super) core: CoreId,
    pub(super) options: LogOptions,
    /// From where it goes on.
    pub(super) start: metastore_wal::LogStart,
    pub(super) copies: Vec<ShardCopy>,
}

/// Reads the log of every core, as a start would, and changes nothing.
///
/// # Errors
/// What keeps a log from being read. A replica that is damaged is no error: its copy says so.
pub(super) fn read_all(data: &Path, node: &NodeFile) -> Result<Vec<CoreLog>, RecoverError> {
    let count = u16::try_from(node.cores).expect("cores are bounded");
    let cores = (0..count).map(CoreId);
    let logs = cores.map(|core| {
        read(data, node, core).map_err(|refusal| RecoverError::Log {
            core: core.0,
            data: data.to_owned(),
            refusal: Box::new(refusal),
        })
    });
    logs.collect()
}

fn read(data: &Path, node: &NodeFile, core: CoreId) -> Result<CoreLog, Refusal> {
    let config = core_config(node, core)?;
    let options = config.log.clone();
    let directory = log_directory(data, core);
    // It flushes what it finds: nothing is reported that a loss of power could still take.
    let mut source = DirectorySource::open(&directory)?;
    if !source.has_marks() {
        let path = mark_path(&directory);
        return Err(Refusal::MarksMissing { path });
    }
    let mut replay = Replay::new(data, CoreBuilder::new(config)?);
    let (identity, seal) = (options.identity, options.seal);
    let on_event = &mut |event: metastore_wal::ReplayEvent<'_>| replay.on_event(event);
    let recovered = recovery::recover_among_peers(&mut source, &identity, seal, on_event);
    let recovered = recovered.map_err(Refusal::Recovery)?;
    let (builder, _snapshots) = replay.finish()?;
    let copies = builder.copies(&recovered)?;
    Ok(CoreLog {
        core,
        options,
        start: recovered.start,
        copies,
    })
}
