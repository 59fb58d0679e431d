//! What a client asks for, with owned bytes, independent of how it is sent.

mod compound;

use metastore_statemachine::{
    Command, CommandKind, Direction, NamespaceId, Projection, RangeQuery, Revision, Scope,
};

pub use compound::{Commit, Compare, Compound, DirectoryRange, Step, Subject, Target, Txn};

/// The namespace of all simulated clients.
pub const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;

/// When a mutation shall act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// Only if the key is absent.
    IfAbsent,
    /// Only if the key was last changed at this revision; 0: if it is absent.
    IfRevision(Revision),
}

/// One mutation of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// What to do.
    pub kind: CommandKind,
    /// The key.
    pub key: Vec<u8>,
    /// The value, what to append, or a counter's operand.
    pub value: Vec<u8>,
    /// When to act.
    pub condition: Condition,
    /// Whether the answer shall show the row as the mutation found it.
    pub previous: PreviousRow,
}

/// Whether an answer shows the row as the mutation found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviousRow {
    /// It does.
    Wanted,
    /// It does not.
    NotWanted,
}

/// Anything that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One mutation.
    Mutate(Mutation),
    /// A command on more than one key.
    Compound(Compound),
    /// Several mutations, in one request.
    Batch(Vec<Mutation>),
    /// One key, now or at a revision of its shard.
    Get {
        /// The key.
        key: Vec<u8>,
        /// The revision, `None` for the newest.
        at: Option<Revision>,
    },
    /// Several keys of one shard.
    GetMany {
        /// The keys.
        keys: Vec<Vec<u8>>,
        /// The revision, `None` for the newest.
        at: Option<Revision>,
    },
    /// Keys in order.
    Range(RangeOf),
    /// How many keys a range has.
    Count(RangeOf),
    /// Everything, asked for with nothing else on its way since the node started.
    Audit,
    /// What the core reports about itself.
    Status,
}

/// A range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeOf {
    /// What every key begins with.
    pub prefix: Vec<u8>,
    /// How deep.
    pub scope: Scope,
    /// Behind the prefix, what keys share up to this byte is one row.
    pub delimiter: Option<u8>,
    /// At which revision, `None` for the newest; only where all of it lies in one shard.
    pub at: Option<Revision>,
    /// In which order.
    pub direction: Direction,
    /// How many rows at most, 0 for all.
    pub limit: u64,
    /// How many bytes a chunk should have.
    pub chunk_bytes: usize,
}

impl Mutation {
    /// Its bytes as they stand in a request and in the log.
    #[must_use]
    pub fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.command().encode_into(&mut bytes);
        bytes
    }

    /// It as a command.
    #[must_use]
    pub fn command(&self) -> Command<'_> {
        let operand = || {
            let operand: &[u8; 8] = self
                .value
                .as_slice()
                .try_into()
                .expect("an operand has eight bytes");
            operand
        };
        let mut command = match self.kind {
            CommandKind::Put => Command::put(NAMESPACE, &self.key, &self.value),
            CommandKind::Delete => Command::delete(NAMESPACE, &self.key),
            CommandKind::AddI64 => Command::add_i64(NAMESPACE, &self.key, operand()),
            CommandKind::MaxI64 => Command::max_i64(NAMESPACE, &self.key, operand()),
            CommandKind::MinI64 => Command::min_i64(NAMESPACE, &self.key, operand()),
            CommandKind::Append => Command::append(NAMESPACE, &self.key, &self.value),
            CommandKind::DeleteRange
            | CommandKind::Txn
            | CommandKind::Commit
            | CommandKind::Compact => {
                unreachable!("a mutation is about one key")
            }
        };
        command = match self.condition {
            Condition::Always => command,
            Condition::IfAbsent => command.with_if_absent(),
            Condition::IfRevision(revision) => command.with_expected_revision(revision),
        };
        match self.previous {
            PreviousRow::Wanted => command.with_return_previous(),
            PreviousRow::NotWanted => command,
        }
    }
}

impl RangeOf {
    /// Every key of every shard.
    #[must_use]
    pub fn everything() -> RangeOf {
        RangeOf {
            prefix: Vec::new(),
            scope: Scope::Subtree,
            delimiter: None,
            at: None,
            direction: Direction::Forward,
            limit: 0,
            chunk_bytes: 4096,
        }
    }

    /// It as the core is asked for it.
    #[must_use]
    pub fn query(&self) -> RangeQuery<'_> {
        RangeQuery {
            namespace: NAMESPACE,
            prefix: &self.prefix,
            start: &[],
            end: &[],
            scope: self.scope,
            delimiter: self.delimiter,
            direction: self.direction,
            projection: Projection::KeysAndValues,
            at: self.at,
            limit: self.limit,
        }
    }

    /// Whether a key belongs to the range.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        let Some(rest) = key.strip_prefix(self.prefix.as_slice()) else {
            return false;
        };
        match self.scope {
            Scope::Subtree => true,
            Scope::Children { separator } => !rest.contains(&separator),
        }
    }

    /// The common prefix that a key of the range is rolled up into, if it is.
    #[must_use]
    pub fn rolled_up<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let rest = &key[self.prefix.len()..];
        let found = rest.iter().position(|&byte| Some(byte) == self.delimiter)?;
        Some(&key[..=self.prefix.len() + found])
    }
}

impl Operation {
    /// The range that it reads, if it reads one.
    #[must_use]
    pub fn range(&self) -> Option<RangeOf> {
        match self {
            Operation::Range(range) => Some(range.clone()),
            Operation::Audit => Some(RangeOf::everything()),
            Operation::Mutate(_)
            | Operation::Compound(_)
            | Operation::Batch(_)
            | Operation::Get { .. }
            | Operation::GetMany { .. }
            | Operation::Count(_)
            | Operation::Status => None,
        }
    }

    /// Whether it is about several shards at once.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        match self {
            Operation::Range(range) | Operation::Count(range) => range.scope == Scope::Subtree,
            Operation::Audit => true,
            Operation::Mutate(_)
            | Operation::Compound(_)
            | Operation::Batch(_)
            | Operation::Get { .. }
            | Operation::GetMany { .. }
            | Operation::Status => false,
        }
    }

    /// What it may change, in order: each has an outcome of its own.
    #[must_use]
    pub fn changes(&self) -> Vec<Change<'_>> {
        match self {
            Operation::Mutate(mutation) => vec![Change::Mutation(mutation)],
            Operation::Compound(compound) => vec![Change::Compound(compound)],
            Operation::Batch(mutations) => mutations.iter().map(Change::Mutation).collect(),
            Operation::Get { .. }
            | Operation::GetMany { .. }
            | Operation::Range(_)
            | Operation::Count(_)
            | Operation::Audit
            | Operation::Status => Vec::new(),
        }
    }
}

/// Something that has one outcome.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Of one key.
    Mutation(&'a Mutation),
    /// Of several.
    Compound(&'a Compound),
}

impl Change<'_> {
    /// Its bytes as they stand in a request and in the log.
    #[must_use]
    pub fn encoded(&self) -> Vec<u8> {
        match self {
            Change::Mutation(mutation) => mutation.encoded(),
            Change::Compound(compound) => compound.encoded(),
        }
    }
}
