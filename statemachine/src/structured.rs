//! Commands with structure: what stands in their values.

mod decode;
mod encode;
mod error;
mod samples;

pub use error::{StructureFault, TableFault};
pub(crate) use samples::samples;

use crate::command::{Command, CommandKind};
use crate::ids::Revision;
use crate::query::Scope;

/// Longest value of a command with structure: as much as the longest value that any namespace may allow, so that every
/// value can be written in a transaction.
pub const STRUCTURED_BYTES_MAX: usize = 3 << 20;

/// How deep transactions nest: the outermost one counts.
pub const TXN_DEPTH_MAX: usize = 4;

/// What a command with structure says. It borrows the command's value, which may lie at any byte offset.
///
/// The base key of such a command is its **routing key**: for `txn` and `commit` one of the keys that it names, the
/// prefix or the start of a range that it names, or a key in it; for `compact` any key of the shard. `delete_range` is
/// routed by its range, and its key says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Structured<'a> {
    /// [`CommandKind::DeleteRange`].
    DeleteRange(KeyRange<'a>),
    /// [`CommandKind::Txn`].
    Txn(Txn<'a>),
    /// [`CommandKind::Commit`].
    Commit(Commit<'a>),
    /// [`CommandKind::Compact`]: forget what happened before this revision.
    Compact(Revision),
}

/// The keys that begin with `prefix` and lie within [`start`, `end`), as `scope` says. Empty bounds are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// What every key begins with.
    pub prefix: &'a [u8],
    /// The first key.
    pub start: &'a [u8],
    /// The first key past the range.
    pub end: &'a [u8],
    /// How deep to go below the prefix.
    pub scope: Scope,
}

/// Compares, then one of two lists of operations, all at one revision or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn<'a> {
    /// What must hold for `then`.
    pub compares: Vec<Compare<'a>>,
    /// What is done if every compare holds.
    pub then: Vec<Operation<'a>>,
    /// What is done otherwise.
    pub otherwise: Vec<Operation<'a>>,
}

/// A condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare<'a> {
    /// Whose target is compared.
    pub subject: Subject<'a>,
    /// What is compared, and with what.
    pub target: Target<'a>,
    /// How.
    pub relation: Relation,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// One key. An absent one has zero for every number; a condition on its value never holds.
    Key(&'a [u8]),
    /// Every key of a range: the condition holds if it holds for each of them, and so if there is none.
    Range(KeyRange<'a>),
}

/// What of a key is compared, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Its value, byte by byte.
    Value(&'a [u8]),
    /// The revision of its last change.
    ModRevision(Revision),
    /// The revision at which it came into being.
    CreateRevision(Revision),
    /// Its changes since then.
    Version(u64),
    /// The lease that it hangs on.
    Lease(u64),
    /// Whether it is there.
    Existence(Existence),
}

/// Whether a key is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Existence {
    /// It is not.
    Absent,
    /// It is.
    Present,
}

/// How two things compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The key's is the one given.
    Equal,
    /// It is another.
    NotEqual,
    /// It is less.
    Less,
    /// It is more.
    Greater,
}

/// A step of a transaction. Each sees what those before it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A command on one key.
    Mutation(Command<'a>),
    /// Read a key.
    Get(&'a [u8]),
    /// Read a range.
    Range(RangeOperation<'a>),
    /// Delete every key of a range.
    DeleteRange(KeyRange<'a>),
    /// A transaction within.
    Txn(Txn<'a>),
}

/// Reads a range within a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeOperation<'a> {
    /// Which keys.
    pub range: KeyRange<'a>,
    /// In which order.
    pub direction: crate::query::Direction,
    /// What to tell of each.
    pub projection: crate::query::Projection,
    /// Most rows, 0 for all: then more than an answer may hold fails the transaction.
    pub limit: u64,
}

/// Mutations that apply if nothing that was read has changed since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit<'a> {
    /// The revision at which keys and ranges were read.
    pub read_revision: Revision,
    /// The keys that were read, whether they existed or not.
    pub read_keys: Vec<&'a [u8]>,
    /// The ranges that were read.
    pub read_ranges: Vec<KeyRange<'a>>,
    /// Commands on single keys, done in this order, all at one revision.
    pub mutations: Vec<Command<'a>>,
}

/// A key or a range that a command with structure names, for whoever must know in which shard it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// A key.
    Key(&'a [u8]),
    /// A range.
    Range(KeyRange<'a>),
}

impl<'a> KeyRange<'a> {
    /// Every key that begins with `prefix`.
    #[must_use]
    pub fn subtree(prefix: &'a [u8]) -> KeyRange<'a> {
        KeyRange {
            prefix,
            start: &[],
            end: &[],
            scope: Scope::Subtree,
        }
    }

    /// The keys of the directory `prefix`, without those of the directories within.
    #[must_use]
    pub fn children(prefix: &'a [u8], separator: u8) -> KeyRange<'a> {
        KeyRange {
            scope: Scope::Children { separator },
            ..KeyRange::subtree(prefix)
        }
    }

    /// Whether `key` lies in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key.starts_with(self.prefix)
            && key >= self.start
            && (self.end.is_empty() || key < self.end)
            && match self.scope {
                Scope::Subtree => true,
                Scope::Children { separator } => !key[self.prefix.len()..].contains(&separator),
            }
    }

    /// The bytes by which an error names the range: its prefix, or where it begins.
    #[must_use]
    pub fn label(&self) -> &'a [u8] {
        if self.prefix.is_empty() {
            self.start
        } else {
            self.prefix
        }
    }
}

impl<'a> Compare<'a> {
    /// Holds if the key is as `existence` says.
    #[must_use]
    pub fn existence(key: &'a [u8], existence: Existence) -> Compare<'a> {
        Compare {
            subject: Subject::Key(key),
            target: Target::Existence(existence),
            relation: Relation::Equal,
        }
    }

    /// Holds if the key has the value.
    #[must_use]
    pub fn value(key: &'a [u8], value: &'a [u8]) -> Compare<'a> {
        Compare {
            subject: Subject::Key(key),
            target: Target::Value(value),
            relation: Relation::Equal,
        }
    }

    /// Holds if the key was last changed at the revision; zero: if it is absent.
    #[must_use]
    pub fn mod_revision(key: &'a [u8], revision: Revision) -> Compare<'a> {
        Compare {
            subject: Subject::Key(key),
            target: Target::ModRevision(revision),
            relation: Relation::Equal,
        }
    }
}

impl<'a> Structured<'a> {
    /// The kind of command that says it.
    #[must_use]
    pub fn kind(&self) -> CommandKind {
        match self {
            Structured::DeleteRange(_) => CommandKind::DeleteRange,
            Structured::Txn(_) => CommandKind::Txn,
            Structured::Commit(_) => CommandKind::Commit,
            Structured::Compact(_) => CommandKind::Compact,
        }
    }

    /// Hands out every key and range that it names; of `compact` none.
    pub fn for_each_named(&self, on_named: &mut impl FnMut(Named<'a>)) {
        match self {
            Structured::DeleteRange(range) => on_named(Named::Range(*range)),
            Structured::Txn(txn) => txn.for_each_named(on_named),
            Structured::Commit(commit) => {
                for key in &commit.read_keys {
                    on_named(Named::Key(key));
                }
                for range in &commit.read_ranges {
                    on_named(Named::Range(*range));
                }
                for mutation in &commit.mutations {
                    on_named(Named::Key(mutation.key));
                }
            }
            Structured::Compact(_) => {}
        }
    }

    /// The first key that it names, or the bound of a range, or a key in it: a routing key for whoever has none at hand.
    #[must_use]
    pub fn first_named(&self) -> Option<&'a [u8]> {
        let mut first = None;
        self.for_each_named(&mut |named| {
            let bytes = match named {
                Named::Key(key) => key,
                Named::Range(range) if range.label().is_empty() && range.contains(b"\0") => b"\0",
                Named::Range(range) => range.label(),
            };
            if first.is_none() && !bytes.is_empty() {
                first = Some(bytes);
            }
        });
        first
    }

    /// Whether `key` may be its routing key.
    fn is_routed_by(&self, key: &[u8]) -> bool {
        if matches!(self, Structured::DeleteRange(_) | Structured::Compact(_)) {
            return true;
        }
        let mut is_named = false;
        self.for_each_named(&mut |named| {
            is_named |= match named {
                Named::Key(named) => named == key,
                Named::Range(range) => {
                    range.prefix == key || range.start == key || range.contains(key)
                }
            };
        });
        is_named
    }
}

impl<'a> Txn<'a> {
    fn for_each_named(&self, on_named: &mut impl FnMut(Named<'a>)) {
        for compare in &self.compares {
            on_named(match compare.subject {
                Subject::Key(key) => Named::Key(key),
                Subject::Range(range) => Named::Range(range),
            });
        }
        for operation in self.then.iter().chain(&self.otherwise) {
            match operation {
                Operation::Mutation(command) => on_named(Named::Key(command.key)),
                Operation::Get(key) => on_named(Named::Key(key)),
                Operation::Range(read) => on_named(Named::Range(read.range)),
                Operation::DeleteRange(range) => on_named(Named::Range(*range)),
                // The depth was checked.
                Operation::Txn(txn) => txn.for_each_named(on_named),
            }
        }
    }
}

#[cfg(test)]
mod tests;
