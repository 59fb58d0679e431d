//! Targets for fuzzers: each takes any bytes, must never panic, asserts what the format promises, and says whether the
//! bytes were accepted.
//!
//! They are plain functions, so that the tests below drive them on every run with a corpus and seeded mutations,
//! and a fuzzer's harness is one call.

pub mod seeds;

use crate::batch::{Batch, BatchBuilder, Codec};
use crate::command::{Command, CommandKind, CommandLimits};
use crate::ids::NamespaceId;
use crate::outcome::Outcome;
use crate::row::Row;
use crate::snapshot::SectionTag;
use crate::state::{ExportProgress, Parameters, SliceLimit, SnapshotImport, StateMachine};
use crate::structured::Structured;

/// A command that can be read is written back as the bytes it was read from, and one that passes the edge's check
/// can be read.
pub fn fuzz_command(data: &[u8]) -> bool {
    let decoded = Command::decode(data);
    if let Ok((command, length)) = decoded {
        let mut encoded = Vec::new();
        command.encode_into(&mut encoded);
        assert_eq!(encoded, &data[..length]);
        assert_eq!(command.encoded_len(), length);
    }
    if let Ok(checked) = Command::check(data, &CommandLimits::default()) {
        assert_eq!(Ok(checked), decoded);
    }
    decoded.is_ok()
}

/// What the value of a command with structure says can be said again, and reads the same. `data` is a byte that chooses
/// the kind, the length of the key, the key, then the value; so the value lies at any offset.
pub fn fuzz_structured(data: &[u8]) -> bool {
    let [kind, key_length, rest @ ..] = data else {
        return false;
    };
    let kind = match kind % 4 {
        0 => CommandKind::DeleteRange,
        1 => CommandKind::Txn,
        2 => CommandKind::Commit,
        _ => CommandKind::Compact,
    };
    let (key, value) = rest.split_at(rest.len().min(usize::from(*key_length)));
    let command = Command::structured(kind, NamespaceId::DEFAULT, key, value);
    let Ok(Some(structured)) = Structured::of(&command) else {
        return false;
    };
    let again = structured.encode();
    let command = Command::structured(kind, NamespaceId::DEFAULT, key, &again);
    assert_eq!(Structured::of(&command), Ok(Some(structured)));
    true
}

/// An outcome that can be read is written back as the bytes it was read from.
pub fn fuzz_outcome(data: &[u8]) -> bool {
    let Ok((outcome, length)) = Outcome::decode(data) else {
        return false;
    };
    let mut encoded = Vec::new();
    outcome.encode_into(&mut encoded);
    assert_eq!(encoded, &data[..length]);
    assert_eq!(outcome.encoded_len(), length);
    true
}

/// A row that can be read is written back as the bytes it was read from.
pub fn fuzz_row(data: &[u8]) -> bool {
    let Ok((row, length)) = Row::decode(data) else {
        return false;
    };
    let mut encoded = Vec::new();
    row.encode_into(&mut encoded);
    assert_eq!(encoded, &data[..length]);
    assert_eq!(row.encoded_len(), length);
    true
}

/// A batch whose commands can all be read is built again from them as the bytes it was read from.
pub fn fuzz_batch(data: &[u8]) -> bool {
    let Ok(batch) = Batch::decode(data) else {
        return false;
    };
    let Ok(commands) = batch.commands().collect::<Result<Vec<_>, _>>() else {
        return false;
    };
    assert_eq!(commands.len(), batch.count as usize);
    let mut builder = BatchBuilder::new();
    for command in &commands {
        let mut encoded = Vec::new();
        command.encode_into(&mut encoded);
        builder.push(&encoded);
    }
    if !builder.is_empty() {
        assert_eq!(batch.codec, Codec::None);
        assert_eq!(builder.seal(batch.shard_time, batch.term), data);
    }
    true
}

/// Any batch is applied or refused, twice alike, and the outcomes are as many as the commands.
pub fn fuzz_apply(data: &[u8]) -> bool {
    let Ok(batch) = Batch::decode(data) else {
        return false;
    };
    let run = || {
        let mut machine = StateMachine::new(Parameters::default());
        let mut outcomes = Vec::new();
        let mut count = 0;
        let result = machine.apply(&batch, &mut |outcome| {
            outcome.encode_into(&mut outcomes);
            count += 1;
        });
        if result.is_ok() {
            assert_eq!(count, batch.count);
        }
        (result, outcomes, machine.state_hash())
    };
    let first = run();
    assert_eq!(run(), first);
    first.0.is_ok()
}

/// Any sections are loaded or refused, whatever the cuts, and a state that was loaded exports the sections that it
/// would be loaded from again. The input is pieces: a section's number, a length, and so many bytes.
pub fn fuzz_import(data: &[u8]) -> bool {
    let mut whole = SnapshotImport::new(Parameters::default());
    let mut cut = SnapshotImport::new(Parameters::default());
    let mut rest = data;
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let [tag_low, tag_high, length_low, length_high] = *head;
        let tag = SectionTag(u16::from_le_bytes([tag_low, tag_high]));
        let length = usize::from(u16::from_le_bytes([length_low, length_high]));
        let (piece, behind) = tail.split_at(length.min(tail.len()));
        rest = behind;
        let loaded = whole.section(tag, piece);
        let (front, back) = piece.split_at(piece.len() / 2);
        let loaded_cut = cut
            .section(tag, front)
            .and_then(|()| cut.section(tag, back));
        assert_eq!(loaded, loaded_cut);
        if loaded.is_err() {
            return false;
        }
    }
    let (Ok(mut machine), Ok(mut other)) = (whole.finish(), cut.finish()) else {
        return false;
    };
    let sections = export_all(&mut machine);
    assert_eq!(export_all(&mut other), sections);
    let mut again = SnapshotImport::new(Parameters::default());
    for (tag, bytes) in &sections {
        assert_eq!(again.section(*tag, bytes), Ok(()));
    }
    let mut again = again
        .finish()
        .expect("a state that was loaded is loaded again");
    assert_eq!(export_all(&mut again), sections);
    true
}

/// The sections of a state, in small slices.
fn export_all(machine: &mut StateMachine) -> Vec<(SectionTag, Vec<u8>)> {
    let slice = SliceLimit {
        rows: 3,
        bytes: 200,
        visits: 5,
    };
    let mut sections = Vec::new();
    let mut export = machine.begin_export();
    loop {
        let mut bytes = Vec::new();
        match machine.export_slice(&mut export, slice, &mut bytes) {
            Ok(ExportProgress::More { section }) => sections.push((section, bytes)),
            Ok(ExportProgress::Finished) => break,
            Err(error) => panic!("an export with nothing applied meanwhile: {error}"),
        }
    }
    machine.end_export(export);
    sections
}

#[cfg(test)]
mod tests {
    use super::seeds::{batches, commands, outcomes, rows, sections, structured};
    use super::*;

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) % bound as u64) as usize
        }

        /// Cuts, grows, or changes bytes; the front more often, because there the structure is.
        fn mutate(&mut self, bytes: &mut Vec<u8>) {
            for _ in 0..=self.below(3) {
                let reach = if self.below(3) == 0 {
                    bytes.len()
                } else {
                    bytes.len().min(48)
                };
                if reach == 0 {
                    bytes.push(self.below(256) as u8);
                    continue;
                }
                let index = self.below(reach);
                match self.below(6) {
                    0 => bytes.truncate(index),
                    1 => bytes.insert(index, self.below(256) as u8),
                    2 => bytes[index] ^= 1 << self.below(8),
                    3 => bytes[index] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                    4 => bytes[index] = bytes[index].wrapping_add(1),
                    _ => bytes[index] = self.below(256) as u8,
                }
            }
        }
    }

    fn drive(target: fn(&[u8]) -> bool, corpus: &[Vec<u8>]) {
        let mut random = Random(1);
        assert!(
            corpus.iter().any(|seed| target(seed)),
            "nothing is accepted"
        );
        for seed in corpus {
            target(seed);
            for length in 0..seed.len() {
                target(&seed[..length]);
            }
            for _ in 0..20_000 / corpus.len() {
                let mut mutated = seed.clone();
                random.mutate(&mut mutated);
                target(&mutated);
            }
        }
    }

    #[test]
    fn commands_survive_mutation() {
        drive(fuzz_command, &commands());
    }

    #[test]
    fn structure_survives_mutation() {
        drive(fuzz_structured, &structured());
    }

    #[test]
    fn batches_survive_mutation() {
        drive(fuzz_batch, &batches());
    }

    #[test]
    fn applying_survives_mutation() {
        drive(fuzz_apply, &batches());
    }

    #[test]
    fn importing_survives_mutation() {
        drive(fuzz_import, &sections());
    }

    #[test]
    fn rows_survive_mutation() {
        drive(fuzz_row, &rows());
    }

    #[test]
    fn outcomes_survive_mutation() {
        drive(fuzz_outcome, &outcomes());
    }
}
