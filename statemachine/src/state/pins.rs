//! Readers that need the past to stay.

use std::collections::BTreeMap;

use super::history::ChangePosition;
use crate::ids::{NamespaceId, Revision, ShardTime};

/// A position in the order of changes at which a reader goes on reading while the state moves on. While it is
/// alive, no version that its reader may ask for is freed.
///
/// It is an opaque handle: give it back with [`StateMachine::unpin`](super::StateMachine::unpin). One that is
/// merely dropped holds memory until it is broken for its age.
#[derive(Debug, PartialEq, Eq)]
pub struct Pin {
    id: u64,
    view: View,
}

/// What of the past a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The newest version of every key.
    Newest,
    /// Changes before this position.
    Before(ChangePosition),
    /// Changes of one namespace up to this revision.
    Upto(NamespaceId, Revision),
}

/// Limits of what pins may hold. They concern the memory of one replica and change no answer but
/// [`ReadError::PinLost`](crate::ReadError::PinLost), so replicas may differ in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinLimits {
    /// Pins alive at once; a new one breaks the oldest.
    pub count_max: usize,
    /// Age, in shard time, at which a pin is broken.
    pub age_ms_max: u64,
    /// History that is kept for pins alone; beyond it, the pin that reaches back farthest is broken.
    pub bytes_max: u64,
}

/// The pins that are alive.
#[derive(Debug)]
pub(super) struct Pins {
    limits: PinLimits,
    /// By id, which is also the order of their making.
    held: BTreeMap<u64, Held>,
    next_id: u64,
    /// The lowest `hold` of all, kept at hand because every change asks for it.
    hold: ChangePosition,
}

#[derive(Debug)]
struct Held {
    /// Entries at or after this position stay.
    hold: ChangePosition,
    since: ShardTime,
}

/// The hold of no pin at all.
const NO_HOLD: ChangePosition = ChangePosition(u64::MAX);

impl Pin {
    pub(super) fn view(&self) -> View {
        self.view
    }
}

impl Pins {
    pub(super) fn new(limits: PinLimits) -> Pins {
        Pins {
            limits,
            held: BTreeMap::new(),
            next_id: 1,
            hold: NO_HOLD,
        }
    }

    pub(super) fn set_limits(&mut self, limits: PinLimits) {
        self.limits = limits;
    }

    /// Number of pins alive.
    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// Entries at or after this position stay.
    pub(super) fn hold(&self) -> ChangePosition {
        self.hold
    }

    pub(super) fn add(&mut self, view: View, hold: ChangePosition, now: ShardTime) -> Pin {
        while self.held.len() >= self.limits.count_max.max(1) {
            self.held.pop_first();
            self.find_hold();
        }
        let id = self.next_id;
        self.next_id += 1;
        self.held.insert(id, Held { hold, since: now });
        self.hold = self.hold.min(hold);
        Pin { id, view }
    }

    pub(super) fn remove(&mut self, pin: &Pin) {
        let removed = self.held.remove(&pin.id);
        if removed.is_some_and(|removed| removed.hold == self.hold) {
            self.find_hold();
        }
    }

    pub(super) fn is_alive(&self, pin: &Pin) -> bool {
        self.held.contains_key(&pin.id)
    }

    /// Breaks pins that are too old.
    pub(super) fn break_aged(&mut self, now: ShardTime) {
        while let Some(oldest) = self.held.first_entry() {
            if now.0 - oldest.get().since.0 <= self.limits.age_ms_max {
                return;
            }
            oldest.remove();
            self.find_hold();
        }
    }

    /// Breaks the pins that reach back farthest, if `pinned_bytes` is more than pins may hold.
    pub(super) fn break_heavy(&mut self, pinned_bytes: u64) {
        if pinned_bytes > self.limits.bytes_max {
            let hold = self.hold;
            self.held.retain(|_, held| held.hold > hold);
            self.find_hold();
        }
    }

    fn find_hold(&mut self) {
        self.hold = self
            .held
            .values()
            .map(|held| held.hold)
            .min()
            .unwrap_or(NO_HOLD);
    }
}

impl Default for PinLimits {
    fn default() -> PinLimits {
        PinLimits {
            count_max: 1024,
            age_ms_max: 60_000,
            bytes_max: 256 * 1024 * 1024,
        }
    }
}
