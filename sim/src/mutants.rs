//! Planted bugs are hunted here. A checker that cannot find its bug is not a checker.
//!
//! For each mutant of the bank, one after the other:
//!
//! 1. Worlds without faults are clean although it is planted: a bug that shows every day proves nothing.
//! 2. Of the worlds with faults, seed after seed, one breaks a promise, and is clean without the mutant.
//! 3. The same seed breaks it again in the same way, so that the command that is printed shows it.
//!
//! It does **not** say what the bugs are: that is written where each is planted, and in `docs/TESTING.md`.

mod ground;
mod panics;

use std::fmt;

use metastore_bugs::{Mutant, plant};
use thiserror::Error;

pub use self::ground::Ground;
pub use self::panics::silence_panics;
use crate::campaign::run_seed;
use crate::cluster::world::ClusterWorld;
use crate::oracle::Checkers;
use crate::power_loss::{PowerLoss, caught};
use crate::violation::Violation;
use crate::world::World;

/// How hard a mutant is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// As much as a few minutes for all mutants allow.
    Quick,
    /// Until it is found, or nobody would wait any longer.
    Full,
}

/// One mutant, looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hunt {
    /// The mutant.
    pub mutant: Mutant,
    /// How hard.
    pub effort: Effort,
}

/// A mutant that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The seed of the world.
    pub seed: u64,
    /// Which crash of the world it was found after; 0 before the first.
    pub crashes: u64,
    /// What was broken.
    pub violation: Violation,
    /// Where an assertion stands that failed.
    pub assertion: Option<String>,
}

/// A hunt that proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Missed {
    /// It shows in a world without faults.
    #[error("it fails in world {seed} even without a fault: {violation}")]
    FailsWithoutFaults {
        /// The seed of the world.
        seed: u64,
        /// What was broken.
        violation: Violation,
    },
    /// No world shows it.
    #[error("none of {seeds} worlds shows it and is clean without it")]
    NotFound {
        /// How many were tried.
        seeds: u64,
    },
    /// The world in which it was found shows something else the second time.
    #[error("world {seed} broke a promise ({before}), and then it did not, or another ({after:?})")]
    NotRepeated {
        /// The seed of the world.
        seed: u64,
        /// The first time.
        before: Violation,
        /// The second time.
        after: Option<Violation>,
    },
}

/// What became of one world.
struct Ran {
    crashes: u64,
    violation: Option<Violation>,
}

impl Effort {
    /// Worlds without faults that must be clean.
    fn calm_seeds(self, ground: Ground) -> u64 {
        match (self, ground) {
            (Effort::Quick, Ground::Nodes) => 10,
            (Effort::Quick, Ground::Clusters) => 2,
            (Effort::Full, Ground::Nodes) => 100,
            (Effort::Full, Ground::Clusters) => 20,
        }
    }

    /// Worlds with faults of which one must show it.
    fn seeds_max(self, ground: Ground) -> u64 {
        match (self, ground) {
            (Effort::Quick, Ground::Nodes) => 300,
            (Effort::Quick, Ground::Clusters) => 1_000,
            (Effort::Full, _) => 10_000,
        }
    }
}

impl Hunt {
    /// Looks for it.
    ///
    /// # Errors
    /// Says why it does not count as found.
    pub fn run(&self) -> Result<Found, Box<Missed>> {
        let ground = Ground::of(self.mutant);
        let checkers = ground::checkers_of(self.mutant);
        for seed in 1..=self.effort.calm_seeds(ground) {
            if let Some(violation) = self.planted(|| run_calm(ground, seed, checkers)) {
                return Err(Box::new(Missed::FailsWithoutFaults { seed, violation }));
            }
        }
        let found = self.find(ground, checkers)?;
        let again = self.planted(|| run_world(ground, found.seed, checkers));
        if again.violation.as_ref() != Some(&found.violation) {
            return Err(Box::new(Missed::NotRepeated {
                seed: found.seed,
                before: found.violation,
                after: again.violation,
            }));
        }
        Ok(found)
    }

    fn find(&self, ground: Ground, checkers: Checkers) -> Result<Found, Box<Missed>> {
        let seeds = self.effort.seeds_max(ground);
        for seed in 1..=seeds {
            panics::forget();
            let ran = self.planted(|| run_world(ground, seed, checkers));
            if let Some(violation) = ran.violation {
                let assertion = panics::last().filter(|_| violation.checker() == "assertion");
                // A world that is broken anyway proves nothing; whoever runs worlds without bugs has to see to it.
                if run_world(ground, seed, Checkers::All).violation.is_some() {
                    continue;
                }
                return Ok(Found {
                    seed,
                    crashes: ran.crashes,
                    assertion,
                    violation,
                });
            }
        }
        Err(Box::new(Missed::NotFound { seeds }))
    }

    fn planted<T>(&self, run: impl FnOnce() -> T) -> T {
        let _planted = plant(self.mutant);
        run()
    }
}

/// The world of a seed without its faults.
fn run_calm(ground: Ground, seed: u64, checkers: Checkers) -> Option<Violation> {
    let ran = match ground {
        Ground::Nodes => {
            let mut world = World::new(seed, checkers);
            caught(|| world.run_without_faults())
        }
        Ground::Clusters => {
            let mut world = ClusterWorld::without_faults(seed, checkers);
            caught(|| world.run())
        }
    };
    ran.err()
}

/// The world of a seed, as the commands that replay it run it.
fn run_world(ground: Ground, seed: u64, checkers: Checkers) -> Ran {
    match ground {
        Ground::Nodes => {
            let power_loss = PowerLoss {
                seed,
                crashes: 1,
                checkers,
            };
            match power_loss.run() {
                Ok(summary) => Ran {
                    crashes: summary.total.crashes,
                    violation: None,
                },
                Err(failure) => Ran {
                    crashes: failure.summary.total.crashes + failure.summary.reuse.crashes,
                    violation: Some(failure.violation),
                },
            }
        }
        Ground::Clusters => match run_seed(seed, checkers, None) {
            Ok(report) => Ran {
                crashes: report.crashes,
                violation: None,
            },
            Err(broken) => Ran {
                crashes: broken.report.crashes,
                violation: Some(broken.violation),
            },
        },
    }
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("seed {}, crash {}", self.seed, self.crashes);
        let checker = self.violation.checker();
        write!(formatter, "{place:<20} {checker}")?;
        match &self.assertion {
            Some(assertion) => write!(formatter, " {assertion}"),
            None => Ok(()),
        }
    }
}
