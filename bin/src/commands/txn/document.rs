//! The JSON document of a transaction.

use metastore_statemachine::{
    Command, Compare, Direction, Existence, KeyRange, NamespaceId, Operation, Projection,
    RangeOperation, Relation, Revision, Scope, Subject, Target, Txn,
};
use serde::Deserialize;

use super::TxnFileError;

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;

/// A transaction as `metastore txn --help` explains it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TxnDocument {
    #[serde(default, rename = "if")]
    compares: Vec<Condition>,
    #[serde(default)]
    then: Vec<Step>,
    #[serde(default, rename = "else")]
    otherwise: Vec<Step>,
}

/// Bytes: a text, or `{"hex": ".."}`.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "BytesDocument")]
struct Bytes(Vec<u8>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or {\"hex\": \"..\"}")]
enum BytesDocument {
    Text(String),
    Hex { hex: String },
}

/// The digits are not pairs of hexadecimal ones.
#[derive(Debug, thiserror::Error)]
#[error("{hex:?} is not pairs of hexadecimal digits")]
struct NotHex {
    hex: String,
}

impl TryFrom<BytesDocument> for Bytes {
    type Error = NotHex;

    fn try_from(document: BytesDocument) -> Result<Bytes, NotHex> {
        let hex = match document {
            BytesDocument::Text(text) => return Ok(Bytes(text.into_bytes())),
            BytesDocument::Hex { hex } => hex,
        };
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let bytes: Option<Vec<u8>> = pairs
            .iter()
            .map(|&[high, low]| u8::try_from(digit(high)? * 16 + digit(low)?).ok())
            .collect();
        match bytes.filter(|_| rest.is_empty()) {
            Some(bytes) => Ok(Bytes(bytes)),
            None => Err(NotHex { hex }),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    key: Option<Bytes>,
    range: Option<Keys>,
    value: Option<Bytes>,
    mod_revision: Option<u64>,
    create_revision: Option<u64>,
    version: Option<u64>,
    lease: Option<u64>,
    exists: Option<bool>,
    #[serde(default)]
    is: Is,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
enum Is {
    #[default]
    #[serde(rename = "==")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = ">")]
    Greater,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    #[serde(default)]
    prefix: Bytes,
    #[serde(default)]
    start: Bytes,
    #[serde(default)]
    end: Bytes,
    #[serde(default)]
    children: bool,
    #[serde(default)]
    limit: u64,
    #[serde(default)]
    reverse: bool,
    #[serde(default)]
    keys_only: bool,
}

/// A range all of whose keys are meant, not the first few.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Range")]
struct Keys(Range);

/// A range says how to read it where it is not read.
#[derive(Debug, thiserror::Error)]
#[error(
    "limit, reverse and keys_only belong to the operation range alone: here every key of the range is meant"
)]
struct NotRead;

impl TryFrom<Range> for Keys {
    type Error = NotRead;

    fn try_from(range: Range) -> Result<Keys, NotRead> {
        match range.limit > 0 || range.reverse || range.keys_only {
            true => Err(NotRead),
            false => Ok(Keys(range)),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    key: Bytes,
    #[serde(default)]
    value: Bytes,
    #[serde(default)]
    if_absent: bool,
    if_revision: Option<u64>,
    #[serde(default)]
    previous: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    key: Bytes,
    number: Operand,
}

/// The bytes of a counter's operand.
#[derive(Debug, Deserialize)]
#[serde(from = "i64")]
struct Operand([u8; 8]);

impl From<i64> for Operand {
    fn from(number: i64) -> Operand {
        Operand(number.to_le_bytes())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Put(Write),
    Append(Write),
    Add(Add),
    Delete(Write),
    Get(Bytes),
    Range(Range),
    DeleteRange(Keys),
    Txn(TxnDocument),
}

/// A document that is read makes a transaction or says which of its parts makes none.
#[cfg(test)]
pub(crate) fn fuzz_document(data: &[u8]) -> bool {
    let Ok(document) = serde_json::from_slice::<TxnDocument>(data) else {
        return false;
    };
    match document.txn() {
        Ok(txn) => {
            let steps = (txn.then.len(), txn.otherwise.len());
            assert_eq!(steps, (document.then.len(), document.otherwise.len()));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

impl TxnDocument {
    /// The transaction that it describes.
    pub(super) fn txn(&self) -> Result<Txn<'_>, TxnFileError> {
        let compares = (1..).zip(&self.compares).map(|(position, condition)| {
            condition
                .compare()
                .ok_or(TxnFileError::Condition { position })
        });
        Ok(Txn {
            compares: compares.collect::<Result<_, _>>()?,
            then: operations(&self.then)?,
            otherwise: operations(&self.otherwise)?,
        })
    }
}

fn operations(steps: &[Step]) -> Result<Vec<Operation<'_>>, TxnFileError> {
    steps.iter().map(Step::operation).collect()
}

impl Condition {
    /// `None` when it is not about exactly one thing.
    fn compare(&self) -> Option<Compare<'_>> {
        let subject = match (&self.key, &self.range) {
            (Some(key), None) => Subject::Key(&key.0),
            (None, Some(keys)) => Subject::Range(keys.0.key_range()),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        let existence = |exists| match exists {
            true => Existence::Present,
            false => Existence::Absent,
        };
        let revision = |number: u64| Revision(number);
        let targets = [
            self.value.as_ref().map(|value| Target::Value(&value.0)),
            self.mod_revision.map(revision).map(Target::ModRevision),
            self.create_revision
                .map(revision)
                .map(Target::CreateRevision),
            self.version.map(Target::Version),
            self.lease.map(Target::Lease),
            self.exists.map(existence).map(Target::Existence),
        ];
        let mut given = targets.into_iter().flatten();
        let target = given.next()?;
        if given.next().is_some() {
            return None;
        }
        Some(Compare {
            subject,
            target,
            relation: match self.is {
                Is::Equal => Relation::Equal,
                Is::NotEqual => Relation::NotEqual,
                Is::Less => Relation::Less,
                Is::Greater => Relation::Greater,
            },
        })
    }
}

impl Range {
    fn key_range(&self) -> KeyRange<'_> {
        KeyRange {
            prefix: &self.prefix.0,
            start: &self.start.0,
            end: &self.end.0,
            scope: if self.children {
                Scope::Children { separator: b'/' }
            } else {
                Scope::Subtree
            },
        }
    }
}

impl Write {
    fn command<'a>(&'a self, command: Command<'a>) -> Operation<'a> {
        let mut command = command;
        if self.if_absent {
            command = command.with_if_absent();
        }
        if let Some(revision) = self.if_revision {
            command = command.with_expected_revision(Revision(revision));
        }
        if self.previous {
            command = command.with_return_previous();
        }
        Operation::Mutation(command)
    }
}

impl Step {
    fn operation(&self) -> Result<Operation<'_>, TxnFileError> {
        Ok(match self {
            Step::Put(put) => put.command(Command::put(NAMESPACE, &put.key.0, &put.value.0)),
            Step::Append(append) => {
                append.command(Command::append(NAMESPACE, &append.key.0, &append.value.0))
            }
            Step::Add(add) => {
                Operation::Mutation(Command::add_i64(NAMESPACE, &add.key.0, &add.number.0))
            }
            Step::Delete(delete) => {
                let command = Command::delete(NAMESPACE, &delete.key.0);
                // What makes no sense for a delete is refused by the store, by its name.
                delete.command(Command {
                    value: &delete.value.0,
                    ..command
                })
            }
            Step::Get(key) => Operation::Get(&key.0),
            Step::Range(range) => Operation::Range(RangeOperation {
                range: range.key_range(),
                direction: if range.reverse {
                    Direction::Reverse
                } else {
                    Direction::Forward
                },
                projection: if range.keys_only {
                    Projection::KeysOnly
                } else {
                    Projection::KeysAndValues
                },
                limit: range.limit,
            }),
            Step::DeleteRange(keys) => Operation::DeleteRange(keys.0.key_range()),
            Step::Txn(document) => Operation::Txn(document.txn()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TxnDocument, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_document_of_the_help_is_a_transaction() {
        let help = crate::arguments::TXN_HELP;
        let start = help.find('{').expect("a document");
        let end = help.find("\n\nA condition").expect("its end");
        let document = read(&help[start..end]).expect("a document");
        let txn = document.txn().expect("a transaction");
        assert_eq!((txn.compares.len(), txn.then.len()), (3, 4));
        assert_eq!(txn.compares[1].relation, Relation::Greater);
        let [Operation::Range(range)] = txn.otherwise.as_slice() else {
            panic!("{txn:?}");
        };
        assert_eq!((range.limit, range.range.prefix), (10, &b"/d/"[..]));
    }

    #[test]
    fn bytes_are_texts_or_digits() {
        let document = read(r#"{"then": [{"get": {"hex": "00fF"}}, {"get": "ü"}]}"#);
        let document = document.expect("a document");
        let txn = document.txn().expect("a transaction");
        assert_eq!(
            txn.then,
            [Operation::Get(b"\x00\xff"), Operation::Get("ü".as_bytes())]
        );
        for digits in ["0", "0g", "+1"] {
            let text = format!(r#"{{"then": [{{"get": {{"hex": "{digits}"}}}}]}}"#);
            let error = read(&text).expect_err("not digits");
            assert!(error.contains("hexadecimal"), "{error}");
        }
    }

    #[test]
    fn a_range_whose_keys_are_all_meant_has_no_limit() {
        for document in [
            r#"{"then": [{"delete_range": {"prefix": "/d/", "limit": 10}}]}"#,
            r#"{"then": [{"delete_range": {"prefix": "/d/", "reverse": true}}]}"#,
            r#"{"if": [{"range": {"prefix": "/d/", "limit": 1}, "exists": false}]}"#,
        ] {
            let error = read(document).expect_err("the limit would be ignored");
            assert!(error.contains("every key of the range"), "{error}");
        }
        let all = read(r#"{"then": [{"delete_range": {"prefix": "/d/", "children": true}}]}"#);
        assert!(all.is_ok_and(|document| document.txn().is_ok()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = read(r#"{"then": [{"put": {"kye": "/a"}}]}"#).expect_err("a slip");
        assert!(error.contains("kye") && error.contains("line 1"), "{error}");
        for condition in [
            r#"{"key": "/a"}"#,
            r#"{"key": "/a", "version": 1, "lease": 2}"#,
            r#"{"version": 1}"#,
            r#"{"key": "/a", "range": {}, "version": 1}"#,
        ] {
            let text = format!(r#"{{"if": [{{"key": "/a", "exists": true}}, {condition}]}}"#);
            let document = read(&text).expect("JSON as it should be");
            let error = document.txn().expect_err("no condition");
            assert!(error.to_string().contains("condition 2"), "{error}");
        }
    }
}
