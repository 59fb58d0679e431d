//! The ring as the kernel sees it: its memory, its registered files and buffers, and who owns a buffer when.
#![allow(
    unsafe_code,
    reason = "the kernel reads the memory of buffers while a request is under way; this file is where that is kept in order"
)]

use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fixed, FsyncFlags, TimeoutFlags, Timespec};
use io_uring::{IoUring, opcode};

use crate::buffer::LogBuffer;

/// The longest chain of linked requests: delay, request, wake.
const CHAIN_MAX: usize = 3;

/// What the wake request sends. It outlives every ring.
static WAKE_BYTE: [u8; 1] = [1];

const NO_FILE: RawFd = -1;

/// When a write is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// With its completion.
    Write,
    /// With a later flush.
    LaterSync,
}

/// One write of a part of a lent buffer.
#[derive(Clone, Debug)]
pub(super) struct QueuedWrite {
    pub(super) buffer: u16,
    pub(super) range: Range<usize>,
    pub(super) file: u32,
    pub(super) offset: u64,
    pub(super) durability: Durability,
}

/// A request that is over, with the kernel's result: a count of bytes, or a negative error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// A write from this buffer.
    Write { buffer: u16, result: i32 },
    /// A flush of this file.
    Sync { file: u32, result: i32 },
    /// A wake that failed; others are not reported.
    Wake { result: i32 },
    /// A delay before a write.
    Delay,
}

/// A buffer's place in the kernel's table.
#[derive(Debug)]
struct Registered {
    address: usize,
    capacity: usize,
    lent: Option<LogBuffer>,
    /// A request that reads the lent buffer is queued or under way.
    is_busy: bool,
}

/// One io_uring with its tables.
///
/// The rule that makes it sound: a request reads only a buffer that has been lent to this type ([`Queue::lend`]), and a
/// lent buffer comes back ([`Queue::take_back`]) only while no request reads it. Whoever drops the queue waits for
/// the requests that are under way.
pub(super) struct Queue {
    // Dropped first: the kernel's references end before the buffers do.
    ring: IoUring,
    buffers: Vec<Registered>,
    /// Kept open for as long as the ring sends to it.
    wake: Option<OwnedFd>,
    wake_slot: u32,
    delay: Option<Box<Timespec>>,
    is_dirty: bool,
}

/// The step at which a ring could not be built.
#[derive(Debug)]
pub(super) enum BuildError {
    Ring(io::Error),
    Files(io::Error),
    Buffers(io::Error),
}

impl Queue {
    /// A ring for `buffers` and `files_max` files, which sends a byte to `wake` after each request and begins each
    /// write late by `delay`.
    pub(super) fn new(
        buffers: &[LogBuffer],
        files_max: u32,
        wake: Option<OwnedFd>,
        delay: Option<Duration>,
    ) -> Result<Self, BuildError> {
        let entries = (2 * CHAIN_MAX * buffers.len().max(1)).next_power_of_two();
        let ring = new_ring(u32::try_from(entries).expect("buffers are numbered by u16"))
            .map_err(BuildError::Ring)?;
        ring.submitter()
            .register_files_sparse(files_max + 1)
            .map_err(BuildError::Files)?;
        if let Some(wake) = &wake {
            ring.submitter()
                .register_files_update(files_max, &[wake.as_raw_fd()])
                .map_err(BuildError::Files)?;
        }
        let table = new_table(buffers);
        let vectors: Vec<_> = table
            .iter()
            .map(|buffer| libc::iovec {
                iov_base: buffer.address as *mut libc::c_void,
                iov_len: buffer.capacity,
            })
            .collect();
        if !vectors.is_empty() {
            // SAFETY: each vector describes the memory of a live buffer. The kernel pins the pages; it reads them only
            // for a request, and each request's buffer has been lent to this type.
            unsafe { ring.submitter().register_buffers(&vectors) }.map_err(BuildError::Buffers)?;
        }
        let delay = delay.map(|delay| Box::new(Timespec::from(delay)));
        Ok(Self {
            ring,
            buffers: table,
            wake,
            wake_slot: files_max,
            delay,
            is_dirty: false,
        })
    }

    // ---- Files ----

    /// Puts a file into a free slot of the table.
    pub(super) fn set_file(&mut self, slot: u32, file: &impl AsRawFd) -> io::Result<()> {
        assert!(slot < self.wake_slot, "the last slot is the wake socket's");
        self.ring
            .submitter()
            .register_files_update(slot, &[file.as_raw_fd()])
            .map(drop)
    }

    /// Empties a slot of the table.
    pub(super) fn clear_file(&mut self, slot: u32) -> io::Result<()> {
        assert!(slot < self.wake_slot, "the last slot is the wake socket's");
        self.ring
            .submitter()
            .register_files_update(slot, &[NO_FILE])
            .map(drop)
    }

    // ---- Buffers ----

    /// Takes a buffer that was registered when the ring was built.
    pub(super) fn lend(&mut self, buffer: LogBuffer) {
        let place = &mut self.buffers[usize::from(buffer.number())];
        let address = buffer.as_slice().as_ptr() as usize;
        assert_eq!(
            (address, buffer.capacity()),
            (place.address, place.capacity),
            "the buffer is the registered one"
        );
        assert!(place.lent.is_none(), "a number names one buffer");
        place.lent = Some(buffer);
    }

    /// The length of what a lent buffer holds.
    pub(super) fn lent_len(&self, number: u16) -> usize {
        self.buffers[usize::from(number)]
            .lent
            .as_ref()
            .map_or(0, LogBuffer::len)
    }

    /// Gives a buffer back that no request reads any more.
    pub(super) fn take_back(&mut self, number: u16) -> LogBuffer {
        let place = &mut self.buffers[usize::from(number)];
        assert!(
            !place.is_busy,
            "the kernel does not read a buffer that is given back"
        );
        place.lent.take().expect("the buffer was lent")
    }

    // ---- Requests ----

    /// Queues a write.
    pub(super) fn push_write(&mut self, write: QueuedWrite) {
        let place = &mut self.buffers[usize::from(write.buffer)];
        assert!(!place.is_busy, "one request reads a buffer at a time");
        place.is_busy = true;
        let bytes = &place.lent.as_ref().expect("the buffer was lent").as_slice()[write.range];
        let length = u32::try_from(bytes.len()).expect("a record is shorter than 4 GiB");
        let flags = match write.durability {
            Durability::Write => libc::RWF_DSYNC,
            Durability::LaterSync => 0,
        };
        let entry =
            opcode::WriteFixed::new(Fixed(write.file), bytes.as_ptr(), length, write.buffer)
                .offset(write.offset)
                .rw_flags(flags)
                .build()
                .user_data(user_data(KIND_WRITE, u32::from(write.buffer)));
        self.push_chain(entry, self.delay_entry());
    }

    /// Queues a request that does nothing in place of a write.
    pub(super) fn push_no_write(&mut self, buffer: u16) {
        let place = &mut self.buffers[usize::from(buffer)];
        assert!(
            !place.is_busy && place.lent.is_some(),
            "one request stands for a lent buffer"
        );
        place.is_busy = true;
        let entry = opcode::Nop::new()
            .build()
            .user_data(user_data(KIND_WRITE, u32::from(buffer)));
        self.push_chain(entry, self.delay_entry());
    }

    /// Queues a flush of a file's data, which covers the writes that have completed by now.
    pub(super) fn push_sync(&mut self, file: u32) {
        let entry = opcode::Fsync::new(Fixed(file))
            .flags(FsyncFlags::DATASYNC)
            .build()
            .user_data(user_data(KIND_SYNC, file));
        self.push_chain(entry, None);
    }

    /// Queues a request that does nothing in place of a flush.
    pub(super) fn push_no_sync(&mut self, file: u32) {
        let entry = opcode::Nop::new()
            .build()
            .user_data(user_data(KIND_SYNC, file));
        self.push_chain(entry, None);
    }

    /// Hands everything queued to the kernel and waits until `wanted` completions can be taken.
    pub(super) fn enter(&mut self, wanted: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(wanted) {
                Ok(_) if self.ring.submission().is_empty() => {
                    self.is_dirty = false;
                    return Ok(());
                }
                // The kernel stopped in the middle: it had no memory for a request.
                Ok(_) => return Err(io::Error::from_raw_os_error(libc::EAGAIN)),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether something is queued that the kernel has not seen.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Whether completions wait for this thread to enter the kernel.
    pub(super) fn has_task_work(&mut self) -> bool {
        self.ring.submission().taskrun()
    }

    /// The next request that is over.
    pub(super) fn pop(&mut self) -> Option<Finished> {
        let completion = self.ring.completion().next()?;
        let (kind, number) = (completion.user_data() >> 32, completion.user_data() as u32);
        let result = completion.result();
        Some(match kind {
            KIND_WRITE => {
                let buffer = u16::try_from(number).expect("buffers are numbered by u16");
                self.buffers[usize::from(buffer)].is_busy = false;
                Finished::Write { buffer, result }
            }
            KIND_SYNC => Finished::Sync {
                file: number,
                result,
            },
            KIND_WAKE => Finished::Wake { result },
            KIND_DELAY => Finished::Delay,
            _ => unreachable!("the kernel returns what it was given"),
        })
    }

    // ---- Helpers ----

    fn delay_entry(&self) -> Option<Entry> {
        let delay = self.delay.as_ref()?;
        let entry = opcode::Timeout::new(&raw const **delay)
            .flags(TimeoutFlags::ETIME_SUCCESS)
            .build()
            .flags(Flags::IO_HARDLINK | Flags::SKIP_SUCCESS)
            .user_data(user_data(KIND_DELAY, 0));
        Some(entry)
    }

    /// Queues `entry`, after `before` and followed by a wake. Hard links: the wake comes whatever the result is.
    fn push_chain(&mut self, entry: Entry, before: Option<Entry>) {
        let wake = self.wake.as_ref().map(|_| wake_entry(self.wake_slot));
        let entry = if wake.is_some() {
            entry.flags(Flags::IO_HARDLINK)
        } else {
            entry
        };
        let mut submission = self.ring.submission();
        let free = submission.capacity() - submission.len();
        assert!(
            free >= CHAIN_MAX,
            "the ring has room for a chain for each buffer and each flush"
        );
        for entry in [before, Some(entry), wake].into_iter().flatten() {
            // SAFETY: a write's memory belongs to a buffer that stays lent until its completion was taken; the wake's
            // byte is static; the delay's time is boxed and owned by this queue, which outlives the request.
            unsafe { submission.push(&entry) }.expect("there is room");
        }
        self.is_dirty = true;
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Entering hands over what was only queued, so that everything busy is under way and completes.
        while self.buffers.iter().any(|place| place.is_busy) {
            if self.enter(1).is_err() {
                // The kernel may still read these buffers: rather lose the memory than give it to somebody else.
                mem::forget(mem::take(&mut self.buffers));
                return;
            }
            while self.pop().is_some() {}
        }
    }
}

const KIND_WRITE: u64 = 1;
const KIND_SYNC: u64 = 2;
const KIND_WAKE: u64 = 3;
const KIND_DELAY: u64 = 4;

fn user_data(kind: u64, number: u32) -> u64 {
    kind << 32 | u64::from(number)
}

/// A ring that is used by one thread, which is not interrupted for completions: they are delivered when it enters the
/// kernel for whatever reason, and a flag says that some wait.
pub(super) fn new_ring(entries: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .dontfork()
        .build(entries)
}

/// The table of buffers, in the order of their numbers.
fn new_table(buffers: &[LogBuffer]) -> Vec<Registered> {
    let mut sorted: Vec<_> = buffers.iter().collect();
    sorted.sort_by_key(|buffer| buffer.number());
    for (number, buffer) in sorted.iter().enumerate() {
        assert_eq!(
            usize::from(buffer.number()),
            number,
            "buffers are numbered from 0 without gaps"
        );
    }
    let place = |buffer: &&LogBuffer| Registered {
        address: buffer.as_slice().as_ptr() as usize,
        capacity: buffer.capacity(),
        lent: None,
        is_busy: false,
    };
    sorted.iter().map(place).collect()
}

/// Sends one byte. A full socket is fine: whoever reads it has something to read.
fn wake_entry(slot: u32) -> Entry {
    opcode::Send::new(Fixed(slot), WAKE_BYTE.as_ptr(), 1)
        .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(user_data(KIND_WAKE, 0))
}
