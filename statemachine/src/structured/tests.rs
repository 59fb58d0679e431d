use super::*;
use crate::command::{CommandError, CommandFlags, CommandLimits};
use crate::ids::NamespaceId;

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;

fn bytes_of(structured: &Structured<'_>, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let value = structured.encode();
    Command::structured(structured.kind(), NAMESPACE, key, &value).encode_into(&mut bytes);
    bytes
}

fn refusal(structured: &Structured<'_>) -> Option<CommandError> {
    let key = structured.first_named().unwrap_or(b"k");
    let bytes = bytes_of(structured, key);
    Command::check(&bytes, &CommandLimits::default()).err()
}

/// A value lies wherever the command's key ends: reading it must not depend on its address.
#[test]
fn a_value_is_read_at_any_byte_offset() {
    for structured in samples() {
        let key = structured.first_named().unwrap_or(b"k");
        let command = bytes_of(&structured, key);
        for offset in 0..16 {
            let mut bytes = vec![0; offset];
            bytes.extend_from_slice(&command);
            let (read, length) =
                Command::check(&bytes[offset..], &CommandLimits::default()).unwrap();
            assert_eq!(length, command.len());
            assert_eq!(
                Structured::of(&read),
                Ok(Some(structured.clone())),
                "{offset}"
            );
        }
    }
}

#[test]
fn values_are_the_bytes_of_the_format() {
    let hex = |structured: &Structured<'_>| -> String {
        let bytes = structured.encode();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let lines: Vec<String> = samples()
        .iter()
        .map(|structured| format!("{:?} {}", structured.kind(), hex(structured)))
        .collect();
    let lines = lines.join("\n") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/structured.txt");
    if std::env::var_os("METASTORE_REWRITE_GOLDEN").is_some() {
        std::fs::write(path, &lines).unwrap();
    }
    assert_eq!(lines, std::fs::read_to_string(path).unwrap());
}

#[test]
fn flags_of_single_keys_are_refused() {
    let value = samples()[3].encode();
    let command = Command::structured(CommandKind::Commit, NAMESPACE, b"/a/b", &value);
    for (command, flag) in [
        (command.with_if_absent(), CommandFlags::IF_ABSENT),
        (
            command.with_return_previous(),
            CommandFlags::RETURN_PREVIOUS,
        ),
        (
            command.with_expected_revision(Revision(1)),
            CommandFlags::EXPECTED_REVISION,
        ),
        (command.with_lease(1), CommandFlags::LEASE),
    ] {
        let mut bytes = Vec::new();
        command.encode_into(&mut bytes);
        let kind = CommandKind::Commit;
        assert_eq!(
            Command::check(&bytes, &CommandLimits::default()).err(),
            Some(CommandError::FlagNotAllowed { kind, flag })
        );
    }
}

#[test]
fn steps_are_commands_on_single_keys_of_the_same_namespace() {
    let txn = |step| {
        Structured::Txn(Txn {
            then: vec![Operation::Mutation(step)],
            ..Txn::default()
        })
    };
    let value = Structured::Compact(Revision(1)).encode();
    let nested = Command::structured(CommandKind::Compact, NAMESPACE, b"k", &value);
    let kind = CommandKind::Compact;
    assert_eq!(
        refusal(&txn(nested)),
        Some(StructureFault::StepKind { kind }.into())
    );
    let elsewhere = StructureFault::StepNamespace {
        step: NamespaceId(9),
        command: NAMESPACE,
    };
    let other = Command::put(NamespaceId(9), b"k", b"v");
    assert_eq!(refusal(&txn(other)), Some(elsewhere.into()));
    let commit = Structured::Commit(Commit {
        mutations: vec![other],
        ..Commit::default()
    });
    assert_eq!(refusal(&commit), Some(elsewhere.into()));
    assert_eq!(
        refusal(&txn(Command::put(NAMESPACE, b"k", b"v").with_lease(7))),
        Some(CommandError::NotSupported {
            feature: crate::command::Feature::Lease
        })
    );
    let long = vec![b'k'; 4097];
    let too_large = CommandError::KeyTooLarge {
        limit: 4096,
        actual: 4097,
    };
    // The routing key is not what is too long here.
    let get = Structured::Txn(Txn {
        then: vec![Operation::Get(b"k"), Operation::Get(&long)],
        ..Txn::default()
    });
    assert_eq!(refusal(&get), Some(too_large));
}

#[test]
fn the_routing_key_is_one_that_is_named() {
    let txn = Structured::Txn(Txn {
        compares: vec![Compare::value(b"/a/x", b"")],
        then: vec![Operation::DeleteRange(KeyRange::children(b"/b/", b'/'))],
        otherwise: Vec::new(),
    });
    let check = |key: &[u8]| Command::check(&bytes_of(&txn, key), &CommandLimits::default()).err();
    assert_eq!(check(b"/a/x"), None);
    assert_eq!(check(b"/b/"), None);
    assert_eq!(check(b"/b/inside"), None);
    assert_eq!(
        check(b"/b/in/side"),
        Some(StructureFault::RoutingKey.into())
    );
    assert_eq!(check(b"/a/y"), Some(StructureFault::RoutingKey.into()));
}

#[test]
fn transactions_nest_up_to_the_limit() {
    let nested = |depth: usize| {
        let mut txn = Txn {
            then: vec![Operation::Get(b"k")],
            ..Txn::default()
        };
        for _ in 1..depth {
            txn = Txn {
                then: vec![Operation::Txn(txn)],
                ..Txn::default()
            };
        }
        refusal(&Structured::Txn(txn))
    };
    assert_eq!(nested(TXN_DEPTH_MAX), None);
    assert_eq!(
        nested(TXN_DEPTH_MAX + 1),
        Some(StructureFault::TooDeep.into())
    );
    let complex = StructureFault::Table(TableFault::TooComplex);
    assert_eq!(nested(TXN_DEPTH_MAX + 3), Some(complex.into()));
}

#[test]
fn a_short_value_cannot_name_one_table_without_end() {
    let many = |count: usize| {
        Structured::Txn(Txn {
            then: vec![Operation::Get(b"k"); count],
            ..Txn::default()
        })
    };
    assert_eq!(refusal(&many(16_000)), None);
    let complex = StructureFault::Table(TableFault::TooComplex);
    assert_eq!(refusal(&many(16_384)), Some(complex.into()));
}

#[test]
fn existence_has_no_order_and_a_revision_has_eight_bytes() {
    let compare = Compare {
        relation: Relation::Less,
        ..Compare::existence(b"k", Existence::Present)
    };
    let txn = Structured::Txn(Txn {
        compares: vec![compare],
        ..Txn::default()
    });
    assert_eq!(refusal(&txn), Some(StructureFault::ExistenceOrder.into()));
    let compact = Command::structured(CommandKind::Compact, NAMESPACE, b"k", b"1234567");
    assert_eq!(
        Structured::of(&compact),
        Err(StructureFault::RevisionLength { length: 7 }.into())
    );
}

#[test]
fn a_value_has_its_own_limit() {
    let value = vec![0; STRUCTURED_BYTES_MAX + 1];
    let mut bytes = Vec::new();
    Command::structured(CommandKind::Txn, NAMESPACE, b"k", &value).encode_into(&mut bytes);
    assert_eq!(
        Command::check(&bytes, &CommandLimits::default()).err(),
        Some(CommandError::ValueTooLarge {
            limit: STRUCTURED_BYTES_MAX,
            actual: STRUCTURED_BYTES_MAX + 1
        })
    );
    // A value larger than a put may write is refused inside a transaction too.
    let large = vec![0; CommandLimits::default().value_bytes_max + 1];
    let txn = Structured::Txn(Txn {
        then: vec![Operation::Mutation(Command::put(NAMESPACE, b"k", &large))],
        ..Txn::default()
    });
    assert!(matches!(
        refusal(&txn),
        Some(CommandError::ValueTooLarge { .. })
    ));
}
