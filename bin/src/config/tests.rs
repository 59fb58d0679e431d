use std::fs;
use std::path::PathBuf;

use metastore_engine::{Settings, TickTiming};
use metastore_net::server::ServerOptions;
use metastore_wal::LogOptions;

use super::*;
use crate::node::{FormatPolicy, Oversubscription};
use crate::test_directory::TestDirectory;

fn flag(name: &str, text: &str) -> FlagValue {
    FlagValue {
        name: name.to_owned(),
        text: text.to_owned(),
        flag: format!("--set {name}={text}"),
    }
}

/// Loads a file of this text; its errors without the directory's name.
fn load(text: &str, flags: &[(&str, &str)]) -> Result<Configuration, String> {
    let directory = TestDirectory::new("config");
    let path = directory.path().join("metastore.toml");
    fs::write(&path, text).expect("it can be written");
    let sources = Sources {
        dev: &[],
        file: Some(&path),
        flags: flags.iter().map(|(name, text)| flag(name, text)).collect(),
    };
    Configuration::load(&sources)
        .map_err(|errors| errors.to_string().replace(&*path.to_string_lossy(), "F"))
}

fn refusal(text: &str) -> String {
    load(text, &[]).expect_err("it is refused")
}

#[test]
fn without_sources_there_are_the_defaults_of_the_code() {
    let configuration = Configuration::load(&Sources::default()).expect("defaults are allowed");
    let options = configuration.node_options(Oversubscription::Refuse);
    assert_eq!(options.settings, Settings::default());
    assert_eq!(options.server, ServerOptions::default());
    let identity = metastore_engine::Identity {
        cluster: metastore_engine::ClusterId(0),
        node: metastore_engine::NodeId(0),
        core: metastore_engine::CoreId(0),
    };
    let log = LogOptions::new(identity, metastore_wal::SealKey(0));
    assert_eq!(options.wal.budget_bytes, log.budget_bytes);
    assert_eq!(options.wal.spare_segments, log.spare_segments);
    assert_eq!(options.wal.writes_in_flight_max, log.writes_in_flight_max);
    assert_eq!(
        configuration.number(Key::WalSegmentBytes),
        log.segment_bytes
    );
    assert_eq!(
        configuration.number(Key::WalMaxRecordBytes),
        log.record_bytes_max as u64
    );
    let parameters = metastore_statemachine::Parameters::default();
    assert_eq!(
        configuration.number(Key::HistoryMaxRevisions),
        parameters.history_revisions_max
    );
    assert_eq!(
        configuration.number(Key::HistoryMaxAge),
        parameters.history_age_ms_max
    );
    assert_eq!(
        configuration.number(Key::HistoryMaxBytes),
        parameters.history_bytes_max
    );
    // What nobody asked for is not demanded of data that exists.
    assert_eq!((options.cores, options.wal.segment_bytes), (None, None));
    assert_eq!(options.history, crate::node::HistoryOptions::default());
    assert_eq!(options.format, FormatPolicy::Never);
}

#[test]
fn the_example_in_the_repository_is_complete_and_holds_the_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/metastore.toml");
    if std::env::var_os("METASTORE_REWRITE").is_some() {
        fs::write(path, example()).expect("the example can be written");
    }
    let text = fs::read_to_string(path).expect("the example can be read");
    assert_eq!(
        text,
        example(),
        "run this test with METASTORE_REWRITE=1 to write the example anew"
    );
    // As it is, it sets nothing.
    let defaults = Configuration::load(&Sources::default()).expect("defaults are allowed");
    assert_eq!(load(&text, &[]).as_ref(), Ok(&defaults));
    // With every sign taken off, it sets every key to its default.
    let is_value = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let lines: Vec<_> = text
        .lines()
        .map(|line| if is_value(&line) { &line[1..] } else { line })
        .collect();
    let all = load(&lines.join("\n"), &[]).expect("every default is allowed");
    for spec in &KEYS {
        assert!(all.is_given(spec.key), "{} is missing", spec.name);
        assert_eq!(
            all.value(spec.key),
            defaults.value(spec.key),
            "{}",
            spec.name
        );
    }
}

#[test]
fn a_flag_is_stronger_than_the_file_and_both_are_remembered() {
    let text = "data = \"/srv/store\"\n[wal]\nbudget = \"16GiB\"\nspare_segments = 2\n";
    let configuration = load(text, &[("wal.budget", "1GiB")]).expect("it is allowed");
    assert_eq!(*configuration.value(Key::WalBudget), Value::Bytes(1 << 30));
    assert_eq!(
        configuration.get(Key::WalBudget).origin,
        Origin::Flag("--set wal.budget=1GiB".to_owned())
    );
    assert_eq!(
        *configuration.value(Key::WalSpareSegments),
        Value::Number(2)
    );
    let Origin::File { line, .. } = &configuration.get(Key::WalSpareSegments).origin else {
        panic!("it is from the file");
    };
    assert_eq!(*line, 4);
    assert_eq!(configuration.get(Key::Cores).origin, Origin::Default);
}

#[test]
fn whatever_is_wrong_is_named_with_line_key_and_what_is_allowed() {
    for (text, expected) in [
        (
            "[wal]\nbudgett = \"1GiB\"\n",
            "F:2: unknown key wal.budgett; [wal] has segment_bytes",
        ),
        (
            "port = 1\n",
            "F:1: unknown key port; there are data, format, cores",
        ),
        ("[walls]\n", "F:1: unknown key walls.; there are"),
        (
            "[wal]\nbudget = \"8Gib\"\n",
            "F:2: wal.budget is \"8Gib\": unknown unit \"Gib\"",
        ),
        ("[wal]\nbudget = \"8GiX\"\n", "allowed: 32MiB to 1TiB"),
        (
            "[wal]\nbudget = 8\n",
            "F:2: wal.budget is 8: a number without a unit",
        ),
        (
            "[wal]\nbudget = \"1MiB\"\n",
            "out of bounds; allowed: 32MiB to 1TiB",
        ),
        (
            "[raft]\ntick_interval = \"50\"\n",
            "the unit is missing: one of ms, s, m, h",
        ),
        (
            "[raft]\ntick_interval = \"50MiB\"\n",
            "unknown unit \"MiB\"",
        ),
        (
            "[raft]\nelection_tick = \"10\"\n",
            "F:2: raft.election_tick is \"10\": text where a whole number is needed",
        ),
        (
            "[raft]\nelection_tick = -1\n",
            "F:2: raft.election_tick is -1",
        ),
        ("[raft]\nelection_tick = 1.5\n", "value of type float"),
        (
            "[batch]\nmax_commands = 0\n",
            "batch.max_commands is 0: out of bounds; allowed: 1 to 65536",
        ),
        (
            "[batch]\nmax_commands = 99999999999999999999999\n",
            "batch.max_commands is 999",
        ),
        ("cores = true\n", "value of type boolean"),
        ("data = \"\"\n", "data is \"\": empty; allowed: a path"),
        (
            "[log]\nlevel = \"loud\"\n",
            "allowed: error, warn, info, debug",
        ),
        (
            "[admin]\nlisten = \"localhost\"\n",
            "allowed: an address with a port",
        ),
        (
            "[batch]\nmax_delay = \"1ms\"\n",
            "F:2: batch.max_delay cannot be set: a batch waits for the device",
        ),
        (
            "[raft]\nadaptive_timing = true\n",
            "raft.adaptive_timing is true: a value of type boolean, which no key takes; allowed: on, or off",
        ),
        (
            "[raft]\npre_vote = \"off\"\n",
            "raft.pre_vote cannot be set: it is always on",
        ),
        (
            "[peers]\na = 1\n",
            "F:2: unknown key peers.a; [peers] has address, port",
        ),
        (
            "[peers]\naddress = \"db1\"\n",
            "F:2: peers.address is \"db1\": not an address; allowed: an address",
        ),
        (
            "[peers]\nport = 0\n",
            "peers.port is 0: out of bounds; allowed: 1 to 65535, or auto",
        ),
        ("a = \n", "F:1: "),
        ("[wal]\nbudget = \"1GiB\"\nbudget = \"2GiB\"\n", "F:3: "),
    ] {
        let found = refusal(text);
        assert!(
            found.contains(expected),
            "{text:?} gives {found:?}, not {expected:?}"
        );
    }
    let missing = PathBuf::from("/nowhere/metastore.toml");
    let sources = Sources {
        file: Some(&missing),
        ..Sources::default()
    };
    let error = Configuration::load(&sources).expect_err("there is no file");
    assert!(
        error.to_string().contains("/nowhere/metastore.toml"),
        "{error}"
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = "[wal]\nbudget = 1\nnothing = 2\n[raft]\nelection_tick = 0\n";
    let found = refusal(text);
    assert_eq!(found.lines().count(), 3, "{found}");
}

#[test]
fn contradictions_name_both_values_and_where_they_are_from() {
    for (text, first, second) in [
        (
            "[raft]\nheartbeat_tick = 10\n",
            "raft.heartbeat_tick = 10 (F:2)",
            "raft.election_tick = 10 (default)",
        ),
        (
            "[limits]\ndeadline_default = \"2m\"\n",
            "limits.deadline_default = 2m (F:2)",
            "limits.deadline_max = 1m (default)",
        ),
        (
            "[limits]\nranges = 8\n",
            "limits.ranges_per_connection = 32",
            "limits.ranges = 8",
        ),
        (
            "[limits]\noutbound_bytes = \"1GiB\"\n",
            "limits.outbound_bytes = 1GiB",
            "limits.outbound_bytes_close = 64MiB",
        ),
        (
            "[wal]\nmax_record_bytes = \"64MiB\"\n",
            "wal.max_record_bytes = 64MiB",
            "wal.segment_bytes = 64MiB",
        ),
        (
            "[wal]\nsegment_bytes = \"4GiB\"\n",
            "wal.segment_bytes = 4GiB",
            "wal.budget = 8GiB",
        ),
    ] {
        let found = refusal(text);
        assert!(
            found.contains(first) && found.contains(second) && found.contains("contradict"),
            "{text:?} gives {found:?}"
        );
    }
    assert!(load("[admin]\nlisten = \"off\"\n", &[]).is_ok());
}

#[test]
fn what_can_be_turned_off_can_be_turned_off() {
    let configuration = load(
        "[compress]\ncodec = \"off\"\n[admin]\nlisten = \"off\"\n",
        &[],
    )
    .expect("it is allowed");
    let options = configuration.node_options(Oversubscription::Refuse);
    assert_eq!(options.settings.batch.compress_bytes_min, None);
    assert_eq!(options.admin, None);
}

#[test]
fn what_nobody_said_about_sockets_is_left_to_the_data() {
    let options = |text| {
        let configuration = load(text, &[]).expect("it is allowed");
        configuration.node_options(Oversubscription::Refuse)
    };
    let usual = "127.0.0.1:7400".parse().expect("an address");
    let silent = options("");
    assert_eq!((silent.listen.address, silent.listen.port), (None, None));
    assert_eq!(silent.listen.usual, usual);
    assert_eq!((silent.peers.address, silent.peers.port), (None, None));
    // Whoever writes the default down means it.
    let said = options(
        "[listen]\naddress = \"127.0.0.1\"\nport = 7400\n[peers]\naddress = \"::1\"\nport = 7500\n",
    );
    assert_eq!(said.listen.address, Some(usual.ip()));
    assert_eq!(said.listen.port, Some(7400));
    assert_eq!(said.peers.address, "::1".parse().ok());
    assert_eq!(said.peers.port, Some(7500));
}

#[test]
fn ticks_are_measured_unless_that_is_turned_off() {
    let timing = |text| {
        let configuration = load(text, &[]).expect("it is allowed");
        let options = configuration.node_options(Oversubscription::Refuse);
        options.settings.raft.timing
    };
    assert_eq!(
        timing("[raft]\nadaptive_timing = \"on\"\n"),
        TickTiming::Adaptive {
            election_ms_min: 150,
            election_ms_max: 2_000,
        }
    );
    assert_eq!(
        timing("[raft]\nadaptive_timing = \"off\"\n"),
        TickTiming::Fixed
    );
}

#[test]
fn a_leader_applies_so_many_entries_ahead_as_it_is_told() {
    let ahead = |text| {
        let configuration = load(text, &[]).expect("it is allowed");
        let options = configuration.node_options(Oversubscription::Refuse);
        options.settings.raft.apply_ahead_entries_max
    };
    assert_eq!(ahead("[raft]\napply_ahead = 77\n"), Some(77));
    assert_eq!(ahead("[raft]\napply_ahead = \"off\"\n"), None);
    let usual = metastore_engine::Settings::default().raft;
    assert_eq!(ahead(""), usual.apply_ahead_entries_max);
}

#[test]
fn another_file_sets_a_key_by_the_same_rules() {
    let read = |key, text: &str| {
        let table: toml::Table = text.parse().expect("this is TOML");
        read_value(key, &table["a"]).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(
        read(Key::HistoryMaxAge, "a = \"1m\""),
        Ok(Value::Milliseconds(60_000))
    );
    assert_eq!(
        read(Key::HistoryMaxRevisions, "a = 7"),
        Ok(Value::Number(7))
    );
    let refused = read(Key::HistoryMaxBytes, "a = true").expect_err("it is no size");
    assert!(
        refused.contains("history.max_bytes is true: a value of type boolean"),
        "{refused}"
    );
}
