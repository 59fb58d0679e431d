use super::Losses;
use crate::fake_cluster::{FakeCluster, Then};
use crate::keys::KeySpace;
use crate::load::{LoadError, LoadPlan, LoadResult, Pace, drive};
use crate::operation::{Mix, Operation, RequestMaker};
use crate::preload::preload_store;
use crate::store::Store;
use metastore_net::{ErrorCode, WireError};
use std::time::{Duration, Instant};

const KEYS: u64 = 1_000;

const OPEN: Pace = Pace::Poisson {
    operations_per_second: 1_000.0,
};

const GET: Mix = Mix::Only(Operation::Get(KeySpace::LONG));
const PUT: Mix = Mix::Only(Operation::Put(KeySpace::LONG));
const METADATA: Mix = Mix::Metadata(KeySpace::LONG);

/// The first member dies, and both others say that it leads until they were asked three times.
const DIES: Then = Then::Dies {
    successor: 2,
    after_maps: 6,
};

/// Loads a cluster of three members, all of whose shards the first one leads, lets something happen, and drives it.
fn drive_survivor(
    mix: Mix,
    pace: Pace,
    prepare: impl FnOnce(&FakeCluster),
    change: impl FnOnce(&mut LoadPlan<'_>),
) -> (Result<LoadResult, LoadError>, FakeCluster) {
    let cluster = FakeCluster::start(3, 1);
    let mut store = Store::connect(&cluster.addresses()[1].to_string()).unwrap();
    let mut requests = RequestMaker::new(KEYS);
    preload_store(&mut store, KeySpace::LONG, &mut requests).unwrap();
    prepare(&cluster);
    cluster.forget_maps();
    let mut plan = LoadPlan {
        target: store.target(),
        mix,
        connections: 4,
        in_flight_per_connection: 5,
        pace,
        warm_up: Duration::ZERO,
        measured: Duration::from_millis(500),
        patience: Duration::from_secs(5),
        mark: None,
        survives_lost_nodes: true,
    };
    change(&mut plan);
    (drive(&plan, &mut requests), cluster)
}

fn survive(mix: Mix, pace: Pace, prepare: impl FnOnce(&FakeCluster)) -> (LoadResult, FakeCluster) {
    let (result, cluster) = drive_survivor(mix, pace, prepare, |_| ());
    (result.unwrap(), cluster)
}

#[test]
fn reads_of_a_leader_that_dies_are_answered_by_the_next_one() {
    for pace in [Pace::Closed, OPEN] {
        let (result, cluster) = survive(GET, pace, |cluster| cluster.lose_after(200, 0, DIES));
        assert_eq!(result.failures.first, None);
        let Losses {
            connections,
            unknown,
            ..
        } = result.losses;
        assert_eq!((connections, unknown), (4, 0), "{pace:?}");
        assert!(result.redirected > 0, "{pace:?}");
        assert!(cluster.maps() > 6, "{pace:?}");
        assert_eq!(cluster.redirects(), 0, "nobody who does not lead is asked");
        match pace {
            Pace::Closed => assert_eq!(result.latency.len(), result.answered),
            Pace::Poisson { .. } => assert_eq!(result.latency.len(), result.offered),
        }
        // Three pauses between questions lie between the loss and the next leader.
        assert!(
            result.latency.max() > 10_000_000,
            "{}",
            result.latency.max()
        );
    }
}

#[test]
fn writes_of_a_leader_that_dies_are_of_unknown_outcome_and_are_not_repeated() {
    for pace in [Pace::Closed, OPEN] {
        let (result, _) = survive(PUT, pace, |cluster| cluster.lose_after(200, 0, DIES));
        assert_eq!(result.failures.first, None);
        let unknown = result.losses.unknown;
        assert!(unknown > 0, "{pace:?}");
        assert!(unknown <= 20, "no more than was in flight: {unknown}");
        assert_eq!(result.redirected, 0, "{pace:?}");
        // They are no answers, and yet they have waited.
        let counted = result.answered + unknown;
        match pace {
            Pace::Closed => assert_eq!(result.latency.len(), counted),
            Pace::Poisson { .. } => {
                assert_eq!(result.latency.len(), result.offered);
                assert_eq!(result.answered_in_all + unknown, result.offered);
            }
        }
    }
}

#[test]
fn a_mix_goes_on_with_the_next_leader() {
    for pace in [Pace::Closed, OPEN] {
        let (result, _) = survive(METADATA, pace, |cluster| cluster.lose_after(250, 0, DIES));
        assert_eq!(result.failures.first, None);
        assert_eq!(result.losses.connections, 4);
        assert!(result.answered > 250, "{}", result.answered);
        if pace != Pace::Closed {
            assert_eq!(result.latency.len(), result.offered);
        }
    }
}

#[test]
fn a_lost_connection_ends_any_other_run() {
    for pace in [Pace::Closed, OPEN] {
        let lose = |cluster: &FakeCluster| cluster.lose_after(200, 0, DIES);
        let fragile = |plan: &mut LoadPlan<'_>| plan.survives_lost_nodes = false;
        let (result, _) = drive_survivor(GET, pace, lose, fragile);
        assert!(matches!(result, Err(LoadError::Session(_))), "{result:?}");
    }
}

#[test]
fn a_leader_that_is_still_there_is_connected_to_again() {
    for pace in [Pace::Closed, OPEN] {
        let (result, cluster) = survive(METADATA, pace, |cluster| {
            cluster.lose_after(200, 0, Then::Returns);
            cluster.lose_after(350, 0, Then::Returns);
        });
        assert_eq!(result.failures.first, None);
        assert_eq!(result.losses.connections, 8, "four, twice");
        assert_eq!(cluster.redirects(), 0);
        assert!(result.answered > 350, "{}", result.answered);
    }
}

#[test]
fn a_shard_without_a_leader_is_waited_for_as_long_as_patience_lasts() {
    let never = Then::Dies {
        successor: 2,
        after_maps: u64::MAX,
    };
    let impatient = |plan: &mut LoadPlan<'_>| {
        plan.patience = Duration::from_millis(200);
        plan.measured = Duration::from_secs(60);
    };
    let began = Instant::now();
    let lose = |cluster: &FakeCluster| cluster.lose_after(200, 0, never);
    let (result, cluster) = drive_survivor(METADATA, OPEN, lose, impatient);
    assert!(
        matches!(result, Err(LoadError::NoLeader { waited }) if waited > Duration::from_millis(200)),
        "{result:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(30));
    // One question a pause of 5 ms, not as fast as they are answered.
    let asked = cluster.maps();
    assert!((2..200).contains(&asked), "{asked}");
}

#[test]
fn what_was_refused_for_the_moment_is_sent_again_after_its_pause() {
    let busy = WireError {
        retry_after_ms: 20,
        ..WireError::new(ErrorCode::Overloaded)
    };
    for error in [busy.clone(), WireError::new(ErrorCode::Unavailable)] {
        for mix in [PUT, GET] {
            let refuse = |cluster: &FakeCluster| cluster.err_after(100, 7, error.clone());
            let (result, cluster) = survive(mix, OPEN, refuse);
            assert_eq!(result.failures.first, None, "{mix:?}");
            assert_eq!(result.losses.put_off, 7, "{mix:?}");
            assert_eq!((result.losses.unknown, result.redirected), (0, 0));
            assert_eq!(result.latency.len(), result.offered);
            let pause_ns = 1_000_000 * u64::from(error.retry_after_ms);
            assert!(result.latency.max() >= pause_ns, "{}", result.latency.max());
            assert_eq!(cluster.maps(), 0, "its leader is known");
        }
    }
    let refuse = |cluster: &FakeCluster| cluster.err_after(100, 7, busy.clone());
    let fragile = |plan: &mut LoadPlan<'_>| plan.survives_lost_nodes = false;
    let (result, _) = drive_survivor(PUT, OPEN, refuse, fragile);
    let result = result.unwrap();
    assert_eq!((result.failures.count, result.losses.put_off), (0, 7));
}

#[test]
fn an_answer_that_it_may_have_happened_leaves_writes_unknown_and_repeats_reads() {
    let doubt = WireError::new(ErrorCode::Unavailable).outcome_unknown();
    for (mix, unknown, redirected) in [(PUT, 7, 0), (GET, 0, 7)] {
        let refuse = |cluster: &FakeCluster| cluster.err_after(100, 7, doubt.clone());
        let (result, _) = survive(mix, OPEN, refuse);
        assert_eq!(result.failures.first, None, "{mix:?}");
        assert_eq!(result.losses.unknown, unknown, "{mix:?}");
        assert_eq!(result.redirected, redirected, "{mix:?}");
        assert_eq!(result.latency.len(), result.offered, "{mix:?}");

        let refuse = |cluster: &FakeCluster| cluster.err_after(100, 7, doubt.clone());
        let fragile = |plan: &mut LoadPlan<'_>| plan.survives_lost_nodes = false;
        let (result, _) = drive_survivor(mix, OPEN, refuse, fragile);
        let result = result.unwrap();
        assert_eq!(
            (result.failures.count, result.losses),
            (7, Losses::default())
        );
    }
}

#[test]
fn an_error_that_will_not_pass_is_a_failure() {
    let error = WireError::new(ErrorCode::Internal);
    let refuse = |cluster: &FakeCluster| cluster.err_after(100, 1, error.clone());
    let (result, _) = survive(GET, OPEN, refuse);
    assert_eq!(result.failures.count, 1);
    assert_eq!(result.losses, Losses::default());
}
