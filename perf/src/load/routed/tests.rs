use super::follow;
use crate::fake_cluster::FakeCluster;
use crate::keys::KeySpace;
use crate::load::{LoadError, LoadPlan, LoadResult, Pace, drive};
use crate::operation::{Mix, Operation, RequestMaker};
use crate::preload::{ensure_loaded, preload_store};
use crate::routes::Routes;
use crate::store::Store;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

const KEYS: u64 = 2_000;

fn store_of(cluster: &FakeCluster) -> Store {
    let addresses = cluster.addresses();
    Store::connect(&addresses[addresses.len() - 1].to_string()).unwrap()
}

fn drive_against(
    cluster: &FakeCluster,
    mix: Mix,
    pace: Pace,
    measured_ms: u64,
) -> Result<LoadResult, LoadError> {
    let mut store = store_of(cluster);
    let mut requests = RequestMaker::new(KEYS);
    if let Some(space) = mix.key_space() {
        preload_store(&mut store, space, &mut requests).unwrap();
    }
    let plan = LoadPlan {
        target: store.target(),
        mix,
        connections: 4,
        in_flight_per_connection: 5,
        pace,
        warm_up: Duration::from_millis(50),
        measured: Duration::from_millis(measured_ms),
        patience: Duration::from_secs(5),
        mark: None,
        survives_lost_nodes: false,
    };
    drive(&plan, &mut requests)
}

const MIXES: [Mix; 5] = [
    Mix::Only(Operation::Ping),
    Mix::Only(Operation::Put(KeySpace::MEDIUM)),
    Mix::Only(Operation::Get(KeySpace::SMALL)),
    Mix::Only(Operation::Batch(KeySpace::BATCHED, 64)),
    Mix::Metadata(KeySpace::LONG),
];

#[test]
fn every_request_goes_to_the_leader_of_its_key() {
    let open = Pace::Poisson {
        operations_per_second: 1_000.0,
    };
    for mix in MIXES {
        for pace in [Pace::Closed, open] {
            let cluster = FakeCluster::start(3, 3);
            let result = drive_against(&cluster, mix, pace, 200).unwrap();
            assert_eq!(result.failures.first, None, "{mix:?}");
            assert!(result.answered > 0, "{mix:?}");
            assert_eq!((result.redirected, cluster.redirects()), (0, 0), "{mix:?}");
        }
    }
}

#[test]
fn a_leader_that_moves_is_followed_and_told() {
    let open = Pace::Poisson {
        operations_per_second: 400.0,
    };
    for (hints, pace) in [(true, Pace::Closed), (false, Pace::Closed), (true, open)] {
        for mix in &MIXES[1..] {
            let cluster = FakeCluster::start(3, 2);
            if !hints {
                cluster.give_no_hints();
            }
            // Member 2 leads nothing in the beginning.
            cluster.move_after(KEYS + 100, 0, 2);
            cluster.move_after(KEYS + 200, 1, 0);
            let result = drive_against(&cluster, *mix, pace, 1_000).unwrap();
            assert_eq!(result.failures.first, None, "{mix:?}");
            assert!(result.redirected > 0, "{mix:?}");
            assert!(result.redirected <= cluster.redirects(), "{mix:?}");
            if pace != Pace::Closed {
                let commands = mix.commands_per_request();
                assert_eq!(result.latency.len() * commands, result.offered, "{mix:?}");
            }
        }
    }
}

#[test]
fn what_is_sent_again_waits_from_the_beginning() {
    let cluster = FakeCluster::start(2, 1);
    // Nobody says who leads instead, so the map must.
    cluster.give_no_hints();
    cluster.move_after(KEYS + 100, 0, 1);
    let put = Mix::Only(Operation::Put(KeySpace::SMALL));
    let result = drive_against(&cluster, put, Pace::Closed, 300).unwrap();
    assert!(result.redirected > 0);
    assert_eq!(result.failures.count, 0);
    assert_eq!(
        result.latency.len(),
        result.answered,
        "each is answered once"
    );
}

#[test]
fn a_batch_needs_as_many_keys_of_one_leader() {
    let cluster = FakeCluster::start(3, 3);
    let batch = Mix::Only(Operation::Batch(KeySpace::BATCHED, 1_024));
    let result = drive_against(&cluster, batch, Pace::Closed, 100);
    assert!(
        matches!(
            result,
            Err(LoadError::FewKeys {
                commands: 1_024,
                ..
            })
        ),
        "{result:?}"
    );
}

#[test]
fn a_cluster_is_loaded_once_by_its_leaders() {
    let cluster = FakeCluster::start(3, 3);
    let mut store = store_of(&cluster);
    let mut requests = RequestMaker::new(KEYS);
    let loaded = ensure_loaded(&mut store, KeySpace::WIDE, &mut requests).unwrap();
    assert!(loaded.seconds > 0.0);
    let batches = cluster.content().batches();
    assert!(batches >= KEYS / 512);
    let again = ensure_loaded(&mut store, KeySpace::WIDE, &mut requests).unwrap();
    assert_eq!(again.seconds, 0.0);
    assert_eq!(cluster.content().batches(), batches);
    assert_eq!(cluster.redirects(), 0);
}

#[test]
fn loading_begins_again_where_leaders_are_others_than_the_map_said() {
    let cluster = FakeCluster::start(3, 3);
    let mut store = store_of(&cluster);
    let mut requests = RequestMaker::new(KEYS);
    cluster.move_after(0, 1, 0);
    // The map that the store has was read before.
    assert!(crate::preload::preload(store.target(), KeySpace::SMALL, &mut requests).is_err());
    preload_store(&mut store, KeySpace::SMALL, &mut requests).unwrap();
}

#[test]
fn a_store_is_all_cores_of_all_nodes() {
    let cluster = FakeCluster::start(3, 2);
    let mut store = store_of(&cluster);
    assert_eq!(store.addresses().len(), 3);
    store.check_complete(3).unwrap();
    assert!(store.check_complete(4).is_err());
    store.watch_process(None).unwrap();
    // All of them are this process, which counts once.
    assert_eq!(store.processes().len(), 1);
    let before = store.observe().unwrap();
    assert_eq!((before.nodes(), before.shards()), (3, 2));
    assert_eq!(before.replicas_per_shard(), 3);
    cluster.move_after(0, 1, 2);
    let after = store.observe().unwrap();
    assert!(after.has_other_leaders(&before));
    assert_eq!(after.leads()[&1].node_id, 3);
    let key = KeySpace::SMALL.key(5);
    store.refresh_routes().unwrap();
    let answer = store
        .core_for(&key)
        .get(metastore_statemachine::NamespaceId::DEFAULT, &key);
    assert!(answer.is_ok(), "{answer:?}");
}

#[test]
fn whoever_is_said_to_lead_is_asked_first_and_anybody_else_then() {
    let cluster = FakeCluster::start(3, 2);
    let store = store_of(&cluster);
    let routes = store.target().routes.unwrap();
    let [first, second, third]: [SocketAddr; 3] = cluster.addresses().try_into().unwrap();
    let mut moved = routes.clone();
    moved.lead_from(0, third);
    let asked = RefCell::new(Vec::new());
    let follow_from = |hint, tells: &dyn Fn(SocketAddr) -> Option<Routes>| {
        asked.borrow_mut().clear();
        let mut routes = routes.clone();
        follow(&mut routes, &[(0, hint)], &[], |address| {
            asked.borrow_mut().push(address);
            tells(address)
        });
        (routes.leader(0), asked.borrow().clone())
    };
    let knows = |_| Some(moved.clone());
    assert_eq!(follow_from(Some(second), &knows), (third, vec![second]));
    assert_eq!(follow_from(None, &knows), (third, vec![first]));
    let nobody = |_| None;
    // The hint is all that there is then.
    assert_eq!(follow_from(Some(second), &nobody).0, second);
    assert_eq!(follow_from(None, &nobody).0, first);
}

#[test]
fn whoever_is_gone_is_asked_last_and_led_by_only_if_nobody_names_another() {
    let cluster = FakeCluster::start(3, 1);
    let store = store_of(&cluster);
    let routes = store.target().routes.unwrap();
    let [dead, second, third]: [SocketAddr; 3] = cluster.addresses().try_into().unwrap();
    assert_eq!(routes.leader(0), dead);
    let mut moved = routes.clone();
    moved.lead_from(0, third);
    let asked = RefCell::new(Vec::new());
    let follow_from = |hint, tells: &dyn Fn(SocketAddr) -> Option<Routes>| {
        asked.borrow_mut().clear();
        let mut routes = routes.clone();
        follow(&mut routes, &[(0, hint)], &[dead], |address| {
            asked.borrow_mut().push(address);
            tells(address)
        });
        (routes.leader(0), asked.borrow().clone())
    };
    // The second has not heard of it yet.
    let some_know = |address| match address == second {
        true => Some(routes.clone()),
        false => Some(moved.clone()),
    };
    let all = (third, vec![second, third]);
    assert_eq!(follow_from(None, &some_know), all);
    assert_eq!(follow_from(Some(dead), &some_know), all);
    let nobody_knows = |_| Some(routes.clone());
    assert_eq!(follow_from(None, &nobody_knows).0, dead);
    let nobody = |_| None;
    let everybody = vec![second, third, dead];
    assert_eq!(follow_from(None, &nobody), (dead, everybody));
}
