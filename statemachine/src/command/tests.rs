use super::*;

const NAMESPACE: NamespaceId = NamespaceId(0x0102_0304);
const SESSION: SessionStamp = SessionStamp {
    handle_index: 0x11,
    handle_nonce: 0x2222_2222_2222_2222,
    sequence: 0x33,
    unanswered_sequence_min: 0x32,
};

fn encoded(command: &Command<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode_into(&mut bytes);
    assert_eq!(bytes.len(), command.encoded_len());
    bytes
}

fn refusal(command: &Command<'_>) -> Option<CommandError> {
    Command::check(&encoded(command), &CommandLimits::default()).err()
}

#[test]
fn a_plain_put_is_the_bytes_of_the_format() {
    let golden: &[u8] = &[
        1, 0, 0, 0, 0x04, 0x03, 0x02, 0x01, // kind, flags, namespace
        2, 0, 0, 0, 3, 0, 0, 0, // key length, value length
        b'/', b'k', b'v', b'a', b'l',
    ];
    let command = Command::put(NAMESPACE, b"/k", b"val");
    assert_eq!(encoded(&command), golden);
    assert_eq!(Command::decode(golden), Ok((command, golden.len())));
}

#[test]
fn a_put_with_every_part_is_the_bytes_of_the_format() {
    let golden: &[u8] = &[
        1, 0, 0x17, 0, 0x04, 0x03, 0x02, 0x01, // kind, flags, namespace
        1, 0, 0, 0, 1, 0, 0, 0, // key length, value length
        0x44, 0, 0, 0, 0, 0, 0, 0, // lease
        0x55, 0, 0, 0, 0, 0, 0, 0, // expected revision
        0x11, 0, 0, 0, 0, 0, 0, 0, // session: log index
        0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, // session: nonce
        0x33, 0, 0, 0, 0, 0, 0, 0, // sequence
        0x32, 0, 0, 0, 0, 0, 0, 0, // lowest unanswered sequence
        b'k', b'v',
    ];
    let command = Command::put(NAMESPACE, b"k", b"v")
        .with_lease(0x44)
        .with_expected_revision(Revision(0x55))
        .with_session(SESSION)
        .with_return_previous();
    assert_eq!(encoded(&command), golden);
    assert_eq!(Command::decode(golden), Ok((command, golden.len())));
}

#[test]
fn every_kind_has_its_number() {
    let operand = 1_i64.to_le_bytes();
    let commands = [
        Command::put(NAMESPACE, b"k", b"v"),
        Command::delete(NAMESPACE, b"k"),
        Command::add_i64(NAMESPACE, b"k", &operand),
        Command::max_i64(NAMESPACE, b"k", &operand),
        Command::min_i64(NAMESPACE, b"k", &operand),
        Command::append(NAMESPACE, b"k", b"v"),
    ];
    for (number, command) in (1..).zip(commands) {
        assert_eq!(encoded(&command)[0], number);
        assert_eq!(refusal(&command), None);
    }
}

#[test]
fn a_command_ends_where_the_next_begins() {
    let first = Command::put(NAMESPACE, b"first", b"1");
    let second = Command::delete(NAMESPACE, b"second");
    let mut bytes = encoded(&first);
    second.encode_into(&mut bytes);
    let (command, length) = Command::decode(&bytes).unwrap();
    assert_eq!(command, first);
    assert_eq!(
        Command::decode(&bytes[length..]),
        Ok((second, bytes.len() - length))
    );
    assert_eq!(
        Command::check_only(&bytes, &CommandLimits::default()),
        Err(CommandError::TrailingBytes {
            count: bytes.len() - length
        })
    );
    assert_eq!(
        Command::check_only(&bytes[..=length], &CommandLimits::default()),
        Err(CommandError::TrailingBytes { count: 1 })
    );
    assert_eq!(
        Command::check_only(&bytes[..length], &CommandLimits::default()),
        Ok(first)
    );
}

#[test]
fn every_shorter_input_is_truncated() {
    let bytes = encoded(&Command::put(NAMESPACE, b"key", b"value").with_session(SESSION));
    for length in 0..bytes.len() {
        match Command::decode(&bytes[..length]) {
            Err(CommandError::Truncated { needed, available }) => {
                assert_eq!(available, length);
                assert!(needed > length && needed <= bytes.len());
            }
            other => panic!("{length} bytes decoded to {other:?}"),
        }
    }
}

#[test]
fn lengths_beyond_the_input_are_truncated_not_allocated() {
    let mut bytes = encoded(&Command::put(NAMESPACE, b"k", b"v"));
    bytes[8..16].fill(0xff);
    assert!(matches!(
        Command::decode(&bytes),
        Err(CommandError::Truncated { .. })
    ));
}

#[test]
fn unknown_kinds_and_flags_are_refused() {
    let bytes = encoded(&Command::put(NAMESPACE, b"k", b"v"));
    for kind in [0, 11, 16, 42, 0xffff] {
        let mut unknown = bytes.clone();
        unknown[..2].copy_from_slice(&u16::to_le_bytes(kind));
        assert_eq!(
            Command::decode(&unknown),
            Err(CommandError::UnknownKind { kind })
        );
    }
    let mut unknown = bytes;
    unknown[2..4].copy_from_slice(&0x8021_u16.to_le_bytes());
    assert_eq!(
        Command::decode(&unknown),
        Err(CommandError::UnknownFlags { flags: 0x8020 })
    );
}

#[test]
fn the_edge_keeps_sizes() {
    let limits = CommandLimits {
        key_bytes_max: 3,
        value_bytes_max: 4,
    };
    let check = |key, value| {
        Command::check(&encoded(&Command::put(NAMESPACE, key, value)), &limits).map(|_| ())
    };
    assert_eq!(check(b"123", b"1234"), Ok(()));
    assert_eq!(
        check(b"1234", b""),
        Err(CommandError::KeyTooLarge {
            limit: 3,
            actual: 4
        })
    );
    assert_eq!(
        check(b"123", b"12345"),
        Err(CommandError::ValueTooLarge {
            limit: 4,
            actual: 5
        })
    );
    assert_eq!(check(b"", b""), Err(CommandError::KeyEmpty));
}

#[test]
fn the_edge_keeps_rules() {
    let put = Command::put(NAMESPACE, b"k", b"v");
    let delete = Command::delete(NAMESPACE, b"k");
    let with_value = Command {
        value: b"v",
        ..delete
    };
    let short_operand = Command {
        kind: CommandKind::AddI64,
        ..put
    };
    let kind = CommandKind::Delete;
    assert_eq!(
        refusal(&delete.with_if_absent()),
        Some(CommandError::FlagNotAllowed {
            kind,
            flag: CommandFlags::IF_ABSENT
        })
    );
    assert_eq!(
        refusal(&delete.with_lease(1)),
        Some(CommandError::FlagNotAllowed {
            kind,
            flag: CommandFlags::LEASE
        })
    );
    assert_eq!(
        refusal(&with_value),
        Some(CommandError::ValueNotAllowed { kind })
    );
    assert_eq!(
        refusal(&short_operand),
        Some(CommandError::OperandNotI64 { length: 1 })
    );
    assert_eq!(
        refusal(&put.with_if_absent().with_expected_revision(Revision(1))),
        Some(CommandError::Contradiction)
    );
    assert_eq!(
        refusal(&put.with_lease(1)),
        Some(CommandError::NotSupported {
            feature: Feature::Lease
        })
    );
    assert_eq!(
        refusal(&put.with_session(SESSION)),
        Some(CommandError::NotSupported {
            feature: Feature::Session
        })
    );
    assert_eq!(
        refusal(&Command::put(NamespaceId::CLUSTER, b"k", b"v")),
        Some(CommandError::NamespaceReserved {
            namespace: NamespaceId::CLUSTER
        })
    );
    assert_eq!(
        refusal(
            &delete
                .with_expected_revision(Revision(1))
                .with_return_previous()
        ),
        None
    );
}
