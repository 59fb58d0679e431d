//! Which round comes next, and how long all of it will take.
//!
//! It keeps nothing: the answer follows from the rounds that there are. So a comparison that was stopped goes on as if
//! it had not been.

use std::time::Duration;

use super::document::{Point, Round};
use super::plan::{Asked, Section, Step, TreePhase};
use crate::arguments::{Effort, Thoroughness};
use crate::keys::KeySpace;
use crate::system::System;

/// Of a floor: preparing a file and starting a process.
const FLOOR_OVERHEAD: Duration = Duration::from_millis(250);

/// Starting and ending the servers, which start side by side.
const SERVERS: Duration = Duration::from_secs(2);

/// Waiting until this store is at rest.
const SETTLING: Duration = Duration::from_secs(1);

/// Letting etcd forget what it was given, before reads.
const FORGETTING: Duration = Duration::from_millis(600);

/// Opening the connections of a point and closing them.
const POINT_OVERHEAD: Duration = Duration::from_millis(100);

/// When what is measured.
#[derive(Debug)]
pub(super) struct Schedule<'a> {
    pub(super) sections: &'a [Section],
    pub(super) effort: Effort,
    pub(super) thoroughness: Thoroughness,
    /// Entries of the tree, if it is measured.
    pub(super) tree_entries: u64,
}

/// The round that comes next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Turn<'a> {
    pub(super) section: &'a Section,
    /// The round's place among all of its workload, from 1 on. Rounds of one pass may share servers.
    pub(super) pass: u32,
}

/// How long something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// If every round counts.
    pub(super) usual: Duration,
    /// If as many are thrown away as may be tried again.
    pub(super) at_most: Duration,
}

impl Expected {
    /// Both in words.
    pub(super) fn words(&self) -> String {
        let usual = duration_words(self.usual);
        if self.at_most == self.usual {
            return format!("about {usual}");
        }
        format!(
            "about {usual}, at most {} if rounds are thrown away",
            duration_words(self.at_most)
        )
    }
}

fn duration_words(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().ceil() as u64;
    if seconds < 600 {
        return format!("{seconds} s");
    }
    format!("{} min", seconds.div_ceil(60))
}

impl<'a> Schedule<'a> {
    /// The round that follows on these: one of the workload with the fewest.
    pub(super) fn next(&self, rounds: &[Round]) -> Option<Turn<'a>> {
        let open = self.sections.iter().filter_map(|section| {
            let progress = Progress::of(section, rounds);
            let is_open =
                progress.counted < self.effort.rounds && progress.tried < self.tries_max();
            is_open.then_some(Turn {
                section,
                pass: progress.tried + 1,
            })
        });
        // Of several with as few, the first one.
        open.min_by_key(|turn| turn.pass)
    }

    /// How long it takes from here on.
    pub(super) fn expected(&self, rounds: &[Round]) -> Expected {
        let mut expected = Expected {
            usual: Duration::ZERO,
            at_most: Duration::ZERO,
        };
        for section in self.sections {
            let progress = Progress::of(section, rounds);
            let missing = self.effort.rounds.saturating_sub(progress.counted);
            let tries_left = self.tries_max().saturating_sub(progress.tried);
            let round = self.round_duration(section);
            expected.usual += round * missing.min(tries_left);
            if missing > 0 {
                expected.at_most += round * tries_left;
            }
        }
        expected
    }

    /// How long a floor is measured.
    pub(super) fn floor_seconds(&self) -> Duration {
        (self.effort.measured / 5).clamp(Duration::from_secs(1), Duration::from_secs(5))
    }

    /// How many rounds of a workload there may be, those included that do not count.
    fn tries_max(&self) -> u32 {
        match self.thoroughness {
            Thoroughness::Quick => self.effort.rounds,
            Thoroughness::Full => 2 * self.effort.rounds,
        }
    }

    fn round_duration(&self, section: &Section) -> Duration {
        let point_duration = |(point, step): (&Point, &Step)| {
            let turns = section.turns(step, self.thoroughness).into_iter();
            let measured = turns.map(|system| self.point_duration(system, step.asked));
            let before = match Section::reads_only_at(point, step) {
                true => FORGETTING,
                false => Duration::ZERO,
            };
            before + measured.sum::<Duration>()
        };
        let points = section.points().map(point_duration);
        self.surrounding_duration(section) + points.sum::<Duration>()
    }

    /// Servers, keys and floors.
    fn surrounding_duration(&self, section: &Section) -> Duration {
        let floor = self.floor_seconds() + FLOOR_OVERHEAD;
        let loading = |space| {
            let systems = section.systems.iter();
            let each = systems.map(|&system| loading_duration(system, self.effort.keys, space));
            SETTLING + each.sum::<Duration>()
        };
        match self.thoroughness {
            Thoroughness::Full => {
                SERVERS + section.key_space().map_or(SETTLING, loading) + floor * 2
            }
            // Servers, what they hold, and a floor between two workloads are shared by those of a pass.
            Thoroughness::Quick => {
                let mut earlier = self.sections.iter().take_while(|&other| other != section);
                let space = section.key_space();
                let is_loaded = earlier.any(|other| other.key_space() == space);
                let sections = u32::try_from(self.sections.len()).expect("workloads are few");
                let new_space = space.filter(|_| !is_loaded);
                (SERVERS + floor) / sections + new_space.map_or(Duration::ZERO, loading) + floor
            }
        }
    }

    fn point_duration(&self, system: System, asked: Asked) -> Duration {
        match asked {
            Asked::Closed(_) | Asked::Share(..) => {
                self.effort.warm_up + self.effort.measured + POINT_OVERHEAD
            }
            Asked::Tree(phase) => tree_duration(system, phase, self.tree_entries),
        }
    }
}

/// How long a system takes for loading, roughly: only the announcement hangs on it.
fn loading_duration(system: System, keys: u64, space: KeySpace) -> Duration {
    let keys_per_second = match system {
        System::MetaStore | System::Redis => 200_000.0,
        System::Etcd => 60_000.0,
    };
    let bytes_per_second = 100e6;
    let bytes = (space.key_bytes + space.value_bytes) as f64;
    let per_key = f64::max(1.0 / keys_per_second, bytes / bytes_per_second);
    Duration::from_secs_f64(keys as f64 * per_key)
}

/// How long a system takes for a tree, roughly. A directory holds about eight entries.
fn tree_duration(system: System, phase: TreePhase, entries: u64) -> Duration {
    let operations = match phase {
        TreePhase::Create | TreePhase::Stat => entries,
        TreePhase::List => entries / 8,
    };
    let per_second = match (system, phase) {
        (System::MetaStore | System::Redis, TreePhase::Create) => 20_000.0,
        (System::MetaStore | System::Redis, TreePhase::Stat | TreePhase::List) => 60_000.0,
        (System::Etcd, TreePhase::Create) => 6_000.0,
        (System::Etcd, TreePhase::Stat | TreePhase::List) => 12_000.0,
    };
    Duration::from_secs_f64(operations as f64 / per_second)
}

/// How far a workload is.
struct Progress {
    /// Rounds that count.
    counted: u32,
    /// All rounds.
    tried: u32,
}

impl Progress {
    fn of(section: &Section, rounds: &[Round]) -> Progress {
        let mut progress = Progress {
            counted: 0,
            tried: 0,
        };
        for round in rounds.iter().filter(|round| section.plan.is_in(round)) {
            progress.tried += 1;
            progress.counted += u32::from(round.discard.is_none());
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::ComparedWorkload;
    use crate::compare::document::Discard;
    use crate::compare::fixture::round_of;

    fn sections() -> Vec<Section> {
        let peers = [System::Etcd, System::Redis];
        [ComparedWorkload::W1, ComparedWorkload::W2]
            .map(|workload| Section::new(workload, &peers, Thoroughness::Full))
            .to_vec()
    }

    fn schedule(sections: &[Section], thoroughness: Thoroughness) -> Schedule<'_> {
        Schedule {
            sections,
            effort: Effort {
                warm_up: Duration::from_secs(1),
                measured: Duration::from_secs(10),
                rounds: 2,
                keys: 100_000,
            },
            thoroughness,
            tree_entries: 0,
        }
    }

    /// What is measured when every third round is thrown away.
    fn run(schedule: &Schedule<'_>, mut rounds: Vec<Round>) -> (Vec<String>, Vec<Round>) {
        let mut names = Vec::new();
        while let Some(turn) = schedule.next(&rounds) {
            names.push(format!("{} {}", turn.section.plan.id, turn.pass));
            let mut round = round_of(rounds.len() as u32 + 1, turn.section, 100.0);
            if round.number.is_multiple_of(3) {
                round.discard = Some(Discard::FloorMoved { drift: 0.2 });
            }
            rounds.push(round);
        }
        (names, rounds)
    }

    #[test]
    fn workloads_take_turns_and_rounds_thrown_away_are_tried_again() {
        let sections = sections();
        let (names, _) = run(&schedule(&sections, Thoroughness::Full), Vec::new());
        assert_eq!(names, ["w1 1", "w2 1", "w1 2", "w2 2", "w1 3"]);
        let (names, _) = run(&schedule(&sections, Thoroughness::Quick), Vec::new());
        assert_eq!(names, ["w1 1", "w2 1", "w1 2", "w2 2"]);
    }

    #[test]
    fn it_goes_on_from_every_round_as_if_it_had_not_stopped() {
        let sections = sections();
        let schedule = schedule(&sections, Thoroughness::Full);
        let (all, rounds) = run(&schedule, Vec::new());
        for stopped_after in 0..=rounds.len() {
            let (rest, same) = run(&schedule, rounds[..stopped_after].to_vec());
            assert_eq!(rest, all[stopped_after..], "after {stopped_after}");
            assert_eq!(same, rounds);
        }
    }

    #[test]
    fn a_first_impression_shares_servers_keys_and_floors() {
        let sections = sections();
        let schedule = schedule(&sections, Thoroughness::Quick);
        let surrounding = |section| schedule.surrounding_duration(section).as_secs_f64();
        const LOADING_S: f64 = 1.0 + 0.5 + 0.5 + 5.0 / 3.0;
        // Each has half of the servers and of the first floor, and a floor behind it; the keys are loaded once.
        assert!((surrounding(&sections[0]) - (2.125 + LOADING_S + 2.25)).abs() < 1e-6);
        assert!((surrounding(&sections[1]) - (2.125 + 2.25)).abs() < 1e-6);
    }

    #[test]
    fn a_workload_is_given_up_when_its_rounds_never_count() {
        let sections = sections();
        let schedule = schedule(&sections, Thoroughness::Full);
        let thrown_away = |number, section| Round {
            discard: Some(Discard::FloorMoved { drift: 1.0 }),
            ..round_of(number, section, 100.0)
        };
        let rounds: Vec<Round> = (1..=4)
            .map(|number| thrown_away(number, &sections[0]))
            .collect();
        let next = schedule.next(&rounds).unwrap();
        assert_eq!((next.section.plan.id.as_str(), next.pass), ("w2", 1));
    }

    #[test]
    fn the_time_is_that_of_the_points_and_what_surrounds_them() {
        let sections = sections();
        let schedule = schedule(&sections, Thoroughness::Full);
        let expected = schedule.expected(&[]);
        // Two rounds each of 5 and 4 points of 11.1 s; two floors of 2.25 s, servers, rest, half a second of loading
        // for each of two systems, and a little more for etcd.
        let surrounding = 2.0 * 2.25 + 2.0 + 1.0 + 0.5 + 0.5 + 5.0 / 3.0;
        let usual_s = 2.0 * (9.0 * 11.1 + 2.0 * surrounding);
        assert!(
            (expected.usual.as_secs_f64() - usual_s).abs() < 1e-6,
            "{expected:?}"
        );
        assert_eq!(expected.at_most, expected.usual * 2);
        let (_, rounds) = run(&schedule, Vec::new());
        let done = schedule.expected(&rounds);
        assert_eq!((done.usual, done.at_most), (Duration::ZERO, Duration::ZERO));
        let half = schedule.expected(&rounds[..2]);
        assert_eq!(half.usual, expected.usual / 2);
    }
}
