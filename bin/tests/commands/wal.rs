//! `wal inspect` and `wal verify`, on real logs, whole and damaged.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use metastore_wal::format::{RECORD_HEADER_BYTES, SUB_HEADER_BYTES};
use serde_json::Value;

use crate::harness::{TestDirectory, free_ports, refused};
use crate::store::{Answer, CORES, ask, run, start};

const NO_SERVER: &str = "127.0.0.1:1";

fn wal(words: &[&str], data: &Path) -> Answer {
    let data = data.to_str().expect("text");
    run(
        NO_SERVER,
        ["wal"].iter().chain(words).chain(&["--data", data]),
    )
}

/// A store that was killed after these keys were put.
fn killed_after(data: &Path, keys: &[&str]) {
    let server = start(data);
    for key in keys {
        ask(&server, ["put", key, "value"]).expect(0);
    }
    server.kill();
}

/// The records of the log with parts, oldest first.
fn records(data: &Path) -> Vec<Value> {
    let documents = wal(&["inspect", "--json"], data).json(0);
    let records = documents.into_iter().filter_map(|document| {
        let core = document["core"].clone();
        let mut record = document.get("record")?.clone();
        record["core"] = core;
        record["parts"]
            .as_array()
            .is_some_and(|parts| !parts.is_empty())
            .then_some(record)
    });
    records.collect()
}

fn number(record: &Value, field: &str) -> u64 {
    record[field].as_u64().expect("a number")
}

fn segment(data: &Path, record: &Value) -> PathBuf {
    let (core, file) = (number(record, "core"), number(record, "file"));
    data.join(format!("core-{core}/log-{file}.seg"))
}

/// Changes one byte of what a record holds.
fn damage(data: &Path, record: &Value) {
    let body = RECORD_HEADER_BYTES + SUB_HEADER_BYTES;
    let offset = number(record, "offset") + body as u64;
    let path = segment(data, record);
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("it is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)
        .expect("it is long enough");
    file.write_all_at(&[byte[0] ^ 1], offset)
        .expect("it can be written");
}

#[test]
fn the_log_of_a_running_store_is_left_alone() {
    let directory = TestDirectory::new("wal-running");
    let data = directory.path().join("data");
    let _server = start(&data);
    for command in ["verify", "inspect"] {
        let answer = wal(&[command], &data);
        assert_eq!(answer.expect(3), "");
        assert!(answer.err.contains("a store is running"), "{answer:?}");
    }
}

#[test]
fn the_log_of_a_killed_store_is_shown_and_starts() {
    let directory = TestDirectory::new("wal-killed");
    let data = directory.path().join("data");
    killed_after(&data, &["/a/1", "/b/1", "/c/1"]);
    let text = wal(&["verify"], &data);
    assert!(text.expect(0).contains("core 0: starts"), "{text:?}");
    assert!(text.expect(0).contains("core 1: starts"), "{text:?}");
    let documents = wal(&["verify", "--json"], &data).json(0);
    assert_eq!(documents.last().expect("a verdict")["starts"], true);

    let documents = wal(&["inspect", "--json"], &data).json(0);
    let summaries: Vec<&Value> = documents
        .iter()
        .filter(|document| document.get("segments").is_some())
        .collect();
    assert_eq!(summaries.len(), 2);
    for summary in &summaries {
        let segments = summary["segments"].as_array().expect("segments");
        assert!(
            segments.iter().any(|segment| segment["state"] == "live"),
            "{summary}"
        );
        assert_eq!(summary["replicas"].as_array().map(Vec::len), Some(2));
        assert_eq!(summary["marks"].as_array().map(Vec::len), Some(2));
    }
    // The bootstrap of four shards, and three puts.
    let entries = records(&data);
    assert!(entries.len() >= 5, "{entries:?}");
    let people = wal(&["inspect", "--core", "1", "--limit", "1"], &data);
    assert_eq!(
        people.expect(0).matches("\n    append").count(),
        1,
        "{people:?}"
    );
    assert!(!people.expect(0).contains("core 0:"), "{people:?}");
    // Looking has changed nothing.
    let server = start(&data);
    assert_eq!(ask(&server, ["get", "/a/1"]).expect(0), "value\n");
}

#[test]
fn damage_is_named_with_file_offset_and_shards_and_the_store_does_not_start() {
    let directory = TestDirectory::new("wal-damaged");
    let data = directory.path().join("data");
    killed_after(&data, &["/a/1", "/a/2", "/a/3"]);
    // A record before the last is covered by the watermark of the one behind it.
    let records = records(&data);
    let is_put = |record: &&Value| record["parts"][0]["first_entry"].as_u64() > Some(2);
    let record = records.iter().find(is_put).expect("a put");
    damage(&data, record);

    let path = segment(&data, record).to_str().expect("text").to_owned();
    let shard = record["parts"][0]["shard"].clone();
    let answer = wal(&["verify"], &data);
    let text = answer.expect(1);
    let place = format!("{path} at offset {}", number(record, "offset"));
    assert!(text.contains(&place), "{text}");
    assert!(text.contains(&format!("concerns shards {shard}")), "{text}");
    assert!(text.contains("Nothing has been changed"), "{text}");
    let documents = wal(&["verify", "--json"], &data).json(1);
    let core = &documents[usize::try_from(number(record, "core")).expect("small")];
    assert_eq!(core["verdict"], "damaged");
    assert_eq!(core["findings"][0]["file"], path.as_str());
    assert_eq!(core["findings"][0]["offset"], record["offset"]);
    assert_eq!(core["findings"][0]["shards"][0], shard);
    assert_eq!(documents.last().expect("a verdict")["starts"], false);
    assert_eq!(wal(&["inspect"], &data).code, 1);

    let (code, refusal) = refused(&data, free_ports(CORES), &[]);
    assert_eq!(code, Some(3), "{refusal}");
    assert!(refusal.contains("metastore wal verify"), "{refusal}");
}

#[test]
fn a_write_that_did_not_complete_is_cut_off_and_said() {
    let directory = TestDirectory::new("wal-torn");
    let data = directory.path().join("data");
    let server = start(&data);
    ask(&server, ["put", "/a/1", "first"]).expect(0);
    let marks = |core: u16| data.join(format!("core-{core}/mark"));
    let before = [0, 1].map(|core| fs::read(marks(core)).expect("it is there"));
    ask(&server, ["put", "/a/1", "second"]).expect(0);
    server.kill();
    // As if the store had died during the last write: it is not whole, and no mark knows of it.
    let records = records(&data);
    let is_put = |record: &&Value| record["parts"][0]["first_entry"].as_u64() > Some(2);
    let last = records.iter().rfind(is_put).expect("a put");
    damage(&data, last);
    for (core, content) in (0..).zip(before) {
        fs::write(marks(core), content).expect("it can be written");
    }

    let answer = wal(&["verify"], &data);
    let place = format!(
        "{} from offset {}",
        segment(&data, last).display(),
        last["offset"]
    );
    assert!(answer.expect(0).contains(&place), "{answer:?}");
    assert!(
        answer.expect(0).contains("never acknowledged"),
        "{answer:?}"
    );
    let documents = wal(&["verify", "--json"], &data).json(0);
    let torn = documents
        .iter()
        .find(|document| document["verdict"] == "torn-tail");
    let torn = torn.expect("one core was cut");
    assert_eq!(torn["torn"]["offset"], last["offset"]);
    assert_eq!(torn["torn"]["parts"][0]["shard"], last["parts"][0]["shard"]);
    let server = start(&data);
    assert_eq!(ask(&server, ["get", "/a/1"]).expect(0), "first\n");
}

#[test]
fn a_log_that_is_gone_is_missed() {
    let directory = TestDirectory::new("wal-gone");
    let data = directory.path().join("data");
    killed_after(&data, &["/a/1"]);
    fs::remove_file(data.join("core-0/mark")).expect("it is there");
    let answer = wal(&["verify"], &data);
    assert!(
        answer.expect(1).contains("core 0: DOES NOT START"),
        "{answer:?}"
    );
    fs::remove_dir_all(data.join("core-0")).expect("it is there");
    assert!(wal(&["verify"], &data).expect(1).contains("core-0"));
    assert_eq!(wal(&["verify"], directory.path()).code, 2);
}
