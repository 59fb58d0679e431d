use super::*;
use crate::disk::Decay;

fn run(seed: u64, nodes: Option<u32>) -> ClusterReport {
    let mut random = Random::new(seed);
    let mut plan = ClusterPlan::draw(&mut random, Checkers::All);
    plan.cluster.shape.nodes = nodes.unwrap_or(plan.cluster.shape.nodes);
    let mut world = ClusterWorld::of_plan(plan, random);
    let ran = world.run();
    ran.unwrap_or_else(|broken| panic!("seed {seed}: {broken}\n{}", world.report()));
    world.report()
}

#[test]
fn the_first_seeds_keep_every_promise_and_try_something() {
    for seed in 1..=2 {
        let report = run(seed, None);
        // What was not met was not tested.
        assert!(report.simulated_ns >= 10_000_000_000, "{report}");
        assert!(report.tally.succeeded >= 500, "{report}");
        assert!(
            10 * report.tally.succeeded >= 6 * report.ended(),
            "{report}"
        );
        let tally = &report.tally;
        for done in [
            tally.compounds,
            tally.compounds_refused,
            tally.batches,
            tally.ranges,
            tally.past_reads,
            tally.follower_reads,
        ] {
            assert!(done >= 5, "{report}");
        }
        assert_eq!(report.undecided, 0, "{report}");
        assert!(report.faults.len() >= 3, "{report}");
        assert!(report.states_compared >= 100, "{report}");
    }
}

#[test]
fn a_cluster_of_one_node_keeps_every_promise() {
    (1..=2).for_each(|seed| drop(run(seed, Some(1))));
}

#[test]
fn every_world_has_as_many_nodes_shards_and_faults_as_it_needs() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let plan = ClusterPlan::draw(&mut Random::new(seed), Checkers::All);
        let shape = plan.cluster.shape;
        assert!(shape.nodes >= 3 && shape.shards >= 2);
        assert!(plan.faults_ns >= 10_000_000_000);
        assert!(plan.faults.len() >= 3);
        kinds.extend(plan.faults.iter().map(|&(kind, _)| kind));
    }
    assert_eq!(kinds.len(), FaultKind::ALL.len());
}

#[test]
fn a_seed_is_one_run() {
    let trace = |seed| {
        let mut world = ClusterWorld::new(seed, Checkers::All);
        world.set_trace(Trace::new(20_000));
        world.run().expect("no promise is broken");
        world.take_trace().expect("it was given one").value()
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

/// Worlds in which little else happens than that disks decay and nodes start anew.
fn run_decaying(seed: u64) -> ClusterReport {
    let mut random = Random::new(seed);
    let mut plan = ClusterPlan::draw(&mut random, Checkers::All);
    const MILLISECOND_NS: u64 = 1_000_000;
    plan.faults = vec![
        (FaultKind::Decay, 400 * MILLISECOND_NS),
        (FaultKind::Crash, 2_000 * MILLISECOND_NS),
    ];
    let mut world = ClusterWorld::of_plan(plan, random);
    let ran = world.run();
    ran.unwrap_or_else(|broken| panic!("seed {seed}: {broken}\n{}", world.report()));
    world.report()
}

#[test]
fn what_decays_is_repaired_by_the_others() {
    let mut total = ClusterReport::default();
    for seed in 1..=seeds(6) {
        let report = run_decaying(seed);
        total.add(&report);
    }
    assert!(total.quarantines >= 3, "{total}");
    assert!(total.decays.len() == Decay::ALL.len(), "{total}");
}

/// More where somebody wants more.
fn seeds(usual: u64) -> u64 {
    let wanted = std::env::var("METASTORE_SEEDS").ok();
    wanted.and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}
