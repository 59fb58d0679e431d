//! A look at every counter of a store, and what lies between two.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metastore_net::{ReplicaRole, StatusReply};
use serde::Serialize;

use crate::process::ProcessUse;

/// A look at every counter.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(super) statuses: Vec<StatusReply>,
    /// Of all processes together.
    pub(super) process: Option<ProcessUse>,
    pub(super) device_flushes: Option<u64>,
}

/// Who leads a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lead {
    pub(crate) node_id: u32,
    pub(crate) term: u64,
}

/// What a store has spent on a number of operations. What could not be observed is absent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct Costs {
    pub(crate) operations: u64,
    #[serde(skip)]
    pub(crate) server_cpu: Option<Duration>,
    pub(crate) server_cpu_us_per_operation: Option<f64>,
    /// By the kernel's account of the processes.
    pub(crate) written_bytes_per_operation: Option<f64>,
    /// Durable writes of the logs of all cores, by the store's own count.
    pub(crate) durable_writes: u64,
    /// Those of the log that has most of them.
    pub(crate) durable_writes_of_busiest_log: u64,
    /// Writes of the logs' watermarks alone, by the store's own count; each is flushed too.
    pub(crate) mark_writes: u64,
    pub(crate) durable_writes_per_operation: f64,
    /// The same for each replica of a shard, of a store that has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) durable_writes_per_replica: Option<f64>,
    /// Of a store that counts them: heap allocations of all processes.
    pub(crate) allocations_per_operation: Option<f64>,
    /// Flushes of the disk, by the kernel's count; those that others caused included.
    pub(crate) device_flushes: Option<u64>,
}

impl Costs {
    /// What a process has used for `operations`, where nothing else is known of a system.
    pub(crate) fn of_process(used: &ProcessUse, operations: u64) -> Costs {
        let each = |amount: f64| amount / operations.max(1) as f64;
        Costs {
            operations,
            server_cpu: Some(used.cpu),
            server_cpu_us_per_operation: Some(each(used.cpu.as_secs_f64() * 1e6)),
            written_bytes_per_operation: used.written_bytes.map(|bytes| each(bytes as f64)),
            ..Costs::default()
        }
    }
}

impl Observation {
    /// The status of each core.
    pub(crate) fn statuses(&self) -> &[StatusReply] {
        &self.statuses
    }

    /// How the store makes writes durable, in its own word.
    pub(crate) fn flush_method(&self) -> String {
        let first = self.statuses.first();
        first.map_or_else(String::new, |status| status.log.flush_method.clone())
    }

    /// How many nodes have answered.
    pub(crate) fn nodes(&self) -> usize {
        self.one_a_node().len()
    }

    /// How many shards have a replica somewhere, as far as cores name their replicas.
    pub(crate) fn shards(&self) -> usize {
        let replicas = self.statuses.iter().flat_map(|status| &status.replicas);
        replicas
            .map(|replica| replica.shard)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Replicas of each shard; one where cores name none.
    pub(crate) fn replicas_per_shard(&self) -> usize {
        let replicas: usize = self.statuses.iter().map(|one| one.replicas.len()).sum();
        (replicas / self.shards().max(1)).max(1)
    }

    /// Who leads each shard that is led. Of two that say so the one of the later term does.
    pub(crate) fn leads(&self) -> BTreeMap<u32, Lead> {
        let mut leads: BTreeMap<u32, Lead> = BTreeMap::new();
        for status in &self.statuses {
            let led = status.replicas.iter();
            for replica in led.filter(|replica| replica.role == ReplicaRole::Leader) {
                let lead = Lead {
                    node_id: status.node_id,
                    term: replica.term,
                };
                let best = leads.entry(replica.shard).or_insert(lead);
                if best.term < lead.term {
                    *best = lead;
                }
            }
        }
        leads
    }

    /// Whether somebody leads each shard.
    pub(crate) fn is_led(&self) -> bool {
        self.leads().len() == self.shards()
    }

    /// Whether a shard is led by somebody else, or in another term, than at an earlier look.
    pub(crate) fn has_other_leaders(&self, earlier: &Observation) -> bool {
        self.leads() != earlier.leads()
    }

    /// The status of the first core of each node.
    fn one_a_node(&self) -> Vec<&StatusReply> {
        let mut seen = BTreeSet::new();
        let statuses = self.statuses.iter();
        statuses
            .filter(|status| seen.insert(status.node_id))
            .collect()
    }

    /// A counter of a whole process, which every core of it tells alike, over all processes.
    fn process_counter(&self, name: &str) -> Option<u64> {
        let of_node = |status: &&StatusReply| {
            let mut counters = status.counters.iter();
            Some(counters.find(|counter| counter.name == name)?.value)
        };
        let nodes = self.one_a_node();
        let counts: Option<Vec<u64>> = nodes.iter().map(of_node).collect();
        counts
            .filter(|all| !all.is_empty())
            .map(|all| all.iter().sum())
    }

    /// A counter that each core has for itself, over all of them.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let counters = self.statuses.iter().flat_map(|status| &status.counters);
        let named = counters.filter(|counter| counter.name == name);
        named.map(|counter| counter.value).sum()
    }

    /// Bytes that the store's processes have caused to be written since their start.
    pub(crate) fn written_bytes(&self) -> Option<u64> {
        self.process?.written_bytes
    }

    /// Heap allocations since the start, if the store counts them.
    pub(crate) fn allocations(&self) -> Option<u64> {
        self.process_counter("process_allocations")
    }

    /// Bytes that are allocated at present, if the store counts them.
    pub(crate) fn live_bytes(&self) -> Option<u64> {
        let allocated = self.process_counter("process_allocated_bytes")?;
        Some(allocated.saturating_sub(self.process_counter("process_freed_bytes")?))
    }

    /// CPU time of the store's processes since their start.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.process.map(|process| process.cpu)
    }

    /// What was spent between two looks on `operations`.
    pub(crate) fn costs_since(&self, earlier: &Observation, operations: u64) -> Costs {
        let sum = |observation: &Observation, count: fn(&StatusReply) -> u64| -> u64 {
            observation.statuses.iter().map(count).sum()
        };
        let grown = |count| sum(self, count).saturating_sub(sum(earlier, count));
        let durable_writes = grown(|status| status.log.durable_writes);
        let of_log = |(now, then): (&StatusReply, &StatusReply)| {
            now.log
                .durable_writes
                .saturating_sub(then.log.durable_writes)
        };
        let logs = self.statuses.iter().zip(&earlier.statuses).map(of_log);
        let each = |amount: f64| amount / operations.max(1) as f64;
        let process = self.process.zip(earlier.process);
        let used = process.map(|(now, then)| now.since(&then));
        let replicas = self.replicas_per_shard();
        let flushes = self.device_flushes.zip(earlier.device_flushes);
        let allocations = self.allocations().zip(earlier.allocations());
        Costs {
            operations,
            server_cpu: used.map(|used| used.cpu),
            server_cpu_us_per_operation: used.map(|used| each(used.cpu.as_secs_f64() * 1e6)),
            written_bytes_per_operation: used
                .and_then(|used| used.written_bytes)
                .map(|bytes| each(bytes as f64)),
            durable_writes,
            durable_writes_of_busiest_log: logs.max().unwrap_or(0),
            mark_writes: grown(|status| status.log.marks),
            durable_writes_per_operation: each(durable_writes as f64),
            durable_writes_per_replica: (replicas > 1)
                .then(|| each(durable_writes as f64 / replicas as f64)),
            allocations_per_operation: allocations
                .map(|(now, then)| each(now.saturating_sub(then) as f64)),
            device_flushes: flushes.map(|(now, then)| now.saturating_sub(then)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_net::{Counter, ReplicaStatus};

    fn observation(durable_writes: u64, cpu_ms: u64, flushes: u64) -> Observation {
        let mut status = StatusReply::default();
        status.log.durable_writes = durable_writes;
        status.log.marks = 3;
        Observation {
            statuses: vec![status.clone(), status],
            process: Some(ProcessUse {
                cpu: Duration::from_millis(cpu_ms),
                written_bytes: Some(4_096 * durable_writes),
            }),
            device_flushes: Some(flushes),
        }
    }

    #[test]
    fn costs_are_differences_over_all_cores_per_operation() {
        let before = observation(10, 100, 1_000);
        let after = observation(60, 600, 1_200);
        let costs = after.costs_since(&before, 1_000);
        assert_eq!(costs.durable_writes, 100);
        assert_eq!(costs.durable_writes_of_busiest_log, 50);
        assert_eq!(costs.mark_writes, 0);
        assert!((costs.durable_writes_per_operation - 0.1).abs() < 1e-9);
        assert!((costs.server_cpu_us_per_operation.unwrap() - 500.0).abs() < 1e-6);
        assert!((costs.written_bytes_per_operation.unwrap() - 204.8).abs() < 1e-6);
        assert_eq!(costs.device_flushes, Some(200));
        assert_eq!(costs.durable_writes_per_replica, None);
    }

    /// Three nodes with a replica of each of two shards; `leads` are shard, node and term of those that say they lead.
    fn cluster(durable_writes: u64, leads: &[(u32, u32, u64)]) -> Observation {
        let status = |node_id: u32| {
            let replica = |shard: u32| {
                let found = leads
                    .iter()
                    .find(|lead| (lead.0, lead.1) == (shard, node_id));
                ReplicaStatus {
                    shard,
                    role: found.map_or(ReplicaRole::Follower, |_| ReplicaRole::Leader),
                    term: found.map_or(1, |lead| lead.2),
                    ..ReplicaStatus::default()
                }
            };
            let mut status = StatusReply {
                node_id,
                replicas: (0..2).map(replica).collect(),
                counters: vec![Counter {
                    name: "process_allocations".to_owned(),
                    value: durable_writes,
                }],
                ..StatusReply::default()
            };
            status.log.durable_writes = durable_writes;
            status
        };
        Observation {
            statuses: (1..=3).map(status).collect(),
            process: None,
            device_flushes: None,
        }
    }

    #[test]
    fn what_replicas_write_is_summed_and_told_for_each() {
        let leads = [(0, 1, 5), (1, 2, 5)];
        let costs = cluster(40, &leads).costs_since(&cluster(10, &leads), 1_000);
        assert_eq!(costs.durable_writes, 90);
        assert!((costs.durable_writes_per_operation - 0.09).abs() < 1e-9);
        assert!((costs.durable_writes_per_replica.unwrap() - 0.03).abs() < 1e-9);
        // Each process has a counter of its own.
        assert!((costs.allocations_per_operation.unwrap() - 0.09).abs() < 1e-9);
        assert_eq!(cluster(1, &leads).nodes(), 3);
    }

    #[test]
    fn leaders_are_those_of_the_latest_term() {
        let both = cluster(0, &[(0, 1, 5), (1, 2, 5)]);
        assert!(both.is_led());
        assert!(!both.has_other_leaders(&both.clone()));
        // The former leader of shard 0 has not heard of its end.
        let moved = cluster(0, &[(0, 1, 5), (0, 3, 6), (1, 2, 5)]);
        let lead = Lead {
            node_id: 3,
            term: 6,
        };
        assert_eq!(moved.leads()[&0], lead);
        assert!(moved.has_other_leaders(&both));
        assert!(!cluster(0, &[(0, 1, 5)]).is_led());
        let alone = observation(1, 1, 1);
        assert!(alone.is_led(), "cores that name no replicas");
        assert_eq!(alone.replicas_per_shard(), 1);
    }
}
