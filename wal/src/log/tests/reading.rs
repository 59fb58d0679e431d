//! Entries read back from a log while it is written.

use super::*;
use crate::log::{EntryPlace, LogOptions, ReadEnd};
use crate::testing::{part, small_options};
use crate::{PartBody, Term};

/// Reads on from a place until an entry with this index and term is found.
fn find(machine: &Machine, mut place: EntryPlace, index: u64, term: u64) -> Option<Entry> {
    let mut bytes_min = BLOCK_BYTES;
    for _ in 0..100 {
        let start = usize::try_from(place.offset).unwrap();
        let file = &machine.disk.files[&place.file];
        let end = (start + bytes_min.next_multiple_of(BLOCK_BYTES)).min(file.len());
        let mut found = None;
        let (log, replica) = (&machine.log, ReplicaId(1));
        let read_end = log.read_entries(&place, &file[start..end], replica, &mut |at, entry| {
            if (at, entry.term) == (LogIndex(index), Term(term)) {
                found = Some(Entry {
                    term: entry.term,
                    kind: entry.kind,
                    data: entry.data.to_vec().into(),
                });
            }
        });
        match read_end {
            _ if found.is_some() => return found,
            ReadEnd::More {
                offset,
                bytes_min: needed,
            } => (place.offset, bytes_min) = (offset, needed),
            ReadEnd::NoMore => return None,
        }
    }
    panic!("a segment has fewer records");
}

fn read_back(machine: &Machine, index: u64, term: u64) -> Option<Entry> {
    let place = machine.log.place_of(ReplicaId(1), LogIndex(index))?;
    find(machine, place, index, term)
}

fn many_segments() -> Machine {
    let mut machine = Machine::fresh(LogOptions {
        budget_bytes: 256 * BLOCK,
        ..small_options()
    });
    machine.write(snapshot(1, 1, 1));
    for index in 2..=40 {
        let fill = u8::try_from(index).unwrap();
        machine.write(append(1, 1, 1, index, vec![entry(1, fill, 3000)]));
        machine.write(append(2, 1, 0, index - 1, vec![entry(1, 0, 10)]));
    }
    machine
}

#[test]
fn every_durable_entry_is_found_again_from_its_place() {
    let machine = many_segments();
    assert!(machine.log.status().segments_live > 5);
    for index in 2..=40 {
        let fill = u8::try_from(index).unwrap();
        assert_eq!(
            read_back(&machine, index, 1),
            Some(entry(1, fill, 3000)),
            "{index}"
        );
    }
    assert_eq!(read_back(&machine, 41, 1), None);
    assert_eq!(read_back(&machine, 1, 1), None);
}

#[test]
fn a_log_that_was_recovered_finds_what_was_written_before() {
    let mut machine = many_segments();
    machine.idle();
    let options = LogOptions {
        budget_bytes: 256 * BLOCK,
        ..small_options()
    };
    let machine = Machine::restart(options, machine.disk);
    for index in 2..=40 {
        let fill = u8::try_from(index).unwrap();
        assert_eq!(read_back(&machine, index, 1), Some(entry(1, fill, 3000)));
    }
}

/// Entry 40 was replaced by one of a later term: both are in the log, and the term tells them apart.
#[test]
fn of_an_entry_that_was_replaced_the_term_tells_which_counts() {
    let mut machine = many_segments();
    machine.write(append(1, 2, 1, 40, vec![entry(2, 0xbb, 100)]));
    assert_eq!(read_back(&machine, 40, 2), Some(entry(2, 0xbb, 100)));
    assert_eq!(read_back(&machine, 39, 1), Some(entry(1, 39, 3000)));
    assert_eq!(read_back(&machine, 40, 3), None);
}

#[test]
fn what_was_written_again_is_found_where_it_is_now() {
    let mut machine = many_segments();
    let body = PartBody::Rewrite {
        first_index: LogIndex(2),
        entries: (2..=5).map(|fill| entry(1, fill, 3000)).collect(),
    };
    machine.write(part(1, 1, 1, body));
    let newest = machine.log.status().segment;
    for index in 2..=5 {
        let place = machine.log.place_of(ReplicaId(1), LogIndex(index)).unwrap();
        assert!(place.segment.0 + 1 >= newest.0, "{place:?}");
        let fill = u8::try_from(index).unwrap();
        assert_eq!(read_back(&machine, index, 1), Some(entry(1, fill, 3000)));
    }
    assert_eq!(read_back(&machine, 6, 1), Some(entry(1, 6, 3000)));
}

/// Between the question and the read its segment was given up and its file used again.
#[test]
fn a_file_that_holds_another_segment_by_now_gives_nothing() {
    let machine = many_segments();
    let place = machine.log.place_of(ReplicaId(1), LogIndex(2)).unwrap();
    let later = machine.log.place_of(ReplicaId(1), LogIndex(40)).unwrap();
    let reused = EntryPlace {
        file: later.file,
        offset: 0,
        ..place
    };
    assert_eq!(find(&machine, reused, 2, 1), None);
}

#[test]
fn damage_ends_a_read() {
    let mut machine = many_segments();
    let place = machine.log.place_of(ReplicaId(1), LogIndex(20)).unwrap();
    for byte in machine.disk.files.get_mut(&place.file).unwrap() {
        *byte ^= 1;
    }
    assert_eq!(find(&machine, place, 20, 1), None);
}
