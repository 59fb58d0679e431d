//! How a node writes its log: submission, completion, and the bugs that are planted between them.

use metastore_bugs::{Mutant, is_planted};
use metastore_engine::{Input, Time};

use super::log_io::{IoId, LogIo, Target};
use super::{Machine, Node, NodeEvent, Observed, Stop};
use crate::disk::{DiskError, IoEnd, IoTicket};

impl Node {
    /// A part of a log write is done; true when the whole write is, and the core knows it.
    pub(super) fn on_io(
        &mut self,
        now: Time,
        (id, ticket): (IoId, IoTicket),
        machine: &mut Machine<'_>,
        observe: &mut dyn FnMut(Observed<'_>),
    ) -> Result<bool, Stop> {
        let end = match machine.disk.complete(ticket) {
            Ok(end) => end,
            Err(_) if is_planted(Mutant::ErrorTakenAsSuccess) => IoEnd::Done,
            Err(DiskError::Full { .. }) if is_planted(Mutant::FullDiskWriteTakenAsWhole) => {
                IoEnd::Done
            }
            Err(error) => return Err(Stop::DiskFailed(error)),
        };
        let Some(io) = self.ios.get_mut(&id) else {
            // A mutant has reported it already.
            return Ok(false);
        };
        match end {
            IoEnd::Short { .. } if is_planted(Mutant::ShortWriteTakenAsWhole) => {}
            IoEnd::Short { written_bytes } => {
                self.counters.short_writes += 1;
                io.on_short(written_bytes);
                let ticket = io.submit_rest(self.config.flush, machine.disk);
                let delay_ns = machine.disk.draw_latency_ns(1);
                machine.schedule(delay_ns, NodeEvent::Io(id, ticket));
                return Ok(false);
            }
            IoEnd::Done => {}
        }
        // Not after a short write: what it left may look whole and is still to be written over.
        observe(Observed::DiskChanged { disk: machine.disk });
        if let Some(flush) = io.next_flush(&self.config, machine.disk) {
            let delay_ns = machine.disk.draw_latency_ns(1);
            machine.schedule(delay_ns, NodeEvent::Io(id, flush));
            return Ok(false);
        }
        if !io.on_part_done() {
            return Ok(false);
        }
        self.report(now, id, machine);
        Ok(true)
    }

    pub(super) fn submit(&mut self, now: Time, mut io: LogIo, machine: &mut Machine<'_>) {
        self.counters.writes += 1;
        let id = IoId(self.next_io);
        self.next_io += 1;
        let ticket = io.submit_rest(self.config.flush, machine.disk);
        let delay_ns = machine.disk.draw_latency_ns(1);
        machine.schedule(delay_ns, NodeEvent::Io(id, ticket));
        if let Some(flush) = io.early_flush(&self.config, machine.disk) {
            let delay_ns = machine.disk.draw_latency_ns(1);
            machine.schedule(delay_ns, NodeEvent::Io(id, flush));
        }
        self.ios.insert(id, io);
        if is_planted(Mutant::AcknowledgeBeforeFlush) {
            self.report(now, id, machine);
            self.schedule_turn(machine);
        }
    }

    fn schedule_turn(&mut self, machine: &mut Machine<'_>) {
        if !self.is_turn_scheduled {
            self.is_turn_scheduled = true;
            machine.schedule(1, NodeEvent::Turn);
        }
    }

    /// Tells the core that a write is durable.
    fn report(&mut self, now: Time, id: IoId, machine: &mut Machine<'_>) {
        let io = self.ios.remove(&id).expect("a write is reported once");
        let (target, ticket, buffer) = io.into_parts();
        let input = match target {
            Target::Record => Input::LogWritten { ticket, buffer },
            Target::Mark => Input::MarkWritten { ticket, buffer },
        };
        self.step(now, input, machine);
    }
}
