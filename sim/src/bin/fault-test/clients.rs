//! Clients of the nodes: each asks for one thing at a time, goes to another node when it is sent away, and never asks
//! again for what may have happened. What they ask for, and what they make of answers, is that of the simulator's clients.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metastore_engine::{NodeId, PeerCore, ShardId, ShardMap, Time};
use metastore_net::{ProtocolError, Response};
use metastore_sim::checkers::linearizability::{End, Operation as Seen};
use metastore_sim::cluster::{Asked, Meaning, Part, learn, meaning_of};
use metastore_sim::operation::Operation;
use metastore_sim::oracle::Moment;
use metastore_sim::random::Random;
use metastore_sim::workload::{Known, Workload};
use tokio::time::{Instant, sleep};

use crate::addresses::Addresses;
use crate::link::{Link, LinkError};
use crate::nodes::Nodes;

/// How many operations ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) succeeded: u64,
    /// Certainly not done, however often they were tried.
    pub(crate) failed: u64,
    /// That may have changed something, of which nobody knows.
    pub(crate) unknown: u64,
    pub(crate) retries: u64,
    /// Reads that were answered by a node that does not lead.
    pub(crate) follower_reads: u64,
    /// Connections that ended because of what came over them.
    pub(crate) nonsense: u64,
}

/// What all clients of a round share.
pub(crate) struct Field {
    pub(crate) addresses: Addresses,
    pub(crate) nodes: u32,
    pub(crate) cores: u16,
    pub(crate) map: ShardMap,
    pub(crate) timeout: Duration,
    pub(crate) think_ms_max: u64,
    /// Whether bytes are changed on their way, so that nonsense is to be expected.
    pub(crate) expects_nonsense: bool,
    moments: AtomicU64,
    is_over: AtomicBool,
    began: Instant,
    /// When each client was last answered what it had begun to ask then, in milliseconds since the round began.
    answered_ms: Vec<AtomicU64>,
    /// When a write of a shard was acknowledged, with when it was sent.
    acknowledged: Mutex<BTreeMap<ShardId, Vec<(Instant, Instant)>>>,
}

/// A client.
pub(crate) struct Client {
    number: usize,
    field: Arc<Field>,
    workload: Workload,
    random: Random,
    links: BTreeMap<PeerCore, Link>,
    leaders: BTreeMap<ShardId, NodeId>,
    known: Known,
    pub(crate) seen: Vec<(ShardId, Seen)>,
    pub(crate) tally: Tally,
    /// What no server may answer.
    pub(crate) bad: Option<String>,
}

/// How often something that was certainly not done is tried.
const TRIES_MAX: u32 = 60;
/// How many reads in a thousand are asked of any node.
const FOLLOWER_READS_PER_MILLE: u64 = 300;
/// How many requests in a thousand go to any core of a node.
const STRAY_PER_MILLE: u64 = 100;
/// How long a client waits before it tries again.
const PAUSE_MIN_US: u64 = 2_000;
const PAUSE_MAX_US: u64 = 60_000;

impl Field {
    pub(crate) fn new(
        nodes: &Nodes,
        addresses: Addresses,
        map: ShardMap,
        clients: usize,
        timeout: Duration,
        think_ms_max: u64,
        expects_nonsense: bool,
    ) -> Field {
        let count = |numbers: usize| u32::try_from(numbers).expect("a round is small");
        Field {
            addresses,
            nodes: count(nodes.numbers().count()),
            cores: u16::try_from(nodes.cores().count()).expect("a round is small"),
            map,
            timeout,
            think_ms_max,
            expects_nonsense,
            moments: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            began: Instant::now(),
            answered_ms: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            acknowledged: Mutex::new(BTreeMap::new()),
        }
    }

    fn moment(&self) -> Moment {
        Moment(self.moments.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn since_began_ms(&self, at: Instant) -> u64 {
        u64::try_from((at - self.began).as_millis()).expect("a round is short")
    }

    /// Everybody comes to an end with what it is asking for.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// A client that has not been answered anything that it began to ask since then.
    pub(crate) fn forgotten_since(&self, since: Instant) -> Option<usize> {
        let since_ms = self.since_began_ms(since);
        let mut answered = self.answered_ms.iter();
        answered.position(|answered_ms| answered_ms.load(Ordering::Relaxed) <= since_ms)
    }

    fn on_answered(&self, client: usize, began: Instant) {
        if let Some(answered_ms) = self.answered_ms.get(client) {
            answered_ms.fetch_max(self.since_began_ms(began), Ordering::Relaxed);
        }
    }

    fn on_acknowledged(&self, shard: ShardId, sent: Instant) {
        let all = self.acknowledged.lock();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        all.entry(shard).or_default().push((sent, Instant::now()));
    }

    /// How long it took from a moment until a write of a shard was acknowledged that was sent after it.
    pub(crate) fn wait_for_write(&self, shard: ShardId, since: Instant) -> Option<Duration> {
        let all = self.acknowledged.lock();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let writes = all.get(&shard)?.iter();
        let later = writes.filter(|&&(sent, _)| sent > since);
        later.map(|&(_, at)| at - since).min()
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.retries += other.retries;
        self.follower_reads += other.follower_reads;
        self.nonsense += other.nonsense;
    }
}

impl Client {
    pub(crate) fn new(
        number: usize,
        field: Arc<Field>,
        workload: Workload,
        random: Random,
    ) -> Client {
        Client {
            number,
            field,
            workload,
            random,
            links: BTreeMap::new(),
            leaders: BTreeMap::new(),
            known: Known::new(),
            seen: Vec::new(),
            tally: Tally::default(),
            bad: None,
        }
    }

    /// Asks until the round is over.
    pub(crate) async fn run(mut self) -> Client {
        while !self.field.is_over.load(Ordering::SeqCst) && self.bad.is_none() {
            let operation = self.workload.draw_of_cluster(&self.known);
            self.ask(operation, None).await;
            let think_us = self.random.below(self.field.think_ms_max * 1_000 + 1);
            sleep(Duration::from_micros(think_us)).await;
        }
        self
    }

    /// A put that nothing keeps from being done, in this directory.
    pub(crate) async fn probe(&mut self, directory: &[u8]) -> bool {
        let put = self.workload.draw_put_in(directory);
        self.ask(Operation::Mutate(put), None).await
    }

    /// Asks for one thing, of this node if one is given. True when it was answered.
    pub(crate) async fn ask(&mut self, operation: Operation, of: Option<NodeId>) -> bool {
        let began = Instant::now();
        let mut asked = Asked::new(operation, &self.field.map, Time(0));
        for tries in 1..=TRIES_MAX {
            asked.rows.clear();
            let place = self.choose_place(&asked, of);
            match self.try_at(&mut asked, place).await {
                Tried::Ended(sent, parts) => {
                    let is_known = parts.iter().all(|part| part.end != End::Unknown);
                    match is_known {
                        true => self.tally.succeeded += 1,
                        false => self.tally.unknown += 1,
                    }
                    self.learn_place(&asked, place);
                    self.end(sent, parts);
                    self.field.on_answered(self.number, began);
                    return is_known;
                }
                Tried::Unknown(sent) if asked.is_mutation() => {
                    self.forget_leader(&asked);
                    self.tally.unknown += 1;
                    let parts = asked.unknown_parts(&self.field.map);
                    self.end(sent, parts);
                    return false;
                }
                Tried::Unknown(_) | Tried::NotThere => self.forget_leader(&asked),
                Tried::Elsewhere(leader) => {
                    self.forget_leader(&asked);
                    self.leaders.extend(asked.shard.zip(leader));
                }
                Tried::NotDone => {
                    if self.random.chance(300) {
                        self.forget_leader(&asked);
                    }
                }
                Tried::Bad(what) => {
                    self.bad = Some(format!("{place:?} answered {:?}: {what}", asked.operation));
                    return false;
                }
            }
            self.tally.retries += 1;
            let longest_us = PAUSE_MAX_US.min(PAUSE_MIN_US << tries.min(8));
            let pause_us = self.random.between(PAUSE_MIN_US, longest_us);
            sleep(Duration::from_micros(pause_us)).await;
        }
        self.tally.failed += 1;
        false
    }

    /// The node that led last time, or any, which reads are often asked of anyway.
    fn choose_place(&mut self, asked: &Asked, of: Option<NodeId>) -> PeerCore {
        let leader = asked
            .shard
            .and_then(|shard| self.leaders.get(&shard).copied());
        let wants_leader = asked.is_mutation() || !self.random.chance(FOLLOWER_READS_PER_MILLE);
        let any = NodeId(
            1 + u32::try_from(self.random.below(u64::from(self.field.nodes))).expect("small"),
        );
        let node = of.or(leader.filter(|_| wants_leader)).unwrap_or(any);
        let is_stray = self.random.chance(STRAY_PER_MILLE);
        let core = asked.shard.filter(|_| !is_stray);
        let core = core.and_then(|shard| self.field.map.core_of(shard));
        let drawn = u16::try_from(self.random.below(u64::from(self.field.cores))).expect("small");
        PeerCore {
            node,
            core: core.unwrap_or(metastore_engine::CoreId(drawn)),
        }
    }

    fn forget_leader(&mut self, asked: &Asked) {
        if let Some(shard) = asked.shard {
            self.leaders.remove(&shard);
        }
    }

    /// Who carried out a command leads its shard; who answered a read may only follow.
    fn learn_place(&mut self, asked: &Asked, place: PeerCore) {
        let Some(shard) = asked.shard else {
            return;
        };
        if asked.is_mutation() {
            self.leaders.insert(shard, place.node);
        } else if self
            .leaders
            .get(&shard)
            .is_some_and(|&leader| leader != place.node)
        {
            self.tally.follower_reads += 1;
        }
    }

    /// One try, on a connection that is made if there is none.
    async fn try_at(&mut self, asked: &mut Asked, place: PeerCore) -> Tried {
        let field = Arc::clone(&self.field);
        let mut link = match self.links.remove(&place) {
            Some(link) => link,
            None => {
                let to = field.addresses.front_clients(place.node.0, place.core.0);
                match Link::open(field.addresses.client(self.number), to).await {
                    Ok(link) => link,
                    Err(_) => return Tried::NotThere,
                }
            }
        };
        let timeout_ms = u32::try_from(field.timeout.as_millis()).expect("a short time");
        let request = asked.send(&mut link.connection, timeout_ms);
        let (sent, sent_at) = (field.moment(), Instant::now());
        // A little longer than the server may take, so that its own word of it arrives.
        let by = sent_at + field.timeout + field.timeout / 2;
        if let Err(error) = link.send(by).await {
            return self.lost(&error, sent);
        }
        loop {
            let mut meaning = None;
            let received = link.receive(by, |id, response| {
                if id != request || matches!(response, Response::Hello(_)) {
                    return;
                }
                let said = meaning_of(asked, &response, &field.map, field.moment());
                if said != Ok(Meaning::More) {
                    meaning = Some(said);
                }
            });
            let received = received.await;
            // What was understood before the connection broke is right.
            match meaning {
                Some(Ok(Meaning::Ended(parts))) => {
                    self.acknowledged(asked, &parts, sent_at);
                    self.keep(place, link, received);
                    return Tried::Ended(sent, parts);
                }
                Some(Ok(Meaning::NotDone)) => {
                    self.keep(place, link, received);
                    return Tried::NotDone;
                }
                Some(Ok(Meaning::Elsewhere(leader))) => {
                    self.keep(place, link, received);
                    return Tried::Elsewhere(leader);
                }
                Some(Ok(Meaning::Unknown)) => {
                    self.keep(place, link, received);
                    return Tried::Unknown(sent);
                }
                Some(Ok(Meaning::More)) | None => {}
                Some(Err(what)) => return Tried::Bad(what.to_owned()),
            }
            if let Err(error) = received {
                return self.lost(&error, sent);
            }
        }
    }

    fn keep(&mut self, place: PeerCore, link: Link, received: Result<(), LinkError>) {
        if received.is_ok() {
            self.links.insert(place, link);
        }
    }

    /// A connection is gone, with what was asked on it.
    fn lost(&mut self, error: &LinkError, sent: Moment) -> Tried {
        // A node that stops says so on each connection.
        let is_refused = matches!(error, LinkError::Protocol(ProtocolError::Refused(_)));
        if !is_refused && let LinkError::Protocol(_) = error {
            self.tally.nonsense += 1;
            if !self.field.expects_nonsense {
                return Tried::Bad(error.to_string());
            }
        }
        Tried::Unknown(sent)
    }

    fn acknowledged(&self, asked: &Asked, parts: &[Part], sent: Instant) {
        let is_known = parts.iter().all(|part| part.end != End::Unknown);
        if let (true, true, Some(shard)) = (asked.is_mutation(), is_known, asked.shard) {
            self.field.on_acknowledged(shard, sent);
        }
    }

    fn end(&mut self, sent: Moment, parts: Vec<Part>) {
        for part in parts {
            learn(&mut self.known, &part);
            let seen = Seen {
                sent,
                action: part.action,
                end: part.end,
            };
            self.seen.push((part.shard, seen));
        }
    }
}

/// What came of a try.
enum Tried {
    Ended(Moment, Vec<Part>),
    NotDone,
    Elsewhere(Option<NodeId>),
    Unknown(Moment),
    /// There is nobody to ask.
    NotThere,
    Bad(String),
}
