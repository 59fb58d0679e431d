use super::*;
use crate::frame::FRAME_HEADER_BYTES;
use crate::samples::{requests, responses};
use std::collections::BTreeSet;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    /// Changes, cuts or grows bytes, a few at a time, so that much of the structure stays.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let index = self.below(bytes.len() + 1);
            let interesting = [0, 1, 2, 4, 0x7f, 0x80, 0xff];
            match self.below(6) {
                0 => bytes.truncate(index),
                1 => bytes.insert(index, self.below(256) as u8),
                _ if index == bytes.len() => bytes.push(0),
                2 => bytes[index] ^= 1 << self.below(8),
                3 => bytes[index] = self.below(256) as u8,
                _ => bytes[index] = interesting[self.below(interesting.len())],
            }
        }
    }
}

/// Runs a target on every piece of a corpus and on mutations of it.
fn drive(corpus: &[Vec<u8>], mutations: usize, target: impl Fn(&[u8]) -> bool) {
    target(&[]);
    for piece in corpus {
        target(piece);
    }
    let mut random = Random(7);
    for _ in 0..mutations {
        let mut bytes = corpus[random.below(corpus.len())].clone();
        random.mutate(&mut bytes);
        target(&bytes);
    }
}

fn bodies(samples: Vec<crate::samples::Sample>, is_response: bool) -> Vec<Vec<u8>> {
    samples
        .iter()
        .map(|sample| {
            let mut piece = sample.bytes[6..8].to_vec();
            if is_response {
                piece.push(sample.bytes[8]);
            }
            piece.extend_from_slice(&sample.bytes[FRAME_HEADER_BYTES..]);
            piece
        })
        .collect()
}

#[test]
fn frames() {
    let corpus: Vec<_> = requests()
        .into_iter()
        .chain(responses())
        .map(|sample| sample.bytes)
        .collect();
    drive(&corpus, 20_000, fuzz_frame);
    drive(&corpus, 20_000, |bytes| {
        let mut mended = bytes.to_vec();
        mend_frames(&mut mended);
        fuzz_frame(&mended)
    });
}

#[test]
fn request_bodies() {
    drive(&bodies(requests(), false), 50_000, fuzz_request);
}

#[test]
fn response_bodies() {
    drive(&bodies(responses(), true), 50_000, fuzz_response);
}

#[test]
fn mutations_reach_behind_the_decoders_checks() {
    let kinds = std::cell::RefCell::new(BTreeSet::new());
    drive(&bodies(requests(), false), 50_000, |data| {
        let Some((kind, body)) = data.split_first_chunk() else {
            return false;
        };
        let header = header_of(u16::from_le_bytes(*kind), FrameFlags::NONE);
        let is_sample = bodies(requests(), false)
            .iter()
            .any(|sample| sample == data);
        if !is_sample && Request::decode(&header, body, &RequestLimits::default()).is_ok() {
            kinds.borrow_mut().insert(header.kind);
        }
        !is_sample
    });
    // Ping, status and shard map have one form only.
    assert!(
        kinds
            .borrow()
            .is_superset(&BTreeSet::from([1, 3, 4, 5, 6, 7, 8])),
        "{kinds:?}"
    );
}

#[test]
fn streams_of_frames_at_a_server() {
    let hello = requests().swap_remove(0).bytes;
    let corpus: Vec<_> = requests()
        .into_iter()
        .map(|sample| [&hello[..], &sample.bytes, &sample.bytes].concat())
        .collect();
    drive(&corpus, 3_000, fuzz_server);
    drive(&corpus, 3_000, |bytes| {
        let mut mended = bytes.to_vec();
        mend_frames(&mut mended);
        fuzz_server(&mended)
    });
}

#[test]
fn streams_of_frames_at_a_client() {
    let corpus: Vec<_> = responses().into_iter().map(|sample| sample.bytes).collect();
    drive(&corpus, 3_000, fuzz_client);
    for answer in &corpus {
        let mut mended = answer.clone();
        mend_answers(&mut mended);
        assert!(fuzz_client(&mended), "{answer:?}");
    }
    drive(&corpus, 3_000, |bytes| {
        let mut mended = bytes.to_vec();
        mend_answers(&mut mended);
        fuzz_client(&mended)
    });
}

#[test]
fn the_kinds_of_the_fuzzers_are_all_there_are() {
    let known = (0..=u16::MAX).filter_map(FrameKind::from_u16);
    assert!(known.eq(kinds()));
}

#[test]
fn connections_between_cores() {
    use crate::peer::samples::{sample_answer, sample_hello, sample_refusal};
    let mut stream = sample_hello().encode().to_vec();
    assert!(fuzz_peer_incoming(&stream));
    for batch in [&b"a batch"[..], &[7; 200]] {
        crate::peer::append_batch_head(batch.len(), &mut stream);
        stream.extend_from_slice(batch);
    }
    assert!(fuzz_peer_incoming(&stream));
    let corpus = [stream];
    drive(&corpus, 5_000, fuzz_peer_incoming);
    let accepted = std::cell::Cell::new(0);
    drive(&corpus, 5_000, |bytes| {
        let mut mended = bytes.to_vec();
        mend_peer_stream(&mut mended);
        let is_accepted = fuzz_peer_incoming(&mended);
        accepted.set(accepted.get() + usize::from(is_accepted));
        is_accepted
    });
    assert!(accepted.get() > 1000, "{accepted:?}");

    let corpus = [sample_answer(), sample_refusal()].map(|answer| answer.encode().to_vec());
    assert!(fuzz_peer_outgoing(&corpus[0]));
    assert!(!fuzz_peer_outgoing(&corpus[1]));
    drive(&corpus, 5_000, fuzz_peer_outgoing);
    drive(&corpus, 5_000, |bytes| {
        let mut mended = bytes.to_vec();
        mend_peer_answer(&mut mended);
        fuzz_peer_outgoing(&mended)
    });
}
