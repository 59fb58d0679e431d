//! Keys, values, conditions, lists, status and exit codes.

use std::net::TcpListener;

use serde_json::json;

use crate::fake_server;
use crate::harness::TestDirectory;
use crate::store::{CORES, SHARDS, address, ask, run, run_unread, start, word};

#[test]
fn keys_are_put_read_listed_and_deleted() {
    let directory = TestDirectory::new("client-keys");
    let server = start(&directory.path().join("data"));

    assert_eq!(ask(&server, ["put", "/d/b", "one"]).last_line(0), "1");
    assert_eq!(ask(&server, ["get", "/d/b"]).expect(0), "one\n");
    let replaced = ask(&server, ["put", "/d/b", "two", "--previous"]);
    assert_eq!(replaced.expect(0), "one\n2\n");
    assert_eq!(
        ask(&server, ["get", "/d/b", "--at", "1"]).expect(0),
        "one\n"
    );

    let exists = ask(&server, ["put", "/d/b", "x", "--if-absent"]);
    assert_eq!(exists.expect(1), "");
    assert!(exists.err.contains("exists, at revision 2"), "{exists:?}");
    let stale = ask(&server, ["put", "/d/b", "x", "--if-revision", "1"]);
    assert_eq!(stale.expect(1), "");
    assert!(stale.err.contains("at revision 2, not 1"), "{stale:?}");
    let current = ask(&server, ["put", "/d/b", "three", "--if-revision", "2"]);
    assert_eq!(current.last_line(0), "3");
    let absent = ask(&server, ["put", "/d/none", "x", "--if-revision", "7"]);
    assert!(absent.err.contains("does not exist"), "{absent:?}");

    for key in ["/d/a", "/d/c", "/d/c/deep"] {
        ask(&server, ["put", key, "v\t\n"]).expect(0);
    }
    let children = ask(&server, ["list", "/d/", "--children"]);
    assert_eq!(
        children.expect(0),
        "/d/a\tv\\t\\n\n/d/b\tthree\n/d/c\tv\\t\\n\n"
    );
    let all = ask(&server, ["list", "", "--keys-only"]);
    assert_eq!(all.expect(0), "/d/a\n/d/b\n/d/c\n/d/c/deep\n");
    let words = ["list", "/d/", "--keys-only", "--reverse", "--limit", "2"];
    assert_eq!(ask(&server, words).expect(0), "/d/c/deep\n/d/c\n");

    ask(&server, ["delete", "/d/a"]).expect(0);
    assert_eq!(ask(&server, ["delete", "/d/a"]).expect(1), "");
    assert_eq!(ask(&server, ["get", "/d/a"]).expect(1), "");

    assert_eq!(ask(&server, ["add", "/n", "5"]).last_line(0), "5");
    assert_eq!(ask(&server, ["add", "/n", "-7"]).last_line(0), "-2");
    ask(&server, ["add", "/d/b", "1"]).expect(1);
}

#[test]
fn keys_are_rolled_up_and_counted_over_all_shards() {
    let directory = TestDirectory::new("client-count");
    let server = start(&directory.path().join("data"));
    for directory in ["a", "b", "c"] {
        for name in ["1", "2", "x/1", "x/2", "y/1"] {
            ask(&server, ["put", &format!("/{directory}/{name}"), "v"]).expect(0);
        }
    }
    ask(&server, ["put", "/top", "v"]).expect(0);
    let top = ask(&server, ["list", "/", "--delimiter", "/"]);
    assert_eq!(top.expect(0), "/a/\n/b/\n/c/\n/top\tv\n");
    let words = [
        "list",
        "/b/",
        "--delimiter",
        "/",
        "--reverse",
        "--keys-only",
    ];
    assert_eq!(ask(&server, words).expect(0), "/b/y/\n/b/x/\n/b/2\n/b/1\n");
    let documents = ask(&server, ["list", "/", "--delimiter", "/", "--json"]).json(0);
    assert_eq!(documents[0], json!({"prefix": "/a/"}));
    assert_eq!(
        documents[4]["revisions"].as_array().map(Vec::len),
        Some(SHARDS)
    );

    assert_eq!(ask(&server, ["count", ""]).expect(0), "16\n");
    assert_eq!(ask(&server, ["count", "/a/"]).expect(0), "5\n");
    assert_eq!(
        ask(&server, ["count", "/a/", "--children"]).expect(0),
        "2\n"
    );
    let rolled_up = ask(&server, ["count", "/", "--delimiter", "/"]);
    assert_eq!(rolled_up.expect(0), "4\n");
    let counted = ask(&server, ["count", "/none", "--json"]).json(0);
    assert_eq!(counted[0]["count"], 0);
    let at = ask(&server, ["count", "/a/", "--children", "--at", "1"]);
    assert_eq!(at.expect(0), "1\n");
    ask(&server, ["count", "/", "--delimiter", "ab"]).expect(2);

    let status = ask(&server, ["status"]).expect(0).to_owned();
    assert!(status.contains("slice range"), "{status}");
}

#[test]
fn bytes_that_are_not_text_are_taken_and_given_back() {
    let directory = TestDirectory::new("client-bytes");
    let server = start(&directory.path().join("data"));
    let (key, value) = (b"/\xff\x01", b"\xfe\n\xff");
    ask(&server, [word(b"put"), word(key), word(value)]).expect(0);
    let read = ask(&server, [word(b"get"), word(key)]);
    assert_eq!((read.code, read.out.as_slice()), (0, &b"\xfe\n\xff\n"[..]));
    assert_eq!(
        ask(&server, ["list", "/"]).expect(0),
        "/\\xff\\x01\t\\xfe\\n\\xff\n"
    );
    let documents = ask(&server, ["list", "/", "--json"]).json(0);
    assert_eq!(documents[0]["key"], json!({"hex": "2fff01"}));
    assert_eq!(documents[0]["value"], json!({"hex": "fe0aff"}));
}

#[test]
fn programs_get_one_document_a_line() {
    let directory = TestDirectory::new("client-json");
    let server = start(&directory.path().join("data"));
    let put = ask(&server, ["put", "/k", "v", "--json", "--previous"]).json(0);
    assert_eq!(
        put,
        [json!({"done": true, "revision": 1, "previous": null})]
    );
    let refused = ask(&server, ["put", "/k", "w", "--json", "--if-absent"]).json(1);
    assert_eq!(refused, [json!({"done": false, "revision": 1})]);
    let get = ask(&server, ["get", "/k", "--json"]).json(0);
    assert_eq!(
        (&get[0]["value"], &get[0]["mod_revision"]),
        (&json!("v"), &json!(1))
    );
    let absent = ask(&server, ["get", "/none", "--json"]).json(1);
    assert_eq!(absent[0]["value"], json!(null));
    let list = ask(&server, ["list", "/", "--json", "--keys-only"]).json(0);
    assert_eq!(list[0]["key"], "/k");
    assert_eq!(list[0].get("value"), None);
    let revisions = list[1]["revisions"].as_array().expect("revisions");
    assert!(
        revisions.iter().any(|read| read["revision"] == 1),
        "{list:?}"
    );
    assert_eq!(
        ask(&server, ["delete", "/k", "--json"]).json(0)[0]["done"],
        true
    );
    assert_eq!(
        ask(&server, ["delete", "/k", "--json"]).json(1)[0]["done"],
        false
    );

    let status = ask(&server, ["status", "--json"]).json(0).remove(0);
    assert_eq!(status["core_count"], CORES);
    assert_eq!(
        status["shard_map"]["shards"].as_array().map(Vec::len),
        Some(SHARDS)
    );
    let people = ask(&server, ["status"]);
    let lines = people
        .expect(0)
        .lines()
        .filter(|line| line.contains("127.0.0.1:"));
    assert_eq!(lines.count(), usize::from(CORES), "{people:?}");
    let cores = status["cores"].as_array().expect("cores");
    assert_eq!(cores.len(), usize::from(CORES));
    let sum = |of: &dyn Fn(&serde_json::Value) -> u64| cores.iter().map(of).sum::<u64>();
    let replicas = sum(&|core| core["replicas"].as_array().map_or(0, Vec::len) as u64);
    assert_eq!(replicas, SHARDS as u64);
    let writes = sum(&|core| core["log"]["durable_writes"].as_u64().expect("a number"));
    assert!(writes >= 2, "a put and a delete were written: {status}");
}

#[test]
fn nobody_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    for words in [
        &["status"][..],
        &["get", "/k"],
        &["put", "/k", "v"],
        &["list", "/"],
    ] {
        let answer = run(&address, words);
        assert_eq!(answer.expect(3), "");
        assert!(answer.err.contains(&address), "{answer:?}");
    }
}

#[test]
fn a_silent_server_is_unavailable_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    // The system takes the connection, and nobody ever answers.
    run(&address, ["put", "/k", "v", "--timeout", "200ms"]).expect(3);
}

#[test]
fn a_change_without_an_answer_has_an_unknown_outcome_and_a_read_has_not() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (words, code) in [
        (&["put", "/k", "v"][..], 4),
        (&["delete", "/k"], 4),
        (&["add", "/k", "1"], 4),
        (&["get", "/k"], 3),
        (&["list", "/"], 3),
        (&["import-tree", file], 4),
        (&["import-tree", file, "--verify-only"], 3),
    ] {
        let (address, served) = fake_server::hang_up();
        assert_eq!(run(&address, words).expect(code), "");
        served.join().expect("it was asked");
    }
}

#[test]
fn wrong_usage_has_a_code_of_its_own() {
    for words in [
        &["put", "/k"][..],
        &["get", ""],
        &["list"],
        &["frobnicate"],
        &["get", "/k", "--connect", "nonsense"],
        &["get", "/k", "--timeout", "5"],
        &["import-tree", "/does/not/exist"],
        &["dev", "--segment-bytes", "64M"],
    ] {
        let answer = run("127.0.0.1:1", words);
        assert_eq!(answer.expect(2), "");
        assert!(!answer.err.is_empty(), "{words:?}");
    }
    run("127.0.0.1:1", ["--help"]).expect(0);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let directory = TestDirectory::new("client-pipe");
    let server = start(&directory.path().join("data"));
    let value = "v".repeat(10_000);
    for key in 0..30 {
        ask(&server, ["put", &format!("/{key}"), &value]).expect(0);
    }
    let answer = run_unread(&address(&server), ["list", "/"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
}
