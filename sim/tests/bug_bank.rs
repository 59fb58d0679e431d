//! Planted bugs show in more ways than the one by which `metastore-sim mutants` finds them.

use metastore_bugs::{Mutant, plant};
use metastore_sim::campaign::run_seed;
use metastore_sim::oracle::Checkers;
use metastore_sim::power_loss::PowerLoss;

/// How many crashes, or how many clusters, a bug may hide in.
const CRASHES: u64 = 300;
const SEEDS: u64 = 200;
const STACK_BYTES: usize = 64 << 20;

fn assert_is_found_in_a_node(mutant: Mutant, checkers: Checkers) {
    let _planted = plant(mutant);
    let run = PowerLoss {
        seed: 1,
        crashes: CRASHES,
        checkers,
    };
    run.run().expect_err(mutant.name());
}

fn assert_is_found_in_a_cluster(mutant: Mutant, checkers: Checkers) {
    let search = move || {
        let _planted = plant(mutant);
        (1..=SEEDS).any(|seed| run_seed(seed, checkers, None).is_err())
    };
    // Without the log the check of a history goes as deep as the history is long, and a test's thread is shallow.
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let searching = thread.spawn(search).expect("a thread begins");
    let is_found = searching.join().expect("a finding is no panic");
    assert!(is_found, "{mutant} is not found");
}

/// Clients would notice too: what they were told does not agree with what they find, or the node does not come back.
#[test]
fn what_clients_saw_is_enough_to_find_bugs_of_driver_and_device() {
    for mutant in [
        Mutant::AcknowledgeBeforeFlush,
        Mutant::SkippedFlush,
        Mutant::FlushBeforeWrite,
        Mutant::ShortWriteTakenAsWhole,
        Mutant::ErrorTakenAsSuccess,
        Mutant::RecoveryFromCache,
    ] {
        assert_is_found_in_a_node(mutant, Checkers::ClientsAlone);
    }
}

#[test]
fn whoever_sees_what_is_durable_finds_bugs_of_the_order_too() {
    for mutant in [Mutant::AcknowledgeBeforeFlush, Mutant::SkippedFlush] {
        assert_is_found_in_a_node(mutant, Checkers::All);
    }
}

#[test]
fn bugs_of_driver_and_device_are_found_in_clusters_too() {
    for mutant in [
        Mutant::AcknowledgeBeforeFlush,
        Mutant::FlushBeforeWrite,
        Mutant::ErrorTakenAsSuccess,
        Mutant::SnapshotLabelledBehindState,
        Mutant::MessagesLeaveEarly,
    ] {
        assert_is_found_in_a_cluster(mutant, Checkers::All);
    }
}

/// Clients would notice too: no order explains what they were told, or nobody answers them any more.
#[test]
fn what_clients_saw_is_enough_to_find_that_a_wiped_disk_came_back() {
    assert_is_found_in_a_cluster(Mutant::WipedDiskComesBack, Checkers::ClientsAlone);
}
