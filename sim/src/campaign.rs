//! Worlds of clusters, seed after seed, until there were enough or a promise is broken.
//!
//! A long campaign writes one line of JSON for every range of seeds that is done, and goes on behind the last one when
//! it is started again.

use std::fmt;
use std::time::Duration;

use metastore_bugs::planted_name;
use serde_json::{Value, json};

use crate::cluster::event_log::EventLog;
use crate::cluster::world::{ClusterReport, ClusterWorld};
use crate::oracle::Checkers;
use crate::power_loss::caught;
use crate::violation::Violation;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
}

/// What was done with a range of seeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// The first seed.
    pub from: u64,
    /// How many, counted from there.
    pub seeds: u64,
    /// What all of them went through.
    pub total: ClusterReport,
    /// The fewest operations that succeeded in one of them.
    pub succeeded_least: u64,
    /// The smallest share of operations that succeeded in one of them.
    pub share_least: f64,
    /// How much time of the processor it took.
    pub cpu: Duration,
}

/// A broken promise, and where to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The seed.
    pub seed: u64,
    /// The name of the bug that was planted, if any.
    pub planted: Option<&'static str>,
    /// What was broken.
    pub violation: Violation,
    /// What the world had gone through until then.
    pub report: ClusterReport,
    /// How replicas stood then, a line each.
    pub standing: Vec<String>,
}

/// What a campaign asks of its owner after each seed.
pub trait Pace {
    /// How much time of the processor the process has taken so far.
    fn cpu(&self) -> Duration;
    /// Whether there is time for another seed.
    fn has_time(&self) -> bool;
}

impl Campaign {
    /// Runs until all seeds are done, or there is no time left.
    ///
    /// # Errors
    /// The promise that was broken, and by which seed.
    pub fn run(&self, pace: &dyn Pace) -> (Done, Option<Box<Broken>>) {
        let cpu_before = pace.cpu();
        let mut done = Done::begin_at(self.from);
        while done.seeds < self.seeds && pace.has_time() {
            let seed = self.from + done.seeds;
            let ran = run_seed(seed, Checkers::All, None);
            match ran {
                Ok(report) => {
                    done.add_world(&report);
                    done.cpu = pace.cpu().saturating_sub(cpu_before);
                }
                Err(broken) => return (done, Some(broken)),
            }
        }
        (done, None)
    }
}

/// Runs one world, and writes down what happens in it if `event_log` is given.
///
/// # Errors
/// The promise that was broken.
pub fn run_seed(
    seed: u64,
    checkers: Checkers,
    event_log: Option<EventLog>,
) -> Result<ClusterReport, Box<Broken>> {
    let mut world = ClusterWorld::new(seed, checkers);
    if let Some(event_log) = event_log {
        world.set_event_log(event_log);
    }
    match caught(|| world.run()) {
        Ok(()) => Ok(world.report()),
        Err(violation) => Err(Box::new(Broken {
            seed,
            planted: planted_name(),
            violation,
            report: world.report(),
            standing: world.standing(),
        })),
    }
}

impl Done {
    /// Nothing yet, from this seed on.
    #[must_use]
    pub fn begin_at(from: u64) -> Done {
        Done {
            from,
            succeeded_least: u64::MAX,
            share_least: 1.0,
            ..Done::default()
        }
    }

    fn add_world(&mut self, report: &ClusterReport) {
        let succeeded = report.tally.succeeded;
        let share = succeeded as f64 / report.ended().max(1) as f64;
        self.succeeded_least = self.succeeded_least.min(succeeded);
        self.share_least = self.share_least.min(share);
        self.total.add(report);
        self.seeds += 1;
    }

    /// Adds the range of seeds that follows.
    pub fn add(&mut self, next: &Done) {
        self.seeds += next.seeds;
        self.cpu += next.cpu;
        self.succeeded_least = self.succeeded_least.min(next.succeeded_least);
        self.share_least = self.share_least.min(next.share_least);
        self.total.add(&next.total);
    }

    /// Simulated time to time of the processor.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let cpu_seconds = self.cpu.as_secs_f64().max(1e-3);
        self.total.simulated_ns as f64 / 1e9 / cpu_seconds
    }

    /// One line for a file of results.
    #[must_use]
    pub fn to_json(&self, commit: &str) -> String {
        let total = &self.total;
        let faults: serde_json::Map<String, Value> = total
            .faults
            .iter()
            .map(|(kind, &count)| (kind.to_string(), json!(count)))
            .collect();
        let seeds_with: serde_json::Map<String, Value> = total
            .worlds_with
            .iter()
            .map(|(kind, &count)| (kind.to_string(), json!(count)))
            .collect();
        let line = json!({
            "commit": commit,
            "from": self.from,
            "seeds": self.seeds,
            "succeeded": total.tally.succeeded,
            "succeeded_least": self.succeeded_least,
            "succeeded_share_least": self.share_least,
            "failed": total.tally.failed,
            "unknown": total.tally.unknown,
            "compounds": total.tally.compounds,
            "compounds_refused": total.tally.compounds_refused,
            "batches": total.tally.batches,
            "ranges": total.tally.ranges,
            "past_reads": total.tally.past_reads,
            "follower_reads": total.tally.follower_reads,
            "undecided": total.undecided,
            "reigns": total.reigns,
            "states_compared": total.states_compared,
            "faults": faults,
            "seeds_with_faults": seeds_with,
            "simulated_s": total.simulated_ns as f64 / 1e9,
            "cpu_s": self.cpu.as_secs_f64(),
            "ratio": self.ratio(),
        });
        line.to_string()
    }
}

/// The seed behind the last one in a file of results.
///
/// # Errors
/// The number of the first line that is none.
pub fn next_seed(lines: &str) -> Result<Option<u64>, usize> {
    let mut next = None;
    for (number, line) in (1..).zip(lines.lines()) {
        let value: Value = serde_json::from_str(line).map_err(|_| number)?;
        let (Some(from), Some(seeds)) = (value["from"].as_u64(), value["seeds"].as_u64()) else {
            return Err(number);
        };
        next = next.max(Some(from + seeds));
    }
    Ok(next)
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.from + self.seeds.saturating_sub(1);
        writeln!(
            formatter,
            "seeds {} to {last}: {} worlds",
            self.from, self.seeds
        )?;
        writeln!(formatter, "{}", self.total)?;
        write!(
            formatter,
            "at least {} operations succeeded in each, and {:.0} % of all; {:.1} s of the processor, time ran {:.0} times as fast",
            self.succeeded_least,
            100.0 * self.share_least,
            self.cpu.as_secs_f64(),
            self.ratio()
        )
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.report)?;
        for replica in &self.standing {
            writeln!(formatter, "{replica}")?;
        }
        writeln!(formatter, "violation: {}", self.violation)?;
        writeln!(formatter, "seed: {}", self.seed)?;
        write!(
            formatter,
            "replay: metastore-sim replay --seed {}",
            self.seed
        )?;
        match self.planted {
            Some(mutant) => write!(formatter, " --mutant {mutant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_goes_on_behind_what_is_done() {
        let line = |from, seeds| {
            let done = Done {
                from,
                seeds,
                ..Done::default()
            };
            done.to_json("abc")
        };
        assert_eq!(next_seed(""), Ok(None));
        let two = format!("{}\n{}\n", line(101, 100), line(1, 100));
        assert_eq!(next_seed(&two), Ok(Some(201)));
        assert_eq!(next_seed(&format!("{two}{{\"from\": 1")), Err(3));
    }
}
