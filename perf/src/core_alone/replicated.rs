//! Puts for a group of several cores that hold one shard: what all of them do is counted.

use metastore_engine::Settings;

use super::Scenario;
use super::group::Group;
use super::load::{Commands, Counting, Driven, HISTORY_REVISIONS, KEYS, SEED, WARM_UP_BATCH};
use crate::random::Random;
use crate::zipfian::Zipfian;

/// Virtual time in which the shard finds its leader for good.
const SETTLE_MS: u64 = 20_000;

/// A group, and the puts for it.
pub(super) struct ReplicatedLoad {
    group: Group,
    zipfian: Zipfian,
    random: Random,
}

impl ReplicatedLoad {
    /// A group that serves, has all keys, and whose history is full.
    pub(super) fn new(replicas: u32) -> ReplicatedLoad {
        let mut group = Group::new(replicas as usize, 1, &Settings::default());
        group.run_ms(SETTLE_MS);
        let mut load = ReplicatedLoad {
            group,
            zipfian: Zipfian::new(KEYS),
            random: Random::new(SEED),
        };
        let numbers: Vec<u64> = (0..KEYS).collect();
        for numbers in numbers.chunks(WARM_UP_BATCH) {
            load.commit(numbers.iter().copied());
        }
        load.put(HISTORY_REVISIONS, WARM_UP_BATCH);
        load
    }

    /// Counted puts of the scenario: whole turns, at least so many.
    pub(super) fn run(&mut self, scenario: Scenario, puts: u64) -> Driven {
        self.group.counting = Counting::On(0);
        let puts = self.put(puts, scenario.batch);
        let counting = std::mem::replace(&mut self.group.counting, Counting::Off);
        let Counting::On(calls) = counting else {
            unreachable!("nothing else turns it off");
        };
        Driven { puts, calls }
    }

    fn put(&mut self, puts: u64, batch: usize) -> u64 {
        let mut done = 0;
        while done < puts {
            let drawn = (0..batch).map(|_| self.zipfian.rank(self.random.next_unit()));
            let numbers: Vec<u64> = drawn.collect();
            self.commit(numbers.into_iter());
            done += batch as u64;
        }
        done
    }

    fn commit(&mut self, numbers: impl Iterator<Item = u64>) {
        let mut commands = Commands::default();
        for number in numbers {
            commands.push(number, &mut self.random);
        }
        self.group.commit(&commands);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_put_is_answered_and_counted() {
        let mut load = ReplicatedLoad::new(3);
        let scenario = Scenario {
            replicas: 3,
            batch: 16,
        };
        let driven = load.run(scenario, 100);
        assert_eq!(driven.puts, 112, "whole turns");
        // Each put at the leader, each write and message and turn of all three.
        assert!(driven.calls > 112 + 7 * 12, "{} calls", driven.calls);
    }
}
