//! What clients notice of a cluster that is not well: a follower is slow, a follower is dead, the leader is killed.
//!
//! The cluster has one shard on three nodes, so that one node leads and the other two do nothing but follow. With a shard
//! a node each of them would lead something, and whatever is done to one of them would be done to a leader. A round
//! measures, at the same share of the capacity that was measured in it: all well; one follower stopped for a moment and
//! let go for a moment, again and again; that follower dead; and the leader killed in the middle. Nodes that were killed
//! come back and catch up before the next point.
//!
//! The first three points are void as those of any open loop. When the leader is killed, no achievement is demanded:
//! nothing can be answered until another node leads, and to throw away the rounds in which that takes long would be to
//! throw away the bad news. What waits meanwhile counts from its intended start, so that the longest latency is the outage
//! as clients saw it: from the last answer of the old leader to the first of the new one, with everything that clients
//! need for that, such as new connections. The point is void when operations failed, when the client was the bottleneck,
//! or when nobody else led after the kill. Writes that were on the connections of the killed node have an unknown outcome,
//! which is no failure, and are counted.

mod stutter;

use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use serde::Serialize;

use super::absent_nodes::{address_of, await_caught_up, await_return, connect_without};
use super::{Bench, Findings, OwnStore};
use crate::arguments::DegradedArguments;
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::good_clients::{GoodClients, Span};
use crate::latency::Spread;
use crate::load::Losses;
use crate::measurement::Measurement;
use crate::node::NodeError;
use crate::output::number;
use crate::process::ProcessId;
use crate::store::{Store, StoreError};
use stutter::{PAUSE, Stutter};

/// What the tail may grow to with a follower slow or dead.
const TAIL_RATIO_MAX: f64 = 2.0;

/// What the death of a leader may cost a client.
const OUTAGE_MS_MAX: f64 = 1_000.0;

/// The part of the measured time that is over when the leader is killed: the rest is for what follows.
const KILLED_AFTER: f64 = 1.0 / 3.0;

/// With fewer of the stops that there is time for, a follower was not slow.
const STOPS_SHARE_MIN: f64 = 0.5;

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    capacity: Measurement,
    well: Measurement,
    slow: Measurement,
    /// Times that the slow follower was stopped, of those that there is time for.
    stops_share: f64,
    dead: Measurement,
    killed: Measurement,
}

/// Who does what in a cluster with one shard.
#[derive(Debug, Clone, Copy)]
struct Roles {
    leader: SocketAddr,
    /// The one that is made slow and killed.
    follower: SocketAddr,
}

/// A cluster under measurement.
struct Degraded<'b, 'a> {
    bench: &'b mut Bench<'a>,
    own: OwnStore,
    clients: GoodClients,
    nodes: usize,
    span: Span,
}

/// Measures on one cluster.
pub(super) fn measure_degraded(
    bench: &mut Bench<'_>,
    arguments: &DegradedArguments,
) -> Result<Findings, PerfError> {
    if arguments.names_shards() {
        return Err(PerfError::OneShard { what: "degraded" });
    }
    let mut own = bench.start(&["--shards", "1"])?;
    let (clients, loaded) =
        GoodClients::load(&mut own.store, bench.effort.keys, arguments.directories)?;
    bench.output.line(&loaded.words())?;
    let mut degraded = Degraded {
        nodes: own.store.addresses().len(),
        span: Span::from(&bench.effort),
        bench,
        own,
        clients,
    };
    let mut rounds = Vec::new();
    let mut thrown_away = Vec::new();
    for number_of_round in 1..=degraded.bench.effort.rounds {
        let round = degraded.measure_round(arguments.load)?;
        let words = format!("round {number_of_round}: {}", round.words());
        degraded.bench.output.line(&words)?;
        if round.void_words().is_some() {
            thrown_away.push(round);
        } else {
            rounds.push(round);
        }
    }
    Ok(Findings {
        figures: figures(&rounds),
        rounds: rounds.len(),
        rounds_thrown_away: thrown_away.len(),
        details: serde_json::json!({
            "load": arguments.load,
            "directories": arguments.directories,
            "loaded": loaded,
            "rounds": rounds,
            "thrown_away": thrown_away,
        }),
    })
}

impl Degraded<'_, '_> {
    fn measure_round(&mut self, load: f64) -> Result<Round, PerfError> {
        self.own.store.settle()?;
        let capacity = self
            .clients
            .measure_capacity(&mut self.own.store, self.span)?;
        let rate = (load * capacity.achieved_per_second).max(1.0);
        let well = self.measure_at(rate)?;
        let (slow, stops_share) = self.measure_slow(rate)?;
        Ok(Round {
            capacity,
            well,
            slow,
            stops_share,
            dead: self.measure_dead(rate)?,
            killed: self.measure_killed(rate)?,
        })
    }

    fn measure_at(&mut self, rate: f64) -> Result<Measurement, PerfError> {
        self.own.store.settle()?;
        self.clients
            .measure_at(&mut self.own.store, rate, self.span)
    }

    /// With a follower that stands still half of the time, and how often it did, as a share of the times possible.
    fn measure_slow(&mut self, rate: f64) -> Result<(Measurement, f64), PerfError> {
        self.own.store.settle()?;
        let follower = self.roles()?.follower;
        let process = ProcessId::listening_at(follower).map_err(NodeError::from)?;
        let stutter = Stutter::start(process)?;
        let measured = self
            .clients
            .measure_at(&mut self.own.store, rate, self.span);
        let stops = stutter.end();
        let time = self.span.warm_up + self.span.measured;
        let possible = time.as_secs_f64() / (2 * PAUSE).as_secs_f64();
        Ok((measured?, stops as f64 / possible))
    }

    /// With a follower that is dead, which comes back afterwards.
    fn measure_dead(&mut self, rate: f64) -> Result<Measurement, PerfError> {
        let Roles { leader, follower } = self.roles()?;
        let member = self.own.node.member(follower)?;
        self.own.node.kill_member(&member)?;
        self.own.store = connect_without(leader, follower)?;
        self.watch()?;
        let dead = self.measure_at(rate)?;
        self.bench.revive(&mut self.own, &member)?;
        self.await_all()?;
        Ok(dead)
    }

    /// With a leader that is killed in the middle, and comes back afterwards.
    fn measure_killed(&mut self, rate: f64) -> Result<Measurement, PerfError> {
        self.own.store.settle()?;
        let Roles { leader, follower } = self.roles()?;
        let member = self.own.node.member(leader)?;
        // Only nodes that stay can be asked what they have spent. Who leads is in the map of each of them.
        self.own.store = Store::connect_without(&follower.to_string(), leader)?;
        self.watch()?;
        let OwnStore { store, node } = &mut self.own;
        // From here on, that is a little before the load begins to be sent.
        let due = self.span.warm_up + self.span.measured.mul_f64(KILLED_AFTER);
        let (is_over, over) = mpsc::channel::<()>();
        let (measured, killed) = thread::scope(|scope| {
            let member = &member;
            let killer = scope.spawn(move || match over.recv_timeout(due) {
                Err(RecvTimeoutError::Timeout) => node.kill_member(member),
                // The load has ended before it, with an error.
                Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
            });
            let measured = self.clients.measure_surviving_at(store, rate, self.span);
            drop(is_over);
            (measured, killer.join().expect("the killer does not panic"))
        });
        let measured = measured?;
        killed?;
        self.bench.revive(&mut self.own, &member)?;
        self.await_all()?;
        Ok(measured)
    }

    /// Waits until all nodes are there and as far as each other.
    fn await_all(&mut self) -> Result<(), PerfError> {
        await_return(&mut self.own, self.nodes)?;
        await_caught_up(&mut self.own, self.nodes)?;
        self.watch()
    }

    /// Has the processes and the disk of a store observed that was connected to anew.
    fn watch(&mut self) -> Result<(), PerfError> {
        let store = &mut self.own.store;
        store.watch_process(None)?;
        // That not every disk can be watched was said when the cluster was started.
        let _watched = store.watch_disk(&self.bench.arguments.data);
        Ok(())
    }

    fn roles(&mut self) -> Result<Roles, PerfError> {
        let store = &mut self.own.store;
        let leads = store.observe()?.leads();
        let lead = leads.values().next().ok_or(StoreError::NoLeader)?;
        let leader = address_of(store, lead.node_id)?;
        let mut others = store.addresses().iter().filter(|&&other| other != leader);
        Ok(Roles {
            leader,
            follower: *others.next().expect("a cluster has several nodes"),
        })
    }
}

fn figures(rounds: &[Round]) -> Vec<Figure> {
    let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
    let plain =
        |name: &'static str, of: fn(&Round) -> f64| Figure::new(name, Target::None, spread(of));
    vec![
        Figure::new(
            "a follower slow: w8 p99 / that with all well",
            Target::AtMost(TAIL_RATIO_MAX),
            spread(|round| round.tail_ratio(&round.slow)),
        ),
        Figure::new(
            "a follower dead: w8 p99 / that with all well",
            Target::AtMost(TAIL_RATIO_MAX),
            spread(|round| round.tail_ratio(&round.dead)),
        ),
        Figure::new(
            "the leader killed: the longest ms that an operation took",
            Target::AtMost(OUTAGE_MS_MAX),
            spread(Round::outage_ms),
        ),
        plain(
            "the leader killed: operations of unknown outcome",
            |round| round.losses().unknown as f64,
        ),
        plain("the leader killed: w8 p99 us", |round| {
            round.killed.latency.p99_us
        }),
        plain("the leader killed: w8 p50 us", |round| {
            round.killed.latency.p50_us
        }),
        plain("all well: w8 p99 us", |round| round.well.latency.p99_us),
        plain("all well: w8 p50 us", |round| round.well.latency.p50_us),
        plain("a follower slow: w8 p99 us", |round| {
            round.slow.latency.p99_us
        }),
        plain("a follower slow: w8 p50 us", |round| {
            round.slow.latency.p50_us
        }),
        plain("a follower dead: w8 p99 us", |round| {
            round.dead.latency.p99_us
        }),
        plain("a follower dead: w8 p50 us", |round| {
            round.dead.latency.p50_us
        }),
        plain("w8 operations/s, capacity", |round| {
            round.capacity.achieved_per_second
        }),
    ]
}

impl Round {
    fn tail_ratio(&self, of: &Measurement) -> f64 {
        of.latency.p99_us / self.well.latency.p99_us
    }

    /// The outage as a client saw it that fared worst.
    fn outage_ms(&self) -> f64 {
        self.killed.latency.max_us / 1e3
    }

    fn losses(&self) -> Losses {
        self.killed.losses.unwrap_or_default()
    }

    /// Why the round does not count, and which of its points that is about.
    fn void_words(&self) -> Option<String> {
        let all = [
            ("capacity", &self.capacity),
            ("all well", &self.well),
            ("a follower slow", &self.slow),
            ("a follower dead", &self.dead),
            ("the leader killed", &self.killed),
        ];
        let void_point = |(point, measurement): (&str, &Measurement)| {
            let why = measurement.void_words()?;
            Some(format!("{point}: {why}"))
        };
        let is_led_anew = self
            .killed
            .moves
            .is_some_and(|moves| moves.have_leaders_moved);
        let was_killed = self.losses().connections > 0 && is_led_anew;
        let was_slow = self.stops_share >= STOPS_SHARE_MIN;
        let unless = |is_so: bool, why: &str| (!is_so).then(|| why.to_owned());
        all.into_iter()
            .find_map(void_point)
            .or_else(|| unless(was_slow, "the follower was hardly ever stopped"))
            .or_else(|| unless(was_killed, "no leader was killed while it was measured"))
    }

    fn words(&self) -> String {
        let tail = |measurement: &Measurement| {
            format!(
                "p50 {} us, p99 {} us{}",
                number(measurement.latency.p50_us),
                number(measurement.latency.p99_us),
                match measurement.moves {
                    Some(moves) if moves.have_leaders_moved => " (LEADERS MOVED)",
                    Some(_) | None => "",
                }
            )
        };
        let Losses {
            connections,
            unknown,
            put_off,
        } = self.losses();
        format!(
            "capacity {}/s, offered {}/s; well: {}; a follower slow: {}, ratio {}; a follower dead: {}, ratio {}; the leader \
             killed: p50 {} us, p99 {} us, longest {} ms, {}/s achieved, {connections} connections lost, {unknown} \
             operations of unknown outcome, {} sent again, {put_off} put off, {} failed{}{}",
            number(self.capacity.achieved_per_second),
            number(self.well.offered_per_second.unwrap_or(0.0)),
            tail(&self.well),
            tail(&self.slow),
            number(self.tail_ratio(&self.slow)),
            tail(&self.dead),
            number(self.tail_ratio(&self.dead)),
            number(self.killed.latency.p50_us),
            number(self.killed.latency.p99_us),
            number(self.outage_ms()),
            number(self.killed.achieved_per_second),
            self.killed.moves.map_or(0, |moves| moves.redirected),
            self.killed.failures,
            self.killed
                .first_failure
                .as_ref()
                .map_or(String::new(), |failure| format!(", such as: {failure}")),
            self.void_words()
                .map_or(String::new(), |why| format!("  THROWN AWAY: {why}")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::{Invalid, Moves};

    /// A round that counts, in which the leader was killed and another one has led.
    fn round() -> Round {
        let plain = Measurement::with_p50(1.0);
        let tail = |p99_us: f64| {
            let mut measurement = plain.clone();
            measurement.latency.p99_us = p99_us;
            measurement
        };
        let mut killed = tail(9_000.0);
        killed.latency.max_us = 150_000.0;
        killed.losses = Some(Losses {
            connections: 100,
            unknown: 12,
            put_off: 0,
        });
        killed.moves = Some(Moves {
            redirected: 40,
            put_off: 0,
            have_leaders_moved: true,
        });
        Round {
            capacity: plain.clone(),
            well: tail(100.0),
            slow: tail(150.0),
            stops_share: 0.9,
            dead: tail(80.0),
            killed,
        }
    }

    #[test]
    fn tails_are_over_that_of_the_same_round_and_the_outage_is_the_longest_wait() {
        let round = round();
        assert_eq!(round.void_words(), None);
        assert!((round.tail_ratio(&round.slow) - 1.5).abs() < 1e-9);
        assert!((round.tail_ratio(&round.dead) - 0.8).abs() < 1e-9);
        assert!((round.outage_ms() - 150.0).abs() < 1e-9);
        let words = round.words();
        assert!(
            words.contains("12 operations of unknown outcome"),
            "{words}"
        );
        let figures = figures(&[round]);
        assert!(!figures.iter().any(Figure::is_missed));
    }

    #[test]
    fn a_round_in_which_nothing_was_slow_or_killed_does_not_count() {
        let is_void = |change: fn(&mut Round)| {
            let mut round = round();
            change(&mut round);
            round.void_words().is_some()
        };
        assert!(!is_void(|_| ()));
        let mut named = round();
        named.dead.invalid = Some(Invalid::NotAchieved);
        let why = named.void_words().unwrap();
        assert!(why.starts_with("a follower dead: "), "{why}");
        assert!(is_void(|round| round.stops_share = 0.2));
        assert!(is_void(|round| round.killed.losses = None));
        assert!(is_void(|round| round.killed.moves = None));
        assert!(is_void(
            |round| round.killed.invalid = Some(Invalid::Failures)
        ));
        assert!(is_void(
            |round| round.well.invalid = Some(Invalid::NotAchieved)
        ));
        assert!(is_void(
            |round| round.capacity.invalid = Some(Invalid::Client)
        ));
    }
}
