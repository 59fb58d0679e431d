//! Readers that need the past to stay.

use std::collections::{BTreeMap, BTreeSet};

use super::export::ExportLimits;
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
    export_limits: ExportLimits,
    /// Those that belong to exports, with the first change that each has still to gather: from there on the history
    /// frees nothing.
    exports: BTreeMap<u64, ChangePosition>,
}

#[derive(Debug)]
struct Held {
    bound: ChangePosition,
    since: ShardTime,
    unread: Unread,
}

/// The position from which on an export holds the history, when it has gathered everything.
const NOTHING_TO_GATHER: ChangePosition = ChangePosition(u64::MAX);

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
            export_limits: ExportLimits::default(),
            exports: BTreeMap::new(),
        }
    }

    pub(super) fn set_limits(&mut self, limits: PinLimits) {
        self.limits = limits;
    }

    pub(super) fn set_export_limits(&mut self, limits: ExportLimits) {
        self.export_limits = limits;
    }

    /// Bytes of old versions that may be kept. An export may hold more than other pins, and while there is one, nobody
    /// can tell which of them hold what.
    pub(super) fn bytes_max(&self) -> u64 {
        if self.exports.is_empty() {
            self.limits.bytes_max
        } else {
            self.limits.bytes_max.max(self.export_limits.bytes_max)
        }
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

    /// A pin for an export, which sees the changes before `bound` and has to gather those from there on.
    pub(super) fn add_export(&mut self, bound: ChangePosition, now: ShardTime) -> Pin {
        let pin = self.add(bound, None, Unread::everything(), now);
        self.exports.insert(pin.id, bound);
        pin
    }

    /// An export has gathered the changes before `next`; all of them, if it is `None`.
    pub(super) fn gathered(&mut self, pin: &Pin, next: Option<ChangePosition>) {
        if let Some(first) = self.exports.get_mut(&pin.id) {
            *first = next.unwrap_or(NOTHING_TO_GATHER);
        }
    }

    /// The first change that an export has still to gather.
    pub(super) fn first_change_to_gather(&self) -> ChangePosition {
        let firsts = self.exports.values();
        firsts.copied().min().unwrap_or(NOTHING_TO_GATHER)
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

    /// Takes away the oldest pin, if there are as many as there may be. Exports are left alone.
    pub(super) fn break_for_room(&mut self) -> Option<Unread> {
        let (oldest, _) = self.oldest_of_readers()?;
        (self.held.len() >= self.limits.count_max.max(1)).then(|| self.take(oldest))?
    }

    /// Takes away the oldest pin, if it is too old.
    pub(super) fn break_aged(&mut self, now: ShardTime) -> Option<Unread> {
        let (id, since) = self.oldest_of_readers()?;
        (now.0 - since.0 > self.limits.age_ms_max).then(|| self.take(id))?
    }

    /// Takes away the pin of the oldest export, if it is too old.
    pub(super) fn break_aged_export(&mut self, now: ShardTime) -> Option<Unread> {
        let (&id, _) = self.exports.first_key_value()?;
        let since = self.held[&id].since;
        (now.0 - since.0 > self.export_limits.age_ms_max).then(|| self.take(id))?
    }

    /// Takes away the pin that reaches back farthest.
    pub(super) fn break_farthest(&mut self) -> Option<Unread> {
        let &(_, id) = self.by_bound.first()?;
        self.take(id)
    }

    /// The oldest pin that belongs to no export. There are few exports, so few are passed over.
    fn oldest_of_readers(&self) -> Option<(u64, ShardTime)> {
        self.held
            .iter()
            .find(|(id, _)| !self.exports.contains_key(id))
            .map(|(id, held)| (*id, held.since))
    }

    fn take(&mut self, id: u64) -> Option<Unread> {
        let held = self.held.remove(&id)?;
        self.exports.remove(&id);
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
