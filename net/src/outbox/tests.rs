use super::*;
use crate::frame::append_frame;
use crate::read::ReadPosition;
use crate::response::{Response, append_get, append_outcome, append_pong};
use crate::samples::{sample_outcome, sample_row};
use crate::wire_error::{ErrorCode, Happened};
use metastore_statemachine::{Outcome, Revision, Row};

const ID: RequestId = RequestId(3);
const LIGHT: Weight = Weight {
    commands: 1,
    frame_bytes: 100,
};

/// An outbox of a connection with one request under way.
fn outbox(limits: &ConnectionLimits) -> Outbox {
    let mut outbox = Outbox::new(limits);
    outbox.open();
    outbox.on_request(ID, LIGHT);
    outbox
}

fn with_frame_bytes(frame_bytes: u32) -> ConnectionLimits {
    let mut limits = ConnectionLimits::default();
    limits.announced.frame_bytes = frame_bytes;
    limits
}

/// The answers that wait to be sent.
fn answers(outbox: &Outbox) -> Vec<Response<'_>> {
    let mut rest = outbox.unsent();
    let mut answers = Vec::new();
    while let Some(frame) = cut_frame(rest, usize::MAX).unwrap() {
        assert_eq!(frame.header.request_id, ID);
        answers.push(Response::decode(&frame.header, frame.body).unwrap());
        rest = &rest[frame.consumed_bytes..];
    }
    assert!(rest.is_empty());
    answers
}

#[test]
fn memory_of_a_large_answer_is_given_back() {
    let mut outbox = outbox(&ConnectionLimits::default());
    let value = vec![7; 1_000_000];
    outbox.reply(|out| {
        append_frame(out, FrameKind::Get, FrameFlags::RESPONSE, ID, 0, |body| {
            body.extend_from_slice(&value);
        });
        Answered::Last
    });
    let length = outbox.unsent().len();
    outbox.on_sent(600_000);
    assert_eq!(outbox.unsent().len(), length - 600_000);
    assert_eq!(
        outbox.bytes.len(),
        length - 600_000,
        "what was sent is gone"
    );
    outbox.on_sent(length - 600_000);
    assert_eq!(outbox.bytes.capacity(), 0);
}

#[test]
fn too_much_unsent_pauses_first_and_cuts_later() {
    let limits = ConnectionLimits {
        outbound_bytes_max: 64,
        outbound_bytes_close: 128,
        ..ConnectionLimits::default()
    };
    let mut outbox = outbox(&limits);
    let states: Vec<_> = (0..5)
        .map(|_| {
            outbox.push(|out| append_pong(out, ID));
            (outbox.is_paused(), outbox.is_overfull())
        })
        .collect();
    let (free, paused, cut) = ((false, false), (true, false), (true, true));
    assert_eq!(states, [free, paused, paused, paused, cut]);
}

#[test]
fn a_read_too_long_for_a_frame_is_answered_with_an_error() {
    let value = [0; 1000];
    let row = Row {
        value: &value,
        ..sample_row()
    };
    let position = ReadPosition {
        shard: 1,
        revision: Revision(1),
    };
    let mut outbox = outbox(&with_frame_bytes(500));
    outbox.reply(|out| {
        append_get(out, ID, position, Some(row));
        Answered::Last
    });
    let actual = 32 + 16 + row.encoded_len() as u64;
    let answers = answers(&outbox);
    let [Response::Error(error)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(
        (error.code, error.happened),
        (ErrorCode::TooLarge, Happened::NotDone)
    );
    assert_eq!((error.limit, error.actual), (500, actual));
    assert_eq!(outbox.in_flight(), 0);
}

#[test]
fn a_mutation_whose_answer_is_too_long_has_an_unknown_outcome() {
    let value = [0; 1000];
    let outcome = Outcome {
        previous: Some(Row {
            value: &value,
            ..sample_row()
        }),
        ..sample_outcome()
    };
    let mut outbox = outbox(&with_frame_bytes(500));
    outbox.push(|out| append_pong(out, ID));
    outbox.reply(|out| {
        append_outcome(out, ID, &sample_outcome());
        append_outcome(out, ID, &outcome);
        append_outcome(out, ID, &sample_outcome());
        Answered::Last
    });
    let answers = answers(&outbox);
    let [
        Response::Pong,
        Response::Command(_),
        Response::Error(error),
        Response::Command(_),
    ] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(
        (error.code, error.happened),
        (ErrorCode::TooLarge, Happened::Unknown)
    );
}

#[test]
#[should_panic(expected = "a part of a stream is above the frame limit")]
fn a_chunk_too_long_for_a_frame_is_a_defect() {
    let mut outbox = outbox(&with_frame_bytes(100));
    outbox.reply(|out| {
        let flags = FrameFlags::RESPONSE.with(FrameFlags::MORE);
        append_frame(out, FrameKind::Range, flags, ID, 0, |body| {
            body.extend_from_slice(&[0; 100]);
        });
        Answered::More
    });
}

#[test]
#[should_panic(expected = "an answer without a request")]
fn one_answer_too_many_is_a_defect() {
    let mut outbox = outbox(&ConnectionLimits::default());
    for _ in 0..2 {
        outbox.reply(|out| {
            append_pong(out, ID);
            Answered::Last
        });
    }
}

#[test]
fn long_requests_and_batches_weigh_until_they_are_answered() {
    let limits = ConnectionLimits {
        commands_under_way: 1_000,
        request_bytes_under_way: 10_000,
        ..ConnectionLimits::default()
    };
    let mut outbox = Outbox::new(&limits);
    outbox.open();
    let take = |outbox: &mut Outbox, id, commands, frame_bytes| {
        let weight = Weight {
            commands,
            frame_bytes,
        };
        outbox.on_request(RequestId(id), weight);
        outbox.is_paused()
    };
    let answer = |outbox: &mut Outbox, id| {
        outbox.reply(|out| {
            append_outcome(out, RequestId(id), &sample_outcome());
            Answered::Last
        });
        outbox.is_paused()
    };
    assert!(!take(&mut outbox, 1, 1, 6_000));
    assert!(take(&mut outbox, 2, 1, 6_000), "too many bytes");
    assert!(!answer(&mut outbox, 1));
    assert!(!take(&mut outbox, 3, 900, 100));
    assert!(take(&mut outbox, 4, 200, 100), "too many commands");
    assert!(!answer(&mut outbox, 3));
    assert!(!answer(&mut outbox, 4));
    assert!(!answer(&mut outbox, 2));
    assert_eq!(outbox.in_flight(), 0);
    assert_eq!((outbox.heavy_commands, outbox.heavy_bytes), (0, 0));
}

#[test]
fn an_idle_outbox_holds_no_memory() {
    let mut outbox = outbox(&ConnectionLimits::default());
    outbox.push(|out| append_pong(out, ID));
    let count = outbox.unsent().len();
    outbox.release();
    assert_eq!(outbox.unsent().len(), count, "what waits is kept");
    outbox.on_sent(count);
    assert!(outbox.buffer_bytes() > 0);
    outbox.release();
    assert_eq!(outbox.buffer_bytes(), 0);
}
