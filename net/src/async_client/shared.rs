//! What all copies of a client share: the map, the connections, and the way an operation is tried until it is decided.

use crate::async_client::backoff::Backoff;
use crate::async_client::call::{
    Answer, Answered, Attempt, Call, CallResult, Claim, Effect, answer_of,
};
use crate::async_client::decide::{Again, Verdict, decide};
use crate::async_client::error::{Error, Failure, Fault};
use crate::async_client::link::Link;
use crate::async_client::placement::{Placement, Route};
use crate::async_client::settings::ClientSettings;
use crate::async_client::streams::Streams;
use crate::async_client::wire::Dialing;
use crate::frame::FrameKind;
use crate::wire_error::Happened;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long asking for a new map may take: the operation that wants it has better things to do, and any core takes its
/// request.
const MAP_TIMEOUT: Duration = Duration::from_secs(1);

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
    pub(super) streams: Streams,
    /// A permit for each byte of a request that some operation holds.
    request_bytes: Semaphore,
    /// Spreads what any core may take.
    turn: AtomicUsize,
}

/// A lock of nothing but memory, which no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far an operation has come.
pub(super) struct Journey {
    backoff: Backoff,
    /// Attempts that found nobody; they lead to the next address.
    misses: usize,
    hint: Option<String>,
    last: Option<Fault>,
    /// An earlier attempt that may have been applied.
    unknown: Option<Fault>,
}

impl Journey {
    pub(super) fn new(settings: &ClientSettings) -> Journey {
        Journey {
            backoff: Backoff::new(settings.backoff_min, settings.backoff_max),
            misses: 0,
            hint: None,
            last: None,
            unknown: None,
        }
    }

    /// The operation ends without an answer: what is known of it.
    fn end(self, failed: Error) -> Error {
        match self.unknown {
            Some(cause) => Error::OutcomeUnknown {
                cause: Box::new(cause),
            },
            None => failed,
        }
    }

    fn late(mut self) -> Error {
        let last = self.last.take().map(Box::new);
        self.end(Error::Deadline { last })
    }
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
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn settings(&self) -> &ClientSettings {
        &self.dialing.settings
    }

    // An operation.

    /// Tries a call until it is decided or the deadline has passed.
    pub(super) async fn call(self: &Arc<Self>, call: Call, deadline: Instant) -> CallResult {
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
        let mut journey = Journey::new(self.settings());
        loop {
            let Some(address) = self.choose_address(call.route, &mut journey) else {
                return Err(journey.end(Error::Unreachable { last: None }));
            };
            let failure = match self.attempt(&address, &call, deadline).await {
                Ok(answer) => {
                    let before = journey.unknown;
                    return Ok(Answered { answer, before });
                }
                Err(failure) => failure,
            };
            journey = self
                .after_failure(journey, call.effect, failure, deadline)
                .await?;
        }
    }

    /// What follows a failed attempt: the journey goes on after a pause, or ends.
    pub(super) async fn after_failure(
        self: &Arc<Self>,
        mut journey: Journey,
        effect: Effect,
        failure: Failure,
        deadline: Instant,
    ) -> Result<Journey, Error> {
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
                if hint.is_empty() {
                    self.refresh_map(asked_at, deadline).await;
                } else {
                    // Whoever was named is asked at once; the map is mended beside it, for those who come later.
                    let shared = Arc::clone(self);
                    let refresh_until = asked_at + MAP_TIMEOUT;
                    tokio::spawn(async move { shared.refresh_map(asked_at, refresh_until).await });
                    journey.hint = Some(hint);
                    pause = Duration::ZERO;
                }
            }
            Again::Elsewhere => {
                journey.misses += 1;
                if journey.misses < self.addresses().len() {
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
        Ok(journey)
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

    // Addresses.

    /// Where to send the next attempt; `None` when no address is known.
    pub(super) fn choose_address(&self, route: Route, journey: &mut Journey) -> Option<String> {
        if let Some(hint) = journey.hint.take() {
            return Some(hint);
        }
        let addresses = self.addresses();
        let leader = self.leader(route);
        let first = leader.and_then(|leader| addresses.iter().position(|one| *one == leader));
        let first = first.unwrap_or_else(|| match route {
            // All attempts of one operation count on from the same place.
            Route::Any if journey.misses == 0 => self.turn.fetch_add(1, Ordering::Relaxed),
            Route::Any | Route::Slot(_) => self.turn.load(Ordering::Relaxed),
        });
        let index = first.wrapping_add(journey.misses) % addresses.len().max(1);
        addresses.into_iter().nth(index)
    }

    fn leader(&self, route: Route) -> Option<String> {
        let Route::Slot(slot) = route else {
            return None;
        };
        let map = self.placement()?;
        map.leader(slot).map(|(_, address)| address.to_owned())
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

    /// Asks everybody in turn for the map.
    pub(super) async fn ask_for_map(&self, deadline: Instant) -> Result<(), Option<Fault>> {
        let call = Arc::new(Call {
            kind: FrameKind::ShardMap,
            body: Vec::new(),
            effect: Effect::Read,
            route: Route::Any,
        });
        let mut last = None;
        for address in self.addresses() {
            match self.attempt(&address, &call, deadline).await {
                Ok(answer) => {
                    self.take_map(Placement::new(&answer_of!(answer, ShardMap)));
                    return Ok(());
                }
                Err(failure) => last = Some(failure.fault),
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
