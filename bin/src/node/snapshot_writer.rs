//! What a core asks for the files of its snapshots, done in the background, one thing after the other.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use metastore_engine::{SnapshotId, SnapshotTicket};
use metastore_wal::device::{self, BackgroundFile, DeviceError, Pace, Switch};
use thiserror::Error;

use super::disk_space::DiskWatch;
use super::event::Event;
use super::snapshot_files::{make_shard_directory, snapshot_path, temporary_path};

/// Something to be done to a file.
#[derive(Debug)]
pub(super) struct SnapshotJob {
    pub(super) ticket: SnapshotTicket,
    pub(super) snapshot: SnapshotId,
    pub(super) work: SnapshotWork,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum SnapshotWork {
    Write { offset: u64, bytes: Vec<u8> },
    Finish { bytes: u64 },
    Remove,
}

/// Why something could not be done to a file, and what becomes of it.
#[derive(Debug, Error)]
pub(super) enum SnapshotJobError {
    /// A snapshot could not be written.
    #[error("a snapshot is given up and tried again later: {0}")]
    Write(DeviceError),
    /// A file that is not needed any more is still there.
    #[error("a snapshot that is not needed any more stays until the next start: {0}")]
    Remove(DeviceError),
}

/// A job that is over.
pub(super) struct JobEnd {
    pub(super) ticket: SnapshotTicket,
    pub(super) result: Result<(), SnapshotJobError>,
    /// Of a write, to be used again.
    pub(super) buffer: Vec<u8>,
}

/// The files of a core's snapshots. The core has few jobs under way, so the queue is short.
#[derive(Debug)]
pub(super) struct SnapshotWriter {
    data: PathBuf,
    pace: Pace,
    disk: DiskWatch,
    jobs: RefCell<VecDeque<SnapshotJob>>,
    job_added: Event,
}

/// What the thread that blocks works on.
struct Bench {
    data: PathBuf,
    pace: Pace,
    disk: DiskWatch,
    /// The files that are being written: the core takes one snapshot and fetches one at a time.
    open: BTreeMap<SnapshotId, BackgroundFile>,
}

impl SnapshotWriter {
    /// Writes files below `data`, at most so many bytes a second, and slower while `pause` says so.
    pub(super) fn new(
        data: PathBuf,
        bytes_per_second_max: u64,
        pause: Switch,
        disk: DiskWatch,
    ) -> SnapshotWriter {
        SnapshotWriter {
            data,
            pace: Pace::limited(bytes_per_second_max, pause),
            disk,
            jobs: RefCell::default(),
            job_added: Event::default(),
        }
    }

    pub(super) fn add(&self, job: SnapshotJob) {
        self.jobs.borrow_mut().push_back(job);
        self.job_added.set();
    }

    /// Does what comes, and tells of each thing that is over. It blocks in a thread of its own.
    pub(super) async fn run(&self, mut on_end: impl FnMut(JobEnd)) {
        let mut bench = Bench {
            data: self.data.clone(),
            pace: self.pace.clone(),
            disk: self.disk.clone(),
            open: BTreeMap::new(),
        };
        loop {
            let next = self.jobs.borrow_mut().pop_front();
            let Some(job) = next else {
                self.job_added.wait().await;
                continue;
            };
            let (back, end) = glommio::executor()
                .spawn_blocking(move || {
                    let end = bench.carry_out(job);
                    (bench, end)
                })
                .await;
            bench = back;
            on_end(end);
        }
    }
}

impl Bench {
    fn carry_out(&mut self, job: SnapshotJob) -> JobEnd {
        let SnapshotJob {
            ticket,
            snapshot,
            work,
        } = job;
        let (result, buffer) = match work {
            SnapshotWork::Write { offset, bytes } => {
                let written = match self.write(snapshot, offset, &bytes) {
                    // This is what the reserve is for: behind the snapshot the log gives back segments.
                    Err(error) if error.is_no_space() => match self.disk.give_up_reserve() {
                        Ok(true) => self.write(snapshot, offset, &bytes),
                        Ok(false) => Err(error),
                        Err(failed) => Err(failed),
                    },
                    written => written,
                };
                (written.map_err(SnapshotJobError::Write), bytes)
            }
            SnapshotWork::Finish { bytes } => {
                let finished = self.finish(snapshot, bytes);
                (finished.map_err(SnapshotJobError::Write), Vec::new())
            }
            SnapshotWork::Remove => {
                let removed = self.remove(snapshot);
                (removed.map_err(SnapshotJobError::Remove), Vec::new())
            }
        };
        JobEnd {
            ticket,
            result,
            buffer,
        }
    }

    fn write(
        &mut self,
        snapshot: SnapshotId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        if offset == 0 {
            // A replica that came after the start has none yet.
            make_shard_directory(&self.data, snapshot.shard)?;
            self.open.remove(&snapshot);
            let file = BackgroundFile::create(&temporary_path(&self.data, snapshot))?;
            self.open.insert(snapshot, file);
        }
        match self.open.get_mut(&snapshot) {
            Some(file) => file.write(offset, bytes, &self.pace),
            // The file could not be begun, of which the core was told: what follows is of no use.
            None => Ok(()),
        }
    }

    fn finish(&mut self, snapshot: SnapshotId, bytes: u64) -> Result<(), DeviceError> {
        let file = self.open.remove(&snapshot);
        let file = file.expect("the core finishes what was written");
        file.finish(bytes, &snapshot_path(&self.data, snapshot))
    }

    fn remove(&mut self, snapshot: SnapshotId) -> Result<(), DeviceError> {
        self.open.remove(&snapshot);
        device::remove_file(&temporary_path(&self.data, snapshot))?;
        device::remove_file(&snapshot_path(&self.data, snapshot))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use metastore_engine::{LogIndex, ShardId, Term};

    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn two_snapshots_are_written_side_by_side() {
        let data = TestDirectory::new("snapshots-side-by-side");
        let mut bench = Bench {
            data: data.path().to_owned(),
            pace: Pace::unlimited(),
            disk: DiskWatch::start(data.path(), Some(0), 1).expect("the disk can be looked at"),
            open: BTreeMap::new(),
        };
        let [first, second] = [1, 2].map(|shard| SnapshotId {
            shard: ShardId(shard),
            term: Term(1),
            index: LogIndex(7),
        });
        for offset in [0, 4096] {
            for (snapshot, byte) in [(first, 1), (second, 2)] {
                let written = bench.write(snapshot, offset, &[byte; 4096]);
                written.expect("it can be written");
            }
        }
        for (snapshot, byte) in [(second, 2), (first, 1)] {
            bench.finish(snapshot, 8192).expect("it can be finished");
            let content = fs::read(snapshot_path(data.path(), snapshot)).expect("it is there");
            assert_eq!(content, [byte; 8192]);
        }
    }
}
