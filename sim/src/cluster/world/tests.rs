use super::*;

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
