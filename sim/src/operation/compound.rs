//! Commands with structure, with owned bytes: transactions, commits, deleted ranges, compaction.

use metastore_statemachine::{
    Command, Commit as WireCommit, Compare as WireCompare, Direction, Existence, KeyRange,
    Operation as WireOperation, Projection, RangeOperation, Relation, Revision, Structured,
    Subject as WireSubject, Target as WireTarget, Txn as WireTxn,
};

use super::{Mutation, NAMESPACE};

/// A command on more than one key. All that it names lies in one directory, and so in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compound {
    /// Compares, then steps, all or nothing.
    Txn(Txn),
    /// Mutations, if nothing that was read has changed.
    Commit(Commit),
    /// Delete the keys of a range.
    DeleteRange(DirectoryRange),
    /// Forget what happened before a revision.
    Compact {
        /// A key of the shard.
        key: Vec<u8>,
        /// The oldest revision that is still answered.
        revision: Revision,
    },
}

/// Children of one directory, from `start` to before `end`; empty bounds are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryRange {
    /// The directory, up to and including its separator.
    pub directory: Vec<u8>,
    /// The first key.
    pub start: Vec<u8>,
    /// The first key past the range.
    pub end: Vec<u8>,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// What must hold for `then`.
    pub compares: Vec<Compare>,
    /// What is done if every compare holds.
    pub then: Vec<Step>,
    /// What is done otherwise.
    pub otherwise: Vec<Step>,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Whose target is compared.
    pub subject: Subject,
    /// What is compared, and with what.
    pub target: Target,
    /// How.
    pub relation: Relation,
}

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One key.
    Key(Vec<u8>),
    /// Every key of a range.
    Range(DirectoryRange),
}

/// What of a key is compared, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Its value.
    Value(Vec<u8>),
    /// The revision of its last change.
    ModRevision(Revision),
    /// The revision at which it came into being.
    CreateRevision(Revision),
    /// Its changes since then.
    Version(u64),
    /// Whether it is there.
    Existence(Existence),
}

/// A step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A command on one key.
    Mutation(Mutation),
    /// Read a key.
    Get(Vec<u8>),
    /// Read a range.
    Range {
        /// Which keys.
        range: DirectoryRange,
        /// In which order.
        direction: Direction,
        /// How many rows at most, 0 for all.
        limit: u64,
    },
    /// Delete every key of a range.
    DeleteRange(DirectoryRange),
    /// A transaction within.
    Txn(Txn),
}

/// Mutations that apply if nothing that was read has changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The revision at which keys and ranges were read.
    pub read_revision: Revision,
    /// The keys that were read.
    pub read_keys: Vec<Vec<u8>>,
    /// The ranges that were read.
    pub read_ranges: Vec<DirectoryRange>,
    /// What is done, in this order.
    pub mutations: Vec<Mutation>,
}

impl Compound {
    /// Its bytes as they stand in a request and in the log.
    #[must_use]
    pub fn encoded(&self) -> Vec<u8> {
        let structured = match self {
            Compound::Txn(txn) => Structured::Txn(txn.on_wire()),
            Compound::Commit(commit) => Structured::Commit(commit.on_wire()),
            Compound::DeleteRange(range) => Structured::DeleteRange(range.on_wire()),
            Compound::Compact { revision, .. } => Structured::Compact(*revision),
        };
        let key = match self {
            Compound::Compact { key, .. } => key.as_slice(),
            Compound::DeleteRange(range) => &range.directory,
            Compound::Txn(_) | Compound::Commit(_) => structured
                .first_named()
                .expect("the workload's transactions name something"),
        };
        let value = structured.encode();
        let mut bytes = Vec::new();
        Command::structured(structured.kind(), NAMESPACE, key, &value).encode_into(&mut bytes);
        bytes
    }

    /// Every mutation in it, whether it may be done together with the others or instead of them.
    #[must_use]
    pub fn mutations(&self) -> Vec<&Mutation> {
        let mut mutations = Vec::new();
        match self {
            Compound::Txn(txn) => txn.for_each_step(&mut |step| {
                if let Step::Mutation(mutation) = step {
                    mutations.push(mutation);
                }
            }),
            Compound::Commit(commit) => mutations.extend(&commit.mutations),
            Compound::DeleteRange(_) | Compound::Compact { .. } => {}
        }
        mutations
    }

    /// Every range that it may delete.
    #[must_use]
    pub fn deleted_ranges(&self) -> Vec<&DirectoryRange> {
        let mut ranges = Vec::new();
        match self {
            Compound::Txn(txn) => txn.for_each_step(&mut |step| {
                if let Step::DeleteRange(range) = step {
                    ranges.push(range);
                }
            }),
            Compound::DeleteRange(range) => ranges.push(range),
            Compound::Commit(_) | Compound::Compact { .. } => {}
        }
        ranges
    }
}

impl DirectoryRange {
    /// All children of a directory.
    #[must_use]
    pub fn all(directory: &[u8]) -> DirectoryRange {
        DirectoryRange {
            directory: directory.to_vec(),
            start: Vec::new(),
            end: Vec::new(),
        }
    }

    /// Whether a key lies in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key.strip_prefix(self.directory.as_slice())
            .is_some_and(|name| !name.contains(&b'/'))
            && key >= self.start.as_slice()
            && (self.end.is_empty() || key < self.end.as_slice())
    }

    fn on_wire(&self) -> KeyRange<'_> {
        KeyRange {
            start: &self.start,
            end: &self.end,
            ..KeyRange::children(&self.directory, b'/')
        }
    }
}

impl Txn {
    fn on_wire(&self) -> WireTxn<'_> {
        WireTxn {
            compares: self.compares.iter().map(Compare::on_wire).collect(),
            then: self.then.iter().map(Step::on_wire).collect(),
            otherwise: self.otherwise.iter().map(Step::on_wire).collect(),
        }
    }

    fn for_each_step<'a>(&'a self, on_step: &mut dyn FnMut(&'a Step)) {
        for step in self.then.iter().chain(&self.otherwise) {
            on_step(step);
            if let Step::Txn(txn) = step {
                txn.for_each_step(on_step);
            }
        }
    }
}

impl Compare {
    fn on_wire(&self) -> WireCompare<'_> {
        WireCompare {
            subject: match &self.subject {
                Subject::Key(key) => WireSubject::Key(key),
                Subject::Range(range) => WireSubject::Range(range.on_wire()),
            },
            target: match &self.target {
                Target::Value(value) => WireTarget::Value(value),
                Target::ModRevision(revision) => WireTarget::ModRevision(*revision),
                Target::CreateRevision(revision) => WireTarget::CreateRevision(*revision),
                Target::Version(version) => WireTarget::Version(*version),
                Target::Existence(existence) => WireTarget::Existence(*existence),
            },
            relation: self.relation,
        }
    }
}

impl Step {
    fn on_wire(&self) -> WireOperation<'_> {
        match self {
            Step::Mutation(mutation) => WireOperation::Mutation(mutation.command()),
            Step::Get(key) => WireOperation::Get(key),
            Step::Range {
                range,
                direction,
                limit,
            } => WireOperation::Range(RangeOperation {
                range: range.on_wire(),
                direction: *direction,
                projection: Projection::KeysAndValues,
                limit: *limit,
            }),
            Step::DeleteRange(range) => WireOperation::DeleteRange(range.on_wire()),
            Step::Txn(txn) => WireOperation::Txn(txn.on_wire()),
        }
    }
}

impl Commit {
    fn on_wire(&self) -> WireCommit<'_> {
        WireCommit {
            read_revision: self.read_revision,
            read_keys: self.read_keys.iter().map(Vec::as_slice).collect(),
            read_ranges: self
                .read_ranges
                .iter()
                .map(DirectoryRange::on_wire)
                .collect(),
            mutations: self.mutations.iter().map(Mutation::command).collect(),
        }
    }
}
