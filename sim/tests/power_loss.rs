//! A correct core lives through crashes.

use metastore_sim::oracle::Checkers;
use metastore_sim::power_loss::PowerLoss;

const SEED: u64 = 1;

#[test]
fn no_promise_is_broken_in_a_few_hundred_crashes() {
    let run = PowerLoss {
        seed: SEED,
        crashes: 300,
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
