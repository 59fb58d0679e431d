use super::*;
use crate::keys::KeySpace;
use metastore_net::{
    ErrorCode, FRAME_BYTES_MAX_DEFAULT, FrameHeader, FrameKind, HelloInfo, HelloReply,
    ReadPosition, Request, RequestLimits, ServerLimits, WireError, append_error, append_get,
    append_hello, append_outcome, append_pong, cut_frame,
};
use metastore_statemachine::{Outcome, OutcomeCode, Revision, Row};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// How the fake store treats what it gets.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers everything, the newest request of a read first.
    Reversed,
    /// As before, but once per connection it sleeps in the middle of the run.
    StallsOnce { after: Duration, stall: Duration },
    /// Refuses every put.
    Refuses,
    /// Answers the greeting and nothing else.
    Silent,
}

/// A store that answers without storing. It ends with its connections.
fn fake_store(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || serve(stream, manner));
        }
    });
    address
}

fn serve(mut stream: TcpStream, manner: Manner) -> io::Result<()> {
    let started = Instant::now();
    let mut has_stalled = false;
    let mut received = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let bytes = stream.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(());
        }
        received.extend_from_slice(&buffer[..bytes]);
        let mut answers = Vec::new();
        let mut consumed = 0;
        while let Some(frame) = cut_frame(&received[consumed..], FRAME_BYTES_MAX_DEFAULT).unwrap() {
            consumed += frame.consumed_bytes;
            answers.push(answer(&frame.header, frame.body, manner));
        }
        received.drain(..consumed);
        if let Manner::StallsOnce { after, stall } = manner
            && !has_stalled
            && started.elapsed() > after
        {
            has_stalled = true;
            thread::sleep(stall);
        }
        answers.reverse();
        stream.write_all(&answers.concat())?;
    }
}

fn answer(header: &FrameHeader, body: &[u8], manner: Manner) -> Vec<u8> {
    let mut out = Vec::new();
    let id = header.request_id;
    let request = Request::decode(header, body, &RequestLimits::default()).unwrap();
    match request {
        Request::Hello(_) => {
            let reply = HelloReply {
                version: 1,
                info: HelloInfo {
                    cluster_id: 1,
                    node_id: 1,
                    core_index: 0,
                    core_count: 1,
                    first_port: 1,
                    map_epoch: 1,
                    server_version: "fake".to_owned(),
                },
                limits: ServerLimits::default(),
            };
            append_hello(&mut out, id, &reply);
        }
        _ if matches!(manner, Manner::Silent) => {}
        Request::Ping => append_pong(&mut out, id),
        Request::Command(_) if matches!(manner, Manner::Refuses) => {
            let error = WireError::new(ErrorCode::Overloaded);
            append_error(&mut out, FrameKind::Command, id, &error);
        }
        Request::Command(checked) => {
            assert_eq!(checked.command.key.len(), 8);
            let outcome = Outcome {
                code: OutcomeCode::Done,
                revision: Revision(1),
                number: None,
                previous: None,
            };
            append_outcome(&mut out, id, &outcome);
        }
        Request::Get(get) => {
            let row = Row {
                key: get.query.key,
                value: &[7; 256],
                create_revision: Revision(1),
                mod_revision: Revision(1),
                version: 1,
                lease: 0,
            };
            let position = ReadPosition {
                shard: 0,
                revision: Revision(1),
            };
            append_get(&mut out, id, position, Some(row));
        }
        Request::GetMany(_)
        | Request::Batch(_)
        | Request::Range(_)
        | Request::Cancel { .. }
        | Request::Status
        | Request::ShardMap => panic!("the load does not ask {request:?}"),
    }
    out
}

fn plan(addresses: &[SocketAddr], operation: Operation, pace: Pace) -> LoadPlan<'_> {
    LoadPlan {
        addresses,
        operation,
        connections: 3,
        in_flight_per_connection: 8,
        pace,
        warm_up: Duration::from_millis(50),
        measured: Duration::from_millis(250),
        patience: Duration::from_secs(5),
    }
}

fn drive_against(manner: Manner, operation: Operation, pace: Pace) -> LoadResult {
    let addresses = [fake_store(manner)];
    let mut requests = RequestMaker::new(1_000);
    drive(&plan(&addresses, operation, pace), &mut requests).unwrap()
}

#[test]
fn a_closed_loop_keeps_every_connection_full_and_matches_answers_out_of_order() {
    for operation in [
        Operation::Ping,
        Operation::Put(KeySpace::SMALL),
        Operation::Get(KeySpace::MEDIUM),
    ] {
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
    let addresses = [fake_store(Manner::Reversed)];
    let mut plan = plan(&addresses, Operation::Put(KeySpace::MEDIUM), pace);
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
fn a_get_that_finds_another_value_than_was_loaded_is_a_failure() {
    let operation = Operation::Get(KeySpace::SMALL);
    let result = drive_against(Manner::Reversed, operation, Pace::Closed);
    let expected = Failure::ValueLength {
        expected_bytes: 16,
        found_bytes: 256,
    };
    assert_eq!(result.failures.first, Some(expected));
}

#[test]
fn nobody_there_is_an_error_and_not_a_hang() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addresses = [listener.local_addr().unwrap()];
    drop(listener);
    let mut requests = RequestMaker::new(10);
    let result = drive(
        &plan(&addresses, Operation::Ping, Pace::Closed),
        &mut requests,
    );
    assert!(matches!(result, Err(LoadError::Connect { .. })));
}

#[test]
fn a_store_that_does_not_answer_is_given_up() {
    let addresses = [fake_store(Manner::Silent)];
    let mut requests = RequestMaker::new(10);
    let mut plan = plan(&addresses, Operation::Ping, Pace::Closed);
    plan.patience = Duration::from_millis(100);
    let result = drive(&plan, &mut requests);
    assert!(
        matches!(result, Err(LoadError::NoAnswer { missing: 24, .. })),
        "{result:?}"
    );
}
