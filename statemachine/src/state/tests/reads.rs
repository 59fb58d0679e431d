//! Reads in the past, ranges and pins.

use super::*;

pub(super) const WHOLE: SliceLimit = SliceLimit {
    rows: u64::MAX,
    bytes: u64::MAX,
    visits: u64::MAX,
};

pub(super) const ALL: RangeQuery<'static> = RangeQuery {
    namespace: NAMESPACE,
    prefix: b"",
    start: b"",
    end: b"",
    scope: Scope::Subtree,
    delimiter: None,
    direction: Direction::Forward,
    projection: Projection::KeysAndValues,
    at: None,
    limit: 0,
};

/// The keys of a slice and how it ended.
pub(super) fn slice(
    shard: &Shard,
    query: &RangeQuery<'_>,
    pin: Option<&Pin>,
    limit: SliceLimit,
) -> Result<(Vec<Vec<u8>>, SliceEnd), ReadError> {
    let mut keys = Vec::new();
    let end = shard.machine.range(query, pin, None, limit, &mut |row| {
        keys.push(row.key.to_vec())
    })?;
    Ok((keys, end))
}

pub(super) fn keys(shard: &Shard, query: &RangeQuery<'_>) -> Vec<String> {
    let (keys, end) = slice(shard, query, None, WHOLE).unwrap();
    assert_eq!(end, SliceEnd::Finished);
    keys.into_iter()
        .map(|key| String::from_utf8(key).unwrap())
        .collect()
}

#[test]
fn the_past_is_read_at_its_revisions() {
    let mut shard = Shard::new();
    shard.put(b"k", b"1");
    shard.put(b"other", b"");
    shard.put(b"k", b"3");
    shard.delete(b"k");
    shard.put(b"k", b"5");
    let seen: Vec<_> = (0..=5)
        .map(|at| shard.value_at(b"k", at).unwrap())
        .collect();
    let value = |bytes: &[u8]| Some(bytes.to_vec());
    assert_eq!(
        seen,
        [
            None,
            value(b"1"),
            value(b"1"),
            value(b"3"),
            None,
            value(b"5")
        ]
    );
    assert_eq!(
        shard.value_at(b"k", 6),
        Err(ReadError::Future {
            current: Revision(5)
        })
    );
}

#[test]
fn revisions_that_are_passed_over_are_neither_given_nor_read() {
    let mut shard = Shard::new();
    shard.put(b"k", b"1");
    shard.put(b"k", b"2");
    let before = shard.machine.state_hash();
    shard.machine.pass_revisions(1000);
    assert_ne!(shard.machine.state_hash(), before);
    assert_eq!(shard.machine.revision(NAMESPACE), Revision(1002));
    let oldest = Revision(1002);
    // The one before it, and one that a lost change may have had.
    for at in [1, 2, 3, 1001] {
        let read = shard.value_at(b"k", at);
        assert_eq!(read, Err(ReadError::Compacted { oldest }), "{at}");
    }
    assert_eq!(shard.value_at(b"k", 1002), Ok(Some(b"2".to_vec())));
    shard.put(b"k", b"3");
    assert_eq!(shard.value_at(b"k", 1003), Ok(Some(b"3".to_vec())));
    assert_eq!(shard.value_at(b"k", 1002), Ok(Some(b"2".to_vec())));
    // Also where nothing was ever written, or all of it is lost.
    let mut empty = Shard::new();
    empty.machine.pass_revisions(1000);
    assert_eq!(empty.machine.revision(NamespaceId::DEFAULT), Revision(1000));
}

#[test]
fn an_unknown_namespace_is_empty_at_revision_zero() {
    let shard = Shard::new();
    assert_eq!(shard.value_at(b"k", 0), Ok(None));
    assert_eq!(
        shard.value_at(b"k", 1),
        Err(ReadError::Future {
            current: Revision(0)
        })
    );
    assert_eq!(keys(&shard, &ALL), [""; 0]);
}

#[test]
fn the_history_reaches_back_as_many_changes_as_it_may() {
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 3,
        ..Parameters::default()
    });
    for round in 1..=10 {
        shard.put(b"k", &[round]);
    }
    assert_eq!(shard.machine.oldest_revision(NAMESPACE), Revision(7));
    assert_eq!(
        shard.value_at(b"k", 6),
        Err(ReadError::Compacted {
            oldest: Revision(7)
        })
    );
    assert_eq!(shard.value_at(b"k", 7), Ok(Some(vec![7])));
}

#[test]
fn the_history_of_all_namespaces_is_one() {
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 2,
        ..Parameters::default()
    });
    shard.put(b"k", b"1");
    shard.put(b"k", b"2");
    shard.apply_one(Command::put(NamespaceId(2), b"k", b""));
    shard.apply_one(Command::put(NamespaceId(2), b"k", b""));
    assert_eq!(shard.machine.oldest_revision(NAMESPACE), Revision(2));
    assert_eq!(shard.machine.oldest_revision(NamespaceId(2)), Revision(0));
}

#[test]
fn the_history_reaches_back_as_long_as_it_may() {
    let mut shard = Shard::with(Parameters {
        history_age_ms_max: 100,
        ..Parameters::default()
    });
    shard.time = ShardTime(1000);
    shard.put(b"k", b"1");
    shard.time = ShardTime(1100);
    shard.put(b"k", b"2");
    assert_eq!(shard.machine.oldest_revision(NAMESPACE), Revision(0));
    shard.time = ShardTime(1101);
    shard.put(b"k", b"3");
    assert_eq!(shard.machine.oldest_revision(NAMESPACE), Revision(1));
}

#[test]
fn a_long_pause_ages_the_history_a_piece_with_each_command() {
    let mut shard = Shard::with(Parameters {
        history_age_ms_max: 100,
        ..Parameters::default()
    });
    for _ in 0..200 {
        shard.put(b"k", b"");
    }
    shard.time = ShardTime(100_000);
    shard.put(b"k", b"");
    assert_eq!(shard.machine.oldest_revision(NAMESPACE), Revision(64));
    shard.put(b"k", b"");
    shard.put(b"k", b"");
    shard.put(b"k", b"");
    assert_eq!(shard.machine.oldest_revision(NAMESPACE), Revision(200));
}

#[test]
fn the_history_takes_as_many_bytes_as_it_may() {
    let bytes_max = 10_000;
    let parameters = Parameters {
        history_bytes_max: bytes_max,
        ..Parameters::default()
    };
    let mut shard = Shard::with(parameters);
    for _ in 0..1000 {
        shard.put(b"small", b"");
        assert!(shard.machine.history.answering_bytes() <= bytes_max);
    }
    assert!(shard.machine.history.answering_count() > 50);
    // A large value pushes out all the small ones with one command, and their memory follows at once.
    shard.put(b"large", &[0; 9000]);
    shard.put(b"large", b"");
    let memory = shard.machine.memory();
    assert!(memory.history_bytes <= bytes_max + 9000, "{memory:?}");
    shard.put(b"large", b"");
    shard.put(b"large", b"");
    assert_eq!(shard.machine.memory().unanswering_bytes, 0);
}

#[test]
fn children_are_the_keys_without_a_further_separator() {
    let mut shard = Shard::new();
    let names = [
        "/", "/a", "/a/", "/a/1", "/a/2/x", "/a/2/y", "/a/3", "/a0", "/b", "/b/1", "c",
    ];
    for name in names {
        shard.put(name.as_bytes(), b"");
    }
    let children = RangeQuery {
        scope: Scope::Children { separator: b'/' },
        ..ALL
    };
    let of = |prefix| RangeQuery { prefix, ..children };
    assert_eq!(keys(&shard, &of(b"/")), ["/", "/a", "/a0", "/b"]);
    assert_eq!(keys(&shard, &of(b"/a/")), ["/a/", "/a/1", "/a/3"]);
    assert_eq!(keys(&shard, &of(b"")), ["c"]);
    let reverse = RangeQuery {
        direction: Direction::Reverse,
        ..of(b"/")
    };
    assert_eq!(keys(&shard, &reverse), ["/b", "/a0", "/a", "/"]);
    let subtree = RangeQuery {
        prefix: b"/a",
        ..ALL
    };
    assert_eq!(
        keys(&shard, &subtree),
        ["/a", "/a/", "/a/1", "/a/2/x", "/a/2/y", "/a/3", "/a0"]
    );
    let part = RangeQuery {
        start: b"/a/2",
        end: b"/a0",
        ..subtree
    };
    assert_eq!(keys(&shard, &part), ["/a/2/x", "/a/2/y", "/a/3"]);
}

#[test]
fn a_subtree_is_passed_over_in_one_step() {
    let mut shard = Shard::new();
    for directory in 0..10 {
        shard.put(format!("/dir{directory}").as_bytes(), b"");
        for file in 0..100 {
            shard.put(format!("/dir{directory}/{file}").as_bytes(), b"");
        }
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let scope = Scope::Children { separator: b'/' };
        let query = RangeQuery {
            prefix: b"/",
            scope,
            direction,
            ..ALL
        };
        let (keys, end) = slice(
            &shard,
            &query,
            None,
            SliceLimit {
                visits: 20,
                ..WHOLE
            },
        )
        .unwrap();
        assert_eq!((keys.len(), end), (10, SliceEnd::Finished));
    }
}

#[test]
fn a_subtree_with_nothing_past_it_ends_the_walk() {
    let mut shard = Shard::new();
    for key in [&b"\x01"[..], b"\xff", b"\xff\x01", b"\xff\xff\x01"] {
        shard.put(key, b"");
    }
    let query = RangeQuery {
        scope: Scope::Children { separator: 0xff },
        ..ALL
    };
    let (found, end) = slice(&shard, &query, None, SliceLimit { visits: 2, ..WHOLE }).unwrap();
    assert_eq!((found, end), (vec![b"\x01".to_vec()], SliceEnd::Finished));
}

#[test]
fn a_slice_that_finds_nothing_ends_too() {
    let mut shard = Shard::new();
    for number in 0..100_u8 {
        shard.put(&[number], b"");
        shard.delete(&[number]);
    }
    let (keys, end) = slice(
        &shard,
        &ALL,
        None,
        SliceLimit {
            visits: 10,
            ..WHOLE
        },
    )
    .unwrap();
    assert_eq!(
        (keys.len(), end),
        (
            0,
            SliceEnd::More {
                resume_after: vec![9, 0]
            }
        )
    );
}

#[test]
fn a_slice_has_a_row_however_large_it_is() {
    let mut shard = Shard::new();
    shard.put(b"a", &[0; 1000]);
    shard.put(b"b", &[0; 1000]);
    let limit = SliceLimit { bytes: 10, ..WHOLE };
    let (found, end) = slice(&shard, &ALL, None, limit).unwrap();
    assert_eq!(found, [b"a"]);
    assert_eq!(
        end,
        SliceEnd::More {
            resume_after: b"a\0".to_vec()
        }
    );
    let keys_only = RangeQuery {
        projection: Projection::KeysOnly,
        ..ALL
    };
    let limit = SliceLimit {
        bytes: 2 * 41,
        ..WHOLE
    };
    let (found, end) = slice(&shard, &keys_only, None, limit).unwrap();
    assert_eq!((found.len(), end), (2, SliceEnd::Finished));
}

#[test]
fn the_past_of_a_key_that_changes_all_the_time_is_near() {
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 5000,
        ..Parameters::default()
    });
    shard.put(b"then", b"");
    for round in 2..=20_000_u32 {
        shard.put(b"hot", &round.to_le_bytes());
    }
    for at in (15_001..=20_000).step_by(7) {
        assert_eq!(
            shard.value_at(b"hot", at),
            Ok(Some((at as u32).to_le_bytes().to_vec()))
        );
        // Steps into the past count as visits, so the second key is reached only if the first took few.
        let query = RangeQuery {
            at: Some(Revision(at)),
            ..ALL
        };
        let (found, end) = slice(
            &shard,
            &query,
            None,
            SliceLimit {
                visits: 60,
                ..WHOLE
            },
        )
        .unwrap();
        assert_eq!((found.len(), end), (2, SliceEnd::Finished), "at {at}");
    }
}

#[test]
fn a_pin_keeps_its_picture() {
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 2,
        ..Parameters::default()
    });
    shard.put(b"a", b"");
    shard.put(b"b", b"");
    let pin = shard.machine.pin();
    for _ in 0..100 {
        shard.delete(b"a");
        shard.put(b"a", b"new");
        shard.put(b"c", b"new");
    }
    let (found, end) = slice(&shard, &ALL, Some(&pin), WHOLE).unwrap();
    assert_eq!(
        (found, end),
        (vec![b"a".to_vec(), b"b".to_vec()], SliceEnd::Finished)
    );
    assert!(shard.machine.memory().unanswering_bytes > 0);
    shard.machine.unpin(pin);
    while shard.machine.reclaim(7) == 7 {}
    assert_eq!(shard.machine.memory().unanswering_bytes, 0);
    assert_eq!(shard.machine.memory().pin_count, 0);
}

#[test]
fn a_pin_at_a_revision_outlives_the_history() {
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 5,
        ..Parameters::default()
    });
    for round in 1..=10 {
        shard.put(&[round], b"");
    }
    let refused = shard.machine.pin_at(NAMESPACE, Revision(4)).unwrap_err();
    assert_eq!(
        refused,
        ReadError::Compacted {
            oldest: Revision(5)
        }
    );
    let refused = shard.machine.pin_at(NAMESPACE, Revision(11)).unwrap_err();
    assert_eq!(
        refused,
        ReadError::Future {
            current: Revision(10)
        }
    );
    let pin = shard.machine.pin_at(NAMESPACE, Revision(6)).unwrap();
    for _ in 0..100 {
        shard.put(&[3], b"new");
        shard.put(&[99], b"new");
    }
    for at in [None, Some(Revision(6))] {
        let (found, _) = slice(&shard, &RangeQuery { at, ..ALL }, Some(&pin), WHOLE).unwrap();
        assert_eq!(found, (1..=6).map(|key| vec![key]).collect::<Vec<_>>());
    }
    let other = RangeQuery {
        at: Some(Revision(7)),
        ..ALL
    };
    let refused = slice(&shard, &other, Some(&pin), WHOLE).unwrap_err();
    assert!(matches!(refused, ReadError::Compacted { .. }));
    shard.machine.unpin(pin);
}

#[test]
fn pins_are_broken_at_their_limits() {
    let limits = PinLimits {
        count_max: 2,
        age_ms_max: 100,
        bytes_max: 5000,
    };
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 1,
        ..Parameters::default()
    });
    shard.machine.set_pin_limits(limits);
    let is_lost =
        |shard: &Shard, pin: &Pin| slice(shard, &ALL, Some(pin), WHOLE) == Err(ReadError::PinLost);

    let first = shard.machine.pin();
    let second = shard.machine.pin();
    assert!(!is_lost(&shard, &first));
    let third = shard.machine.pin();
    assert!(
        is_lost(&shard, &first) && !is_lost(&shard, &second),
        "too many break the oldest"
    );
    shard.machine.unpin(second);
    assert!(!is_lost(&shard, &third));

    shard.time = ShardTime(100);
    shard.put(b"k", b"");
    let fourth = shard.machine.pin();
    assert!(!is_lost(&shard, &third));
    shard.time = ShardTime(101);
    shard.put(b"k", b"");
    assert!(
        is_lost(&shard, &third) && !is_lost(&shard, &fourth),
        "age breaks the oldest"
    );

    let put_large = |shard: &mut Shard, keys: std::ops::Range<u8>| {
        for key in keys {
            shard.put(&[key], &[0; 1000]);
        }
    };
    put_large(&mut shard, 0..10);
    shard.machine.unpin(fourth);
    let fifth = shard.machine.pin();
    put_large(&mut shard, 0..4);
    let sixth = shard.machine.pin();
    assert!(!is_lost(&shard, &fifth));
    put_large(&mut shard, 4..7);
    assert!(
        is_lost(&shard, &fifth) && !is_lost(&shard, &sixth),
        "bytes break the farthest back"
    );
    shard.put(b"k", b"");
    let held_bytes = shard.machine.memory().unanswering_bytes;
    assert!((2000..4000).contains(&held_bytes), "{held_bytes}");
}

#[test]
fn freeing_is_spread_over_commands() {
    let mut shard = Shard::with(Parameters {
        history_age_ms_max: 100,
        ..Parameters::default()
    });
    for _ in 0..1000 {
        shard.put(b"k", b"");
    }
    shard.time = ShardTime(1000);
    let held = |shard: &Shard| shard.machine.history.next().0 - shard.machine.history.front().0;
    let mut commands = 0;
    while held(&shard) > 100 {
        let before = held(&shard);
        shard.put(b"k", b"");
        let freed = before + 1 - held(&shard);
        assert!(
            (1..=RECLAIM_ENTRIES_PER_COMMAND).contains(&freed),
            "{freed} freed"
        );
        commands += 1;
    }
    assert!(commands > 900 / RECLAIM_ENTRIES_PER_COMMAND);
}

#[test]
fn the_changes_are_told_in_order() {
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 3,
        ..Parameters::default()
    });
    shard.put(b"forgotten", b"");
    shard.put(b"k", b"1");
    shard.apply_one(Command::append(NAMESPACE, b"k", b"2"));
    let pin = shard.machine.pin();
    shard.delete(b"k");
    let told: Vec<_> = (0..=shard.machine.next_change().0)
        .filter_map(|position| shard.machine.change(ChangePosition(position)))
        .map(|change| {
            let value = |row: Option<Row<'_>>| row.map(|row| row.value.to_vec());
            assert_eq!((change.key, change.namespace), (&b"k"[..], NAMESPACE));
            (
                change.kind,
                change.revision.0,
                value(change.before),
                value(change.after),
            )
        })
        .collect();
    let (one, both) = (Some(b"1".to_vec()), Some(b"12".to_vec()));
    assert_eq!(
        told,
        [
            (CommandKind::Put, 2, None, one.clone()),
            (CommandKind::Append, 3, one, both.clone()),
            (CommandKind::Delete, 4, both, None),
        ]
    );
    shard.machine.unpin(pin);
}
