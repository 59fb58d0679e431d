//! What happens to a write between its submission and its completion.

use super::super::error::{DeviceError, Errno};
use super::super::file_ref::FileRef;
use super::super::queue::{Durability, Finished, QueuedWrite};
use super::{Completion, FlushMethod, Ring, index};
use crate::format::BLOCK_BYTES;
use crate::ids::Ticket;

/// Where a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Writing,
    /// All bytes have arrived, and a flush that begins now covers them.
    Written,
    Syncing,
}

#[derive(Debug)]
pub(super) struct Write {
    pub(super) ticket: Ticket,
    pub(super) slot: usize,
    pub(super) offset: u64,
    pub(super) bytes: usize,
    /// Everything before has arrived.
    pub(super) written_bytes: usize,
    pub(super) stage: Stage,
    /// What a fault pretends the result of the present request to be.
    pub(super) pretended: Option<i32>,
}

#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) name: FileRef,
    pub(super) is_syncing: bool,
    pub(super) pretended: Option<i32>,
}

impl Ring {
    pub(super) fn enter(&mut self, wanted: usize) -> Result<(), DeviceError> {
        self.queue
            .enter(wanted)
            .map_err(|error| DeviceError::Enter {
                errno: Errno::of(&error),
            })
    }

    pub(super) fn advance(&mut self, out: &mut Vec<Completion>) -> Result<(), DeviceError> {
        if self.queue.has_task_work() {
            self.enter(0)?;
        }
        while let Some(finished) = self.queue.pop() {
            match finished {
                Finished::Write { buffer, result } => {
                    self.on_write_finished(buffer, result, out)?
                }
                Finished::Sync { file, result } => {
                    self.on_sync_finished(file as usize, result, out)?
                }
                Finished::Wake { result } => on_wake_failed(result)?,
                Finished::Delay => {}
            }
        }
        self.start_syncs();
        if self.queue.is_dirty() {
            self.enter(0)
        } else {
            Ok(())
        }
    }

    fn on_write_finished(
        &mut self,
        number: u16,
        result: i32,
        out: &mut Vec<Completion>,
    ) -> Result<(), DeviceError> {
        let write = self.writes[usize::from(number)]
            .as_mut()
            .expect("a buffer that is written has a write");
        assert_eq!(
            write.stage,
            Stage::Writing,
            "a write finishes while it is written"
        );
        let result = write.pretended.take().unwrap_or(result);
        let Write {
            slot,
            offset,
            bytes,
            written_bytes,
            ..
        } = *write;
        let file = self.files[slot]
            .as_ref()
            .expect("a file that is written is registered")
            .name;
        let Ok(progress_bytes) = usize::try_from(result) else {
            return Err(DeviceError::Write {
                file,
                offset,
                bytes,
                errno: Errno(-result),
            });
        };
        let arrived_bytes = written_bytes + progress_bytes;
        assert!(
            arrived_bytes <= bytes,
            "no more is written than was asked for"
        );
        if arrived_bytes == bytes {
            write.written_bytes = bytes;
            match self.flush_method {
                FlushMethod::Dsync => self.complete(number, out),
                FlushMethod::WriteThenSync => write.stage = Stage::Written,
            }
            return Ok(());
        }
        // Direct I/O goes on at a block: part of the last one is written twice.
        let whole_bytes = arrived_bytes - arrived_bytes % BLOCK_BYTES;
        if whole_bytes == written_bytes {
            return Err(DeviceError::ShortWrite {
                file,
                offset,
                bytes,
                written_bytes: arrived_bytes,
            });
        }
        write.written_bytes = whole_bytes;
        self.status.short_writes += 1;
        self.push_rest(number);
        Ok(())
    }

    fn on_sync_finished(
        &mut self,
        slot: usize,
        result: i32,
        out: &mut Vec<Completion>,
    ) -> Result<(), DeviceError> {
        let open = self.files[slot]
            .as_mut()
            .expect("a file that is flushed is registered");
        assert!(open.is_syncing, "a flush finishes once");
        open.is_syncing = false;
        let result = open.pretended.take().unwrap_or(result);
        if result < 0 {
            return Err(DeviceError::Sync {
                file: open.name,
                errno: Errno(-result),
            });
        }
        for number in 0..self.writes.len() {
            let covered = |write: &Write| write.slot == slot && write.stage == Stage::Syncing;
            if self.writes[number].as_ref().is_some_and(covered) {
                self.complete(
                    u16::try_from(number).expect("buffers are numbered by u16"),
                    out,
                );
            }
        }
        Ok(())
    }

    fn complete(&mut self, number: u16, out: &mut Vec<Completion>) {
        let write = self.writes[usize::from(number)]
            .take()
            .expect("a write completes once");
        assert_eq!(
            write.written_bytes, write.bytes,
            "a write is durable with its full length"
        );
        let file = self.files[write.slot]
            .as_ref()
            .expect("a file that is written is registered")
            .name;
        self.status.in_flight -= 1;
        out.push(Completion {
            ticket: write.ticket,
            file,
            buffer: self.queue.take_back(number),
        });
    }

    /// Begins a write, or what a fault makes of it.
    pub(super) fn start_write(&mut self, number: u16) {
        let write = self.writes[usize::from(number)]
            .as_mut()
            .expect("the write was just noted");
        let pretence = self
            .fault
            .and_then(|fault| fault.on_write(self.status.writes, write.bytes));
        write.pretended = pretence.map(|pretence| pretence.result);
        match pretence.map(|pretence| pretence.written_bytes) {
            None => self.push_rest(number),
            Some(0) => self.queue.push_no_write(number),
            Some(written_bytes) => self.push_range(number, written_bytes),
        }
    }

    /// Writes what has not arrived yet.
    fn push_rest(&mut self, number: u16) {
        self.push_range(number, self.queue.lent_len(number));
    }

    /// Writes from where the write has got to `end`.
    fn push_range(&mut self, number: u16, end: usize) {
        let write = self.writes[usize::from(number)]
            .as_ref()
            .expect("the write was noted");
        let durability = match self.flush_method {
            FlushMethod::Dsync => Durability::Write,
            FlushMethod::WriteThenSync => Durability::LaterSync,
        };
        self.queue.push_write(QueuedWrite {
            buffer: number,
            range: write.written_bytes..end,
            file: index(write.slot),
            offset: write.offset + write.written_bytes as u64,
            durability,
        });
    }

    /// Flushes each file that has written writes and no flush under way: one under way does not cover them.
    fn start_syncs(&mut self) {
        for number in 0..self.writes.len() {
            let Some(write) = &self.writes[number] else {
                continue;
            };
            let slot = write.slot;
            let open = self.files[slot]
                .as_mut()
                .expect("a file that is written is registered");
            if write.stage != Stage::Written || open.is_syncing {
                continue;
            }
            open.is_syncing = true;
            self.status.syncs += 1;
            open.pretended = self
                .fault
                .and_then(|fault| fault.on_sync(self.status.syncs));
            match open.pretended {
                None => self.queue.push_sync(index(slot)),
                Some(_) => self.queue.push_no_sync(index(slot)),
            }
            let covered = self.writes.iter_mut().flatten();
            for write in covered.filter(|write| write.slot == slot && write.stage == Stage::Written)
            {
                write.stage = Stage::Syncing;
            }
        }
    }
}

/// A full socket wakes its reader without our byte.
fn on_wake_failed(result: i32) -> Result<(), DeviceError> {
    match -result {
        libc::EAGAIN => Ok(()),
        number => Err(DeviceError::Wake {
            errno: Errno(number),
        }),
    }
}
