//! What the cores tell of themselves to threads that are no core: numbers for metrics, and that they are alive.
//!
//! A core never waits here. It hangs up its numbers when nobody is looking at that moment, and otherwise a little later.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metastore_engine::{StageSummary, Time};
use metastore_net::StatusReply;

use super::clock::Clock;
use super::phase::NodePhase;
pub(crate) use super::phase::Phase;

/// How often a core hangs up its numbers.
pub(crate) const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);

/// The numbers of a core at one time.
#[derive(Debug, Clone)]
pub(crate) struct CoreNumbers {
    /// Everything that `metastore status` tells of the core.
    pub(crate) status: StatusReply,
    /// Where the time of commands goes.
    pub(crate) stages: Vec<StageSummary>,
    /// How long slices of background work take.
    pub(crate) slices: Vec<StageSummary>,
    /// Whether every replica of the core leads and answers.
    pub(crate) is_serving: bool,
    /// Whether the log has room for commands.
    pub(crate) accepts_writes: bool,
}

/// The board of a node; clones are handles to the same.
#[derive(Debug, Clone)]
pub(crate) struct Board(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    phase: NodePhase,
    cores: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// When the core last came by, in nanoseconds since the process began; 0 before it ever did.
    beat_ns: AtomicU64,
    numbers: Mutex<Option<Arc<CoreNumbers>>>,
}

impl Board {
    pub(super) fn new(clock: Clock, phase: NodePhase, cores: usize) -> Board {
        Board(Arc::new(Shared {
            clock,
            phase,
            cores: (0..cores).map(|_| Slot::default()).collect(),
        }))
    }

    /// A core came by and hangs up its numbers.
    pub(super) fn publish(&self, core: u16, now: Time, numbers: CoreNumbers) {
        let slot = &self.0.cores[usize::from(core)];
        slot.beat_ns.store(now.0.max(1), Ordering::Release);
        // Whoever looks holds this for as long as it takes to copy a pointer. The next numbers come soon.
        if let Ok(mut held) = slot.numbers.try_lock() {
            *held = Some(Arc::new(numbers));
        }
    }

    pub(crate) fn cores(&self) -> u16 {
        u16::try_from(self.0.cores.len()).expect("cores were counted")
    }

    pub(crate) fn phase(&self) -> Phase {
        self.0.phase.current()
    }

    /// Time since the process began.
    pub(crate) fn uptime(&self) -> Duration {
        Duration::from_nanos(self.0.clock.now().0)
    }

    /// How long ago a core came by; `None` before it ever did.
    pub(crate) fn pulse_age(&self, core: u16) -> Option<Duration> {
        let beat_ns = self.0.cores[usize::from(core)]
            .beat_ns
            .load(Ordering::Acquire);
        let now_ns = self.0.clock.now().0;
        (beat_ns > 0).then(|| Duration::from_nanos(now_ns.saturating_sub(beat_ns)))
    }

    /// What a core hung up last.
    pub(crate) fn numbers(&self, core: u16) -> Option<Arc<CoreNumbers>> {
        let held = self.0.cores[usize::from(core)].numbers.lock();
        held.expect("a panic ends the process").clone()
    }
}

#[cfg(test)]
impl Board {
    /// A board of a node that serves, for tests.
    pub(crate) fn serving(cores: usize) -> Board {
        let phase = NodePhase::new(cores);
        phase.set(Phase::Serving);
        Board::new(Clock::start(), phase, cores)
    }

    /// Hangs up numbers as a core that is well would.
    pub(crate) fn publish_now(&self, core: u16, numbers: CoreNumbers) {
        self.publish(core, self.0.clock.now(), numbers);
    }
}

#[cfg(test)]
impl CoreNumbers {
    /// Of a core that is well and has done nothing.
    pub(crate) fn idle() -> CoreNumbers {
        CoreNumbers {
            status: StatusReply::default(),
            stages: Vec::new(),
            slices: Vec::new(),
            is_serving: true,
            accepts_writes: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_finds_somebody_looking_goes_on_and_is_alive() {
        let board = Board::serving(2);
        assert_eq!(board.pulse_age(1), None);
        let looking = board.0.cores[1].numbers.lock().expect("nobody panics");
        board.publish_now(1, CoreNumbers::idle());
        drop(looking);
        assert!(board.pulse_age(1).is_some());
        assert!(board.numbers(1).is_none(), "the numbers come the next time");
        board.publish_now(1, CoreNumbers::idle());
        assert!(board.numbers(1).is_some_and(|numbers| numbers.is_serving));
        assert_eq!((board.pulse_age(0), board.cores()), (None, 2));
    }
}
