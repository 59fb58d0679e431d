use super::*;
use crate::arguments::{Arguments, Command};
use crate::fake_store::{FakeStore, Manner};
use crate::test_directory::TestDirectory;
use clap::Parser;
use serde_json::Value;

/// Runs a command line against a store and reads the report.
fn run_against(store: &FakeStore, name: &str, line: &str) -> (Verdict, Value) {
    let directory = TestDirectory::new(name);
    let json = directory.path().join("report.json");
    let words = [
        "metastore-perf",
        "run",
        "--quick",
        "--rounds",
        "1",
        "--seconds",
        "1",
    ];
    let mut words: Vec<String> = words.map(str::to_owned).to_vec();
    words.extend(line.split_ascii_whitespace().map(str::to_owned));
    words.extend(["--connect".to_owned(), store.address().to_string()]);
    words.extend(["--json".to_owned(), json.display().to_string()]);
    let Command::Run(arguments) = Arguments::try_parse_from(words).unwrap().command else {
        panic!("{line} is a run");
    };
    let verdict = run(&arguments).unwrap();
    let report = std::fs::read(&json).unwrap();
    (verdict, serde_json::from_slice(&report).unwrap())
}

#[test]
fn a_run_loads_measures_and_reports_what_the_store_has_spent() {
    let store = FakeStore::start(Manner::Reversed);
    let (verdict, report) = run_against(&store, "a_run_loads", "--workload w2");
    // A machine busy with other tests may void the round, but never change what is counted.
    let case = &report["cases"][0];
    let round = &case["rounds"][0];
    assert_eq!(
        verdict == Verdict::Valid,
        round["invalid"].is_null(),
        "{round}"
    );
    assert_eq!(report["conditions"]["store"]["version"], "fake");
    assert_eq!(report["loaded"]["keys"], 100_000);
    assert_eq!(case["in_flight"], 1_000);
    assert!(round["costs"]["durable_writes"].as_u64().unwrap() > 0);
    let operations = round["costs"]["operations"].as_u64().unwrap();
    assert!(operations >= round["latency"]["count"].as_u64().unwrap());
    // The fake store runs in this process, which is found by its port.
    assert!(
        round["costs"]["server_cpu_us_per_operation"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert_eq!(round["flush_check"], "not-observed");
    assert_eq!(round["failures"], 0);

    let batches = store.batches();
    assert_eq!(batches, 100_000_u64.div_ceil(512));
    run_against(&store, "a_run_loads_once", "--workload w6 --connections 2");
    assert_eq!(store.batches(), batches, "loaded keys are not loaded again");
}

#[test]
fn a_run_with_failures_is_not_valid_and_says_why() {
    let store = FakeStore::start(Manner::Refuses);
    let words = "--workload ping";
    let (verdict, report) = run_against(&store, "a_run_pings", words);
    assert_eq!(report["loaded"], Value::Null, "a ping needs no keys");
    assert_eq!(
        report["cases"][0]["rounds"][0]["failures"], 0,
        "{verdict:?}"
    );

    let loaded = FakeStore::start(Manner::Finds { value_bytes: 3 });
    let words = "--workload w6 --connections 1 --pipeline 1";
    let (verdict, report) = run_against(&loaded, "a_run_fails", words);
    assert_eq!(verdict, Verdict::Invalid);
    let case = &report["cases"][0];
    assert_eq!(case["invalid_rounds"], 1);
    assert_eq!(case["rounds"][0]["invalid"], "failures");
    let failure = case["rounds"][0]["first_failure"].as_str().unwrap();
    assert!(failure.contains("3 bytes instead of 256"), "{failure}");
    assert_eq!(case["achieved_per_second"], Value::Null);
}

#[test]
fn an_open_loop_is_a_share_of_the_capacity_of_its_round() {
    let store = FakeStore::start(Manner::Reversed);
    let words = "--workload w8 --load 0.25 --directories one --connections 4";
    let (_, report) = run_against(&store, "an_open_loop", words);
    assert_eq!(report["directories"], "one");
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    assert_eq!(cases[0]["label"], "w8 mix 32/128 4x10");
    assert_eq!(cases[1]["label"], "w8 mix 32/128 4x10 open 25 %");
    let round = |case: usize| &cases[case]["rounds"][0];
    let capacity = round(0)["achieved_per_second"].as_f64().unwrap();
    let offered = round(1)["offered_per_second"].as_f64().unwrap();
    // Random arrivals of one second: five standard deviations, and a few when there are hardly any.
    let expected = 0.25 * capacity;
    let tolerance = 5.0 * expected.sqrt() + 3.0;
    assert!(
        (offered - expected).abs() < tolerance,
        "{offered} of {capacity}"
    );
    let operations = round(1)["operations"].as_array().unwrap();
    let names: Vec<&str> = operations
        .iter()
        .map(|operation| operation["operation"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["get", "put", "compare-and-swap", "list"]);
    assert_eq!(round(1)["failures"], 0, "{}", round(1)["first_failure"]);
}
