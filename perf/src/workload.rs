//! The workloads: what is asked, over how many connections, how deep.

use clap::ValueEnum;

use crate::keys::{Directories, KeySpace};
use crate::operation::{Mix, Operation};

/// Puts in a batch.
const BATCHES_COMMANDS: [u32; 2] = [64, 1_024];

/// A workload by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// An empty request, one in flight: what a socket and a turn of the server cost.
    Ping,
    /// Puts of 8 + 256 bytes, one in flight.
    W1,
    /// Puts of 8 + 256 bytes, 1,000 in flight on 100 connections.
    W2,
    /// Puts of 256 + 1,024 bytes, 1,000 in flight on 100 connections.
    W3,
    /// Puts of 8 + 16 bytes, 50 connections, 16 and 64 in flight on each.
    W4,
    /// Batches of 64 and of 1,024 puts of 8 + 64 bytes, 4 connections, one in flight on each.
    W5,
    /// Linearizable gets of 8 + 256 bytes: 1, 64, 256 and 1,000 in flight.
    W6,
    /// A mix of 80 % get, 15 % put, 4 % compare-and-swap and 1 % list, 32 + 128 bytes, meant for an open loop.
    W8,
}

/// One point of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) workload: Workload,
    pub(crate) mix: Mix,
    pub(crate) connections: usize,
    pub(crate) in_flight_per_connection: usize,
}

/// What the command line wants otherwise than the workload has it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CaseOverrides {
    pub(crate) connections: Option<usize>,
    pub(crate) in_flight_per_connection: Option<usize>,
    pub(crate) directories: Directories,
}

impl Workload {
    /// What is asked, one mix after the other.
    fn mixes(self, directories: Directories) -> Vec<Mix> {
        let medium = KeySpace::MEDIUM.within(directories);
        let small = KeySpace::SMALL.within(directories);
        let wide = KeySpace::WIDE.within(directories);
        let batched = KeySpace::BATCHED.within(directories);
        match self {
            Workload::Ping => vec![Mix::Only(Operation::Ping)],
            Workload::W1 | Workload::W2 => vec![Mix::Only(Operation::Put(medium))],
            Workload::W3 => vec![Mix::Only(Operation::Put(wide))],
            Workload::W4 => vec![Mix::Only(Operation::Put(small))],
            Workload::W5 => BATCHES_COMMANDS
                .map(|commands| Mix::Only(Operation::Batch(batched, commands)))
                .to_vec(),
            Workload::W6 => vec![Mix::Only(Operation::Get(medium))],
            Workload::W8 => vec![Mix::Metadata(KeySpace::LONG.within(directories))],
        }
    }

    /// Connections and requests in flight on each, one pair a point.
    fn shapes(self) -> &'static [(usize, usize)] {
        match self {
            Workload::Ping | Workload::W1 => &[(1, 1)],
            Workload::W2 | Workload::W3 | Workload::W8 => &[(100, 10)],
            Workload::W4 => &[(50, 16), (50, 64)],
            Workload::W5 => &[(4, 1)],
            Workload::W6 => &[(1, 1), (64, 1), (64, 4), (100, 10)],
        }
    }

    /// The points of the workload. Overrides may make several points one and the same; then it is one.
    pub(crate) fn cases(self, overrides: &CaseOverrides) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        for mix in self.mixes(overrides.directories) {
            for &(connections, in_flight) in self.shapes() {
                let depth = overrides.in_flight_per_connection;
                let case = Case {
                    workload: self,
                    mix,
                    connections: overrides.connections.unwrap_or(connections),
                    in_flight_per_connection: depth.unwrap_or(in_flight),
                };
                if !cases.contains(&case) {
                    cases.push(case);
                }
            }
        }
        cases
    }
}

impl Case {
    /// The point of a workload with the most in flight.
    pub(crate) fn deepest(workload: Workload) -> Case {
        let cases = workload.cases(&CaseOverrides::default());
        *cases.last().expect("a workload has points")
    }

    /// Requests in flight in all.
    pub(crate) fn in_flight(&self) -> usize {
        self.connections * self.in_flight_per_connection
    }

    /// What is asked, with the bytes of key and value, such as `put 8/256`.
    pub(crate) fn asked_words(&self) -> String {
        let what = match self.mix {
            Mix::Only(Operation::Batch(_, commands)) => format!("batch {commands}"),
            Mix::Only(operation) => operation.kind().words().to_owned(),
            Mix::Metadata(_) => "mix".to_owned(),
        };
        let sizes = |space: KeySpace| format!(" {}/{}", space.key_bytes, space.value_bytes);
        what + &self.mix.key_space().map_or(String::new(), sizes)
    }

    /// The point in a few words.
    pub(crate) fn label(&self) -> String {
        let name = match self.workload {
            Workload::Ping => "ping",
            Workload::W1 => "w1",
            Workload::W2 => "w2",
            Workload::W3 => "w3",
            Workload::W4 => "w4",
            Workload::W5 => "w5",
            Workload::W6 => "w6",
            Workload::W8 => "w8",
        };
        // The name of the workload says it already.
        let what = if self.workload == Workload::Ping {
            String::new()
        } else {
            format!(" {}", self.asked_words())
        };
        let connections = self.connections;
        format!(
            "{name}{what} {connections}x{}",
            self.in_flight_per_connection
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_points_are_those_of_the_workloads() {
        let in_flight = |workload: Workload| -> Vec<usize> {
            let cases = workload.cases(&CaseOverrides::default());
            cases.iter().map(Case::in_flight).collect()
        };
        assert_eq!(in_flight(Workload::Ping), [1]);
        assert_eq!(in_flight(Workload::W1), [1]);
        assert_eq!(in_flight(Workload::W2), [1_000]);
        assert_eq!(in_flight(Workload::W4), [800, 3_200]);
        assert_eq!(in_flight(Workload::W5), [4, 4]);
        assert_eq!(in_flight(Workload::W6), [1, 64, 256, 1_000]);
        let labels: Vec<String> = Workload::W4
            .cases(&CaseOverrides::default())
            .iter()
            .map(Case::label)
            .collect();
        assert_eq!(labels, ["w4 put 8/16 50x16", "w4 put 8/16 50x64"]);
        let label = |workload| Case::deepest(workload).label();
        assert_eq!(label(Workload::Ping), "ping 1x1");
        assert_eq!(label(Workload::W3), "w3 put 256/1024 100x10");
        assert_eq!(label(Workload::W5), "w5 batch 1024 8/64 4x1");
        assert_eq!(label(Workload::W8), "w8 mix 32/128 100x10");
    }

    #[test]
    fn overrides_replace_the_shape_and_equal_points_collapse() {
        let overrides = CaseOverrides {
            connections: Some(3),
            ..CaseOverrides::default()
        };
        let cases = Workload::W6.cases(&overrides);
        let depths: Vec<usize> = cases
            .iter()
            .map(|case| case.in_flight_per_connection)
            .collect();
        assert_eq!(depths, [1, 4, 10]);
        assert!(cases.iter().all(|case| case.connections == 3));
    }
}
