//! Putting a state together from the sections of a snapshot.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use metastore_bugs::{Mutant, is_planted};

use super::hash::StateHash;
use super::history::{ChangePosition, Entry, History};
use super::key_map::Head;
use super::record::Record;
use super::{Namespace, Parameters, StateMachine};
use crate::ids::{NamespaceId, Revision, ShardTime};
use crate::row::Row;
use crate::snapshot::{
    ChangeItem, Counters, ImportError, ImportFault, ItemError, KeyItem, NamespaceItem, SectionTag,
    check_item_length,
};

/// A state that is being loaded, section by section.
///
/// The result is the state that was exported: the same answers, the same floor of the history, the same hash, whatever
/// is applied to both. Where bytes cannot be a state it says so and never panics, but it trusts that they are what was
/// written: checksums are the file's.
///
/// ```text
///    new --> counters --> namespaces --> keys --> history --> finish
/// ```
#[derive(Debug)]
pub struct SnapshotImport {
    machine: StateMachine,
    counters: Option<Counters>,
    /// The section that is being read.
    section: Option<SectionTag>,
    /// Where in the section the next item begins.
    offset: u64,
    /// The beginning of an item whose end has not come.
    carry: Vec<u8>,
    /// The key before, in order to see that keys ascend.
    last_key: Option<(NamespaceId, Vec<u8>)>,
    last_time: ShardTime,
}

impl SnapshotImport {
    /// Nothing is loaded yet. `parameters` are those of a snapshot that names none: a snapshot's own are a part of its
    /// state and prevail, because they decided everything in it.
    #[must_use]
    pub fn new(parameters: Parameters) -> SnapshotImport {
        SnapshotImport {
            machine: StateMachine::new(parameters),
            counters: None,
            section: None,
            offset: 0,
            carry: Vec::new(),
            last_key: None,
            last_time: ShardTime(0),
        }
    }

    /// Loads the next bytes of a section. They may be cut anywhere; sections come in the order of their numbers.
    ///
    /// # Errors
    /// Any [`ImportError`]; then nothing can be loaded any more.
    pub fn section(&mut self, tag: SectionTag, bytes: &[u8]) -> Result<(), ImportError> {
        if !Self::is_known(tag) {
            if tag.is_optional() {
                return Ok(());
            }
            return Err(ImportError::UnknownSection { section: tag });
        }
        self.enter(tag)?;
        let mut rest = bytes;
        if !self.carry.is_empty() {
            rest = self.complete_carry(tag, rest)?;
        }
        while !rest.is_empty() {
            match self.load_item(tag, rest)? {
                Step::Loaded { length } => rest = &rest[length..],
                Step::Incomplete { .. } => {
                    self.carry.extend_from_slice(rest);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The state, when it is complete.
    ///
    /// # Errors
    /// [`ImportError::Missing`], [`ImportError::CutOff`] and [`ImportError::WrongTotal`].
    pub fn finish(self) -> Result<StateMachine, ImportError> {
        self.leave()?;
        let Some(counters) = self.counters else {
            let section = SectionTag::COUNTERS;
            return Err(ImportError::Missing { section });
        };
        let mut machine = self.machine;
        if is_planted(Mutant::RevisionOfNewestRow) {
            for namespace in machine.namespaces.values_mut() {
                let live = namespace.keys.forward_from(&[]).filter_map(Head::live);
                let newest = live.map(|record| record.row().mod_revision).max();
                namespace.revision = newest.unwrap_or(namespace.revision);
            }
        }
        let totals = [
            (
                SectionTag::NAMESPACES,
                "namespaces",
                counters.namespace_count,
                machine.namespaces.len() as u64,
            ),
            (
                SectionTag::HISTORY,
                "changes",
                counters.next.0 - counters.floor.0,
                machine.history.next().0 - counters.floor.0,
            ),
            (
                SectionTag::KEYS,
                "live keys",
                counters.key_count,
                machine.key_count,
            ),
            (
                SectionTag::KEYS,
                "bytes of live keys",
                counters.live_bytes,
                machine.live_bytes,
            ),
        ];
        for (section, what, expected, found) in totals {
            if expected != found {
                return Err(ImportError::WrongTotal {
                    section,
                    what,
                    expected,
                    found,
                });
            }
        }
        Ok(machine)
    }
}

/// What became of the bytes at an item's place.
enum Step {
    /// It was loaded.
    Loaded { length: usize },
    /// It needs at least this many bytes.
    Incomplete { needed: usize },
}

impl SnapshotImport {
    fn is_known(tag: SectionTag) -> bool {
        (SectionTag::COUNTERS..=SectionTag::HISTORY).contains(&tag)
    }

    /// Begins a section, unless it has begun.
    fn enter(&mut self, tag: SectionTag) -> Result<(), ImportError> {
        if self.section == Some(tag) {
            return Ok(());
        }
        self.leave()?;
        if let Some(after) = self.section
            && tag < after
        {
            let section = tag;
            return Err(ImportError::WrongOrder { section, after });
        }
        if self.counters.is_none() && tag != SectionTag::COUNTERS {
            let section = SectionTag::COUNTERS;
            return Err(ImportError::Missing { section });
        }
        self.section = Some(tag);
        self.offset = 0;
        Ok(())
    }

    /// Ends the section that is being read.
    fn leave(&self) -> Result<(), ImportError> {
        match self.section {
            Some(section) if !self.carry.is_empty() => Err(ImportError::CutOff {
                section,
                offset: self.offset,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Adds to the item that was cut what it needs, loads it when it is whole, and returns the rest.
    fn complete_carry<'a>(
        &mut self,
        tag: SectionTag,
        mut rest: &'a [u8],
    ) -> Result<&'a [u8], ImportError> {
        let mut carry = std::mem::take(&mut self.carry);
        loop {
            match self.load_item(tag, &carry)? {
                Step::Loaded { length } => {
                    assert_eq!(length, carry.len(), "an item took more than it needed");
                    carry.clear();
                    break;
                }
                Step::Incomplete { .. } if rest.is_empty() => break,
                Step::Incomplete { needed } => {
                    let (taken, left) = rest.split_at(rest.len().min(needed - carry.len()));
                    carry.extend_from_slice(taken);
                    rest = left;
                }
            }
        }
        self.carry = carry;
        Ok(rest)
    }

    /// Loads the item at the front of `bytes`.
    fn load_item(&mut self, tag: SectionTag, bytes: &[u8]) -> Result<Step, ImportError> {
        let loaded = match tag {
            SectionTag::COUNTERS => self.load_counters(bytes),
            SectionTag::NAMESPACES => self.load_namespace(bytes),
            SectionTag::KEYS => self.load_key(bytes),
            SectionTag::HISTORY => self.load_change(bytes),
            SectionTag(_) => panic!("a section that is not known was entered"),
        };
        match loaded {
            Ok(length) => {
                self.offset += length as u64;
                Ok(Step::Loaded { length })
            }
            Err(ItemError::Incomplete { needed }) => Ok(Step::Incomplete { needed }),
            Err(ItemError::Fault(fault)) => Err(ImportError::Malformed {
                section: tag,
                offset: self.offset,
                fault,
            }),
        }
    }

    fn load_counters(&mut self, bytes: &[u8]) -> Result<usize, ItemError> {
        if self.counters.is_some() {
            return Err(ImportFault::Surplus.into());
        }
        let (counters, length) = Counters::decode(bytes)?;
        self.machine.parameters = counters.parameters;
        self.machine.shard_time = counters.shard_time;
        self.machine.hash = StateHash::with_value(counters.state_hash);
        self.machine.history = History::beginning_at(counters.floor);
        self.counters = Some(counters);
        Ok(length)
    }

    fn load_namespace(&mut self, bytes: &[u8]) -> Result<usize, ItemError> {
        let (item, length) = NamespaceItem::decode(bytes)?;
        let namespaces = &mut self.machine.namespaces;
        if let Some((last, _)) = namespaces.last_key_value()
            && *last >= item.namespace
        {
            return Err(ImportFault::NotAscending.into());
        }
        let namespace = Namespace {
            revision: item.revision,
            oldest: item.oldest,
            ..Namespace::new()
        };
        namespaces.insert(item.namespace, namespace);
        Ok(length)
    }

    fn load_key(&mut self, bytes: &[u8]) -> Result<usize, ItemError> {
        let (item, length) = KeyItem::decode(bytes)?;
        check_item_length(length)?;
        match &mut self.last_key {
            Some((namespace, key)) => {
                if (item.namespace, item.key) <= (*namespace, key.as_slice()) {
                    return Err(ImportFault::NotAscending.into());
                }
                *namespace = item.namespace;
                key.clear();
                key.extend_from_slice(item.key);
            }
            None => self.last_key = Some((item.namespace, item.key.to_vec())),
        }
        self.machine.restore_key(&item)?;
        Ok(length)
    }

    fn load_change(&mut self, bytes: &[u8]) -> Result<usize, ItemError> {
        let (item, length) = ChangeItem::decode(bytes)?;
        check_item_length(length)?;
        if item.time < self.last_time || item.time > self.machine.shard_time {
            let time_ms = item.time.0;
            return Err(ImportFault::WrongTime { time_ms }.into());
        }
        self.last_time = item.time;
        self.machine.restore_change(&item)?;
        Ok(length)
    }
}

impl StateMachine {
    /// Puts a key in place that was not changed since the floor.
    fn restore_key(&mut self, item: &KeyItem<'_>) -> Result<(), ImportFault> {
        let namespace = listed(&mut self.namespaces, item.namespace)?;
        let record = Record::from_row_bytes(item.row_bytes);
        check_row(&record.row(), Revision(0)..=namespace.oldest)?;
        self.key_count += 1;
        self.live_bytes += record.bytes_len();
        // The change that made it lies below the floor, where nobody asks which one it was.
        let forgotten = ChangePosition(0);
        namespace.keys.insert(Head::new(record, forgotten));
        Ok(())
    }

    /// Makes a change once more whose result is known.
    fn restore_change(&mut self, item: &ChangeItem<'_>) -> Result<(), ImportFault> {
        let namespace = listed(&mut self.namespaces, item.namespace)?;
        // Below, it need not stay above the oldest: a floor may part the changes of one revision, or lag behind, and where
        // changes of other namespaces lie before it, a change stays although its revision is compacted.
        let revisions = Revision(1)..=namespace.revision;
        if !revisions.contains(&item.revision) {
            let revision = item.revision;
            return Err(ImportFault::WrongRevision { revision });
        }
        let after = match item.after {
            Some(row_bytes) => {
                let record = Record::from_row_bytes(row_bytes);
                check_row(&record.row(), item.revision..=item.revision)?;
                Some(record)
            }
            None => None,
        };
        let position = self.history.next();
        let head = namespace.keys.get_mut(item.key);
        let link = self
            .history
            .link_to(head.as_deref().map_or(ChangePosition(0), Head::position));
        let before = match (head, &after) {
            (Some(head), Some(after)) => head.replace(after.clone(), position),
            (Some(head), None) if !head.is_tombstone() => Some(head.bury(position)),
            (None, Some(after)) => {
                namespace.keys.insert(Head::new(after.clone(), position));
                None
            }
            (Some(_) | None, None) => return Err(ImportFault::AbsentRemoved),
        };
        self.add_to_history(Entry {
            namespace: item.namespace,
            kind: item.kind,
            revision: item.revision,
            time: item.time,
            after,
            before,
            link,
            bytes_before: 0,
        });
        Ok(())
    }
}

/// A namespace that the snapshot has named.
fn listed(
    namespaces: &mut BTreeMap<NamespaceId, Namespace>,
    namespace: NamespaceId,
) -> Result<&mut Namespace, ImportFault> {
    namespaces
        .get_mut(&namespace)
        .ok_or(ImportFault::UnknownNamespace { namespace })
}

/// Whether a row can be one that was last changed within `revisions`.
fn check_row(row: &Row<'_>, revisions: RangeInclusive<Revision>) -> Result<(), ImportFault> {
    if row.key.is_empty() {
        return Err(ImportFault::EmptyKey);
    }
    if !revisions.contains(&row.mod_revision) {
        let revision = row.mod_revision;
        return Err(ImportFault::WrongRevision { revision });
    }
    if row.create_revision > row.mod_revision {
        let revision = row.create_revision;
        return Err(ImportFault::WrongRevision { revision });
    }
    Ok(())
}
