//! A node that is run as its configuration says: what it refuses, what it says, and what it leaves alone.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Store, TestDirectory, free_ports, metastore, stderr, stdout};

/// A small store of one core in `directory/data`, with its configuration beside it.
fn configure(directory: &Path, more: &str) -> PathBuf {
    let data = directory.join("data");
    let text = format!(
        "data = \"{}\"\ncores = 1\n[wal]\nsegment_bytes = \"8MiB\"\nbudget = \"64MiB\"\nflush = \"dsync\"\n[admin]\nlisten = \"off\"\n{more}",
        data.display()
    );
    let path = directory.join("metastore.toml");
    fs::write(&path, text).expect("it can be written");
    path
}

/// Runs a command that ends by itself: its exit code, its output and its errors.
fn run(arguments: &[&str], config: &Path) -> (Option<i32>, String, String) {
    let output = metastore()
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .expect("the program can be started");
    (output.status.code(), stdout(&output), stderr(&output))
}

#[test]
fn a_directory_without_a_store_is_refused_until_it_is_formatted() {
    let directory = TestDirectory::new("serve-format");
    let config = configure(directory.path(), "");
    let data = directory.path().join("data");
    let (code, _, errors) = run(&["serve"], &config);
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        errors.contains("holds no store") && errors.contains("metastore format"),
        "{errors}"
    );
    assert!(!data.exists(), "a start that is refused makes nothing");

    let (code, out, errors) = run(&["format"], &config);
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.contains("1 cores and 1 shards"), "{out}");
    let before = fs::read(data.join("node.toml")).expect("it is formatted");
    let (code, _, errors) = run(&["format"], &config);
    assert_eq!(code, Some(3));
    assert!(errors.contains("already"), "{errors}");
    assert_eq!(fs::read(data.join("node.toml")).expect("still"), before);

    let store = Store::serve(&config, free_ports(1), &[]);
    let output = store.run(&["put", "/hello", "world"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    store.signal("TERM");
    let (code, errors, _) = store.wait();
    assert_eq!(code, Some(0), "{errors}");
    let said: Vec<_> = errors.lines().collect();
    assert!(
        said[0].contains("INFO  serving") && said[0].contains("flush=dsync"),
        "{errors}"
    );
    assert!(
        said.last().is_some_and(|line| line.contains("stopped")),
        "{errors}"
    );
}

#[test]
fn an_empty_directory_is_formatted_when_told_so_and_another_is_left_alone() {
    let directory = TestDirectory::new("serve-if-empty");
    let config = configure(directory.path(), "");
    let port = free_ports(1);
    let store = Store::serve(&config, port, &["--format", "if-empty"]);
    assert_eq!(store.run(&["put", "/kept", "1"]).status.code(), Some(0));
    store.kill();
    // What is there is not formatted again.
    let store = Store::serve(&config, port, &["--format", "if-empty"]);
    assert_eq!(store.run(&["get", "/kept"]).status.code(), Some(0));
    store.kill();

    let strange = TestDirectory::new("serve-strange");
    let config = configure(strange.path(), "");
    let data = strange.path().join("data");
    fs::create_dir(&data).expect("it can be made");
    fs::write(data.join("thesis.txt"), "important").expect("it can be written");
    for arguments in [
        &["serve", "--format", "if-empty"][..],
        &["serve"],
        &["format"],
    ] {
        let (code, _, errors) = run(arguments, &config);
        assert_eq!(code, Some(3), "{arguments:?}: {errors}");
        assert!(errors.contains("not empty"), "{errors}");
    }
    assert_eq!(fs::read_dir(&data).expect("it can be read").count(), 1);
}

#[test]
fn what_is_wrong_is_named_before_anything_is_done() {
    let directory = TestDirectory::new("serve-wrong");
    let config = configure(
        directory.path(),
        "[limits]\nconnections = 0\n[logs]\nlevel = \"info\"\n",
    );
    let (code, _, errors) = run(&["serve", "--format", "if-empty"], &config);
    assert_eq!(code, Some(2));
    for expected in [
        "metastore.toml:10: limits.connections is 0: out of bounds; allowed: 1 to 1000000",
        "metastore.toml:12: unknown key logs.level",
    ] {
        assert!(errors.contains(expected), "{errors}");
    }
    let config = configure(directory.path(), "");
    for (arguments, expected) in [
        (
            &["--wal-budget", "1XiB"][..],
            "--wal-budget: wal.budget is \"1XiB\"",
        ),
        (
            &["--set", "raft.tick=5ms"],
            "--set: unknown key raft.tick; [raft] has tick_interval",
        ),
        (
            &["--set", "wal.segment_bytes=32MiB"],
            "contradict each other",
        ),
        (&["--cores", "100"], "100 cores need as many processors"),
    ] {
        let all = [&["serve", "--format", "if-empty"], arguments].concat();
        let (code, _, errors) = run(&all, &config);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }
    assert!(!directory.path().join("data").exists());
}

#[test]
fn what_was_fixed_by_formatting_is_not_changed_by_a_configuration() {
    let directory = TestDirectory::new("serve-fixed");
    let config = configure(directory.path(), "[history]\nmax_age = \"1m\"\n");
    let (code, _, errors) = run(&["format"], &config);
    assert_eq!(code, Some(0), "{errors}");
    for (more, expected) in [
        (
            "[history]\nmax_age = \"2m\"\n",
            "history.max_age in milliseconds is fixed",
        ),
        (
            "[history]\nmax_revisions = 5\n",
            "history.max_revisions is fixed",
        ),
    ] {
        let config = configure(directory.path(), more);
        let (code, _, errors) = run(&["serve"], &config);
        assert_eq!(code, Some(2));
        assert!(errors.contains(expected), "{errors}");
    }
    // Nobody needs to say it again.
    let config = configure(directory.path(), "");
    Store::serve(&config, free_ports(1), &[]).kill();
}

#[test]
fn settings_reach_the_node() {
    let directory = TestDirectory::new("serve-settings");
    let config = configure(directory.path(), "[limits]\ncommands_in_flight = 7\n");
    let arguments = ["--format", "if-empty", "--shards", "3"];
    let store = Store::serve(&config, free_ports(1), &arguments);
    let status = stdout(&store.run(&["status", "--json"]));
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["limits"]["commands_in_flight"], 7);
    assert_eq!(status["cores"][0]["shards"], 3);
    assert_eq!(status["cores"][0]["log"]["budget_bytes"], 64 << 20);
}

#[test]
fn messages_are_json_when_asked_for_and_a_halt_is_the_last_of_them() {
    let directory = TestDirectory::new("serve-json");
    let config = configure(
        directory.path(),
        "[log]\nformat = \"json\"\nlevel = \"debug\"\n",
    );
    let arguments = ["--format", "if-empty", "--fail-log-write", "12"];
    let store = Store::serve(&config, free_ports(1), &arguments);
    for number in 0..20 {
        if store.run(&["put", "/a", &number.to_string()]).status.code() != Some(0) {
            break;
        }
    }
    let (code, errors, _) = store.wait();
    assert_eq!(code, None, "a halted process ends by a signal");
    let messages: Vec<serde_json::Value> = errors
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let find = |words: &str| messages.iter().find(|message| message["message"] == words);
    assert_eq!(find("serving").expect("it serves")["shards"], 1);
    // At this level the raft groups are heard too.
    let raft = messages
        .iter()
        .find(|message| {
            message["message"]
                .as_str()
                .is_some_and(|words| words.starts_with("raft: "))
        })
        .expect("raft speaks");
    assert_eq!((&raft["core"], &raft["shard"]), (&0.into(), &0.into()));
    let last = messages.last().expect("a message");
    assert_eq!(
        (&last["message"], &last["level"]),
        (&"halted".into(), &"error".into())
    );
    let reason = last["reason"].as_str().expect("a reason");
    assert!(reason.contains("cannot be written"), "{reason}");
}

#[test]
fn the_effective_configuration_names_file_line_and_flag() {
    let directory = TestDirectory::new("serve-config");
    let config = configure(directory.path(), "");
    let (code, out, errors) = run(&["config", "--shards", "8"], &config);
    assert_eq!(code, Some(0), "{errors}");
    let line = |key: &str| {
        out.lines()
            .find(|line| line.starts_with(&format!("{key} =")))
            .unwrap_or_else(|| panic!("{key} is missing in {out}"))
            .to_owned()
    };
    assert!(line("wal.budget").ends_with("metastore.toml:5"), "{out}");
    assert!(
        line("wal.budget").starts_with("wal.budget = \"64MiB\" "),
        "{out}"
    );
    assert!(line("shards").ends_with("# --shards"), "{out}");
    assert!(line("raft.tick_interval").ends_with("# default"), "{out}");
    let (code, out, _) = run(&["config", "--json"], &config);
    assert_eq!(code, Some(0));
    let documents: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let budget = documents
        .iter()
        .find(|document| document["key"] == "wal.budget")
        .expect("every key is there");
    assert_eq!(
        (&budget["value"], &budget["line"]),
        (&"64MiB".into(), &5.into())
    );
}
