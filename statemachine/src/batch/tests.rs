use super::*;
use crate::ids::NamespaceId;

fn encoded(command: &Command<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode_into(&mut bytes);
    bytes
}

fn sealed() -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push(&encoded(&Command::put(NamespaceId(1), b"k", b"v")));
    builder.push(&encoded(&Command::delete(NamespaceId(1), b"k")));
    assert_eq!((builder.count(), builder.bytes_len()), (2, 67));
    let bytes = builder.seal(ShardTime(0x0102), 9);
    assert_eq!((builder.is_empty(), builder.bytes_len()), (true, 32));
    bytes
}

#[test]
fn a_batch_is_the_bytes_of_the_format() {
    let golden: &[u8] = &[
        1, 0, 0, 0, 2, 0, 0, 0, // version, codec, count
        2, 1, 0, 0, 0, 0, 0, 0, // shard time
        9, 0, 0, 0, 0, 0, 0, 0, // term
        35, 0, 0, 0, 0, 0, 0, 0, // body length, reserved
        1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, b'k', b'v', // put
        2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'k', // delete
    ];
    assert_eq!(sealed(), golden);
    let batch = Batch::decode(golden).unwrap();
    assert_eq!((batch.codec, batch.count, batch.term), (Codec::None, 2, 9));
    assert_eq!(batch.shard_time, ShardTime(0x0102));
    let commands: Vec<_> = batch.commands().collect();
    let put = Command::put(NamespaceId(1), b"k", b"v");
    assert_eq!(
        commands,
        [Ok(put), Ok(Command::delete(NamespaceId(1), b"k"))]
    );
}

#[test]
fn a_compressed_batch_is_read_through_its_decompressed_body() {
    let plain = sealed();
    let mut compressed = plain[..BATCH_HEADER_BYTES].to_vec();
    compressed.extend_from_slice(b"pretended");
    Batch::set_codec(&mut compressed, Codec::Snappy);
    assert_eq!(compressed[2], 1);

    let batch = Batch::decode(&compressed).unwrap();
    assert_eq!(
        (batch.codec, batch.body, batch.body_bytes),
        (Codec::Snappy, &b"pretended"[..], 35)
    );
    let refused: Vec<_> = batch.commands().collect();
    assert_eq!(
        refused,
        [Err(BatchError::StillCompressed {
            codec: Codec::Snappy
        })]
    );
    assert_eq!(
        batch.with_body(b"short"),
        Err(BatchError::BodyLength {
            announced: 35,
            actual: 5
        })
    );
    let body = &plain[BATCH_HEADER_BYTES..];
    assert_eq!(batch.with_body(body), Batch::decode(&plain));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let bytes = sealed();
    let changed = |index: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[index] = value;
        Batch::decode(&bytes)
            .and_then(|batch| batch.commands().try_for_each(|command| command.map(|_| ())))
    };
    assert_eq!(
        changed(0, 2),
        Err(BatchError::UnknownVersion { version: 2 })
    );
    assert_eq!(changed(2, 2), Err(BatchError::UnknownCodec { codec: 2 }));
    assert_eq!(
        changed(28, 1),
        Err(BatchError::ReservedNotZero { reserved: 1 })
    );
    assert_eq!(
        changed(24, 34),
        Err(BatchError::BodyLength {
            announced: 34,
            actual: 35
        })
    );
    assert_eq!(changed(4, 1), Err(BatchError::TrailingBytes { count: 17 }));
    let truncated = CommandError::Truncated {
        needed: 16,
        available: 0,
    };
    assert_eq!(
        changed(4, 3),
        Err(BatchError::Command {
            position: 2,
            error: truncated
        })
    );
    let unknown = CommandError::UnknownKind { kind: 0x63 };
    assert_eq!(
        changed(50, 0x63),
        Err(BatchError::Command {
            position: 1,
            error: unknown
        })
    );
    assert_eq!(
        Batch::decode(&bytes[..31]),
        Err(BatchError::Truncated {
            needed: 32,
            available: 31
        })
    );
}

#[test]
fn clearing_forgets_the_commands() {
    let mut builder = BatchBuilder::new();
    builder.push(&encoded(&Command::delete(NamespaceId(1), b"forgotten")));
    builder.clear();
    assert!(builder.is_empty());
    builder.push(&encoded(&Command::delete(NamespaceId(1), b"k")));
    let bytes = builder.seal(ShardTime(1), 1);
    let commands: Vec<_> = Batch::decode(&bytes).unwrap().commands().collect();
    assert_eq!(commands, [Ok(Command::delete(NamespaceId(1), b"k"))]);
}
