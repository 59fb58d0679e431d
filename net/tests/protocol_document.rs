//! The protocol's document says what the code does.

use metastore_net::peer::{PeerLane, RefusalCode};
use metastore_net::{ErrorCode, FrameKind};
use metastore_statemachine::CommandKind;

const DOCUMENT: &str = include_str!("../../docs/PROTOCOL.md");
const FRAMES: &str = include_str!("../testdata/frames.txt");
const PEERS: &str = include_str!("../testdata/peers.txt");

/// The rows of the table below a heading: number and name.
fn numbered_rows(heading: &str) -> Vec<(u16, String)> {
    let section = DOCUMENT
        .split("\n## ")
        .find(|section| section.lines().next() == Some(heading))
        .expect("the heading is there");
    let mut rows = Vec::new();
    for line in section.lines() {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let (Some(number), Some(name)) = (cells.next(), cells.next()) else {
            continue;
        };
        if let Ok(number) = number.parse() {
            rows.push((number, name.trim_matches('`').to_owned()));
        }
    }
    assert!(!rows.is_empty(), "{heading}");
    rows
}

#[test]
fn kinds_are_all_there() {
    let known: Vec<_> = (0..=u16::MAX)
        .filter_map(FrameKind::from_u16)
        .map(|kind| (kind.as_u16(), format!("{kind:?}").to_lowercase()))
        .collect();
    let written: Vec<_> = numbered_rows("Kinds")
        .into_iter()
        .map(|(number, name)| (number, name.replace('_', "")))
        .collect();
    assert_eq!(written, known);
}

#[test]
fn error_codes_are_all_there() {
    let known: Vec<_> = (1..=u16::MAX)
        .map(|number| (number, ErrorCode::from_u16(number)))
        .filter(|(_, code)| !matches!(code, ErrorCode::Other(_)))
        .map(|(number, code)| (number, format!("{code:?}")))
        .collect();
    assert_eq!(numbered_rows("Errors"), known);
}

#[test]
fn command_kinds_have_their_numbers() {
    let rows = numbered_rows("command");
    for (kind, name) in [
        (CommandKind::Put, "put"),
        (CommandKind::Delete, "delete"),
        (CommandKind::AddI64, "add_i64"),
        (CommandKind::MaxI64, "max_i64"),
        (CommandKind::MinI64, "min_i64"),
        (CommandKind::Append, "append"),
        (CommandKind::DeleteRange, "delete_range"),
        (CommandKind::Txn, "txn"),
        (CommandKind::Commit, "commit"),
        (CommandKind::Compact, "compact"),
    ] {
        assert!(rows.contains(&(kind as u16, name.to_owned())), "{name}");
    }
}

#[test]
fn refusals_between_cores_are_all_there() {
    let known: Vec<_> = (0..=u16::MAX)
        .filter_map(RefusalCode::of_code)
        .filter(|code| !matches!(code, RefusalCode::Other(_)))
        .map(|code| (code.code(), format!("{code:?}")))
        .collect();
    assert_eq!(numbered_rows("Between nodes"), known);
}

#[test]
fn lanes_have_their_numbers() {
    for lane in PeerLane::ALL {
        let row = format!("| {lane:?} | {} |", lane.code()).to_lowercase();
        assert!(DOCUMENT.contains(&row), "{row}");
    }
}

/// The bytes of an example of the document, and those of the golden file.
fn assert_example(name: &str, golden: &str) {
    let start = format!("```hex {name}\n");
    let (_, block) = DOCUMENT.split_once(&start).expect("the example is there");
    let (hex, _) = block.split_once("```").expect("the example ends");
    let hex: String = hex.split_whitespace().collect();
    let golden = golden
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    assert_eq!(Some(&hex[..]), golden, "{name}");
}

#[test]
fn the_examples_are_what_goes_over_the_wire() {
    for name in ["request put", "response put"] {
        assert_example(name, FRAMES);
    }
    for name in ["hello", "answer accepted", "batch"] {
        assert_example(name, PEERS);
    }
}
