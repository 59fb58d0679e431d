//! Whether a core holds no more than it may. Every queue has a limit, and the work of many clients must not add up to more,
//! whatever fails meanwhile.
//!
//! | what | limit |
//! |---|---|
//! | batches that lack answers, ranges, ranges that are being deleted | a number each |
//! | commands that are not applied | half a segment of the log, and one command |
//! | batches that are not proposed | four times that, because beside each command stands who waits for it |
//! | reads that wait | a number of bytes for each replica |

use metastore_engine::{Account, CoreStatus, PeerCore, Settings};
use metastore_wal::LogOptions;

use super::ClusterViolation;

/// What a core may hold.
#[derive(Clone, Debug)]
pub struct Budgets {
    gathers_max: u64,
    ranges_max: u64,
    sweeps_max: u64,
    command_bytes_max: u64,
    read_bytes_max: u64,
}

impl Budgets {
    /// Those of a core with these settings and this log.
    #[must_use]
    pub fn of(settings: &Settings, log: &LogOptions) -> Budgets {
        Budgets {
            gathers_max: settings.gathers_max as u64,
            ranges_max: settings.ranges_max as u64,
            sweeps_max: settings.sweeps_max as u64,
            command_bytes_max: log.segment_bytes / 2 + settings.command_bytes_max as u64,
            read_bytes_max: settings.reads_waiting_bytes_max as u64,
        }
    }

    /// Holds what a core has against its limits.
    ///
    /// # Errors
    /// It has more of something.
    pub fn check(&self, place: PeerCore, status: &CoreStatus) -> Result<(), ClusterViolation> {
        let (waiting, memory) = (&status.waiting, &status.memory);
        let read_bytes_max = self.read_bytes_max * status.replicas.len() as u64;
        // Beside each command of a batch stands who waits for it.
        let open_bytes_max = 4 * self.command_bytes_max;
        let held = [
            (
                "batches that lack answers",
                waiting.gathers as u64,
                self.gathers_max,
            ),
            ("ranges", waiting.ranges as u64, self.ranges_max),
            (
                "ranges that are being deleted",
                waiting.sweeps as u64,
                self.sweeps_max,
            ),
            (
                "bytes of commands",
                waiting.command_bytes as u64,
                self.command_bytes_max,
            ),
            (
                "bytes of open batches",
                memory.get(Account::OpenBatches),
                open_bytes_max,
            ),
            ("bytes of reads", memory.get(Account::Reads), read_bytes_max),
        ];
        let broken = held.into_iter().find(|&(_, held, limit)| held > limit);
        match broken {
            None => Ok(()),
            Some((what, held, limit)) => Err(ClusterViolation::OverBudget {
                node: place.node,
                what,
                held,
                limit,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::shape::Shape;
    use crate::cluster::{Cluster, ClusterConfig, ClusterStepped};
    use crate::disk::Latency;
    use crate::network::NetworkFaults;
    use crate::node::{FlushMethod, IDENTITY, SEAL};
    use crate::operation::{Mutation, Operation};
    use crate::oracle::Checkers;
    use crate::random::Random;

    /// A cluster of one node that has been asked for a put, watched against these budgets.
    fn run(budgets: Option<Budgets>) -> Result<(), crate::violation::Violation> {
        let shape = Shape {
            nodes: 1,
            cores: 1,
            shards: 1,
        };
        let config = ClusterConfig {
            shape,
            clients: 1,
            timeout_ns: 1_000_000_000,
            settings: Settings::default(),
            log: LogOptions::new(IDENTITY, SEAL),
            flush: FlushMethod::DurableWrite,
            // Slow enough for a look while the command waits.
            latency: Latency {
                min_ns: 400_000_000,
                usual_max_ns: 400_000_000,
                slow_per_mille: 0,
                slow_max_ns: 400_000_000,
            },
            network: NetworkFaults::NONE,
            checkers: Checkers::All,
        };
        let mut cluster: Cluster<u8> = Cluster::new(config, Random::new(1));
        if let Some(budgets) = budgets {
            cluster.observer.set_budgets(budgets);
        }
        let node = shape.nodes().next().expect("there is one");
        assert!(cluster.start(node)?);
        let until = cluster.now().plus_ms(20_000);
        cluster.at(until, 0);
        while cluster.step()? != Some(ClusterStepped::Own(0)) {
            if !cluster.is_asking(0) && cluster.tally().succeeded == 0 {
                cluster.ask(0, put());
            }
        }
        Ok(())
    }

    fn put() -> Operation {
        Operation::Mutate(Mutation {
            kind: metastore_statemachine::CommandKind::Put,
            key: b"/d/k".to_vec(),
            value: vec![1; 100],
            condition: crate::operation::Condition::Always,
            previous: crate::operation::PreviousRow::NotWanted,
        })
    }

    #[test]
    fn what_is_within_the_budgets_passes_and_one_byte_beyond_them_does_not() {
        run(None).expect("it holds little");
        let log = LogOptions::new(IDENTITY, SEAL);
        let none = Budgets {
            command_bytes_max: 0,
            ..Budgets::of(&Settings::default(), &log)
        };
        let broken = run(Some(none)).expect_err("it holds something").to_string();
        assert!(broken.contains("bytes of commands"), "{broken}");
    }
}
