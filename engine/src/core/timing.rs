//! How long a tick is. All of raft's times are counted in ticks, so that nothing else has to change with the network
//! and the disk.

use super::estimate::Estimate;
use super::neighbours::Neighbours;
use super::pace::is_clearly_shorter;
use crate::settings::RaftSettings;

/// The length of a tick, as it is and as it should be.
#[derive(Debug)]
pub(super) struct Timing {
    tick_ns: u64,
    /// What is needed by what was measured here alone.
    needed_ns: u64,
    /// Between which lengths it may be; `None` where it is fixed.
    bounds: Option<(u64, u64)>,
    /// Writes of the log.
    flush: Estimate,
}

impl Timing {
    pub(super) fn new(raft: &RaftSettings) -> Timing {
        let set_ns = raft.tick_interval_ms * 1_000_000;
        let bounds = raft.timing.tick_bounds_ns(raft.election_ticks);
        let needed_ns = bounds.map_or(0, |(min, _)| min);
        Timing {
            tick_ns: set_ns,
            needed_ns,
            bounds,
            flush: Estimate::default(),
        }
    }

    pub(super) fn tick_ns(&self) -> u64 {
        self.tick_ns
    }

    pub(super) fn needed_ns(&self) -> u64 {
        self.needed_ns
    }

    /// How long ticks would have to be if every write took so long, to compare it with what others need. `None` where
    /// their length is fixed, or its bounds are too close to tell anybody from anybody.
    pub(super) fn comparable_ns(&self, write_ns: u64) -> Option<u64> {
        let (min_ns, max_ns) = self.bounds?;
        let tells = is_clearly_shorter(min_ns, max_ns);
        tells.then(|| self.needed_ns.max(write_ns).clamp(min_ns, max_ns))
    }

    /// How long a write takes at most, but for rare exceptions.
    pub(super) fn write_ns(&self) -> u64 {
        self.flush.high_ns().unwrap_or(0)
    }

    /// A write of the log took so long.
    pub(super) fn on_write(&mut self, took_ns: u64) {
        self.flush.take(took_ns);
    }

    /// Once a tick: the next one is as long as a round trip and a write, of whoever needs longest. It grows to twice
    /// its length at once, so that those who wait for a leader hear of longer ticks before they miss one, and shrinks
    /// by an eighth of the way. Alone it stays as it is: nobody waits.
    pub(super) fn adapt(&mut self, neighbours: &Neighbours) {
        let Some((min_ns, max_ns)) = self.bounds else {
            return;
        };
        let Some(round_trip_ns) = neighbours.round_trip_ns() else {
            return;
        };
        let measured_ns = round_trip_ns + self.flush.high_ns().unwrap_or(0);
        self.needed_ns = measured_ns.clamp(min_ns, max_ns);
        let goal_ns = self.needed_ns.max(neighbours.tick_wanted_ns());
        let goal_ns = goal_ns.clamp(min_ns, max_ns);
        self.tick_ns = if goal_ns > self.tick_ns {
            goal_ns.min(2 * self.tick_ns)
        } else {
            self.tick_ns - (self.tick_ns - goal_ns).div_ceil(8)
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metastore_wal::{CoreId, NodeId};

    use super::*;
    use crate::ids::{BootNonce, Time};
    use crate::peer::{Echo, PeerCore, Stamp};
    use crate::settings::TickTiming;

    const OTHER: PeerCore = PeerCore {
        node: NodeId(2),
        core: CoreId(0),
    };
    const MS: u64 = 1_000_000;

    fn timing(timing: TickTiming) -> Timing {
        Timing::new(&RaftSettings {
            timing,
            ..RaftSettings::default()
        })
    }

    /// A neighbour at a distance, whose own ticks are of these lengths.
    fn neighbours(round_trip_ns: u64, needed_ms: u32, tick_ms: u32) -> Neighbours {
        let mut neighbours = Neighbours::new(BootNonce(1), 10);
        neighbours.set(&BTreeSet::from([OTHER]));
        for number in 1..200 {
            let echo = Echo {
                boot: 1,
                sent_ns: number,
                held_ns: 0,
            };
            let stamp = Stamp {
                boot: 2,
                sent_ns: number,
                echo,
                tick_needed_us: needed_ms * 1_000,
                tick_us: tick_ms * 1_000,
            };
            neighbours.on_beat(Time(number + round_trip_ns), OTHER, &stamp);
        }
        neighbours
    }

    fn settle(timing: &mut Timing, neighbours: &Neighbours) -> u64 {
        for _ in 0..200 {
            timing.adapt(neighbours);
        }
        timing.tick_ns() / MS
    }

    #[test]
    fn a_tick_is_a_round_trip_and_a_write_within_its_bounds() {
        let mut timing = timing(TickTiming::default());
        assert_eq!(settle(&mut timing, &neighbours(MS, 0, 0)), 15);
        let far = settle(&mut timing, &neighbours(60 * MS, 0, 0));
        assert!((60..66).contains(&far), "{far} ms");
        for _ in 0..100 {
            timing.on_write(40 * MS);
        }
        let slow = settle(&mut timing, &neighbours(60 * MS, 0, 0));
        assert!((100..106).contains(&slow), "{slow} ms");
        assert_eq!(settle(&mut timing, &neighbours(900 * MS, 0, 0)), 200);
    }

    #[test]
    fn ticks_are_long_enough_for_the_slowest_of_the_others() {
        let mut timing = timing(TickTiming::default());
        assert_eq!(settle(&mut timing, &neighbours(MS, 80, 80)), 80);
        assert_eq!(settle(&mut timing, &neighbours(MS, 15, 180)), 90);
        assert_eq!(timing.needed_ns(), 15 * MS, "what others need is not ours");
    }

    #[test]
    fn it_grows_by_doubling_and_shrinks_slowly() {
        let mut timing = timing(TickTiming::default());
        let near = neighbours(MS, 0, 0);
        timing.adapt(&near);
        assert!(timing.tick_ns() > 45 * MS);
        settle(&mut timing, &near);
        let far = neighbours(900 * MS, 0, 0);
        let lengths: Vec<u64> = (0..5)
            .map(|_| {
                timing.adapt(&far);
                timing.tick_ns() / MS
            })
            .collect();
        assert_eq!(lengths, [30, 60, 120, 200, 200]);
    }

    #[test]
    fn what_it_needs_is_compared_with_others_where_it_can_differ() {
        let bounded = |election_ms_min, election_ms_max| {
            timing(TickTiming::Adaptive {
                election_ms_min,
                election_ms_max,
            })
        };
        assert_eq!(timing(TickTiming::Fixed).comparable_ns(MS), None);
        assert_eq!(bounded(900, 1_000).comparable_ns(MS), None);
        let usual = timing(TickTiming::default());
        assert_eq!(usual.comparable_ns(MS), Some(15 * MS));
        assert_eq!(usual.comparable_ns(120 * MS), Some(120 * MS));
        assert_eq!(usual.comparable_ns(3_000 * MS), Some(200 * MS));
    }

    #[test]
    fn it_stays_where_it_is_fixed_or_nobody_is_there() {
        let mut fixed = timing(TickTiming::Fixed);
        assert_eq!(settle(&mut fixed, &neighbours(900 * MS, 0, 0)), 50);
        let mut alone = timing(TickTiming::default());
        alone.on_write(900 * MS);
        let nobody = Neighbours::new(BootNonce(1), 10);
        assert_eq!(settle(&mut alone, &nobody), 50);
    }
}
