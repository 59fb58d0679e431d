use super::*;
use crate::fake_store::{FakeStore, Manner};
use crate::keys::KeySpace;
use crate::operation::Operation;
use metastore_net::ErrorCode;
use std::net::TcpListener;

fn plan(addresses: &[std::net::SocketAddr], mix: Mix, pace: Pace) -> LoadPlan<'_> {
    LoadPlan {
        target: Target::metastore(addresses),
        mix,
        connections: 3,
        in_flight_per_connection: 8,
        pace,
        warm_up: Duration::from_millis(50),
        measured: Duration::from_millis(250),
        patience: Duration::from_secs(5),
        mark: None,
        survives_lost_nodes: false,
    }
}

fn drive_against(manner: Manner, operation: Operation, pace: Pace) -> LoadResult {
    drive_mix_against(manner, Mix::Only(operation), pace)
}

fn drive_mix_against(manner: Manner, mix: Mix, pace: Pace) -> LoadResult {
    let store = FakeStore::start(manner);
    let mut requests = RequestMaker::new(1_000);
    if let (Manner::Reversed, Some(space)) = (manner, mix.key_space()) {
        store.put_all(
            (0..1_000).map(|number| space.key(number)),
            space.value_bytes,
        );
    }
    drive(&plan(&[store.address()], mix, pace), &mut requests).unwrap()
}

#[test]
fn a_closed_loop_keeps_every_connection_full_and_matches_answers_out_of_order() {
    for operation in [Operation::Ping, Operation::Put(KeySpace::SMALL)] {
        let result = drive_against(Manner::Reversed, operation, Pace::Closed);
        assert_eq!(result.failures.first, None);
        assert!(result.answered > 100, "{}", result.answered);
        assert!(
            result.answered_in_all > result.answered,
            "the warm-up is not measured"
        );
        assert_eq!(result.latency.len(), result.answered);
        assert!(result.latency.max() < 1_000_000_000);
    }
}

#[test]
fn an_open_loop_offers_what_it_was_told() {
    let pace = Pace::Poisson {
        operations_per_second: 2_000.0,
    };
    let addresses = [FakeStore::start(Manner::Reversed).address()];
    let mut plan = plan(
        &addresses,
        Mix::Only(Operation::Put(KeySpace::MEDIUM)),
        pace,
    );
    // Room for everything, so that a busy machine cannot fill it.
    plan.in_flight_per_connection = 1_000;
    let result = drive(&plan, &mut RequestMaker::new(1_000)).unwrap();
    // 500 on average, with a standard deviation of about 22.
    assert!((390..610).contains(&result.offered), "{}", result.offered);
    assert_eq!(result.unsent, 0);
    assert_eq!(result.latency.len(), result.offered);
}

#[test]
fn a_stall_counts_for_every_operation_that_was_meant_to_start_in_it() {
    // A fifth of the run passes while the store sleeps. Whoever only looks at requests that were sent sees one slow
    // answer for each place in flight.
    let manner = Manner::StallsOnce {
        after: Duration::from_millis(100),
        stall: Duration::from_millis(100),
    };
    let pace = Pace::Poisson {
        operations_per_second: 4_000.0,
    };
    let result = drive_against(manner, Operation::Ping, pace);
    let slow = result.latency.len() - result.latency.count_between(0, 10_000_000);
    assert!(slow > 200, "{slow} of {} were slow", result.latency.len());
}

#[test]
fn refused_operations_are_counted_and_the_first_is_kept() {
    let operation = Operation::Put(KeySpace::SMALL);
    let result = drive_against(Manner::Refuses, operation, Pace::Closed);
    assert_eq!(result.failures.count, result.answered_in_all);
    assert_eq!(result.latency.len(), 0);
    let first = result.failures.first.expect("all failed");
    assert!(matches!(first, Failure::Refused(error) if error.code == ErrorCode::Overloaded));
}

#[test]
fn gets_are_judged_by_what_they_find() {
    let first_failure = |manner, space| {
        let result = drive_against(manner, Operation::Get(space), Pace::Closed);
        assert!(result.answered > 0);
        result.failures.first
    };
    let finds = Manner::Finds { value_bytes: 256 };
    assert_eq!(first_failure(finds, KeySpace::MEDIUM), None);
    let other = Failure::ValueLength {
        expected_bytes: 16,
        found_bytes: 256,
    };
    assert_eq!(first_failure(finds, KeySpace::SMALL), Some(other));
    let absent = first_failure(Manner::Empty, KeySpace::SMALL);
    assert_eq!(absent, Some(Failure::Absent));
}

#[test]
fn nobody_there_is_an_error_and_not_a_hang() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addresses = [listener.local_addr().unwrap()];
    drop(listener);
    let mut requests = RequestMaker::new(10);
    let result = drive(
        &plan(&addresses, Mix::Only(Operation::Ping), Pace::Closed),
        &mut requests,
    );
    assert!(matches!(
        result,
        Err(LoadError::Session(SessionError::Connect { .. }))
    ));
}

#[test]
fn a_store_that_does_not_answer_is_given_up() {
    let addresses = [FakeStore::start(Manner::Silent).address()];
    let mut requests = RequestMaker::new(10);
    let mut plan = plan(&addresses, Mix::Only(Operation::Ping), Pace::Closed);
    plan.patience = Duration::from_millis(100);
    let result = drive(&plan, &mut requests);
    assert!(
        matches!(result, Err(LoadError::NoAnswer { missing: 24, .. })),
        "{result:?}"
    );
}

#[test]
fn an_open_loop_sleeps_between_requests_and_while_it_waits_for_the_last_answers() {
    // The run is over after 300 ms, and the answers come after 700.
    let store = FakeStore::start(Manner::StallsOnce {
        after: Duration::from_millis(200),
        stall: Duration::from_millis(500),
    });
    let pace = Pace::Poisson {
        operations_per_second: 500.0,
    };
    let addresses = [store.address()];
    let plan = plan(&addresses, Mix::Only(Operation::Ping), pace);
    let cpu_of_this_thread = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        let nanoseconds = stat.split(' ').next().unwrap();
        Duration::from_nanos(nanoseconds.parse().unwrap())
    };
    let before = cpu_of_this_thread();
    let result = drive(&plan, &mut RequestMaker::new(1_000)).unwrap();
    let spent = cpu_of_this_thread() - before;
    assert!(result.answered > 0);
    // Asking without sleep would take most of 700 ms.
    assert!(spent < Duration::from_millis(150), "{spent:?}");
}

#[test]
fn a_mix_is_answered_operation_by_operation() {
    let pace = Pace::Poisson {
        operations_per_second: 4_000.0,
    };
    let mix = Mix::Metadata(KeySpace::LONG);
    let result = drive_mix_against(Manner::Reversed, mix, pace);
    assert_eq!(result.failures.first, None);
    let counts: Vec<u64> = result
        .latency_by_kind
        .iter()
        .map(|(_, histogram)| histogram.len())
        .collect();
    // About 1,000 in all: 800, 150, 40 and 10.
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    assert_eq!(
        counts.iter().sum::<u64>() + result.unsent,
        result.latency.len()
    );
    assert!(result.conflicts <= counts[2], "{}", result.conflicts);
}

#[test]
fn a_swap_fails_when_somebody_was_faster() {
    // One key after the other is read and swapped by every connection: the frequent ones collide.
    let swap = Operation::CompareAndSwap(KeySpace::LONG);
    let result = drive_against(Manner::Reversed, swap, Pace::Closed);
    assert_eq!(result.failures.first, None);
    assert!(result.conflicts > 0);
    assert!(result.conflicts < result.answered);
}

#[test]
fn a_list_begins_with_the_key_that_it_was_asked_for() {
    let list = Operation::List(KeySpace::LONG);
    let result = drive_against(Manner::Reversed, list, Pace::Closed);
    assert_eq!(result.failures.first, None);
    let result = drive_against(Manner::Empty, list, Pace::Closed);
    assert_eq!(result.failures.first, Some(Failure::Absent));
}

#[test]
fn requests_are_marked_while_the_mark_is_set() {
    let addresses = [FakeStore::start(Manner::Reversed).address()];
    let mut requests = RequestMaker::new(1_000);
    let mut marked = |is_set: bool| {
        let mark = AtomicBool::new(is_set);
        let ping = Mix::Only(Operation::Ping);
        let plan = LoadPlan {
            mark: Some(&mark),
            ..plan(&addresses, ping, Pace::Closed)
        };
        let result = drive(&plan, &mut requests).unwrap();
        (result.latency.len(), result.latency_marked.len())
    };
    let (all, some) = marked(true);
    assert_eq!(all, some);
    let (all, some) = marked(false);
    assert!(all > 0 && some == 0, "{some} of {all}");
}

#[test]
fn a_batch_counts_for_each_of_its_commands() {
    let mix = Mix::Only(Operation::Batch(KeySpace::BATCHED, 64));
    let store = FakeStore::start(Manner::Reversed);
    let addresses = [store.address()];
    let mut requests = RequestMaker::new(1_000);
    let closed = drive(&plan(&addresses, mix, Pace::Closed), &mut requests).unwrap();
    assert_eq!(closed.failures.first, None);
    assert!(closed.answered > 0);
    assert_eq!(closed.answered, 64 * closed.latency.len());
    assert_eq!(closed.answered_in_all, 64 * store.batches());

    let pace = Pace::Poisson {
        operations_per_second: 400.0,
    };
    let open = drive(&plan(&addresses, mix, pace), &mut requests).unwrap();
    assert_eq!(open.offered, 64 * open.latency.len());
}
