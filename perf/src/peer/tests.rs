use super::*;
use crate::keys::KeySpace;
use crate::load::{LoadPlan, LoadResult, Pace, drive};
use crate::operation::{Mix, Operation, RequestMaker};
use crate::preload::preload;
use crate::test_directory::TestDirectory;

const KEYS: u64 = 3_000;

/// A server of a system, or `None` with a word about it where that is not installed.
fn start(system: System, parent: &TestDirectory) -> Option<Peer> {
    start_members(system, 1, parent)
}

fn start_members(system: System, members: usize, parent: &TestDirectory) -> Option<Peer> {
    match Peer::start(system, members, parent.path()) {
        Ok(peer) => Some(peer),
        Err(missing @ PeerError::Missing { .. }) => {
            println!("skipped: {missing}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn run(peer: &Peer, mix: Mix, pace: Pace) -> LoadResult {
    let mut requests = RequestMaker::new(KEYS);
    let space = mix.key_space().unwrap_or(KeySpace::SMALL);
    let loaded = preload(peer.target(), space, &mut requests).unwrap();
    assert_eq!(loaded.keys, KEYS);
    let plan = LoadPlan {
        target: peer.target(),
        mix,
        connections: 3,
        in_flight_per_connection: 20,
        pace,
        warm_up: Duration::from_millis(50),
        measured: Duration::from_millis(250),
        patience: Duration::from_secs(20),
        mark: None,
        survives_lost_nodes: false,
    };
    drive(&plan, &mut requests).unwrap()
}

/// Runs every operation that the system offers, and looks at what was put.
fn exercise(peer: &Peer, operations: &[Operation]) {
    let before = peer.observe().unwrap();
    for &operation in operations {
        let mix = Mix::Only(operation);
        assert!(peer.system().offers(mix), "{operation:?}");
        let result = run(peer, mix, Pace::Closed);
        assert_eq!(result.failures.first, None, "{operation:?}");
        assert!(result.answered_in_all > 0, "{operation:?}");
        let commands = mix.commands_per_request();
        assert_eq!(result.answered_in_all % commands, 0);
        assert_eq!(result.answered, result.latency.len() * commands);
    }
    let used = peer.observe().unwrap().since(&before);
    assert!(used.cpu > Duration::ZERO);
    if let Some(bytes) = used.written_bytes {
        assert!(bytes > KEYS, "{bytes}");
    }
}

fn ends_without_a_trace(peer: Peer, parent: &TestDirectory) {
    let processes = peer.processes().into_iter();
    let processes: Vec<PathBuf> = processes
        .map(|process| PathBuf::from(format!("/proc/{}", process.0)))
        .collect();
    assert_eq!(processes.len(), peer.members());
    assert!(processes.iter().all(|process| process.exists()));
    assert!(peer.data().iter().all(|data| data.exists()));
    drop(peer);
    assert!(processes.iter().all(|process| !process.exists()));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn redis_does_what_it_is_asked() {
    let parent = TestDirectory::new("redis_does");
    let Some(peer) = start(System::Redis, &parent) else {
        return;
    };
    assert!(peer.version().starts_with(|c: char| c.is_ascii_digit()));
    let always = ["--appendfsync", "always"];
    assert!(peer.arguments().windows(2).any(|pair| pair == always));
    let batch = |commands| Operation::Batch(KeySpace::BATCHED, commands);
    exercise(
        &peer,
        &[
            Operation::Ping,
            Operation::Put(KeySpace::WIDE),
            Operation::Get(KeySpace::MEDIUM),
            batch(64),
            batch(1_024),
        ],
    );
    ends_without_a_trace(peer, &parent);
}

#[test]
fn etcd_does_what_it_is_asked() {
    let parent = TestDirectory::new("etcd_does");
    let Some(peer) = start(System::Etcd, &parent) else {
        return;
    };
    assert!(peer.version().starts_with(|c: char| c.is_ascii_digit()));
    let batch = |commands| Operation::Batch(KeySpace::BATCHED, commands);
    exercise(
        &peer,
        &[
            Operation::Put(KeySpace::WIDE),
            Operation::Get(KeySpace::MEDIUM),
            Operation::List(KeySpace::LONG),
            Operation::CompareAndSwap(KeySpace::LONG),
            batch(64),
            batch(1_024),
        ],
    );
    let pace = Pace::Poisson {
        operations_per_second: 300.0,
    };
    let result = run(&peer, Mix::Metadata(KeySpace::LONG), pace);
    assert_eq!(result.failures.first, None);
    assert!(result.answered_in_all > 0);
    ends_without_a_trace(peer, &parent);
}

#[test]
fn three_members_of_etcd_are_one_system_and_end_together() {
    let parent = TestDirectory::new("three_members_of_etcd");
    let Some(mut peer) = start_members(System::Etcd, 3, &parent) else {
        return;
    };
    peer.find_leader().unwrap();
    let [address] = peer.address;
    assert!(leader::leads(address).unwrap());
    let others = peer.members.iter().filter(|one| one.address != address);
    let leads: Vec<bool> = others
        .map(|one| leader::leads(one.address).unwrap())
        .collect();
    assert_eq!(leads, [false, false]);
    exercise(&peer, &[Operation::Put(KeySpace::SMALL)]);
    ends_without_a_trace(peer, &parent);
}

#[test]
fn redis_has_no_members() {
    let parent = TestDirectory::new("redis_has_no_members");
    let refused = Peer::start(System::Redis, 3, parent.path());
    assert!(matches!(refused, Err(PeerError::NotReplicated { .. })));
}

#[test]
fn a_swap_in_etcd_is_late_when_somebody_was_faster() {
    let parent = TestDirectory::new("a_swap_in_etcd");
    let Some(peer) = start(System::Etcd, &parent) else {
        return;
    };
    let mut session = Session::connect(System::Etcd, peer.target().addresses[0]).unwrap();
    let put = Request::Put {
        key: b"k",
        value: b"one",
    };
    assert!(session.ask(&put, |reply| *reply == Reply::Done).unwrap());
    let get = Request::Get { key: b"k" };
    let mut read = || {
        let found = session.ask(&get, |reply| {
            let Reply::Row(Some(row)) = reply else {
                panic!("{reply:?}");
            };
            (row.value.to_vec(), row.revision)
        });
        found.unwrap()
    };
    let (value, revision) = read();
    assert_eq!(value, b"one");
    let swap = Request::CompareAndSwap {
        key: b"k",
        value: b"two",
        revision,
    };
    let mut session = Session::connect(System::Etcd, peer.target().addresses[0]).unwrap();
    assert!(session.ask(&swap, |reply| *reply == Reply::Done).unwrap());
    assert!(
        session
            .ask(&swap, |reply| *reply == Reply::Conflict)
            .unwrap()
    );
}

#[test]
fn what_cannot_be_started_says_why() {
    let parent = TestDirectory::new("what_cannot_be_started");
    let own = Peer::start(System::MetaStore, 1, parent.path());
    assert!(matches!(own, Err(PeerError::NoPeer { .. })));
    let recipe = Recipe {
        program: "metastore-perf-no-such-program",
        package: "no-such-package",
        ..redis::RECIPE
    };
    let missing = recipe.version().unwrap_err();
    assert_eq!(
        missing.to_string(),
        "metastore-perf-no-such-program is not installed: `apt-get install no-such-package`"
    );
    // It tells a version, and ends at once.
    let recipe = Recipe {
        program: "true",
        ..redis::RECIPE
    };
    assert!(matches!(recipe.version(), Err(PeerError::Version { .. })));
    let ended = recipe.start((System::Redis, 1), parent.path(), "1");
    assert!(matches!(ended, Err(PeerError::Ended { .. })), "{ended:?}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}
