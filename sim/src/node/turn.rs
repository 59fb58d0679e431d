//! The end of a turn, slices of background work, and when a node wants to be woken.

use metastore_engine::{SliceKind, Time};

use super::{Machine, Node, NodeEvent, Observed, Stop};

/// How long at most the core is busy with others before it does slices of background work.
const SLICE_DELAY_MAX_NS: u64 = 100_000;
/// How many slices there is time for at most.
const SLICES_MAX: u64 = 4;

impl Node {
    /// Ends the turn and carries out what the core asks for.
    ///
    /// # Errors
    /// The core asks to be stopped.
    pub fn run_turn(
        &mut self,
        now: Time,
        machine: &mut Machine<'_>,
        observe: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), Stop> {
        let mut effects = std::mem::take(&mut self.effects);
        self.core.finish_turn(self.local(now), &mut effects);
        if let Some(trace) = &mut machine.trace {
            trace.add_bytes(&effects.arena);
        }
        for effect in effects.queue.drain(..) {
            if let Some(trace) = &mut machine.trace {
                trace.add_debug(&effect);
            }
            self.carry_out(now, effect, &effects.arena, machine, observe)?;
        }
        // A mutant may have completed a write in the middle of the turn: what that led to belongs to the next.
        effects.queue.append(&mut self.effects.queue);
        effects.arena.clear();
        assert!(
            self.effects.arena.is_empty(),
            "a completion alone answers nothing"
        );
        self.effects = effects;
        let local = self.local(now);
        self.core.on_turn_executed(local, local);
        self.schedule_wake(now, machine);
        self.schedule_slices(machine);
        Ok(())
    }

    /// Does background work that waits, as a server's driver does in a turn: one slice of any kind, then slices of ranges
    /// for as long as there is time, which is drawn. The turn that follows takes what they led to.
    pub(super) fn run_slices(&mut self, now: Time, machine: &mut Machine<'_>) {
        let now = self.local(now);
        let slices_max = machine.random.between(1, SLICES_MAX);
        let mut slice = self.core.run_slice(now, &mut self.effects);
        for further in (0..slices_max).rev() {
            if let Some(trace) = &mut machine.trace {
                trace.add_input(now.0, &slice);
            }
            let Some(kind) = slice else {
                return;
            };
            self.core.on_slice_executed(kind, now, now);
            if further > 0 {
                let range = SliceKind::Range;
                let is_range = self.core.run_slice_of(range, now, &mut self.effects);
                slice = is_range.then_some(range);
            }
        }
    }

    /// Other inputs may come before the slices, as they do where a driver lets its other tasks run.
    fn schedule_slices(&mut self, machine: &mut Machine<'_>) {
        if self.core.has_slice() && !self.is_slice_scheduled {
            self.is_slice_scheduled = true;
            let delay_ns = machine.random.below(SLICE_DELAY_MAX_NS);
            machine.schedule(delay_ns, NodeEvent::Slice);
        }
    }

    pub(super) fn schedule_wake(&mut self, now: Time, machine: &mut Machine<'_>) {
        let Some(deadline) = self.core.next_deadline() else {
            return;
        };
        let wake = self.clock.when(deadline).max(now);
        if self.wake_at.is_none_or(|earlier| wake < earlier) {
            self.wake_at = Some(wake);
            machine.schedule(wake.nanos_since(now), NodeEvent::Wake);
        }
    }
}
