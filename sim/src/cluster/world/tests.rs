use super::*;

#[test]
fn the_first_seeds_keep_every_promise() {
    for seed in 1..=3 {
        let mut world = ClusterWorld::new(seed, None);
        world
            .run()
            .unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        let report = world.report();
        assert!(report.simulated_ns >= 10_000_000_000, "{report}");
        assert!(report.tally.succeeded >= 500, "{report}");
    }
}

#[test]
fn a_cluster_of_one_node_keeps_every_promise() {
    for seed in 1..=6 {
        let mut random = Random::new(seed);
        let mut plan = ClusterPlan::draw(&mut random, None);
        plan.cluster.shape.nodes = 1;
        let mut world = ClusterWorld::of_plan(plan, random);
        if std::env::var("LINES").is_ok() {
            world.set_event_log(EventLog::new(Box::new(|line| eprintln!("{line}"))));
        }
        world
            .run()
            .unwrap_or_else(|broken| panic!("seed {seed}: {broken}\n{}", world.report()));
        println!("{seed}\n{}", world.report());
    }
}
