use super::*;
use crate::testing;

fn golden(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/");
    std::fs::read(format!("{path}{name}.bin")).unwrap()
}

#[test]
fn what_earlier_versions_wrote_is_accepted_and_needs_no_mending() {
    assert_eq!((IDENTITY, SEAL), (testing::IDENTITY, testing::SEAL));
    type Run = fn(&[u8]) -> bool;
    type Mend = fn(&mut [u8]);
    let cases: [(&str, Run, Mend); 7] = [
        ("record-parts", fuzz_record, mend_record),
        ("record-checkpoint", fuzz_record, mend_record),
        ("mark", fuzz_mark, mend_mark),
        ("log-clean", fuzz_recovery, mend_log),
        ("log-clean", fuzz_recovery, mend_log_apart),
        ("log-recovered", fuzz_recovery, mend_log_apart),
        ("log-torn-tail", fuzz_recovery, mend_log_apart),
    ];
    for (name, run, mend) in cases {
        let bytes = golden(name);
        assert!(run(&bytes), "{name}");
        // Mending makes a torn record whole.
        if name != "log-torn-tail" && name != "log-recovered" {
            let mut mended = bytes.clone();
            mend(&mut mended);
            assert!(mended == bytes, "{name}");
        }
    }
}

#[test]
fn mended_headers_reach_the_checks_behind_them() {
    let mut record = golden("record-parts");
    record[RECORD_HEADER_BYTES + 8] ^= 0xff;
    assert!(!fuzz_record(&record));
    mend_record(&mut record);
    assert!(fuzz_record(&record), "another replica's number is as good");
    record[RECORD_HEADER_BYTES] = 9;
    mend_record(&mut record);
    assert!(!fuzz_record(&record), "there is no ninth kind");
}

#[test]
fn logs_cut_anywhere_are_recovered_or_refused() {
    let mut refused = 0;
    for name in ["log-clean", "log-recovered", "log-torn-tail"] {
        let mut bytes = golden(name);
        while let Some(length) = bytes.len().checked_sub(97) {
            bytes.truncate(length);
            refused += usize::from(!fuzz_recovery(&bytes));
        }
    }
    assert!(refused > 0, "a mark tells what was cut off");
}

/// One sealed header is left, of a record far above its watermark, and none of what it says was durable: a start from
/// nothing would forget it.
#[test]
fn a_log_that_lost_everything_below_its_watermark_is_refused() {
    let bytes = golden("fuzz/log/recovery/lost-below-watermark");
    let recovered = recover(&mut Source::parse(&bytes), &IDENTITY, SEAL, &mut |_| {});
    assert!(
        matches!(recovered, Err(RecoveryError::Corrupt { .. })),
        "{recovered:?}"
    );
    assert!(!fuzz_recovery(&bytes));
}

/// Nothing behind a mark's checksum may make a start overflow.
#[test]
fn a_log_whose_mark_counts_beyond_all_bounds_is_judged() {
    fuzz_recovery(&golden("fuzz/log/recovery/mark-beyond-counting"));
}
