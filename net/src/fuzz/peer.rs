//! Connections between cores take any bytes.

use crate::peer::{
    BATCH_HEAD_BYTES, IncomingLink, IncomingState, LocalPeer, OutgoingLink, OutgoingState,
    PEER_ANSWER_BYTES, PEER_HELLO_BYTES, PeerAnswer, PeerCore, PeerHello, PeerLane, Room,
    append_batch_head, mend_answer, mend_hello,
};

/// Longer batches are refused here, so that mutations of a length reach both sides of the limit.
const BATCH_BYTES_MAX: usize = 1024;

/// The sender of the golden hello.
const SENDER: LocalPeer = LocalPeer {
    cluster_id: super::CLUSTER,
    core: PeerCore { node: 3, core: 4 },
    incarnation: 0x0102_0304_0506_0708,
    map_epoch: 9,
    initial_map_hash: 0x1112_1314_1516_1718,
    data_id: 0x3132_3334_3536_3738,
    cluster_epoch: 0,
};

/// Whom it means.
const RECEIVER: LocalPeer = LocalPeer {
    core: PeerCore { node: 5, core: 6 },
    incarnation: 0x2122_2324_2526_2728,
    map_epoch: 8,
    data_id: 0,
    ..SENDER
};

/// A receiver's end takes any bytes, and does the same whether they come at once, in two parts or one by one. A hello
/// that it accepts, and the batches that it hands out, are the very bytes that came. Bytes are accepted when a connection
/// is open in the end.
pub fn fuzz_peer_incoming(data: &[u8]) -> bool {
    let (first, second) = data.split_at(data.len() / 2);
    let at_once = receive([data].into_iter());
    assert_eq!(receive([first, second].into_iter()), at_once);
    assert_eq!(receive(data.chunks(1)), at_once);
    if let IncomingState::Open(hello) = at_once.state {
        assert_eq!(hello.check(&RECEIVER), Ok(1));
        let mut again = hello.encode().to_vec();
        for batch in &at_once.batches {
            append_batch_head(batch.len(), &mut again);
            again.extend_from_slice(batch);
        }
        assert!(data.starts_with(&again), "more came out than went in");
        let answer = at_once.answer.first_chunk::<PEER_ANSWER_BYTES>();
        let answer = PeerAnswer::decode(answer.expect("every hello is answered"));
        let answer = answer.expect("what this crate writes it reads");
        assert_eq!(answer.check(&hello), Ok(()));
    }
    matches!(at_once.state, IncomingState::Open(_))
}

/// What a receiver's end comes to.
#[derive(Debug, PartialEq, Eq)]
struct Received {
    state: IncomingState,
    fault: Option<String>,
    answer: Vec<u8>,
    batches: Vec<Vec<u8>>,
}

fn receive<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Received {
    let mut link = IncomingLink::new(BATCH_BYTES_MAX);
    let (mut batches, mut faults) = (Vec::new(), Vec::new());
    for part in parts {
        let on_batch = |_: PeerCore, _: PeerLane, batch: &[u8]| batches.push(batch.to_vec());
        let result = link.on_bytes(part, Room::Ample, || RECEIVER, |_| Ok(()), on_batch);
        faults.extend(result.err().map(|fault| fault.to_string()));
        let bytes_max = BATCH_HEAD_BYTES + BATCH_BYTES_MAX;
        assert!(link.buffer_bytes() <= bytes_max, "more than a batch");
    }
    assert!(faults.len() <= 1, "a connection ends once");
    Received {
        state: link.state(),
        fault: faults.pop(),
        answer: link.take_answer(),
        batches,
    }
}

/// A sender's end takes any bytes, and does the same whether they come at once or one by one. Bytes are accepted when
/// they open the connection.
pub fn fuzz_peer_outgoing(data: &[u8]) -> bool {
    let at_once = be_answered([data].into_iter());
    let one_by_one = be_answered(data.chunks(1));
    // What comes behind the answer is noticed in the same read or in the next.
    assert_eq!(one_by_one, at_once);
    let Some(Ok(answer)) = data.first_chunk().map(PeerAnswer::decode) else {
        assert!(at_once.is_err() || data.len() < PEER_ANSWER_BYTES);
        return false;
    };
    assert_eq!(answer.encode()[..], data[..PEER_ANSWER_BYTES]);
    at_once.is_ok()
}

fn be_answered<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Result<OutgoingState, String> {
    let mut link = OutgoingLink::new(PeerHello::new(SENDER, RECEIVER.core, PeerLane::Entries));
    for part in parts {
        link.on_bytes(part).map_err(|fault| fault.to_string())?;
    }
    Ok(link.state())
}

/// Writes the right checksum into a hello, and into the head of each batch behind it the second form of its length; the
/// last batch gets the length that fits.
pub fn mend_peer_stream(bytes: &mut [u8]) {
    let Some((hello, mut rest)) = bytes.split_first_chunk_mut::<PEER_HELLO_BYTES>() else {
        return;
    };
    mend_hello(hello);
    while let Some((head, behind)) = rest.split_first_chunk_mut::<BATCH_HEAD_BYTES>() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let length = length.min(behind.len());
        let mut mended = Vec::new();
        if length > 0 {
            append_batch_head(length, &mut mended);
            head.copy_from_slice(&mended);
        }
        rest = &mut behind[length..];
    }
}

/// Writes the right checksum into an answer.
pub fn mend_peer_answer(bytes: &mut [u8]) {
    if let Some(answer) = bytes.first_chunk_mut() {
        mend_answer(answer);
    }
}
