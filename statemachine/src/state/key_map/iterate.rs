//! Walking the tree in order, up or down.

use std::slice::Iter;

use super::inner::Inner;
use super::{Head, Node};

/// The heads in ascending order from a place on.
#[derive(Debug)]
pub(in crate::state) struct Forward<'a> {
    /// The way down, with the child taken at each level.
    path: Vec<(&'a Inner, usize)>,
    heads: Iter<'a, Head>,
}

/// The heads in descending order from a place on.
#[derive(Debug)]
pub(in crate::state) struct Backward<'a> {
    path: Vec<(&'a Inner, usize)>,
    heads: Iter<'a, Head>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(root: &'a Node, key: &[u8]) -> Forward<'a> {
        let mut path = Vec::new();
        let mut node = root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let index = inner.choose_child(key);
                    path.push((&**inner, index));
                    node = inner.child(index);
                }
                Node::Leaf(leaf) => {
                    let heads = leaf.heads()[leaf.lower_bound(key)..].iter();
                    return Forward { path, heads };
                }
            }
        }
    }

    /// Goes to the first head of the next leaf.
    fn enter_next_leaf(&mut self) -> Option<()> {
        while let Some((inner, index)) = self.path.pop() {
            if index + 1 == inner.len() {
                continue;
            }
            self.path.push((inner, index + 1));
            let mut node = inner.child(index + 1);
            loop {
                match node {
                    Node::Inner(inner) => {
                        self.path.push((inner, 0));
                        node = inner.child(0);
                    }
                    Node::Leaf(leaf) => {
                        self.heads = leaf.heads().iter();
                        return Some(());
                    }
                }
            }
        }
        None
    }
}

impl<'a> Iterator for Forward<'a> {
    type Item = &'a Head;

    fn next(&mut self) -> Option<&'a Head> {
        loop {
            if let Some(head) = self.heads.next() {
                return Some(head);
            }
            self.enter_next_leaf()?;
        }
    }
}

impl<'a> Backward<'a> {
    pub(super) fn new(root: &'a Node, key: Option<&[u8]>) -> Backward<'a> {
        let mut path = Vec::new();
        let mut node = root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let index = key.map_or(inner.len() - 1, |key| inner.choose_child(key));
                    path.push((&**inner, index));
                    node = inner.child(index);
                }
                Node::Leaf(leaf) => {
                    let end = key.map_or(leaf.heads().len(), |key| leaf.lower_bound(key));
                    return Backward {
                        path,
                        heads: leaf.heads()[..end].iter(),
                    };
                }
            }
        }
    }

    /// Goes to the last head of the leaf before.
    fn enter_previous_leaf(&mut self) -> Option<()> {
        while let Some((inner, index)) = self.path.pop() {
            if index == 0 {
                continue;
            }
            self.path.push((inner, index - 1));
            let mut node = inner.child(index - 1);
            loop {
                match node {
                    Node::Inner(inner) => {
                        let last = inner.len() - 1;
                        self.path.push((inner, last));
                        node = inner.child(last);
                    }
                    Node::Leaf(leaf) => {
                        self.heads = leaf.heads().iter();
                        return Some(());
                    }
                }
            }
        }
        None
    }
}

impl<'a> Iterator for Backward<'a> {
    type Item = &'a Head;

    fn next(&mut self) -> Option<&'a Head> {
        loop {
            if let Some(head) = self.heads.next_back() {
                return Some(head);
            }
            self.enter_previous_leaf()?;
        }
    }
}
