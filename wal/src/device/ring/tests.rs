use std::fs;
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::fault::DiskFailure;
use super::super::test_directory::TestDirectory;
use super::super::{Pace, create_marks, mark_path, open_segment, prepare_segment, segment_path};
use super::*;
use crate::ids::FileNumber;

const SEGMENT_BYTES: usize = 1024 * 1024;
const BUFFER_BYTES: usize = 16 * BLOCK_BYTES;
const SEGMENT: FileRef = FileRef::Segment(FileNumber(1));
const BOTH: [FlushMethod; 2] = [FlushMethod::Dsync, FlushMethod::WriteThenSync];

/// A ring over one segment and the marks, with four buffers.
struct Bench {
    ring: Ring,
    buffers: Vec<LogBuffer>,
    segment: PathBuf,
    directory: TestDirectory,
}

impl Bench {
    fn new(name: &str, options: RingOptions) -> Self {
        let name = format!("{name}-{:?}", options.flush_method);
        let directory = TestDirectory::new(&name);
        let buffers: Vec<_> = (0..4)
            .map(|number| LogBuffer::new(number, BUFFER_BYTES))
            .collect();
        let mut ring = Ring::new(options, &buffers).expect("a ring can be built");
        let file = prepare_segment(
            directory.path(),
            FileNumber(1),
            SEGMENT_BYTES as u64,
            &Pace::unlimited(),
        );
        ring.add_file(SEGMENT, file.expect("a segment can be prepared"))
            .expect("the table has room");
        let marks = create_marks(directory.path()).expect("marks can be made");
        ring.add_file(FileRef::Mark, marks)
            .expect("the table has room");
        let segment = segment_path(directory.path(), FileNumber(1));
        Self {
            ring,
            buffers,
            segment,
            directory,
        }
    }

    /// Queues a write of so many blocks of `byte`.
    fn write(&mut self, ticket: u64, file: FileRef, block: usize, blocks: usize, byte: u8) {
        let mut buffer = self.buffers.pop().expect("a buffer is free");
        buffer.clear();
        buffer.extend_from_slice(&vec![byte; blocks * BLOCK_BYTES]);
        self.ring
            .submit_write(Ticket(ticket), file, (block * BLOCK_BYTES) as u64, buffer);
    }

    /// Waits until everything is durable: the tickets, in order of completion.
    fn finish(&mut self) -> Result<Vec<u64>, DeviceError> {
        let mut completions = Vec::new();
        while self.ring.status().in_flight > 0 {
            self.ring.wait(&mut completions)?;
        }
        let tickets = completions
            .iter()
            .map(|completion| completion.ticket.0)
            .collect();
        self.buffers
            .extend(completions.into_iter().map(|completion| completion.buffer));
        Ok(tickets)
    }

    /// The first bytes of each block of the segment.
    fn blocks(&self) -> Vec<u8> {
        let content = fs::read(&self.segment).expect("the segment can be read");
        let block_value = |block: &[u8]| {
            assert!(
                block.iter().all(|&byte| byte == block[0]),
                "a block is written whole"
            );
            block[0]
        };
        content.chunks(BLOCK_BYTES).map(block_value).collect()
    }
}

/// Reads what has arrived, at least one byte. The kernel interrupts a blocked call of this thread to deliver a completion.
fn read_woken(woken: &mut UnixStream) -> usize {
    loop {
        match woken.read(&mut [0; 64]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.expect("a byte arrives"),
        }
    }
}

#[test]
fn what_completes_is_in_the_file() {
    for method in BOTH {
        let mut bench = Bench::new("what_completes", RingOptions::new(method));
        bench.write(1, SEGMENT, 0, 2, 0xa1);
        bench.write(2, SEGMENT, 2, 16, 0xa2);
        bench.write(3, FileRef::Mark, 1, 1, 0xa3);
        bench.ring.submit().expect("the kernel takes it");
        let mut tickets = bench.finish().expect("nothing fails");
        tickets.sort_unstable();
        assert_eq!(tickets, [1, 2, 3]);
        assert_eq!(bench.buffers.len(), 4, "every buffer came back");
        let blocks = bench.blocks();
        assert_eq!(
            (&blocks[..2], &blocks[2..18], blocks[18]),
            (&[0xa1; 2][..], &[0xa2; 16][..], 0)
        );
        let marks = fs::read(mark_path(bench.directory.path())).expect("the marks can be read");
        assert_eq!((marks[4095], marks[4096], marks.len()), (0, 0xa3, 8192));
        let status = bench.ring.status();
        assert_eq!(
            (status.writes, status.write_bytes, status.short_writes),
            (3, 19 * 4096, 0)
        );
        match method {
            FlushMethod::Dsync => assert_eq!(status.syncs, 0),
            FlushMethod::WriteThenSync => assert!(
                (2..=3).contains(&status.syncs),
                "one for each file at least"
            ),
        }
    }
}

#[test]
fn buffers_are_used_again_and_again() {
    for method in BOTH {
        let mut bench = Bench::new("buffers_are_used_again", RingOptions::new(method));
        let mut expected = vec![0; SEGMENT_BYTES / BLOCK_BYTES];
        let mut block = 0;
        for round in 0..24 {
            for position in 0..4 {
                let blocks = 1 + (round + position) % 4;
                let byte = u8::try_from(1 + round * 4 + position).expect("the rounds are few");
                bench.write(u64::from(byte), SEGMENT, block, blocks, byte);
                expected[block..block + blocks].fill(byte);
                block += blocks;
            }
            assert_eq!(bench.finish().expect("nothing fails").len(), 4);
        }
        assert_eq!(bench.blocks(), expected);
    }
}

#[test]
fn a_byte_arrives_when_there_is_something_to_do() {
    for method in BOTH {
        let (wake, mut woken) = UnixStream::pair().expect("a pair can be made");
        woken
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("it can be set");
        let options = RingOptions {
            wake: Some(wake.into()),
            ..RingOptions::new(method)
        };
        let mut bench = Bench::new("a_byte_arrives", options);
        for ticket in 1..=20 {
            bench.write(ticket, SEGMENT, 0, 1, 7);
            bench.ring.submit().expect("the kernel takes it");
            let mut completions = Vec::new();
            let mut steps = 0;
            while completions.is_empty() {
                let read = read_woken(&mut woken);
                assert!(read > 0, "the ring keeps its end open");
                bench.ring.reap(&mut completions).expect("nothing fails");
                steps += 1;
            }
            let expected = match method {
                FlushMethod::Dsync => 1,
                FlushMethod::WriteThenSync => 2,
            };
            assert_eq!(
                (completions[0].ticket, completions[0].file, steps),
                (Ticket(ticket), SEGMENT, expected)
            );
            bench
                .buffers
                .extend(completions.into_iter().map(|completion| completion.buffer));
        }
        woken.set_nonblocking(true).expect("it can be set");
        let error = woken.read(&mut [0]).expect_err("no byte is left");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_full_wake_socket_does_not_matter() {
    let (mut wake, mut woken) = UnixStream::pair().expect("a pair can be made");
    wake.set_nonblocking(true).expect("it can be set");
    while wake.write(&[0; 4096]).is_ok() {}
    while wake.write(&[0]).is_ok() {}
    wake.set_nonblocking(false).expect("it can be set");
    let options = RingOptions {
        wake: Some(wake.into()),
        ..RingOptions::new(FlushMethod::Dsync)
    };
    let mut bench = Bench::new("a_full_wake_socket", options);
    bench.write(1, SEGMENT, 0, 1, 1);
    assert_eq!(bench.finish(), Ok(vec![1]));
    assert!(woken.read(&mut [0]).expect("there is something to read") > 0);
}

#[test]
fn a_wake_that_nobody_can_receive_is_an_error() {
    let (wake, woken) = UnixStream::pair().expect("a pair can be made");
    let options = RingOptions {
        wake: Some(wake.into()),
        ..RingOptions::new(FlushMethod::WriteThenSync)
    };
    let mut bench = Bench::new("a_wake_that_nobody", options);
    drop(woken);
    bench.write(1, SEGMENT, 0, 1, 1);
    assert_eq!(
        bench.finish(),
        Err(DeviceError::Wake {
            errno: Errno(libc::EPIPE)
        })
    );
}

#[test]
fn a_failed_write_is_final_and_wakes() {
    for method in BOTH {
        for (failure, errno) in [
            (DiskFailure::InputOutput, libc::EIO),
            (DiskFailure::NoSpace, libc::ENOSPC),
        ] {
            let (wake, mut woken) = UnixStream::pair().expect("a pair can be made");
            woken
                .set_read_timeout(Some(Duration::from_secs(10)))
                .expect("it can be set");
            let fault = Some(Fault::FailWrite { nth: 2, failure });
            let options = RingOptions {
                wake: Some(wake.into()),
                fault,
                ..RingOptions::new(method)
            };
            let mut bench = Bench::new("a_failed_write", options);
            bench.write(1, SEGMENT, 0, 1, 1);
            assert_eq!(bench.finish(), Ok(vec![1]));
            assert!(read_woken(&mut woken) > 0);
            bench.write(2, SEGMENT, 1, 3, 2);
            bench.ring.submit().expect("the kernel takes it");
            assert!(read_woken(&mut woken) > 0);
            let expected = DeviceError::Write {
                file: SEGMENT,
                offset: 4096,
                bytes: 3 * 4096,
                errno: Errno(errno),
            };
            let mut completions = Vec::new();
            assert_eq!(bench.ring.wait(&mut completions), Err(expected.clone()));
            assert_eq!(bench.ring.reap(&mut completions), Err(expected.clone()));
            assert_eq!(bench.ring.submit(), Err(expected));
            assert!(completions.is_empty(), "what failed never completes");
            assert_eq!(bench.blocks()[..4], [1, 0, 0, 0]);
        }
    }
}

#[test]
fn a_torn_write_leaves_a_part() {
    for method in BOTH {
        let fault = Some(Fault::TornWrite {
            nth: 1,
            bytes: 10_000,
            failure: DiskFailure::InputOutput,
        });
        let mut bench = Bench::new(
            "a_torn_write",
            RingOptions {
                fault,
                ..RingOptions::new(method)
            },
        );
        bench.write(1, SEGMENT, 0, 4, 1);
        let expected = DeviceError::Write {
            file: SEGMENT,
            offset: 0,
            bytes: 4 * 4096,
            errno: Errno(libc::EIO),
        };
        assert_eq!(bench.finish(), Err(expected));
        assert_eq!(bench.blocks()[..4], [1, 1, 0, 0]);
    }
}

#[test]
#[should_panic(expected = "nothing is written after a failure")]
fn nothing_is_written_after_a_failure() {
    let fault = Some(Fault::FailWrite {
        nth: 1,
        failure: DiskFailure::InputOutput,
    });
    let mut bench = Bench::new(
        "nothing_is_written_after",
        RingOptions {
            fault,
            ..RingOptions::new(FlushMethod::Dsync)
        },
    );
    bench.write(1, SEGMENT, 0, 1, 1);
    bench.finish().expect_err("the first write fails");
    bench.write(2, SEGMENT, 1, 1, 2);
}

#[test]
fn a_short_write_is_continued_at_a_block() {
    for method in BOTH {
        for bytes in [4096, 5000, 9 * 4096 + 512, 16 * 4096 - 1] {
            let fault = Some(Fault::ShortWrite { nth: 1, bytes });
            let mut bench = Bench::new(
                "a_short_write_is_continued",
                RingOptions {
                    fault,
                    ..RingOptions::new(method)
                },
            );
            bench.write(1, SEGMENT, 3, 16, 9);
            bench.write(2, SEGMENT, 19, 1, 8);
            let mut tickets = bench.finish().expect("nothing fails");
            tickets.sort_unstable();
            assert_eq!(tickets, [1, 2]);
            assert_eq!(bench.ring.status().short_writes, 1);
            let blocks = bench.blocks();
            assert_eq!(
                (blocks[2], &blocks[3..19], blocks[19], blocks[20]),
                (0, &[9; 16][..], 8, 0)
            );
        }
    }
}

#[test]
fn a_write_that_gets_no_further_is_an_error() {
    for method in BOTH {
        for bytes in [0, 4095] {
            let fault = Some(Fault::ShortWrite { nth: 1, bytes });
            let mut bench = Bench::new(
                "a_write_that_gets_no_further",
                RingOptions {
                    fault,
                    ..RingOptions::new(method)
                },
            );
            bench.write(1, SEGMENT, 3, 16, 9);
            let expected = DeviceError::ShortWrite {
                file: SEGMENT,
                offset: 3 * 4096,
                bytes: BUFFER_BYTES,
                written_bytes: bytes,
            };
            assert_eq!(bench.finish(), Err(expected));
        }
    }
}

#[test]
fn a_failed_flush_is_final() {
    let fault = Some(Fault::FailSync {
        nth: 2,
        failure: DiskFailure::InputOutput,
    });
    let mut bench = Bench::new(
        "a_failed_flush",
        RingOptions {
            fault,
            ..RingOptions::new(FlushMethod::WriteThenSync)
        },
    );
    bench.write(1, SEGMENT, 0, 1, 1);
    assert_eq!(bench.finish(), Ok(vec![1]));
    bench.write(2, FileRef::Mark, 0, 1, 2);
    let expected = DeviceError::Sync {
        file: FileRef::Mark,
        errno: Errno(libc::EIO),
    };
    assert_eq!(bench.finish(), Err(expected.clone()));
    assert_eq!(
        bench.finish(),
        Err(expected),
        "a second flush would succeed, though the first one's data may be lost"
    );
}

/// A flush was submitted for A, and B is written while it is under way: B may have arrived after the flush had passed.
#[test]
fn a_flush_does_not_cover_a_write_that_completes_after_its_submission() {
    let mut bench = Bench::new(
        "a_flush_does_not_cover",
        RingOptions::new(FlushMethod::WriteThenSync),
    );
    let mut completions = Vec::new();
    bench.write(1, SEGMENT, 0, 1, 1);
    while bench.ring.status().syncs == 0 {
        bench.ring.enter(1).expect("nothing fails");
        bench.ring.advance(&mut completions).expect("nothing fails");
    }
    assert!(completions.is_empty(), "the flush has only begun");
    bench.write(2, SEGMENT, 1, 1, 2);
    assert_eq!(bench.finish().expect("nothing fails"), [1, 2]);
    assert_eq!(bench.ring.status().syncs, 2);
}

#[test]
fn a_slow_disk_is_slow() {
    let by = Duration::from_millis(60);
    for method in BOTH {
        let fault = Some(Fault::SlowWrites { by });
        let mut bench = Bench::new(
            "a_slow_disk",
            RingOptions {
                fault,
                ..RingOptions::new(method)
            },
        );
        let began = Instant::now();
        bench.write(1, SEGMENT, 0, 1, 1);
        assert_eq!(bench.finish(), Ok(vec![1]));
        assert!(began.elapsed() >= by);
        assert_eq!(bench.blocks()[..2], [1, 0]);
    }
}

#[test]
fn dropping_the_ring_waits_for_the_kernel() {
    for method in BOTH {
        let fault = Some(Fault::SlowWrites {
            by: Duration::from_millis(20),
        });
        let mut bench = Bench::new(
            "dropping_the_ring",
            RingOptions {
                fault,
                ..RingOptions::new(method)
            },
        );
        for ticket in 0..4 {
            bench.write(
                ticket,
                SEGMENT,
                16 * usize::try_from(ticket).expect("it is small"),
                16,
                5,
            );
        }
        bench.ring.submit().expect("the kernel takes it");
        let Bench {
            ring,
            segment,
            directory,
            ..
        } = bench;
        drop(ring);
        let content = fs::read(&segment).expect("the segment can be read");
        assert!(
            content[..64 * BLOCK_BYTES].iter().all(|&byte| byte == 5),
            "no write is left under way"
        );
        drop(directory);
    }
}

#[test]
fn files_come_and_go() {
    let mut bench = Bench::new(
        "files_come_and_go",
        RingOptions {
            files_max: 2,
            ..RingOptions::new(FlushMethod::Dsync)
        },
    );
    let other = FileRef::Segment(FileNumber(2));
    let directory = bench.directory.path().to_owned();
    prepare_segment(
        &directory,
        FileNumber(2),
        SEGMENT_BYTES as u64,
        &Pace::unlimited(),
    )
    .expect("it is prepared");
    let open = || open_segment(&segment_path(&directory, FileNumber(2))).expect("it opens");
    let error = bench
        .ring
        .add_file(other, open())
        .expect_err("the table is full");
    assert_eq!(error, DeviceError::FileTableFull { files_max: 2 });
    bench.ring.remove_file(SEGMENT).expect("it is forgotten");
    assert!(!bench.ring.has_file(SEGMENT) && bench.ring.has_file(FileRef::Mark));
    bench.ring.add_file(other, open()).expect("a slot is free");
    bench.write(1, other, 0, 1, 6);
    assert_eq!(bench.finish(), Ok(vec![1]));
    assert_eq!(
        bench.ring.remove_file(SEGMENT),
        Ok(()),
        "it is forgotten already"
    );
    assert_eq!(bench.blocks()[0], 0, "the slot names the new file");
    assert_eq!(
        fs::read(segment_path(&directory, FileNumber(2))).expect("it can be read")[0],
        6
    );
}

#[test]
#[should_panic(expected = "the buffer is the registered one")]
fn a_strange_buffer_is_refused() {
    let mut bench = Bench::new("a_strange_buffer", RingOptions::new(FlushMethod::Dsync));
    let mut strange = LogBuffer::new(0, BUFFER_BYTES);
    strange.extend_with_zeros(BLOCK_BYTES);
    bench.ring.submit_write(Ticket(1), SEGMENT, 0, strange);
}

#[test]
fn memory_that_may_not_be_locked_is_counted() {
    let buffers: Vec<_> = (0..2)
        .map(|number| LogBuffer::new(number, BUFFER_BYTES))
        .collect();
    let refused = BuildError::Buffers(std::io::Error::from_raw_os_error(libc::ENOMEM));
    let error = build_error(&refused, &buffers, 8);
    let DeviceError::LockedMemory { needed_bytes, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(needed_bytes, 2 * BUFFER_BYTES as u64);
    assert!(error.to_string().contains("RLIMIT_MEMLOCK"));
}

#[test]
fn a_table_beyond_the_limit_of_open_files_is_counted() {
    // No process may open so many.
    let options = RingOptions {
        files_max: 1 << 30,
        ..RingOptions::new(FlushMethod::Dsync)
    };
    let error = Ring::new(options, &[]).expect_err("it is refused");
    let DeviceError::OpenFiles { needed, limit } = error else {
        panic!("{error}");
    };
    assert!(needed == (1 << 30) + 1 && limit < needed);
}
