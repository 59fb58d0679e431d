//! Connections that break and servers that say no: what is tried again, what is not, and what the caller is told.

use crate::fake::{Fake, Trouble};
use metastore_net::async_client::{Client, ClientSettings, Error, Fault, RetryUnknown};
use metastore_net::{ErrorCode, Happened, WireError};
use metastore_statemachine::Revision;
use std::time::{Duration, Instant};

async fn start() -> (Fake, Client) {
    start_with(ClientSettings::default()).await
}

async fn start_with(settings: ClientSettings) -> (Fake, Client) {
    let fake = Fake::start().await;
    let client = Client::connect([&fake.address], settings).await.unwrap();
    (fake, client)
}

/// Ways to lose an answer after the request was carried out.
fn losses() -> [Trouble; 5] {
    [
        Trouble::CutAfter,
        Trouble::CutInAnswer,
        Trouble::Garbage,
        Trouble::WrongId,
        Trouble::CarryOutAndSay(WireError::new(ErrorCode::Internal).outcome_unknown()),
    ]
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_not_repeated() {
    let (fake, client) = start().await;
    for (count, loss) in (1..).zip(losses()) {
        fake.trouble([loss.clone()]);
        let error = client.add("/n", 1).await.unwrap_err();
        assert!(
            matches!(error, Error::OutcomeUnknown { .. }),
            "{loss:?}: {error}"
        );
        assert_eq!(error.happened(), Happened::Unknown);
        assert_eq!(fake.applied(), count, "{loss:?}");
        assert_eq!(fake.requests(), count, "{loss:?}");
    }
    // The client is of use all the same.
    assert_eq!(client.add("/n", 1).await.unwrap().value, 6);
}

#[tokio::test]
async fn a_write_that_vanished_before_it_was_carried_out_is_not_repeated_either() {
    let (fake, client) = start().await;
    fake.trouble([Trouble::CutBefore]);
    let error = client.put("/k", "v").await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    assert_eq!(fake.applied(), 0);
    assert_eq!(fake.requests(), 1);
}

#[tokio::test]
async fn a_write_is_repeated_when_the_caller_says_so() {
    let (fake, client) = start().await;
    for loss in losses() {
        fake.trouble([loss]);
        client
            .put("/k", "v")
            .retry_unknown(RetryUnknown::Yes)
            .await
            .unwrap();
    }
    assert_eq!(fake.applied(), 2 * losses().len());
}

#[tokio::test]
async fn commands_at_the_end_of_a_batch_that_were_not_done_are_sent_again() {
    let (fake, client) = start().await;
    let not_leader = WireError::new(ErrorCode::NotLeader);
    fake.trouble([
        Trouble::RefuseFrom(3, not_leader.clone()),
        Trouble::RefuseFrom(0, not_leader),
        Trouble::Serve,
    ]);
    let mut batch = client.batch();
    for _ in 0..8 {
        batch.add("/n", 1);
    }
    let answers = batch.await;
    let values = answers.iter().map(|answer| answer.as_ref().unwrap().number);
    assert!(values.eq((1..=8).map(Some)), "{answers:?}");
    assert_eq!((fake.requests(), fake.applied()), (3, 8));
    // What will not pass is not sent again, and nothing before what was done.
    fake.trouble([Trouble::RefuseFrom(2, WireError::new(ErrorCode::ReadOnly))]);
    let mut batch = client.batch();
    for _ in 0..3 {
        batch.add("/n", 1);
    }
    let answers = batch.await;
    assert_eq!(answers[1].as_ref().unwrap().number, Some(10));
    let refused = answers[2].as_ref().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::ReadOnly));
    assert_eq!(fake.requests(), 4);
}

#[tokio::test]
async fn a_batch_that_was_lost_once_is_not_told_to_be_undone_for_its_refusal_the_second_time() {
    let (fake, client) = start().await;
    let read_only = WireError::new(ErrorCode::ReadOnly);
    fake.trouble([Trouble::CutAfter, Trouble::RefuseFrom(0, read_only)]);
    let mut batch = client.batch();
    batch.retry_unknown(RetryUnknown::Yes);
    batch.put("/a", "1").put("/b", "2");
    let answers = batch.await;
    for answer in &answers {
        let error = answer.as_ref().unwrap_err();
        assert_eq!(error.happened(), Happened::Unknown, "{error}");
    }
    assert_eq!((answers.len(), fake.applied()), (2, 2));
}

#[tokio::test]
async fn a_write_that_names_its_revision_is_repeated_and_applied_once() {
    let (fake, client) = start().await;
    let first = client.put("/k", "1").await.unwrap().revision;
    // Lost before it was carried out: the repetition does it.
    fake.trouble([Trouble::CutBefore]);
    let second = client
        .put("/k", "2")
        .expected_revision(first)
        .await
        .unwrap();
    assert_eq!(fake.value("/k").unwrap(), b"2");
    // Carried out, and its answer lost: the repetition finds the revision used up, by itself or by somebody else.
    fake.trouble([Trouble::CutAfter]);
    let error = client
        .put("/k", "3")
        .expected_revision(second.revision)
        .await
        .unwrap_err();
    let Error::OutcomeUnknown { cause } = error else {
        panic!("{error}");
    };
    assert!(
        matches!(*cause, Fault::Ambiguous { revision, .. } if revision == Revision(3)),
        "{cause}"
    );
    assert_eq!(fake.value("/k").unwrap(), b"3");
}

#[tokio::test]
async fn a_write_that_demands_absence_is_not_repeated() {
    let (fake, client) = start().await;
    fake.trouble([Trouble::CutBefore, Trouble::CutBefore]);
    let absent = client.put("/k", "v").if_absent().await.unwrap_err();
    assert!(matches!(absent, Error::OutcomeUnknown { .. }), "{absent}");
    let zero = client.put("/k", "v").expected_revision(Revision(0)).await;
    let zero = zero.unwrap_err();
    assert!(matches!(zero, Error::OutcomeUnknown { .. }), "{zero}");
    assert_eq!(fake.requests(), 2);
}

#[tokio::test]
async fn reads_are_repeated_whatever_happened() {
    let (fake, client) = start().await;
    client.put("/k", "v").await.unwrap();
    for loss in losses().into_iter().chain([Trouble::CutBefore]) {
        fake.trouble([loss.clone(), loss]);
        let read = client.get("/k").await.unwrap();
        assert_eq!(read.row.unwrap().value, b"v");
    }
}

#[tokio::test]
async fn what_was_refused_is_tried_again_after_the_servers_wish() {
    let (fake, client) = start().await;
    let overloaded = WireError {
        retry_after_ms: 40,
        ..WireError::new(ErrorCode::Overloaded)
    };
    fake.trouble([
        Trouble::Refuse(overloaded.clone()),
        Trouble::Refuse(overloaded),
    ]);
    let began = Instant::now();
    client.add("/n", 1).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(80));
    assert_eq!((fake.requests(), fake.applied()), (3, 1));
    let down = WireError::new(ErrorCode::ShuttingDown);
    fake.trouble([Trouble::Refuse(down)]);
    client.add("/n", 1).await.unwrap();
    assert_eq!(fake.applied(), 2);
}

#[tokio::test]
async fn what_stays_refused_is_reported_as_not_done() {
    let (fake, client) = start().await;
    for code in [
        ErrorCode::ReadOnly,
        ErrorCode::TooLarge,
        ErrorCode::CrossShard,
    ] {
        fake.trouble([Trouble::Refuse(WireError::new(code))]);
        let error = client.put("/k", "v").await.unwrap_err();
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.happened(), Happened::NotDone);
    }
    fake.trouble(std::iter::repeat_n(
        Trouble::Refuse(WireError::new(ErrorCode::Overloaded)),
        1000,
    ));
    let deadline = Duration::from_millis(100);
    let error = client.put("/k", "v").deadline(deadline).await.unwrap_err();
    let Error::Deadline { last: Some(last) } = error else {
        panic!("{error}");
    };
    assert!(matches!(*last, Fault::Server(_)), "{last}");
    assert_eq!(fake.applied(), 0);
}

#[tokio::test]
async fn an_unknown_outcome_stays_unknown_when_the_repetition_is_refused() {
    let (fake, client) = start().await;
    fake.trouble([
        Trouble::CutAfter,
        Trouble::Refuse(WireError::new(ErrorCode::ReadOnly)),
    ]);
    let error = client
        .put("/k", "v")
        .retry_unknown(RetryUnknown::Yes)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    assert_eq!(fake.applied(), 1);
}

#[tokio::test]
async fn a_slow_answer_is_not_waited_for_beyond_the_deadline() {
    let (fake, client) = start().await;
    let deadline = Duration::from_millis(60);
    fake.trouble([Trouble::Slow(Duration::from_millis(300))]);
    let began = Instant::now();
    let error = client.put("/k", "v").deadline(deadline).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    assert!(began.elapsed() >= deadline);
    // The connection is in use again once the late answer has come.
    client.put("/k", "w").await.unwrap();
    assert_eq!(fake.value("/k").unwrap(), b"w");
    fake.trouble([Trouble::Slow(Duration::from_millis(300))]);
    let error = client.get("/k").deadline(deadline).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    assert_eq!(error.happened(), Happened::NotDone);
}

#[tokio::test]
async fn a_silent_connection_is_given_up() {
    let settings = ClientSettings {
        keepalive: Duration::from_millis(50),
        ..ClientSettings::default()
    };
    let (fake, client) = start_with(settings).await;
    client.put("/k", "v").await.unwrap();
    fake.trouble([Trouble::FallSilent]);
    let read = client.get("/k").await.unwrap();
    assert_eq!(read.row.unwrap().value, b"v");
    fake.trouble([Trouble::FallSilent]);
    let error = client.put("/k", "w").await.unwrap_err();
    let Error::OutcomeUnknown { cause } = error else {
        panic!("{error}");
    };
    assert!(matches!(*cause, Fault::Silent { .. }), "{cause}");
    // An idle connection is kept alive by signs of life.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = fake
        .state
        .connections
        .load(std::sync::atomic::Ordering::SeqCst);
    client.get("/k").await.unwrap();
    let after = fake
        .state
        .connections
        .load(std::sync::atomic::Ordering::SeqCst);
    assert!(after <= before + 1);
}

#[tokio::test]
async fn one_broken_connection_tells_each_request_what_is_known_of_it() {
    let (fake, client) = start().await;
    client.put("/k", "v").await.unwrap();
    // All three leave in one write; the connection breaks at the second.
    fake.trouble([Trouble::Serve, Trouble::CutAfter]);
    let add = client.add("/n", 1).into_future();
    let put = client.put("/k", "w").into_future();
    let get = client.get("/k").into_future();
    let (add, put, get) = tokio::join!(add, put, get);
    assert_eq!(add.unwrap().value, 1);
    assert!(matches!(put, Err(Error::OutcomeUnknown { .. })), "{put:?}");
    assert_eq!(get.unwrap().row.unwrap().value, b"w");
}

#[tokio::test]
async fn a_broken_range_says_so_and_a_collected_one_begins_again() {
    let (fake, client) = start().await;
    for index in 10..45 {
        client.put(&format!("/r/{index}"), "x").await.unwrap();
    }
    fake.trouble([Trouble::CutInAnswer]);
    let mut stream = client.range("/r/").stream().await.unwrap();
    let mut count = 0;
    let error = loop {
        match stream.next().await {
            Ok(Some(_)) => count += 1,
            Ok(None) => panic!("half of an answer is not all of it"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    assert!((10..35).contains(&count), "{count}");
    let again = stream.next().await;
    assert!(again.is_err(), "a range that broke has no end: {again:?}");
    fake.trouble([Trouble::CutInAnswer, Trouble::CutBefore, Trouble::Garbage]);
    let all = client.range("/r/").collect().await.unwrap();
    assert_eq!(all.rows.len(), 35);
    fake.trouble([Trouble::Refuse(WireError::new(ErrorCode::Compacted))]);
    let error = client.range("/r/").stream().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Compacted));
}

#[tokio::test]
async fn a_range_that_breaks_every_time_is_not_read_again_without_a_pause() {
    let (fake, client) = start().await;
    for index in 10..45 {
        client.put(&format!("/r/{index}"), "x").await.unwrap();
    }
    let before = fake.requests();
    fake.trouble(vec![Trouble::CutInAnswer; 10_000]);
    let range = client.range("/r/").deadline(Duration::from_millis(500));
    range.collect().await.unwrap_err();
    let asked = fake.requests() - before;
    assert!((2..40).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_store_that_comes_back_is_found_again() {
    let fake = Fake::start().await;
    let client = Client::connect([&fake.address], ClientSettings::default())
        .await
        .unwrap();
    client.put("/k", "v").await.unwrap();
    let (address, store) = (
        fake.address.clone(),
        std::sync::Arc::clone(&fake.state.store),
    );
    drop(fake);
    let nobody = client.get("/k").deadline(Duration::from_millis(100)).await;
    let error = nobody.unwrap_err();
    assert!(
        matches!(error, Error::Deadline { last: Some(_) }),
        "{error}"
    );
    let waiting = tokio::spawn(client.put("/k", "w").into_future());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let fake = Fake::start_at(&address, store).await;
    waiting.await.unwrap().unwrap();
    assert_eq!(fake.value("/k").unwrap(), b"w");
}

#[tokio::test]
async fn a_request_that_the_server_forgot_does_not_hold_its_place_for_ever() {
    let settings = ClientSettings {
        keepalive: Duration::from_millis(50),
        in_flight_max: 1,
        ..ClientSettings::default()
    };
    let (fake, client) = start_with(settings).await;
    fake.trouble([Trouble::Swallow]);
    let deadline = Duration::from_millis(50);
    let error = client.put("/k", "v").deadline(deadline).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    client.put("/k", "w").await.unwrap();
    assert_eq!(fake.applied(), 1);
}
