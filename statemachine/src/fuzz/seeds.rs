//! What the fuzzers of this package begin with: whole inputs of every form.

use super::export_all;
use crate::batch::{Batch, BatchBuilder};
use crate::command::{Command, CommandKind, CommandLimits, SessionStamp};
use crate::detail::{Branch, Detail, ResultsWriter};
use crate::ids::{NamespaceId, Revision, ShardTime};
use crate::outcome::{Outcome, OutcomeCode};
use crate::row::Row;
use crate::state::{Parameters, StateMachine};
use crate::structured::samples;

/// Commands of every kind, with every part.
#[must_use]
pub fn commands() -> Vec<Vec<u8>> {
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

/// What commands with structure hold, behind a key and alone, as `fuzz_structured` takes it.
#[must_use]
pub fn structured() -> Vec<Vec<u8>> {
    samples()
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
        .collect()
}

/// A batch of everything that the edge accepts, and a batch of one.
#[must_use]
pub fn batches() -> Vec<Vec<u8>> {
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

fn sample_rows() -> Vec<Row<'static>> {
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

/// A state with rows below the floor and a history, as pieces of sections.
#[must_use]
pub fn sections() -> Vec<Vec<u8>> {
    let mut machine = StateMachine::new(Parameters {
        history_revisions_max: 3,
        ..Parameters::default()
    });
    let sealed = &batches()[0];
    let batch = Batch::decode(sealed).expect("a batch that was built is whole");
    machine
        .apply(&batch, &mut |_| {})
        .expect("a batch that was built is whole");
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

/// Rows with and without a value and a lease.
#[must_use]
pub fn rows() -> Vec<Vec<u8>> {
    sample_rows()
        .iter()
        .map(|row| {
            let mut bytes = Vec::new();
            row.encode_into(&mut bytes);
            bytes
        })
        .collect()
}

/// Outcomes with and without each optional part, and with every detail.
#[must_use]
pub fn outcomes() -> Vec<Vec<u8>> {
    let mut results = ResultsWriter::default();
    results.begin_txn(Branch::Then);
    results.get(None);
    results.get(Some(sample_rows()[0]));
    results.begin_txn(Branch::Otherwise);
    results.delete_range(7);
    results.end_txn();
    results.end_txn();
    let details = [
        Detail::Txn(results.results()),
        Detail::ResumeAfter(b"/a/b"),
        Detail::ConflictKey(b"/a/b"),
        Detail::FailedStep(3),
    ];
    let plain = Outcome {
        code: OutcomeCode::Done,
        revision: Revision(4),
        number: None,
        previous: None,
        detail: None,
    };
    let mut outcomes = Vec::new();
    for number in [None, Some(i64::MIN)] {
        for previous in [None, Some(sample_rows()[0])] {
            outcomes.push(Outcome {
                number,
                previous,
                ..plain
            });
        }
    }
    outcomes.extend(details.map(|detail| Outcome {
        detail: Some(detail),
        ..plain
    }));
    outcomes
        .iter()
        .map(|outcome| {
            let mut bytes = Vec::new();
            outcome.encode_into(&mut bytes);
            bytes
        })
        .collect()
}
