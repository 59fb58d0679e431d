use super::*;
use crate::arguments::{ComparedWorkload, Thoroughness};
use crate::compare::fixture::{header, round_of};
use crate::compare::plan::Section;
use crate::system::System;
use crate::test_directory::TestDirectory;

fn sections() -> Vec<Section> {
    let peers = [System::Etcd];
    [ComparedWorkload::W1, ComparedWorkload::W2]
        .map(|workload| Section::new(workload, &peers, Thoroughness::Full))
        .to_vec()
}

fn rounds() -> Vec<Round> {
    let sections = sections();
    let section = |number: u32| &sections[(number as usize - 1) % 2];
    (1..=3)
        .map(|number| round_of(number, section(number), 100.0))
        .collect()
}

/// A file with a header and three rounds, as bytes.
fn written(path: &Path) -> Vec<u8> {
    let (journal, stored) = Journal::open(path).unwrap();
    assert_eq!(stored, None);
    let (mut journal, kept) = journal.begin(&header(&sections()), None).unwrap();
    assert_eq!(kept, None);
    for round in rounds() {
        journal.append(&round).unwrap();
    }
    journal.finish().unwrap();
    fs::read(path).unwrap()
}

#[test]
fn from_every_cut_the_whole_rounds_are_there() {
    let directory = TestDirectory::new("from_every_cut");
    let path = directory.path().join("compare.jsonl");
    let bytes = written(&path);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for cut in (0..=bytes.len()).rev() {
        file.set_len(cut as u64).unwrap();
        let whole_lines = bytes[..cut].iter().filter(|&&byte| byte == b'\n').count();
        let (journal, stored) = Journal::open(&path).unwrap();
        let Some(stored) = stored else {
            assert_eq!(whole_lines, 0, "cut at {cut}");
            continue;
        };
        // A header, three rounds, the end.
        let count = (whole_lines - 1).min(3);
        assert_eq!(stored.rounds, rounds()[..count], "cut at {cut}");
        assert_eq!(stored.is_reported, whole_lines == 5);
        let line_start = bytes[..cut].iter().rposition(|&byte| byte == b'\n');
        let half_bytes = (cut - line_start.unwrap() - 1) as u64;
        assert_eq!(journal.cut_bytes(), half_bytes);
    }
}

#[test]
fn what_was_cut_is_written_again_as_if_nothing_had_happened() {
    let directory = TestDirectory::new("what_was_cut");
    let path = directory.path().join("compare.jsonl");
    let bytes = written(&path);
    let line_ends: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b'\n').collect();
    // At the end of every line, right before and behind it, and in the middle of the next.
    let cuts = line_ends
        .iter()
        .flat_map(|&end| [end, end + 1, end + 2, end + 100]);
    for cut in cuts.filter(|&cut| cut > line_ends[0] && cut <= bytes.len()) {
        fs::write(&path, &bytes[..cut]).unwrap();
        let (mut journal, stored) = Journal::open(&path).unwrap();
        let stored = stored.expect("the header is whole");
        assert_eq!(stored.header, header(&sections()));
        journal.resume().unwrap();
        for round in &rounds()[stored.rounds.len()..] {
            journal.append(round).unwrap();
        }
        if !stored.is_reported {
            journal.finish().unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), bytes, "cut at {cut}");
    }
}

#[test]
fn without_a_whole_header_it_begins_anew_and_keeps_nothing() {
    let directory = TestDirectory::new("without_a_whole_header");
    let path = directory.path().join("compare.jsonl");
    let bytes = written(&path);
    fs::write(&path, &bytes[..100]).unwrap();
    let (journal, stored) = Journal::open(&path).unwrap();
    assert_eq!(stored, None);
    let (_, kept) = journal.begin(&header(&sections()), Some("then")).unwrap();
    assert_eq!(kept, None);
    assert!(bytes.starts_with(&fs::read(&path).unwrap()));
}

#[test]
fn what_is_there_is_kept_when_another_begins() {
    let directory = TestDirectory::new("what_is_there_is_kept");
    let path = directory.path().join("compare.jsonl");
    let mut kept_names = Vec::new();
    for _ in 0..3 {
        let (journal, _) = Journal::open(&path).unwrap();
        let (mut journal, kept) = journal.begin(&header(&sections()), Some("then")).unwrap();
        journal.append(&rounds()[0]).unwrap();
        kept_names.extend(kept);
    }
    let names = ["compare.jsonl.then", "compare.jsonl.then.2"];
    assert_eq!(kept_names, names.map(|name| directory.path().join(name)));
    for kept in kept_names.iter().chain([&path]) {
        let (_, stored) = Journal::open(kept).unwrap();
        assert_eq!(stored.unwrap().rounds, rounds()[..1]);
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_left_as_it_is() {
    let directory = TestDirectory::new("what_cannot_be_read");
    let path = directory.path().join("compare.jsonl");
    let text = String::from_utf8(written(&path)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let damaged = [lines[0], "{\"round\":{}}", lines[2], ""].join("\n");
    fs::write(&path, &damaged).unwrap();
    let error = Journal::open(&path).map(|_| ()).unwrap_err();
    assert!(
        matches!(error, JournalError::Damaged { line: 2, .. }),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    for order in [
        vec![lines[1], lines[0]],
        vec![lines[0], lines[0]],
        vec![lines[0], lines[4], lines[1]],
        vec![lines[0], lines[4], lines[4]],
    ] {
        let order = order.join("\n") + "\n";
        fs::write(&path, &order).unwrap();
        let error = Journal::open(&path).map(|_| ()).unwrap_err();
        assert!(matches!(error, JournalError::Order { .. }), "{error}");
    }
}

#[test]
fn two_comparisons_do_not_add_to_one_file() {
    let directory = TestDirectory::new("two_comparisons");
    let path = directory.path().join("compare.jsonl");
    let (_first, _) = Journal::open(&path).unwrap();
    let second = Journal::open(&path).map(|_| ());
    assert!(matches!(second, Err(JournalError::InUse { .. })));
}
