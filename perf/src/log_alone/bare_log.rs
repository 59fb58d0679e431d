//! A log with its ring and nothing above: the path of a server's record from the replica to the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metastore_wal::device::{
    Completion, DeviceError, FileRef, FlushMethod, Pace, Ring, RingOptions, create_marks,
    open_marks, open_segment, prepare_segment, remove_segment, segment_path,
};
use metastore_wal::{
    ClusterId, CoreId, Entry, EntryKind, HardState, Identity, Log, LogEffect, LogIndex, LogOptions,
    LogStart, NodeId, Part, PartBody, Position, ReplicaId, SealKey, ShardId, Term,
};

use super::LogAloneError;
use crate::machine_use::{busy_time, others_share};
use crate::process::{ProcessId, own_thread_cpu};
use crate::random::Random;

/// Bytes of a command: a put of 8 and 256 bytes has 280, one with a session 312.
pub(super) const COMMAND_BYTES: usize = 300;
/// Segments that are ready beforehand. With those in use they are the files that go round and round.
const SPARE_SEGMENTS: usize = 2;
/// So often what is old is given up.
const WRITES_BETWEEN_RELEASES: u64 = 16;
/// Segments that are begun one after the other without filling a file, before the log is taken to go round.
const ROUND_SEGMENTS: u64 = 4;
const REPLICA: ReplicaId = ReplicaId(1);
const TERM: Term = Term(1);

/// A log in a directory of its own, which is gone with it.
pub(super) struct BareLog {
    log: Log,
    ring: Ring,
    directory: Directory,
    next_index: LogIndex,
    completions: Vec<Completion>,
    writes: u64,
    /// Segments that were filled because none was free.
    prepared: u64,
    content: Bytes,
}

/// What was written in some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Written {
    pub(super) writes: u64,
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
    /// Of this thread.
    pub(super) cpu: Duration,
    /// Segments that had to be filled meanwhile, which no log in steady state does while it writes.
    pub(super) prepared: u64,
    /// CPUs that went to other processes meanwhile.
    pub(super) others_cpu_share: Option<f64>,
}

struct Directory(PathBuf);

impl Directory {
    fn new(parent: &Path) -> Result<Directory, LogAloneError> {
        let path = parent.join(format!("metastore-perf-log-{}", std::process::id()));
        fs::create_dir(&path).map_err(|source| LogAloneError::Create {
            path: path.clone(),
            source,
        })?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed does no harm beyond its size.
        let _removed = fs::remove_dir_all(&self.0);
    }
}

impl BareLog {
    /// A new log within `parent`, whose segments go round already.
    pub(super) fn new(
        parent: &Path,
        method: FlushMethod,
        batch_max: usize,
    ) -> Result<BareLog, LogAloneError> {
        let options = LogOptions {
            spare_segments: SPARE_SEGMENTS,
            ..LogOptions::new(identity(), SealKey(1))
        };
        BareLog::with(parent, method, batch_max, options)
    }

    fn with(
        parent: &Path,
        method: FlushMethod,
        batch_max: usize,
        options: LogOptions,
    ) -> Result<BareLog, LogAloneError> {
        let directory = Directory::new(parent)?;
        create_marks(&directory.0)?;
        let buffers = options.new_buffers();
        let mut ring = Ring::new(RingOptions::new(method), &buffers)?;
        ring.add_file(FileRef::Mark, open_marks(&directory.0)?)?;
        let mut random = Random::new(1);
        let words = (COMMAND_BYTES * batch_max).div_ceil(8);
        let content = (0..words).flat_map(|_| random.next_u64().to_le_bytes());
        let segment_bytes = options.segment_bytes;
        let mut bare = BareLog {
            log: Log::new(options, LogStart::empty(), buffers),
            ring,
            directory,
            next_index: LogIndex(1),
            completions: Vec::new(),
            writes: 0,
            prepared: 0,
            content: content.collect(),
        };
        bare.settle()?;
        bare.go_round(segment_bytes, batch_max)?;
        Ok(bare)
    }

    /// Writes until no file had to be filled for some segments.
    fn go_round(&mut self, segment_bytes: u64, batch_max: usize) -> Result<(), DeviceError> {
        let mut prepared_before = 0;
        while self.prepared > prepared_before {
            prepared_before = self.prepared;
            let end = self.ring.status().write_bytes + ROUND_SEGMENTS * segment_bytes;
            while self.ring.status().write_bytes < end {
                self.write(batch_max)?;
            }
        }
        Ok(())
    }

    /// Writes batches for a time, each when the one before is durable.
    pub(super) fn run(
        &mut self,
        batch: usize,
        measured: Duration,
    ) -> Result<Written, LogAloneError> {
        let before = self.ring.status();
        let prepared_before = self.prepared;
        let own = ProcessId::own();
        let (busy_before, used_before) = (busy_time(), own.usage()?);
        let cpu_before = own_thread_cpu()?;
        let started = Instant::now();
        while started.elapsed() < measured {
            self.write(batch)?;
        }
        let elapsed = started.elapsed();
        let after = self.ring.status();
        // The kernel's workers belong to the process and not to the thread.
        let used = own.usage()?.since(&used_before).cpu;
        let busy = busy_time()
            .zip(busy_before)
            .map(|(now, then)| now.saturating_sub(then));
        Ok(Written {
            writes: after.writes - before.writes,
            bytes: after.write_bytes - before.write_bytes,
            elapsed,
            cpu: own_thread_cpu()?.saturating_sub(cpu_before),
            prepared: self.prepared - prepared_before,
            others_cpu_share: busy.map(|busy| others_share(busy, used, elapsed)),
        })
    }

    /// Bytes of the record of a batch.
    pub(super) fn record_bytes(&mut self, batch: usize) -> Result<u64, DeviceError> {
        let mut bytes = u64::MAX;
        // One of two may begin a segment and come with a checkpoint.
        for _ in 0..2 {
            let before = self.ring.status().write_bytes;
            self.write(batch)?;
            bytes = bytes.min(self.ring.status().write_bytes - before);
        }
        Ok(bytes)
    }

    /// One batch as one entry of one replica, as a server has it, until it is durable.
    fn write(&mut self, batch: usize) -> Result<(), DeviceError> {
        let index = self.next_index;
        self.next_index = LogIndex(index.0 + 1);
        let entry = Entry {
            term: TERM,
            kind: EntryKind::Normal,
            data: self.content.slice(..batch * COMMAND_BYTES),
        };
        let staged = self.stage(PartBody::Append {
            first_index: index,
            entries: vec![entry],
        });
        self.writes += 1;
        // What lies before it is given up, as behind a snapshot of a server.
        let snapshot = self
            .writes
            .is_multiple_of(WRITES_BETWEEN_RELEASES)
            .then(|| LogIndex(index.0 - 1));
        if let Some(index) = snapshot {
            self.stage(PartBody::Snapshot {
                index,
                term: TERM,
                members: Bytes::from_static(&[0; 32]),
            });
        }
        self.settle()?;
        assert!(
            self.log.durable_position() >= staged,
            "a log that has nothing left to do has made everything durable"
        );
        if snapshot.is_some() {
            self.log.set_first_index(REPLICA, index);
        }
        Ok(())
    }

    fn stage(&mut self, body: PartBody) -> Position {
        self.log.stage(Part {
            replica: REPLICA,
            shard: ShardId(0),
            hard_state: HardState {
                term: TERM,
                vote: REPLICA,
                commit: LogIndex(self.next_index.0 - 2),
            },
            body,
        })
    }

    /// Carries out everything there is to do.
    fn settle(&mut self) -> Result<(), DeviceError> {
        loop {
            while let Some(effect) = self.log.next_effect() {
                self.carry_out(effect)?;
            }
            if self.ring.status().in_flight == 0 {
                return Ok(());
            }
            self.ring.submit()?;
            self.ring.wait(&mut self.completions)?;
            for completion in self.completions.drain(..) {
                let Completion {
                    ticket,
                    file,
                    buffer,
                } = completion;
                match file {
                    FileRef::Segment(_) => {
                        // What is durable now is asked for when the batch is done.
                        let _durable = self.log.on_written(ticket, buffer);
                    }
                    FileRef::Mark => self.log.on_mark_written(ticket, buffer),
                }
            }
        }
    }

    fn carry_out(&mut self, effect: LogEffect) -> Result<(), DeviceError> {
        let directory = &self.directory.0;
        match effect {
            LogEffect::Write {
                ticket,
                file,
                offset,
                buffer,
            } => {
                let file = FileRef::Segment(file);
                self.ring.submit_write(ticket, file, offset, buffer);
            }
            LogEffect::WriteMark {
                ticket,
                slot,
                buffer,
            } => {
                let offset = slot.offset();
                self.ring
                    .submit_write(ticket, FileRef::Mark, offset, buffer);
            }
            LogEffect::PrepareSegment { file, bytes } => {
                prepare_segment(directory, file, bytes, &Pace::unlimited())?;
                let opened = open_segment(&segment_path(directory, file))?;
                self.ring.add_file(FileRef::Segment(file), opened)?;
                self.log.on_segment_prepared(file);
                self.prepared += 1;
            }
            LogEffect::RemoveSegment { file } => {
                self.ring.remove_file(FileRef::Segment(file))?;
                remove_segment(directory, file)?;
                self.log.on_segment_removed(file);
            }
        }
        Ok(())
    }
}

fn identity() -> Identity {
    Identity {
        cluster: ClusterId(1),
        node: NodeId(1),
        core: CoreId(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use metastore_wal::device::DirectorySource;
    use metastore_wal::recover;

    #[test]
    fn segments_go_round_and_everything_written_is_recovered() {
        let parent = TestDirectory::new("segments_go_round");
        let options = LogOptions {
            segment_bytes: 1 << 20,
            record_bytes_max: 256 << 10,
            budget_bytes: 64 << 20,
            spare_segments: SPARE_SEGMENTS,
            ..LogOptions::new(identity(), SealKey(1))
        };
        let mut bare = BareLog::with(parent.path(), FlushMethod::Dsync, 64, options).unwrap();
        assert_eq!(bare.record_bytes(1).unwrap(), 4_096);
        assert_eq!(bare.record_bytes(64).unwrap(), 20_480);
        let written = bare.run(64, Duration::from_millis(500)).unwrap();
        assert_eq!(written.prepared, 0, "{written:?}");
        assert!(written.writes > 0 && written.bytes >= written.writes * 4_096);
        assert!(written.cpu > Duration::ZERO && written.cpu <= written.elapsed);

        let mut source = DirectorySource::open(&bare.directory.0).unwrap();
        let recovered = recover(&mut source, &identity(), SealKey(1), &mut |_| {}).unwrap();
        let replica = recovered
            .replicas
            .iter()
            .find(|found| found.replica == REPLICA);
        assert_eq!(replica.unwrap().last_index.0, bare.next_index.0 - 1);
    }
}
