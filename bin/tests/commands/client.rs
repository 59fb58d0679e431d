//! Keys, values, conditions, lists, status and exit codes.

use std::net::TcpListener;

use serde_json::json;

use crate::fake_server;
use crate::harness::{CORES, Directory, Server, run, run_unread, word};

#[test]
fn keys_are_put_read_listed_and_deleted() {
    let directory = Directory::new("client-keys");
    let server = Server::start(&directory.path().join("data"));

    assert_eq!(server.run(["put", "/d/b", "one"]).last_line(0), "1");
    assert_eq!(server.run(["get", "/d/b"]).expect(0), "one\n");
    let replaced = server.run(["put", "/d/b", "two", "--previous"]);
    assert_eq!(replaced.expect(0), "one\n2\n");
    assert_eq!(server.run(["get", "/d/b", "--at", "1"]).expect(0), "one\n");

    let exists = server.run(["put", "/d/b", "x", "--if-absent"]);
    assert_eq!(exists.expect(1), "");
    assert!(exists.err.contains("exists, at revision 2"), "{exists:?}");
    let stale = server.run(["put", "/d/b", "x", "--if-revision", "1"]);
    assert_eq!(stale.expect(1), "");
    assert!(stale.err.contains("at revision 2, not 1"), "{stale:?}");
    let current = server.run(["put", "/d/b", "three", "--if-revision", "2"]);
    assert_eq!(current.last_line(0), "3");
    let absent = server.run(["put", "/d/none", "x", "--if-revision", "7"]);
    assert!(absent.err.contains("does not exist"), "{absent:?}");

    for key in ["/d/a", "/d/c", "/d/c/deep"] {
        server.run(["put", key, "v\t\n"]).expect(0);
    }
    let children = server.run(["list", "/d/", "--children"]);
    assert_eq!(
        children.expect(0),
        "/d/a\tv\\t\\n\n/d/b\tthree\n/d/c\tv\\t\\n\n"
    );
    let all = server.run(["list", "", "--keys-only"]);
    assert_eq!(all.expect(0), "/d/a\n/d/b\n/d/c\n/d/c/deep\n");
    let words = ["list", "/d/", "--keys-only", "--reverse", "--limit", "2"];
    assert_eq!(server.run(words).expect(0), "/d/c/deep\n/d/c\n");

    server.run(["delete", "/d/a"]).expect(0);
    assert_eq!(server.run(["delete", "/d/a"]).expect(1), "");
    assert_eq!(server.run(["get", "/d/a"]).expect(1), "");

    assert_eq!(server.run(["add", "/n", "5"]).last_line(0), "5");
    assert_eq!(server.run(["add", "/n", "-7"]).last_line(0), "-2");
    server.run(["add", "/d/b", "1"]).expect(1);
}

#[test]
fn bytes_that_are_not_text_are_taken_and_given_back() {
    let directory = Directory::new("client-bytes");
    let server = Server::start(&directory.path().join("data"));
    let (key, value) = (b"/\xff\x01", b"\xfe\n\xff");
    server.run([word(b"put"), word(key), word(value)]).expect(0);
    let read = server.run([word(b"get"), word(key)]);
    assert_eq!((read.code, read.out.as_slice()), (0, &b"\xfe\n\xff\n"[..]));
    assert_eq!(
        server.run(["list", "/"]).expect(0),
        "/\\xff\\x01\t\\xfe\\n\\xff\n"
    );
    let documents = server.run(["list", "/", "--json"]).json(0);
    assert_eq!(documents[0]["key"], json!({"hex": "2fff01"}));
    assert_eq!(documents[0]["value"], json!({"hex": "fe0aff"}));
}

#[test]
fn programs_get_one_document_a_line() {
    let directory = Directory::new("client-json");
    let server = Server::start(&directory.path().join("data"));
    let put = server
        .run(["put", "/k", "v", "--json", "--previous"])
        .json(0);
    assert_eq!(
        put,
        [json!({"done": true, "revision": 1, "previous": null})]
    );
    let refused = server
        .run(["put", "/k", "w", "--json", "--if-absent"])
        .json(1);
    assert_eq!(refused, [json!({"done": false, "revision": 1})]);
    let get = server.run(["get", "/k", "--json"]).json(0);
    assert_eq!(
        (&get[0]["value"], &get[0]["mod_revision"]),
        (&json!("v"), &json!(1))
    );
    let absent = server.run(["get", "/none", "--json"]).json(1);
    assert_eq!(absent[0]["value"], json!(null));
    let list = server.run(["list", "/", "--json", "--keys-only"]).json(0);
    assert_eq!(list[0]["key"], "/k");
    assert_eq!(list[0].get("value"), None);
    let revisions = list[1]["revisions"].as_array().expect("revisions");
    assert!(
        revisions.iter().any(|read| read["revision"] == 1),
        "{list:?}"
    );
    assert_eq!(
        server.run(["delete", "/k", "--json"]).json(0)[0]["done"],
        true
    );
    assert_eq!(
        server.run(["delete", "/k", "--json"]).json(1)[0]["done"],
        false
    );

    let status = server.run(["status", "--json"]).json(0).remove(0);
    assert_eq!(status["core_count"], CORES);
    assert_eq!(
        status["shard_map"]["shards"].as_array().map(Vec::len),
        Some(4)
    );
    let cores = status["cores"].as_array().expect("cores");
    assert_eq!(cores.len(), usize::from(CORES));
    let sum = |of: &dyn Fn(&serde_json::Value) -> u64| cores.iter().map(of).sum::<u64>();
    let replicas = sum(&|core| core["replicas"].as_array().map_or(0, Vec::len) as u64);
    assert_eq!(replicas, 4);
    let writes = sum(&|core| core["log"]["durable_writes"].as_u64().expect("a number"));
    assert!(writes >= 2, "a put and a delete were written: {status}");
}

#[test]
fn what_was_answered_survives_a_kill() {
    let directory = Directory::new("client-kill");
    let data = directory.path().join("data");
    let server = Server::start(&data);
    for key in 0..20 {
        server.run(["put", &format!("/{key}/k"), "v"]).expect(0);
    }
    server.kill();
    let server = Server::start(&data);
    for key in 0..20 {
        assert_eq!(server.run(["get", &format!("/{key}/k")]).expect(0), "v\n");
    }
    let status = server.run(["status"]);
    let cores = status
        .expect(0)
        .lines()
        .filter(|line| line.contains("127.0.0.1:"));
    assert_eq!(cores.count(), usize::from(CORES));
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
    for (words, code) in [
        (&["put", "/k", "v"][..], 4),
        (&["delete", "/k"], 4),
        (&["add", "/k", "1"], 4),
        (&["get", "/k"], 3),
        (&["list", "/"], 3),
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
    let directory = Directory::new("client-pipe");
    let server = Server::start(&directory.path().join("data"));
    let value = "v".repeat(10_000);
    for key in 0..30 {
        server.run(["put", &format!("/{key}"), &value]).expect(0);
    }
    let answer = run_unread(&server.address(), ["list", "/"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
}
