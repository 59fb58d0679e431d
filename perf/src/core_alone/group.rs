//! Several cores that hold the same shards, on devices and a network that are made up: what replication costs in the
//! core, and what shards cost that have nothing to do.
//!
//! Time is virtual: a message takes 50 us and a write 100 us, and a core that wants to be woken is woken when it says.
//! Nothing is lost and no disk fails.

use std::collections::{BTreeMap, BTreeSet};

use metastore_engine::{
    BootNonce, ClusterId, ConnectionId, Core, CoreBuilder, CoreConfig, CoreId, Effect, Effects,
    Identity, Input, LogHistory, Member, Namespaces, NodeId, PeerCore, ReplicaId, Request,
    RequestId, Role, Settings, ShardId, ShardLocation, ShardMap, Ticket, Time,
};
use metastore_statemachine::{Command, Parameters};
use metastore_wal::recovery::recover;
use metastore_wal::{LogBuffer, LogOptions};

use super::load::{
    CONNECTIONS, Commands, Counting, HISTORY_REVISIONS, NewDisk, SEAL, SEED, WRITE_US, assert_done,
    counted,
};

/// How long a message takes.
const NETWORK_US: u64 = 50;
/// Virtual time within which shards find their leaders, and puts are answered.
const PATIENCE_MS: u64 = 120_000;

/// One core of the group.
struct Place {
    core: Core,
    effects: Effects,
    is_up: bool,
}

enum Arrival {
    Batch { from: PeerCore, bytes: Vec<u8> },
    Record(Ticket, LogBuffer),
    Mark(Ticket, LogBuffer),
}

/// What cores did, all together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub(super) turns: u64,
    pub(super) batches: u64,
    pub(super) batch_bytes: u64,
}

/// Cores with everything between them made up.
pub(super) struct Group {
    places: Vec<Place>,
    now: Time,
    /// What is on its way, by when it comes; the number keeps the order of what comes at once.
    arrivals: BTreeMap<(Time, u64), (usize, Arrival)>,
    sent: u64,
    answered: usize,
    next_request: u64,
    traffic: Traffic,
    pub(super) counting: Counting,
}

fn home_of(place: usize) -> PeerCore {
    let number = u32::try_from(place + 1).expect("few cores");
    PeerCore {
        node: NodeId(number),
        core: CoreId(0),
    }
}

fn config_of(place: usize, places: usize, shards: u32, settings: &Settings) -> CoreConfig {
    let home = home_of(place);
    let identity = Identity {
        cluster: ClusterId(1),
        node: home.node,
        core: home.core,
    };
    let replica_of = |shard: u32, place: usize| {
        let first = u64::from(shard) * places as u64;
        ReplicaId(first + place as u64 + 1)
    };
    let location = |shard| ShardLocation {
        shard: ShardId(shard),
        core: home.core,
    };
    let voters = |shard| {
        let voters = (0..places).map(|place| Member {
            replica: replica_of(shard, place),
            home: home_of(place),
        });
        (ShardId(shard), voters.collect())
    };
    let locations = (0..shards).map(location).collect();
    CoreConfig {
        identity,
        cores: 1,
        replicas: (0..shards)
            .map(|shard| (replica_of(shard, place), ShardId(shard)))
            .collect(),
        members: (0..shards).map(voters).collect(),
        shard_map: ShardMap::split_evenly(locations).expect("there is a shard"),
        namespaces: Namespaces::default(),
        settings: settings.clone(),
        log: LogOptions::new(identity, SEAL),
        parameters: Parameters {
            history_revisions_max: HISTORY_REVISIONS,
            ..Parameters::default()
        },
        seed: SEED + place as u64,
        boot: BootNonce(SEED),
    }
}

fn start(config: CoreConfig, now: Time) -> Core {
    let (identity, log) = (config.identity, config.log.clone());
    let mut builder = CoreBuilder::new(config).expect("the settings are sound");
    let recovered = recover(&mut NewDisk, &identity, SEAL, &mut |event| {
        builder.on_event(event);
    })
    .expect("there is nothing to recover");
    builder
        .build(now, recovered, log.new_buffers(), LogHistory::New)
        .expect("a new log is sound")
}

impl Group {
    /// Cores whose shards have leaders, where they should be.
    pub(super) fn new(places: usize, shards: u32, settings: &Settings) -> Group {
        let now = Time(1_000_000_000);
        let place = |number| Place {
            core: start(config_of(number, places, shards, settings), now),
            effects: Effects::default(),
            is_up: true,
        };
        let mut group = Group {
            places: (0..places).map(place).collect(),
            now,
            arrivals: BTreeMap::new(),
            sent: 0,
            answered: 0,
            next_request: 0,
            traffic: Traffic::default(),
            counting: Counting::Off,
        };
        for place in 0..places {
            group.turn(place);
        }
        let took = group.run_until(|group| group.led() == shards as usize);
        took.expect("shards find leaders");
        group
    }

    // ---- What it tells ----

    /// How many shards have a leader that answers.
    pub(super) fn led(&self) -> usize {
        let up = self.places.iter().filter(|place| place.is_up);
        let replicas = up.flat_map(|place| place.core.replicas());
        let leads = replicas.filter(|status| status.role == Role::Leader);
        leads
            .map(|status| status.shard)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// How many replicas each core leads.
    pub(super) fn leads(&self) -> Vec<usize> {
        let leads = |place: &Place| {
            let replicas = place.core.replicas();
            replicas
                .filter(|status| status.role == Role::Leader)
                .count()
        };
        self.places.iter().map(leads).collect()
    }

    /// How many replicas are awake.
    pub(super) fn awake(&self) -> usize {
        let up = self.places.iter().filter(|place| place.is_up);
        let replicas = up.flat_map(|place| place.core.replicas());
        replicas.filter(|status| !status.is_asleep).count()
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Ticks that passed for replicas.
    pub(super) fn replica_ticks(&self) -> u64 {
        let of = |place: &Place| place.core.status().counters.replica_ticks;
        self.places.iter().map(of).sum()
    }

    // ---- Puts ----

    /// Commands that arrive at the first shard's leader in one turn, until all of them are answered.
    pub(super) fn commit(&mut self, commands: &Commands) {
        let leads = |place: &Place| {
            let mut replicas = place.core.replicas();
            place.is_up
                && replicas
                    .next()
                    .is_some_and(|first| first.role == Role::Leader)
        };
        let leader = self.places.iter().position(leads);
        let leader = leader.expect("the shard has a leader");
        self.answered = 0;
        for bytes in commands.iter() {
            let (command, _) = Command::decode(bytes).expect("it was encoded here");
            self.next_request += 1;
            let input = Input::Request {
                connection: ConnectionId(self.next_request % CONNECTIONS),
                request: RequestId(self.next_request),
                deadline_ms: 0,
                body: Request::Command { command, bytes },
            };
            self.step(leader, input);
        }
        self.turn(leader);
        let all = commands.count();
        let took = self.run_until(|group| group.answered == all);
        took.expect("puts are answered");
    }

    // ---- Time ----

    /// Lets so much virtual time pass.
    pub(super) fn run_ms(&mut self, milliseconds: u64) {
        let until = self.now.plus_ms(milliseconds);
        while self.next_time().is_some_and(|next| next <= until) {
            self.advance();
        }
        self.now = until;
    }

    /// Lets time pass until something holds; says how many milliseconds that took, `None` when it never does.
    pub(super) fn run_until(&mut self, is_enough: impl Fn(&Group) -> bool) -> Option<f64> {
        let (began, until) = (self.now, self.now.plus_ms(PATIENCE_MS));
        while !is_enough(self) {
            if self.now > until {
                return None;
            }
            self.advance();
        }
        Some(self.now.nanos_since(began) as f64 / 1e6)
    }

    /// A core stops; the others hear of its connections that they ended, or hear nothing.
    pub(super) fn stop(&mut self, stopped: usize, end: ConnectionEnd) {
        self.places[stopped].is_up = false;
        self.arrivals.retain(|_, (to, _)| *to != stopped);
        if end == ConnectionEnd::Told {
            let peer = home_of(stopped);
            for place in (0..self.places.len()).filter(|&place| place != stopped) {
                self.step(place, Input::PeerUnreachable { peer });
                self.turn(place);
            }
        }
    }

    fn next_time(&self) -> Option<Time> {
        let up = self.places.iter().filter(|place| place.is_up);
        let deadlines = up.filter_map(|place| place.core.next_deadline());
        let arrival = self.arrivals.keys().next().map(|&(time, _)| time);
        deadlines.chain(arrival).min()
    }

    /// The next thing happens, and whatever else happens at the same time to the same core.
    fn advance(&mut self) {
        let next = self.next_time().expect("cores want to be woken");
        self.now = self.now.max(next);
        let due = self.arrivals.first_key_value();
        let due = due.filter(|((time, _), _)| *time <= self.now);
        let place = match due {
            Some((_, (place, _))) => *place,
            None => {
                let is_due = |place: &Place| {
                    let deadline = place.core.next_deadline();
                    place.is_up && deadline.is_some_and(|deadline| deadline <= self.now)
                };
                let place = self.places.iter().position(is_due);
                let place = place.expect("somebody wants to be woken");
                self.step(place, Input::Tick);
                place
            }
        };
        while let Some(first) = self.arrivals.first_entry() {
            let ((time, _), (to, _)) = (*first.key(), first.get());
            if time > self.now || *to != place {
                break;
            }
            let (_, arrival) = first.remove();
            match arrival {
                Arrival::Batch { from, bytes } => {
                    let batch = &bytes[..];
                    self.step(place, Input::PeerMessages { from, batch });
                }
                Arrival::Record(ticket, buffer) => {
                    self.step(place, Input::LogWritten { ticket, buffer });
                }
                Arrival::Mark(ticket, buffer) => {
                    self.step(place, Input::MarkWritten { ticket, buffer });
                }
            }
        }
        self.turn(place);
    }

    // ---- Turns ----

    fn step(&mut self, place: usize, input: Input<'_>) {
        let Place { core, effects, .. } = &mut self.places[place];
        match &mut self.counting {
            Counting::Off => core.step(self.now, input, effects),
            Counting::On(calls) => counted::step(calls, core, self.now, input, effects),
        }
    }

    fn turn(&mut self, place: usize) {
        self.traffic.turns += 1;
        let Place { core, effects, .. } = &mut self.places[place];
        match &mut self.counting {
            Counting::Off => core.finish_turn(self.now, effects),
            Counting::On(calls) => counted::finish_turn(calls, core, self.now, effects),
        }
        self.carry_out(place);
        let Place { core, effects, .. } = &mut self.places[place];
        match &mut self.counting {
            Counting::Off => {
                core.on_turn_executed(self.now, self.now);
                if let Some(kind) = core.run_slice(self.now, effects) {
                    core.on_slice_executed(kind, self.now, self.now);
                }
            }
            Counting::On(calls) => counted::end_turn(calls, core, self.now, effects),
        }
    }

    fn carry_out(&mut self, place: usize) {
        let mut effects = std::mem::take(&mut self.places[place].effects);
        for effect in effects.queue.drain(..) {
            match effect {
                Effect::WriteLog { ticket, buffer, .. } => {
                    self.later(WRITE_US, place, Arrival::Record(ticket, buffer));
                }
                Effect::WriteMark { ticket, buffer, .. } => {
                    self.later(WRITE_US, place, Arrival::Mark(ticket, buffer));
                }
                Effect::Send { to, batch, .. } => {
                    self.traffic.batches += 1;
                    self.traffic.batch_bytes += batch.len() as u64;
                    let to = to.node.0 as usize - 1;
                    if self.places[to].is_up {
                        let from = home_of(place);
                        let bytes = batch;
                        self.later(NETWORK_US, to, Arrival::Batch { from, bytes });
                    }
                }
                Effect::PrepareSegment { file, .. } => {
                    let Place { core, effects, .. } = &mut self.places[place];
                    core.step(self.now, Input::SegmentPrepared { file }, effects);
                }
                Effect::Reply { reply, .. } => {
                    assert_done(&reply, &effects.arena);
                    self.answered += 1;
                }
                Effect::RemoveSegment { .. }
                | Effect::WriteSnapshot { .. }
                | Effect::FinishSnapshot { .. }
                | Effect::RemoveSnapshot { .. }
                | Effect::ReadSnapshot { .. }
                | Effect::ReadLog { .. }
                | Effect::Forward { .. }
                | Effect::Members(_)
                | Effect::Halt(_) => {
                    panic!("a short run of one core a node does not come to {effect:?}")
                }
            }
        }
        effects.clear();
        let others = std::mem::replace(&mut self.places[place].effects, effects);
        assert!(
            others.queue.is_empty(),
            "a prepared segment alone asks for nothing"
        );
    }

    fn later(&mut self, delay_us: u64, to: usize, arrival: Arrival) {
        self.sent += 1;
        let time = Time(self.now.0 + delay_us * 1_000);
        self.arrivals.insert((time, self.sent), (to, arrival));
    }
}

/// What others learn of a core that stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionEnd {
    /// Its process ended, and its kernel said so.
    Told,
    /// Its machine lost its power.
    Silent,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn puts_are_on_all_replicas_once_they_are_answered_and_all_is_quiet() {
        let mut group = Group::new(3, 1, &Settings::default());
        let mut commands = Commands::default();
        let mut random = Random::new(SEED);
        for number in 0..32 {
            commands.push(number, &mut random);
        }
        group.commit(&commands);
        group.run_ms(1_000);
        let states = group.places.iter().map(|place| {
            let status = place.core.replicas().next().expect("one shard");
            (status.keys, status.state_hash)
        });
        let states: Vec<_> = states.collect();
        assert_eq!(states, vec![states[0]; 3]);
        assert_eq!(states[0].0, 32);
    }

    #[test]
    fn idle_shards_fall_asleep_and_find_another_leader() {
        let mut group = Group::new(3, 10, &Settings::default());
        group.run_ms(60_000);
        assert_eq!(group.awake(), 0);
        let leads = group.leads();
        assert_eq!(leads.iter().sum::<usize>(), 10);
        assert!(leads.iter().all(|&leads| leads >= 3), "{leads:?}");
        let before = group.replica_ticks();
        group.run_ms(10_000);
        assert_eq!(group.replica_ticks(), before);
        group.stop(0, ConnectionEnd::Silent);
        assert!(group.led() < 10);
        let took_ms = group.run_until(|group| group.led() == 10);
        assert!(took_ms.expect("others lead") < 1_000.0, "{took_ms:?}");
    }
}
