//! Sections that are no state: each fault is told by section and place, and none makes the import panic.

use super::*;
use crate::snapshot::ImportFault;

/// The sections of the small state, with one of them changed.
fn changed(tag: SectionTag, change: impl FnOnce(&mut Vec<u8>)) -> Sections {
    let mut sections = export_all(&mut small().machine, WHOLE);
    let section = sections.iter_mut().find(|(section, _)| *section == tag);
    change(&mut section.unwrap().1);
    sections
}

/// What an import of the small state with one section changed is refused with, whatever the cuts.
fn refusal(tag: SectionTag, change: impl FnOnce(&mut Vec<u8>)) -> ImportError {
    let sections = changed(tag, change);
    let refused = import(&sections, usize::MAX).unwrap_err();
    for cut_bytes in [1, 5] {
        assert_eq!(import(&sections, cut_bytes).unwrap_err(), refused);
    }
    refused
}

fn malformed(section: SectionTag, offset: u64, fault: ImportFault) -> ImportError {
    ImportError::Malformed {
        section,
        offset,
        fault,
    }
}

/// Length of the first key's item in the small state; all items of keys are about as long.
const KEY_ITEM_BYTES: usize = 4 + ROW_BASE_BYTES + 3;

#[test]
fn an_unknown_section_is_refused_unless_it_is_optional() {
    let sections = export_all(&mut small().machine, WHOLE);
    for section in [
        SectionTag::LEASES,
        SectionTag::PREPARED,
        SectionTag(999),
        SectionTag(0),
    ] {
        let mut with_unknown = sections.clone();
        with_unknown.push((section, vec![1]));
        let refused = import(&with_unknown, 1).unwrap_err();
        assert_eq!(refused, ImportError::UnknownSection { section });
    }
    assert_eq!(
        ImportError::UnknownSection {
            section: SectionTag::LEASES
        }
        .to_string(),
        "section leases needs a newer version of this program"
    );
    assert_eq!(
        ImportError::UnknownSection {
            section: SectionTag(999)
        }
        .to_string(),
        "section number 999 needs a newer version of this program"
    );
    let mut with_optional = sections.clone();
    for index in (0..=sections.len()).rev() {
        with_optional.insert(index, (SectionTag(0x8001), vec![1, 2, 3]));
    }
    assert!(import(&with_optional, 2).is_ok());
}

#[test]
fn sections_come_in_order_and_all_of_them() {
    let sections = export_all(&mut small().machine, WHOLE);
    for index in 0..sections.len() {
        let mut missing = sections.clone();
        missing.remove(index);
        assert!(
            import(&missing, 3).is_err(),
            "without section {}",
            sections[index].0
        );
    }
    assert_eq!(
        import(&Sections::new(), 1).unwrap_err(),
        ImportError::Missing {
            section: SectionTag::COUNTERS
        }
    );
    let mut swapped = sections.clone();
    swapped.swap(2, 3);
    // A change of a key that is not there yet is found first.
    assert_eq!(
        import(&swapped, 1).unwrap_err(),
        malformed(SectionTag::HISTORY, 69, ImportFault::AbsentRemoved)
    );
    let mut back = sections;
    let keys = back[2].clone();
    back.push(keys);
    assert_eq!(
        import(&back, 1).unwrap_err(),
        ImportError::WrongOrder {
            section: SectionTag::KEYS,
            after: SectionTag::HISTORY
        }
    );
}

#[test]
fn a_section_that_ends_inside_an_item_is_told() {
    for (section, offset) in [
        (SectionTag::COUNTERS, 0),
        (SectionTag::NAMESPACES, 0),
        (SectionTag::KEYS, KEY_ITEM_BYTES as u64),
    ] {
        let cut = |bytes: &mut Vec<u8>| {
            bytes.pop();
        };
        assert_eq!(
            refusal(section, cut),
            ImportError::CutOff { section, offset }
        );
    }
}

#[test]
fn items_that_cannot_be_are_told_by_place_and_fault() {
    let keys = SectionTag::KEYS;
    let second = KEY_ITEM_BYTES as u64;
    let cases: [(&str, ImportError, ImportError); 10] = [
        (
            "a second item of counters",
            refusal(SectionTag::COUNTERS, |bytes| bytes.push(0)),
            malformed(SectionTag::COUNTERS, 120, ImportFault::Surplus),
        ),
        (
            "the same namespace twice",
            refusal(SectionTag::NAMESPACES, |bytes| bytes.extend_from_within(..)),
            malformed(SectionTag::NAMESPACES, 24, ImportFault::NotAscending),
        ),
        (
            "a key twice",
            refusal(keys, |bytes| bytes.extend_from_within(KEY_ITEM_BYTES..)),
            malformed(keys, 2 * second + 1, ImportFault::NotAscending),
        ),
        (
            "a key of a namespace that is not listed",
            refusal(keys, |bytes| bytes[KEY_ITEM_BYTES] = 9),
            malformed(
                keys,
                second,
                ImportFault::UnknownNamespace {
                    namespace: NamespaceId(9),
                },
            ),
        ),
        (
            "a key that is as long as nonsense",
            refusal(keys, |bytes| bytes[7] = 0x7f),
            malformed(
                keys,
                0,
                ImportFault::TooLong {
                    bytes: 4 + 40 + 0x7f00_0002,
                },
            ),
        ),
        (
            "a row newer than the floor",
            refusal(keys, |bytes| bytes[4 + 16] = 3),
            malformed(
                keys,
                0,
                ImportFault::WrongRevision {
                    revision: Revision(3),
                },
            ),
        ),
        (
            "a version that nobody can count to",
            refusal(keys, |bytes| bytes[4 + 24 + 7] = 0xff),
            malformed(
                keys,
                0,
                ImportFault::OutOfRange {
                    number: 0xff00_0000_0000_0001,
                },
            ),
        ),
        (
            "a kind that does not exist",
            refusal(SectionTag::HISTORY, |bytes| bytes[5] = 0x70),
            malformed(
                SectionTag::HISTORY,
                0,
                ImportFault::UnknownKind { kind: 0x7001 },
            ),
        ),
        (
            "flags that do not exist",
            refusal(SectionTag::HISTORY, |bytes| bytes[6] = 2),
            malformed(
                SectionTag::HISTORY,
                0,
                ImportFault::UnknownFlags { flags: 2 },
            ),
        ),
        (
            "a change after the snapshot",
            refusal(SectionTag::HISTORY, |bytes| bytes[16] = 0x35),
            malformed(
                SectionTag::HISTORY,
                0,
                ImportFault::WrongTime { time_ms: 0x1235 },
            ),
        ),
    ];
    for (name, found, expected) in cases {
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn totals_that_do_not_add_up_are_told() {
    let totals = [
        (24, SectionTag::HISTORY, "changes"),
        (32, SectionTag::NAMESPACES, "namespaces"),
        (40, SectionTag::KEYS, "live keys"),
        (48, SectionTag::KEYS, "bytes of live keys"),
    ];
    for (offset, expected_section, expected_what) in totals {
        let refused = refusal(SectionTag::COUNTERS, |bytes| bytes[offset] += 1);
        let ImportError::WrongTotal {
            section,
            what,
            expected,
            found,
        } = refused
        else {
            panic!("{refused}");
        };
        assert_eq!((section, what), (expected_section, expected_what));
        assert_eq!(expected, found + 1);
    }
}

#[test]
fn no_byte_makes_an_import_panic() {
    let sections = export_all(&mut small().machine, WHOLE);
    for (index, (_, bytes)) in sections.iter().enumerate() {
        for position in 0..bytes.len() {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut damaged = sections.clone();
                damaged[index].1[position] = value;
                // Whether it is refused is for the file's checksums; that it ends is for the import.
                if let Ok(mut machine) = import(&damaged, usize::MAX) {
                    let _ = rows(&machine, NAMESPACE, None);
                    export_all(&mut machine, WHOLE);
                }
            }
        }
    }
}
