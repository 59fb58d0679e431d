//! What a core reports about itself.

use metastore_statemachine::Revision;
use metastore_wal::{CoreId, LogIndex, LogStatus, ReplicaId, ShardId, Term};

use crate::members::MembersStatus;
use crate::memory::{MemoryAccounts, MemoryRoom};
use crate::replica::Quarantine;
use crate::stages::StageSummary;

/// What one core reports about itself.
#[derive(Debug, Clone)]
pub struct CoreStatus {
    /// The core.
    pub core: CoreId,
    /// Whether every replica here leads and answers.
    pub is_serving: bool,
    /// Whether the log has room for commands.
    pub accepts_writes: bool,
    /// Its log.
    pub log: LogStatus,
    /// Its counters since the start of the process.
    pub counters: CoreCounters,
    /// What is not finished.
    pub waiting: WaitingWork,
    /// What new work is refused for.
    pub admission: AdmissionStatus,
    /// What it holds, by account. Those of connections are the driver's.
    pub memory: MemoryAccounts,
    /// Where the time of commands goes.
    pub stages: Vec<StageSummary>,
    /// How long slices of background work take, by kind.
    pub slices: Vec<StageSummary>,
    /// Its replicas, in the order of their shards.
    pub replicas: Vec<ReplicaStatus>,
}

/// Whether a core takes what it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionStatus {
    /// Requests refused for want of memory or because the log is behind.
    pub refused: u64,
    /// Whether connections have quotas at present, because the log is behind.
    pub is_refusing: bool,
    /// What the node's memory left the last time it was settled.
    pub room: MemoryRoom,
}

/// Work that a core has accepted and not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaitingWork {
    /// Batches that lack answers.
    pub gathers: usize,
    /// Ranges of connections of this core.
    pub ranges: usize,
    /// Ranges that are being deleted for connections of this core.
    pub sweeps: usize,
    /// Parts of ranges that replicas of this core hold open.
    pub range_parts: usize,
    /// Bytes of commands that are not applied.
    pub command_bytes: usize,
    /// What raft handed out and was not told of as persisted.
    pub unpersisted_readies: u64,
}

/// Counters since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CoreCounters {
    /// Turns.
    pub turns: u64,
    /// Requests of connections of this core.
    pub requests: u64,
    /// Requests handed to another core because it holds the shard.
    pub forwarded: u64,
    /// Requests refused with an error before they were tried.
    pub refused: u64,
    /// Snapshots taken.
    pub snapshots: u64,
    /// Bytes of their files.
    pub snapshot_bytes: u64,
    /// Snapshots of other replicas that were fetched and installed.
    pub snapshots_fetched: u64,
    /// Snapshots that could not be completed.
    pub snapshots_failed: u64,
    /// How often a replica wrote entries again, so that the oldest segment could be released.
    pub rewrites: u64,
    /// Segments of the log that were read again and are what was written.
    pub segments_scrubbed: u64,
    /// Those that are not.
    pub scrub_findings: u64,
    /// How often a shard was handed over because the disk here was slow.
    pub slow_disk_hand_overs: u64,
    /// Messages of replicas on other nodes that were taken.
    pub peer_messages: u64,
    /// Ticks that passed for replicas; for those that sleep none does.
    pub replica_ticks: u64,
    /// Messages, or whole batches, from other nodes that made no sense or were for nobody here.
    pub peer_dropped: u64,
    /// Those among them that came from replicas that are no members any more.
    pub peer_removed: u64,
    /// Appends that were dropped because the log has no room but for what relieves it. Leaders send them again.
    pub peer_appends_refused: u64,
    /// Replicas that were created here to join a shard.
    pub replicas_created: u64,
    /// Replicas that were removed from here with all they had.
    pub replicas_removed: u64,
}

/// What one replica reports about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Its shard.
    pub shard: ShardId,
    /// Its id.
    pub replica: ReplicaId,
    /// Its role.
    pub role: Role,
    /// Which replica leads, as far as it knows.
    pub leader: Option<ReplicaId>,
    /// Its term.
    pub term: Term,
    /// Its commit index.
    pub committed: LogIndex,
    /// The last entry it has applied.
    pub applied: LogIndex,
    /// The last entry of its log.
    pub last: LogIndex,
    /// Keys it holds.
    pub keys: u64,
    /// The revision of the default namespace.
    pub revision: Revision,
    /// Bytes of keys and values with what it costs to keep them.
    pub state_bytes: u64,
    /// Bytes of older versions.
    pub history_bytes: u64,
    /// Hash of everything applied.
    pub state_hash: u64,
    /// How often its state was compared with its leader's since the start.
    pub states_compared: u64,
    /// Why it takes no part in its group, if it does not.
    pub quarantine: Option<Quarantine>,
    /// How often it was repaired since the start.
    pub repairs: u64,
    /// Commands applied since the start, those of the log's replay left out.
    pub applied_commands: u64,
    /// Messages to other replicas that were dropped because too many waited for the log.
    pub messages_dropped: u64,
    /// The members of its group, as it knows them.
    pub members: MembersStatus,
    /// Whether its group has nothing to do and time does not pass for it.
    pub is_asleep: bool,
}

/// What part a replica plays in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It proposes.
    Leader,
}
