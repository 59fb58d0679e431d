//! Every key of the configuration: its name, its kind, its bounds, its default and what it means.
//!
//! This table is the only place where they are written down. The file, the flags, `metastore config`, and the example
//! with its comments are all made from it.

use super::kind::{Kind, Special};

/// A key. Its number is its place in [`KEYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Data,
    Format,
    Cores,
    Shards,
    Cpus,
    ListenAddress,
    ListenPort,
    ListenAdvertise,
    PeersAddress,
    PeersPort,
    WalSegmentBytes,
    WalMaxRecordBytes,
    WalBudget,
    WalSpareSegments,
    WalMaxWritesInFlight,
    WalPoll,
    WalFlush,
    BatchMaxCommands,
    BatchMaxBytes,
    CompressCodec,
    CompressMinBytes,
    RaftTickInterval,
    RaftElectionTick,
    RaftHeartbeatTick,
    RaftAdaptiveTiming,
    RaftMaxInflightMsgs,
    RaftMaxSizePerMsg,
    RaftMaxUncommittedSize,
    RaftMaxCommittedSizePerReady,
    RaftApplyAhead,
    SnapshotLogBytes,
    SnapshotCount,
    SnapshotInterval,
    SnapshotRateLimit,
    DiskLow,
    HistoryMaxRevisions,
    HistoryMaxAge,
    HistoryMaxBytes,
    MemoryBudget,
    AdmissionTarget,
    AdmissionInterval,
    LimitsConnections,
    LimitsCommandsInFlight,
    LimitsHandshakeTimeout,
    LimitsFrameTimeout,
    LimitsUnreadTimeout,
    LimitsOutboundBytes,
    LimitsOutboundBytesClose,
    LimitsDeadlineDefault,
    LimitsDeadlineMax,
    LimitsReadsWaiting,
    LimitsRanges,
    LimitsRangesPerConnection,
    LimitsBatchesWaiting,
    LimitsRangeDeletes,
    AdminListen,
    LogLevel,
    LogFormat,
}

/// What is known of a key.
#[derive(Debug)]
pub(crate) struct KeySpec {
    pub(crate) key: Key,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// A word that stands for no value of the kind.
    pub(crate) special: Special,
    /// As one would write it in a flag.
    pub(crate) default: &'static str,
    /// One or more sentences for the example.
    pub(crate) meaning: &'static str,
}

impl Key {
    pub(crate) fn spec(self) -> &'static KeySpec {
        let spec = &KEYS[self as usize];
        assert_eq!(spec.key, self, "the table is in the order of the keys");
        spec
    }

    pub(crate) fn name(self) -> &'static str {
        self.spec().name
    }

    /// The key of this name.
    pub(crate) fn find(name: &str) -> Option<Key> {
        let spec = KEYS.iter().find(|spec| spec.name == name)?;
        Some(spec.key)
    }
}

/// Why a name that the design knows is refused; a name that ends in a dot stands for all keys of a section.
pub(super) const NOT_BUILT: [(&str, &str); 7] = [
    (
        "batch.max_delay",
        "a batch waits for the device and never for a timer, so there is nothing to set",
    ),
    ("raft.pre_vote", "it is always on"),
    ("raft.check_quorum", "it is always on"),
    (
        "snapshot.catchup_bytes",
        "how much log is kept for followers that lag is not a choice in this version",
    ),
    (
        "snapshot.chunk_bytes",
        "the chunks of a snapshot are part of its format",
    ),
    (
        "limits.key_bytes",
        "the longest key is 4 KiB and is part of the protocol",
    ),
    (
        "limits.value_bytes",
        "the longest value is 1.5 MiB and is part of the replicated state",
    ),
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max, step: 1 }
}

const fn blocks(min: u64, max: u64) -> Kind {
    let step = 4 * KIB;
    Kind::Size { min, max, step }
}

const fn duration(min_ms: u64, max_ms: u64) -> Kind {
    Kind::Duration { min_ms, max_ms }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn spec(
    key: Key,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> KeySpec {
    KeySpec {
        key,
        name,
        kind,
        special: Special::None,
        default,
        meaning,
    }
}

impl KeySpec {
    const fn or_auto(mut self) -> KeySpec {
        self.special = Special::Auto;
        self
    }

    const fn or_off(mut self) -> KeySpec {
        self.special = Special::Off;
        self
    }
}

/// Every key, in the order of [`Key`], which is that of the example.
pub(crate) const KEYS: [KeySpec; 58] = [
    spec(
        Key::Data,
        "data",
        Kind::Path,
        "./metastore-data",
        "Where the data lies. The file system must support O_DIRECT.",
    ),
    spec(
        Key::Format,
        "format",
        Kind::Choice(&["never", "if-empty"]),
        "never",
        "Whether a missing or empty data directory is made ready for use. With never, only `metastore format` does it, so that a disk that is not mounted is not taken for a new store.",
    ),
    spec(
        Key::Cores,
        "cores",
        count(1, 1_024),
        "auto",
        "How many cores to run. Fixed when the data is formatted. auto: what the data has; for new data, one for each allowed processor.",
    )
    .or_auto(),
    spec(
        Key::Shards,
        "shards",
        count(1, 16_384),
        "auto",
        "How many shards to create. Fixed when the data is formatted. auto: what the data has; for new data, one for each core.",
    )
    .or_auto(),
    spec(
        Key::Cpus,
        "cpus",
        Kind::Cpus,
        "auto",
        "The processors to use, as in \"0-3,8\"; core n is pinned to the n-th of them. auto: all that the process may use.",
    )
    .or_auto(),
    spec(
        Key::ListenAddress,
        "listen.address",
        Kind::Address,
        "127.0.0.1",
        "The address to listen on. Nothing is encrypted and nobody is asked who they are: beyond the loopback interface, a firewall must decide who may connect. A node of a cluster that nobody told listens where its entry in the cluster says that clients find it.",
    ),
    spec(
        Key::ListenPort,
        "listen.port",
        count(1, 65_535),
        "7400",
        "The port of core 0; core n listens on the port n above it. A node of a cluster that nobody told takes the port of its entry.",
    ),
    spec(
        Key::ListenAdvertise,
        "listen.advertise",
        Kind::Host,
        "auto",
        "The name or address that clients are told to connect to. auto: listen.address, which must then be one of this machine and not 0.0.0.0 or ::. For a node of a cluster it stays auto: what clients are told stands in the cluster.",
    )
    .or_auto(),
    spec(
        Key::PeersAddress,
        "peers.address",
        Kind::Address,
        "auto",
        "The address on which a node of a cluster listens for the other nodes. auto: the host of its entry in the cluster, which must then be an address of this machine and no name. Other nodes are believed what they say: a firewall must decide who may connect.",
    )
    .or_auto(),
    spec(
        Key::PeersPort,
        "peers.port",
        count(1, 65_535),
        "auto",
        "The port of core 0 for other nodes; core n listens on the port n above it. auto: the port of its entry in the cluster.",
    )
    .or_auto(),
    spec(
        Key::WalSegmentBytes,
        "wal.segment_bytes",
        blocks(8 * MIB, 4 * GIB),
        "64MiB",
        "Length of a log segment, at least two records. Fixed when the data is formatted.",
    ),
    spec(
        Key::WalMaxRecordBytes,
        "wal.max_record_bytes",
        blocks(4 * MIB, 64 * MIB),
        "4MiB",
        "Longest record of the log, which is what one durable write can carry. Fixed when the data is formatted.",
    ),
    spec(
        Key::WalBudget,
        "wal.budget",
        size(32 * MIB, 1_024 * GIB),
        "8GiB",
        "How large the log of one core may become; at least four segments. Beyond it writes are refused and reads go on.",
    ),
    spec(
        Key::WalSpareSegments,
        "wal.spare_segments",
        count(1, 64),
        "4",
        "How many segments are kept ready, filled with zeros, where space allows.",
    ),
    spec(
        Key::WalMaxWritesInFlight,
        "wal.max_writes_in_flight",
        count(1, 64),
        "1",
        "How many records of a core may be on their way to the device at the same time.",
    ),
    spec(
        Key::WalPoll,
        "wal.poll_us",
        count(0, 10_000),
        "250",
        "How many microseconds a core that has nothing to do waits for its sockets and its log in place before it goes to sleep; 0 for never. Other cores of the node that have something for it wait as long, unless some had lately.",
    ),
    spec(
        Key::WalFlush,
        "wal.flush",
        Kind::Choice(&["dsync", "write-then-sync"]),
        "auto",
        "How writes are made durable. auto: what was measured as faster when the data was formatted.",
    )
    .or_auto(),
    spec(
        Key::BatchMaxCommands,
        "batch.max_commands",
        count(1, 65_536),
        "1024",
        "Commands in one raft entry at most.",
    ),
    spec(
        Key::BatchMaxBytes,
        "batch.max_bytes",
        size(4 * KIB, 2 * MIB),
        "256KiB",
        "Bytes of commands in one raft entry at most; a single larger command is its own batch.",
    ),
    spec(
        Key::CompressCodec,
        "compress.codec",
        Kind::Choice(&["snappy"]),
        "snappy",
        "How batches are compressed in the log.",
    )
    .or_off(),
    spec(
        Key::CompressMinBytes,
        "compress.min_bytes",
        size(64, 2 * MIB),
        "4KiB",
        "Smallest batch that is tried for compression.",
    ),
    spec(
        Key::RaftTickInterval,
        "raft.tick_interval",
        duration(1, 10 * SECOND),
        "50ms",
        "Length of a raft tick; of the first ones, where raft.adaptive_timing is on.",
    ),
    spec(
        Key::RaftElectionTick,
        "raft.election_tick",
        count(2, 1_000),
        "10",
        "Ticks without a leader before an election.",
    ),
    spec(
        Key::RaftHeartbeatTick,
        "raft.heartbeat_tick",
        count(1, 999),
        "1",
        "Ticks between two heartbeats; fewer than raft.election_tick.",
    ),
    spec(
        Key::RaftAdaptiveTiming,
        "raft.adaptive_timing",
        Kind::Choice(&["on"]),
        "on",
        "Whether the length of a tick follows round trips and writes of the log, so that an election timeout is between 150ms and 2s. raft.tick_interval is then that of the first ticks alone.",
    )
    .or_off(),
    spec(
        Key::RaftMaxInflightMsgs,
        "raft.max_inflight_msgs",
        count(1, 65_536),
        "256",
        "Append messages in flight to one follower.",
    ),
    spec(
        Key::RaftMaxSizePerMsg,
        "raft.max_size_per_msg",
        size(64 * KIB, 8 * MIB),
        "1MiB",
        "Bytes of entries in one append message.",
    ),
    spec(
        Key::RaftMaxUncommittedSize,
        "raft.max_uncommitted_size",
        size(8 * MIB, GIB),
        "64MiB",
        "Bytes of a shard that are proposed and not committed; beyond it clients are answered Overloaded.",
    ),
    spec(
        Key::RaftMaxCommittedSizePerReady,
        "raft.max_committed_size_per_ready",
        size(64 * KIB, 64 * MIB),
        "8MiB",
        "Bytes of committed entries that are applied in one step.",
    ),
    spec(
        Key::RaftApplyAhead,
        "raft.apply_ahead",
        count(1, 1_000_000),
        "off",
        "How many entries of a shard its leader may apply and answer that a quorum of other nodes has on disk and its own disk has not yet. off: an answer waits for the leader's own disk, too.",
    )
    .or_off(),
    spec(
        Key::SnapshotLogBytes,
        "snapshot.log_bytes",
        size(4 * KIB, 1 << 50),
        "1GiB",
        "How much log a shard writes before its state goes to a snapshot, behind which the log is released; and at least 4 times its last snapshot. A log that nears its budget asks for snapshots earlier.",
    ),
    spec(
        Key::SnapshotCount,
        "snapshot.count",
        count(1, u64::MAX / 2),
        "off",
        "Entries that a shard commits before its next snapshot.",
    )
    .or_off(),
    spec(
        Key::SnapshotInterval,
        "snapshot.interval",
        duration(SECOND, 24 * 365 * HOUR),
        "off",
        "The time after a snapshot at which the shard takes the next, if anything has changed.",
    )
    .or_off(),
    spec(
        Key::SnapshotRateLimit,
        "snapshot.rate_limit",
        size(MIB, 1 << 50),
        "128MiB",
        "Bytes a second that the snapshots of one core write at most, so that the disk is left to the log.",
    ),
    spec(
        Key::DiskLow,
        "disk.low",
        size(0, 1 << 50),
        "auto",
        "What must be free on the disk of the data. With less only deletes and compaction are taken, and the log is released as far as it can be; writes go on by themselves once a quarter more than this is free. By default a twentieth of the disk, at most 1GiB.",
    )
    .or_auto(),
    spec(
        Key::HistoryMaxRevisions,
        "history.max_revisions",
        count(1, 1_000_000_000),
        "100000",
        "Changes of a shard that reads can go back. The three bounds of the history are fixed when the data is formatted, because every replica of a shard must forget the same; whichever is reached first counts.",
    ),
    spec(
        Key::HistoryMaxAge,
        "history.max_age",
        duration(SECOND, 24 * 365 * HOUR),
        "5m",
        "Shard time that reads can go back. Fixed when the data is formatted.",
    ),
    spec(
        Key::HistoryMaxBytes,
        "history.max_bytes",
        size(MIB, 64 * GIB),
        "64MiB",
        "Memory that the history of a shard may take. Fixed when the data is formatted.",
    ),
    spec(
        Key::MemoryBudget,
        "memory.budget",
        size(64 * MIB, 64 * 1024 * GIB),
        "auto",
        "Memory that the node may use. Beyond it work is refused; deletes pass. At least twice the history of all shards and 64 MiB a core. auto: half of the machine's.",
    )
    .or_auto(),
    spec(
        Key::AdmissionTarget,
        "admission.target",
        duration(5, 10 * SECOND),
        "100ms",
        "Commands that wait longer than this for the log, beyond the write under way, are overload when it is the shortest wait of two intervals.",
    ),
    spec(
        Key::AdmissionInterval,
        "admission.interval",
        duration(10, 10 * SECOND),
        "100ms",
        "The time over which the shortest wait is taken, and for which connections have quotas in overload.",
    ),
    spec(
        Key::LimitsConnections,
        "limits.connections",
        count(1, 1_000_000),
        "auto",
        "Connections of a core at one time. auto: 16384, or what the limit on open files allows.",
    )
    .or_auto(),
    spec(
        Key::LimitsCommandsInFlight,
        "limits.commands_in_flight",
        count(1, 65_536),
        "1024",
        "Requests under way on a connection; beyond it the connection is not read.",
    ),
    spec(
        Key::LimitsHandshakeTimeout,
        "limits.handshake_timeout",
        duration(100, HOUR),
        "10s",
        "Time from accepting a connection to its hello, and from our last word to the client's closing.",
    ),
    spec(
        Key::LimitsFrameTimeout,
        "limits.frame_timeout",
        duration(100, HOUR),
        "30s",
        "Time from the first byte of a frame to its last; an idle connection without an unfinished frame lives on.",
    ),
    spec(
        Key::LimitsUnreadTimeout,
        "limits.unread_timeout",
        duration(100, HOUR),
        "30s",
        "A connection whose client takes nothing of what waits for it for this long is closed.",
    ),
    spec(
        Key::LimitsOutboundBytes,
        "limits.outbound_bytes",
        size(64 * KIB, GIB),
        "4MiB",
        "With this much waiting to be sent a connection is not read.",
    ),
    spec(
        Key::LimitsOutboundBytesClose,
        "limits.outbound_bytes_close",
        size(8 * MIB, 4 * GIB),
        "64MiB",
        "With this much waiting to be sent a connection is closed; at least limits.outbound_bytes.",
    ),
    spec(
        Key::LimitsDeadlineDefault,
        "limits.deadline_default",
        duration(1, HOUR),
        "5s",
        "Deadline of a request that names none; at most limits.deadline_max.",
    ),
    spec(
        Key::LimitsDeadlineMax,
        "limits.deadline_max",
        duration(1, HOUR),
        "1m",
        "Latest deadline that a client may ask for.",
    ),
    spec(
        Key::LimitsReadsWaiting,
        "limits.reads_waiting",
        count(1, 1_000_000),
        "65536",
        "Reads of a shard that wait; beyond it they are answered Overloaded.",
    ),
    spec(
        Key::LimitsRanges,
        "limits.ranges",
        count(1, 65_536),
        "1024",
        "Ranges open on a core; beyond it they are answered Overloaded.",
    ),
    spec(
        Key::LimitsRangesPerConnection,
        "limits.ranges_per_connection",
        count(1, 1_024),
        "32",
        "Ranges open on a connection; at most limits.ranges.",
    ),
    spec(
        Key::LimitsBatchesWaiting,
        "limits.batches_waiting",
        count(1, 1_000_000),
        "16384",
        "Batches of a core whose answers are being gathered; beyond it they are answered Overloaded.",
    ),
    spec(
        Key::LimitsRangeDeletes,
        "limits.range_deletes",
        count(1, 1_024),
        "64",
        "Deletions of ranges that a core carries from shard to shard at one time; beyond it they are answered Overloaded.",
    ),
    spec(
        Key::AdminListen,
        "admin.listen",
        Kind::Socket,
        "127.0.0.1:7399",
        "Where /metrics, /healthz and /readyz are answered over HTTP. Nobody is asked who they are.",
    )
    .or_off(),
    spec(
        Key::LogLevel,
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug"]),
        "info",
        "The least important messages that are written to the standard error.",
    ),
    spec(
        Key::LogFormat,
        "log.format",
        Kind::Choice(&["text", "json"]),
        "text",
        "How messages are written: text, or one JSON object a line.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_at_its_place_and_has_a_name_of_its_own() {
        for (place, spec) in KEYS.iter().enumerate() {
            assert_eq!(spec.key as usize, place, "{}", spec.name);
            assert_eq!(spec.key.spec().name, spec.name);
            assert_eq!(Key::find(spec.name), Some(spec.key));
        }
        assert_eq!(Key::find("wal.nothing"), None);
    }

    #[test]
    fn every_default_is_allowed() {
        for spec in &KEYS {
            let parsed = spec.kind.parse_flag(spec.special, spec.default);
            assert!(parsed.is_ok(), "{}: {parsed:?}", spec.name);
        }
    }

    #[test]
    fn no_key_is_both_known_and_refused() {
        for (name, _) in NOT_BUILT {
            assert_eq!(Key::find(name), None, "{name}");
            assert!(
                !KEYS
                    .iter()
                    .any(|spec| name.ends_with('.') && spec.name.starts_with(name))
            );
        }
    }
}
