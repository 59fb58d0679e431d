//! A few words behind the end of a log that nobody runs.

use std::path::Path;

use metastore_wal::device::{self, FileRef, FlushMethod, Pace, Ring, RingOptions};
use metastore_wal::{FileNumber, Log, LogBuffer, LogEffect, LogOptions, LogStart, Part, Ticket};

use crate::node::{LogFiles, StartError};

/// Files that the ring must have room for besides those that are there: the segment that is begun, a spare, the marks.
const FILES_MORE: usize = 8;

/// A log, and the ring that makes its writes durable.
struct Writer<'a> {
    directory: &'a Path,
    log: Log,
    ring: Ring,
}

/// Writes parts behind the end of a log, and returns when they are durable and a later word says so: no damage to one
/// record is taken for a torn tail then. A crash before that leaves the log with all of them or with none of a record.
///
/// # Errors
/// What the disk says. Nobody knows then what it holds; the next attempt reads it.
pub(super) fn write_parts(
    directory: &Path,
    flush_method: FlushMethod,
    options: LogOptions,
    start: LogStart,
    parts: Vec<Part>,
) -> Result<(), StartError> {
    let options = LogOptions {
        spare_segments: 1,
        ..options
    };
    let files = LogFiles::find(directory, options.segment_bytes)?;
    let buffers = options.new_buffers();
    let files_max = u32::try_from(files.count() + FILES_MORE).expect("segments are limited");
    let ring_options = RingOptions {
        files_max,
        ..RingOptions::new(flush_method)
    };
    let mut ring = Ring::new(ring_options, &buffers)?;
    files.register(&mut ring)?;
    let mut writer = Writer {
        directory,
        log: Log::new(options, start, buffers),
        ring,
    };
    // The cut of the recovery comes first, as in every start.
    writer.run()?;
    for part in parts {
        writer.log.stage(part);
    }
    writer.run()?;
    writer.log.on_idle();
    writer.run()?;
    let staged = writer.log.staged_position();
    assert!(
        writer.log.covered_position() >= staged,
        "a mark covers what was written"
    );
    Ok(())
}

impl Writer<'_> {
    /// Does what the log asks for until it asks for nothing.
    fn run(&mut self) -> Result<(), StartError> {
        let mut written = Vec::new();
        loop {
            while let Some(effect) = self.log.next_effect() {
                self.carry_out(effect)?;
            }
            if self.ring.status().in_flight == 0 {
                return Ok(());
            }
            self.ring.wait(&mut written)?;
            for completion in written.drain(..) {
                match completion.file {
                    FileRef::Segment(_) => {
                        self.log.on_written(completion.ticket, completion.buffer);
                    }
                    FileRef::Mark => {
                        self.log
                            .on_mark_written(completion.ticket, completion.buffer);
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, effect: LogEffect) -> Result<(), StartError> {
        match effect {
            LogEffect::Write {
                ticket,
                file,
                offset,
                buffer,
            } => self.submit(ticket, FileRef::Segment(file), offset, buffer),
            LogEffect::WriteMark {
                ticket,
                slot,
                buffer,
            } => self.submit(ticket, FileRef::Mark, slot.offset(), buffer),
            LogEffect::PrepareSegment { file, bytes } => self.prepare(file, bytes),
            LogEffect::RemoveSegment { file } => {
                self.ring.remove_file(FileRef::Segment(file))?;
                device::remove_segment(self.directory, file)?;
                self.log.on_segment_removed(file);
                Ok(())
            }
        }
    }

    fn submit(
        &mut self,
        ticket: Ticket,
        file: FileRef,
        offset: u64,
        buffer: LogBuffer,
    ) -> Result<(), StartError> {
        self.ring.submit_write(ticket, file, offset, buffer);
        Ok(self.ring.submit()?)
    }

    fn prepare(&mut self, file: FileNumber, bytes: u64) -> Result<(), StartError> {
        let prepared = device::prepare_segment(self.directory, file, bytes, &Pace::unlimited())?;
        self.ring.add_file(FileRef::Segment(file), prepared)?;
        self.log.on_segment_prepared(file);
        Ok(())
    }
}
