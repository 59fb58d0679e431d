//! The changes of the recent past, in order.

use std::collections::VecDeque;

use super::record::{RECORD_OVERHEAD_BYTES, Record};
use crate::command::CommandKind;
use crate::ids::{NamespaceId, Revision, ShardTime};

/// The number of a change among all changes of the shard. The first is 1; 0 stands before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangePosition(pub u64);

/// One change.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) namespace: NamespaceId,
    pub(super) kind: CommandKind,
    pub(super) revision: Revision,
    pub(super) time: ShardTime,
    /// What the change made of the key; `None` where it removed it. Shared with whoever holds the version now.
    pub(super) after: Option<Record>,
    /// What the change replaced; `None` where the key was absent. Nothing but this keeps that version alive.
    pub(super) before: Option<Record>,
    /// The way to older changes of the key.
    pub(super) link: Link,
    /// Sum of [`Entry::held_bytes`] over all changes before this one, set by [`History::push`]: so the floor can pass
    /// any number of entries in one step.
    pub(super) bytes_before: u64,
}

/// Leads from a change to older changes of the same key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// The change before: it made what this one replaced, or removed the key before this one brought it back; 0 if
    /// there is none or it was forgotten.
    before: ChangePosition,
    /// A change farther back. Every [`ANCHOR_DEPTHS`]th change of a chain is an anchor; the others jump to the anchor
    /// next to them, and the jumps of anchors are of such lengths that any is found in steps logarithmic in the
    /// distance, as in Myers, "An applicative random-access stack" (1983): a key that is written all the time must
    /// not make reads in the past slow. Nor must a write be slow for their sake: most look at one older change alone.
    jump: ChangePosition,
    /// Number of changes that the chain had before this one.
    depth: u64,
}

/// All namespaces' changes in the order in which they were applied: older versions for reads in the past, and the
/// log that watchers will read.
///
/// ```text
///    front            floor                        next
///      | to be freed    | answers reads at revisions |
///      v                v                            v
///      [ entry ][ entry ][ entry ][ entry ][ entry ]
///                  ^        |link.before       ^
///                  +--------+                  |position
///                                         head in the map
/// ```
///
/// A key's head in the map names its last change; each entry names the change before it. Following the links leads
/// back in time. A link to a position before `front` ends the walk: no reader that is still allowed looks past it.
///
/// `floor` moves by the log alone, the same on every replica. `front` follows it a few entries at a time, when
/// no export needs the entries between. What a pin has still to read of a freed entry is kept elsewhere. The entries lie in chunks, so that growing never moves them.
#[derive(Debug)]
pub(super) struct History {
    /// Chunks of `CHUNK_ENTRIES`, the last one filling up. Freed entries of the first are left without records.
    chunks: VecDeque<Vec<Entry>>,
    /// Position of the first entry of the first chunk.
    base: u64,
    front: ChangePosition,
    floor: ChangePosition,
    next: ChangePosition,
    /// Sum of [`Entry::held_bytes`] over everything that was ever pushed.
    pushed_bytes: u64,
    /// Sum of [`Entry::held_bytes`] over [floor, next).
    answering_bytes: u64,
    /// Sum of [`Entry::held_bytes`] over [front, next).
    held_bytes: u64,
    /// The last chunk that was emptied, kept for the next that is needed.
    spare: Option<Vec<Entry>>,
}

const CHUNK_ENTRIES: usize = 1024;

/// What one entry counts for beyond what it replaced. A constant of the format of decisions, not of this host: the
/// floor moves by it, and must move alike everywhere.
const ENTRY_BYTES: u64 = 80;

impl Entry {
    /// The key.
    pub(super) fn key(&self) -> &[u8] {
        match self.after.as_ref().or(self.before.as_ref()) {
            Some(record) => record.key(),
            None => panic!("a change from nothing to nothing"),
        }
    }

    /// The change of the key before this one; 0 if there is none or it was forgotten.
    pub(super) fn previous(&self) -> ChangePosition {
        self.link.before
    }

    /// What forgetting the entry gives back. The same on every replica.
    pub(super) fn held_bytes(&self) -> u64 {
        ENTRY_BYTES
            + self
                .before
                .as_ref()
                .map_or(0, |record| record.bytes_len() + RECORD_OVERHEAD_BYTES)
    }
}

/// Changes of a chain for each anchor.
const ANCHOR_DEPTHS: u64 = 8;

impl Link {
    fn is_anchor(&self) -> bool {
        self.depth.is_multiple_of(ANCHOR_DEPTHS)
    }
}

impl ChangePosition {
    fn following(self) -> ChangePosition {
        ChangePosition(self.0 + 1)
    }

    /// The position before this one; none before the first.
    pub(super) fn preceding(self) -> Option<ChangePosition> {
        (self.0 > 1).then(|| ChangePosition(self.0 - 1))
    }
}

impl History {
    pub(super) fn new() -> History {
        History::beginning_at(ChangePosition(1))
    }

    /// A history whose first change takes the position `first`. What came before is forgotten.
    pub(super) fn beginning_at(first: ChangePosition) -> History {
        History {
            chunks: VecDeque::new(),
            base: first.0,
            front: first,
            floor: first,
            next: first,
            pushed_bytes: 0,
            answering_bytes: 0,
            held_bytes: 0,
            spare: None,
        }
    }

    /// The position that the next change takes.
    pub(super) fn next(&self) -> ChangePosition {
        self.next
    }

    /// The first position that is present.
    #[cfg(test)]
    pub(super) fn front(&self) -> ChangePosition {
        self.front
    }

    /// The first position whose change can be undone for a read at a revision.
    pub(super) fn floor(&self) -> ChangePosition {
        self.floor
    }

    /// Number of changes at or above the floor.
    pub(super) fn answering_count(&self) -> u64 {
        self.next.0 - self.floor.0
    }

    /// Bytes held for the changes at or above the floor.
    pub(super) fn answering_bytes(&self) -> u64 {
        self.answering_bytes
    }

    /// Bytes held for all changes that are present.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    pub(super) fn push(&mut self, mut entry: Entry) {
        entry.bytes_before = self.pushed_bytes;
        self.pushed_bytes += entry.held_bytes();
        self.answering_bytes += entry.held_bytes();
        self.held_bytes += entry.held_bytes();
        self.next = self.next.following();
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK_ENTRIES => chunk.push(entry),
            Some(_) | None => {
                let mut chunk = self
                    .spare
                    .take()
                    .unwrap_or_else(|| Vec::with_capacity(CHUNK_ENTRIES));
                chunk.push(entry);
                self.chunks.push_back(chunk);
            }
        }
    }

    /// The change at `position`, unless it was forgotten or has not happened.
    pub(super) fn get(&self, position: ChangePosition) -> Option<&Entry> {
        if position < self.front || position >= self.next {
            return None;
        }
        let (chunk, offset) = self.place(position);
        self.chunks.get(chunk)?.get(offset)
    }

    /// The link of a new change to the key's change at `before`.
    pub(super) fn link_to(&self, before: ChangePosition) -> Link {
        let Some(parent) = self.get(before).map(|entry| entry.link) else {
            return Link {
                before,
                jump: before,
                depth: 0,
            };
        };
        let depth = parent.depth + 1;
        let anchor = match parent.is_anchor() {
            true => before,
            false => parent.jump,
        };
        let link = Link {
            before,
            jump: anchor,
            depth,
        };
        Link {
            jump: match link.is_anchor() {
                true => self.choose_jump_over(anchor),
                false => anchor,
            },
            ..link
        }
    }

    /// Where an anchor jumps whose next older anchor is at `anchor`: there, or as far again as that one and the one
    /// behind it, if they jump equally far.
    fn choose_jump_over(&self, anchor: ChangePosition) -> ChangePosition {
        let link_at = |position| self.get(position).map(|entry| entry.link);
        let near = link_at(anchor);
        let far = near.and_then(|near| link_at(near.jump));
        let farther = far.and_then(|far| link_at(far.jump));
        match (near, far, farther) {
            (Some(near), Some(far), Some(farther))
                if near.depth - far.depth == far.depth - farther.depth =>
            {
                far.jump
            }
            _ => anchor,
        }
    }

    /// The version of a key before the first of its changes that is not visible, and the number of steps it took to
    /// find. `newest` is what the change at `position`, the key's last, made of it. Visible changes are older than
    /// those that are not.
    pub(super) fn version_before<'a>(
        &'a self,
        newest: Option<&'a Record>,
        position: ChangePosition,
        is_visible: impl Fn(ChangePosition, &Entry) -> bool,
    ) -> (Option<&'a Record>, u64) {
        match self.oldest_hidden(position, is_visible) {
            None => (newest, 0),
            Some((entry, steps)) => (entry.before.as_ref(), steps),
        }
    }

    /// As [`History::version_before`], for a reader that sees the changes before `bound`, where the history may have
    /// forgotten changes that the reader does not see. What they replaced is not found here.
    pub(super) fn version_at<'a>(
        &'a self,
        newest: Option<&'a Record>,
        position: ChangePosition,
        bound: ChangePosition,
    ) -> (Option<&'a Record>, u64) {
        if position < bound {
            return (newest, 0);
        }
        match self.oldest_hidden(position, |position, _| position < bound) {
            Some((entry, steps)) if entry.link.before < bound => (entry.before.as_ref(), steps),
            Some((_, steps)) => (None, steps),
            None => (None, 0),
        }
    }

    /// The oldest change of a key that is present and not visible, and the number of steps it took to find; `position`
    /// is that of its last.
    fn oldest_hidden(
        &self,
        position: ChangePosition,
        is_visible: impl Fn(ChangePosition, &Entry) -> bool,
    ) -> Option<(&Entry, u64)> {
        let hidden = |position| {
            self.get(position)
                .filter(|entry| !is_visible(position, entry))
        };
        let mut entry = hidden(position)?;
        let mut steps = 1;
        while let Some(older) = hidden(entry.link.jump).or_else(|| hidden(entry.link.before)) {
            entry = older;
            steps += 1;
        }
        Some((entry, steps))
    }

    /// The position of the first change of a namespace above a revision that is answered; the next change's if there
    /// is none.
    pub(super) fn first_above(&self, namespace: NamespaceId, revision: Revision) -> ChangePosition {
        let (mut low, mut high) = (self.floor.0, self.next.0);
        // Revisions grow within a namespace: looking at the first change of it behind the middle says on which side
        // the place is.
        while low < high {
            let middle = low.midpoint(high);
            let found = (middle..high).find(|&position| {
                self.get(ChangePosition(position))
                    .is_some_and(|entry| entry.namespace == namespace)
            });
            match found {
                Some(position) if self.revision_at(position) <= revision => low = position + 1,
                Some(_) | None => high = middle,
            }
        }
        ChangePosition(low)
    }

    fn revision_at(&self, position: u64) -> Revision {
        self.get(ChangePosition(position))
            .expect("it was found a moment ago")
            .revision
    }

    /// The entry that would leave the answering part next.
    pub(super) fn oldest_answering(&self) -> Option<&Entry> {
        self.get(self.floor)
    }

    /// Moves the floor past one entry.
    ///
    /// # Panics
    /// When the floor is at the end.
    pub(super) fn raise_floor(&mut self) {
        assert!(
            self.floor < self.next,
            "the floor of the history is at its end"
        );
        self.raise_floor_to(self.floor.following());
    }

    /// Moves the floor up to a position, in one step.
    ///
    /// # Panics
    /// When it would go back, or past the end.
    pub(super) fn raise_floor_to(&mut self, floor: ChangePosition) {
        assert!(
            self.floor <= floor && floor <= self.next,
            "the floor of the history only rises"
        );
        let bytes_below = match self.get(floor) {
            Some(entry) => entry.bytes_before,
            None => self.pushed_bytes,
        };
        self.answering_bytes = self.pushed_bytes - bytes_below;
        self.floor = floor;
    }

    /// Whether the first entry lies below the floor and below `hold`.
    pub(super) fn has_freeable(&self, hold: ChangePosition) -> bool {
        self.front < self.floor.min(hold)
    }

    /// Takes the first entry out, if it lies below the floor and below `hold`.
    pub(super) fn free_front(&mut self, hold: ChangePosition) -> Option<(ChangePosition, Entry)> {
        if !self.has_freeable(hold) {
            return None;
        }
        let position = self.front;
        let (chunk_index, offset) = self.place(position);
        assert_eq!(chunk_index, 0, "entries are freed from the first chunk");
        let chunk = &mut self.chunks[0];
        let slot = &mut chunk[offset];
        let husk = Entry {
            after: None,
            before: None,
            ..*slot
        };
        let entry = std::mem::replace(slot, husk);
        if offset + 1 == CHUNK_ENTRIES {
            chunk.clear();
            self.spare = self.chunks.pop_front();
            self.base += CHUNK_ENTRIES as u64;
        }
        self.held_bytes -= entry.held_bytes();
        self.front = position.following();
        Some((position, entry))
    }

    /// Fetches what freeing the first `count` entries needs into the caches.
    pub(super) fn touch_front(&self, count: usize) {
        let (_, offset) = self.place(self.front);
        let Some(chunk) = self.chunks.front() else {
            return;
        };
        let entries = &chunk[offset..chunk.len().min(offset + count)];
        let records = entries
            .iter()
            .flat_map(|entry| entry.after.iter().chain(&entry.before));
        // Reads alone do not wait for one another, as the counting down of references does.
        std::hint::black_box(records.map(Record::reference_count).sum::<usize>());
    }

    fn place(&self, position: ChangePosition) -> (usize, usize) {
        let distance = (position.0 - self.base) as usize;
        (distance / CHUNK_ENTRIES, distance % CHUNK_ENTRIES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history of one key that was changed `count` times.
    fn chain(count: u64) -> History {
        let mut history = History::new();
        for number in 0..count {
            history.push(Entry {
                namespace: NamespaceId::DEFAULT,
                kind: CommandKind::Put,
                revision: Revision(number + 1),
                time: ShardTime(0),
                after: None,
                before: None,
                link: history.link_to(ChangePosition(number)),
                bytes_before: 0,
            });
        }
        history
    }

    fn steps_to(history: &History, newest: u64, target: u64) -> u64 {
        let (_, steps) = history.version_before(None, ChangePosition(newest), |position, _| {
            position.0 < target
        });
        steps
    }

    #[test]
    fn any_change_is_found_in_few_steps() {
        let history = chain(20_000);
        for target in 1..=20_000 {
            let steps = steps_to(&history, 20_000, target);
            // Two for each jump between anchors, up and down, and up to an anchor's distance at either end.
            assert!((1..=70).contains(&steps), "{steps} steps to {target}");
        }
        assert_eq!(steps_to(&history, 20_000, 20_001), 0);
    }

    #[test]
    fn what_is_forgotten_ends_the_way() {
        let mut history = chain(5_000);
        for _ in 0..3_000 {
            history.raise_floor();
            assert!(history.free_front(ChangePosition(u64::MAX)).is_some());
        }
        for target in 3_001..=5_000 {
            let steps = steps_to(&history, 5_000, target);
            assert!((1..=70).contains(&steps), "{steps} steps to {target}");
        }
    }
}
