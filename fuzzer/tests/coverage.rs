//! Nothing that comes over the wire is without a golden frame, a section in the protocol's document and a fuzz target,
//! and no target is blind: each accepts inputs that are not in its corpus.

use metastore_fuzzer::targets::{all, name_of};
use metastore_fuzzer::{Piece, corpus, memory, run_piece};
use metastore_net::{FrameKind, fuzz as net};
use metastore_statemachine::fuzz::{fuzz_command, seeds};
use metastore_statemachine::{Command, CommandKind};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

const DOCUMENT: &str = include_str!("../../docs/PROTOCOL.md");

fn known_kinds() -> Vec<FrameKind> {
    (0..=u16::MAX).filter_map(FrameKind::from_u16).collect()
}

#[test]
fn every_kind_has_a_golden_frame_in_both_directions_and_its_targets() {
    let golden = corpus::golden_lines("net", "frames.txt");
    let targets = all();
    for kind in known_kinds() {
        for direction in ["request", "response"] {
            let is_golden = golden.iter().any(|(name, bytes)| {
                name.starts_with(direction) && bytes[6..8] == kind.as_u16().to_le_bytes()
            });
            assert!(is_golden, "no golden {direction} of {kind:?}");
            let name = name_of(direction, kind);
            assert!(targets.iter().any(|target| target.name == name), "{name}");
        }
    }
    assert!(targets.iter().any(|target| target.name == "response/error"));
}

#[test]
fn every_kind_has_its_row_in_the_document_and_the_sections_it_refers_to() {
    for kind in known_kinds() {
        let name = name_of("", kind);
        let row = format!("| {} | `{}` |", kind.as_u16(), &name[1..]);
        let row = DOCUMENT.lines().find(|line| line.starts_with(&row));
        let row = row.unwrap_or_else(|| panic!("{kind:?} has no row"));
        for reference in row.split("](#").skip(1) {
            let section = reference.split(')').next().expect("a link ends");
            let heading = format!("\n## {section}\n");
            assert!(
                DOCUMENT.contains(&heading),
                "{kind:?}: no section {section}"
            );
        }
    }
}

#[test]
fn every_kind_of_command_is_in_the_corpus_and_in_the_document() {
    let seeds = seeds::commands();
    let section = DOCUMENT
        .split("\n## ")
        .find(|section| section.starts_with("command\n"));
    let section = section.expect("commands have a section");
    for number in 0..=u16::MAX {
        let mut alone = number.to_le_bytes().to_vec();
        alone.resize(64, 0);
        let Ok((command, _)) = Command::decode(&alone) else {
            continue;
        };
        let kind: CommandKind = command.kind;
        let is_seed = |seed: &Vec<u8>| seed[..2] == number.to_le_bytes() && fuzz_command(seed);
        assert!(seeds.iter().any(is_seed), "no command {kind:?}");
        let row = format!("\n| {number} | `");
        assert!(section.contains(&row), "{kind:?} has no row");
    }
}

#[test]
fn every_kind_of_answer_reaches_the_client() {
    let golden = corpus::golden_lines("net", "frames.txt");
    for (name, mut bytes) in golden {
        if name.starts_with("response ") {
            net::mend_answers(&mut bytes);
            assert!(net::fuzz_client(&bytes), "{name}");
        }
    }
}

#[test]
fn no_target_is_blind() {
    for target in all() {
        let piece = Piece {
            seed: 2,
            from: target.corpus.len() as u64,
            executions: 2_000,
        };
        let outcome = run_piece(&target, piece).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(outcome.accepted > 0, "{} accepts nothing", target.name);
        assert!(outcome.accepted < 2_000, "{} refuses nothing", target.name);
    }
}
