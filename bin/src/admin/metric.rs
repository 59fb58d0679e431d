//! What metrics there are: their names, units and meanings, and where each is read.
//!
//! Whatever `metastore status` tells has a row here. A counter that has none is exported under its own name, so that
//! nothing is lost, and is missing from the document, which a test finds.

use std::sync::Arc;
use std::time::Duration;

use metastore_net::{LogStatus, ReplicaStatus};
use prometheus_client::registry::Unit;

use super::process::ProcessNumbers;
use crate::log::LogCounts;
use crate::node::CoreNumbers;

/// Whether a number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// What a number counts. The name of the metric ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Things,
    Bytes,
    Seconds,
}

static BYTES: Unit = Unit::Bytes;
static SECONDS: Unit = Unit::Seconds;

impl Measure {
    pub(super) fn unit(self) -> Option<&'static Unit> {
        match self {
            Measure::Things => None,
            Measure::Bytes => Some(&BYTES),
            Measure::Seconds => Some(&SECONDS),
        }
    }
}

/// A number that loses nothing on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Whole(u64),
    Real(f64),
}

/// One metric, by its name without measure and `_total`, which are put behind it.
pub(super) struct Metric<T> {
    pub(super) kind: Kind,
    pub(super) measure: Measure,
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) read: fn(&T) -> Option<Number>,
}

/// What is read of a node as a whole.
pub(super) struct Node {
    pub(super) uptime: Duration,
    pub(super) is_ready: bool,
    pub(super) cores: u16,
    pub(super) log: LogCounts,
    pub(super) process: ProcessNumbers,
}

/// What is read of a core.
pub(super) struct Core {
    pub(super) index: u16,
    pub(super) pulse_age: Option<Duration>,
    pub(super) numbers: Option<Arc<CoreNumbers>>,
}

/// A number that `metastore status` has among its counters.
pub(super) struct CounterMetric {
    pub(super) status_name: &'static str,
    pub(super) kind: Kind,
    pub(super) measure: Measure,
    pub(super) name: &'static str,
    pub(super) help: &'static str,
}

/// What a counter's metric begins with that has no row in [`COUNTERS`].
pub(super) const UNKNOWN_COUNTER_PREFIX: &str = "metastore_status_";

use Kind::{Counter, Gauge};
use Measure::{Bytes, Seconds, Things};

const fn metric<T>(
    kind: Kind,
    measure: Measure,
    name: &'static str,
    help: &'static str,
    read: fn(&T) -> Option<Number>,
) -> Metric<T> {
    Metric {
        kind,
        measure,
        name,
        help,
        read,
    }
}

fn whole(number: u64) -> Option<Number> {
    Some(Number::Whole(number))
}

fn real(number: f64) -> Option<Number> {
    Some(Number::Real(number))
}

/// Of the node and its process.
#[rustfmt::skip]
pub(super) static NODE: [Metric<Node>; 12] = [
    metric(Gauge, Seconds, "metastore_uptime", "Time since the process began", |node| real(node.uptime.as_secs_f64())),
    metric(Gauge, Things, "metastore_ready", "1 when /readyz says ok", |node| whole(u64::from(node.is_ready))),
    metric(Gauge, Things, "metastore_cores", "Cores of the node", |node| whole(u64::from(node.cores))),
    metric(Counter, Things, "metastore_log_messages_dropped", "Messages that nobody read fast enough", |node| whole(node.log.dropped)),
    metric(Counter, Things, "metastore_log_messages_suppressed", "Messages of places that had said enough", |node| whole(node.log.suppressed)),
    metric(Gauge, Bytes, "process_resident_memory", "Memory that the process has in RAM", |node| node.process.resident_bytes.map(Number::Whole)),
    metric(Gauge, Bytes, "process_virtual_memory", "Address space of the process", |node| node.process.virtual_bytes.map(Number::Whole)),
    metric(Counter, Seconds, "process_cpu", "Processor time of all threads", |node| node.process.cpu_seconds.map(Number::Real)),
    metric(Gauge, Things, "process_open_fds", "Open files and sockets", |node| node.process.open_files.map(Number::Whole)),
    metric(Gauge, Things, "process_max_fds", "Open files and sockets that are allowed", |node| node.process.open_files_max.map(Number::Whole)),
    metric(Gauge, Things, "process_threads", "Threads of the process", |node| node.process.threads.map(Number::Whole)),
    metric(Gauge, Seconds, "process_start_time", "When the process began, since 1970", |node| node.process.start_seconds.map(Number::Real)),
];

fn of(core: &Core, read: fn(&CoreNumbers) -> u64) -> Option<Number> {
    core.numbers
        .as_ref()
        .map(|numbers| Number::Whole(read(numbers)))
}

fn of_log(core: &Core, read: fn(&LogStatus) -> u64) -> Option<Number> {
    let numbers = core.numbers.as_ref()?;
    whole(read(&numbers.status.log))
}

/// Of each core.
#[rustfmt::skip]
pub(super) static CORE: [Metric<Core>; 15] = [
    metric(Gauge, Seconds, "metastore_core_pulse_age", "Time since the core last came by", |core| core.pulse_age.and_then(|age| real(age.as_secs_f64()))),
    metric(Gauge, Things, "metastore_core_serving", "1 when every replica of the core leads and answers", |core| of(core, |numbers| u64::from(numbers.is_serving))),
    metric(Gauge, Things, "metastore_core_accepts_writes", "1 when the log of the core and the disk have room for changes", |core| of(core, |numbers| u64::from(numbers.accepts_writes))),
    metric(Gauge, Things, "metastore_shards", "Shards with a replica on the core", |core| of(core, |numbers| u64::from(numbers.status.shards))),
    metric(Gauge, Things, "metastore_connections", "Client connections of the core", |core| of(core, |numbers| u64::from(numbers.status.connections))),
    metric(Counter, Things, "metastore_wal_durable_writes", "Durable writes of records; each carries everything that gathered since the last one", |core| of_log(core, |log| log.durable_writes)),
    metric(Counter, Things, "metastore_wal_marks", "Durable writes of the watermark alone", |core| of_log(core, |log| log.marks)),
    metric(Counter, Bytes, "metastore_wal_record", "Bytes of records written, padding included", |core| of_log(core, |log| log.record_bytes)),
    metric(Counter, Bytes, "metastore_wal_entry", "Bytes of entries written", |core| of_log(core, |log| log.entry_bytes)),
    metric(Gauge, Things, "metastore_wal_segments", "Segments that hold records", |core| of_log(core, |log| u64::from(log.segments))),
    metric(Gauge, Things, "metastore_wal_spare_segments", "Segments that are ready for use", |core| of_log(core, |log| u64::from(log.spares))),
    metric(Gauge, Bytes, "metastore_wal_used", "Size of all segments of the core", |core| of_log(core, |log| log.used_bytes)),
    metric(Gauge, Bytes, "metastore_wal_budget", "How large the log of the core may become", |core| of_log(core, |log| log.budget_bytes)),
    metric(Gauge, Things, "metastore_wal_watermark", "Sequence of the newest record known to be durable", |core| of_log(core, |log| log.watermark)),
    metric(Gauge, Things, "metastore_wal_epoch", "How often the log has been cut by a recovery", |core| of_log(core, |log| log.epoch)),
];

const fn named(
    status_name: &'static str,
    kind: Kind,
    measure: Measure,
    name: &'static str,
    help: &'static str,
) -> CounterMetric {
    CounterMetric {
        status_name,
        kind,
        measure,
        name,
        help,
    }
}

/// Of each core, by the names that `metastore status` has for them.
#[rustfmt::skip]
pub(super) static COUNTERS: [CounterMetric; 55] = [
    named("turns", Counter, Things, "metastore_turns", "Turns of the core"),
    named("requests", Counter, Things, "metastore_requests", "Requests of the connections of the core"),
    named("forwarded", Counter, Things, "metastore_requests_forwarded", "Requests handed to the core that holds the shard"),
    named("refused", Counter, Things, "metastore_requests_refused", "Requests refused before they were tried"),
    named("commands_applied", Counter, Things, "metastore_commands_applied", "Commands applied by the replicas of the core, those replayed at the start left out"),
    named("padding_bytes", Counter, Bytes, "metastore_wal_padding", "Bytes of records that only fill blocks"),
    named("ring_writes", Counter, Things, "metastore_wal_ring_writes", "Durable writes that the ring was given, marks included"),
    named("gathers_open", Gauge, Things, "metastore_batches_waiting", "Batches whose answers are being gathered"),
    named("ranges_open", Gauge, Things, "metastore_ranges_open", "Ranges of connections of the core"),
    named("range_parts_open", Gauge, Things, "metastore_range_parts_open", "Parts of ranges that replicas of the core hold open"),
    named("range_deletes_open", Gauge, Things, "metastore_range_deletes_open", "Deletions of ranges that the core carries from shard to shard"),
    named("command_bytes_waiting", Gauge, Bytes, "metastore_commands_waiting", "Bytes of commands that are accepted and not applied"),
    named("snapshots", Counter, Things, "metastore_snapshots", "Snapshots taken by the replicas of the core"),
    named("snapshot_bytes", Counter, Bytes, "metastore_snapshot_written", "Bytes of the files of those snapshots"),
    named("snapshots_failed", Counter, Things, "metastore_snapshots_failed", "Snapshots that were given up, to be tried again"),
    named("snapshots_fetched", Counter, Things, "metastore_snapshots_fetched", "Snapshots of other nodes that took the place of a state here"),
    named("segments_scrubbed", Counter, Things, "metastore_wal_segments_scrubbed", "Segments that were read again and are what was written"),
    named("scrub_findings", Counter, Things, "metastore_wal_scrub_findings", "Segments that were read again and are damaged"),
    named("slow_disk_hand_overs", Counter, Things, "metastore_slow_disk_hand_overs", "How often the lead of a shard was handed over because the disk here was slow"),
    named("peer_messages", Counter, Things, "metastore_peer_messages", "Messages of replicas on other nodes that were taken"),
    named("peer_messages_dropped", Counter, Things, "metastore_peer_messages_dropped", "Messages of other nodes that made no sense or were for nobody here"),
    named("peer_appends_refused", Counter, Things, "metastore_peer_appends_refused", "Entries of leaders that were dropped because the log has no room; they come again"),
    named("peer_batches_sent", Counter, Things, "metastore_peer_batches_sent", "Batches of messages that were sent to other nodes"),
    named("peer_batches_lost", Counter, Things, "metastore_peer_batches_lost", "Batches that waited when their connection ended"),
    named("peer_batches_unsent", Counter, Things, "metastore_peer_batches_unsent", "Batches that were dropped because too much waited or nobody was there"),
    named("peer_links_opened", Counter, Things, "metastore_peer_links_opened", "Connections to cores of other nodes that could be used"),
    named("peer_links_ended", Counter, Things, "metastore_peer_links_ended", "Those of them that have ended"),
    named("peer_links_accepted", Counter, Things, "metastore_peer_links_accepted", "Connections from cores of other nodes that were accepted"),
    named("peer_links_refused", Counter, Things, "metastore_peer_links_refused", "Connections to the port for other nodes that were closed because of what they sent, or did not"),
    named("rewrites", Counter, Things, "metastore_wal_rewrites", "How often entries were written again, so that the oldest segment could be released"),
    named("disk_free_bytes", Gauge, Bytes, "metastore_disk_free", "What is free on the disk of the data beside the reserve"),
    named("admission_refused", Counter, Things, "metastore_admission_refused", "Requests refused for want of memory, or because the log is behind"),
    named("admission_refusing", Gauge, Things, "metastore_admission_refusing", "1 while connections have quotas because the log is behind"),
    named("connections_opened", Counter, Things, "metastore_connections_opened", "Connections that were accepted"),
    named("connections_refused", Counter, Things, "metastore_connections_refused", "Connections that were turned away because there were too many"),
    named("connections_timed_out", Counter, Things, "metastore_connections_timed_out", "Connections closed because a frame, a hello or a closing took too long"),
    named("connections_unread", Counter, Things, "metastore_connections_unread", "Connections closed because their clients did not take their answers"),
    named("accept_failures", Counter, Things, "metastore_accept_failures", "Attempts to accept a connection that failed for want of descriptors or memory"),
    named("memory_state_bytes", Gauge, Bytes, "metastore_memory_state", "Memory of keys and values, by its account"),
    named("memory_history_bytes", Gauge, Bytes, "metastore_memory_history", "Memory of older versions, by its account"),
    named("memory_tail_bytes", Gauge, Bytes, "metastore_memory_tail", "Memory of log entries that raft may ask for, by its account"),
    named("memory_open_batches_bytes", Gauge, Bytes, "metastore_memory_open_batches", "Memory of commands that are not proposed, by its account"),
    named("memory_reads_bytes", Gauge, Bytes, "metastore_memory_reads", "Memory of reads that wait, by its account"),
    named("memory_replies_bytes", Gauge, Bytes, "metastore_memory_replies", "Memory of answers that are put together, by its account"),
    named("memory_mesh_bytes", Gauge, Bytes, "metastore_memory_mesh", "Memory of messages to other cores, by its account"),
    named("memory_inbound_bytes", Gauge, Bytes, "metastore_memory_inbound", "Memory of unfinished frames, by its account"),
    named("memory_outbound_bytes", Gauge, Bytes, "metastore_memory_outbound", "Memory of answers that wait for their sockets, by its account"),
    named("memory_connections_bytes", Gauge, Bytes, "metastore_memory_connections", "Memory of idle connections, by its account"),
    named("memory_log_bytes", Gauge, Bytes, "metastore_memory_log", "Memory of buffers of the log, by its account"),
    named("memory_snapshot_bytes", Gauge, Bytes, "metastore_memory_snapshot", "Memory of snapshots under way, by its account"),
    named("memory_watch_bytes", Gauge, Bytes, "metastore_memory_watch", "Memory of events that wait for watchers, by its account"),
    named("memory_node_budget_bytes", Gauge, Bytes, "metastore_memory_node_budget", "Memory that the node may use"),
    named("memory_node_granted_bytes", Gauge, Bytes, "metastore_memory_node_granted", "What all cores of the node have taken of it, in steps of 1 MiB"),
    named("memory_node_state_bytes", Gauge, Bytes, "metastore_memory_node_state", "Memory of keys and values of all cores of the node"),
    named("memory_node_state_bytes_max", Gauge, Bytes, "metastore_memory_node_state_max", "What keys and values of the node may take"),
];

/// Of each replica.
#[rustfmt::skip]
pub(super) static REPLICA: [Metric<ReplicaStatus>; 10] = [
    metric(Gauge, Things, "metastore_replica_term", "Raft term of the replica", |replica| whole(replica.term)),
    metric(Gauge, Things, "metastore_replica_commit_index", "Last committed index", |replica| whole(replica.commit)),
    metric(Gauge, Things, "metastore_replica_applied_index", "Last applied index", |replica| whole(replica.applied)),
    metric(Gauge, Things, "metastore_replica_last_index", "Last index of the log", |replica| whole(replica.last)),
    metric(Gauge, Things, "metastore_replica_keys", "Keys of the shard", |replica| whole(replica.keys)),
    metric(Gauge, Bytes, "metastore_replica_state", "Memory of keys and values", |replica| whole(replica.state_bytes)),
    metric(Gauge, Bytes, "metastore_replica_history", "Memory of older versions", |replica| whole(replica.history_bytes)),
    metric(Gauge, Things, "metastore_replica_revision", "Revision of the default namespace", |replica| whole(replica.revision)),
    metric(Gauge, Things, "metastore_replica_voters", "Replicas of the shard that vote, as far as this one knows", |replica| whole(u64::from(replica.voters))),
    metric(Gauge, Things, "metastore_replica_learners", "Replicas of the shard that only learn, as far as this one knows", |replica| whole(u64::from(replica.learners))),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn all() -> Vec<(&'static str, &'static str)> {
        fn names<T>(metrics: &[Metric<T>]) -> impl Iterator<Item = (&'static str, &'static str)> {
            metrics.iter().map(|metric| (metric.name, metric.help))
        }
        names(&NODE)
            .chain(names(&CORE))
            .chain(names(&REPLICA))
            .chain(COUNTERS.iter().map(|metric| (metric.name, metric.help)))
            .collect()
    }

    #[test]
    fn names_follow_the_convention_and_stand_once() {
        let mut seen = BTreeSet::new();
        for (name, help) in all() {
            assert!(seen.insert(name), "{name} stands twice");
            let is_ours = name.starts_with("metastore_") || name.starts_with("process_");
            assert!(is_ours && !name.ends_with("_total"), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            // What follows is put there by the encoder.
            assert!(
                !name.ends_with("_bytes") && !name.ends_with("_seconds"),
                "{name}"
            );
            assert!(
                !help.is_empty() && !help.ends_with('.') && !help.contains('\n'),
                "{name}"
            );
        }
    }
}
