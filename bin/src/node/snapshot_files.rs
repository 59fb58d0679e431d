//! The files of snapshots: their names, what a start loads of them and what it removes.
//!
//! ```text
//! shard-0003/snap-<term>-<index>.snap        complete and durable; the log names the one that counts
//! shard-0003/snap-<term>-<index>.snap.tmp    being written
//! ```
//!
//! After a crash there may be files that no record of the log names: half of one under a name of its own, a complete
//! one whose record did not make it, and older ones that were about to be removed. A start removes them, once it has
//! loaded what the log names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use metastore_engine::{CoreBuilder, ShardId, SnapshotId, SnapshotLoadError};
use metastore_wal::device::{self, DeviceError};
use metastore_wal::{LogIndex, ReplayEvent, Term};
use thiserror::Error;

use crate::log;

/// How much of a file is read at a time.
const READ_BYTES: usize = 1 << 20;

const PREFIX: &str = "snap-";
const SUFFIX: &str = ".snap";
const TEMPORARY_SUFFIX: &str = ".snap.tmp";

/// Why a core does not start from its snapshots.
#[derive(Debug, Error)]
pub(crate) enum SnapshotFileError {
    /// The log names a snapshot that is not there.
    #[error(
        "{} is missing: the log names this snapshot and no longer holds what it covers; put the file back from a copy of the data, nothing was changed",
        path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is damaged, or not the snapshot that the log names.
    #[error(
        "{} is damaged: {cause}: the log names this snapshot and no longer holds what it covers; put the file back from a copy of the data, nothing was changed",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Offset, section and what is wrong.
        cause: SnapshotLoadError,
    },
}

/// The directory of a shard's snapshots.
pub(crate) fn shard_directory(data: &Path, shard: ShardId) -> PathBuf {
    data.join(format!("shard-{:04}", shard.0))
}

/// The file of a snapshot.
pub(crate) fn snapshot_path(data: &Path, snapshot: SnapshotId) -> PathBuf {
    shard_directory(data, snapshot.shard).join(file_name(snapshot, SUFFIX))
}

/// The file of a snapshot while it is being written.
pub(super) fn temporary_path(data: &Path, snapshot: SnapshotId) -> PathBuf {
    shard_directory(data, snapshot.shard).join(file_name(snapshot, TEMPORARY_SUFFIX))
}

fn file_name(snapshot: SnapshotId, suffix: &str) -> String {
    format!("{PREFIX}{}-{}{suffix}", snapshot.term, snapshot.index)
}

/// What a file in a shard's directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundFile {
    /// A snapshot under its name.
    Snapshot(SnapshotId),
    /// What was being written.
    Temporary(SnapshotId),
}

/// What a name stands for; `None` if it is not exactly one of ours.
fn parse_name(shard: ShardId, name: &str) -> Option<FoundFile> {
    let (stem, suffix) = match name.strip_suffix(TEMPORARY_SUFFIX) {
        Some(stem) => (stem, TEMPORARY_SUFFIX),
        None => (name.strip_suffix(SUFFIX)?, SUFFIX),
    };
    let (term, index) = stem.strip_prefix(PREFIX)?.split_once('-')?;
    let snapshot = SnapshotId {
        shard,
        term: Term(term.parse().ok()?),
        index: LogIndex(index.parse().ok()?),
    };
    let found = match suffix {
        SUFFIX => FoundFile::Snapshot(snapshot),
        _ => FoundFile::Temporary(snapshot),
    };
    (file_name(snapshot, suffix) == name).then_some(found)
}

/// A name that is taken is exactly the one that would be given.
#[cfg(test)]
pub(crate) fn fuzz_name(data: &[u8]) -> bool {
    let shard = ShardId(7);
    let name = std::str::from_utf8(data).ok();
    let Some(found) = name.and_then(|name| parse_name(shard, name)) else {
        return false;
    };
    let (snapshot, path) = match found {
        FoundFile::Snapshot(id) => (id, snapshot_path(Path::new(""), id)),
        FoundFile::Temporary(id) => (id, temporary_path(Path::new(""), id)),
    };
    assert_eq!(snapshot.shard, shard);
    assert_eq!(path.file_name().and_then(|name| name.to_str()), name);
    true
}

/// The files of a shard's snapshots, by name. A directory that is not there has none.
pub(crate) fn list(data: &Path, shard: ShardId) -> io::Result<Vec<(PathBuf, FoundFile)>> {
    let directory = shard_directory(data, shard);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(file) = name.to_str().and_then(|name| parse_name(shard, name)) {
            found.push((entry.path(), file));
        }
    }
    found.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    Ok(found)
}

/// Makes sure that a shard has a directory for its snapshots. One that cannot be made or read shows when a snapshot is
/// written there, which may fail.
pub(super) fn make_shard_directory(data: &Path, shard: ShardId) -> Result<(), DeviceError> {
    let directory = shard_directory(data, shard);
    if !directory.exists() && fs::create_dir(&directory).is_ok() {
        device::sync_directory(data)?;
    }
    Ok(())
}

/// Removes every file of the shards' snapshots but those that the log names, and makes sure that the shards have
/// directories for new ones.
pub(super) fn tidy(
    data: &Path,
    shards: &[ShardId],
    named: &[SnapshotId],
) -> Result<(), DeviceError> {
    for &shard in shards {
        make_shard_directory(data, shard)?;
        for (path, found) in list(data, shard).unwrap_or_default() {
            let is_named = matches!(found, FoundFile::Snapshot(id) if named.contains(&id));
            if !is_named {
                device::remove_file(&path)?;
            }
        }
    }
    Ok(())
}

/// Passes the events of a recovery on to a builder, and loads the snapshots that it asks for before the rest.
pub(crate) struct Replay<'a> {
    data: &'a Path,
    builder: CoreBuilder,
    named: Vec<SnapshotId>,
    failed: Option<SnapshotFileError>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(data: &'a Path, builder: CoreBuilder) -> Replay<'a> {
        Replay {
            data,
            builder,
            named: Vec::new(),
            failed: None,
        }
    }

    /// Takes the next event. After a snapshot that cannot be loaded the rest is ignored.
    pub(crate) fn on_event(&mut self, event: ReplayEvent<'_>) {
        if self.failed.is_some() {
            return;
        }
        let is_first = matches!(event, ReplayEvent::Snapshots { .. });
        self.builder.on_event(event);
        if is_first {
            self.named = self.builder.snapshots_to_load();
            self.failed = self.load_all().err();
        }
    }

    /// The builder with everything that was replayed, and the snapshots that the log names.
    pub(crate) fn finish(self) -> Result<(CoreBuilder, Vec<SnapshotId>), SnapshotFileError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok((self.builder, self.named)),
        }
    }

    fn load_all(&mut self) -> Result<(), SnapshotFileError> {
        for &snapshot in &self.named {
            let path = snapshot_path(self.data, snapshot);
            if let Err(error) = load(&path, snapshot, &mut self.builder) {
                // Where nobody else has what it held, that is the end.
                if self.builder.on_snapshot_damaged(snapshot).is_err() {
                    return Err(error);
                }
                log::warning!(
                    "a snapshot is of no use; the replica waits for one of another node",
                    shard = u64::from(snapshot.shard.0),
                    error = log::text(&error),
                );
            }
        }
        Ok(())
    }
}

fn load(
    path: &Path,
    snapshot: SnapshotId,
    builder: &mut CoreBuilder,
) -> Result<(), SnapshotFileError> {
    let read_error = |source| SnapshotFileError::Read {
        path: path.to_owned(),
        source,
    };
    let damaged = |cause| SnapshotFileError::Damaged {
        path: path.to_owned(),
        cause,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.to_owned();
            return Err(SnapshotFileError::Missing { path });
        }
        Err(error) => return Err(read_error(error)),
    };
    let mut load = builder.begin_load(snapshot);
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match file.read(&mut bytes).map_err(read_error)? {
            0 => break,
            length => load.push(&bytes[..length]).map_err(damaged)?,
        }
    }
    builder.finish_load(load).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    const SHARD: ShardId = ShardId(3);

    fn snapshot(term: u64, index: u64) -> SnapshotId {
        SnapshotId {
            shard: SHARD,
            term: Term(term),
            index: LogIndex(index),
        }
    }

    #[test]
    fn names_are_what_they_stand_for_and_nothing_else_is() {
        let path = snapshot_path(Path::new("data"), snapshot(2, 71));
        assert_eq!(path, Path::new("data/shard-0003/snap-2-71.snap"));
        let found = parse_name(SHARD, "snap-2-71.snap");
        assert_eq!(found, Some(FoundFile::Snapshot(snapshot(2, 71))));
        let found = parse_name(SHARD, "snap-2-71.snap.tmp");
        assert_eq!(found, Some(FoundFile::Temporary(snapshot(2, 71))));
        for other in [
            "snap-2-71",
            "snap-2-071.snap",
            "snap-2.snap",
            "snap--71.snap",
            "snap-2-71.snap.bak",
            "x-snap-2-71.snap",
            "snap-2-71-1.snap",
        ] {
            assert_eq!(parse_name(SHARD, other), None, "{other}");
        }
    }

    #[test]
    fn only_what_the_log_names_stays() {
        let data = TestDirectory::new("snapshot-tidy");
        tidy(data.path(), &[SHARD], &[]).expect("there is nothing yet");
        let directory = shard_directory(data.path(), SHARD);
        assert!(directory.is_dir());
        for name in [
            "snap-1-5.snap",
            "snap-2-9.snap",
            "snap-2-9.snap.tmp",
            "snap-2-12.snap",
            "notes.txt",
        ] {
            fs::write(directory.join(name), "x").expect("it can be written");
        }
        tidy(data.path(), &[SHARD], &[snapshot(2, 9)]).expect("strays are removed");
        let mut left: Vec<_> = fs::read_dir(&directory)
            .expect("it is there")
            .map(|entry| entry.expect("it can be read").file_name())
            .collect();
        left.sort_unstable();
        assert_eq!(left, ["notes.txt", "snap-2-9.snap"]);
    }
}
