//! The cores of other nodes that share a shard with this one: which are there, how far away, and how long their ticks are.
//!
//! Every core says with each tick that it is there, once to each of the others, however many shards they share. Silence
//! is counted in ticks that passed here and not in time: what waited while this process stood still is heard before its
//! next tick, so that a pause of our own is not taken for the death of everybody else.

use std::collections::{BTreeMap, BTreeSet};

use super::estimate::Estimate;
use crate::ids::{BootNonce, Time};
use crate::peer::{Echo, PeerCore, Stamp};

/// Ticks of silence after a connection has ended beyond which the process at its other end is taken for dead: it had
/// that long to connect again.
const RESET_TICKS: u32 = 2;
/// The same where ticks are long because the log is slow: connecting waits for no write.
const RESET_LONG_TICKS: u32 = 1;
/// How long that is, in nanoseconds. Connecting again takes some milliseconds of pause.
const LONG_TICK_NS: u64 = 30_000_000;
/// How many round trips must fit into a long tick: connecting again takes two or three.
const LONG_TICK_ROUND_TRIPS: u64 = 4;

/// What became of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NeighbourChange {
    /// It is there, and was not before, as far as is known here.
    Appeared,
    /// It is there, but is another process than before: what it led it does not lead any more.
    Restarted,
    /// It was not heard for an election timeout.
    Silent,
    /// Its connection ended and it was not heard since.
    Gone,
}

/// What became of the connection since the other end was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Link {
    #[default]
    Whole,
    Ended {
        /// A beat has come since, which may have been on its way when the connection ended. Who lives sends another.
        was_heard: bool,
    },
    /// It ended, and whoever relies on the other end was told that it is gone.
    Told,
}

/// What is known of the other end.
#[derive(Debug, Default)]
struct Neighbour {
    /// Its present life, once it was heard.
    boot: Option<u64>,
    /// The life that was heard before, of which late beats may still come.
    boot_before: Option<u64>,
    is_alive: bool,
    silent_ticks: u32,
    link: Link,
    /// When its newest beat was sent, by its clock, and when it came.
    newest: Option<(u64, Time)>,
    round_trip: Estimate,
    tick_needed_us: u32,
    tick_us: u32,
}

impl Neighbour {
    /// How many ticks of this length it has to connect again.
    fn reset_ticks(&self, tick_ns: u64) -> u32 {
        let round_trips_ns = self.round_trip.high_ns();
        let is_near = round_trips_ns.is_some_and(|ns| LONG_TICK_ROUND_TRIPS * ns <= tick_ns);
        match tick_ns >= LONG_TICK_NS && is_near {
            true => RESET_LONG_TICKS,
            false => RESET_TICKS,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Neighbours {
    boot: BootNonce,
    election_ticks: u32,
    all: BTreeMap<PeerCore, Neighbour>,
}

impl Neighbours {
    pub(super) fn new(boot: BootNonce, election_ticks: usize) -> Neighbours {
        Neighbours {
            boot,
            election_ticks: u32::try_from(election_ticks).unwrap_or(u32::MAX),
            all: BTreeMap::new(),
        }
    }

    /// There are these and no others.
    pub(super) fn set(&mut self, cores: &BTreeSet<PeerCore>) {
        self.all.retain(|core, _| cores.contains(core));
        for &core in cores {
            self.add(core);
        }
    }

    /// There is this one too.
    pub(super) fn add(&mut self, core: PeerCore) {
        self.all.entry(core).or_default();
    }

    pub(super) fn cores(&self) -> impl Iterator<Item = PeerCore> {
        self.all.keys().copied()
    }

    /// Whether it was heard within the last election timeout.
    pub(crate) fn is_alive(&self, core: PeerCore) -> bool {
        self.all.get(&core).is_some_and(|other| other.is_alive)
    }

    /// For how many ticks it was not heard.
    pub(crate) fn silent_ticks(&self, core: PeerCore) -> u32 {
        self.all.get(&core).map_or(0, |other| other.silent_ticks)
    }

    /// It was heard.
    pub(super) fn on_beat(
        &mut self,
        now: Time,
        from: PeerCore,
        stamp: &Stamp,
    ) -> Option<NeighbourChange> {
        let other = self.all.get_mut(&from)?;
        // Lives have no order: when the first word heard here was a late one, the life after it counts as the one before.
        // Then nothing comes of the other, and it is believed once that one is silent.
        if other.boot_before == Some(stamp.boot) && other.is_alive {
            return None;
        }
        let is_restarted = other.boot.is_some_and(|boot| boot != stamp.boot);
        if is_restarted {
            (other.boot_before, other.newest) = (other.boot, None);
        }
        other.boot = Some(stamp.boot);
        if other
            .newest
            .is_none_or(|(sent_ns, _)| sent_ns < stamp.sent_ns)
        {
            other.newest = Some((stamp.sent_ns, now));
            (other.tick_needed_us, other.tick_us) = (stamp.tick_needed_us, stamp.tick_us);
        }
        let Echo {
            boot,
            sent_ns,
            held_ns,
        } = stamp.echo;
        if boot == self.boot.0 && sent_ns > 0 {
            let away_ns = now.0.saturating_sub(sent_ns);
            other.round_trip.take(away_ns.saturating_sub(held_ns));
        }
        other.silent_ticks = 0;
        other.link = match other.link {
            Link::Ended { was_heard: false } => Link::Ended { was_heard: true },
            Link::Whole | Link::Ended { was_heard: true } | Link::Told => Link::Whole,
        };
        let was_alive = std::mem::replace(&mut other.is_alive, true);
        match (was_alive, is_restarted) {
            (_, true) => Some(NeighbourChange::Restarted),
            (false, false) => Some(NeighbourChange::Appeared),
            (true, false) => None,
        }
    }

    /// A connection to it has ended.
    pub(super) fn on_reset(&mut self, core: PeerCore) {
        let Some(other) = self.all.get_mut(&core).filter(|other| other.is_alive) else {
            return;
        };
        match other.link {
            Link::Whole => {
                // From now on at least so many ticks, however long ago it was heard.
                other.silent_ticks = 0;
                other.link = Link::Ended { was_heard: false };
            }
            Link::Ended { .. } => other.link = Link::Ended { was_heard: false },
            Link::Told => {}
        }
    }

    /// Whether a connection to it has ended, and it was not heard for a tick at least: what came while this process stood
    /// still has been heard by then.
    pub(crate) fn seems_dead(&self, core: PeerCore) -> bool {
        let other = self.all.get(&core);
        other.is_some_and(|other| other.link != Link::Whole && other.silent_ticks > 0)
    }

    /// A tick of this length has passed. Says who is not there any more.
    pub(super) fn on_tick(&mut self, tick_ns: u64) -> Vec<(PeerCore, NeighbourChange)> {
        let mut changes = Vec::new();
        for (&core, other) in &mut self.all {
            if !other.is_alive {
                continue;
            }
            other.silent_ticks += 1;
            if other.silent_ticks >= self.election_ticks {
                other.is_alive = false;
                changes.push((core, NeighbourChange::Silent));
            } else if matches!(other.link, Link::Ended { .. })
                && other.silent_ticks > other.reset_ticks(tick_ns)
            {
                other.link = Link::Told;
                changes.push((core, NeighbourChange::Gone));
            }
        }
        changes
    }

    /// What is said to one of them with a beat.
    pub(super) fn stamp(
        &self,
        now: Time,
        to: PeerCore,
        tick_needed_ns: u64,
        tick_ns: u64,
    ) -> Stamp {
        let in_us = |nanoseconds: u64| u32::try_from(nanoseconds / 1_000).unwrap_or(u32::MAX);
        let heard = self.all.get(&to);
        let echo = heard.and_then(|other| {
            let (sent_ns, came) = other.newest?;
            Some(Echo {
                boot: other.boot?,
                sent_ns,
                held_ns: now.nanos_since(came),
            })
        });
        Stamp {
            boot: self.boot.0,
            sent_ns: now.0,
            echo: echo.unwrap_or_default(),
            tick_needed_us: in_us(tick_needed_ns),
            tick_us: in_us(tick_ns),
        }
    }

    /// How long the ticks of one must be that is there, by what it measured itself, if it says.
    pub(super) fn tick_needed_ns(&self, core: PeerCore) -> Option<u64> {
        let other = self.all.get(&core).filter(|other| other.is_alive)?;
        (other.tick_needed_us > 0).then(|| u64::from(other.tick_needed_us) * 1_000)
    }

    /// The longest that a round trip may take to one that is there, with its spread.
    pub(super) fn round_trip_ns(&self) -> Option<u64> {
        let there = self.all.values().filter(|other| other.is_alive);
        there.filter_map(|other| other.round_trip.high_ns()).max()
    }

    /// How long ticks must be for those who are there: what they measured; and half of what their ticks are, so that
    /// a leader with long ticks does not seem dead to those with short ones. Being halved, it dies away by itself.
    pub(super) fn tick_wanted_ns(&self) -> u64 {
        let there = self.all.values().filter(|other| other.is_alive);
        let wanted_us = there.map(|other| other.tick_needed_us.max(other.tick_us / 2));
        u64::from(wanted_us.max().unwrap_or(0)) * 1_000
    }
}

#[cfg(test)]
mod tests {
    use metastore_wal::{CoreId, NodeId};

    use super::*;

    const OTHER: PeerCore = PeerCore {
        node: NodeId(2),
        core: CoreId(0),
    };

    const TICK_NS: u64 = 15_000_000;
    const GONE: [(PeerCore, NeighbourChange); 1] = [(OTHER, NeighbourChange::Gone)];

    fn neighbours() -> Neighbours {
        let mut neighbours = Neighbours::new(BootNonce(1), 10);
        neighbours.set(&BTreeSet::from([OTHER]));
        neighbours
    }

    fn stamp(boot: u64, sent_ns: u64) -> Stamp {
        Stamp {
            boot,
            sent_ns,
            ..Stamp::default()
        }
    }

    #[test]
    fn who_is_not_heard_for_an_election_timeout_is_silent_until_it_is_heard() {
        let mut neighbours = neighbours();
        let hear = |neighbours: &mut Neighbours, sent_ns| {
            neighbours.on_beat(Time(sent_ns), OTHER, &stamp(5, sent_ns))
        };
        assert_eq!(hear(&mut neighbours, 1), Some(NeighbourChange::Appeared));
        assert_eq!(hear(&mut neighbours, 2), None);
        for _ in 0..9 {
            assert_eq!(neighbours.on_tick(TICK_NS), []);
        }
        assert!(neighbours.is_alive(OTHER));
        assert_eq!(
            neighbours.on_tick(TICK_NS),
            [(OTHER, NeighbourChange::Silent)]
        );
        assert!(!neighbours.is_alive(OTHER));
        assert_eq!(neighbours.on_tick(TICK_NS), []);
        assert_eq!(hear(&mut neighbours, 3), Some(NeighbourChange::Appeared));
        assert_eq!(neighbours.silent_ticks(OTHER), 0);
    }

    #[test]
    fn another_process_is_told_from_late_words_of_the_one_before() {
        let mut neighbours = neighbours();
        let mut hear = |boot, sent_ns| {
            let stamp = stamp(boot, sent_ns);
            neighbours.on_beat(Time(9), OTHER, &stamp)
        };
        assert_eq!(hear(5, 700), Some(NeighbourChange::Appeared));
        assert_eq!(hear(6, 10), Some(NeighbourChange::Restarted));
        assert_eq!(hear(5, 800), None);
        assert_eq!(hear(6, 20), None);
    }

    /// This process has just begun: it hears the life that is, and then a late word of the one before.
    #[test]
    fn a_late_word_that_is_taken_for_a_new_life_is_not_believed_for_ever() {
        let mut neighbours = neighbours();
        neighbours.on_beat(Time(9), OTHER, &stamp(6, 10));
        let late = neighbours.on_beat(Time(9), OTHER, &stamp(5, 800));
        assert_eq!(late, Some(NeighbourChange::Restarted));
        for tick in 1..20 {
            neighbours.on_tick(TICK_NS);
            neighbours.on_beat(Time(tick), OTHER, &stamp(6, 10 + tick));
        }
        assert!(neighbours.is_alive(OTHER));
        assert_eq!(neighbours.silent_ticks(OTHER), 0);
    }

    #[test]
    fn who_says_nothing_after_its_connection_ended_is_gone_before_it_is_silent() {
        let mut neighbours = neighbours();
        neighbours.on_beat(Time(9), OTHER, &stamp(5, 9));
        neighbours.on_reset(OTHER);
        assert!(!neighbours.seems_dead(OTHER));
        assert_eq!(neighbours.on_tick(TICK_NS), []);
        assert!(neighbours.seems_dead(OTHER));
        assert_eq!(neighbours.on_tick(TICK_NS), []);
        assert_eq!(neighbours.on_tick(TICK_NS), GONE);
        neighbours.on_reset(OTHER);
        assert_eq!(neighbours.on_tick(TICK_NS), []);
        assert!(neighbours.seems_dead(OTHER));
        // It was another connection, or another one came.
        neighbours.on_beat(Time(9), OTHER, &stamp(5, 10));
        assert!(!neighbours.seems_dead(OTHER));
        for _ in 0..5 {
            assert_eq!(neighbours.on_tick(TICK_NS), []);
        }
    }

    #[test]
    fn one_beat_behind_the_end_of_a_connection_may_have_been_on_its_way() {
        let mut neighbours = neighbours();
        neighbours.on_beat(Time(9), OTHER, &stamp(5, 9));
        neighbours.on_reset(OTHER);
        neighbours.on_beat(Time(9), OTHER, &stamp(5, 10));
        assert_eq!(neighbours.on_tick(TICK_NS), []);
        assert!(neighbours.seems_dead(OTHER));
        assert_eq!(neighbours.on_tick(TICK_NS), []);
        assert_eq!(neighbours.on_tick(TICK_NS), GONE);
        // Who lives is heard a second time.
        neighbours.on_beat(Time(9), OTHER, &stamp(5, 11));
        neighbours.on_reset(OTHER);
        for sent_ns in [12, 13] {
            neighbours.on_beat(Time(9), OTHER, &stamp(5, sent_ns));
            assert_eq!(neighbours.on_tick(TICK_NS), []);
        }
        assert!(!neighbours.seems_dead(OTHER));
        for _ in 0..5 {
            assert_eq!(neighbours.on_tick(TICK_NS), []);
        }
    }

    /// One at this distance, whose connection has just ended.
    fn ended(round_trip_ns: u64) -> Neighbours {
        let mut neighbours = neighbours();
        for sent_ns in 1..100 {
            let mut stamp = stamp(5, sent_ns);
            stamp.echo = Echo {
                boot: 1,
                sent_ns,
                held_ns: 0,
            };
            neighbours.on_beat(Time(sent_ns + round_trip_ns), OTHER, &stamp);
        }
        neighbours.on_reset(OTHER);
        neighbours
    }

    #[test]
    fn long_ticks_are_waited_for_once_less_where_the_log_makes_them_long() {
        let mut near = ended(1_000_000);
        assert_eq!(near.on_tick(LONG_TICK_NS), []);
        assert_eq!(near.on_tick(LONG_TICK_NS), GONE);
        let mut far = ended(LONG_TICK_NS);
        assert_eq!(far.on_tick(LONG_TICK_NS), []);
        assert_eq!(far.on_tick(LONG_TICK_NS), []);
        assert_eq!(far.on_tick(LONG_TICK_NS), GONE);
        // They grew while it was waited for.
        let mut near = ended(1_000_000);
        assert_eq!(near.on_tick(TICK_NS), []);
        assert_eq!(near.on_tick(TICK_NS), []);
        assert_eq!(near.on_tick(LONG_TICK_NS), GONE);
    }

    #[test]
    fn round_trips_leave_out_how_long_the_other_end_waited() {
        let mut neighbours = neighbours();
        let mut stamp = stamp(5, 1);
        stamp.echo = Echo {
            boot: 1,
            sent_ns: 1_000,
            held_ns: 500,
        };
        neighbours.on_beat(Time(1_700), OTHER, &stamp);
        // 200, and four times half of it.
        assert_eq!(neighbours.round_trip_ns(), Some(600));
        // What it says of an earlier life of ours is of no use.
        stamp.echo.boot = 9;
        stamp.sent_ns = 2;
        neighbours.on_beat(Time(900_000), OTHER, &stamp);
        assert_eq!(neighbours.round_trip_ns(), Some(600));
    }

    #[test]
    fn who_is_not_known_changes_nothing() {
        let mut neighbours = neighbours();
        let stranger = PeerCore {
            node: NodeId(9),
            core: CoreId(0),
        };
        assert_eq!(neighbours.on_beat(Time(1), stranger, &stamp(5, 1)), None);
        neighbours.on_reset(stranger);
        assert_eq!(neighbours.cores().collect::<Vec<_>>(), [OTHER]);
        assert_eq!(
            neighbours.stamp(Time(3), stranger, 0, 0).echo,
            Echo::default()
        );
    }
}
