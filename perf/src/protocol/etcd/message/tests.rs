use super::*;
use crate::random::Random;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[test]
fn puts_and_ranges_have_their_fields() {
    let put = written(|out| append_put(out, b"key", b"value"));
    assert_eq!(put, b"\x0a\x03key\x12\x05value");
    let long = written(|out| append_put(out, b"", &[7; 300]));
    assert_eq!(long[..5], *b"\x0a\x00\x12\xac\x02");
    assert_eq!(long.len(), put_length(b"", &[7; 300]));
    let get = written(|out| append_get(out, b"key"));
    assert_eq!(get, b"\x0a\x03key");
    let page = Page {
        directory: b"d/",
        from: b"d/k",
        rows_max: 100,
    };
    let list = written(|out| append_page(out, &page));
    assert_eq!(list, b"\x0a\x03d/k\x12\x02d0\x18\x64");
    let from_before = Page { from: b"a", ..page };
    let list = written(|out| append_page(out, &from_before));
    assert_eq!(
        list, b"\x0a\x02d/\x12\x02d0\x18\x64",
        "not before the directory"
    );
}

#[test]
fn transactions_have_their_compares_and_operations() {
    let swap = written(|out| append_swap(out, b"key", b"v", Revision(300)));
    let compare = b"\x0a\x0a\x10\x02\x1a\x03key\x30\xac\x02";
    let operation = b"\x12\x0a\x12\x08\x0a\x03key\x12\x01v";
    assert_eq!(swap, [&compare[..], operation].concat());
    let puts = Puts::new(2, b"k1k2", b"ab");
    let batch = written(|out| append_puts(out, &puts));
    assert_eq!(
        batch,
        b"\x12\x09\x12\x07\x0a\x02k1\x12\x01a\x12\x09\x12\x07\x0a\x02k2\x12\x01b"
    );
}

#[test]
fn a_lease_has_its_time() {
    let lease = written(|out| append_lease_grant(out, 300));
    assert_eq!(lease, b"\x08\xac\x02");
}

#[test]
fn lengths_are_those_that_are_written() {
    for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
        let field = written(|out| append_bytes(out, 1, &vec![0; length]));
        assert_eq!(field.len(), bytes_length(length), "{length}");
    }
}

#[test]
fn a_prefix_ends_before_the_next_one() {
    assert_eq!(prefix_end(b"d/"), b"d0");
    assert_eq!(prefix_end(b"a\xff\xff"), b"b");
    assert_eq!(prefix_end(b"\xff"), [0]);
    assert_eq!(prefix_end(b""), [0]);
}

/// A header, a row of every field, another row, `more` and the count.
const RANGE: &[u8] = b"\x0a\x04\x18\x07\x20\x02\
    \x12\x11\x0a\x03key\x10\x05\x18\xac\x02\x20\x01\x2a\x01v\x30\x09\
    \x12\x06\x0a\x04next\x18\x01\x20\x02";

#[test]
fn a_range_is_read_and_what_is_not_known_is_skipped() {
    let answer = read_range(RANGE).unwrap();
    assert_eq!(answer.rows, 2);
    let first = KeyValue {
        key: b"key",
        value: b"v",
        mod_revision: Revision(300),
    };
    assert_eq!(answer.first, Some(first));
    assert_eq!(read_range(b"").unwrap(), RangeAnswer::default());
    // Fields of eight and of four bytes with the numbers 16 and 17, which no version of etcd has.
    let future = b"\x81\x01\0\0\0\0\0\0\0\0\x8d\x01\0\0\0\0";
    assert_eq!(read_range(future).unwrap(), RangeAnswer::default());
}

#[test]
fn a_transaction_is_read() {
    let done = read_txn(b"\x0a\x02\x18\x07\x10\x01\x1a\x04\x12\x02\x0a\x00\x1a\x00").unwrap();
    let expected = TxnAnswer {
        succeeded: true,
        operations: 2,
    };
    assert_eq!(done, expected);
    let late = read_txn(b"\x0a\x02\x18\x07").unwrap();
    assert_eq!(late, TxnAnswer::default());
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    assert_eq!(
        read_range(b"\x0b"),
        Err(MessageError::WireType { wire_type: 3 })
    );
    assert_eq!(
        read_range(b"\x10\x01"),
        Err(MessageError::FieldType { field: 2 })
    );
    assert_eq!(
        read_txn(b"\x12\x00"),
        Err(MessageError::FieldType { field: 2 })
    );
    assert_eq!(check_message(b"\x0a\x05abc"), Err(MessageError::Truncated));
    assert_eq!(
        check_message(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        Err(MessageError::Truncated)
    );
    let eleven = [&[0x08][..], &[0xff; 10], &[1]].concat();
    assert_eq!(check_message(&eleven), Err(MessageError::LongNumber));
    let too_large = [&[0x08][..], &[0xff; 9], &[2]].concat();
    assert_eq!(check_message(&too_large), Err(MessageError::LongNumber));
    let largest = [&[0x08][..], &[0xff; 9], &[1]].concat();
    assert_eq!(check_message(&largest), Ok(()));
}

#[test]
fn an_answer_cut_anywhere_is_shorter_or_refused() {
    let whole = read_range(RANGE).unwrap();
    for end in 0..RANGE.len() {
        if let Ok(answer) = read_range(&RANGE[..end]) {
            assert!(answer.rows <= whole.rows);
        }
    }
    let mut random = Random::new(2);
    for _ in 0..50_000 {
        let mut bytes = RANGE.to_vec();
        let position = (random.next_u64() % bytes.len() as u64) as usize;
        bytes[position] = random.next_u64() as u8;
        let _answer = read_txn(&bytes);
        if let Ok(answer) = read_range(&bytes) {
            assert!(answer.rows as usize <= RANGE.len());
        }
    }
}
