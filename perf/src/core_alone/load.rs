//! Puts for one core on a device that is made up: the same inputs in every run, so that the same work is done.
//!
//! ```text
//!   step: N puts ─> finish_turn ─> WriteLog ─ 100 us of virtual time ─> step: LogWritten ─> finish_turn ─> N answers
//! ```
//!
//! It does what the server's driver does in the same order, but carries no effect out: a record is durable at once and
//! its bytes are forgotten. What the core is called through is in [`counted`], which is how a profiler tells the core
//! from the load.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

use metastore_engine::{
    BootNonce, ClusterId, ConnectionId, Core, CoreBuilder, CoreConfig, CoreId, Effect, Effects,
    Identity, Input, LogHistory, MemoryRoom, Namespaces, NodeId, ReplicaId, Reply, Request,
    RequestId, Settings, ShardId, ShardLocation, ShardMap, Ticket, Time,
};
use metastore_statemachine::{Command, NamespaceId, Outcome, OutcomeCode, Parameters};
use metastore_wal::recovery::{SegmentSource, recover};
use metastore_wal::{FileNumber, LogBuffer, LogOptions, SealKey, SegmentFile};

use super::Scenario;
use crate::keys::KeySpace;
use crate::random::Random;
use crate::zipfian::Zipfian;

/// Keys that there are, all loaded before anything is counted.
pub(super) const KEYS: u64 = 10_000;
/// Revisions that the history keeps: it is full before anything is counted, so that each put frees what another left.
pub(super) const HISTORY_REVISIONS: u64 = 10_000;
/// Commands in a turn while nothing is counted.
pub(super) const WARM_UP_BATCH: usize = 256;
/// How long a write takes.
pub(super) const WRITE_US: u64 = 100;
/// The server looks at its memory no more often.
const MEMORY_INTERVAL_MS: u64 = 1;
/// Connections that the puts come from, in turns.
pub(super) const CONNECTIONS: u64 = 50;
/// Turns within which a write and its answers are done; more would be a core that never answers.
const TURNS_MAX: usize = 64;
pub(super) const SEED: u64 = 1;
pub(super) const SEAL: SealKey = SealKey(1);

/// A core with everything around it made up.
pub(super) struct CoreLoad {
    core: Core,
    effects: Effects,
    now: Time,
    /// Records and marks that are on their way, oldest first.
    device: VecDeque<Write>,
    answered: usize,
    next_request: u64,
    memory_at: Time,
    counting: Counting,
    zipfian: Zipfian,
    random: Random,
}

enum Write {
    Record(Ticket, LogBuffer),
    Mark(Ticket, LogBuffer),
}

/// Whether what the core does belongs to the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    Off,
    /// So many calls of the core until now.
    On(u64),
}

/// Puts that the core has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Driven {
    pub(super) puts: u64,
    /// Calls of the core for them.
    pub(super) calls: u64,
}

/// A disk on which nothing was ever written.
pub(super) struct NewDisk;

impl SegmentSource for NewDisk {
    type Error = Infallible;

    fn files(&mut self) -> Result<Vec<SegmentFile>, Infallible> {
        Ok(Vec::new())
    }

    fn read(&mut self, _: FileNumber, _: u64, _: &mut [u8]) -> Result<(), Infallible> {
        unreachable!("there are no files to read from")
    }

    fn marks(&mut self) -> Result<[Option<Box<[u8]>>; 2], Infallible> {
        Ok([None, None])
    }
}

impl CoreLoad {
    /// A core that serves, has all keys, and whose history is full.
    pub(super) fn new() -> CoreLoad {
        let config = config();
        let log = config.log.clone();
        let mut builder = CoreBuilder::new(config.clone()).expect("the settings are sound");
        let recovered = recover(&mut NewDisk, &config.identity, SEAL, &mut |event| {
            builder.on_event(event);
        })
        .expect("there is nothing to recover");
        let now = Time(1_000_000_000);
        let core = builder
            .build(now, recovered, log.new_buffers(), LogHistory::New)
            .expect("a new log is sound");
        let mut load = CoreLoad {
            core,
            effects: Effects::default(),
            now,
            device: VecDeque::new(),
            answered: 0,
            next_request: 0,
            memory_at: now,
            counting: Counting::Off,
            zipfian: Zipfian::new(KEYS),
            random: Random::new(SEED),
        };
        load.start();
        load.fill();
        load
    }

    /// Lets the core write what it writes at its first start, until it answers.
    fn start(&mut self) {
        for _ in 0..TURNS_MAX {
            self.turn();
            self.complete_writes();
            if self.core.is_serving() && self.device.is_empty() {
                return;
            }
        }
        panic!("the core does not come to serve");
    }

    fn fill(&mut self) {
        let mut commands = Commands::default();
        for number in 0..KEYS {
            commands.push(number, &mut self.random);
            if commands.count() == WARM_UP_BATCH {
                self.commit(&commands);
                commands.clear();
            }
        }
        self.commit(&commands);
        let overwriting = HISTORY_REVISIONS.next_multiple_of(WARM_UP_BATCH as u64);
        self.put(overwriting, WARM_UP_BATCH);
    }

    /// Counted puts of the scenario: whole turns, at least so many.
    pub(super) fn run(&mut self, scenario: Scenario, puts: u64) -> Driven {
        assert_eq!(
            scenario.replicas, 1,
            "a scenario has as many replicas as this core can drive"
        );
        self.counting = Counting::On(0);
        let puts = self.put(puts, scenario.batch);
        let Counting::On(calls) = std::mem::replace(&mut self.counting, Counting::Off) else {
            unreachable!("nothing else turns it off");
        };
        Driven { puts, calls }
    }

    fn put(&mut self, puts: u64, batch: usize) -> u64 {
        let mut commands = Commands::default();
        let mut done = 0;
        while done < puts {
            commands.clear();
            for _ in 0..batch {
                let number = self.zipfian.rank(self.random.next_unit());
                commands.push(number, &mut self.random);
            }
            self.commit(&commands);
            done += batch as u64;
        }
        done
    }

    /// Commands that arrive in one turn, until all of them are answered.
    fn commit(&mut self, commands: &Commands) {
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
            self.step(input);
        }
        for _ in 0..TURNS_MAX {
            self.turn();
            if self.answered == commands.count() {
                return;
            }
            self.complete_writes();
        }
        panic!(
            "{} of {} puts are answered and nothing goes on",
            self.answered,
            commands.count()
        );
    }

    /// Everything that was submitted is durable a write's time later.
    fn complete_writes(&mut self) {
        self.now = Time(self.now.0 + WRITE_US * 1_000);
        while let Some(write) = self.device.pop_front() {
            self.step(match write {
                Write::Record(ticket, buffer) => Input::LogWritten { ticket, buffer },
                Write::Mark(ticket, buffer) => Input::MarkWritten { ticket, buffer },
            });
        }
    }

    fn step(&mut self, input: Input<'_>) {
        let (core, now, effects) = (&mut self.core, self.now, &mut self.effects);
        match &mut self.counting {
            Counting::Off => core.step(now, input, effects),
            Counting::On(calls) => counted::step(calls, core, now, input, effects),
        }
    }

    /// A turn, and a slice of background work if there is some, as the server has them.
    fn turn(&mut self) {
        let (core, now, effects) = (&mut self.core, self.now, &mut self.effects);
        match &mut self.counting {
            Counting::Off => core.finish_turn(now, effects),
            Counting::On(calls) => counted::finish_turn(calls, core, now, effects),
        }
        self.carry_out();
        self.settle_memory();
        let (core, effects) = (&mut self.core, &mut self.effects);
        match &mut self.counting {
            Counting::Off => {
                core.on_turn_executed(now, now);
                if let Some(kind) = core.run_slice(now, effects) {
                    core.on_slice_executed(kind, now, now);
                }
            }
            Counting::On(calls) => counted::end_turn(calls, core, now, effects),
        }
    }

    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.queue.drain(..) {
            match effect {
                Effect::WriteLog { ticket, buffer, .. } => {
                    self.device.push_back(Write::Record(ticket, buffer));
                }
                Effect::WriteMark { ticket, buffer, .. } => {
                    self.device.push_back(Write::Mark(ticket, buffer));
                }
                Effect::PrepareSegment { file, .. } => {
                    let Self {
                        core, effects, now, ..
                    } = self;
                    core.step(*now, Input::SegmentPrepared { file }, effects);
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
                | Effect::Send { .. }
                | Effect::Members(_)
                | Effect::Halt(_) => {
                    panic!("a short run of puts on one core does not come to {effect:?}")
                }
            }
        }
        effects.clear();
        assert!(
            self.effects.queue.is_empty(),
            "a prepared segment alone asks for nothing"
        );
        self.effects = effects;
    }

    /// The server adds the accounts of its cores up again and again.
    fn settle_memory(&mut self) {
        if self.now.millis_since(self.memory_at) < MEMORY_INTERVAL_MS {
            return;
        }
        self.memory_at = self.now;
        match &mut self.counting {
            Counting::Off => {}
            Counting::On(calls) => counted::memory(calls, &self.core),
        }
        self.step(Input::Memory(MemoryRoom::UNLIMITED));
    }
}

fn config() -> CoreConfig {
    let identity = Identity {
        cluster: ClusterId(1),
        node: NodeId(1),
        core: CoreId(0),
    };
    let shard = ShardLocation {
        shard: ShardId(0),
        core: identity.core,
    };
    CoreConfig {
        identity,
        cores: 1,
        replicas: vec![(ReplicaId(1), ShardId(0))],
        members: BTreeMap::new(),
        shard_map: ShardMap::split_evenly(vec![shard]).expect("one shard takes all"),
        namespaces: Namespaces::default(),
        settings: Settings::default(),
        log: LogOptions::new(identity, SEAL),
        parameters: Parameters {
            history_revisions_max: HISTORY_REVISIONS,
            ..Parameters::default()
        },
        seed: SEED,
        boot: BootNonce(1),
    }
}

pub(super) fn assert_done(reply: &Reply, arena: &[u8]) {
    let Reply::Outcome(span) = reply else {
        panic!("a put is answered with {reply:?}");
    };
    let (outcome, _) = Outcome::decode(span.of(arena)).expect("an encoded outcome");
    assert_eq!(outcome.code, OutcomeCode::Done, "{outcome:?}");
}

/// Encoded puts, back to back.
#[derive(Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    value: Vec<u8>,
}

impl Commands {
    /// Adds a put of a key with a value that does not compress.
    pub(super) fn push(&mut self, number: u64, random: &mut Random) {
        let space = KeySpace::MEDIUM;
        self.value.clear();
        while self.value.len() < space.value_bytes {
            self.value
                .extend_from_slice(&random.next_u64().to_le_bytes());
        }
        let key = space.key(number);
        Command::put(NamespaceId::DEFAULT, &key, &self.value).encode_into(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.bytes[start..end])
    }
}

/// The only ways into the core while it counts. A profiler collects between the entry and the end of each of these
/// functions, so none of them may be inlined, and each does a little of its own, so that the compiler does not take it
/// for the function that it calls.
pub(super) mod counted {
    use super::{Core, Effects, Input, Time};

    /// What every name of a function in here contains.
    pub(in super::super) const MODULE: &str = "core_alone::load::counted::";
    /// What a profiler must collect in.
    pub(in super::super) const FUNCTIONS: &str = "*core_alone::load::counted::*";

    #[inline(never)]
    pub(in super::super) fn step(
        calls: &mut u64,
        core: &mut Core,
        now: Time,
        input: Input<'_>,
        out: &mut Effects,
    ) {
        *calls += 1;
        core.step(now, input, out);
    }

    #[inline(never)]
    pub(in super::super) fn finish_turn(
        calls: &mut u64,
        core: &mut Core,
        now: Time,
        out: &mut Effects,
    ) {
        *calls += 1;
        core.finish_turn(now, out);
    }

    #[inline(never)]
    pub(in super::super) fn end_turn(
        calls: &mut u64,
        core: &mut Core,
        now: Time,
        out: &mut Effects,
    ) {
        *calls += 1;
        core.on_turn_executed(now, now);
        if let Some(kind) = core.run_slice(now, out) {
            core.on_slice_executed(kind, now, now);
        }
    }

    #[inline(never)]
    pub(super) fn memory(calls: &mut u64, core: &Core) {
        *calls += 1;
        std::hint::black_box(core.memory());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_put_is_answered_and_counted() {
        let mut load = CoreLoad::new();
        let before = load.core.status();
        let scenario = Scenario {
            replicas: 1,
            batch: 16,
        };
        let driven = load.run(scenario, 100);
        assert_eq!(driven.puts, 112, "whole turns");
        let after = load.core.status();
        assert_eq!(after.counters.requests - before.counters.requests, 112);
        let turns = after.counters.turns - before.counters.turns;
        assert_eq!(
            turns, 14,
            "one that writes and one that answers, for each batch"
        );
        let writes = after.log.durable_writes - before.log.durable_writes;
        assert_eq!(writes, 7);
        // Each put, each completed write, two calls for each turn, and one look at the memory, which is two calls.
        assert_eq!(driven.calls, 112 + 7 + 2 * 14 + 2);
    }

    #[test]
    fn the_history_is_full_before_anything_counts() {
        let mut load = CoreLoad::new();
        let scenario = Scenario {
            replicas: 1,
            batch: 256,
        };
        let replica = |load: &CoreLoad| load.core.status().replicas[0];
        let before = replica(&load);
        assert_eq!(before.keys, KEYS);
        load.run(scenario, 5_000);
        let after = replica(&load);
        let growth = after.history_bytes as f64 / before.history_bytes as f64;
        assert!((growth - 1.0).abs() < 0.01, "{growth}");
    }
}
