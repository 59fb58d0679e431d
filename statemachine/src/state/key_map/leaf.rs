//! The lowest nodes of the tree: the heads themselves.

use super::sieve::{Sieve, shared_bytes};
use super::{Head, NODE_ENTRIES_MAX, Node, NodeCounts, Split};

/// Up to [`NODE_ENTRIES_MAX`] heads in the order of their keys.
#[derive(Debug)]
pub(super) struct Leaf {
    sieve: Sieve,
    heads: Vec<Head>,
}

/// About the bytes of a leaf.
pub(super) const LEAF_BYTES: u64 =
    (size_of::<Leaf>() + NODE_ENTRIES_MAX * size_of::<Head>()) as u64;

impl Leaf {
    pub(super) fn new() -> Leaf {
        Leaf {
            sieve: Sieve::new(),
            heads: Vec::new(),
        }
    }

    fn with_heads(heads: Vec<Head>) -> Leaf {
        let mut leaf = Leaf {
            sieve: Sieve::new(),
            heads,
        };
        leaf.rebuild();
        leaf
    }

    pub(super) fn heads(&self) -> &[Head] {
        &self.heads
    }

    pub(super) fn head_mut(&mut self, index: usize) -> &mut Head {
        &mut self.heads[index]
    }

    /// The index of a key that is present.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        self.sieve.find(key, |index| self.heads[index].key())
    }

    /// The index of the first head whose key is at or above `key`.
    pub(super) fn lower_bound(&self, key: &[u8]) -> usize {
        match self.sieve.search(key, |index| self.heads[index].key()) {
            Ok(index) | Err(index) => index,
        }
    }

    pub(super) fn insert(&mut self, head: Head, counts: &mut NodeCounts) -> Option<Split> {
        let index = match self
            .sieve
            .search(head.key(), |index| self.heads[index].key())
        {
            Ok(_) => panic!("the key is in the map already"),
            Err(index) => index,
        };
        if self.heads.len() < NODE_ENTRIES_MAX {
            self.insert_at(index, head);
            return None;
        }
        counts.leaves += 1;
        let right = if index == self.heads.len() {
            // Keys often come in order: then the left part stays full.
            let mut heads = Vec::with_capacity(NODE_ENTRIES_MAX);
            heads.push(head);
            Leaf::with_heads(heads)
        } else {
            self.split_around(index, head)
        };
        let left_last = self.heads[self.heads.len() - 1].key();
        let right_first = right.heads[0].key();
        let separator = right_first[..=shared_bytes(left_last, right_first)].into();
        Some(Split {
            separator,
            right: Node::Leaf(Box::new(right)),
        })
    }

    /// Moves the upper half into a new leaf and puts `head`, which belongs at `index`, into the half it belongs to.
    fn split_around(&mut self, index: usize, head: Head) -> Leaf {
        let middle = NODE_ENTRIES_MAX / 2;
        let mut heads = Vec::with_capacity(NODE_ENTRIES_MAX);
        heads.extend(self.heads.drain(middle..));
        if index <= middle {
            self.heads.insert(index, head);
        } else {
            heads.insert(index - middle, head);
        }
        self.rebuild();
        Leaf::with_heads(heads)
    }

    fn insert_at(&mut self, index: usize, head: Head) {
        self.heads.insert(index, head);
        self.sieve.inserted(index, |index| self.heads[index].key());
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        let Some(index) = self.find(key) else {
            panic!("the key is not in the map");
        };
        self.heads.remove(index);
        self.sieve.removed(index);
    }

    /// Takes over the heads of the leaf to the right.
    pub(super) fn join(&mut self, right: Leaf) {
        self.heads.extend(right.heads);
        self.rebuild();
    }

    fn rebuild(&mut self) {
        self.sieve
            .rebuild(self.heads.len(), |index| self.heads[index].key());
    }
}
