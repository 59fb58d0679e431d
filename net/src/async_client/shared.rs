//! What all copies of a client share: the map, the connections, and the way an operation is tried until it is decided.

use crate::async_client::call::{
    Answer, Answered, Attempt, Call, CallResult, Claim, Effect, answer_of,
};
use crate::async_client::decide::{Again, Verdict, decide};
use crate::async_client::error::{Error, Failure, Fault};
use crate::async_client::journey::Journey;
use crate::async_client::link::Link;
use crate::async_client::placement::{Placement, Route};
use crate::async_client::settings::ClientSettings;
use crate::async_client::streams::Streams;
use crate::async_client::suspects::Suspects;
use crate::async_client::wire::Dialing;
use crate::share::{NodeShare, share_out};
use crate::wire_error::Happened;
use metastore_statemachine::Slot;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long asking for a new map may take: the operation that wants it has better things to do, and any core takes its
/// request.
const MAP_TIMEOUT: Duration = Duration::from_secs(1);

/// How often everybody is asked for the map at a time; within one round each has at least twice the patience of reads.
const MAP_ROUNDS_MAX: usize = 16;

/// Calls of one operation that are under way at a time.
const CALLS_AT_ONCE: usize = 16;

/// The longest pause before somebody who was named is asked, in first pauses.
const HINT_BACKOFF_MAX: u32 = 8;

/// The map is asked for no more often than this: a store that keeps saying "stale" must not be asked in a loop.
const MAP_AGE_MIN: Duration = Duration::from_millis(50);

/// Shared by all copies of a client.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dialing: Arc<Dialing>,
    seeds: Vec<String>,
    map: Mutex<Option<Arc<Placement>>>,
    /// Held while the map is asked for; inside, when it last was.
    refreshing: tokio::sync::Mutex<Option<Instant>>,
    links: Mutex<BTreeMap<String, Link>>,
    suspects: Suspects,
    pub(super) streams: Streams,
    /// A permit for each byte of a request that some operation holds.
    request_bytes: Semaphore,
}

/// A lock of nothing but memory, which no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(seeds: Vec<String>, settings: ClientSettings) -> Shared {
        Shared {
            request_bytes: Semaphore::new(settings.request_bytes_max),
            streams: Streams::new(settings.ranges_max),
            dialing: Arc::new(Dialing::new(settings)),
            seeds,
            map: Mutex::new(None),
            refreshing: tokio::sync::Mutex::new(None),
            links: Mutex::new(BTreeMap::new()),
            suspects: Suspects::default(),
        }
    }

    pub(super) fn settings(&self) -> &ClientSettings {
        &self.dialing.settings
    }

    // An operation.

    /// An operation sets out.
    pub(super) fn journey(&self) -> Journey {
        // At random: who counts may ask one address for all gets and another for all ranges.
        let turn = RandomState::new().hash_one(0) as usize;
        Journey::new(self.settings(), turn)
    }

    /// Tries a call until it is decided or the deadline has passed.
    pub(super) async fn call(self: &Arc<Self>, call: Call, deadline: Instant) -> CallResult {
        let mut journey = self.journey();
        self.call_on(&mut journey, call, deadline).await
    }

    /// The same on a journey that goes on from where it is.
    pub(super) async fn call_on(
        self: &Arc<Self>,
        journey: &mut Journey,
        call: Call,
        deadline: Instant,
    ) -> CallResult {
        let bytes = call.body.len();
        if bytes > self.settings().request_bytes_max {
            return Err(Error::TooLarge {
                what: "the request",
                limit: self.settings().request_bytes_max,
                actual: bytes,
            });
        }
        let permits = u32::try_from(bytes).expect("the setting is below a semaphore's limit");
        let room = timeout_at(deadline, self.request_bytes.acquire_many(permits)).await;
        let Ok(room) = room else {
            return Err(Error::Deadline { last: None });
        };
        let _room = room.expect("the semaphore is never closed");
        let call = Arc::new(call);
        loop {
            let chosen = self.choose_address(call.route, call.effect, journey);
            let Some(address) = chosen else {
                return Err(journey.end(Error::Unreachable { last: None }));
            };
            let attempt = self.attempt(&address, &call, deadline);
            let result = match call.effect {
                Effect::Read => self.while_alive(&address, attempt, deadline).await,
                Effect::Write(_) | Effect::WriteOnce => attempt.await,
            };
            let failure = match result {
                Ok(answer) => {
                    let before = journey.unknown.clone();
                    return Ok(Answered { answer, before });
                }
                Err(failure) => failure,
            };
            self.after_failure(journey, call.effect, failure, deadline)
                .await?;
        }
    }

    /// What follows a failed attempt: the journey goes on after a pause, or ends.
    pub(super) async fn after_failure(
        self: &Arc<Self>,
        journey: &mut Journey,
        effect: Effect,
        failure: Failure,
        deadline: Instant,
    ) -> Result<(), Error> {
        let verdict = decide(effect, &failure);
        let Failure { fault, happened } = failure;
        let again = match verdict {
            Verdict::Again(again) => again,
            Verdict::Fail if matches!(fault, Fault::Late) => return Err(journey.late()),
            Verdict::Fail => return Err(journey.end(failed(fault))),
            Verdict::Unknown => {
                let cause = Box::new(fault);
                return Err(Error::OutcomeUnknown { cause });
            }
        };
        if happened == Happened::Unknown && effect != Effect::Read {
            journey.unknown = Some(fault.clone());
        }
        let asked_at = Instant::now();
        journey.last = Some(fault);
        if asked_at >= deadline {
            return Err(journey.late());
        }
        let mut pause = journey.backoff.next();
        journey.hint = None;
        match again {
            Again::Later { pause_min } => pause = pause.max(pause_min),
            Again::ElsewhereLed { hint } => {
                journey.note_in_vain();
                if hint.is_empty() {
                    self.refresh_map(asked_at, deadline).await;
                } else {
                    // Whoever is named first is asked at once; the map is mended beside it, for those who come later.
                    // Two that name each other have still to learn who leads: who is sent on again waits.
                    let shared = Arc::clone(self);
                    let refresh_until = asked_at + MAP_TIMEOUT;
                    tokio::spawn(async move { shared.refresh_map(asked_at, refresh_until).await });
                    journey.hint = Some(hint);
                    if journey.hints == 0 {
                        pause = Duration::ZERO;
                    }
                    // A lead that is handed over is found within a few round trips.
                    pause = pause.min(self.settings().backoff_min * HINT_BACKOFF_MAX);
                    journey.hints += 1;
                }
            }
            Again::Elsewhere => {
                let in_vain = journey.note_in_vain();
                if in_vain > 0 && in_vain < self.addresses().len() {
                    // Somebody has not been asked yet.
                    pause = Duration::ZERO;
                } else {
                    self.refresh_map(asked_at, deadline).await;
                }
            }
        }
        let resume_at = asked_at + pause;
        if resume_at >= deadline {
            sleep_until(deadline).await;
            return Err(journey.late());
        }
        sleep_until(resume_at).await;
        Ok(())
    }

    /// Tries calls side by side, a few at a time; each answer comes with its call's number.
    pub(super) async fn call_all(
        self: &Arc<Self>,
        calls: Vec<(u32, Call)>,
        deadline: Instant,
    ) -> Vec<(u32, CallResult)> {
        let mut waiting = calls.into_iter();
        let mut running = JoinSet::new();
        let mut answers = Vec::new();
        loop {
            while running.len() < CALLS_AT_ONCE {
                let Some((number, call)) = waiting.next() else {
                    break;
                };
                let shared = Arc::clone(self);
                running.spawn(async move { (number, shared.call(call, deadline).await) });
            }
            match running.join_next().await {
                Some(answered) => answers.push(answered.expect("a call does not panic")),
                None => return answers,
            }
        }
    }

    /// One sending to one address.
    async fn attempt(
        &self,
        address: &str,
        call: &Arc<Call>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let link = self.link(address);
        let reserved = timeout_at(deadline, link.reserve()).await;
        let Ok(permit) = reserved else {
            return Err(Failure::not_done(Fault::Late));
        };
        let Some(permit) = permit else {
            return Err(Failure::not_done(Fault::Closed));
        };
        let claim = Arc::new(Claim::default());
        let (answer, mut answered) = oneshot::channel();
        permit.send(Attempt {
            call: Arc::clone(call),
            deadline,
            claim: Arc::clone(&claim),
            answer,
        });
        match timeout_at(deadline, &mut answered).await {
            Ok(Ok(result)) => result,
            // The task has gone, with its runtime.
            Ok(Err(_)) => Err(unanswered(call.effect, &claim, Fault::Closed)),
            // The answer may have come at the last moment.
            Err(_) => answered
                .try_recv()
                .unwrap_or_else(|_| Err(unanswered(call.effect, &claim, Fault::Late))),
        }
    }

    /// Waits for what an address has been asked, for as long as there are signs of life: a read goes elsewhere before
    /// its time is up. Where there is nobody else it waits on.
    pub(super) async fn while_alive<T>(
        &self,
        address: &str,
        asked: impl Future<Output = Result<T, Failure>>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        if self.addresses().len() <= 1 {
            return asked.await;
        }
        let patience = self.settings().read_patience;
        let mut asked = pin!(asked);
        loop {
            tokio::select! {
                result = &mut asked => {
                    if result.is_ok() {
                        self.suspects.clear(address);
                    }
                    return result;
                }
                () = tokio::time::sleep(patience) => {}
            }
            let ping = Arc::new(Call::ping());
            let until = deadline.min(Instant::now() + patience);
            tokio::select! {
                biased;
                result = &mut asked => return result,
                life = self.attempt(address, &ping, until) => match life {
                    Err(_) if until < deadline => {
                        self.suspects.note(address);
                        let silence = patience * 2;
                        return Err(Failure::not_done(Fault::Silent { silence }));
                    }
                    Ok(_) | Err(_) => {}
                },
            }
        }
    }

    // Shards.

    /// Which nodes a range over all shards is read from; `None` where any one will do, because there is but one, or
    /// because nobody knows.
    pub(super) fn share_out(&self, journey: &mut Journey) -> Option<Vec<NodeShare>> {
        let placement = self.placement().filter(|map| map.is_spread())?;
        let is_avoided = |address: &str| journey.has_tried(address) || self.suspects.has(address);
        let shares = share_out(placement.map(), journey.turn(), is_avoided);
        shares.filter(|shares| !shares.is_empty())
    }

    /// Every shard and one of its slots, where several nodes lead them; `None` where one core takes what is for all.
    pub(super) fn shards_apart(&self) -> Option<Vec<(u32, Slot)>> {
        let placement = self.placement().filter(|map| map.is_spread())?;
        Some(placement.shards())
    }

    // Addresses.

    /// Where to send the next attempt; `None` when no address is known.
    pub(super) fn choose_address(
        &self,
        route: Route,
        effect: Effect,
        journey: &mut Journey,
    ) -> Option<String> {
        let placement = self.placement();
        let asked = (route, effect);
        let read_from = self.settings().read_from;
        let all = self.addresses();
        let candidates = journey.candidates(asked, read_from, placement.as_deref(), all);
        journey.choose(candidates, &self.suspects)
    }

    /// Everybody who can be asked: the cores of the map, then the seeds.
    fn addresses(&self) -> Vec<String> {
        let mut addresses = self
            .placement()
            .map_or_else(Vec::new, |map| map.addresses().to_vec());
        for seed in &self.seeds {
            if !addresses.contains(seed) {
                addresses.push(seed.clone());
            }
        }
        addresses
    }

    fn link(&self, address: &str) -> Link {
        let mut links = lock(&self.links);
        if let Some(link) = links.get(address)
            && !link.is_closed()
        {
            return link.clone();
        }
        let link = Link::start(address.to_owned(), Arc::clone(&self.dialing));
        links.insert(address.to_owned(), link.clone());
        link
    }

    // The map.

    pub(super) fn placement(&self) -> Option<Arc<Placement>> {
        lock(&self.map).clone()
    }

    /// Asks for the map unless somebody else did since `wanted_at`. When nobody answers, the old one stays.
    pub(super) async fn refresh_map(&self, wanted_at: Instant, deadline: Instant) {
        let deadline = deadline.min(Instant::now() + MAP_TIMEOUT);
        let Ok(mut refreshed_at) = timeout_at(deadline, self.refreshing.lock()).await else {
            return;
        };
        if let Some(at) = *refreshed_at {
            if at > wanted_at {
                return;
            }
            let ready_at = at + MAP_AGE_MIN;
            if ready_at >= deadline {
                return;
            }
            sleep_until(ready_at).await;
        }
        // Nobody's answer is a reason to ask in a loop either.
        let _ = self.ask_for_map(deadline).await;
        *refreshed_at = Some(Instant::now());
    }

    /// Asks everybody in turn for the map, and who was silent again while there is time.
    pub(super) async fn ask_for_map(&self, deadline: Instant) -> Result<(), Option<Fault>> {
        let call = Arc::new(Call::shard_map());
        let mut journey = self.journey();
        let mut last = None;
        for _ in 0..MAP_ROUNDS_MAX {
            let mut is_anybody_silent = false;
            for _ in 0..self.addresses().len() {
                let chosen = self.choose_address(Route::Any, Effect::Read, &mut journey);
                let Some(address) = chosen else {
                    return Err(last);
                };
                let attempt = self.attempt(&address, &call, deadline);
                match self.while_alive(&address, attempt, deadline).await {
                    Ok(answer) => {
                        self.take_map(Placement::new(&answer_of!(answer, ShardMap)));
                        return Ok(());
                    }
                    Err(Failure { fault, .. }) => {
                        is_anybody_silent |= matches!(fault, Fault::Silent { .. });
                        last = Some(fault);
                    }
                }
                journey.note_in_vain();
            }
            if !is_anybody_silent || Instant::now() >= deadline {
                break;
            }
        }
        Err(last)
    }

    /// Keeps a map unless a newer one is here, and forgets connections to addresses that it does not name.
    fn take_map(&self, placement: Placement) {
        {
            let mut map = lock(&self.map);
            if map
                .as_ref()
                .is_some_and(|old| old.epoch() > placement.epoch())
            {
                return;
            }
            *map = Some(Arc::new(placement));
        }
        let addresses = self.addresses();
        lock(&self.links).retain(|address, _| addresses.contains(address));
        self.suspects.retain(&addresses);
        self.streams.retain(&addresses);
    }
}

/// A call without an answer: nothing has happened when the connection had not begun to write it.
fn unanswered(effect: Effect, claim: &Claim, fault: Fault) -> Failure {
    if effect == Effect::Read || claim.try_abandon() {
        Failure::not_done(fault)
    } else {
        Failure {
            fault,
            happened: Happened::Unknown,
        }
    }
}

/// An operation that has failed for good.
pub(super) fn failed(fault: Fault) -> Error {
    match fault {
        Fault::Server(error) if error.code == crate::wire_error::ErrorCode::Deadline => {
            Error::Deadline {
                last: Some(Box::new(Fault::Server(error))),
            }
        }
        Fault::Server(error) => Error::Server(Box::new(error)),
        Fault::TooLarge { limit, actual } => Error::TooLarge {
            what: "the request",
            limit,
            actual,
        },
        Fault::Late => Error::Deadline { last: None },
        Fault::Connect { .. }
        | Fault::Io(_)
        | Fault::Closed
        | Fault::Silent { .. }
        | Fault::Protocol(_)
        | Fault::Unreadable { .. }
        | Fault::Ambiguous { .. } => Error::Deadline {
            last: Some(Box::new(fault)),
        },
    }
}
