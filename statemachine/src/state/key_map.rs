//! The ordered map of a namespace: from key to its newest version.

mod inner;
mod iterate;
mod leaf;
mod sieve;

use inner::Inner;
pub(super) use iterate::{Backward, Forward};
use leaf::Leaf;

use super::history::ChangePosition;
use super::record::Record;

/// A B+ tree whose nodes keep, next to each key, eight bytes of it: those after what all keys of the node share.
/// A search compares words within one array and follows a pointer to a key only where words are equal, which is
/// mostly at the key that is sought. (A map of the standard library follows one per comparison, and the first
/// bytes of keys do not help, because paths begin alike.)
///
/// ```text
///               inner:  separators  "/a/k"  "/b"           separators are as short as they can be
///                      /            |           \
///   leaf: shares "/a/"      leaf: shares "/a/"      leaf: shares "/b/x"
///         words  aa ab b          words  k l m            words  -1 -2
///         heads  .. .. ..         heads  .. .. ..         heads  .. ..
/// ```
///
/// Nothing outside this module knows that it is a tree.
#[derive(Debug)]
pub(super) struct KeyMap {
    root: Node,
    counts: NodeCounts,
}

/// The newest change of a key: a version, or a tombstone that stays as long as the history remembers the delete.
#[derive(Debug)]
pub(super) struct Head {
    /// The newest version; of a tombstone, the version that was deleted, for its key.
    record: Record,
    /// Position of the last change, and in the highest bit whether it was a delete.
    link: u64,
}

const TOMBSTONE: u64 = 1 << 63;

#[derive(Debug)]
enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

#[derive(Debug, Default)]
struct NodeCounts {
    leaves: u64,
    inners: u64,
}

/// Most entries of a node. A leaf's words then fill 512 bytes, and moving half its heads costs less than one miss
/// of the cache.
const NODE_ENTRIES_MAX: usize = 64;
/// A node with fewer entries looks for a neighbour to join.
const NODE_ENTRIES_FEW: usize = NODE_ENTRIES_MAX / 4;
/// Neighbours join if the node they make has at most this many entries, which leaves it room to grow.
const NODE_ENTRIES_JOINED_MAX: usize = NODE_ENTRIES_MAX * 3 / 4;

/// The right part of a node that was split, and the separator: not above any key of the right part, above every
/// key of the left.
struct Split {
    separator: Box<[u8]>,
    right: Node,
}

impl Head {
    pub(super) fn new(record: Record, position: ChangePosition) -> Head {
        assert!(
            position.0 & TOMBSTONE == 0,
            "more changes than can be counted"
        );
        Head {
            record,
            link: position.0,
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.record.key()
    }

    /// The newest version, unless it was deleted.
    pub(super) fn live(&self) -> Option<&Record> {
        if self.is_tombstone() {
            None
        } else {
            Some(&self.record)
        }
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.link & TOMBSTONE != 0
    }

    /// The last change.
    pub(super) fn position(&self) -> ChangePosition {
        ChangePosition(self.link & !TOMBSTONE)
    }

    /// Puts a new version in place and returns what was live.
    pub(super) fn replace(&mut self, record: Record, position: ChangePosition) -> Option<Record> {
        debug_assert_eq!(self.key(), record.key());
        let old = std::mem::replace(self, Head::new(record, position));
        if old.is_tombstone() {
            None
        } else {
            Some(old.record)
        }
    }

    /// Makes it a tombstone and returns what was live.
    pub(super) fn bury(&mut self, position: ChangePosition) -> Record {
        assert!(!self.is_tombstone(), "a key is deleted once");
        self.link = position.0 | TOMBSTONE;
        self.record.clone()
    }
}

impl KeyMap {
    pub(super) fn new() -> KeyMap {
        KeyMap {
            root: Node::Leaf(Box::new(Leaf::new())),
            counts: NodeCounts {
                leaves: 1,
                inners: 0,
            },
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Head> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => node = inner.child(inner.choose_child(key)),
                Node::Leaf(leaf) => return leaf.find(key).map(|index| &leaf.heads()[index]),
            }
        }
    }

    /// As [`KeyMap::get`]. The head's key must stay what it is.
    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Head> {
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let index = inner.choose_child(key);
                    node = inner.child_mut(index);
                }
                Node::Leaf(leaf) => return leaf.find(key).map(|index| leaf.head_mut(index)),
            }
        }
    }

    /// Adds a head whose key is not in the map.
    ///
    /// # Panics
    /// When the key is in the map.
    pub(super) fn insert(&mut self, head: Head) {
        if let Some(split) = self.root.insert(head, &mut self.counts) {
            self.counts.inners += 1;
            let left = std::mem::replace(&mut self.root, Node::Leaf(Box::new(Leaf::new())));
            self.root = Node::Inner(Box::new(Inner::new(left, split)));
        }
    }

    /// Takes a key out.
    ///
    /// # Panics
    /// When the key is not in the map.
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.root.remove(key, &mut self.counts);
        while let Node::Inner(inner) = &mut self.root {
            match inner.take_only_child() {
                Some(child) => {
                    self.counts.inners -= 1;
                    self.root = child;
                }
                None => break,
            }
        }
    }

    /// The heads from the first key at or above `key` on, ascending.
    pub(super) fn forward_from(&self, key: &[u8]) -> Forward<'_> {
        Forward::new(&self.root, key)
    }

    /// The heads from the last key below `key` on, descending; from the last of all without one.
    pub(super) fn backward_before(&self, key: Option<&[u8]>) -> Backward<'_> {
        Backward::new(&self.root, key)
    }

    /// About the bytes that the tree's nodes take, records excluded.
    pub(super) fn node_bytes(&self) -> u64 {
        self.counts.leaves * leaf::LEAF_BYTES + self.counts.inners * inner::INNER_BYTES
    }
}

impl Node {
    /// Entries of a leaf, children of an inner node.
    fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.heads().len(),
            Node::Inner(inner) => inner.len(),
        }
    }

    fn insert(&mut self, head: Head, counts: &mut NodeCounts) -> Option<Split> {
        match self {
            Node::Leaf(leaf) => leaf.insert(head, counts),
            Node::Inner(inner) => inner.insert(head, counts),
        }
    }

    fn remove(&mut self, key: &[u8], counts: &mut NodeCounts) {
        match self {
            Node::Leaf(leaf) => leaf.remove(key),
            Node::Inner(inner) => inner.remove(key, counts),
        }
    }
}

#[cfg(test)]
mod tests;
