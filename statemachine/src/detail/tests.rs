use super::*;
use crate::outcome::OutcomeCode;

const ROW: Row<'static> = Row {
    key: b"k",
    value: b"v",
    create_revision: Revision(5),
    mod_revision: Revision(6),
    version: 2,
    lease: 0,
};

fn outcome_with(detail: Detail<'_>) -> Outcome<'_> {
    Outcome {
        code: OutcomeCode::Done,
        revision: Revision(7),
        number: None,
        previous: None,
        detail: Some(detail),
    }
}

fn sample_results() -> ResultsWriter {
    let mut results = ResultsWriter::default();
    results.begin_txn(Branch::Then);
    results.mutation(&Outcome {
        code: OutcomeCode::Absent,
        revision: Revision(3),
        number: None,
        previous: None,
        detail: None,
    });
    results.get(Some(ROW));
    results.get(None);
    let start = results.begin_range();
    results.row(&ROW);
    results.end_range(start, RangeEnd::LimitReached);
    results.begin_txn(Branch::Otherwise);
    results.delete_range(9);
    results.end_txn();
    results.end_txn();
    results
}

#[test]
fn the_results_of_a_transaction_are_the_bytes_of_the_format() {
    let row: &[u8] = &[
        1, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'k', b'v',
    ];
    let golden = [
        &[0, 0, 4, 0, 0, 0, 0, 0][..], // code, flags, previous length
        &[7, 0, 0, 0, 0, 0, 0, 0],     // revision
        &[0; 8],                       // number
        &[1, 0, 0, 0, 180, 0, 0, 0],   // detail: txn, length
        &[1, 0, 0, 0, 5, 0, 0, 0],     // then, five results
        &[0, 0, 0, 0, 24, 0, 0, 0],    // mutation: an outcome
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[3, 0, 0, 0, 0, 0, 0, 0],
        &[0; 8],
        &[1, 0, 0, 0, 42, 0, 0, 0], // get: a row
        row,
        &[1, 0, 0, 0, 0, 0, 0, 0],  // get: none
        &[2, 0, 1, 0, 42, 0, 0, 0], // range: a row, more were left out
        row,
        &[4, 0, 0, 0, 24, 0, 0, 0], // txn
        &[0, 0, 0, 0, 1, 0, 0, 0],  // otherwise, one result
        &[3, 0, 0, 0, 8, 0, 0, 0],  // delete_range: a count
        &[9, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let results = sample_results();
    let outcome = outcome_with(Detail::Txn(results.results()));
    let mut bytes = Vec::new();
    outcome.encode_into(&mut bytes);
    assert_eq!(bytes, golden);
    assert_eq!(outcome.encoded_len(), golden.len());
    let (decoded, length) = Outcome::decode(&golden).unwrap();
    assert_eq!((decoded, length), (outcome, golden.len()));
    let Some(Detail::Txn(results)) = decoded.detail else {
        panic!("{decoded:?}");
    };
    let kinds: Vec<_> = results.iter().collect();
    assert_eq!(kinds.len(), 5);
    assert_eq!(kinds[1], TxnResult::Get(Some(ROW)));
    let TxnResult::Txn(within) = kinds[4] else {
        panic!("{kinds:?}");
    };
    assert_eq!(within.branch, Branch::Otherwise);
    assert_eq!(within.iter().next(), Some(TxnResult::DeleteRange(9)));
}

#[test]
fn every_other_detail_is_the_bytes_of_the_format() {
    let mut scratch = Vec::new();
    let places = [ShardRevision {
        shard: 3,
        revision: Revision(0x0201),
    }];
    let cases: [(Detail<'_>, &[u8]); 5] = [
        (
            Detail::ResumeAfter(b"ab"),
            &[2, 0, 0, 0, 2, 0, 0, 0, b'a', b'b'],
        ),
        (Detail::ConflictKey(b"a"), &[3, 0, 0, 0, 1, 0, 0, 0, b'a']),
        (Detail::ConflictPrefix(b""), &[4, 0, 0, 0, 0, 0, 0, 0]),
        (
            Detail::FailedStep(258),
            &[5, 0, 0, 0, 4, 0, 0, 0, 2, 1, 0, 0],
        ),
        (
            Detail::ShardRevisions(ShardRevisions::encode(places, &mut scratch)),
            &[
                6, 0, 0, 0, 16, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
            ],
        ),
    ];
    for (detail, golden) in cases {
        let mut bytes = Vec::new();
        detail.encode_into(&mut bytes);
        assert_eq!(bytes, golden);
        assert_eq!(Detail::decode(golden), Ok((detail, golden.len())));
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let results = sample_results();
    let mut bytes = Vec::new();
    Detail::Txn(results.results()).encode_into(&mut bytes);
    let changed = |index: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[index] = value;
        Detail::decode(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(changed(0, 7), DetailError::UnknownKind { kind: 7 });
    let field = |field, found| DetailError::FieldValue { field, found };
    assert_eq!(changed(2, 1), field("zero", 1));
    assert_eq!(changed(8, 2), field("branch", 2));
    assert_eq!(changed(10, 1), field("zero", 1));
    // The result of a mutation with a `more`, of an unknown kind, with a detail of its own.
    assert_eq!(changed(18, 1), field("more", 1));
    assert_eq!(changed(16, 5), DetailError::UnknownKind { kind: 5 });
    assert_eq!(changed(26, 4), DetailError::Mutation);
    let short = DetailError::Length {
        announced: 180,
        actual: 148,
    };
    assert_eq!(changed(12, 4), short);
    for length in 0..bytes.len() {
        assert!(Detail::decode(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn results_nest_as_deep_as_transactions() {
    let nested = |depth: usize| {
        let mut results = ResultsWriter::default();
        (0..depth).for_each(|_| results.begin_txn(Branch::Then));
        (0..depth).for_each(|_| results.end_txn());
        let mut bytes = results.bytes;
        let base = generated::DetailBase::new(KIND_TXN, 0, length_u32(bytes.len()));
        bytes.splice(..0, base.0);
        Detail::decode(&bytes).map(|_| ())
    };
    assert_eq!(nested(TXN_DEPTH_MAX), Ok(()));
    assert_eq!(nested(TXN_DEPTH_MAX + 1), Err(DetailError::TooDeep));
}
