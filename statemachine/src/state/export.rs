//! Copying the whole state out in slices, while it moves on.

use std::collections::BTreeMap;

use super::history::ChangePosition;
use super::record::Record;
use super::{SliceLimit, StateMachine};
use crate::ids::ShardTime;
use crate::query::ReadError;
use crate::snapshot::{ChangeItem, Counters, KeyItem, NamespaceItem, SectionTag};

/// A copy of the state under way: what it shows is fixed, however the state moves on.
///
/// It is the state at the history's floor, and every change from there to the moment it was begun. Both stay while it
/// is alive, so everything that the history forgets meanwhile is held for it, within [`ExportLimits`]. Give it back with
/// [`StateMachine::end_export`], whole or not; one that is merely dropped holds memory until it is too old.
///
/// ```text
///    begin_export --> counters --> namespaces --> keys, one namespace after the other --> history --> finished
/// ```
#[derive(Debug)]
pub struct SnapshotExport {
    id: u64,
    /// As they were at the beginning.
    counters: Counters,
    namespaces: Vec<NamespaceItem>,
    place: Place,
}

/// What an export has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportProgress {
    /// Items of this section were appended, or looked at in vain, and there is more to do.
    More {
        /// The section.
        section: SectionTag,
    },
    /// Nothing was appended: everything has been.
    Finished,
}

/// What exports may hold. They have limits of their own: a snapshot that is broken off must be begun anew, and while
/// writes go on at the same speed the next one would fare no better. They concern the memory of one replica and change
/// no answer but [`ReadError::PinLost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportLimits {
    /// Age, in shard time, at which an export is broken off.
    pub age_ms_max: u64,
    /// History that is kept for exports; beyond it, the export that reaches back farthest is broken off.
    pub bytes_max: u64,
}

/// Where an export goes on.
#[derive(Debug)]
enum Place {
    Counters,
    Namespaces {
        next: usize,
    },
    Keys {
        namespace: usize,
        /// The last key that was looked at.
        after: Option<Vec<u8>>,
    },
    History {
        next: ChangePosition,
    },
    Finished,
}

/// The exports that are alive.
#[derive(Debug)]
pub(super) struct Exports {
    limits: ExportLimits,
    /// By id, which is also the order of their making: an older one holds no less than a younger.
    held: BTreeMap<u64, Held>,
    next_id: u64,
}

#[derive(Debug)]
struct Held {
    /// Changes at or after this position stay.
    hold: ChangePosition,
    since: ShardTime,
}

/// What is left of a slice.
struct Budget {
    limit: SliceLimit,
    rows: u64,
    visits: u64,
    /// Where the output may end.
    length_max: usize,
}

impl StateMachine {
    /// Begins to copy the state as it is now. Costs as much as there are namespaces, and nothing for the keys.
    #[must_use = "an export that is not given back holds memory until it is too old"]
    pub fn begin_export(&mut self) -> SnapshotExport {
        let namespaces: Vec<_> = self
            .namespaces
            .iter()
            .map(|(id, namespace)| NamespaceItem {
                namespace: *id,
                revision: namespace.revision,
                oldest: namespace.oldest,
            })
            .collect();
        let counters = Counters {
            shard_time: self.shard_time,
            state_hash: self.hash.value(),
            floor: self.history.floor(),
            next: self.history.next(),
            namespace_count: namespaces.len() as u64,
            key_count: self.key_count,
            live_bytes: self.live_bytes,
            parameters: self.parameters,
        };
        SnapshotExport {
            id: self.exports.add(counters.floor, self.shard_time),
            counters,
            namespaces,
            place: Place::Counters,
        }
    }

    /// Appends whole items of one section to `out`, until about `slice` is used up or the section is complete. An
    /// item is appended whatever its size when it is the slice's first.
    ///
    /// Items and their order depend on nothing but the state at the beginning: not on slices, and not on what is
    /// applied between them.
    ///
    /// # Errors
    /// [`ReadError::PinLost`] when the export was broken off at a limit: end it, and begin another later.
    pub fn export_slice(
        &self,
        export: &mut SnapshotExport,
        slice: SliceLimit,
        out: &mut Vec<u8>,
    ) -> Result<ExportProgress, ReadError> {
        if !self.exports.is_alive(export.id) {
            return Err(ReadError::PinLost);
        }
        let mut budget = Budget::new(slice, out.len());
        let (section, place) = match &export.place {
            Place::Counters => {
                export.counters.encode_into(out);
                (SectionTag::COUNTERS, Place::Namespaces { next: 0 })
            }
            Place::Namespaces { next } => {
                let place = export_namespaces(&export.namespaces, *next, &mut budget, out);
                (SectionTag::NAMESPACES, place)
            }
            Place::Keys { namespace, after } => {
                let place =
                    self.export_keys(export, *namespace, after.as_deref(), &mut budget, out);
                (SectionTag::KEYS, place)
            }
            Place::History { next } => {
                let place = self.export_history(export.counters.next, *next, &mut budget, out);
                (SectionTag::HISTORY, place)
            }
            Place::Finished => return Ok(ExportProgress::Finished),
        };
        export.place = place;
        Ok(ExportProgress::More { section })
    }

    /// Gives an export back.
    pub fn end_export(&mut self, export: SnapshotExport) {
        self.exports.remove(export.id);
    }

    /// Sets what exports may hold; the defaults are those of [`ExportLimits`].
    pub fn set_export_limits(&mut self, limits: ExportLimits) {
        self.exports.limits = limits;
    }

    /// Breaks pins and exports that hold more than they may: exports hold the history itself, pins what it has let go.
    pub(super) fn break_heavy_readers(&mut self) {
        self.exports
            .break_heavy(self.unanswering_bytes() - self.kept.bytes());
        self.break_heavy_pins();
    }

    /// The rows of a namespace as they were at the floor.
    fn export_keys(
        &self,
        export: &SnapshotExport,
        index: usize,
        after: Option<&[u8]>,
        budget: &mut Budget,
        out: &mut Vec<u8>,
    ) -> Place {
        let floor = export.counters.floor;
        let Some(item) = export.namespaces.get(index) else {
            return Place::History { next: floor };
        };
        let Some(namespace) = self.namespaces.get(&item.namespace) else {
            panic!("a namespace that was exported is gone");
        };
        let heads = namespace.keys.forward_from(after.unwrap_or_default());
        let mut last = after;
        for head in heads.skip_while(|head| after == Some(head.key())) {
            if budget.is_used_up() {
                return Place::Keys {
                    namespace: index,
                    after: last.map(<[u8]>::to_vec),
                };
            }
            let (version, steps) =
                self.history
                    .version_before(head.live(), head.position(), |position, _| position < floor);
            budget.visits += 1 + steps;
            if let Some(version) = version {
                let key = KeyItem {
                    namespace: item.namespace,
                    key: head.key(),
                    row_bytes: version.bytes(),
                };
                if !budget.has_room(out.len() + version.bytes().len()) {
                    return Place::Keys {
                        namespace: index,
                        after: last.map(<[u8]>::to_vec),
                    };
                }
                key.encode_into(out);
                budget.rows += 1;
            }
            last = Some(head.key());
        }
        Place::Keys {
            namespace: index + 1,
            after: None,
        }
    }

    /// The changes from `from` to below `end`.
    fn export_history(
        &self,
        end: ChangePosition,
        from: ChangePosition,
        budget: &mut Budget,
        out: &mut Vec<u8>,
    ) -> Place {
        for number in from.0..end.0 {
            let next = ChangePosition(number);
            let Some(entry) = self.history.get(next) else {
                panic!("a change that an export holds is gone");
            };
            let after = entry.after.as_ref().map(Record::bytes);
            let length = after.map_or(entry.key().len(), <[u8]>::len);
            if budget.is_used_up() || !budget.has_room(out.len() + length) {
                return Place::History { next };
            }
            let change = ChangeItem {
                namespace: entry.namespace,
                kind: entry.kind,
                revision: entry.revision,
                time: entry.time,
                key: entry.key(),
                after,
            };
            change.encode_into(out);
            budget.visits += 1;
            budget.rows += 1;
        }
        Place::Finished
    }
}

impl SnapshotExport {
    /// The shard's time at the beginning.
    #[must_use]
    pub fn shard_time(&self) -> ShardTime {
        self.counters.shard_time
    }

    /// Number of live keys at the beginning.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.counters.key_count
    }
}

/// The namespaces from the index `from` on.
fn export_namespaces(
    namespaces: &[NamespaceItem],
    from: usize,
    budget: &mut Budget,
    out: &mut Vec<u8>,
) -> Place {
    for (next, item) in namespaces.iter().enumerate().skip(from) {
        if budget.is_used_up() {
            return Place::Namespaces { next };
        }
        item.encode_into(out);
        budget.visits += 1;
        budget.rows += 1;
    }
    Place::Keys {
        namespace: 0,
        after: None,
    }
}

impl Exports {
    pub(super) fn new(limits: ExportLimits) -> Exports {
        Exports {
            limits,
            held: BTreeMap::new(),
            next_id: 1,
        }
    }

    /// Changes at or after this position stay. The floor only rises, so the oldest export reaches back farthest.
    pub(super) fn hold(&self) -> ChangePosition {
        self.held
            .first_key_value()
            .map_or(ChangePosition(u64::MAX), |(_, held)| held.hold)
    }

    /// Breaks off exports that are too old.
    pub(super) fn break_aged(&mut self, now: ShardTime) {
        while let Some(oldest) = self.held.first_entry()
            && now.0 - oldest.get().since.0 > self.limits.age_ms_max
        {
            oldest.remove();
        }
    }

    fn break_heavy(&mut self, held_bytes: u64) {
        if held_bytes > self.limits.bytes_max {
            self.held.pop_first();
        }
    }

    fn add(&mut self, hold: ChangePosition, since: ShardTime) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.held.insert(id, Held { hold, since });
        id
    }

    fn is_alive(&self, id: u64) -> bool {
        self.held.contains_key(&id)
    }

    fn remove(&mut self, id: u64) {
        self.held.remove(&id);
    }
}

impl Budget {
    fn new(limit: SliceLimit, length: usize) -> Budget {
        let bytes_max = usize::try_from(limit.bytes).unwrap_or(usize::MAX);
        Budget {
            limit,
            rows: 0,
            visits: 0,
            length_max: length.saturating_add(bytes_max),
        }
    }

    /// Whether nothing more may be looked at. Something always may.
    fn is_used_up(&self) -> bool {
        self.visits > 0 && (self.visits >= self.limit.visits || self.rows >= self.limit.rows.max(1))
    }

    /// Whether an item may bring the output to `length`. The first always may.
    fn has_room(&self, length: usize) -> bool {
        self.rows == 0 || length <= self.length_max
    }
}

impl Default for ExportLimits {
    fn default() -> ExportLimits {
        ExportLimits {
            age_ms_max: 3_600_000,
            bytes_max: 1024 * 1024 * 1024,
        }
    }
}
