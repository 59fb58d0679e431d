//! A correct core lives through crashes, and every planted bug is found.

use metastore_sim::Mutant;
use metastore_sim::oracle::Checkers;
use metastore_sim::power_loss::PowerLoss;

const SEED: u64 = 1;

#[test]
fn no_promise_is_broken_in_a_few_hundred_crashes() {
    let run = PowerLoss {
        seed: SEED,
        crashes: 300,
        mutant: None,
        checkers: Checkers::All,
    };
    let summary = run.run().unwrap_or_else(|failure| panic!("{failure}"));
    let total = summary.total;
    // What was not met was not tested.
    assert!(total.crashes >= 300);
    assert!(total.power_losses >= 100 && total.crashes - total.power_losses >= 50);
    assert!(total.torn_tails >= 3, "{summary}");
    assert!(total.refused_damages >= 3, "{summary}");
    assert!(total.refused_snapshots >= 3, "{summary}");
    assert!(total.disk_failures >= 3, "{summary}");
    assert!(total.full_disks >= 20, "{summary}");
    assert!(total.node.low_disks >= 20, "{summary}");
    assert!(total.tally.compounds_done >= 1_000, "{summary}");
    assert!(total.tally.compounds_failed >= 500, "{summary}");
    assert!(total.node.short_writes >= 10, "{summary}");
    assert!(total.states_compared >= 300, "{summary}");
    assert!(total.tally.audits >= 10, "{summary}");
    assert!(summary.reuse.reused_files >= 100, "{summary}");
    assert!(total.node.snapshots >= 100, "{summary}");
    assert!(total.node.loads >= 100, "{summary}");
    assert!(total.tally.refused_by_budget >= 100, "{summary}");
    assert!(
        total.tally.acknowledged >= 10_000 && total.tally.unknown >= 1_000,
        "{summary}"
    );
}

/// Every bug is found within as many crashes, from the same seed on, as the correct code lives through above.
fn assert_is_found(mutant: Mutant, checkers: Checkers) {
    let run = PowerLoss {
        seed: SEED,
        crashes: 300,
        mutant: Some(mutant),
        checkers,
    };
    let failure = run.run().expect_err(mutant.name());
    // The command that it prints finds it again.
    let replay = PowerLoss {
        seed: failure.seed,
        crashes: 1,
        mutant: Some(mutant),
        checkers,
    };
    let again = replay.run().expect_err("a replay finds the same");
    assert_eq!(again.violation, failure.violation);
}

#[test]
fn each_planted_bug_is_found() {
    for mutant in Mutant::OF_A_NODE {
        assert_is_found(mutant, Checkers::All);
    }
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
        assert_is_found(mutant, Checkers::ClientsAlone);
    }
}
