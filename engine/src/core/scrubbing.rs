//! Reading the log again in the background, slowly, so that decay is found while memory still holds what it has damaged.
//!
//! Complete segments are read one after the other, pass after pass. Whoever holds entries in a damaged one takes a snapshot,
//! which covers them: nobody needs to be asked, and no replica stops. Cores whose replicas are alone do not scrub: their
//! driver reads nothing back. Files of snapshots are **not** read again.

use metastore_wal::{ReplicaId, ScrubEnd, ScrubPlace, SegmentSequence};

use super::Core;
use crate::effect::{Effect, Effects};
use crate::ids::{LogReadTicket, Time};
use crate::input::LogReadFailed;

/// Bytes of one read, where a record is not longer.
const READ_BYTES: u64 = 256 << 10;
/// The unit of reads.
const ALIGN_BYTES: u64 = 4096;
/// In the place of a replica in tickets of the scrubber: no replica has it.
pub(super) const SCRUBBER: ReplicaId = ReplicaId(0);

/// How far the scrubber has come.
#[derive(Debug, Default)]
pub(super) struct Scrubbing {
    /// The segment that was read last in this pass.
    behind: Option<SegmentSequence>,
    /// Where the segment that is being read goes on, and how much is needed at least.
    next: Option<(ScrubPlace, usize)>,
    is_reading: bool,
    reads: u64,
    not_before: Time,
}

impl Core {
    /// At a tick: reads on, if it is time.
    pub(super) fn drive_scrubbing(&mut self, now: Time, out: &mut Effects) {
        let Some(rate) = self.config.settings.scrub_bytes_per_second else {
            return;
        };
        let scrubbing = &self.scrubbing;
        let is_alone = self.replicas.iter().all(|replica| !replica.has_peers());
        if scrubbing.is_reading || now < scrubbing.not_before || is_alone || !self.log.is_ready() {
            return;
        }
        let begun = || Some((self.log.scrub_place(scrubbing.behind)?, 0));
        let Some((place, bytes_min)) = scrubbing.next.or_else(begun) else {
            // A pass is over; the next one begins when there is anything.
            self.scrubbing.behind = None;
            return;
        };
        let left = place.file_bytes - place.offset;
        let bytes = (bytes_min as u64)
            .max(READ_BYTES)
            .next_multiple_of(ALIGN_BYTES)
            .min(left);
        let scrubbing = &mut self.scrubbing;
        scrubbing.next = Some((place, bytes_min));
        scrubbing.is_reading = true;
        scrubbing.reads += 1;
        scrubbing.not_before = now.plus_ms(bytes * 1_000 / rate);
        out.queue.push(Effect::ReadLog {
            ticket: LogReadTicket {
                replica: SCRUBBER,
                number: scrubbing.reads,
            },
            file: place.file,
            offset: place.offset,
            bytes: usize::try_from(bytes).expect("one read is short"),
        });
    }

    /// A part of the log was read for the scrubber, or could not be.
    pub(super) fn on_scrub_read(&mut self, result: Result<&[u8], LogReadFailed>) {
        let scrubbing = &mut self.scrubbing;
        scrubbing.is_reading = false;
        let (place, _) = scrubbing.next.take().expect("a place is being read");
        let end = match result {
            Ok(bytes) => self.log.scrub(&place, bytes),
            // A file that is gone cannot be read either.
            Err(LogReadFailed) => match self.log.scrub(&place, &[]) {
                ScrubEnd::Gone => ScrubEnd::Gone,
                ScrubEnd::More { .. } | ScrubEnd::Clean | ScrubEnd::Damaged { .. } => {
                    ScrubEnd::Damaged {
                        offset: place.offset,
                    }
                }
            },
        };
        match end {
            ScrubEnd::More { place, bytes_min } => {
                self.scrubbing.next = Some((place, bytes_min));
                return;
            }
            ScrubEnd::Clean => self.counters.segments_scrubbed += 1,
            ScrubEnd::Gone => {}
            ScrubEnd::Damaged { .. } => {
                self.counters.scrub_findings += 1;
                for (holder, last) in self.log.holders_in(place.segment) {
                    let mut replicas = self.replicas.iter_mut();
                    if let Some(replica) = replicas.find(|replica| replica.id() == holder) {
                        replica.want_snapshot_to(last);
                    }
                }
            }
        }
        self.scrubbing.behind = Some(place.segment);
    }
}
