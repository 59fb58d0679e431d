//! What a reader has still to read.

use super::region::Region;
use crate::ids::NamespaceId;
use crate::query::{Direction, RangeQuery, Scope};

/// The keys that a reader has still to come to: from `first` to below `end` in the order of namespace and key. It
/// shrinks while the reader gets on, from below or from above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    first: (NamespaceId, Vec<u8>),
    /// `None`: to the last of all.
    end: Option<(NamespaceId, Vec<u8>)>,
    /// Where the reader is going; `None` when it passes nothing before it is done.
    direction: Option<Direction>,
    /// Keys with this byte behind so many others are passed over.
    passed_over: Option<(usize, u8)>,
}

impl Unread {
    /// Every key of every namespace.
    pub(super) fn everything() -> Unread {
        Unread {
            first: (NamespaceId(0), Vec::new()),
            end: None,
            direction: None,
            passed_over: None,
        }
    }

    /// The keys that a range reads.
    pub(super) fn of(query: &RangeQuery<'_>) -> Unread {
        let Region { low, high } = Region::of(query);
        let namespace = query.namespace;
        let end = match high {
            Some(high) => Some((namespace, high)),
            None => namespace
                .0
                .checked_add(1)
                .map(|next| (NamespaceId(next), Vec::new())),
        };
        Unread {
            first: (namespace, low),
            end,
            direction: Some(query.direction),
            passed_over: match query.scope {
                Scope::Subtree => None,
                Scope::Children { separator } => Some((query.prefix.len(), separator)),
            },
        }
    }

    pub(super) fn first(&self) -> (NamespaceId, &[u8]) {
        (self.first.0, &self.first.1)
    }

    pub(super) fn end(&self) -> Option<(NamespaceId, &[u8])> {
        self.end
            .as_ref()
            .map(|(namespace, key)| (*namespace, &key[..]))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end().is_some_and(|end| end <= self.first())
    }

    pub(super) fn contains(&self, namespace: NamespaceId, key: &[u8]) -> bool {
        let is_within =
            (namespace, key) >= self.first() && self.end().is_none_or(|end| (namespace, key) < end);
        let is_passed_over = || {
            self.passed_over
                .is_some_and(|(depth, separator)| key[depth..].contains(&separator))
        };
        is_within && !is_passed_over()
    }

    /// Whether the reader may begin at `region`: nothing in it was passed.
    pub(super) fn covers(&self, namespace: NamespaceId, region: &Region) -> bool {
        let begins_inside = (namespace, &region.low[..]) >= self.first();
        let ends_inside = match (&region.high, self.end()) {
            (_, None) => true,
            (Some(high), Some(end)) => (namespace, &high[..]) <= end,
            (None, Some(end)) => end.0 > namespace,
        };
        region.is_empty() || (begins_inside && ends_inside)
    }

    /// The reader has come to `resume`: what it passed, which is no longer unread.
    ///
    /// # Panics
    /// When it reads everything.
    pub(super) fn pass(&mut self, resume: &[u8]) -> Unread {
        let mut passed = self.clone();
        match self.direction {
            Some(Direction::Forward) => {
                self.first.1 = resume.to_vec();
                passed.end = Some(self.first.clone());
            }
            Some(Direction::Reverse) => {
                let namespace = self.first.0;
                self.end = Some((namespace, resume.to_vec()));
                passed.first = (namespace, resume.to_vec());
            }
            None => panic!("a reader of everything passes nothing"),
        }
        passed
    }

    /// A reader of everything has come to a place: what it passed, which is no longer unread.
    pub(super) fn pass_to(&mut self, (namespace, key): (NamespaceId, &[u8])) -> Unread {
        let mut passed = self.clone();
        self.cut_to((namespace, key));
        passed.end = Some(self.first.clone());
        passed
    }

    /// Leaves out what lies before a place: it was dealt with.
    pub(super) fn cut_to(&mut self, (namespace, key): (NamespaceId, &[u8])) {
        self.first = (namespace, key.to_vec());
    }
}
