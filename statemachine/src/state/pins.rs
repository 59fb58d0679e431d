//! Readers that need the past to stay.

use std::collections::{BTreeMap, BTreeSet};

use super::history::ChangePosition;
use super::unread::Unread;
use crate::ids::{NamespaceId, Revision, ShardTime};

/// A position in the order of changes at which a reader goes on reading while the state moves on. While it is
/// alive, every version that its reader has still to read stays.
///
/// It is an opaque handle: give it back with [`StateMachine::unpin`](super::StateMachine::unpin). One that is
/// merely dropped holds memory until it is broken for its age.
#[derive(Debug, PartialEq, Eq)]
pub struct Pin {
    id: u64,
    bound: ChangePosition,
    /// The revision that it was asked for, where one was named.
    at: Option<(NamespaceId, Revision)>,
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
    /// Bytes of old versions that are kept for pins alone; beyond it, the pin that reaches back farthest is broken.
    pub bytes_max: u64,
}

/// The pins that are alive.
#[derive(Debug)]
pub(super) struct Pins {
    limits: PinLimits,
    /// By id, which is also the order of their making.
    held: BTreeMap<u64, Held>,
    /// The same by what they see, because every change that is forgotten asks for it.
    by_bound: BTreeSet<(ChangePosition, u64)>,
    next_id: u64,
}

#[derive(Debug)]
struct Held {
    bound: ChangePosition,
    since: ShardTime,
    unread: Unread,
}

impl Pin {
    /// It sees the changes before this position.
    pub(super) fn bound(&self) -> ChangePosition {
        self.bound
    }

    /// Whether it was made for this revision of this namespace.
    pub(super) fn is_at(&self, namespace: NamespaceId, revision: Revision) -> bool {
        self.at == Some((namespace, revision))
    }
}

impl Pins {
    pub(super) fn new(limits: PinLimits) -> Pins {
        Pins {
            limits,
            held: BTreeMap::new(),
            by_bound: BTreeSet::new(),
            next_id: 1,
        }
    }

    pub(super) fn set_limits(&mut self, limits: PinLimits) {
        self.limits = limits;
    }

    pub(super) fn limits(&self) -> PinLimits {
        self.limits
    }

    /// Number of pins alive.
    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    pub(super) fn add(
        &mut self,
        bound: ChangePosition,
        at: Option<(NamespaceId, Revision)>,
        unread: Unread,
        now: ShardTime,
    ) -> Pin {
        let id = self.next_id;
        self.next_id += 1;
        let since = now;
        let held = Held {
            bound,
            since,
            unread,
        };
        self.held.insert(id, held);
        self.by_bound.insert((bound, id));
        Pin { id, bound, at }
    }

    /// What a pin that is alive has still to read.
    pub(super) fn unread(&self, pin: &Pin) -> Option<&Unread> {
        self.held.get(&pin.id).map(|held| &held.unread)
    }

    pub(super) fn unread_mut(&mut self, pin: &Pin) -> Option<&mut Unread> {
        self.held.get_mut(&pin.id).map(|held| &mut held.unread)
    }

    /// Whether a pin has still to read the version of a key that the change at `made` made and the change at `replaced`
    /// replaced.
    pub(super) fn want(
        &self,
        (made, replaced): (ChangePosition, ChangePosition),
        namespace: NamespaceId,
        key: &[u8],
    ) -> bool {
        let first = (ChangePosition(made.0 + 1), 0);
        self.by_bound
            .range(first..=(replaced, u64::MAX))
            .any(|(_, id)| self.held[id].unread.contains(namespace, key))
    }

    /// Takes a pin away and returns what it had still to read.
    pub(super) fn remove(&mut self, pin: &Pin) -> Option<Unread> {
        self.take(pin.id)
    }

    /// Takes away the oldest pin, if there are as many as there may be.
    pub(super) fn break_for_room(&mut self) -> Option<Unread> {
        let oldest = *self.held.first_key_value()?.0;
        (self.held.len() >= self.limits.count_max.max(1)).then(|| self.take(oldest))?
    }

    /// Takes away the oldest pin, if it is too old.
    pub(super) fn break_aged(&mut self, now: ShardTime) -> Option<Unread> {
        let (&id, oldest) = self.held.first_key_value()?;
        (now.0 - oldest.since.0 > self.limits.age_ms_max).then(|| self.take(id))?
    }

    /// Takes away the pin that reaches back farthest.
    pub(super) fn break_farthest(&mut self) -> Option<Unread> {
        let &(_, id) = self.by_bound.first()?;
        self.take(id)
    }

    fn take(&mut self, id: u64) -> Option<Unread> {
        let held = self.held.remove(&id)?;
        self.by_bound.remove(&(held.bound, id));
        Some(held.unread)
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
