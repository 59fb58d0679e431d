//! Targets for fuzzers: each takes any bytes, must never panic, asserts what the format promises, and says whether the
//! bytes were accepted.
//!
//! They are plain functions, so that the tests drive them on every run, and a fuzzer's harness is one call. Behind
//! checksums and seals nothing would be reached by chance: the `mend` functions make them fit.

mod mend;
mod source;

pub use mend::{mend_log, mend_log_apart, mend_mark, mend_record};

use crate::format::{
    BLOCK_BYTES, Entries, Mark, RECORD_HEADER_BYTES, RecordBody, RecordHeader, SUB_HEADER_BYTES,
    SubHeader, SubHeaderKind,
};
use crate::ids::{ClusterId, CoreId, Identity, NodeId, SealKey};
use crate::recovery::{Damage, DamageKind, Decision, RecoveryError, ReplayEvent, recover, survey};
use source::Source;

/// Whose the golden files are.
pub const IDENTITY: Identity = Identity {
    cluster: ClusterId(0x0123_4567_89ab_cdef_1122_3344_5566_7788),
    node: NodeId(7),
    core: CoreId(3),
};

/// The secret that seals the golden files.
pub const SEAL: SealKey = SealKey(0x6a09_e667_f3bc_c908);

/// A header that can be read is written back so that it reads the same, and so are the sub-headers of a record that is
/// whole; its parts hold the entries they count.
pub fn fuzz_record(data: &[u8]) -> bool {
    let Ok((header, _)) = RecordHeader::decode(data, SEAL) else {
        return false;
    };
    let mut encoded = [0; RECORD_HEADER_BYTES];
    let digest = header.encode(&mut encoded, SEAL);
    // A later version's number and its reserved fields are read and not written.
    assert_eq!(
        RecordHeader::decode(&encoded, SEAL),
        Ok((header.clone(), digest))
    );
    let record_bytes = header.record_bytes as usize;
    assert!(record_bytes.is_multiple_of(BLOCK_BYTES));
    let Some(record) = data.get(..record_bytes) else {
        return false;
    };
    let Ok(body) = RecordBody::decode(&header, record) else {
        // Of a damaged body the sub-headers are still read, each by itself.
        let sub_headers = RecordBody::sub_headers_of(&header, record);
        assert_eq!(sub_headers.len(), header.sub_header_count as usize);
        return false;
    };
    let mut payload_bytes = 0;
    for (sub_header, payload) in body.parts() {
        check_sub_header(&header, sub_header);
        payload_bytes += payload.len();
        if matches!(
            sub_header.kind,
            SubHeaderKind::Append | SubHeaderKind::Rewrite
        ) {
            let entries = Entries::check(payload, sub_header.entry_count);
            let entries = entries.expect("the body was found well formed");
            assert_eq!(entries.len(), entries.count());
        }
    }
    assert_eq!(payload_bytes, header.payload_bytes as usize);
    true
}

fn check_sub_header(header: &RecordHeader, sub_header: &SubHeader) {
    let mut encoded = [0; SUB_HEADER_BYTES];
    sub_header.encode(header.segment, header.sequence, &mut encoded);
    let again = SubHeader::decode(header.segment, header.sequence, &encoded);
    assert_eq!(again.as_ref(), Some(sub_header));
}

/// A mark that can be read is written back so that it reads the same.
pub fn fuzz_mark(data: &[u8]) -> bool {
    let Ok(mark) = Mark::decode(data) else {
        return false;
    };
    let mut encoded = [0; BLOCK_BYTES];
    mark.encode(&mut encoded);
    assert_eq!(Mark::decode(&encoded), Ok(mark));
    true
}

/// Any log is recovered or refused, and a survey of it comes to the same judgement. `data` is laid out as the golden
/// logs: two mark blocks, then for each segment its file's number, the length of what is used, and that.
pub fn fuzz_recovery(data: &[u8]) -> bool {
    let mut source = Source::parse(data);
    let mut events = 0_u64;
    let recovered = recover(&mut source, &IDENTITY, SEAL, &mut |event| {
        events += 1;
        check_event(&event);
    });
    let surveyed = survey(&mut source, &IDENTITY, SEAL, &mut |_| {});
    match (&recovered, &surveyed) {
        (Ok(recovered), Ok(survey)) => {
            assert_eq!(survey.decision, recovered.decision);
            assert_eq!(survey.watermark, recovered.watermark);
            assert_eq!(survey.last_record, recovered.last_record);
            assert_eq!(survey.epoch, recovered.epoch);
            assert!(survey.findings.is_empty());
            assert!(recovered.watermark <= recovered.last_record);
            for replica in &recovered.replicas {
                assert!(replica.hard_state.commit <= replica.last_index);
                assert!(replica.first_index.0 <= replica.last_index.0 + 1);
            }
        }
        (Err(RecoveryError::Corrupt { findings }), Ok(survey)) => {
            assert!(!findings.is_empty(), "what is refused is named");
            let is_found = survey.decision == Decision::Corrupt;
            assert!(is_found || is_of_marks(findings), "{findings:?}");
            assert!(!is_of_marks(findings) || events == 0);
        }
        // Without marks a start stops at once; a survey goes on, and comes to whatever else is wrong.
        (Err(RecoveryError::Corrupt { findings }), Err(_)) if is_of_marks(findings) => {}
        (Err(error), Err(other)) => {
            assert_eq!(format!("{error:?}"), format!("{other:?}"));
        }
        (Err(RecoveryError::CommitAboveLast { .. }), Ok(_)) => {}
        (Ok(_), Err(error)) => panic!("recovered, and yet: {error}"),
        (Err(error), Ok(_)) => panic!("a survey does not notice: {error}"),
    }
    recovered.is_ok()
}

fn is_of_marks(findings: &[Damage]) -> bool {
    matches!(findings, [damage] if damage.what == DamageKind::MarksUnreadable)
}

fn check_event(event: &ReplayEvent<'_>) {
    match event {
        ReplayEvent::Append { entries, .. } | ReplayEvent::Rewrite { entries, .. } => {
            assert_eq!(entries.len(), entries.clone().count());
        }
        ReplayEvent::Snapshot {
            index, last_index, ..
        } => assert!(index <= last_index),
        ReplayEvent::Checkpoint { .. }
        | ReplayEvent::Snapshots { .. }
        | ReplayEvent::Tombstone { .. } => {}
    }
}

#[cfg(test)]
mod tests;
