//! Every bug that is planted where nodes depend on each other is found.

use metastore_sim::Mutant;
use metastore_sim::campaign::run_seed;
use metastore_sim::oracle::Checkers;

/// How many seeds a bug may hide in. Without a bug all of them are clean, which another test and longer campaigns see.
const SEEDS: u64 = 30;

fn assert_is_found(mutant: Mutant, checkers: Checkers) {
    let run = |seed| run_seed(seed, Some(mutant), checkers, None).err();
    let broken = (1..=SEEDS).find_map(run);
    let broken = broken.unwrap_or_else(|| panic!("{mutant} is not found"));
    // The command that it prints finds it again.
    let again = run(broken.seed).expect("a replay finds the same");
    assert_eq!(again.violation, broken.violation);
}

#[test]
fn each_bug_between_nodes_is_found() {
    for mutant in Mutant::OF_A_CLUSTER {
        assert_is_found(mutant, Checkers::All);
    }
}

#[test]
fn bugs_of_driver_and_device_are_found_in_clusters_too() {
    for mutant in [
        Mutant::AcknowledgeBeforeFlush,
        Mutant::SkippedFlush,
        Mutant::FlushBeforeWrite,
        Mutant::ErrorTakenAsSuccess,
        Mutant::SnapshotLabelledBehindState,
    ] {
        assert_is_found(mutant, Checkers::All);
    }
}

/// Clients would notice too: no order explains what they were told, or nobody answers them any more.
#[test]
fn what_clients_saw_is_enough_to_find_what_they_can_see() {
    for mutant in [Mutant::ReadsWithoutRound, Mutant::WipedDiskComesBack] {
        assert_is_found(mutant, Checkers::ClientsAlone);
    }
}
