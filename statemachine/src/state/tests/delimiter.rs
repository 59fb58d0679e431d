//! Ranges that roll keys up to common prefixes.

use super::reads::{ALL, WHOLE, keys, slice};
use super::*;

const ROLLED_UP: RangeQuery<'static> = RangeQuery {
    delimiter: Some(b'/'),
    ..ALL
};

fn tree() -> Shard {
    let mut shard = Shard::new();
    for name in [
        "a", "a/", "a/1", "a/2/x", "a0", "b", "c/1", "c/2", "c/3", "d",
    ] {
        shard.put(name.as_bytes(), b"value");
    }
    shard
}

#[test]
fn keys_that_begin_alike_are_one_row() {
    let shard = tree();
    assert_eq!(keys(&shard, &ROLLED_UP), ["a", "a/", "a0", "b", "c/", "d"]);
    let of = |prefix| RangeQuery {
        prefix,
        ..ROLLED_UP
    };
    assert_eq!(keys(&shard, &of(b"a/")), ["a/", "a/1", "a/2/"]);
    assert_eq!(keys(&shard, &of(b"c")), ["c/"]);
    let reverse = RangeQuery {
        direction: Direction::Reverse,
        ..ROLLED_UP
    };
    assert_eq!(keys(&shard, &reverse), ["d", "c/", "b", "a0", "a/", "a"]);
    let limited = RangeQuery {
        limit: 3,
        ..ROLLED_UP
    };
    assert_eq!(keys(&shard, &limited), ["a", "a/", "a0"]);
}

#[test]
fn a_common_prefix_has_no_numbers_and_no_value() {
    let shard = tree();
    let mut prefixes = 0;
    let end = shard
        .machine
        .range(&ROLLED_UP, None, None, WHOLE, &mut |row| {
            if row.is_common_prefix() {
                assert_eq!(row, Row::common_prefix(row.key));
                assert_eq!(row.value, b"");
                prefixes += 1;
            } else {
                assert_eq!(row.value, b"value");
            }
        });
    assert_eq!((end, prefixes), (Ok(SliceEnd::Finished), 2));
}

#[test]
fn a_bound_inside_a_prefix_counts_for_the_keys_and_not_for_the_row() {
    let shard = tree();
    let part = |start, end| RangeQuery {
        start,
        end,
        ..ROLLED_UP
    };
    assert_eq!(keys(&shard, &part(b"c/2", b"")), ["c/", "d"]);
    assert_eq!(keys(&shard, &part(b"b", b"c/1")), ["b"]);
    assert_eq!(keys(&shard, &part(b"c/9", b"")), ["d"]);
}

#[test]
fn a_prefix_is_there_as_long_as_one_key_is() {
    let mut shard = tree();
    shard.delete(b"c/1");
    shard.delete(b"c/3");
    let before = shard.delete(b"c/2") - 1;
    assert_eq!(keys(&shard, &ROLLED_UP), ["a", "a/", "a0", "b", "d"]);
    let at = Some(Revision(before));
    let then = RangeQuery { at, ..ROLLED_UP };
    assert_eq!(keys(&shard, &then), ["a", "a/", "a0", "b", "c/", "d"]);
}

#[test]
fn a_common_prefix_costs_one_step_however_many_keys_it_has() {
    let mut shard = Shard::new();
    for directory in 0..10 {
        for file in 0..100 {
            shard.put(format!("/dir{directory}/{file}").as_bytes(), b"");
        }
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let query = RangeQuery {
            prefix: b"/",
            direction,
            ..ROLLED_UP
        };
        let limit = SliceLimit {
            visits: 10,
            ..WHOLE
        };
        let (keys, end) = slice(&shard, &query, None, limit).unwrap();
        assert_eq!((keys.len(), end), (10, SliceEnd::Finished));
    }
}

#[test]
fn a_prefix_with_nothing_past_it_ends_the_walk() {
    let mut shard = Shard::new();
    for key in [&b"\xff\xff"[..], b"\xff\xff\x01", b"\x01"] {
        shard.put(key, b"");
    }
    let query = RangeQuery {
        delimiter: Some(0xff),
        ..ALL
    };
    let limit = SliceLimit { rows: 2, ..WHOLE };
    let (found, end) = slice(&shard, &query, None, limit).unwrap();
    assert_eq!(
        (found, end),
        (vec![b"\x01".to_vec(), b"\xff".to_vec()], SliceEnd::Finished)
    );
}

#[test]
fn a_slice_may_end_inside_a_prefix_that_was_not_found_yet() {
    let mut shard = Shard::new();
    for file in 0..10_u8 {
        shard.put(&[b'd', b'/', file], b"");
    }
    for file in 0..9_u8 {
        shard.delete(&[b'd', b'/', file]);
    }
    let limit = SliceLimit { visits: 4, ..WHOLE };
    let mut from: Option<Vec<u8>> = None;
    let mut found = Vec::new();
    for _ in 0..4 {
        let end = shard
            .machine
            .range(&ROLLED_UP, None, from.as_deref(), limit, &mut |row| {
                found.push(row.key.to_vec());
            });
        match end.unwrap() {
            SliceEnd::More { resume_after } => from = Some(resume_after),
            SliceEnd::Finished => break,
        }
    }
    assert_eq!(found, [b"d/"]);
}
