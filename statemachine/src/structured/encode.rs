//! From what a command with structure says to its value's bytes.

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::{
    Commit, Compare, Existence, KeyRange, Operation, Relation, Structured, Subject, Target, Txn,
};
use crate::generated::tables;
use crate::query::{Direction, Projection, Scope};

impl Structured<'_> {
    /// The bytes that stand in the command's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        if let Structured::Compact(revision) = self {
            return revision.0.to_le_bytes().to_vec();
        }
        let mut builder = FlatBufferBuilder::with_capacity(256);
        match self {
            Structured::DeleteRange(range) => put_delete_range(&mut builder, range, &[]),
            Structured::Txn(txn) => {
                let root = put_txn(&mut builder, txn);
                builder.finish_minimal(root);
            }
            Structured::Commit(commit) => {
                let root = put_commit(&mut builder, commit);
                builder.finish_minimal(root);
            }
            Structured::Compact(_) => unreachable!("it is no table"),
        }
        builder.finished_data().to_vec()
    }
}

impl KeyRange<'_> {
    /// The value of a `delete_range` that deletes in these shards only, whose ids ascend; in all of the range for none.
    #[must_use]
    pub fn encode_delete(&self, shards: &[u32]) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::with_capacity(256);
        put_delete_range(&mut builder, self, shards);
        builder.finished_data().to_vec()
    }
}

fn put_delete_range(builder: &mut FlatBufferBuilder<'_>, range: &KeyRange<'_>, shards: &[u32]) {
    let range = Some(put_range(builder, range));
    let shards = (!shards.is_empty()).then(|| builder.create_vector(shards));
    let arguments = tables::DeleteRangeArgs { range, shards };
    let root = tables::DeleteRange::create(builder, &arguments);
    builder.finish_minimal(root);
}

fn put_txn<'b>(builder: &mut FlatBufferBuilder<'b>, txn: &Txn<'_>) -> WIPOffset<tables::Txn<'b>> {
    let compares = put_list(builder, &txn.compares, put_compare);
    let then = put_list(builder, &txn.then, put_operation);
    let otherwise = put_list(builder, &txn.otherwise, put_operation);
    tables::Txn::create(
        builder,
        &tables::TxnArgs {
            compares,
            then,
            otherwise,
        },
    )
}

/// A list of tables; none at all where it is empty.
fn put_list<'b, T, U: 'b>(
    builder: &mut FlatBufferBuilder<'b>,
    items: &[T],
    put: impl Fn(&mut FlatBufferBuilder<'b>, &T) -> WIPOffset<U>,
) -> Option<WIPOffset<flatbuffers::Vector<'b, flatbuffers::ForwardsUOffset<U>>>> {
    let offsets: Vec<_> = items.iter().map(|item| put(builder, item)).collect();
    (!offsets.is_empty()).then(|| builder.create_vector(&offsets))
}

fn put_bytes<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    bytes: &[u8],
) -> Option<WIPOffset<flatbuffers::Vector<'b, u8>>> {
    (!bytes.is_empty()).then(|| builder.create_vector(bytes))
}

fn put_range<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    range: &KeyRange<'_>,
) -> WIPOffset<tables::KeyRange<'b>> {
    let prefix = put_bytes(builder, range.prefix);
    let start = put_bytes(builder, range.start);
    let end = put_bytes(builder, range.end);
    let (scope, separator) = match range.scope {
        Scope::Subtree => (tables::RangeScope::Subtree, b'/'),
        Scope::Children { separator } => (tables::RangeScope::Children, separator),
    };
    tables::KeyRange::create(
        builder,
        &tables::KeyRangeArgs {
            prefix,
            start,
            end,
            scope,
            separator,
        },
    )
}

fn put_compare<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    compare: &Compare<'_>,
) -> WIPOffset<tables::Compare<'b>> {
    let (key, range) = match &compare.subject {
        Subject::Key(key) => (Some(builder.create_vector(key)), None),
        Subject::Range(range) => (None, Some(put_range(builder, range))),
    };
    let (target, number) = match compare.target {
        Target::Value(_) => (tables::CompareTarget::Value, 0),
        Target::ModRevision(revision) => (tables::CompareTarget::ModRevision, revision.0),
        Target::CreateRevision(revision) => (tables::CompareTarget::CreateRevision, revision.0),
        Target::Version(version) => (tables::CompareTarget::Version, version),
        Target::Lease(lease) => (tables::CompareTarget::Lease, lease),
        Target::Existence(Existence::Absent) => (tables::CompareTarget::Existence, 0),
        Target::Existence(Existence::Present) => (tables::CompareTarget::Existence, 1),
    };
    let value = match compare.target {
        Target::Value(value) => Some(builder.create_vector(value)),
        Target::ModRevision(_)
        | Target::CreateRevision(_)
        | Target::Version(_)
        | Target::Lease(_)
        | Target::Existence(_) => None,
    };
    let relation = match compare.relation {
        Relation::Equal => tables::Relation::Equal,
        Relation::NotEqual => tables::Relation::NotEqual,
        Relation::Less => tables::Relation::Less,
        Relation::Greater => tables::Relation::Greater,
    };
    tables::Compare::create(
        builder,
        &tables::CompareArgs {
            key,
            range,
            target,
            relation,
            value,
            number,
        },
    )
}

fn put_operation<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    operation: &Operation<'_>,
) -> WIPOffset<tables::Operation<'b>> {
    let mut arguments = tables::OperationArgs::default();
    match operation {
        Operation::Mutation(command) => {
            let mut bytes = Vec::new();
            command.encode_into(&mut bytes);
            arguments.kind = tables::OperationKind::Mutation;
            arguments.command = Some(builder.create_vector(&bytes));
        }
        Operation::Get(key) => {
            arguments.kind = tables::OperationKind::Get;
            arguments.key = Some(builder.create_vector(key));
        }
        Operation::Range(read) => {
            arguments.kind = tables::OperationKind::Range;
            arguments.range = Some(put_range(builder, &read.range));
            arguments.limit = read.limit;
            arguments.reverse = read.direction == Direction::Reverse;
            arguments.keys_only = read.projection == Projection::KeysOnly;
        }
        Operation::DeleteRange(range) => {
            arguments.kind = tables::OperationKind::DeleteRange;
            arguments.range = Some(put_range(builder, range));
        }
        Operation::Txn(txn) => {
            arguments.kind = tables::OperationKind::Txn;
            arguments.txn = Some(put_txn(builder, txn));
        }
    }
    tables::Operation::create(builder, &arguments)
}

fn put_commit<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    commit: &Commit<'_>,
) -> WIPOffset<tables::Commit<'b>> {
    let read_keys = put_list(builder, &commit.read_keys, |builder, key| {
        let bytes = Some(builder.create_vector(key));
        tables::Key::create(builder, &tables::KeyArgs { bytes })
    });
    let read_ranges = put_list(builder, &commit.read_ranges, put_range);
    let mut bytes = Vec::new();
    for mutation in &commit.mutations {
        mutation.encode_into(&mut bytes);
    }
    let mutations = put_bytes(builder, &bytes);
    tables::Commit::create(
        builder,
        &tables::CommitArgs {
            read_revision: commit.read_revision.0,
            read_keys,
            read_ranges,
            mutations,
        },
    )
}
