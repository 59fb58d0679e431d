//! A log on a real directory, written through a real ring, with faults, crashes and restarts.
#![cfg(feature = "device")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use metastore_wal::device::{
    Completion, DeviceError, DirectorySource, DiskFailure, Fault, FileRef, FlushMethod, Pace, Ring,
    RingOptions, create_marks, open_marks, open_segment, prepare_segment, remove_segment,
    segment_number, segment_path,
};
use metastore_wal::{
    ClusterId, CoreId, Entry, EntryKind, FileNumber, HardState, Identity, Log, LogEffect, LogIndex,
    LogOptions, NodeId, Part, PartBody, Position, Recovered, ReplayEvent, ReplicaId, SealKey,
    ShardId, Term, recover,
};

const BOTH: [FlushMethod; 2] = [FlushMethod::Dsync, FlushMethod::WriteThenSync];
const REPLICA: ReplicaId = ReplicaId(5);
const SEAL: SealKey = SealKey(7);
const IDENTITY: Identity = Identity {
    cluster: ClusterId(77),
    node: NodeId(1),
    core: CoreId(0),
};

/// A directory of its own for each test, on the disk that holds the build.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // A run that failed may have left one.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the build directory can be written");
        create_marks(&path).expect("it is formatted");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A few records fill a segment.
fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 8 * 4096,
        record_bytes_max: 4 * 4096,
        budget_bytes: 64 * 4096,
        spare_segments: 2,
        ..LogOptions::new(IDENTITY, SEAL)
    }
}

/// What a server's driver does with a log and its ring.
struct Driver {
    directory: PathBuf,
    log: Log,
    ring: Ring,
    recovered: Recovered,
    /// The entries that recovery handed out.
    entries: BTreeMap<u64, Bytes>,
    durable: Position,
}

impl Driver {
    fn start(
        directory: &Path,
        method: FlushMethod,
        fault: Option<Fault>,
    ) -> Result<Self, DeviceError> {
        let mut source = DirectorySource::open(directory)?;
        assert!(source.has_marks());
        let mut entries = BTreeMap::new();
        let recovered = recover(&mut source, &IDENTITY, SEAL, &mut |event| {
            replay(&mut entries, &event)
        })
        .expect("a crash damages nothing that was acknowledged");
        let buffers = options().new_buffers();
        let mut ring = Ring::new(
            RingOptions {
                fault,
                ..RingOptions::new(method)
            },
            &buffers,
        )?;
        ring.add_file(FileRef::Mark, open_marks(directory)?)?;
        for entry in fs::read_dir(directory).expect("it is there") {
            let path = entry.expect("it can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str());
            let length = fs::metadata(&path).expect("it is there").len();
            let is_ready = length == options().segment_bytes;
            if let (Some(number), true) = (name.and_then(segment_number), is_ready) {
                ring.add_file(FileRef::Segment(number), open_segment(&path)?)?;
            }
        }
        let log = Log::new(options(), recovered.start.clone(), buffers);
        let directory = directory.to_owned();
        let durable = Position(0);
        let mut driver = Self {
            directory,
            log,
            ring,
            recovered,
            entries,
            durable,
        };
        driver.settle()?;
        Ok(driver)
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
            let mut completions = Vec::new();
            self.ring.wait(&mut completions)?;
            for Completion {
                ticket,
                file,
                buffer,
            } in completions
            {
                match file {
                    FileRef::Segment(_) => {
                        self.durable = self.log.on_written(ticket, buffer).unwrap_or(self.durable);
                    }
                    FileRef::Mark => self.log.on_mark_written(ticket, buffer),
                }
            }
        }
    }

    fn carry_out(&mut self, effect: LogEffect) -> Result<(), DeviceError> {
        match effect {
            LogEffect::Write {
                ticket,
                file,
                offset,
                buffer,
            } => {
                self.ring
                    .submit_write(ticket, FileRef::Segment(file), offset, buffer);
            }
            LogEffect::WriteMark {
                ticket,
                slot,
                buffer,
            } => {
                self.ring
                    .submit_write(ticket, FileRef::Mark, slot.offset(), buffer);
            }
            LogEffect::PrepareSegment { file, bytes } => {
                let opened = prepare_segment(&self.directory, file, bytes, &Pace::unlimited())?;
                self.ring.add_file(FileRef::Segment(file), opened)?;
                self.log.on_segment_prepared(file);
            }
            LogEffect::RemoveSegment { file } => {
                self.ring.remove_file(FileRef::Segment(file))?;
                remove_segment(&self.directory, file)?;
                self.log.on_segment_removed(file);
            }
        }
        Ok(())
    }

    /// Makes one entry durable.
    fn append(&mut self, index: u64) -> Result<(), DeviceError> {
        let entry = Entry {
            term: Term(2),
            kind: EntryKind::Normal,
            data: data(index),
        };
        let first_index = LogIndex(index);
        self.stage(
            index - 1,
            PartBody::Append {
                first_index,
                entries: vec![entry],
            },
        )
    }

    /// Makes a snapshot's point durable, and lets the entries that it covers go.
    fn snapshot(&mut self, index: u64) -> Result<(), DeviceError> {
        let members = Bytes::from_static(b"members");
        let body = PartBody::Snapshot {
            index: LogIndex(index),
            term: Term(2),
            members,
        };
        self.stage(index, body)?;
        self.log.set_first_index(REPLICA, LogIndex(index + 1));
        self.settle()
    }

    fn stage(&mut self, commit: u64, body: PartBody) -> Result<(), DeviceError> {
        let hard_state = HardState {
            term: Term(2),
            vote: REPLICA,
            commit: LogIndex(commit),
        };
        let part = Part {
            replica: REPLICA,
            shard: ShardId(3),
            hard_state,
            body,
        };
        let position = self.log.stage(part);
        self.settle()?;
        assert_eq!(self.durable, position, "what is written is acknowledged");
        Ok(())
    }
}

fn replay(entries: &mut BTreeMap<u64, Bytes>, event: &ReplayEvent<'_>) {
    if let ReplayEvent::Append {
        first_index,
        entries: appended,
        ..
    } = event
    {
        let _replaced = entries.split_off(&first_index.0);
        let appended = appended
            .clone()
            .map(|entry| Bytes::copy_from_slice(entry.data));
        entries.extend((first_index.0..).zip(appended));
    }
}

/// Up to three blocks, so that records differ in length.
fn data(index: u64) -> Bytes {
    let length = usize::try_from(index * 2_801 % 11_000).expect("it is small");
    let [low_byte, ..] = index.to_le_bytes();
    let mut data = vec![low_byte; length];
    data.extend_from_slice(&index.to_le_bytes());
    data.into()
}

fn expected(indexes: std::ops::RangeInclusive<u64>) -> BTreeMap<u64, Bytes> {
    indexes.map(|index| (index, data(index))).collect()
}

#[test]
fn what_was_acknowledged_is_there_after_each_restart() {
    for method in BOTH {
        let directory = Directory::new(&format!("each_restart-{method:?}"));
        for restart in 0..4 {
            let mut driver = Driver::start(&directory.0, method, None).expect("it starts");
            let last = restart * 5;
            assert_eq!(driver.entries, expected(1..=last));
            assert_eq!(driver.recovered.torn, None);
            for index in last + 1..=last + 5 {
                driver.append(index).expect("nothing fails");
            }
        }
    }
}

#[test]
fn files_are_used_again_and_the_log_keeps_its_size() {
    for method in BOTH {
        let directory = Directory::new(&format!("used_again-{method:?}"));
        let mut index = 0;
        for _restart in 0..3 {
            let mut driver = Driver::start(&directory.0, method, None).expect("it starts");
            for _snapshot in 0..10 {
                for _append in 0..6 {
                    index += 1;
                    driver.append(index).expect("nothing fails");
                }
                driver.snapshot(index).expect("nothing fails");
                driver.log.on_idle();
                driver.settle().expect("nothing fails");
            }
            let files = fs::read_dir(&directory.0).expect("it is there").count();
            assert!(files <= 10, "{files} files for a log of a few records");
        }
        let driver = Driver::start(&directory.0, method, None).expect("it starts");
        let replica = &driver.recovered.replicas[0];
        let indexes = (replica.snapshot.index, replica.last_index);
        assert_eq!(indexes, (LogIndex(index), LogIndex(index)));
    }
}

/// The disk fails at the n-th write, for every n that a short life has: before the write, in the middle of it, or at
/// the flush after it. The process halts and starts again. What was acknowledged is there; beyond it there may be the
/// one entry that was under way, whole or not at all.
#[test]
fn whatever_write_fails_nothing_acknowledged_is_lost() {
    let failure = DiskFailure::InputOutput;
    for method in BOTH {
        for nth in 1..=10 {
            let faults = [
                Fault::FailWrite { nth, failure },
                Fault::TornWrite {
                    nth,
                    bytes: 4096,
                    failure,
                },
                Fault::TornWrite {
                    nth,
                    bytes: usize::MAX,
                    failure,
                },
                Fault::ShortWrite { nth, bytes: 0 },
                Fault::FailSync { nth, failure },
            ];
            let count = match method {
                FlushMethod::Dsync => 4,
                FlushMethod::WriteThenSync => 5,
            };
            for fault in faults.into_iter().take(count) {
                halt_and_start_again(method, fault);
            }
        }
    }
}

fn halt_and_start_again(method: FlushMethod, fault: Fault) {
    let directory = Directory::new(&format!("whatever_write_fails-{method:?}"));
    let acknowledged = live_until_failure(&directory.0, method, fault);
    let mut driver = Driver::start(&directory.0, method, None).expect("it starts again");
    let last = driver.entries.len() as u64;
    assert!(
        (acknowledged..=acknowledged + 1).contains(&last),
        "{fault:?}: {acknowledged} acknowledged, {last} recovered"
    );
    assert_eq!(driver.entries, expected(1..=last), "{fault:?}");
    driver.append(last + 1).expect("it goes on");
    drop(driver);
    let driver = Driver::start(&directory.0, method, None).expect("it starts once more");
    assert_eq!(driver.entries, expected(1..=last + 1), "{fault:?}");
}

/// Appends until the disk fails: the index of the last entry that was acknowledged.
fn live_until_failure(directory: &Path, method: FlushMethod, fault: Fault) -> u64 {
    let Ok(mut driver) = Driver::start(directory, method, Some(fault)) else {
        return 0;
    };
    for index in 1..=20 {
        if driver.append(index).is_err() {
            return index - 1;
        }
    }
    panic!("{fault:?} never came");
}

/// A crash while a segment was being prepared leaves a file that is too short. Nothing was ever written into it.
#[test]
fn a_half_prepared_segment_does_not_hold_up_the_start() {
    let directory = Directory::new("half_prepared");
    let mut driver = Driver::start(&directory.0, FlushMethod::Dsync, None).expect("it starts");
    driver.append(1).expect("nothing fails");
    drop(driver);
    let half = segment_path(&directory.0, FileNumber(1_000));
    fs::write(&half, vec![0; 3 * 4096 + 17]).expect("it can be written");
    let mut driver = Driver::start(&directory.0, FlushMethod::Dsync, None).expect("it starts");
    assert_eq!(driver.entries, expected(1..=1));
    assert!(!half.exists(), "it is removed");
    driver.append(2).expect("nothing fails");
}
