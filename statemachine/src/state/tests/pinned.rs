//! What pins hold: what their readers have still to read, and nothing else.

use super::reads::{ALL, WHOLE, slice};
use super::*;

/// A history that forgets every change at once, so that only pins keep the past.
fn forgetful() -> Shard {
    Shard::with(Parameters {
        history_revisions_max: 1,
        ..Parameters::default()
    })
}

fn put_all(shard: &mut Shard, keys: std::ops::Range<u8>, value: &[u8]) {
    for key in keys {
        shard.put(&[key], value);
    }
}

fn kept_bytes(shard: &Shard) -> u64 {
    shard.machine.kept.bytes()
}

/// Reads `rows` more rows of a pinned range and tells what they are.
fn read_on(
    shard: &mut Shard,
    query: &RangeQuery<'_>,
    pin: &Pin,
    from: &mut Option<Vec<u8>>,
    rows: u64,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let limit = SliceLimit { rows, ..WHOLE };
    let end = shard
        .machine
        .range(query, Some(pin), from.as_deref(), limit, &mut |row| {
            found.push((row.key.to_vec(), row.value.to_vec()));
        })
        .unwrap();
    if let SliceEnd::More { resume_after } = end {
        shard.machine.pass(pin, &resume_after);
        *from = Some(resume_after);
    }
    found
}

#[test]
fn a_version_stays_until_the_range_has_passed_it() {
    for direction in [Direction::Forward, Direction::Reverse] {
        let mut shard = forgetful();
        put_all(&mut shard, 0..100, b"then");
        let query = RangeQuery { direction, ..ALL };
        let pin = shard.machine.pin_range(&query).unwrap();
        put_all(&mut shard, 0..100, b"now");
        shard.put(b"later", b"");
        let all_bytes = kept_bytes(&shard);
        let mut from = None;
        let mut found = Vec::new();
        for round in 1..10 {
            found.extend(read_on(&mut shard, &query, &pin, &mut from, 10));
            let left_bytes = all_bytes * (100 - 10 * round) / 100;
            assert_eq!(kept_bytes(&shard), left_bytes, "round {round}");
        }
        found.extend(read_on(&mut shard, &query, &pin, &mut from, 10));
        if direction == Direction::Reverse {
            found.reverse();
        }
        let expected: Vec<_> = (0..100).map(|key| (vec![key], b"then".to_vec())).collect();
        assert_eq!(found, expected);
        shard.machine.unpin(pin);
        shard.machine.reclaim(usize::MAX);
        assert_eq!(shard.machine.memory().unanswering_bytes, 0);
    }
}

#[test]
fn what_changes_behind_the_range_is_not_kept() {
    let mut shard = forgetful();
    put_all(&mut shard, 0..100, b"then");
    let pin = shard.machine.pin_range(&ALL).unwrap();
    let mut from = None;
    read_on(&mut shard, &ALL, &pin, &mut from, 50);
    put_all(&mut shard, 0..50, b"now");
    shard.put(b"later", b"");
    assert_eq!(kept_bytes(&shard), 0);
    put_all(&mut shard, 50..51, b"now");
    shard.put(b"later", b"");
    assert!(kept_bytes(&shard) > 0);
    shard.machine.unpin(pin);
}

#[test]
fn a_range_holds_only_what_it_reads() {
    let mut shard = forgetful();
    for key in ["/a/1", "/a/2/x", "/a/3", "/b/1"] {
        shard.put(key.as_bytes(), b"");
    }
    shard.apply_one(Command::put(NamespaceId(2), b"/a/1", b""));
    let children = RangeQuery {
        prefix: b"/a/",
        scope: Scope::Children { separator: b'/' },
        ..ALL
    };
    let pin = shard.machine.pin_range(&children).unwrap();
    shard.put(b"/a/2/x", b"");
    shard.put(b"/b/1", b"");
    shard.apply_one(Command::put(NamespaceId(2), b"/a/1", b""));
    shard.put(b"/z", b"");
    assert_eq!(kept_bytes(&shard), 0);
    shard.delete(b"/a/3");
    shard.put(b"/z", b"");
    assert!(kept_bytes(&shard) > 0);
    let (found, _) = slice(&shard, &children, Some(&pin), WHOLE).unwrap();
    assert_eq!(found, [b"/a/1", b"/a/3"]);
    shard.machine.unpin(pin);
}

#[test]
fn each_pin_has_its_own_picture_of_a_key() {
    let mut shard = forgetful();
    shard.put(b"k", b"0");
    let mut pins = Vec::new();
    for round in 1..=5_u8 {
        pins.push(shard.machine.pin());
        shard.put(b"k", &[b'0' + round]);
        shard.delete(b"k");
        pins.push(shard.machine.pin());
        shard.put(b"k", &[b'a' + round]);
    }
    shard.put(b"z", b"");
    let values: Vec<_> = pins
        .iter()
        .map(|pin| {
            let mut values = Vec::new();
            let query = RangeQuery {
                prefix: b"k",
                ..ALL
            };
            let end = shard
                .machine
                .range(&query, Some(pin), None, WHOLE, &mut |row| {
                    values.extend_from_slice(row.value);
                });
            assert_eq!(end, Ok(SliceEnd::Finished));
            String::from_utf8(values).unwrap()
        })
        .collect();
    assert_eq!(values, ["0", "", "b", "", "c", "", "d", "", "e", ""]);
    for pin in pins {
        shard.machine.unpin(pin);
    }
    shard.machine.reclaim(usize::MAX);
    assert_eq!(kept_bytes(&shard), 0);
}

#[test]
fn what_an_abandoned_range_leaves_behind_is_freed_in_pieces() {
    let mut shard = forgetful();
    put_all(&mut shard, 0..200, b"then");
    let gone = shard.machine.pin_range(&ALL).unwrap();
    let half = RangeQuery {
        start: &[100],
        ..ALL
    };
    let other = shard.machine.pin_range(&half).unwrap();
    put_all(&mut shard, 0..200, b"now");
    shard.put(b"z", b"");
    shard.put(b"z", b"");
    let all_bytes = kept_bytes(&shard);
    shard.machine.unpin(gone);
    assert!(shard.machine.has_reclaimable());
    assert_eq!(shard.machine.reclaim(10), 10);
    assert_eq!(kept_bytes(&shard), all_bytes * 190 / 200);
    while shard.machine.has_reclaimable() {
        assert!(shard.machine.reclaim(10) <= 10);
    }
    assert_eq!(
        kept_bytes(&shard),
        all_bytes / 2,
        "the other's half is still there"
    );
    let (found, _) = slice(&shard, &half, Some(&other), WHOLE).unwrap();
    assert_eq!(found.len(), 100);
    shard.machine.unpin(other);
}

#[test]
#[should_panic(expected = "passed")]
fn reading_again_what_was_passed_is_refused() {
    let mut shard = forgetful();
    put_all(&mut shard, 0..10, b"");
    let pin = shard.machine.pin_range(&ALL).unwrap();
    shard.machine.pass(&pin, &[5]);
    let _rows = slice(&shard, &ALL, Some(&pin), WHOLE);
}

#[test]
fn a_pin_that_is_too_heavy_is_lost_and_what_it_held_is_freed() {
    let mut shard = forgetful();
    shard.machine.set_pin_limits(PinLimits {
        bytes_max: 10_000,
        ..PinLimits::default()
    });
    put_all(&mut shard, 0..100, &[0; 100]);
    let pin = shard.machine.pin_range(&ALL).unwrap();
    put_all(&mut shard, 0..100, &[1; 100]);
    let lost = slice(&shard, &ALL, Some(&pin), WHOLE);
    assert_eq!(lost, Err(ReadError::PinLost));
    while shard.machine.reclaim(1_000) > 0 {}
    assert_eq!(kept_bytes(&shard), 0);
    shard.machine.unpin(pin);
}

/// 100,000 keys are read at one revision, forward and back, while as many commands change all of them.
#[test]
fn a_range_over_everything_holds_a_part_while_everything_changes() {
    const KEYS: u64 = 100_000;
    const BATCH: u64 = 500;
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 1_000,
        ..Parameters::default()
    });
    let key = |number: u64| format!("/d/{number:06}").into_bytes();
    let value = |number: u64, round: u64| {
        let mut value = [0; 256];
        value[..8].copy_from_slice(&number.to_le_bytes());
        value[8..16].copy_from_slice(&round.to_le_bytes());
        value
    };
    for first in (0..KEYS).step_by(BATCH as usize) {
        let pairs: Vec<_> = (first..first + BATCH)
            .map(|number| (key(number), value(number, 0)))
            .collect();
        let puts: Vec<_> = pairs
            .iter()
            .map(|(key, value)| Command::put(NAMESPACE, key, value))
            .collect();
        shard.apply(&puts);
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let query = RangeQuery { direction, ..ALL };
        let limit = SliceLimit {
            rows: BATCH,
            ..WHOLE
        };
        let mut expected: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let all = shard.machine.range(&query, None, None, WHOLE, &mut |row| {
            expected.push((row.key.to_vec(), row.value.to_vec()));
        });
        assert_eq!(all, Ok(SliceEnd::Finished));
        let pin = shard.machine.pin_range(&query).unwrap();
        let (mut rows, mut round, mut held_bytes_max) = (0, 0, 0);
        let mut from: Option<Vec<u8>> = None;
        loop {
            let end = shard
                .machine
                .range(&query, Some(&pin), from.as_deref(), limit, &mut |row| {
                    let (key, value) = &expected[rows];
                    assert_eq!((row.key, row.value), (&key[..], &value[..]));
                    rows += 1;
                })
                .unwrap();
            round += 1;
            let numbers = (0..BATCH).map(|step| (round * BATCH + step) * 7_919 % KEYS);
            let pairs: Vec<_> = numbers
                .map(|number| (number, key(number), value(number, round)))
                .collect();
            let commands: Vec<_> = pairs
                .iter()
                .map(|(number, key, value)| match (number + round) % 4 {
                    0 => Command::delete(NAMESPACE, key),
                    _ => Command::put(NAMESPACE, key, value),
                })
                .collect();
            shard.apply(&commands);
            held_bytes_max = held_bytes_max.max(kept_bytes(&shard));
            match end {
                SliceEnd::Finished => break,
                SliceEnd::More { resume_after } => {
                    shard.machine.pass(&pin, &resume_after);
                    from = Some(resume_after);
                }
            }
        }
        assert_eq!(rows, expected.len());
        assert!(
            round * BATCH >= KEYS * 7 / 10,
            "{round} rounds change nearly all keys"
        );
        let whole_bytes = KEYS * 400;
        assert!(
            (whole_bytes / 20..whole_bytes * 3 / 10).contains(&held_bytes_max),
            "{held_bytes_max} of {whole_bytes}"
        );
        shard.machine.unpin(pin);
        while shard.machine.reclaim(1_000) > 0 {}
        assert_eq!(kept_bytes(&shard), 0);
    }
}
