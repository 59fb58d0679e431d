use super::*;
use clap::CommandFactory;

pub(super) fn parse(line: &str) -> Result<Arguments, clap::Error> {
    let words = line.split_ascii_whitespace();
    Arguments::try_parse_from(std::iter::once("metastore-perf").chain(words))
}

#[test]
fn the_command_line_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn quick_is_a_default_that_single_values_override() {
    let effort = |line: &str| {
        let Command::Run(run) = parse(line).unwrap().command else {
            panic!("{line} is a run");
        };
        run.effort.effort()
    };
    let usual = effort("run --workload w1");
    assert_eq!((usual.rounds, usual.measured.as_secs()), (5, 10));
    assert_eq!(usual.keys, 1_000_000);
    let quick = effort("run --workload w1 --quick --rounds 7");
    assert_eq!((quick.rounds, quick.measured.as_secs()), (7, 2));
    assert_eq!(quick.keys, 100_000);
}

#[test]
fn goals_are_every_measurement_that_can_be_made_or_those_asked_for() {
    let names = |line: &str| -> Vec<&'static str> {
        let Command::Goals(goals) = parse(line).unwrap().command else {
            panic!("{line} is about goals");
        };
        goals
            .measurements()
            .iter()
            .map(OwnMeasurement::name)
            .collect()
    };
    let line = "goals --data d --metastore m";
    let plain = [
        "under-load",
        "shards",
        "snapshot",
        "restart",
        "log-bytes",
        "syscalls",
    ];
    assert_eq!(names(line), plain);
    let counting = names(&format!("{line} --counting c"));
    assert_eq!(counting[6..], ["allocations", "live-bytes"]);
    let only = names(&format!(
        "{line} --counting c --only rounds,live-bytes,shards"
    ));
    assert_eq!(only, ["shards", "live-bytes"]);
    let replicated = names(&format!("{line} --counting c --nodes 3"));
    let wanted = ["under-load", "snapshot", "log-bytes", "syscalls"];
    assert_eq!(replicated, wanted);
}

#[test]
fn the_core_counts_where_it_is_asked_to() {
    let core = |line: &str| {
        let Command::Core(arguments) = parse(line).unwrap().command else {
            panic!("{line} is about the core");
        };
        arguments
    };
    let plain = core("core");
    assert_eq!(plain.batches, [1, 16, 256]);
    assert_eq!(plain.baseline_use(), None);
    let counting = core("core --callgrind --batch 256 --baseline b");
    assert_eq!(counting.batches, [256]);
    assert_eq!(counting.baseline_use(), Some(BaselineUse::Compare));
    assert_eq!(counting.baseline(), std::path::Path::new("b"));
    let writing = core("core --callgrind --write-baseline");
    assert_eq!(writing.baseline_use(), Some(BaselineUse::Write));
    assert!(writing.baseline().starts_with(env!("CARGO_MANIFEST_DIR")));
    assert!(parse("core --write-baseline").is_err());
    assert!(parse("core --batch 0").is_err());
}

#[test]
fn the_log_writes_what_one_batch_can_be() {
    let log = |line: &str| {
        let Command::Log(arguments) = parse(line).unwrap().command else {
            panic!("{line} is about the log");
        };
        arguments
    };
    let quick = log("log --data d --quick --rounds 2 --flush dsync");
    assert_eq!((quick.rounds(), quick.measured().as_secs()), (2, 1));
    assert!(quick.flush.method().is_some());
    let usual = log("log --data d --batch 1,1024");
    assert_eq!(usual.batches, [1, 1_024]);
    assert_eq!((usual.rounds(), usual.flush.method()), (5, None));
    assert!(parse("log --data d --batch 1025").is_err());
    assert!(parse("log").is_err());
}

#[test]
fn measurements_take_no_workload() {
    for name in [
        "allocations",
        "live-bytes",
        "log-bytes",
        "shards",
        "under-load",
        "snapshot",
        "restart",
        "syscalls",
        "degraded",
    ] {
        let line = format!("run {name} --data d --metastore m --quick --strict");
        let Command::Run(run) = parse(&line).unwrap().command else {
            panic!("{line} is a run");
        };
        let measurement = run.measurement.expect("it was named");
        assert_eq!(measurement.name(), name);
        assert_eq!(measurement.store().strict.strictness(), Strictness::Strict);
    }
    assert!(parse("run --workload w1 shards --data d --metastore m").is_err());
}

#[test]
fn degraded_is_about_a_cluster_and_says_itself_how_many_shards_it_has() {
    let degraded = |more: &str| {
        let line = format!("run degraded --data d --metastore m {more}");
        let Command::Run(run) = parse(&line).unwrap().command else {
            panic!("{line} is a run");
        };
        run.measurement.expect("it was named")
    };
    let plain = degraded("");
    assert_eq!(plain.name(), "degraded");
    assert!(plain.needs_cluster() && plain.is_replicated());
    let arguments = |more: &str| {
        let OwnMeasurement::Degraded(arguments) = degraded(more) else {
            panic!("it is what was asked for");
        };
        arguments
    };
    let usual = arguments("--nodes 3 -- --flush dsync");
    assert_eq!(usual.store.nodes, 3);
    assert!((usual.load - 0.5).abs() < 1e-9);
    assert!(!usual.names_shards());
    assert!((arguments("--load 0.3").load - 0.3).abs() < 1e-9);
    assert!(arguments("-- --flush dsync --shards 3").names_shards());
    assert!(arguments("-- --shards=1").names_shards());
    assert!(parse("run degraded --data d --metastore m --load 0").is_err());
    assert!(parse("run degraded --data d --metastore m --nodes 2").is_err());
}

#[test]
fn senseless_values_are_refused() {
    for line in [
        "run",
        "run --workload w7",
        "run --workload w1 --rate 0",
        "run --workload w8 --load 0.5 --rate 10",
        "run --workload w1 --rate inf",
        "run --workload w1 --pipeline 0",
        "run --workload w1 --connections 100001",
        "run --workload w1 --server-pid 0",
        "run --workload w1 --seconds 0",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert!(parse("run --workload w4 --rate 12.5 --pipeline 3").is_ok());
}
