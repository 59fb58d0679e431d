//! Targets for fuzzers: each takes any bytes, must never panic, and asserts what the format promises.
//!
//! They are plain functions, so that the tests below drive them on every run with a corpus and seeded mutations,
//! and a fuzzer's harness is one call.

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
pub fn fuzz_command(data: &[u8]) {
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
}

/// What the value of a command with structure says can be said again, and reads the same. `data` is a byte that chooses
/// the kind, the length of the key, the key, then the value; so the value lies at any offset.
pub fn fuzz_structured(data: &[u8]) {
    let [kind, key_length, rest @ ..] = data else {
        return;
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
        return;
    };
    let again = structured.encode();
    let command = Command::structured(kind, NamespaceId::DEFAULT, key, &again);
    assert_eq!(Structured::of(&command), Ok(Some(structured)));
}

/// An outcome that can be read is written back as the bytes it was read from.
pub fn fuzz_outcome(data: &[u8]) {
    if let Ok((outcome, length)) = Outcome::decode(data) {
        let mut encoded = Vec::new();
        outcome.encode_into(&mut encoded);
        assert_eq!(encoded, &data[..length]);
        assert_eq!(outcome.encoded_len(), length);
    }
}

/// A row that can be read is written back as the bytes it was read from.
pub fn fuzz_row(data: &[u8]) {
    if let Ok((row, length)) = Row::decode(data) {
        let mut encoded = Vec::new();
        row.encode_into(&mut encoded);
        assert_eq!(encoded, &data[..length]);
        assert_eq!(row.encoded_len(), length);
    }
}

/// A batch whose commands can all be read is built again from them as the bytes it was read from.
pub fn fuzz_batch(data: &[u8]) {
    let Ok(batch) = Batch::decode(data) else {
        return;
    };
    let Ok(commands) = batch.commands().collect::<Result<Vec<_>, _>>() else {
        return;
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
}

/// Any batch is applied or refused, twice alike, and the outcomes are as many as the commands.
pub fn fuzz_apply(data: &[u8]) {
    let Ok(batch) = Batch::decode(data) else {
        return;
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
    assert_eq!(run(), run());
}

/// Any sections are loaded or refused, whatever the cuts, and a state that was loaded exports the sections that it
/// would be loaded from again. The input is pieces: a section's number, a length, and so many bytes.
pub fn fuzz_import(data: &[u8]) {
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
            return;
        }
    }
    let (Ok(mut machine), Ok(mut other)) = (whole.finish(), cut.finish()) else {
        return;
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
    use super::*;
    use crate::command::SessionStamp;
    use crate::detail::{Branch, Detail, ResultsWriter};
    use crate::ids::{Revision, ShardTime};
    use crate::outcome::OutcomeCode;
    use crate::structured::samples;

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

    fn commands() -> Vec<Vec<u8>> {
        let namespace = NamespaceId::DEFAULT;
        let session = SessionStamp {
            handle_index: 7,
            handle_nonce: 9,
            sequence: 3,
            unanswered_sequence_min: 2,
        };
        let operand = 5_i64.to_le_bytes();
        [
            Command::put(namespace, b"/a/b", b"value"),
            Command::put(namespace, b"/a/b", b"")
                .with_if_absent()
                .with_return_previous(),
            Command::put(namespace, b"/a/c", b"v").with_expected_revision(Revision(1)),
            Command::put(namespace, b"/a/c", b"v")
                .with_lease(8)
                .with_session(session),
            Command::add_i64(namespace, b"n", &operand),
            Command::max_i64(namespace, b"n", &operand),
            Command::min_i64(namespace, b"n", &operand).with_return_previous(),
            Command::append(namespace, b"/a/b", b"more").with_return_previous(),
            Command::delete(namespace, b"/a/b").with_return_previous(),
        ]
        .iter()
        .map(|command| {
            let mut bytes = Vec::new();
            command.encode_into(&mut bytes);
            bytes
        })
        .chain(samples().iter().map(|structured| {
            let value = structured.encode();
            let key = structured.first_named().unwrap_or(b"/a/b");
            let mut bytes = Vec::new();
            Command::structured(structured.kind(), namespace, key, &value).encode_into(&mut bytes);
            bytes
        }))
        .collect()
    }

    fn batches() -> Vec<Vec<u8>> {
        let mut builder = BatchBuilder::new();
        for command in commands()
            .iter()
            .filter(|bytes| Command::check(bytes, &CommandLimits::default()).is_ok())
        {
            builder.push(command);
        }
        let all = builder.seal(ShardTime(1000), 3);
        builder.push(&commands()[0]);
        vec![all, builder.seal(ShardTime(u64::MAX), u64::MAX)]
    }

    fn rows() -> Vec<Row<'static>> {
        let revisions = (Revision(3), Revision(5));
        let (create_revision, mod_revision) = revisions;
        vec![
            Row {
                key: b"/a/b",
                value: b"value",
                create_revision,
                mod_revision,
                version: 2,
                lease: 0,
            },
            Row {
                key: b"k",
                value: b"",
                create_revision,
                mod_revision,
                version: 2,
                lease: u64::MAX,
            },
        ]
    }

    fn drive(target: fn(&[u8]), corpus: &[Vec<u8>]) {
        let mut random = Random(1);
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
        let corpus: Vec<_> = samples()
            .iter()
            .flat_map(|structured| {
                let number = structured.kind() as u16 - CommandKind::DeleteRange as u16;
                let key = structured.first_named().unwrap_or(b"/a/b");
                let mut bytes = vec![number as u8, key.len() as u8];
                bytes.extend_from_slice(key);
                let mut value_alone = vec![number as u8, 0];
                bytes.extend_from_slice(&structured.encode());
                value_alone.extend_from_slice(&structured.encode());
                [bytes, value_alone]
            })
            .collect();
        drive(fuzz_structured, &corpus);
    }

    #[test]
    fn batches_survive_mutation() {
        drive(fuzz_batch, &batches());
    }

    #[test]
    fn applying_survives_mutation() {
        drive(fuzz_apply, &batches());
    }

    /// A state with rows below the floor and a history, as pieces of sections.
    fn sections() -> Vec<Vec<u8>> {
        let mut machine = StateMachine::new(Parameters {
            history_revisions_max: 3,
            ..Parameters::default()
        });
        let sealed = &batches()[0];
        let batch = Batch::decode(sealed).unwrap();
        machine.apply(&batch, &mut |_| {}).unwrap();
        let empty = export_all(&mut StateMachine::new(Parameters::default()));
        [export_all(&mut machine), empty]
            .iter()
            .map(|sections| {
                let mut pieces = Vec::new();
                for (tag, bytes) in sections {
                    pieces.extend_from_slice(&tag.0.to_le_bytes());
                    pieces.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
                    pieces.extend_from_slice(bytes);
                }
                pieces
            })
            .collect()
    }

    #[test]
    fn importing_survives_mutation() {
        drive(fuzz_import, &sections());
    }

    #[test]
    fn rows_survive_mutation() {
        let corpus: Vec<_> = rows()
            .iter()
            .map(|row| {
                let mut bytes = Vec::new();
                row.encode_into(&mut bytes);
                bytes
            })
            .collect();
        drive(fuzz_row, &corpus);
    }

    #[test]
    fn outcomes_survive_mutation() {
        let mut corpus = Vec::new();
        for number in [None, Some(i64::MIN)] {
            for previous in [None, Some(rows()[0])] {
                let outcome = Outcome {
                    code: OutcomeCode::Done,
                    revision: Revision(4),
                    number,
                    previous,
                    detail: None,
                };
                let mut bytes = Vec::new();
                outcome.encode_into(&mut bytes);
                corpus.push(bytes);
            }
        }
        let mut results = ResultsWriter::default();
        results.begin_txn(Branch::Then);
        results.get(None);
        results.get(Some(rows()[0]));
        results.begin_txn(Branch::Otherwise);
        results.delete_range(7);
        results.end_txn();
        results.end_txn();
        for detail in [
            Detail::Txn(results.results()),
            Detail::ResumeAfter(b"/a/b"),
            Detail::ConflictKey(b"/a/b"),
            Detail::FailedStep(3),
        ] {
            let outcome = Outcome {
                code: OutcomeCode::Done,
                revision: Revision(4),
                number: None,
                previous: None,
                detail: Some(detail),
            };
            let mut bytes = Vec::new();
            outcome.encode_into(&mut bytes);
            corpus.push(bytes);
        }
        drive(fuzz_outcome, &corpus);
    }
}
