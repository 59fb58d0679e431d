//! Every bug that is planted where nodes depend on each other is found.

use metastore_sim::Mutant;
use metastore_sim::campaign::run_seed;

/// How many seeds a bug may hide in. Without a bug all of them are clean, which another test and longer campaigns see.
const SEEDS: u64 = if cfg!(debug_assertions) { 12 } else { 60 };

fn assert_is_found(mutant: Mutant) {
    let broken = (1..=SEEDS).find_map(|seed| run_seed(seed, Some(mutant), None).err());
    let broken = broken.unwrap_or_else(|| panic!("{mutant} is not found"));
    // The command that it prints finds it again.
    let again = run_seed(broken.seed, Some(mutant), None).expect_err("a replay finds the same");
    assert_eq!(again.violation, broken.violation);
}

#[test]
fn each_bug_between_nodes_is_found() {
    for mutant in Mutant::OF_A_CLUSTER {
        assert_is_found(mutant);
    }
}

#[test]
fn bugs_of_driver_and_device_are_found_in_clusters_too() {
    for mutant in [Mutant::AcknowledgeBeforeFlush, Mutant::SkippedFlush] {
        assert_is_found(mutant);
    }
}
