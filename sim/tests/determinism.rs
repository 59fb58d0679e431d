//! The same seed gives the same run, byte for byte, in two processes.

use std::process::Command;

/// In a release build 100,000 inputs are a matter of a second.
const INPUTS: u64 = if cfg!(debug_assertions) {
    5_000
} else {
    100_000
};

fn trace(seed: u64) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_metastore-sim"))
        .args(["trace", "--inputs", &INPUTS.to_string()])
        .args(["--seed", &seed.to_string()])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn two_processes_leave_the_same_trace() {
    let first = trace(7);
    assert!(
        first.ends_with(&format!("after {INPUTS} inputs\n")),
        "{first}"
    );
    assert_eq!(first, trace(7));
}

#[test]
fn another_seed_leaves_another_trace() {
    assert_ne!(trace(7), trace(8));
}

/// A cluster with everything that goes wrong in it, told by its report: how many of what there were.
fn report(seed: u64) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_metastore-sim"))
        .args(["replay", "--seed", &seed.to_string()])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn two_processes_have_the_same_cluster() {
    let first = report(7);
    assert_eq!(first, report(7));
    assert_ne!(first, report(8));
}
