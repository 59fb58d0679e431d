//! One command with structure of each kind, for golden files, round trips and fuzzers.

use super::*;
use crate::ids::NamespaceId;
use crate::query::{Direction, Projection};

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;
const FIVE: &[u8; 8] = &[5, 0, 0, 0, 0, 0, 0, 0];

/// One of each, with every kind of part.
pub(crate) fn samples() -> Vec<Structured<'static>> {
    let bounded = KeyRange {
        prefix: b"/a/",
        start: b"/a/b",
        end: b"/a/y",
        scope: Scope::Children { separator: b'/' },
    };
    let within = Txn {
        compares: Vec::new(),
        then: vec![Operation::Mutation(Command::delete(NAMESPACE, b"/a/b"))],
        otherwise: Vec::new(),
    };
    let every = |relation, target| Compare {
        subject: Subject::Range(bounded),
        target,
        relation,
    };
    vec![
        Structured::DeleteRange(bounded),
        Structured::DeleteRange(KeyRange::subtree(b"")),
        Structured::Txn(Txn {
            compares: vec![
                Compare::existence(b"/a/b", Existence::Absent),
                Compare::value(b"/a/c", b""),
                Compare::mod_revision(b"/a/c", Revision(7)),
                every(Relation::Less, Target::CreateRevision(Revision(9))),
                every(Relation::Greater, Target::Version(0)),
                every(Relation::NotEqual, Target::Lease(3)),
            ],
            then: vec![
                Operation::Mutation(Command::put(NAMESPACE, b"/a/b", b"v").with_if_absent()),
                Operation::Mutation(Command::add_i64(NAMESPACE, b"/a/n", FIVE)),
                Operation::Get(b"/a/b"),
                Operation::Range(RangeOperation {
                    range: bounded,
                    direction: Direction::Reverse,
                    projection: Projection::KeysOnly,
                    limit: 10,
                }),
                Operation::DeleteRange(bounded),
                Operation::Txn(within),
            ],
            otherwise: vec![Operation::Get(b"/a/b")],
        }),
        Structured::Commit(Commit {
            read_revision: Revision(12),
            read_keys: vec![b"/a/b", b"/a/c"],
            read_ranges: vec![bounded],
            mutations: vec![
                Command::put(NAMESPACE, b"/a/b", b"value").with_return_previous(),
                Command::delete(NAMESPACE, b"/a/c"),
            ],
        }),
        Structured::Compact(Revision(0x0102)),
    ]
}
