use super::*;
use crate::client::{ClientConnection, ClientOptions};
use crate::frame::{FRAME_BYTES_MAX_DEFAULT, FrameFlags, cut_frame};
use crate::read::Consistency;
use crate::samples::{self, NAMESPACE, sample_count, sample_get, sample_range};
use crate::wire_error::ErrorCode;
use metastore_statemachine::{
    Command, CommandError, Direction, GetQuery, NamespaceId, Projection, RangeQuery, Revision,
    Scope, ShardList,
};
use proptest::prelude::*;

/// Sends one request and gives its body.
fn body_of(send: impl FnOnce(&mut ClientConnection)) -> (u16, Vec<u8>) {
    let mut connection = ClientConnection::new(&ClientOptions::default());
    send(&mut connection);
    let frame = cut_frame(connection.outbound(), FRAME_BYTES_MAX_DEFAULT);
    let frame = frame.unwrap().unwrap();
    assert_eq!(frame.header.flags, FrameFlags::NONE);
    (frame.header.kind, frame.body.to_vec())
}

fn decode(body: &(u16, Vec<u8>)) -> Result<Request<'_>, BodyError> {
    decode_body(body.0, &body.1, &RequestLimits::default())
}

#[test]
fn every_sample_is_read_as_its_kind_and_not_when_cut_or_longer() {
    for sample in samples::requests() {
        let frame = cut_frame(&sample.bytes, FRAME_BYTES_MAX_DEFAULT);
        let frame = frame.unwrap().unwrap();
        let kind = frame.header.kind;
        let limits = RequestLimits::default();
        let request = decode_body(kind, frame.body, &limits).unwrap();
        assert_eq!(request.kind().as_u16(), kind, "{}", sample.name);
        let is_table = matches!(
            request,
            Request::Range(_) | Request::Count(_) | Request::Hello(_) | Request::Admin(_)
        );
        for length in 0..frame.body.len() {
            let cut = decode_body(kind, &frame.body[..length], &limits);
            // The end of a table may be padding.
            assert!(is_table || cut.is_err(), "{} cut to {length}", sample.name);
        }
        let mut longer = frame.body.to_vec();
        longer.push(0);
        let result = decode_body(kind, &longer, &limits);
        assert!(
            is_table || result.is_err(),
            "{} with a byte more",
            sample.name
        );
    }
}

#[test]
fn unknown_kinds_are_not_supported() {
    for kind in [0, 13, 999] {
        let error = decode_body(kind, b"", &RequestLimits::default()).unwrap_err();
        assert_eq!(error, BodyError::Kind { found: kind });
        assert_eq!(WireError::from(error).code, ErrorCode::Unsupported);
    }
}

#[test]
fn a_get_comes_out_as_it_went_in() {
    let body = body_of(|client| {
        client.get(&sample_get());
    });
    let Request::Get(get) = decode(&body).unwrap() else {
        panic!("another kind");
    };
    assert_eq!(get, sample_get());

    let mut newest = sample_get();
    newest.query.at = None;
    newest.consistency = Consistency::Linearizable;
    let body = body_of(|client| {
        client.get(&newest);
    });
    assert!(matches!(decode(&body).unwrap(), Request::Get(get) if get == newest));
}

#[test]
fn keys_of_reads_keep_the_rules_of_commands() {
    let get = |key: &[u8]| {
        let query = GetQuery {
            namespace: NAMESPACE,
            key,
            at: None,
        };
        let request = GetRequest {
            query,
            consistency: Consistency::Linearizable,
        };
        let body = body_of(|client| {
            client.get(&request);
        });
        decode(&body).map(|_| ())
    };
    assert_eq!(get(&[1; 4096]), Ok(()));
    assert_eq!(
        get(&[1; 4097]),
        Err(BodyError::KeyTooLarge {
            limit: 4096,
            actual: 4097
        })
    );
    assert_eq!(get(&[]), Err(BodyError::KeyEmpty));

    let get_many = |keys: &[&[u8]]| {
        let body = body_of(|client| {
            client.get_many(NAMESPACE, None, Consistency::Stale, keys);
        });
        decode(&body).map(|_| ())
    };
    assert_eq!(get_many(&[b"a", &[1; 4096]]), Ok(()));
    assert_eq!(get_many(&[b"a", b""]), Err(BodyError::KeyEmpty));
    assert_eq!(get_many(&vec![b"a" as &[u8]; 1024]), Ok(()));
    assert_eq!(
        get_many(&vec![b"a" as &[u8]; 1025]),
        Err(BodyError::TooMany {
            limit: 1024,
            actual: 1025
        })
    );
}

#[test]
fn reserved_fields_and_unknown_values_are_refused() {
    let mut body = body_of(|client| {
        client.get(&sample_get());
    });
    for offset in 17..24 {
        body.1[offset] = 1;
        assert_eq!(
            decode(&body).unwrap_err(),
            BodyError::ReservedNotZero,
            "byte {offset}"
        );
        body.1[offset] = 0;
    }
    body.1[16] = 2;
    let field = "consistency";
    assert_eq!(
        decode(&body).unwrap_err(),
        BodyError::FieldValue { field, found: 2 }
    );
}

#[test]
fn a_batch_is_refused_whole_when_one_command_breaks_a_rule() {
    let long = vec![0; 4097];
    let commands = [
        Command::put(NAMESPACE, b"a", b"1"),
        Command::put(NAMESPACE, &long, b"2"),
    ];
    let body = body_of(|client| {
        client.batch(&commands);
    });
    let error = decode(&body).unwrap_err();
    assert!(
        matches!(
            error,
            BodyError::Command {
                position: 1,
                error: CommandError::KeyTooLarge { .. }
            }
        ),
        "{error}"
    );
    let answer = WireError::from(error);
    assert_eq!(
        (answer.code, answer.limit, answer.actual),
        (ErrorCode::TooLarge, 4096, 4097)
    );

    let many = vec![Command::delete(NAMESPACE, b"a"); 1025];
    let body = body_of(|client| {
        client.batch(&many);
    });
    assert_eq!(
        decode(&body).unwrap_err(),
        BodyError::TooMany {
            limit: 1024,
            actual: 1025
        }
    );
}

#[test]
fn a_count_that_the_body_cannot_hold_is_refused() {
    let mut body = body_of(|client| {
        client.batch(&[Command::delete(NAMESPACE, b"a")]);
    });
    body.1[0] = 2;
    assert!(matches!(
        decode(&body).unwrap_err(),
        BodyError::Command { position: 1, .. }
    ));
    body.1[0] = 0;
    assert_eq!(
        decode(&body).unwrap_err(),
        BodyError::Trailing { bytes: 17 }
    );
}

#[test]
fn a_cluster_command_is_for_the_cluster_alone() {
    let body = body_of(|client| {
        client.put(NamespaceId::CLUSTER, b"a", b"1");
    });
    let error = WireError::from(decode(&body).unwrap_err());
    assert_eq!(error.code, ErrorCode::BadRequest);
}

#[test]
fn a_count_comes_out_as_it_went_in_and_has_no_limit() {
    let sent = |count: &CountRequest<'_>| {
        body_of(|client| {
            client.count(count);
        })
    };
    let limits = RequestLimits::default();
    let (kind, body) = sent(&sample_count());
    assert_eq!(kind, FrameKind::Count.as_u16());
    assert_eq!(CountRequest::decode(&body, &limits), Ok(sample_count()));
    let mut limited = sample_count();
    limited.query.limit = 3;
    let refused = BodyError::FieldValue {
        field: "limit",
        found: 3,
    };
    let (_, body) = sent(&limited);
    assert_eq!(CountRequest::decode(&body, &limits), Err(refused));
}

#[test]
fn a_range_comes_out_as_it_went_in() {
    let body = body_of(|client| {
        client.range(&sample_range());
    });
    assert!(matches!(decode(&body).unwrap(), Request::Range(range) if range == sample_range()));

    let bound = [1; 4098];
    for (length, is_fine) in [(4097, true), (4098, false)] {
        let mut range = sample_range();
        range.query.end = &bound[..length];
        let body = body_of(|client| {
            client.range(&range);
        });
        assert_eq!(decode(&body).is_ok(), is_fine, "{length}");
    }
}

fn command_strategy() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Option<u64>, u8)> {
    let bytes = |length| prop::collection::vec(any::<u8>(), length);
    (bytes(1..40), bytes(0..60), any::<Option<u64>>(), 0_u8..4)
}

fn command_of(parts: &(Vec<u8>, Vec<u8>, Option<u64>, u8)) -> Command<'_> {
    let (key, value, expected, kind) = parts;
    let command = match kind {
        0 => Command::put(NAMESPACE, key, value),
        1 => Command::delete(NAMESPACE, key),
        2 => Command::append(NAMESPACE, key, value),
        _ => Command::put(NamespaceId(9), key, value).with_return_previous(),
    };
    match expected {
        Some(revision) => command.with_expected_revision(Revision(*revision)),
        None => command,
    }
}

proptest! {
    #[test]
    fn batches_come_out_as_they_went_in(parts in prop::collection::vec(command_strategy(), 0..10)) {
        let commands: Vec<_> = parts.iter().map(command_of).collect();
        let body = body_of(|client| { client.batch(&commands); });
        let Request::Batch(batch) = decode(&body).unwrap() else { panic!("another kind") };
        let decoded: Vec<_> = batch.commands().collect();
        prop_assert_eq!(decoded.len(), commands.len());
        for (checked, command) in decoded.iter().zip(&commands) {
            prop_assert_eq!(&checked.command, command);
            let mut bytes = Vec::new();
            command.encode_into(&mut bytes);
            prop_assert_eq!(checked.bytes, &bytes[..]);
        }
    }

    #[test]
    fn get_many_comes_out_as_it_went_in(
        keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10),
        at in any::<u64>(),
    ) {
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let at = (at != 0).then_some(Revision(at));
        let body = body_of(|client| { client.get_many(NAMESPACE, at, Consistency::Stale, &keys); });
        let Request::GetMany(get) = decode(&body).unwrap() else { panic!("another kind") };
        prop_assert_eq!(get.keys().collect::<Vec<_>>(), keys);
        prop_assert_eq!((get.namespace, get.at, get.consistency), (NAMESPACE, at, Consistency::Stale));
    }

    #[test]
    fn ranges_come_out_as_they_went_in(
        bounds in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 3),
        separator in any::<Option<u8>>(),
        delimiter in any::<Option<u8>>(),
        is_reverse in any::<bool>(),
        is_keys_only in any::<bool>(),
        limit in any::<u64>(),
        chunk_bytes in any::<u32>(),
        shards in prop::collection::btree_set(any::<u32>(), 0..5),
    ) {
        let shards: Vec<u8> = shards.iter().flat_map(|id| id.to_le_bytes()).collect();
        let range = RangeRequest {
            query: RangeQuery {
                namespace: NAMESPACE,
                prefix: &bounds[0],
                start: &bounds[1],
                end: &bounds[2],
                scope: separator.map_or(Scope::Subtree, |separator| Scope::Children { separator }),
                delimiter,
                direction: if is_reverse { Direction::Reverse } else { Direction::Forward },
                projection: if is_keys_only { Projection::KeysOnly } else { Projection::KeysAndValues },
                at: None,
                limit,
            },
            chunk_bytes,
            shards: ShardList::new(&shards).expect("they ascend"),
        };
        let body = body_of(|client| { client.range(&range); });
        let Request::Range(decoded) = decode(&body).unwrap() else { panic!("another kind") };
        prop_assert_eq!(decoded, range);
    }
}
