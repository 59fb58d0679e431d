//! From a value's bytes to what they say. Everything is checked here, at the edge and again at apply.

use flatbuffers::{Follow, ForwardsUOffset, Vector, Verifiable, VerifierOptions};

use super::{
    Commit, Compare, Existence, KeyRange, Operation, RangeOperation, Relation, StructureFault,
    Structured, Subject, TXN_DEPTH_MAX, TableFault, Target, Txn,
};
use crate::command::{Command, CommandError, CommandKind, CommandLimits};
use crate::generated::tables;
use crate::ids::{NamespaceId, Revision};
use crate::query::{Direction, Projection, Scope};
use crate::shard_list::ShardList;

/// Most tables of one value. It keeps what is decoded in proportion to what came in: without it a short value could
/// name one table very often.
const TABLES_MAX: usize = 16_384;

/// A transaction is a table, its operations are, and a range within.
const TABLE_DEPTH_MAX: usize = 2 * TXN_DEPTH_MAX + 2;

/// What every part of a value is checked against.
#[derive(Clone, Copy)]
struct Rules<'r> {
    namespace: NamespaceId,
    /// At the edge. What is in the log has passed them, and limits may have changed since.
    limits: Option<&'r CommandLimits>,
}

impl<'a> Structured<'a> {
    /// What the value of `command` says; `None` for a command on a single key. It has been checked before: this is for
    /// whoever applies it or routes it.
    ///
    /// # Errors
    /// Every rule that the value may break.
    pub fn of(command: &Command<'a>) -> Result<Option<Structured<'a>>, CommandError> {
        decode(command, None)
    }

    /// [`Structured::of`], held to the limits of the edge.
    pub(crate) fn check(
        command: &Command<'a>,
        limits: &CommandLimits,
    ) -> Result<Option<Structured<'a>>, CommandError> {
        decode(command, Some(limits))
    }
}

impl<'a> ShardList<'a> {
    /// In which shards a `delete_range` deletes; it has been checked before.
    #[must_use]
    pub fn of_delete(command: &Command<'a>) -> ShardList<'a> {
        assert_eq!(command.kind, CommandKind::DeleteRange);
        let table = root::<tables::DeleteRange<'a>>(command.value);
        let table = table.expect("the edge checked the command");
        shard_list(&table).expect("the edge checked the command")
    }
}

fn shard_list<'a>(table: &tables::DeleteRange<'a>) -> Option<ShardList<'a>> {
    let shards = table.shards();
    ShardList::new(shards.map_or(&[][..], |vector| vector.bytes()))
}

fn decode<'a>(
    command: &Command<'a>,
    limits: Option<&CommandLimits>,
) -> Result<Option<Structured<'a>>, CommandError> {
    let rules = Rules {
        namespace: command.namespace,
        limits,
    };
    let value = command.value;
    let structured = match command.kind {
        CommandKind::DeleteRange => {
            let table = root::<tables::DeleteRange<'a>>(value)?;
            shard_list(&table).ok_or(StructureFault::ShardOrder)?;
            Structured::DeleteRange(rules.range(table.range())?)
        }
        CommandKind::Txn => Structured::Txn(rules.txn(root::<tables::Txn<'a>>(value)?, 1)?),
        CommandKind::Commit => {
            Structured::Commit(rules.commit(root::<tables::Commit<'a>>(value)?)?)
        }
        CommandKind::Compact => {
            let length = value.len();
            let Ok(bytes) = value.try_into() else {
                return Err(StructureFault::RevisionLength { length }.into());
            };
            Structured::Compact(Revision(u64::from_le_bytes(bytes)))
        }
        CommandKind::Put
        | CommandKind::Delete
        | CommandKind::AddI64
        | CommandKind::MaxI64
        | CommandKind::MinI64
        | CommandKind::Append => return Ok(None),
    };
    if !structured.is_routed_by(command.key) {
        return Err(StructureFault::RoutingKey.into());
    }
    Ok(Some(structured))
}

/// The root of a value, verified. Positions are checked relative to the value's first byte and read byte by byte, so
/// the value may lie anywhere.
fn root<'a, T>(value: &'a [u8]) -> Result<T::Inner, StructureFault>
where
    T: Follow<'a> + Verifiable + 'a,
{
    let options = VerifierOptions {
        max_depth: TABLE_DEPTH_MAX,
        max_tables: TABLES_MAX,
        // A sound writer refers to each part once, to the layouts of tables again and again.
        max_apparent_size: value.len().saturating_mul(3).saturating_add(64),
        ignore_missing_null_terminator: false,
    };
    flatbuffers::root_with_opts::<T>(&options, value)
        .map_err(|invalid| StructureFault::Table(TableFault::from(&invalid)))
}

impl Rules<'_> {
    fn txn<'a>(self, table: tables::Txn<'a>, depth: usize) -> Result<Txn<'a>, CommandError> {
        if depth > TXN_DEPTH_MAX {
            return Err(StructureFault::TooDeep.into());
        }
        let operations = |list: Option<Vector<'a, ForwardsUOffset<tables::Operation<'a>>>>| {
            all(list, |operation| self.operation(operation, depth))
        };
        Ok(Txn {
            compares: all(table.compares(), |compare| self.compare(compare))?,
            then: operations(table.then())?,
            otherwise: operations(table.otherwise())?,
        })
    }

    fn operation<'a>(
        self,
        table: tables::Operation<'a>,
        depth: usize,
    ) -> Result<Operation<'a>, CommandError> {
        let range = || match table.range() {
            Some(range) => self.range(range),
            None => Err(StructureFault::Missing { field: "range" }.into()),
        };
        Ok(match table.kind() {
            tables::OperationKind::Mutation => {
                let bytes = needed(table.command(), "command")?;
                let (command, length) = self.mutation(bytes)?;
                if length < bytes.len() {
                    let count = bytes.len() - length;
                    return Err(CommandError::TrailingBytes { count });
                }
                Operation::Mutation(command)
            }
            tables::OperationKind::Get => Operation::Get(self.key(needed(table.key(), "key")?)?),
            tables::OperationKind::Range => Operation::Range(RangeOperation {
                range: range()?,
                direction: if table.reverse() {
                    Direction::Reverse
                } else {
                    Direction::Forward
                },
                projection: if table.keys_only() {
                    Projection::KeysOnly
                } else {
                    Projection::KeysAndValues
                },
                limit: table.limit(),
            }),
            tables::OperationKind::DeleteRange => Operation::DeleteRange(range()?),
            tables::OperationKind::Txn => match table.txn() {
                Some(txn) => Operation::Txn(self.txn(txn, depth + 1)?),
                None => return Err(StructureFault::Missing { field: "txn" }.into()),
            },
            tables::OperationKind(found) => return Err(unknown("operation kind", found)),
        })
    }

    fn compare<'a>(self, table: tables::Compare<'a>) -> Result<Compare<'a>, CommandError> {
        let subject = match (table.key(), table.range()) {
            (Some(_), Some(_)) => return Err(StructureFault::KeyAndRange.into()),
            (None, None) => return Err(StructureFault::Missing { field: "key" }.into()),
            (Some(key), None) => Subject::Key(self.key(key.bytes())?),
            (None, Some(range)) => Subject::Range(self.range(range)?),
        };
        let number = table.number();
        let target = match table.target() {
            tables::CompareTarget::Value => Target::Value(needed(table.value(), "value")?),
            tables::CompareTarget::ModRevision => Target::ModRevision(Revision(number)),
            tables::CompareTarget::CreateRevision => Target::CreateRevision(Revision(number)),
            tables::CompareTarget::Version => Target::Version(number),
            tables::CompareTarget::Lease => Target::Lease(number),
            tables::CompareTarget::Existence => Target::Existence(match number {
                0 => Existence::Absent,
                1 => Existence::Present,
                found => {
                    let field = "existence";
                    return Err(StructureFault::FieldValue { field, found }.into());
                }
            }),
            tables::CompareTarget(found) => return Err(unknown("compare target", found)),
        };
        let relation = match table.relation() {
            tables::Relation::Equal => Relation::Equal,
            tables::Relation::NotEqual => Relation::NotEqual,
            tables::Relation::Less => Relation::Less,
            tables::Relation::Greater => Relation::Greater,
            tables::Relation(found) => return Err(unknown("relation", found)),
        };
        let is_order = matches!(relation, Relation::Less | Relation::Greater);
        if is_order && matches!(target, Target::Existence(_)) {
            return Err(StructureFault::ExistenceOrder.into());
        }
        Ok(Compare {
            subject,
            target,
            relation,
        })
    }

    fn commit<'a>(self, table: tables::Commit<'a>) -> Result<Commit<'a>, CommandError> {
        let mut mutations = Vec::new();
        let mut rest = table.mutations().map_or(&[][..], |bytes| bytes.bytes());
        while !rest.is_empty() {
            let (command, length) = self.mutation(rest)?;
            mutations.push(command);
            rest = &rest[length..];
        }
        Ok(Commit {
            read_revision: Revision(table.read_revision()),
            read_keys: all(table.read_keys(), |key| self.key(key.bytes().bytes()))?,
            read_ranges: all(table.read_ranges(), |range| self.range(range))?,
            mutations,
        })
    }

    /// A command on a single key, at the front of `bytes`.
    fn mutation<'a>(self, bytes: &'a [u8]) -> Result<(Command<'a>, usize), CommandError> {
        let (command, length) = Command::decode(bytes)?;
        if command.kind.has_structure() {
            return Err(StructureFault::StepKind { kind: command.kind }.into());
        }
        if command.namespace != self.namespace {
            return Err(StructureFault::StepNamespace {
                step: command.namespace,
                command: self.namespace,
            }
            .into());
        }
        if let Some(limits) = self.limits {
            command.check_sizes(limits)?;
        }
        command.check_rules()?;
        Ok((command, length))
    }

    fn range<'a>(self, table: tables::KeyRange<'a>) -> Result<KeyRange<'a>, CommandError> {
        let bound = |bytes: Option<Vector<'a, u8>>| {
            let bytes = bytes.map_or(&[][..], |bytes| bytes.bytes());
            // The first key behind one of the greatest length is one byte longer.
            match self.limits.map(|limits| limits.key_bytes_max + 1) {
                Some(limit) if bytes.len() > limit => Err(CommandError::KeyTooLarge {
                    limit,
                    actual: bytes.len(),
                }),
                _ => Ok(bytes),
            }
        };
        let scope = match table.scope() {
            tables::RangeScope::Subtree => Scope::Subtree,
            tables::RangeScope::Children => Scope::Children {
                separator: table.separator(),
            },
            tables::RangeScope(found) => return Err(unknown("scope", found)),
        };
        Ok(KeyRange {
            prefix: bound(table.prefix())?,
            start: bound(table.start())?,
            end: bound(table.end())?,
            scope,
        })
    }

    fn key(self, key: &[u8]) -> Result<&[u8], CommandError> {
        if key.is_empty() {
            return Err(CommandError::KeyEmpty);
        }
        match self.limits.map(|limits| limits.key_bytes_max) {
            Some(limit) if key.len() > limit => Err(CommandError::KeyTooLarge {
                limit,
                actual: key.len(),
            }),
            _ => Ok(key),
        }
    }
}

/// Every element of a list, which may be absent.
fn all<'a, T, U>(
    list: Option<Vector<'a, ForwardsUOffset<T>>>,
    read: impl Fn(T) -> Result<U, CommandError>,
) -> Result<Vec<U>, CommandError>
where
    T: Follow<'a, Inner = T> + 'a,
{
    list.map_or(Ok(Vec::new()), |list| list.iter().map(read).collect())
}

fn needed<'a>(
    bytes: Option<Vector<'a, u8>>,
    field: &'static str,
) -> Result<&'a [u8], StructureFault> {
    bytes
        .map(|bytes| bytes.bytes())
        .ok_or(StructureFault::Missing { field })
}

fn unknown(field: &'static str, found: u8) -> CommandError {
    let found = u64::from(found);
    StructureFault::FieldValue { field, found }.into()
}
