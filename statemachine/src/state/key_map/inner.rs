//! The upper nodes of the tree: where to go.

use super::sieve::Sieve;
use super::{
    Head, NODE_ENTRIES_FEW, NODE_ENTRIES_JOINED_MAX, NODE_ENTRIES_MAX, Node, NodeCounts, Split,
};

/// Up to [`NODE_ENTRIES_MAX`] children, parted by separators: the keys of child `i` are below separator `i` and at
/// or above separator `i - 1`.
#[derive(Debug)]
pub(super) struct Inner {
    sieve: Sieve,
    separators: Vec<Box<[u8]>>,
    children: Vec<Node>,
}

/// About the bytes of an inner node, with separators as long as they commonly are.
pub(super) const INNER_BYTES: u64 = (size_of::<Inner>()
    + NODE_ENTRIES_MAX * (size_of::<Box<[u8]>>() + size_of::<Node>() + 16))
    as u64;

impl Inner {
    /// A node over the two parts of one that was split.
    pub(super) fn new(left: Node, split: Split) -> Inner {
        Inner::with_children(vec![split.separator], vec![left, split.right])
    }

    fn with_children(separators: Vec<Box<[u8]>>, children: Vec<Node>) -> Inner {
        let mut inner = Inner {
            sieve: Sieve::new(),
            separators,
            children,
        };
        inner.rebuild();
        inner
    }

    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    pub(super) fn child(&self, index: usize) -> &Node {
        &self.children[index]
    }

    pub(super) fn child_mut(&mut self, index: usize) -> &mut Node {
        &mut self.children[index]
    }

    /// The only child, taken out, if there is no other.
    pub(super) fn take_only_child(&mut self) -> Option<Node> {
        if self.children.len() == 1 {
            self.children.pop()
        } else {
            None
        }
    }

    /// The child in which `key` is or would be.
    pub(super) fn choose_child(&self, key: &[u8]) -> usize {
        match self.sieve.search(key, |index| &self.separators[index]) {
            Ok(index) => index + 1,
            Err(index) => index,
        }
    }

    pub(super) fn insert(&mut self, head: Head, counts: &mut NodeCounts) -> Option<Split> {
        let index = self.choose_child(head.key());
        let split = self.children[index].insert(head, counts)?;
        self.children.insert(index + 1, split.right);
        self.separators.insert(index, split.separator);
        self.sieve.inserted(index, |index| &self.separators[index]);
        if self.children.len() <= NODE_ENTRIES_MAX {
            return None;
        }
        counts.inners += 1;
        let is_last = index + 2 == self.children.len();
        // Where keys come in order, the left part stays nearly full.
        let middle = if is_last {
            self.children.len() - 2
        } else {
            self.children.len() / 2
        };
        let children = self.children.split_off(middle);
        let separators = self.separators.split_off(middle);
        let Some(separator) = self.separators.pop() else {
            panic!("a node that was split had more than one child");
        };
        self.rebuild();
        let right = Node::Inner(Box::new(Inner::with_children(separators, children)));
        Some(Split { separator, right })
    }

    pub(super) fn remove(&mut self, key: &[u8], counts: &mut NodeCounts) {
        let index = self.choose_child(key);
        self.children[index].remove(key, counts);
        let entries = self.children[index].len();
        if entries == 0 {
            self.remove_child(index, counts);
        } else if entries < NODE_ENTRIES_FEW {
            self.join_child(index, counts);
        }
    }

    fn remove_child(&mut self, index: usize, counts: &mut NodeCounts) {
        match self.children.remove(index) {
            Node::Leaf(_) => counts.leaves -= 1,
            Node::Inner(_) => counts.inners -= 1,
        }
        // With the last child gone there is no separator, and the parent removes this node in turn.
        if !self.separators.is_empty() {
            let separator = index.saturating_sub(1);
            self.separators.remove(separator);
            self.sieve.removed(separator);
        }
    }

    /// Joins the child with a neighbour if both fit one node.
    fn join_child(&mut self, index: usize, counts: &mut NodeCounts) {
        for left in [Some(index), index.checked_sub(1)].into_iter().flatten() {
            let fits = left + 1 < self.children.len()
                && self.children[left].len() + self.children[left + 1].len()
                    <= NODE_ENTRIES_JOINED_MAX;
            if fits {
                self.join_children(left, counts);
                return;
            }
        }
    }

    fn join_children(&mut self, left: usize, counts: &mut NodeCounts) {
        let right_node = self.children.remove(left + 1);
        let separator = self.separators.remove(left);
        self.sieve.removed(left);
        match (&mut self.children[left], right_node) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                counts.leaves -= 1;
                left.join(*right);
            }
            (Node::Inner(left), Node::Inner(right)) => {
                counts.inners -= 1;
                left.separators.push(separator);
                left.separators.extend(right.separators);
                left.children.extend(right.children);
                left.rebuild();
            }
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
                panic!("the children of a node are of one level")
            }
        }
    }

    fn rebuild(&mut self) {
        self.sieve
            .rebuild(self.separators.len(), |index| &self.separators[index]);
    }
}
