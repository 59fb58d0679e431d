//! The workloads: what is asked, over how many connections, how deep.

use clap::ValueEnum;

use crate::keys::{KEY_BYTES, KeySpace};
use crate::operation::Operation;

/// A workload by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// An empty request, one in flight: what a socket and a turn of the server cost.
    Ping,
    /// Puts of 8 + 256 bytes, one in flight.
    W1,
    /// Puts of 8 + 256 bytes, 1,000 in flight on 100 connections.
    W2,
    /// Puts of 8 + 16 bytes, 50 connections, 16 and 64 in flight on each.
    W4,
    /// Linearizable gets of 8 + 256 bytes: 1, 64, 256 and 1,000 in flight.
    W6,
}

/// One point of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) workload: Workload,
    pub(crate) operation: Operation,
    pub(crate) connections: usize,
    pub(crate) in_flight_per_connection: usize,
}

/// What the command line wants otherwise than the workload has it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CaseOverrides {
    pub(crate) connections: Option<usize>,
    pub(crate) in_flight_per_connection: Option<usize>,
}

impl Workload {
    /// The workload's operation.
    pub(crate) fn operation(self) -> Operation {
        match self {
            Workload::Ping => Operation::Ping,
            Workload::W1 | Workload::W2 => Operation::Put(KeySpace::MEDIUM),
            Workload::W4 => Operation::Put(KeySpace::SMALL),
            Workload::W6 => Operation::Get(KeySpace::MEDIUM),
        }
    }

    /// Connections and requests in flight on each, one pair a point.
    fn shapes(self) -> &'static [(usize, usize)] {
        match self {
            Workload::Ping | Workload::W1 => &[(1, 1)],
            Workload::W2 => &[(100, 10)],
            Workload::W4 => &[(50, 16), (50, 64)],
            Workload::W6 => &[(1, 1), (64, 1), (64, 4), (100, 10)],
        }
    }

    /// The points of the workload. Overrides may make several points one and the same; then it is one.
    pub(crate) fn cases(self, overrides: &CaseOverrides) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        for &(connections, in_flight) in self.shapes() {
            let case = Case {
                workload: self,
                operation: self.operation(),
                connections: overrides.connections.unwrap_or(connections),
                in_flight_per_connection: overrides.in_flight_per_connection.unwrap_or(in_flight),
            };
            if !cases.contains(&case) {
                cases.push(case);
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

    /// The point in a few words.
    pub(crate) fn label(&self) -> String {
        let name = match self.workload {
            Workload::Ping => "ping",
            Workload::W1 => "w1",
            Workload::W2 => "w2",
            Workload::W4 => "w4",
            Workload::W6 => "w6",
        };
        let what = match self.operation {
            Operation::Ping => String::new(),
            Operation::Put(space) => format!(" put {KEY_BYTES}/{}", space.value_bytes),
            Operation::Get(space) => format!(" get {KEY_BYTES}/{}", space.value_bytes),
        };
        let connections = self.connections;
        format!(
            "{name}{what} {connections}x{}",
            self.in_flight_per_connection
        )
    }

    /// The keys that must be loaded before.
    pub(crate) fn key_space(&self) -> Option<KeySpace> {
        match self.operation {
            Operation::Ping => None,
            Operation::Put(space) | Operation::Get(space) => Some(space),
        }
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
        assert_eq!(in_flight(Workload::W6), [1, 64, 256, 1_000]);
        let labels: Vec<String> = Workload::W4
            .cases(&CaseOverrides::default())
            .iter()
            .map(Case::label)
            .collect();
        assert_eq!(labels, ["w4 put 8/16 50x16", "w4 put 8/16 50x64"]);
    }

    #[test]
    fn overrides_replace_the_shape_and_equal_points_collapse() {
        let overrides = CaseOverrides {
            connections: Some(3),
            in_flight_per_connection: None,
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
