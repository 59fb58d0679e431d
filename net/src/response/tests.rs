use super::*;
use crate::frame::{FRAME_BYTES_MAX_DEFAULT, Frame, PROTOCOL_VERSION, cut_frame};
use crate::hello::ServerLimits;
use crate::range::ShardRevision;
use crate::samples::*;
use crate::wire_error::ErrorCode;
use metastore_statemachine::{Revision, RowError};

const ID: RequestId = RequestId(5);
const POSITION: ReadPosition = ReadPosition {
    shard: 3,
    revision: Revision(8),
};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn frame_of(bytes: &[u8]) -> Frame<'_> {
    let frame = cut_frame(bytes, FRAME_BYTES_MAX_DEFAULT).unwrap().unwrap();
    assert_eq!(frame.consumed_bytes, bytes.len());
    assert_eq!(frame.header.deadline_ms, 0);
    assert!(frame.header.flags.has(FrameFlags::RESPONSE));
    frame
}

fn response_of(bytes: &[u8]) -> Response<'_> {
    let frame = frame_of(bytes);
    assert_eq!(frame.header.request_id, ID);
    Response::decode(&frame.header, frame.body).unwrap()
}

#[test]
fn fixed_layouts_are_refused_when_cut_or_longer() {
    for sample in responses() {
        let frame = frame_of(&sample.bytes);
        let tables = [
            "hello",
            "status",
            "status-slices",
            "shard_map",
            "admin",
            "error",
        ];
        let is_table = tables.contains(&sample.name);
        Response::decode(&frame.header, frame.body).unwrap();
        for length in 0..frame.body.len() {
            let cut = Response::decode(&frame.header, &frame.body[..length]);
            assert!(is_table || cut.is_err(), "{} cut to {length}", sample.name);
        }
        let mut longer = frame.body.to_vec();
        longer.push(0);
        let result = Response::decode(&frame.header, &longer);
        assert!(
            is_table || result.is_err(),
            "{} with a byte more",
            sample.name
        );
    }
}

#[test]
fn tables_come_out_as_they_went_in() {
    let hello = HelloReply {
        version: PROTOCOL_VERSION,
        info: sample_hello_info(),
        limits: ServerLimits::default(),
    };
    let bytes = written(|out| append_hello(out, ID, &hello));
    assert!(matches!(response_of(&bytes), Response::Hello(reply) if reply == hello));

    let status = sample_status();
    let bytes = written(|out| append_status(out, ID, &status));
    assert!(matches!(response_of(&bytes), Response::Status(reply) if reply == status));

    let map = sample_shard_map();
    let bytes = written(|out| append_shard_map(out, ID, &map));
    assert!(matches!(response_of(&bytes), Response::ShardMap(reply) if reply == map));

    let error = sample_error();
    let bytes = written(|out| append_error(out, FrameKind::Get, ID, &error));
    assert!(matches!(response_of(&bytes), Response::Error(reply) if reply == error));
}

#[test]
fn a_status_may_have_as_many_parts_as_a_core_has_replicas() {
    let mut status = sample_status();
    status.replicas = vec![status.replicas[0].clone(); 5000];
    let bytes = written(|out| append_status(out, ID, &status));
    assert!(matches!(response_of(&bytes), Response::Status(reply) if reply == status));
}

#[test]
fn rows_come_out_as_they_went_in() {
    let bytes = written(|out| append_get(out, ID, POSITION, Some(sample_row())));
    let Response::Get(reply) = response_of(&bytes) else {
        panic!("another kind");
    };
    assert_eq!((reply.position, reply.row), (POSITION, Some(sample_row())));

    let mut row_bytes = Vec::new();
    sample_row().encode_into(&mut row_bytes);
    let bytes = written(|out| {
        append_get_many(out, ID, POSITION, |rows| {
            rows.row(Some(&sample_row()));
            rows.row(None);
            rows.row_bytes(&row_bytes);
            rows.row_bytes(&[]);
        });
    });
    let Response::GetMany(reply) = response_of(&bytes) else {
        panic!("another kind");
    };
    let rows: Vec<_> = reply.rows().collect();
    assert_eq!(rows, [Some(sample_row()), None, Some(sample_row()), None]);
}

#[test]
fn outcomes_come_out_as_they_went_in() {
    let mut outcome_bytes = Vec::new();
    sample_outcome().encode_into(&mut outcome_bytes);
    let encoded = written(|out| append_outcome(out, ID, &sample_outcome()));
    assert_eq!(
        encoded,
        written(|out| append_outcome_bytes(out, ID, &outcome_bytes))
    );
    assert!(
        matches!(response_of(&encoded), Response::Command(outcome) if outcome == sample_outcome())
    );

    let error = WireError::new(ErrorCode::ReadOnly);
    let bytes = written(|out| {
        append_batch(out, ID, |items| {
            items.outcome(&sample_outcome());
            items.error(&error);
            items.outcome_bytes(&outcome_bytes);
        });
    });
    let Response::Batch(reply) = response_of(&bytes) else {
        panic!("another kind");
    };
    let items: Vec<_> = reply.items().collect();
    assert_eq!(
        items,
        [Ok(sample_outcome()), Err(error), Ok(sample_outcome())]
    );
}

#[test]
fn a_count_comes_out_as_it_went_in() {
    let reply = sample_count_reply();
    let bytes = written(|out| append_count(out, ID, &reply));
    assert!(matches!(response_of(&bytes), Response::Count(read) if read == reply));
    let body = frame_of(&bytes).body;
    for reserved in [12, 28] {
        let mut wrong = body.to_vec();
        wrong[reserved] = 1;
        let refused = crate::count::CountReply::decode(&wrong);
        assert_eq!(refused, Err(BodyError::ReservedNotZero), "byte {reserved}");
    }
}

#[test]
fn chunks_come_out_as_they_went_in() {
    let bytes =
        written(|out| append_chunk(out, ID, ChunkEnd::More, |rows| rows.row(&sample_row())));
    let Response::Range(chunk) = response_of(&bytes) else {
        panic!("another kind");
    };
    assert!(!chunk.is_last);
    assert_eq!(chunk.rows().collect::<Vec<_>>(), [sample_row()]);
    assert_eq!(chunk.revisions().count(), 0);

    let revisions: Vec<_> = (1..4_u32)
        .map(|shard| ShardRevision {
            shard,
            revision: Revision(u64::from(shard) * 10),
        })
        .collect();
    let mut row_bytes = Vec::new();
    sample_row().encode_into(&mut row_bytes);
    sample_row().encode_into(&mut row_bytes);
    let bytes = written(|out| {
        append_chunk(out, ID, ChunkEnd::Last(&revisions), |rows| {
            assert_eq!(rows.rows_bytes(), 0);
            rows.row_bytes(2, &row_bytes);
            assert_eq!(rows.rows_bytes(), row_bytes.len());
        });
    });
    let Response::Range(chunk) = response_of(&bytes) else {
        panic!("another kind");
    };
    assert!(chunk.is_last);
    assert_eq!(
        chunk.rows().collect::<Vec<_>>(),
        [sample_row(), sample_row()]
    );
    assert_eq!(chunk.revisions().collect::<Vec<_>>(), revisions);
}

#[test]
fn a_row_longer_than_its_announced_length_is_refused() {
    let mut bytes = written(|out| {
        append_get_many(out, ID, POSITION, |rows| rows.row(Some(&sample_row())));
    });
    let header = frame_of(&bytes).header;
    let length_offset = 32 + 16;
    bytes[length_offset] -= 1;
    let error = Response::decode(&header, &bytes[32..]).unwrap_err();
    assert!(
        matches!(error, BodyError::Row(RowError::Truncated { .. })),
        "{error}"
    );
}

#[test]
fn revisions_belong_to_the_last_chunk_alone() {
    let revisions = [ShardRevision {
        shard: 1,
        revision: Revision(1),
    }];
    let bytes = written(|out| append_chunk(out, ID, ChunkEnd::Last(&revisions), |_| ()));
    let mut header = frame_of(&bytes).header;
    header.flags = header.flags.with(FrameFlags::MORE);
    let error = Response::decode(&header, &bytes[32..]).unwrap_err();
    assert_eq!(
        error,
        BodyError::FieldValue {
            field: "revisions",
            found: 1
        }
    );
}

#[test]
fn an_items_code_is_the_code_of_its_error() {
    let mut bytes = written(|out| {
        append_batch(out, ID, |items| {
            items.error(&WireError::new(ErrorCode::ReadOnly))
        });
    });
    let header = frame_of(&bytes).header;
    bytes[32 + 4] += 1;
    let error = Response::decode(&header, &bytes[32..]).unwrap_err();
    assert_eq!(
        error,
        BodyError::FieldValue {
            field: "error_code",
            found: 21
        }
    );
}
