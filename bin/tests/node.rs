//! A node's life: what it needs to start, what it survives, how it stops.

mod harness;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use metastore_net::blocking::{Client, ClientError};
use metastore_net::{AdminRequest, ErrorCode, NodeEntry, NodeStanding, ReplicaHome, SpareVoter};
use metastore_statemachine::NamespaceId;

use harness::{Store, TestDirectory, free_ports, refused, stderr, stdout};

#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    let data = TestDirectory::new("kill");
    let store = Store::start(data.path(), 1, &[]);
    assert_eq!(stdout(&store.run(&["put", "/hello", "world"])).trim(), "1");
    store.kill();
    let store = Store::start(data.path(), 1, &[]);
    let output = store.run(&["get", "/hello"]);
    assert_eq!(stdout(&output).lines().last(), Some("world"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(store.run(&["get", "/absent"]).status.code(), Some(1));
}

#[test]
fn a_killed_store_can_be_started_on_its_port_at_once() {
    let data = TestDirectory::new("same-port");
    let port = free_ports(1);
    for round in 0..3 {
        let store = Store::start_at(port, data.path(), 1, &[]);
        let output = store.run(&["put", "/round", &round.to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        store.kill();
    }
}

#[test]
fn any_core_takes_any_request() {
    let data = TestDirectory::new("cores");
    let store = Store::start(data.path(), 3, &["--shards", "7"]);
    for number in 0..40 {
        let key = format!("/directory-{number}/file");
        let output = store.run(&["put", &key, &number.to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    for core in 0..3 {
        let address = format!("127.0.0.1:{}", store.port + core);
        let list = harness::metastore()
            .args(["list", "--connect", &address, "/directory-"])
            .output()
            .expect("the program can be started");
        let lines: Vec<String> = stdout(&list).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 40, "core {core} merges all shards: {lines:?}");
        assert!(lines.is_sorted(), "by key: {lines:?}");
    }
    store.kill();
    let store = Store::start(data.path(), 3, &[]);
    assert_eq!(
        stdout(&store.run(&["get", "/directory-39/file"]))
            .lines()
            .last(),
        Some("39")
    );
}

#[test]
fn a_node_that_is_alone_refuses_members_elsewhere_and_lives_on() {
    let data = TestDirectory::new("alone");
    let store = Store::start(data.path(), 1, &[]);
    let address = format!("127.0.0.1:{}", store.port);
    let mut client = Client::connect(address, Duration::from_secs(5)).expect("it serves");
    let home = ReplicaHome {
        node_id: 9,
        core_index: 0,
    };
    let (shard, replica) = (0, 77);
    for request in [
        AdminRequest::AddLearner {
            shard,
            replica,
            home,
        },
        AdminRequest::ChangeVoters {
            shard,
            promoted: Some(replica),
            removed: None,
            spare: SpareVoter::GivenUp,
        },
        AdminRequest::CreateReplica { shard, replica },
        // The only one that there is.
        AdminRequest::RemovedReplica { shard, replica: 1 },
        AdminRequest::AddNode(NodeEntry {
            node_id: 9,
            cores: 1,
            clients: "127.0.0.1:1",
            peers: "127.0.0.1:2",
            data_id: 0,
            standing: NodeStanding::Member,
        }),
        AdminRequest::ForgetNode { node_id: 9 },
    ] {
        let refused = client.admin(&request);
        assert!(
            matches!(&refused, Err(ClientError::Server(error)) if error.code == ErrorCode::BadRequest),
            "{request:?}: {refused:?}"
        );
    }
    // It would speak to them within a few ticks.
    std::thread::sleep(Duration::from_millis(500));
    let answer = client.put(NamespaceId::DEFAULT, b"/hello", b"world");
    answer.expect("it serves as before");
    let members = client.admin(&AdminRequest::Members { shard });
    assert_eq!(members.expect("it answers").members.len(), 1);
}

#[test]
fn a_signal_stops_the_store_within_five_seconds_and_leaves_a_mark() {
    for signal in ["TERM", "INT"] {
        let data = TestDirectory::new("stop");
        let store = Store::start(data.path(), 2, &[]);
        store.run(&["put", "/a", "1"]);
        store.signal(signal);
        let (code, errors, took) = store.wait();
        assert_eq!(code, Some(0), "{errors}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        let verified = harness::metastore()
            .args(["wal", "verify", "--data"])
            .arg(data.path())
            .output()
            .expect("the program can be started");
        assert_eq!(verified.status.code(), Some(0), "{}", stderr(&verified));
    }
}

#[test]
fn a_failed_log_write_halts_the_process_and_is_not_acknowledged() {
    let data = TestDirectory::new("halt");
    let store = Store::start(data.path(), 1, &[]);
    store.run(&["put", "/kept", "1"]);
    store.kill();
    // The start itself writes a few records; the fault hits one of the puts behind them.
    let store = Store::start(data.path(), 1, &["--fail-log-write", "10"]);
    let mut acknowledged = 0;
    for number in 0..20 {
        let output = store.run(&["put", "/lost", &number.to_string()]);
        match output.status.code() {
            Some(0) => acknowledged = number,
            code => {
                assert!(matches!(code, Some(3 | 4)), "{code:?}: {}", stderr(&output));
                break;
            }
        }
        assert!(number < 19, "the fault never came");
    }
    let (code, errors, _) = store.wait();
    assert_eq!(code, None, "a halted process ends by a signal");
    assert!(
        errors.contains("halted") && errors.contains("cannot be written"),
        "{errors}"
    );
    let store = Store::start(data.path(), 1, &[]);
    assert_eq!(
        stdout(&store.run(&["get", "/kept"])).lines().last(),
        Some("1")
    );
    let value = stdout(&store.run(&["get", "/lost"]));
    assert_eq!(
        value.lines().last(),
        Some(acknowledged.to_string().as_str())
    );
}

/// The core waits for the writes of a client that is alone in another way than for others.
#[test]
fn a_failed_write_of_a_lone_client_halts_the_process_too() {
    for poll_us in ["0", "10000"] {
        let data = TestDirectory::new("halt-alone");
        Store::start(data.path(), 1, &[]).kill();
        let poll = format!("wal.poll_us={poll_us}");
        let faulty = ["--fail-log-write", "40", "--set", &poll];
        let store = Store::start(data.path(), 1, &faulty);
        let address = format!("127.0.0.1:{}", store.port);
        let mut client =
            Client::connect(address.as_str(), Duration::from_secs(30)).expect("it serves");
        let mut acknowledged = None;
        for number in 0..100_u32 {
            let value = number.to_string();
            match client.put(NamespaceId::DEFAULT, b"/lost", value.as_bytes()) {
                Ok(_) => acknowledged = Some(value),
                Err(_halted) => break,
            }
        }
        let acknowledged = acknowledged.expect("the fault comes later");
        let (code, errors, _) = store.wait();
        assert_eq!(code, None, "a halted process ends by a signal");
        assert!(errors.contains("cannot be written"), "{errors}");
        let store = Store::start(data.path(), 1, &[]);
        let value = stdout(&store.run(&["get", "/lost"]));
        assert_eq!(value.lines().last(), Some(acknowledged.as_str()));
    }
}

#[test]
fn a_taken_port_is_named() {
    let data = TestDirectory::new("port");
    let port = free_ports(1);
    let _holder = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it was free");
    let (code, errors) = refused(data.path(), port, &["--cores", "1"]);
    assert_eq!(code, Some(3));
    assert!(
        errors.contains(&format!("127.0.0.1:{port}")) && errors.contains("--port"),
        "{errors}"
    );
}

#[test]
fn data_in_use_is_named() {
    let data = TestDirectory::new("lock");
    let _store = Store::start(data.path(), 1, &[]);
    let (code, errors) = refused(data.path(), free_ports(1), &[]);
    assert_eq!(code, Some(3));
    assert!(
        errors.contains("lock") && errors.contains("another metastore process"),
        "{errors}"
    );
}

#[test]
fn another_core_count_is_refused_with_the_right_one() {
    let data = TestDirectory::new("core-count");
    Store::start(data.path(), 2, &[]).kill();
    let (code, errors) = refused(data.path(), free_ports(1), &["--cores", "1"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("--cores 2"), "{errors}");
}

#[test]
fn options_that_cannot_work_leave_nothing_behind() {
    let parent = TestDirectory::new("layout");
    let data = parent.path().join("data");
    for arguments in [
        &["--segment-bytes", "1MiB"][..],
        &["--wal-budget", "64MiB"],
        &["--shards", "100000"],
    ] {
        let (code, errors) = refused(&data, free_ports(1), arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {errors}");
        assert!(!data.exists(), "{arguments:?} was refused too late");
    }
    let (code, errors) = refused(&data, 65_535, &["--cores", "2"]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(!data.exists(), "the ports were refused too late");
    Store::start(&data, 1, &[]).kill();
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let data = TestDirectory::new("strange");
    fs::write(data.path().join("thesis.txt"), "important").expect("it can be written");
    let (code, errors) = refused(data.path(), free_ports(1), &[]);
    assert_eq!(code, Some(3));
    assert!(errors.contains("not empty"), "{errors}");
    let names: Vec<_> = fs::read_dir(data.path()).expect("it can be read").collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn a_newer_format_is_refused() {
    let data = TestDirectory::new("newer");
    Store::start(data.path(), 1, &[]).kill();
    let path = data.path().join("node.toml");
    let text = fs::read_to_string(&path).expect("it can be read");
    let line = text.lines().find(|line| line.starts_with("format = "));
    let newer = text.replace(line.expect("a format"), "format = 99");
    fs::write(&path, newer).expect("it can be written");
    let (code, errors) = refused(data.path(), free_ports(1), &[]);
    assert_eq!(code, Some(3));
    assert!(
        errors.contains("format 99") && errors.contains("node.toml"),
        "{errors}"
    );
}

#[test]
fn the_log_of_another_cluster_is_refused() {
    let (ours, theirs) = (TestDirectory::new("ours"), TestDirectory::new("theirs"));
    Store::start(ours.path(), 1, &[]).kill();
    Store::start(theirs.path(), 1, &[]).kill();
    fs::remove_dir_all(ours.path().join("core-0")).expect("it exists");
    fs::rename(theirs.path().join("core-0"), ours.path().join("core-0")).expect("same disk");
    let (code, errors) = refused(ours.path(), free_ports(1), &[]);
    assert_eq!(code, Some(3));
    assert!(
        errors.contains("cluster") && errors.contains("wal verify"),
        "{errors}"
    );
}

#[test]
fn a_lost_log_is_not_mistaken_for_a_new_one() {
    let data = TestDirectory::new("lost-log");
    Store::start(data.path(), 1, &[]).kill();
    for entry in fs::read_dir(data.path().join("core-0")).expect("it exists") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            fs::remove_file(path).expect("it exists");
        }
    }
    let (code, errors) = refused(data.path(), free_ports(1), &[]);
    assert_eq!(code, Some(3), "{errors}");
}

#[test]
fn processors_that_are_not_ours_are_refused() {
    let data = TestDirectory::new("cpus");
    let (code, errors) = refused(data.path(), free_ports(1), &["--cpus", "4095"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("4095"), "{errors}");
    let (code, errors) = refused(data.path(), free_ports(1), &["--cpus", "zero"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("0-3,8"), "{errors}");
}

#[test]
fn too_little_locked_memory_is_named() {
    // Only an unprivileged process is held to the limit; root gives the privilege up for the child.
    let data = TestDirectory::new("memlock");
    let script = format!(
        "ulimit -l 64
         if [ \"$(id -u)\" = 0 ]; then unlock='setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock'; fi
         exec $unlock {} dev --data {} --port {} --cores 1",
        env!("CARGO_BIN_EXE_metastore"),
        data.path().display(),
        free_ports(1),
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .output()
        .expect("bash can be started");
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("memory"), "{}", stderr(&output));
}

#[test]
fn a_log_of_more_files_than_may_be_open_is_refused_at_the_start() {
    let data = TestDirectory::new("open-files");
    let start = |budget: &str| {
        let script = format!(
            "ulimit -n 500; exec {} dev --data {} --port {} --cores 1 --segment-bytes 8MiB --wal-budget {budget}",
            env!("CARGO_BIN_EXE_metastore"),
            data.path().display(),
            free_ports(1),
        );
        std::process::Command::new("bash")
            .args(["-c", &script])
            .output()
            .expect("bash can be started")
    };
    let output = start("8GiB");
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("RLIMIT_NOFILE"),
        "{}",
        stderr(&output)
    );
    let output = start("16TiB");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--wal-budget"),
        "{}",
        stderr(&output)
    );
    // A budget is not part of the data: the same directory starts with a smaller one.
    Store::start(data.path(), 1, &[]).kill();
}

#[test]
fn a_change_whose_answer_cannot_be_written_is_not_called_undone() {
    let data = TestDirectory::new("full-output");
    let store = Store::start(data.path(), 1, &[]);
    let connect = format!("127.0.0.1:{}", store.port);
    let full = || fs::File::create("/dev/full").expect("Linux has it");
    let exit = |arguments: &[&str]| {
        let mut command = harness::metastore();
        command
            .args(arguments)
            .args(["--connect", &connect])
            .stdout(full());
        command.status().expect("the program can be started").code()
    };
    assert_eq!(exit(&["put", "/a", "1"]), Some(4));
    assert_eq!(exit(&["get", "/a"]), Some(3));
    let output = store.run(&["get", "/a"]);
    assert_eq!(stdout(&output).lines().last(), Some("1"));
}

#[test]
fn a_negative_answer_survives_a_closed_pipe() {
    let data = TestDirectory::new("closed-pipe");
    let store = Store::start(data.path(), 1, &[]);
    store.run(&["put", "/lock", "mine"]);
    let script = format!(
        "set -o pipefail; {} put --json --if-absent /lock theirs --connect 127.0.0.1:{} | true",
        env!("CARGO_BIN_EXE_metastore"),
        store.port,
    );
    let status = std::process::Command::new("bash")
        .args(["-c", &script])
        .status()
        .expect("bash can be started");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn every_durable_write_in_the_status_was_one_of_the_ring() {
    let data = TestDirectory::new("counts");
    let store = Store::start(data.path(), 1, &[]);
    for number in 0..20 {
        store.run(&["put", "/a", &number.to_string()]);
    }
    // The mark behind the last put may be on its way at the first look.
    let counts = (0..100).map(|_| {
        let text = stdout(&store.run(&["status", "--json"]));
        let status: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let core = &status["cores"][0];
        let number = |value: &serde_json::Value| value.as_u64().expect("a number");
        let log = &core["log"];
        let written = number(&log["durable_writes"]) + number(&log["marks"]);
        assert!(number(&log["durable_writes"]) >= 20, "{text}");
        (written, number(&core["counters"]["ring_writes"]))
    });
    let mut last = (0, 0);
    for (written, submitted) in counts {
        last = (written, submitted);
        if written == submitted {
            return;
        }
    }
    panic!(
        "{} writes became durable, {} were submitted",
        last.0, last.1
    );
}
