//! What the node is doing, as its main thread and its cores tell each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use glommio::timer::Timer;

/// How often a core looks whether the node has entered another phase.
pub(super) const PHASE_POLL: Duration = Duration::from_millis(5);

/// The phases of a node, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Logs are recovered; nobody is answered.
    Starting,
    /// Every core may answer.
    Serving,
    /// What was accepted is finished, nothing new is taken.
    Stopping,
}

/// What the node is doing; clones are handles to the same.
#[derive(Debug, Clone)]
pub(super) struct NodePhase(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: AtomicU8,
    cores: usize,
    cores_finished: AtomicUsize,
}

impl NodePhase {
    /// A node of so many cores that starts.
    pub(super) fn new(cores: usize) -> NodePhase {
        NodePhase(Arc::new(Shared {
            phase: AtomicU8::new(Phase::Starting as u8),
            cores,
            cores_finished: AtomicUsize::new(0),
        }))
    }

    pub(super) fn set(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Release);
    }

    pub(super) fn current(&self) -> Phase {
        let phase = self.0.phase.load(Ordering::Acquire);
        [Phase::Starting, Phase::Serving, Phase::Stopping]
            .into_iter()
            .find(|&known| known as u8 == phase)
            .expect("a phase is stored")
    }

    fn has_reached(&self, phase: Phase) -> bool {
        self.current() >= phase
    }

    /// Waits until the node is at least in `phase`.
    pub(super) async fn reach(&self, phase: Phase) {
        while !self.has_reached(phase) {
            Timer::new(PHASE_POLL).await;
        }
    }

    /// While stopping: one more core has finished what it accepted itself. Each core says so once.
    pub(super) fn add_finished_core(&self) {
        let before = self.0.cores_finished.fetch_add(1, Ordering::AcqRel);
        assert!(before < self.0.cores, "a core finishes once");
    }

    /// Whether no core has a client that waits, so that none needs another core any more.
    pub(super) fn have_all_finished(&self) -> bool {
        self.0.cores_finished.load(Ordering::Acquire) == self.0.cores
    }
}
