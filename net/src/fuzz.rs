//! Targets for fuzzers: each takes any bytes, must never panic, asserts what the format promises, and says whether the
//! bytes were accepted.
//!
//! They are plain functions, so that the tests drive them on every run with a corpus and seeded mutations, and a
//! fuzzer's harness is one call.

use crate::batch::{BatchReply, BatchReplyWriter, BatchRequest};
use crate::client::{ClientConnection, ClientOptions};
use crate::frame::{
    BODY_LENGTH_OFFSET, CRC_OFFSET, FRAME_BYTES_MAX_DEFAULT, FRAME_HEADER_BYTES, FrameFlags,
    FrameHeader, FrameKind, REQUEST_ID_OFFSET, RequestId, append_frame_of, checksum, cut_frame,
    frame_length,
};
use crate::generated::layout::FrameBase;
use crate::hello::HelloInfo;
use crate::outbox::{ConnectionLimits, Outbox};
use crate::range::{ChunkEnd, ChunkWriter};
use crate::read::{GetManyRequest, GetManyWriter};
use crate::request::{Request, RequestLimits, encode_cancel};
use crate::response::Response;
use crate::server_connection::ServerConnection;
use metastore_statemachine::Command;
use std::cell::RefCell;

/// A frame that can be cut is written back as the bytes it was cut from.
pub fn fuzz_frame(data: &[u8]) -> bool {
    let Ok(Some(frame)) = cut_frame(data, FRAME_BYTES_MAX_DEFAULT) else {
        return false;
    };
    let header = frame.header;
    assert_eq!(frame.body.len(), header.body_bytes as usize);
    let length = frame_length(data, FRAME_BYTES_MAX_DEFAULT);
    assert_eq!(length, Ok(Some(frame.consumed_bytes)));
    let mut encoded = Vec::new();
    append_frame_of(
        &mut encoded,
        header.kind,
        header.flags,
        header.request_id,
        header.deadline_ms,
        |body| body.extend_from_slice(frame.body),
    );
    assert_eq!(encoded, &data[..frame.consumed_bytes]);
    true
}

/// A request that can be read is written back so that it reads the same; one of fixed layouts as the same bytes. The
/// first two bytes are the kind, the others the body.
pub fn fuzz_request(data: &[u8]) -> bool {
    let Some((kind, body)) = data.split_first_chunk() else {
        return false;
    };
    let header = header_of(u16::from_le_bytes(*kind), FrameFlags::NONE);
    let limits = RequestLimits::default();
    let Ok(request) = Request::decode(&header, body, &limits) else {
        return false;
    };
    let mut encoded = Vec::new();
    encode_request(&request, &mut encoded);
    if matches!(
        request,
        Request::Hello(_) | Request::Range(_) | Request::Count(_) | Request::Admin(_)
    ) {
        let again = Request::decode(&header, &encoded, &limits);
        let again = again.expect("what this crate writes it reads");
        assert_eq!(format!("{again:?}"), format!("{request:?}"));
    } else {
        assert_eq!(encoded, body);
    }
    true
}

fn encode_request(request: &Request<'_>, out: &mut Vec<u8>) {
    match request {
        Request::Hello(hello) => hello.encode_into(out),
        Request::Ping | Request::Status | Request::ShardMap => {}
        Request::Get(get) => get.encode_into(out),
        Request::GetMany(get) => {
            let keys: Vec<_> = get.keys().collect();
            assert_eq!(keys.len(), get.count as usize);
            GetManyRequest::encode_into(out, get.namespace, get.at, get.consistency, &keys);
        }
        Request::Command(command) => command.command.encode_into(out),
        Request::Batch(batch) => {
            let commands: Vec<Command<'_>> =
                batch.commands().map(|checked| checked.command).collect();
            assert_eq!(commands.len(), batch.count as usize);
            BatchRequest::encode_into(out, &commands);
        }
        Request::Range(range) => range.encode_into(out),
        Request::Count(count) => count.encode_into(out),
        Request::Admin(request) => request.encode_into(out),
        Request::Cancel { range } => encode_cancel(*range, out),
    }
}

/// A response that can be read is written back so that it reads the same; one of fixed layouts as the same bytes. The
/// first two bytes are the kind, the third one the flags, the others the body.
pub fn fuzz_response(data: &[u8]) -> bool {
    let Some((&[kind_low, kind_high, flags], body)) = data.split_first_chunk() else {
        return false;
    };
    let mut header_flags = FrameFlags::RESPONSE;
    for flag in [FrameFlags::MORE, FrameFlags::ERROR] {
        if u32::from(flags) & flag.bits() != 0 {
            header_flags = header_flags.with(flag);
        }
    }
    let header = header_of(u16::from_le_bytes([kind_low, kind_high]), header_flags);
    let Ok(response) = Response::decode(&header, body) else {
        return false;
    };
    let mut encoded = Vec::new();
    match encode_response(&response, &mut encoded) {
        Written::AsBytes => assert_eq!(encoded, body),
        Written::AsTable => {
            let again = Response::decode(&header, &encoded);
            let again = again.expect("what this crate writes it reads");
            assert_eq!(shown(&again), shown(&response));
        }
    }
    true
}

/// What a response says. Not how: the errors of a batch have many forms.
fn shown(response: &Response<'_>) -> String {
    if let Response::Batch(reply) = response {
        format!("{:?}", reply.items().collect::<Vec<_>>())
    } else {
        format!("{response:?}")
    }
}

/// Whether an encoding is the only one of its content. Tables have many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    AsBytes,
    AsTable,
}

fn encode_response(response: &Response<'_>, out: &mut Vec<u8>) -> Written {
    match response {
        Response::Pong | Response::Cancelled => {}
        Response::Get(reply) => reply.encode_into(out),
        Response::GetMany(reply) => GetManyWriter::encode_into(out, reply.position, |rows| {
            reply.rows().for_each(|row| rows.row(row.as_ref()));
        }),
        Response::Command(outcome) => outcome.encode_into(out),
        Response::Range(chunk) => {
            let revisions: Vec<_> = chunk.revisions().collect();
            ChunkWriter::encode_into(out, ChunkEnd::Last(&revisions), |rows| {
                chunk.rows().for_each(|row| rows.row(&row));
            });
        }
        Response::Batch(reply) => return encode_batch_reply(reply, out),
        Response::Hello(reply) => reply.encode_into(out),
        Response::Status(reply) => reply.encode_into(out),
        Response::ShardMap(reply) => reply.encode_into(out),
        Response::Count(reply) => reply.encode_into(out),
        Response::Admin(reply) => reply.encode_into(out),
        Response::Error(error) => error.encode_into(out),
    }
    let is_table = matches!(
        response,
        Response::Hello(_)
            | Response::Status(_)
            | Response::ShardMap(_)
            | Response::Admin(_)
            | Response::Error(_)
    );
    if is_table {
        Written::AsTable
    } else {
        Written::AsBytes
    }
}

fn encode_batch_reply(reply: &BatchReply<'_>, out: &mut Vec<u8>) -> Written {
    let mut written = Written::AsBytes;
    BatchReplyWriter::encode_into(out, |items| {
        for item in reply.items() {
            match item {
                Ok(outcome) => items.outcome(&outcome),
                Err(error) => {
                    items.error(&error);
                    written = Written::AsTable;
                }
            }
        }
    });
    written
}

fn header_of(kind: u16, flags: FrameFlags) -> FrameHeader {
    FrameHeader {
        kind,
        flags,
        body_bytes: 0,
        request_id: RequestId(1),
        deadline_ms: 0,
    }
}

/// A server's end takes any bytes, and does the same whether they come at once or in two parts. Bytes are accepted when a
/// request among them goes to the service.
pub fn fuzz_server(data: &[u8]) -> bool {
    let (first, second) = data.split_at(data.len() / 2);
    let at_once = serve(&[data]);
    assert_eq!(serve(&[first, second]), at_once);
    !at_once.0.is_empty()
}

/// What a server's end hands out and answers.
fn serve(parts: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
    let limits = ConnectionLimits::default();
    let outbox = RefCell::new(Outbox::new(&limits));
    let mut connection = ServerConnection::new(&limits);
    let hello = || HelloInfo {
        cluster_id: CLUSTER,
        node_id: 1,
        core_index: 0,
        core_count: 1,
        first_port: 1,
        map_epoch: 1,
        server_version: String::new(),
    };
    let mut requests = Vec::new();
    for part in parts {
        connection.on_bytes(part, &outbox, hello, |id, deadline_ms, request| {
            requests.push(format!("{id} {deadline_ms} {request:?}"));
        });
    }
    let answers = outbox.borrow().unsent().to_vec();
    (requests, answers)
}

/// A client's end takes any bytes, and does the same whether they come at once or in two parts. Bytes are accepted when
/// they answer a request. It has one request of every kind under way, each with the id of its slot.
pub fn fuzz_client(data: &[u8]) -> bool {
    let (first, second) = data.split_at(data.len() / 2);
    let at_once = listen(&[data]);
    assert_eq!(listen(&[first, second]), at_once);
    !at_once.0.is_empty()
}

/// What a client's end hands out that has one request of every kind under way.
fn listen(parts: &[&[u8]]) -> (Vec<String>, bool) {
    let mut connection = ClientConnection::new(&ClientOptions::default());
    for kind in kinds() {
        let id = connection.expect_answer(kind);
        assert_eq!(id, id_of_kind(kind.as_u16()));
    }
    let mut responses = Vec::new();
    let is_fine = parts.iter().all(|part| {
        let result = connection.on_bytes(part, |id, response| {
            responses.push(format!("{id} {response:?}"));
        });
        result.is_ok()
    });
    (responses, is_fine)
}

/// The cluster of the golden hello.
const CLUSTER: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;

/// Every kind that this version knows, ascending. Their numbers are given in order, from 1.
pub fn kinds() -> impl Iterator<Item = FrameKind> {
    (1..=u16::MAX).map_while(FrameKind::from_u16)
}

/// The id under which [`fuzz_client`] awaits an answer of a kind.
#[must_use]
pub fn id_of_kind(kind: u16) -> RequestId {
    // First use of the slot: serial number 1.
    RequestId(1 << 32 | u64::from(kind).saturating_sub(1))
}

/// Writes the right checksum into every frame of a stream, and the right length into the last one where it is cut, so
/// that mutations get past both.
pub fn mend_frames(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= FRAME_HEADER_BYTES {
        let room = rest.len() - FRAME_HEADER_BYTES;
        let base = FrameBase(*rest.first_chunk().expect("a header is there"));
        let mut length = base.body_length() as usize;
        if length > room {
            length = room;
            let bytes = (room as u32).to_le_bytes();
            rest[BODY_LENGTH_OFFSET..BODY_LENGTH_OFFSET + 4].copy_from_slice(&bytes);
        }
        let (frame, behind) = rest.split_at_mut(FRAME_HEADER_BYTES + length);
        let (header, body) = frame.split_at_mut(FRAME_HEADER_BYTES);
        let sum = checksum(&header[..CRC_OFFSET], body);
        header[CRC_OFFSET..].copy_from_slice(&sum.to_le_bytes());
        rest = behind;
    }
}

/// As [`mend_frames`], and each frame has the id under which [`fuzz_client`] awaits an answer of its kind.
pub fn mend_answers(bytes: &mut [u8]) {
    let mut start = 0;
    while let Some(header) = bytes.get_mut(start..start + FRAME_HEADER_BYTES) {
        let base = FrameBase(*header.first_chunk().expect("a header is there"));
        let id = id_of_kind(base.kind());
        header[REQUEST_ID_OFFSET..REQUEST_ID_OFFSET + 8].copy_from_slice(&id.0.to_le_bytes());
        start = start.saturating_add(FRAME_HEADER_BYTES + base.body_length() as usize);
    }
    mend_frames(bytes);
}

mod peer;
#[cfg(test)]
mod tests;

pub use peer::{fuzz_peer_incoming, fuzz_peer_outgoing, mend_peer_answer, mend_peer_stream};
