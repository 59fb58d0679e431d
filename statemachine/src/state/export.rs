//! Copying the whole state out in slices, while it moves on.

use std::collections::VecDeque;

use super::history::{ChangePosition, Entry};
use super::pins::Pin;
use super::read::SliceEnd;
use super::record::Record;
use super::{PASSED_VERSIONS_MAX, SliceLimit, StateMachine};
use crate::command::CommandKind;
use crate::ids::{NamespaceId, Revision, ShardTime};
use crate::query::{Direction, Projection, RangeQuery, ReadError, Scope};
use crate::snapshot::{ChangeItem, Counters, KeyItem, NamespaceItem, SectionTag};

/// A copy of the state under way: what it shows is fixed, however the state moves on.
///
/// It is the state at the history's floor, and every change from there to the moment it was begun. First it gathers the
/// changes, which costs no more than pointing at them, so that the history is soon free to forget them. Then it reads the
/// keys with a pin: what is overwritten meanwhile is kept for it until it has passed the key. So what it holds is at most
/// a second version of every key, and less and less, within [`ExportLimits`].
///
/// Give it back with [`StateMachine::end_export`], whole or not; one that is merely dropped holds memory until it is too
/// old.
///
/// ```text
///    begin_export --> counters --> gather --> namespaces --> keys, one namespace after the other --> history --> finished
/// ```
#[derive(Debug)]
pub struct SnapshotExport {
    pin: Pin,
    /// As they were at the beginning.
    counters: Counters,
    namespaces: Vec<NamespaceItem>,
    gathered: VecDeque<GatheredChange>,
    place: Place,
}

/// What an export has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportProgress {
    /// Whatever was appended, which may be nothing, belongs to this section, and there is more to do.
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
    /// Bytes of old versions that are kept for exports and pins while there is an export; beyond it, whichever reaches
    /// back farthest is broken.
    pub bytes_max: u64,
}

/// Where an export goes on.
#[derive(Debug)]
enum Place {
    Counters,
    Gather {
        next: ChangePosition,
    },
    Namespaces {
        next: usize,
    },
    Keys {
        namespace: usize,
        /// Where the slice before ended.
        from: Option<Vec<u8>>,
    },
    History,
    Finished,
}

/// A change that the history may have forgotten since.
#[derive(Debug)]
struct GatheredChange {
    namespace: NamespaceId,
    kind: CommandKind,
    revision: Revision,
    time: ShardTime,
    result: ChangeResult,
}

#[derive(Debug)]
enum ChangeResult {
    Version(Record),
    Removed { key: Box<[u8]> },
}

/// What is left of a slice.
struct Budget {
    limit: SliceLimit,
    items: u64,
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
            pin: self.pins.add_export(counters.floor, self.shard_time),
            counters,
            namespaces,
            gathered: VecDeque::new(),
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
        &mut self,
        export: &mut SnapshotExport,
        slice: SliceLimit,
        out: &mut Vec<u8>,
    ) -> Result<ExportProgress, ReadError> {
        if self.pins.unread(&export.pin).is_none() {
            return Err(ReadError::PinLost);
        }
        let mut budget = Budget::new(slice, out.len());
        let place = std::mem::replace(&mut export.place, Place::Finished);
        let (section, place) = match place {
            Place::Counters => {
                export.counters.encode_into(out);
                let next = export.counters.floor;
                (SectionTag::COUNTERS, Place::Gather { next })
            }
            Place::Gather { next } => (
                SectionTag::NAMESPACES,
                self.gather(export, next, &mut budget),
            ),
            Place::Namespaces { next } => {
                let place = export.append_namespaces(next, &mut budget, out);
                (SectionTag::NAMESPACES, place)
            }
            Place::Keys { namespace, from } => {
                let place = self.export_keys(export, (namespace, from), slice, out)?;
                (SectionTag::KEYS, place)
            }
            Place::History => (SectionTag::HISTORY, export.append_changes(&mut budget, out)),
            Place::Finished => return Ok(ExportProgress::Finished),
        };
        export.place = place;
        Ok(ExportProgress::More { section })
    }

    /// Gives an export back.
    pub fn end_export(&mut self, export: SnapshotExport) {
        self.unpin(export.pin);
    }

    /// Sets what exports may hold; the defaults are those of [`ExportLimits`].
    pub fn set_export_limits(&mut self, limits: ExportLimits) {
        self.pins.set_export_limits(limits);
    }

    /// Takes hold of the results of changes, and lets the history forget them.
    fn gather(
        &mut self,
        export: &mut SnapshotExport,
        from: ChangePosition,
        budget: &mut Budget,
    ) -> Place {
        let end = export.counters.next;
        let mut next = from;
        while next < end && !budget.is_used_up() {
            let Some(entry) = self.history.get(next) else {
                panic!("a change that an export has still to gather is gone");
            };
            export.gathered.push_back(GatheredChange::of(entry));
            next = ChangePosition(next.0 + 1);
            budget.items += 1;
        }
        let is_done = next == end;
        self.pins.gathered(&export.pin, (!is_done).then_some(next));
        if is_done {
            Place::Namespaces { next: 0 }
        } else {
            Place::Gather { next }
        }
    }

    /// The rows of a namespace as they were at the floor.
    fn export_keys(
        &mut self,
        export: &SnapshotExport,
        (index, from): (usize, Option<Vec<u8>>),
        slice: SliceLimit,
        out: &mut Vec<u8>,
    ) -> Result<Place, ReadError> {
        let Some(item) = export.namespaces.get(index) else {
            return Ok(Place::History);
        };
        let namespace = item.namespace;
        let query = every_key_of(namespace);
        let end = self.range(
            &query,
            Some(&export.pin),
            from.as_deref(),
            slice,
            &mut |row| KeyItem::encode_into(namespace, &row, out),
        )?;
        Ok(match end {
            SliceEnd::More { resume_after } => {
                self.pass_to(&export.pin, (namespace, &resume_after));
                Place::Keys {
                    namespace: index,
                    from: Some(resume_after),
                }
            }
            SliceEnd::Finished => {
                if let Some(next) = namespace.0.checked_add(1) {
                    self.pass_to(&export.pin, (NamespaceId(next), &[]));
                }
                Place::Keys {
                    namespace: index + 1,
                    from: None,
                }
            }
        })
    }

    /// An export has read everything before a place.
    fn pass_to(&mut self, pin: &Pin, place: (NamespaceId, &[u8])) {
        if let Some(unread) = self.pins.unread_mut(pin) {
            self.kept.sweep_later(unread.pass_to(place));
            self.kept.sweep(&self.pins, PASSED_VERSIONS_MAX);
        }
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

    /// The namespaces from the index `from` on.
    fn append_namespaces(&self, from: usize, budget: &mut Budget, out: &mut Vec<u8>) -> Place {
        for (next, item) in self.namespaces.iter().enumerate().skip(from) {
            if budget.is_used_up() {
                return Place::Namespaces { next };
            }
            item.encode_into(out);
            budget.items += 1;
        }
        Place::Keys {
            namespace: 0,
            from: None,
        }
    }

    /// The changes that were gathered and are not appended yet.
    fn append_changes(&mut self, budget: &mut Budget, out: &mut Vec<u8>) -> Place {
        while let Some(change) = self.gathered.front() {
            let item = change.item();
            if budget.is_used_up() || !budget.has_room(out.len() + item.encoded_len()) {
                return Place::History;
            }
            item.encode_into(out);
            budget.items += 1;
            self.gathered.pop_front();
        }
        Place::Finished
    }
}

impl GatheredChange {
    fn of(entry: &Entry) -> GatheredChange {
        GatheredChange {
            namespace: entry.namespace,
            kind: entry.kind,
            revision: entry.revision,
            time: entry.time,
            result: match &entry.after {
                Some(record) => ChangeResult::Version(record.clone()),
                None => ChangeResult::Removed {
                    key: entry.key().into(),
                },
            },
        }
    }

    fn item(&self) -> ChangeItem<'_> {
        let (key, after) = match &self.result {
            ChangeResult::Version(record) => (record.key(), Some(record.bytes())),
            ChangeResult::Removed { key } => (&key[..], None),
        };
        ChangeItem {
            namespace: self.namespace,
            kind: self.kind,
            revision: self.revision,
            time: self.time,
            key,
            after,
        }
    }
}

impl Budget {
    fn new(limit: SliceLimit, length: usize) -> Budget {
        let bytes_max = usize::try_from(limit.bytes).unwrap_or(usize::MAX);
        Budget {
            limit,
            items: 0,
            length_max: length.saturating_add(bytes_max),
        }
    }

    /// Whether nothing more may be looked at. One item always may.
    fn is_used_up(&self) -> bool {
        self.items >= self.limit.visits.min(self.limit.rows).max(1)
    }

    /// Whether an item may bring the output to `length`. The first always may.
    fn has_room(&self, length: usize) -> bool {
        self.items == 0 || length <= self.length_max
    }
}

/// Everything that a namespace holds, in order.
fn every_key_of(namespace: NamespaceId) -> RangeQuery<'static> {
    RangeQuery {
        namespace,
        prefix: &[],
        start: &[],
        end: &[],
        scope: Scope::Subtree,
        delimiter: None,
        direction: Direction::Forward,
        projection: Projection::KeysAndValues,
        at: None,
        limit: 0,
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
