use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::probe::register_error;
use super::*;
use crate::format::{BLOCK_BYTES, MarkSlot, MarkState};
use crate::recovery::{Decision, Recovered, SegmentSource, recover};
use crate::testing::{IDENTITY, Model, append, entry, small_options, snapshot};
use crate::{
    FileNumber, Log, LogBuffer, LogEffect, LogOptions, LogStart, Part, Position, RecordSequence,
    Ticket,
};

/// A directory beside the test's executable, because the one for temporary files may lie in memory.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let executable = std::env::current_exe().unwrap();
        let path = executable
            .parent()
            .unwrap()
            .join(format!("wal-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// What a server does with a log, without the server.
struct Driver {
    log: Log,
    ring: Ring,
    directory: PathBuf,
    durable: Position,
}

impl Driver {
    fn format(directory: &Path, ring_options: RingOptions) -> Self {
        create_mark_file(directory).unwrap();
        Self::start(directory, LogStart::empty(), ring_options, small_options())
    }

    fn start(
        directory: &Path,
        start: LogStart,
        ring_options: RingOptions,
        log_options: LogOptions,
    ) -> Self {
        let mut buffers = log_options.new_buffers();
        let ring = Ring::new(ring_options, &mut buffers).unwrap();
        let log = Log::new(log_options, start, buffers);
        Self {
            log,
            ring,
            directory: directory.to_owned(),
            durable: Position(0),
        }
    }

    fn settle(&mut self) -> Result<(), DeviceError> {
        loop {
            while let Some(effect) = self.log.next_effect() {
                self.carry_out(effect)?;
            }
            if self.ring.in_flight() == 0 {
                return Ok(());
            }
            let mut completions = Vec::new();
            self.ring.wait(&mut completions)?;
            for completion in completions {
                // Marks have the buffer after those of the records.
                if completion.buffer.capacity() == BLOCK_BYTES {
                    self.log
                        .on_mark_written(completion.ticket, completion.buffer);
                } else if let Some(position) =
                    self.log.on_written(completion.ticket, completion.buffer)
                {
                    self.durable = position;
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
            } => self.ring.submit_write(ticket, file, offset, buffer)?,
            LogEffect::WriteMark {
                ticket,
                slot,
                buffer,
            } => self.ring.submit_mark(ticket, slot, buffer)?,
            LogEffect::PrepareSegment { file, bytes } => {
                prepare_segment(&self.directory, file, bytes, &mut |_| {})?;
                self.log.on_segment_prepared(file);
            }
            LogEffect::RemoveSegment { file } => {
                self.ring.forget_segment(file)?;
                remove_segment(&self.directory, file)?;
                self.log.on_segment_removed(file);
            }
        }
        Ok(())
    }

    fn write(&mut self, part: Part) -> Result<(), DeviceError> {
        let position = self.log.stage(part);
        self.settle()?;
        assert_eq!(self.durable, position);
        Ok(())
    }
}

fn read_back(directory: &Path) -> (Recovered, Model) {
    let mut source = DirectorySource::open(directory).unwrap();
    let mut model = Model::default();
    let recovered = recover(&mut source, &IDENTITY, &mut |event| model.on_event(&event)).unwrap();
    (recovered, model)
}

fn with_faults(directory: &Path, flush_method: FlushMethod, faults: Vec<Fault>) -> RingOptions {
    RingOptions {
        flush_method,
        faults: Faults::planned(faults),
        ..RingOptions::new(directory)
    }
}

/// Several segments with a snapshot between them, so that files are released and used again.
fn fill(driver: &mut Driver) {
    for index in 1..=40 {
        driver
            .write(append(1, 1, index - 1, index, vec![entry(1, b'x', 6000)]))
            .unwrap();
        if index % 10 == 0 {
            driver
                .write(append(1, 1, index, index + 1, vec![]))
                .unwrap();
            driver.write(snapshot(1, 1, index)).unwrap();
            driver
                .log
                .set_first_index(crate::ReplicaId(1), crate::LogIndex(index + 1));
        }
    }
    driver.log.on_idle();
    driver.settle().unwrap();
}

#[test]
fn a_log_written_by_either_method_is_read_back() {
    for (name, flush_method) in [
        ("dsync", FlushMethod::Dsync),
        ("sync", FlushMethod::WriteThenSync),
    ] {
        let directory = Directory::new(name);
        let options = RingOptions {
            flush_method,
            ..RingOptions::new(&directory.0)
        };
        let mut driver = Driver::format(&directory.0, options);
        fill(&mut driver);
        let counters = driver.ring.counters();
        let status = driver.log.status();
        assert_eq!(counters.writes, status.durable_writes + status.marks);
        assert_eq!(
            counters.syncs > 0,
            flush_method == FlushMethod::WriteThenSync
        );
        assert!(
            status.segments_live < 4,
            "segments are released: {status:?}"
        );
        drop(driver);
        let (recovered, model) = read_back(&directory.0);
        assert_eq!(recovered.decision, Decision::Clean);
        assert_eq!(recovered.watermark, recovered.last_record);
        assert!(
            recovered
                .marks
                .iter()
                .all(|mark| matches!(mark, MarkState::Valid(_)))
        );
        assert_eq!(model.replicas.len(), 1);
        assert_eq!(recovered.replicas[0].last_index, crate::LogIndex(40));

        let options = RingOptions {
            flush_method,
            ..RingOptions::new(&directory.0)
        };
        let mut driver = Driver::start(&directory.0, recovered.start, options, small_options());
        driver
            .write(append(1, 2, 40, 41, vec![entry(2, b'y', 1)]))
            .unwrap();
        drop(driver);
        let (recovered, model) = read_back(&directory.0);
        assert_eq!(recovered.decision, Decision::Clean);
        assert_eq!(
            model.replicas[&crate::ReplicaId(1)].entries[&41],
            entry(2, b'y', 1)
        );
    }
}

#[test]
fn a_short_write_is_completed_before_it_counts() {
    for (name, flush_method) in [
        ("short-dsync", FlushMethod::Dsync),
        ("short-sync", FlushMethod::WriteThenSync),
    ] {
        let directory = Directory::new(name);
        // The first write is the checkpoint, the second the record of three blocks.
        let faults = vec![Fault::ShortWrite {
            write: 2,
            bytes: BLOCK_BYTES as u32,
        }];
        let mut driver = Driver::format(
            &directory.0,
            with_faults(&directory.0, flush_method, faults),
        );
        driver
            .write(append(1, 1, 0, 1, vec![entry(1, b'x', 9000)]))
            .unwrap();
        assert_eq!(driver.ring.counters().short_writes, 1);
        drop(driver);
        let (recovered, model) = read_back(&directory.0);
        assert_eq!(recovered.decision, Decision::Clean);
        assert_eq!(
            model.replicas[&crate::ReplicaId(1)].entries[&1],
            entry(1, b'x', 9000)
        );
    }
}

#[test]
fn a_failing_device_acknowledges_nothing() {
    let io_error = Fault::WriteError {
        write: 2,
        errno: libc::EIO,
    };
    let no_space = Fault::WriteError {
        write: 2,
        errno: libc::ENOSPC,
    };
    let nothing_written = Fault::ShortWrite { write: 2, bytes: 0 };
    let less_than_a_block = Fault::ShortWrite {
        write: 2,
        bytes: 512,
    };
    for (index, fault) in [io_error, no_space, nothing_written, less_than_a_block]
        .into_iter()
        .enumerate()
    {
        for flush_method in [FlushMethod::Dsync, FlushMethod::WriteThenSync] {
            let directory = Directory::new(&format!("fail-{index}-{flush_method:?}"));
            let mut driver = Driver::format(
                &directory.0,
                with_faults(&directory.0, flush_method, vec![fault]),
            );
            let error = driver
                .write(append(1, 1, 0, 1, vec![entry(1, b'x', 9000)]))
                .unwrap_err();
            assert!(
                matches!(error, DeviceError::Write { offset: 4096, .. }),
                "{error:?}"
            );
            assert_eq!(driver.durable, Position(0));
        }
    }
}

#[test]
fn a_failing_flush_acknowledges_nothing() {
    let directory = Directory::new("fail-sync");
    let faults = vec![Fault::SyncError {
        sync: 2,
        errno: libc::EIO,
    }];
    let options = with_faults(&directory.0, FlushMethod::WriteThenSync, faults);
    let mut driver = Driver::format(&directory.0, options);
    let error = driver
        .write(append(1, 1, 0, 1, vec![entry(1, b'x', 10)]))
        .unwrap_err();
    assert!(matches!(error, DeviceError::Flush { .. }), "{error:?}");
    assert_eq!(driver.durable, Position(0));
}

#[test]
fn each_completion_sends_a_byte_to_the_executor() {
    let directory = Directory::new("wake");
    create_mark_file(&directory.0).unwrap();
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let mut buffers = vec![LogBuffer::new(0, BLOCK_BYTES)];
    let options = RingOptions {
        wake: Some(OwnedFd::from(writer)),
        ..RingOptions::new(&directory.0)
    };
    let mut ring = Ring::new(options, &mut buffers).unwrap();
    let mut buffer = buffers.pop().unwrap();
    buffer.extend_with_zeros(BLOCK_BYTES);
    ring.submit_mark(Ticket(9), MarkSlot::Second, buffer)
        .unwrap();
    let mut bytes = [0; 1];
    reader.read_exact(&mut bytes).unwrap();
    let mut completions = Vec::new();
    ring.reap(&mut completions).unwrap();
    assert_eq!(completions.len(), 1);
    assert_eq!(completions[0].ticket, Ticket(9));
}

#[test]
fn a_ring_can_be_dropped_while_the_kernel_reads_its_buffers() {
    let directory = Directory::new("drop");
    let bytes = 64 * BLOCK_BYTES;
    drop(prepare_segment(&directory.0, FileNumber(1), 8 * bytes as u64, &mut |_| {}).unwrap());
    for flush_method in [FlushMethod::Dsync, FlushMethod::WriteThenSync] {
        let mut buffers: Vec<LogBuffer> =
            (0..8).map(|number| LogBuffer::new(number, bytes)).collect();
        let options = RingOptions {
            flush_method,
            ..RingOptions::new(&directory.0)
        };
        let mut ring = Ring::new(options, &mut buffers).unwrap();
        for mut buffer in buffers {
            buffer.extend_from_slice(&vec![7; bytes]);
            let offset = u64::from(buffer.number()) * bytes as u64;
            ring.submit_write(Ticket(offset), FileNumber(1), offset, buffer)
                .unwrap();
        }
        drop(ring);
        let mut read = vec![0; 8 * bytes];
        File::open(segment_path(&directory.0, FileNumber(1)))
            .unwrap()
            .read_exact_at(&mut read, 0)
            .unwrap();
        assert!(read.iter().all(|&byte| byte == 7));
    }
}

#[test]
fn writes_to_more_files_than_the_table_holds_all_arrive() {
    let directory = Directory::new("files");
    let mut buffers = vec![LogBuffer::new(0, BLOCK_BYTES)];
    let mut ring = Ring::new(RingOptions::new(&directory.0), &mut buffers).unwrap();
    let mut buffer = buffers.pop().unwrap();
    for number in 1..=70 {
        drop(
            prepare_segment(
                &directory.0,
                FileNumber(number),
                BLOCK_BYTES as u64,
                &mut |_| {},
            )
            .unwrap(),
        );
        buffer.clear();
        buffer.extend_from_slice(&[number as u8; BLOCK_BYTES]);
        ring.submit_write(Ticket(number), FileNumber(number), 0, buffer)
            .unwrap();
        let mut completions = Vec::new();
        while completions.is_empty() {
            ring.wait(&mut completions).unwrap();
        }
        buffer = completions.pop().unwrap().buffer;
    }
    ring.forget_segment(FileNumber(70)).unwrap();
    for number in 1..=70 {
        let bytes = std::fs::read(segment_path(&directory.0, FileNumber(number))).unwrap();
        assert!(bytes.iter().all(|&byte| byte == number as u8));
    }
}

#[test]
fn a_segment_is_prepared_in_full_whatever_was_left_of_it() {
    let directory = Directory::new("prepare");
    let path = segment_path(&directory.0, FileNumber(3));
    std::fs::write(&path, vec![9; 5000]).unwrap();
    let bytes = 300 * 1024;
    let mut paced = Vec::new();
    drop(
        prepare_segment(&directory.0, FileNumber(3), bytes, &mut |written| {
            paced.push(written)
        })
        .unwrap(),
    );
    assert_eq!(paced, [256 * 1024, bytes]);
    assert_eq!(std::fs::read(&path).unwrap(), vec![0; 300 * 1024]);
    remove_segment(&directory.0, FileNumber(3)).unwrap();
    remove_segment(&directory.0, FileNumber(3)).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_segment_with_records_is_never_filled_with_zeros() {
    let directory = Directory::new("in-use");
    let mut driver = Driver::format(&directory.0, RingOptions::new(&directory.0));
    driver
        .write(append(1, 1, 0, 1, vec![entry(1, b'x', 10)]))
        .unwrap();
    let error = prepare_segment(&directory.0, FileNumber(1), 8192, &mut |_| {}).unwrap_err();
    assert!(
        matches!(
            error,
            DeviceError::FileInUse {
                file: FileNumber(1)
            }
        ),
        "{error:?}"
    );
    assert_eq!(read_back(&directory.0).0.last_record, RecordSequence(2));
}

#[test]
fn what_cannot_be_prepared_leaves_nothing_behind() {
    let directory = Directory::new("no-directory");
    let missing = directory.0.join("missing");
    let error = prepare_segment(&missing, FileNumber(1), 8192, &mut |_| {}).unwrap_err();
    assert!(
        matches!(
            error,
            DeviceError::Prepare {
                file: FileNumber(1),
                ..
            }
        ),
        "{error:?}"
    );
    let error = DirectorySource::open(&missing).unwrap_err();
    assert!(matches!(error, DeviceError::Path { .. }), "{error:?}");
}

#[test]
fn only_segments_and_marks_are_read() {
    let directory = Directory::new("strangers");
    for name in [
        "log-01.seg",
        "log-.seg",
        "log-x.seg",
        "notes",
        "log-1.seg.bak",
    ] {
        std::fs::write(directory.0.join(name), b"not ours").unwrap();
    }
    let mut source = DirectorySource::open(&directory.0).unwrap();
    assert!(source.files().unwrap().is_empty());
    assert_eq!(source.marks().unwrap(), [None, None]);
    let error = source.read(FileNumber(1), 4096, &mut [0; 1]).unwrap_err();
    assert!(
        matches!(
            error,
            DeviceError::Read {
                file: FileNumber(1),
                offset: 4096,
                ..
            }
        ),
        "{error:?}"
    );
    create_mark_file(&directory.0).unwrap();
    assert!(
        create_mark_file(&directory.0).is_err(),
        "a mark file is created once"
    );
    let marks = DirectorySource::open(&directory.0)
        .unwrap()
        .marks()
        .unwrap();
    assert!(marks.iter().all(|mark| {
        mark.as_ref()
            .is_some_and(|block| block.iter().all(|&byte| byte == 0))
    }));
}

#[test]
fn a_directory_on_a_disk_is_accepted_and_one_in_memory_is_not() {
    let directory = Directory::new("check");
    let facts = check_directory(&directory.0).unwrap();
    assert!(facts.offset_alignment_bytes <= 4096);
    assert_eq!(
        std::fs::read_dir(&directory.0).unwrap().count(),
        0,
        "the probe leaves nothing"
    );
    let memory = Path::new("/dev/shm");
    if std::fs::read_to_string("/proc/mounts")
        .unwrap()
        .contains("tmpfs /dev/shm ")
    {
        let error = check_directory(memory).unwrap_err();
        assert!(
            matches!(
                error,
                DeviceError::FileSystemInMemory {
                    file_system: "tmpfs",
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn the_probes_answer_and_leave_nothing_behind() {
    let directory = Directory::new("probe");
    probe_io_uring(1024 * 1024).unwrap();
    let (method, timings) = probe_flush_method(&directory.0).unwrap();
    assert_eq!(
        method == FlushMethod::Dsync,
        timings.dsync <= timings.write_then_sync
    );
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 0);
}

#[test]
fn too_little_lockable_memory_is_named_as_such() {
    let error = register_error(io::Error::from_raw_os_error(libc::ENOMEM), 4096);
    assert!(
        matches!(
            error,
            DeviceError::LockedMemory {
                needed_bytes: 4096,
                ..
            }
        ),
        "{error:?}"
    );
    let error = register_error(io::Error::from_raw_os_error(libc::EFAULT), 4096);
    assert!(matches!(error, DeviceError::Ring { .. }), "{error:?}");
}
