use super::*;
use crate::samples::sample_error;
use proptest::prelude::*;

#[test]
fn codes_are_those_of_the_schema() {
    let schema = &messages::ErrorCode::ENUM_VALUES[1..];
    let names: Vec<_> = schema
        .iter()
        .map(|code| (code.0, code.variant_name().unwrap().to_owned()))
        .collect();
    let ours: Vec<_> = CODES
        .iter()
        .map(|(number, code)| (*number, format!("{code:?}")))
        .collect();
    assert_eq!(ours, names);
}

#[test]
fn codes_and_numbers_agree() {
    for number in 0..=u16::MAX {
        assert_eq!(ErrorCode::from_u16(number).as_u16(), number);
    }
    assert_eq!(ErrorCode::from_u16(9), ErrorCode::TooLarge);
    assert_eq!(ErrorCode::from_u16(1000), ErrorCode::Other(1000));
}

#[test]
fn people_can_read_it() {
    let error = WireError {
        hint: "10.0.0.1:7400".to_owned(),
        ..WireError::new(ErrorCode::NotLeader)
    };
    let text = error.to_string();
    assert_eq!(text, "not the leader of the shard (ask 10.0.0.1:7400)");
    let text = sample_error().to_string();
    assert_eq!(
        text,
        "conflict: changed (it may have happened) (ask 10.0.0.1:7400) (try again in 3 ms) [/a] [\\xff]"
    );
}

#[test]
fn a_damaged_table_is_refused_or_reads_as_something() {
    let mut bytes = Vec::new();
    sample_error().encode_into(&mut bytes);
    for length in 0..bytes.len() {
        // Whatever is cut off, the reader stays within the bytes; most cuts are noticed.
        let _ = WireError::decode(&bytes[..length]);
    }
    assert!(WireError::decode(&bytes[..bytes.len() / 2]).is_err());
    assert!(WireError::decode(&[]).is_err());
}

proptest! {
    #[test]
    fn errors_come_out_as_they_went_in(
        code in any::<u16>(),
        is_unknown in any::<bool>(),
        texts in prop::collection::vec(".{0,20}", 2),
        numbers in prop::collection::vec(any::<u64>(), 4),
        retry_after_ms in any::<u32>(),
        keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
        offset in 0_usize..9,
    ) {
        let error = WireError {
            code: ErrorCode::from_u16(code),
            happened: if is_unknown { Happened::Unknown } else { Happened::NotDone },
            message: texts[0].clone(),
            limit: numbers[0],
            actual: numbers[1],
            retry_after_ms,
            revision: Revision(numbers[2]),
            epoch: numbers[3],
            hint: texts[1].clone(),
            keys,
        };
        let mut bytes = vec![0; offset];
        error.encode_into(&mut bytes);
        prop_assert_eq!(WireError::decode(&bytes[offset..]), Ok(error));
    }
}
