use super::*;
use crate::samples;
use proptest::prelude::*;

const LIMIT: usize = 1024;

fn frame_of(kind: FrameKind, flags: FrameFlags, id: u64, deadline_ms: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append_frame(&mut out, kind, flags, RequestId(id), deadline_ms, |out| {
        out.extend_from_slice(body);
    });
    out
}

#[test]
fn the_header_is_laid_out_as_drawn() {
    let flags = FrameFlags::RESPONSE.with(FrameFlags::MORE);
    let frame = frame_of(FrameKind::Range, flags, 0x0102_0304_0506_0708, 250, b"abc");
    let expected: [u8; 28] = [
        b'M', b'S', b'T', b'1', 1, 0, 7, 0, // magic, version, kind
        3, 0, 0, 0, 3, 0, 0, 0, // flags, body length
        8, 7, 6, 5, 4, 3, 2, 1, // request id
        250, 0, 0, 0, // deadline
    ];
    assert_eq!(frame[..28], expected);
    let mut covered = expected.to_vec();
    covered.extend_from_slice(b"abc");
    assert_eq!(frame[28..32], crc32fast::hash(&covered).to_le_bytes());
    assert_eq!(&frame[32..], b"abc");
}

/// The golden file holds every sample as a line `direction name hex`. `METASTORE_REWRITE_GOLDEN=1` rewrites it, which
/// is right only together with a new version of the protocol or for a sample that is new.
#[test]
fn every_sample_is_as_the_golden_file_has_it() {
    let mut lines = String::new();
    for (direction, samples) in [
        ("request", samples::requests()),
        ("response", samples::responses()),
    ] {
        for sample in samples {
            let hex: String = sample
                .bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            lines += &format!("{direction} {} {hex}\n", sample.name);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/frames.txt");
    if std::env::var_os("METASTORE_REWRITE_GOLDEN").is_some() {
        std::fs::write(path, &lines).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (line, golden_line) in lines.lines().zip(golden.lines()) {
        assert_eq!(line, golden_line);
    }
    assert_eq!(lines.lines().count(), golden.lines().count());
}

#[test]
fn a_frame_cut_short_anywhere_is_incomplete() {
    let frame = frame_of(FrameKind::Ping, FrameFlags::NONE, 1, 0, b"some body");
    for length in 0..frame.len() {
        assert_eq!(
            cut_frame(&frame[..length], LIMIT),
            Ok(None),
            "{length} bytes"
        );
    }
    let mut longer = frame.clone();
    longer.extend_from_slice(b"next");
    let cut = cut_frame(&longer, LIMIT).unwrap().unwrap();
    assert_eq!(cut.body, b"some body");
    assert_eq!(cut.consumed_bytes, frame.len());
}

#[test]
fn a_length_above_the_limit_is_refused_from_the_header_alone() {
    let mut frame = frame_of(FrameKind::Ping, FrameFlags::NONE, 1, 0, b"");
    for claimed in [LIMIT as u32 - 31, u32::MAX] {
        frame[12..16].copy_from_slice(&claimed.to_le_bytes());
        let actual = claimed as usize + FRAME_HEADER_BYTES;
        let refused = FrameError::TooLarge {
            limit: LIMIT,
            actual,
        };
        assert_eq!(cut_frame(&frame, LIMIT), Err(refused));
        assert_eq!(frame_length(&frame, LIMIT), Err(refused));
    }
    frame[12..16].copy_from_slice(&(LIMIT as u32 - 32).to_le_bytes());
    assert_eq!(cut_frame(&frame, LIMIT), Ok(None));
    assert_eq!(frame_length(&frame, LIMIT), Ok(Some(LIMIT)));
}

#[test]
fn every_damaged_bit_is_noticed() {
    let frame = frame_of(FrameKind::Command, FrameFlags::NONE, 7, 9, b"body");
    for bit in 0..frame.len() * 8 {
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let result = cut_frame(&damaged, LIMIT);
        // A length that grew waits for bytes that will not come; nothing else may pass.
        let in_length = (12 * 8..16 * 8).contains(&bit);
        assert!(
            result.is_err() || in_length && result == Ok(None),
            "bit {bit}: {result:?}"
        );
    }
}

#[test]
fn wrong_magic_version_and_flags_are_named() {
    let garbage = *b"GET / HTTP/1.1\r\nHost: example.test\r\n";
    let found = u32::from_le_bytes(*b"GET ");
    assert_eq!(cut_frame(&garbage, LIMIT), Err(FrameError::Magic { found }));

    let mut newer = frame_of(FrameKind::Ping, FrameFlags::NONE, 1, 0, b"");
    newer[4] = 2;
    assert_eq!(
        cut_frame(&newer, LIMIT),
        Err(FrameError::Version { found: 2 })
    );

    let flagged = frame_of(FrameKind::Ping, FrameFlags(8), 1, 0, b"");
    assert_eq!(
        cut_frame(&flagged, LIMIT),
        Err(FrameError::Flags { found: 8 })
    );
}

#[test]
fn kinds_and_numbers_agree() {
    for number in 0..=u16::MAX {
        if let Some(kind) = FrameKind::from_u16(number) {
            assert_eq!(kind.as_u16(), number);
        } else {
            assert!(number == 0 || number > 10, "{number}");
        }
    }
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..5),
        id in any::<u64>(),
        deadline_ms in any::<u32>(),
    ) {
        let mut stream = Vec::new();
        for body in &bodies {
            append_frame(&mut stream, FrameKind::Batch, FrameFlags::ERROR, RequestId(id), deadline_ms, |out| {
                out.extend_from_slice(body);
            });
        }
        let mut rest = &stream[..];
        for body in &bodies {
            let frame = cut_frame(rest, LIMIT).unwrap().unwrap();
            prop_assert_eq!(frame.body, &body[..]);
            prop_assert_eq!(frame.header.request_id, RequestId(id));
            prop_assert_eq!(frame.header.deadline_ms, deadline_ms);
            prop_assert_eq!(frame.header.kind, FrameKind::Batch.as_u16());
            prop_assert_eq!(frame.header.flags, FrameFlags::ERROR);
            rest = &rest[frame.consumed_bytes..];
        }
        prop_assert!(rest.is_empty());
    }
}
