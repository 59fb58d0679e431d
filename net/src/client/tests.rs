use super::*;
use crate::range::ChunkEnd;
use crate::response::{
    append_chunk, append_error, append_error_of, append_outcome, append_pong, append_refusal,
};
use crate::samples::{NAMESPACE, sample_outcome, sample_range, sample_row};
use crate::wire_error::ErrorCode;

fn client() -> ClientConnection {
    ClientConnection::new(&ClientOptions::default())
}

fn ids_answered(
    client: &mut ClientConnection,
    bytes: &[u8],
) -> Result<Vec<RequestId>, ProtocolError> {
    let mut ids = Vec::new();
    client.on_bytes(bytes, |id, _| ids.push(id))?;
    Ok(ids)
}

#[test]
fn answers_are_matched_whatever_their_order_and_however_they_are_split() {
    let mut sample = client();
    let ids = [
        sample.ping(),
        sample.put(NAMESPACE, b"a", b""),
        sample.ping(),
    ];
    let mut bytes = Vec::new();
    append_pong(&mut bytes, ids[2]);
    append_outcome(&mut bytes, ids[1], &sample_outcome());
    append_pong(&mut bytes, ids[0]);
    for first in 0..bytes.len() {
        for second in [first, (first + bytes.len()) / 2] {
            let mut client = client();
            client.ping();
            client.put(NAMESPACE, b"a", b"");
            client.ping();
            let mut answered = Vec::new();
            for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                answered.extend(ids_answered(&mut client, part).unwrap());
            }
            assert_eq!(answered, [ids[2], ids[1], ids[0]]);
            assert_eq!(client.pending_count(), 0);
        }
    }
}

#[test]
fn a_range_is_under_way_until_its_last_chunk() {
    let mut client = client();
    let id = client.range(&sample_range());
    let mut chunk = Vec::new();
    append_chunk(&mut chunk, id, ChunkEnd::More, |rows| {
        rows.row(&sample_row())
    });
    for _ in 0..3 {
        assert_eq!(ids_answered(&mut client, &chunk), Ok(vec![id]));
        assert_eq!(client.pending_count(), 1);
    }
    let mut last = Vec::new();
    append_chunk(&mut last, id, ChunkEnd::Last(&[]), |_| ());
    assert_eq!(ids_answered(&mut client, &last), Ok(vec![id]));
    assert_eq!(client.pending_count(), 0);
    assert_eq!(
        ids_answered(&mut client, &last),
        Err(ProtocolError::UnknownId { id })
    );
}

#[test]
fn an_error_ends_a_range() {
    let mut client = client();
    let id = client.range(&sample_range());
    let mut bytes = Vec::new();
    append_error(
        &mut bytes,
        FrameKind::Range,
        id,
        &WireError::new(ErrorCode::PinLost),
    );
    assert_eq!(ids_answered(&mut client, &bytes), Ok(vec![id]));
    assert_eq!(client.pending_count(), 0);
}

#[test]
fn what_does_not_fit_ends_the_connection() {
    let id = client().ping();
    let refused = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut client = client();
        assert_eq!(client.ping(), id);
        let mut bytes = Vec::new();
        write(&mut bytes);
        ids_answered(&mut client, &bytes).unwrap_err()
    };
    let other = RequestId(id.0 + 1);
    assert_eq!(
        refused(&|out| append_pong(out, other)),
        ProtocolError::UnknownId { id: other }
    );
    let found = FrameKind::Command.as_u16();
    let expected = FrameKind::Ping;
    assert_eq!(
        refused(&|out| append_outcome(out, id, &sample_outcome())),
        ProtocolError::Kind {
            id,
            expected,
            found
        }
    );
    let more = FrameFlags::RESPONSE.with(FrameFlags::MORE);
    assert_eq!(
        refused(&|out| append_frame(out, FrameKind::Ping, more, id, 0, |_| ())),
        ProtocolError::More { id }
    );
    assert_eq!(
        refused(&|out| append_frame(out, FrameKind::Ping, FrameFlags::NONE, id, 0, |_| ())),
        ProtocolError::NotAResponse
    );
    let error = BodyError::Trailing { bytes: 1 };
    assert_eq!(
        refused(
            &|out| append_frame(out, FrameKind::Ping, FrameFlags::RESPONSE, id, 0, |body| {
                body.push(0)
            })
        ),
        ProtocolError::Body { id, error }
    );
    let overloaded = WireError::new(ErrorCode::Overloaded);
    assert_eq!(
        refused(&|out| append_refusal(out, &overloaded)),
        ProtocolError::Refused(overloaded.clone())
    );
    assert!(matches!(
        refused(&|out| out.extend_from_slice(&[0; 32])),
        ProtocolError::Frame(_)
    ));
}

#[test]
fn an_error_answers_a_kind_that_only_the_client_knows() {
    let mut client = client();
    let id = client.request(FrameKind::ShardMap, |_| ());
    let mut bytes = Vec::new();
    append_error_of(
        &mut bytes,
        FrameKind::ShardMap.as_u16(),
        id,
        &WireError::new(ErrorCode::Unsupported),
    );
    assert_eq!(ids_answered(&mut client, &bytes), Ok(vec![id]));
}

#[test]
fn a_lost_mutation_may_have_happened_and_a_lost_read_has_not() {
    let mut client = client();
    let get = client.get(&crate::samples::sample_get());
    let put = client.put(NAMESPACE, b"a", b"");
    let batch = client.batch(&[]);
    let lost: Vec<_> = client
        .on_closed()
        .map(|lost| (lost.id, lost.happened))
        .collect();
    assert_eq!(
        lost,
        [
            (get, Happened::NotDone),
            (put, Happened::Unknown),
            (batch, Happened::Unknown)
        ]
    );
    assert_eq!(client.pending_count(), 0);
    assert!(client.outbound().is_empty());
}

#[test]
fn an_answer_that_cannot_be_read_leaves_its_request_lost() {
    let mut client = client();
    let put = client.put(NAMESPACE, b"a", b"");
    let mut bytes = Vec::new();
    append_frame(
        &mut bytes,
        FrameKind::Command,
        FrameFlags::RESPONSE,
        put,
        0,
        |_| (),
    );
    ids_answered(&mut client, &bytes).unwrap_err();
    let lost: Vec<_> = client
        .on_closed()
        .map(|lost| (lost.id, lost.happened))
        .collect();
    assert_eq!(lost, [(put, Happened::Unknown)]);
}

#[test]
fn a_server_that_shuts_down_did_nothing_of_what_it_has_not_answered() {
    for (code, happened) in [
        (ErrorCode::ShuttingDown, Happened::NotDone),
        (ErrorCode::Deadline, Happened::Unknown),
    ] {
        let mut client = client();
        let answered = client.put(NAMESPACE, b"a", b"");
        let late = client.put(NAMESPACE, b"b", b"");
        let mut bytes = Vec::new();
        append_outcome(&mut bytes, answered, &sample_outcome());
        append_refusal(&mut bytes, &WireError::new(code));
        let mut ids = Vec::new();
        let end = client.on_bytes(&bytes, |id, _| ids.push(id));
        assert!(matches!(end, Err(ProtocolError::Refused(_))), "{end:?}");
        assert_eq!(ids, [answered]);
        let lost: Vec<_> = client.on_closed().collect();
        let known: Vec<_> = lost.iter().map(|lost| (lost.id, lost.happened)).collect();
        assert_eq!(known, [(late, happened)]);
    }
}
