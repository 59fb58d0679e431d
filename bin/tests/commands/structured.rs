//! Transactions, deletes by prefix, and compaction.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use crate::harness::{Store, TestDirectory, metastore};
use crate::store::{Answer, SHARDS, address, ask, start};

/// Runs `metastore txn` with a document on its standard input.
fn txn(server: &Store, document: &str, words: &[&str]) -> Answer {
    let mut command = metastore();
    command
        .arg("txn")
        .args(words)
        .env("METASTORE_CONNECT", address(server))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be run");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(document.as_bytes()).expect("it is read");
    drop(input);
    Answer::from(child.wait_with_output().expect("it ends"))
}

#[test]
fn a_transaction_is_done_as_a_whole_or_not_at_all() {
    let directory = TestDirectory::new("txn");
    let server = start(&directory.path().join("data"));
    let document = r#"{
        "if": [{"key": "/d/a", "exists": false}],
        "then": [{"put": {"key": "/d/a", "value": "x"}}, {"add": {"key": "/d/n", "number": -3}}, {"get": "/d/a"}],
        "else": [{"range": {"prefix": "/d/", "children": true, "keys_only": true}}]
    }"#;
    let first = txn(&server, document, &[]);
    assert_eq!(first.expect(0), "then 1\ndone\ndone -3\n/d/a\tx\n");
    let second = txn(&server, document, &[]);
    assert_eq!(second.expect(1), "else 1\n/d/a\t\n/d/n\t\n");
    let documents = txn(&server, document, &["--json"]).json(1);
    assert_eq!(documents[0]["branch"], "else");
    assert_eq!(documents[0]["results"][0]["rows"][1]["key"], "/d/n");

    let refused = r#"{"then": [{"put": {"key": "/d/a", "value": "y"}},
        {"put": {"key": "/d/a", "value": "z", "if_absent": true}}]}"#;
    let answer = txn(&server, refused, &[]);
    assert_eq!(answer.expect(1), "");
    assert!(answer.err.contains("operation 2"), "{answer:?}");
    let answer = txn(&server, refused, &["--json"]).json(1);
    assert_eq!(answer[0]["done"], false);
    assert_eq!(ask(&server, ["get", "/d/a"]).expect(0), "x\n");
}

#[test]
fn what_is_no_transaction_is_refused_by_name() {
    let directory = TestDirectory::new("txn-refused");
    let server = start(&directory.path().join("data"));
    let slip = txn(&server, r#"{"then": [{"putt": {"key": "/a"}}]}"#, &[]);
    assert_eq!(slip.expect(2), "");
    assert!(
        slip.err.contains("putt") && slip.err.contains("line 1"),
        "{slip:?}"
    );
    let apart = r#"{"then": [{"get": "/a/1"}, {"get": "/a/b/1"}, {"get": "/c/1"}, {"get": "/d/1"}, {"get": "/e/1"}]}"#;
    let apart = txn(&server, apart, &[]);
    assert_eq!(apart.expect(2), "");
    assert!(apart.err.contains("several shards"), "{apart:?}");
    assert!(apart.err.contains("/1]"), "it names keys: {apart:?}");
    let missing = ask(&server, ["txn", "/no/such/file"]);
    assert_eq!(missing.expect(2), "");
    assert!(missing.err.contains("/no/such/file"), "{missing:?}");
}

#[test]
fn keys_are_deleted_by_prefix_over_all_shards() {
    let directory = TestDirectory::new("delete-prefix");
    let server = start(&directory.path().join("data"));
    for key in ["/d/a", "/d/b", "/d/deep/c", "/d/deeper/d", "/e"] {
        ask(&server, ["put", key, "v"]).expect(0);
    }
    let children = ask(&server, ["delete", "--prefix", "/d/", "--children"]);
    assert_eq!(children.expect(0), "2\n");
    let all = ask(&server, ["delete", "--prefix", "/d/", "--json"]).json(0);
    assert_eq!(all[0]["deleted"], 2);
    assert_eq!(all[0]["revisions"].as_array().map(Vec::len), Some(SHARDS));
    assert_eq!(ask(&server, ["list", "", "--keys-only"]).expect(0), "/e\n");
    assert_eq!(ask(&server, ["delete", "--prefix", "/d/"]).expect(0), "0\n");
    ask(&server, ["delete", "--prefix", "/d/", "/e"]).expect(2);
    ask(&server, ["delete"]).expect(2);
}

#[test]
fn revisions_are_compacted() {
    let directory = TestDirectory::new("compact");
    let data = directory.path().join("data");
    let server = start(&data);
    for value in ["1", "2", "3"] {
        ask(&server, ["put", "/d/k", value]).expect(0);
    }
    let ahead = ask(&server, ["compact", "4", "--key", "/d/k"]);
    assert_eq!(ahead.expect(1), "");
    assert!(ahead.err.contains("newest revision is 3"), "{ahead:?}");
    let done = ask(&server, ["compact", "2", "--key", "/d/other", "--json"]).json(0);
    assert_eq!(done, [json!({"done": true, "revision": 3})]);
    assert_eq!(ask(&server, ["get", "/d/k", "--at", "2"]).expect(0), "2\n");
    let gone = ask(&server, ["get", "/d/k", "--at", "1"]);
    assert_eq!(gone.expect(1), "");
    assert!(gone.err.contains("oldest revision is 2"), "{gone:?}");
    // It survives a restart: the log says so.
    server.kill();
    let server = start(&data);
    ask(&server, ["get", "/d/k", "--at", "1"]).expect(1);
}
