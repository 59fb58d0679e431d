//! What a core asks for, carried out.

use metastore_engine::{Effect, MembersEffect, Time};
use metastore_wal::FileNumber;

use super::log_io::{LogIo, Target};
use super::{LogRead, Machine, Node, NodeEvent, Observed, SnapshotRead, Stop};
use crate::disk::{FileName, SnapshotDeed};

/// How long before a segment that found no room is tried again.
const PREPARE_RETRY_NS: u64 = 100_000_000;

impl Node {
    pub(super) fn carry_out(
        &mut self,
        now: Time,
        effect: Effect,
        arena: &[u8],
        machine: &mut Machine<'_>,
        observe: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), Stop> {
        match effect {
            Effect::WriteLog {
                ticket,
                file,
                offset,
                buffer,
            } => {
                let file = FileName::Segment(file);
                if let Some(trace) = &mut machine.trace {
                    trace.add_bytes(buffer.as_slice());
                }
                observe(Observed::RecordSubmitted {
                    file,
                    offset,
                    bytes: buffer.as_slice(),
                });
                let io = LogIo::new(Target::Record, ticket, (file, offset), buffer);
                self.submit(now, io, machine);
            }
            Effect::WriteMark {
                ticket,
                slot,
                buffer,
            } => {
                observe(Observed::MarkSubmitted {
                    bytes: buffer.as_slice(),
                });
                let place = (FileName::Mark, slot.offset());
                let io = LogIo::new(Target::Mark, ticket, place, buffer);
                self.submit(now, io, machine);
            }
            Effect::PrepareSegment { file, bytes } => self.prepare(file, bytes, machine),
            Effect::RemoveSegment { file } => {
                machine.disk.begin_remove(FileName::Segment(file));
                let delay_ns = machine.disk.draw_latency_ns(1);
                machine.schedule(delay_ns, NodeEvent::Removed(file));
            }
            Effect::WriteSnapshot {
                ticket,
                snapshot,
                offset,
                bytes,
            } => {
                let offset = usize::try_from(offset).expect("a small file");
                let deed = SnapshotDeed::Write {
                    snapshot,
                    offset,
                    bytes,
                };
                self.add_snapshot_job((ticket, deed), machine);
            }
            Effect::FinishSnapshot {
                ticket, snapshot, ..
            } => self.add_snapshot_job((ticket, SnapshotDeed::Finish { snapshot }), machine),
            Effect::RemoveSnapshot { ticket, snapshot } => {
                self.add_snapshot_job((ticket, SnapshotDeed::Remove { snapshot }), machine);
            }
            Effect::Reply {
                connection,
                request,
                kind,
                reply,
            } => observe(Observed::Answer {
                connection,
                request,
                kind,
                reply: &reply,
                arena,
            }),
            Effect::Forward { core, batch } => observe(Observed::Forward { core, batch }),
            Effect::Send { to, lane, batch } => observe(Observed::Send { to, lane, batch }),
            Effect::ReadLog {
                ticket,
                file,
                offset,
                bytes,
            } => {
                let delay_ns = machine.disk.draw_latency_ns(1);
                let read = LogRead {
                    ticket,
                    file,
                    offset,
                    bytes,
                };
                machine.schedule(delay_ns, NodeEvent::LogRead(read));
            }
            Effect::ReadSnapshot {
                ticket,
                snapshot,
                offset,
                bytes,
            } => {
                let delay_ns = machine.disk.draw_latency_ns(1);
                let read = SnapshotRead {
                    ticket,
                    snapshot,
                    offset,
                    bytes,
                };
                machine.schedule(delay_ns, NodeEvent::SnapshotRead(read));
            }
            Effect::Members(effect) => {
                if let MembersEffect::Unlist { replica, .. } = effect {
                    // A small file is written anew and gets its name.
                    let delay_ns = machine.disk.draw_latency_ns(4);
                    machine.schedule(delay_ns, NodeEvent::Unlisted(replica));
                }
                observe(Observed::Members(effect));
            }
            Effect::Halt(reason) => return Err(Stop::Halt(reason)),
        }
        Ok(())
    }

    pub(super) fn prepare(&mut self, file: FileNumber, bytes: u64, machine: &mut Machine<'_>) {
        match machine.disk.begin_prepare(FileName::Segment(file), bytes) {
            Ok(()) => {
                // Filling a file takes a few writes.
                let delay_ns = machine.disk.draw_latency_ns(4);
                machine.schedule(delay_ns, NodeEvent::Prepared(file));
            }
            Err(_full) => {
                self.counters.full_disks += 1;
                machine.schedule(PREPARE_RETRY_NS, NodeEvent::Prepare(file, bytes));
            }
        }
    }
}
