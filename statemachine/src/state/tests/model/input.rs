//! What happens in a run, at random.

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Apply {
        commands: Vec<ModelCommand>,
        elapsed_ms: u64,
    },
    Get {
        namespace: u32,
        key: Vec<u8>,
        back: u64,
    },
    /// A range at some revisions back, sliced, in one go.
    Range {
        query: ModelQuery,
        back: u64,
    },
    /// Begins a scan at a pin of now, or of some revisions back.
    Scan {
        query: ModelQuery,
        back: Option<u64>,
        pinned: Pinned,
    },
    /// One slice of one of the scans.
    Continue {
        scan: usize,
    },
    Reclaim {
        entries: usize,
    },
    Structured(ModelStructured),
}

/// What a scan's pin is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pinned {
    Everything,
    /// Only what the scan reads, and no longer than until it has passed.
    Range,
}

/// Few enough that keys meet, and with the bytes at which orders and ends go wrong.
pub(super) fn key(lengths: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&[b'a', b'/', 0, 0xff][..]), lengths)
}

pub(super) fn command() -> impl Strategy<Value = ModelCommand> {
    let kind = prop_oneof![
        4 => Just(CommandKind::Put),
        3 => Just(CommandKind::Delete),
        1 => Just(CommandKind::AddI64),
        1 => Just(CommandKind::MaxI64),
        1 => Just(CommandKind::MinI64),
        1 => Just(CommandKind::Append),
    ];
    let number = prop::sample::select(&[0, 1, -1, 5, i64::MAX, i64::MIN][..]);
    let condition = prop_oneof![
        4 => Just(Condition::None),
        1 => Just(Condition::Absent),
        1 => (0_u64..2).prop_map(Condition::RevisionOff),
    ];
    (
        kind,
        1_u32..3,
        key(1..4),
        number,
        0_usize..20,
        condition,
        any::<bool>(),
    )
        .prop_map(
            |(kind, namespace, key, number, length, condition, is_previous_wanted)| {
                let number = i64::to_le_bytes(number).to_vec();
                let value = match kind {
                    CommandKind::Delete => Vec::new(),
                    CommandKind::Put if length % 2 == 0 => number,
                    CommandKind::Put | CommandKind::Append => vec![b'v'; length],
                    CommandKind::AddI64 | CommandKind::MaxI64 | CommandKind::MinI64 => number,
                    CommandKind::DeleteRange
                    | CommandKind::Txn
                    | CommandKind::Commit
                    | CommandKind::Compact => unreachable!("it is not among them"),
                };
                let condition = match (kind, condition) {
                    (CommandKind::Delete, Condition::Absent) => Condition::None,
                    (_, condition) => condition,
                };
                ModelCommand {
                    kind,
                    namespace,
                    key,
                    value,
                    condition,
                    is_previous_wanted,
                }
            },
        )
}

pub(super) fn query() -> impl Strategy<Value = ModelQuery> {
    let scope = prop_oneof![
        Just(Scope::Subtree),
        Just(Scope::Children { separator: b'/' }),
        Just(Scope::Children { separator: 0xff }),
    ];
    let delimiter = prop_oneof![2 => Just(None), 1 => Just(Some(b'/')), 1 => Just(Some(0xff))];
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Reverse)];
    let projection = prop_oneof![Just(Projection::KeysAndValues), Just(Projection::KeysOnly)];
    let limit = prop_oneof![2 => Just(0_u64), 1 => 1_u64..6];
    let slice = (1_u64..4, 1_u64..200, 1_u64..6).prop_map(|(rows, bytes, visits)| SliceLimit {
        rows,
        bytes,
        visits,
    });
    (
        1_u32..3,
        key(0..3),
        key(0..3),
        key(0..3),
        (scope, delimiter),
        direction,
        projection,
        limit,
        slice,
    )
        .prop_map(
            |(
                namespace,
                prefix,
                start,
                end,
                (scope, delimiter),
                direction,
                projection,
                limit,
                slice,
            )| {
                ModelQuery {
                    namespace,
                    prefix,
                    start,
                    end,
                    scope,
                    delimiter,
                    direction,
                    projection,
                    limit,
                    slice,
                }
            },
        )
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::collection::vec(command(), 1..12), 0_u64..50)
            .prop_map(|(commands, elapsed_ms)| Step::Apply { commands, elapsed_ms }),
        2 => (1_u32..3, key(1..4), 0_u64..20).prop_map(|(namespace, key, back)| Step::Get { namespace, key, back }),
        2 => (query(), 0_u64..20).prop_map(|(query, back)| Step::Range { query, back }),
        3 => (query(), prop::option::of(0_u64..10), prop::sample::select(&[Pinned::Everything, Pinned::Range][..]))
            .prop_map(|(query, back, pinned)| Step::Scan { query, back, pinned }),
        4 => any::<usize>().prop_map(|scan| Step::Continue { scan }),
        1 => (0_usize..30).prop_map(|entries| Step::Reclaim { entries }),
        6 => structured().prop_map(Step::Structured),
    ]
}

pub(super) fn parameters() -> impl Strategy<Value = Parameters> {
    (
        (1_u64..30, 1_u64..300, 64_u64..3000),
        8_usize..40,
        (1_u64..5, 1_u64..8),
    )
        .prop_map(|(history, value_bytes_max, sweep)| {
            let (history_revisions_max, history_age_ms_max, history_bytes_max) = history;
            let (sweep_keys_max, sweep_visits_max) = sweep;
            Parameters {
                history_revisions_max,
                history_age_ms_max,
                history_bytes_max,
                value_bytes_max,
                sweep_keys_max,
                sweep_visits_max,
                ..Parameters::default()
            }
        })
}
