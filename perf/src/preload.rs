//! Loading keys before they are asked for.

use std::thread;
use std::time::{Duration, Instant};

use metastore_net::Response;
use metastore_net::blocking::{Client, ClientError};
use metastore_statemachine::{Command, NamespaceId};
use serde::Serialize;

use crate::keys::{Key, KeySpace};
use crate::operation::{Failure, RequestMaker, judge_outcome};
use crate::protocol::{Puts, Reply, Request, Session, SessionError};
use crate::store::{Store, StoreError};
use crate::system::{System, Target};

/// Commands in a frame, unless the store allows fewer.
const BATCH_COMMANDS: usize = 512;

/// Commits of etcd after which nothing is left of the loading: one that holds its end, and one more to spare.
const ETCD_COMMITS: u32 = 3;

/// Longer than etcd takes from one commit to the next.
const ETCD_COMMIT_PAUSE: Duration = Duration::from_millis(150);

/// Frames in flight.
const BATCHES_IN_FLIGHT: usize = 8;

/// How long a cluster is given before loading begins anew.
const LEADER_PAUSE: Duration = Duration::from_millis(300);

/// What was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Loaded {
    pub(crate) keys: u64,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    /// Zero when the keys were there already.
    pub(crate) seconds: f64,
}

impl Loaded {
    fn of(space: KeySpace, keys: u64, seconds: f64) -> Loaded {
        Loaded {
            keys,
            key_bytes: space.key_bytes,
            value_bytes: space.value_bytes,
            seconds,
        }
    }

    /// What was loaded, in words.
    pub(crate) fn words(&self) -> String {
        let Loaded {
            keys,
            key_bytes,
            value_bytes,
            seconds,
        } = *self;
        let how = if seconds > 0.0 {
            format!("loaded in {seconds:.1} s, batches of {BATCH_COMMANDS}")
        } else {
            "there from an earlier run".to_owned()
        };
        format!("{keys} keys of {key_bytes} bytes with values of {value_bytes} bytes: {how}")
    }
}

/// Why keys cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadingError {
    #[error("loading: {0}")]
    Client(#[from] ClientError),
    #[error("loading: {0}")]
    Store(#[from] StoreError),
    #[error("loading: {0}")]
    Session(#[from] SessionError),
    #[error("loading: {0}")]
    Failure(#[from] Failure),
}

/// Makes sure that the first keys of a space are there. A marker in the store, written last, tells that they are.
pub(crate) fn ensure_loaded(
    store: &mut Store,
    space: KeySpace,
    requests: &mut RequestMaker,
) -> Result<Loaded, LoadingError> {
    let keys = requests.key_count();
    let started = Instant::now();
    let marker = space.marker();
    let is_loaded = marked_keys(store.core_for(&marker), &marker)? >= keys;
    if !is_loaded {
        match store.target().routes {
            Some(_) => preload_store(store, space, requests).map(drop)?,
            None => load(store.core_for(&marker), space, keys, requests)?,
        }
        let content = keys.to_string();
        let client = store.core_for(&marker);
        client.put(NamespaceId::DEFAULT, &marker, content.as_bytes())?;
    }
    let elapsed = if is_loaded {
        Duration::ZERO
    } else {
        started.elapsed()
    };
    Ok(Loaded::of(space, keys, elapsed.as_secs_f64()))
}

/// As [`preload`], and once more from the beginning, with half as much in flight, when leaders of a cluster move meanwhile or
/// one of them has too much to do.
pub(crate) fn preload_store(
    store: &mut Store,
    space: KeySpace,
    requests: &mut RequestMaker,
) -> Result<Loaded, LoadingError> {
    let mut in_flight = BATCHES_IN_FLIGHT;
    loop {
        store.refresh_routes()?;
        match preload_by(store.target(), space, requests, in_flight) {
            Err(LoadingError::Failure(failure)) if failure.may_pass() && in_flight > 1 => {
                in_flight /= 2;
                thread::sleep(LEADER_PAUSE);
            }
            result => return result,
        }
    }
}

/// Loads the first keys of a space into any system, whatever is there.
pub(crate) fn preload(
    target: Target<'_>,
    space: KeySpace,
    requests: &mut RequestMaker,
) -> Result<Loaded, LoadingError> {
    preload_by(target, space, requests, BATCHES_IN_FLIGHT)
}

fn preload_by(
    target: Target<'_>,
    space: KeySpace,
    requests: &mut RequestMaker,
    in_flight: usize,
) -> Result<Loaded, LoadingError> {
    let keys = requests.key_count();
    let started = Instant::now();
    match target.routes {
        None => {
            let mut session = Session::connect(target.system, target.addresses[0])?;
            preload_numbers(&mut session, (space, 0..keys), requests, in_flight)?;
            let seconds = started.elapsed().as_secs_f64();
            if target.system == System::Etcd {
                let_etcd_forget_the_loading(&mut session)?;
            }
            return Ok(Loaded::of(space, keys, seconds));
        }
        Some(routes) => {
            for leader in routes.leaders() {
                let mut session = Session::connect(target.system, leader)?;
                let is_led = |number: &u64| {
                    let shard = routes.shard_of(&space.key(*number));
                    routes.leader(shard) == leader
                };
                let numbers = (0..keys).filter(is_led);
                preload_numbers(&mut session, (space, numbers), requests, in_flight)?;
            }
        }
    }
    Ok(Loaded::of(space, keys, started.elapsed().as_secs_f64()))
}

/// Puts the keys of these numbers, batch after batch.
fn preload_numbers(
    session: &mut Session,
    (space, numbers): (KeySpace, impl Iterator<Item = u64>),
    requests: &mut RequestMaker,
    in_flight_max: usize,
) -> Result<(), LoadingError> {
    let mut numbers = numbers.peekable();
    let mut failure = None;
    let mut batch = Vec::new();
    while numbers.peek().is_some() || session.in_flight() > 0 {
        while numbers.peek().is_some() && session.in_flight() < in_flight_max {
            batch.clear();
            for number in numbers.by_ref().take(BATCH_COMMANDS) {
                space.append_key(number, &mut batch);
            }
            let count = batch.len() / space.key_bytes;
            let values = requests.next_value(space.value_bytes * count);
            session.submit(&Request::Batch(Puts::new(count, &batch, values)));
        }
        session.next_replies(|_, reply| {
            let found = match reply {
                Reply::Batch { .. } => return,
                Reply::Failed(found) => found.clone(),
                Reply::Pong | Reply::Done | Reply::Conflict | Reply::Row(_) | Reply::Rows(_) => {
                    Failure::Mismatch
                }
            };
            failure.get_or_insert(found);
        })?;
        if let Some(failure) = failure.take() {
            return Err(failure.into());
        }
    }
    Ok(())
}

/// Brings a system to rest after writes, so that what was written before is not paid for by the reads that follow.
pub(crate) fn let_forget_writes(target: Target<'_>) -> Result<(), LoadingError> {
    match target.system {
        System::Etcd => {
            let mut session = Session::connect(target.system, target.addresses[0])?;
            let_etcd_forget_the_loading(&mut session)
        }
        System::MetaStore | System::Redis => Ok(()),
    }
}

/// Lets etcd give up a buffer that the batches of the loading have made long.
///
/// Etcd 3.4 holds the keys that were written last in a buffer, and copies all of its length for each read, whether it is
/// still full or not. It gives a buffer up with a commit to its file if no key was written since the commit before, and
/// it commits every 100 ms if there is anything to commit. Without this a get took several times as long after loading
/// as it does after puts one by one, however long one waits.
fn let_etcd_forget_the_loading(session: &mut Session) -> Result<(), LoadingError> {
    for _ in 0..ETCD_COMMITS {
        thread::sleep(ETCD_COMMIT_PAUSE);
        let done = session.ask(&Request::WriteNoKey, |reply| match reply {
            Reply::Done => Ok(()),
            Reply::Failed(failure) => Err(failure.clone()),
            Reply::Pong
            | Reply::Batch { .. }
            | Reply::Conflict
            | Reply::Row(_)
            | Reply::Rows(_) => Err(Failure::Mismatch),
        })?;
        done?;
    }
    thread::sleep(ETCD_COMMIT_PAUSE);
    Ok(())
}

/// How many keys of a space an earlier run has loaded.
fn marked_keys(client: &mut Client, marker: &[u8]) -> Result<u64, ClientError> {
    let answer = client.get(NamespaceId::DEFAULT, marker)?;
    let text = answer.row.and_then(|row| String::from_utf8(row.value).ok());
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn load(
    client: &mut Client,
    space: KeySpace,
    keys: u64,
    requests: &mut RequestMaker,
) -> Result<(), LoadingError> {
    let allowed = client.server().limits.batch_commands as usize;
    let batch_commands = BATCH_COMMANDS.min(allowed).max(1);
    let mut next = 0;
    let mut failure = None;
    while next < keys || client.pending_count() > 0 {
        while next < keys && client.pending_count() < BATCHES_IN_FLIGHT {
            let end = keys.min(next + batch_commands as u64);
            submit_batch(client, space, next..end, requests);
            next = end;
        }
        client.next_responses(|_, response| {
            if let Err(found) = judge(&response) {
                failure.get_or_insert(found);
            }
        })?;
        if let Some(failure) = failure.take() {
            return Err(failure.into());
        }
    }
    Ok(())
}

fn submit_batch(
    client: &mut Client,
    space: KeySpace,
    numbers: std::ops::Range<u64>,
    requests: &mut RequestMaker,
) {
    let keys: Vec<Key> = numbers.map(|number| space.key(number)).collect();
    let value_bytes = space.value_bytes;
    let values = requests.next_value(value_bytes * keys.len());
    let commands: Vec<Command<'_>> = keys
        .iter()
        .zip(values.chunks_exact(value_bytes))
        .map(|(key, value)| Command::put(NamespaceId::DEFAULT, key, value))
        .collect();
    client.submit(|connection| connection.batch(&commands));
}

/// Whether every command of a batch took effect.
fn judge(response: &Response<'_>) -> Result<(), Failure> {
    if let Response::Error(error) = response {
        return Err(Failure::Refused(error.clone()));
    }
    let Response::Batch(reply) = response else {
        return Err(Failure::Mismatch);
    };
    for item in reply.items() {
        let outcome = item.map_err(Failure::Refused)?;
        judge_outcome(outcome.code)?;
    }
    Ok(())
}
