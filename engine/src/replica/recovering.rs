//! A replica while its log is replayed: committed entries are applied as they pass, the rest waits in the tail.

use metastore_statemachine::{Parameters, ShardTime, StateMachine};
use metastore_wal::recovery::EntryRef;
use metastore_wal::{
    EntryKind, HardState, Log, LogIndex, Part, PartBody, ReplicaId, ShardId, Term,
};
use raft::eraftpb::{ConfState, Entry, EntryType};
use raft::{Config, RawNode, ReadOnlyOption};
use thiserror::Error;

use super::apply::apply_batch;
use super::commands::{Compressor, OpenBatch, Proposals};
use super::parts::RangeParts;
use super::reads::Reads;
use super::tail::EntryTail;
use super::{Committed, Replica, ShardClock, members};
use crate::core::CoreConfig;
use crate::ids::Time;
use crate::status::Role;

/// Why a replica's records cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// Entries before the snapshot with which every replica begins.
    #[error("its first record is not the snapshot with which a replica begins")]
    NoSnapshot,
    /// A snapshot of a kind that this version does not load.
    #[error("a snapshot at index {index}: this version starts from the one at index 1 alone")]
    SnapshotNotLoaded {
        /// Its index.
        index: LogIndex,
    },
    /// The members in a snapshot's record are not readable.
    #[error("the members in its snapshot's record are not readable")]
    BadMembers,
    /// Entries that leave a hole behind the last one.
    #[error("entries from index {first_index} on follow index {last_index}")]
    Hole {
        /// First index of the entries.
        first_index: LogIndex,
        /// Last index of the log so far.
        last_index: LogIndex,
    },
    /// Entries that would replace what is committed.
    #[error(
        "entries from index {first_index} on would replace index {committed}, which is committed"
    )]
    ReplacesCommitted {
        /// First index of the entries.
        first_index: LogIndex,
        /// The commit index so far.
        committed: LogIndex,
    },
    /// The commit index lies behind the end: entries were lost.
    #[error(
        "index {committed} is committed, but the log ends at {last_index}: committed entries are lost"
    )]
    CommitAboveLast {
        /// The commit index.
        committed: LogIndex,
        /// The last index.
        last_index: LogIndex,
    },
    /// A committed entry cannot be applied.
    #[error("entry {index} cannot be applied: {cause}")]
    Apply {
        /// Its index.
        index: LogIndex,
        /// What the state machine says.
        cause: String,
    },
    /// A record of a kind that this version does not replay.
    #[error("it has a record of a kind that this version does not replay")]
    UnknownKind,
}

/// The snapshot with which every replica begins: an empty state, so that a member without data always needs one.
const INITIAL_INDEX: u64 = 1;
const INITIAL_TERM: u64 = 1;

/// A replica on its way from the log.
pub(crate) struct RecoveringReplica {
    id: ReplicaId,
    shard: ShardId,
    state: StateMachine,
    tail_bytes_max: usize,
    tail: Option<EntryTail>,
    applied: u64,
    decompressed: Vec<u8>,
}

impl RecoveringReplica {
    pub(crate) fn new(
        id: ReplicaId,
        shard: ShardId,
        parameters: Parameters,
        tail_bytes_max: usize,
    ) -> RecoveringReplica {
        RecoveringReplica {
            id,
            shard,
            state: StateMachine::new(parameters),
            tail_bytes_max,
            tail: None,
            applied: 0,
            decompressed: Vec::new(),
        }
    }

    /// A replica that never existed: alone in its group, behind the snapshot of an empty state.
    pub(crate) fn create(
        id: ReplicaId,
        shard: ShardId,
        parameters: Parameters,
        tail_bytes_max: usize,
        log: &mut Log,
    ) -> RecoveringReplica {
        let members = ConfState::from((vec![id.0], vec![]));
        let hard_state = HardState {
            term: Term(INITIAL_TERM),
            vote: ReplicaId(0),
            commit: LogIndex(INITIAL_INDEX),
        };
        log.stage(Part {
            replica: id,
            shard,
            hard_state,
            body: PartBody::Snapshot {
                index: LogIndex(INITIAL_INDEX),
                term: Term(INITIAL_TERM),
                members: members::encode(&members),
            },
        });
        let mut created = RecoveringReplica::new(id, shard, parameters, tail_bytes_max);
        created.begin(members);
        created
    }

    fn begin(&mut self, members: ConfState) {
        self.applied = INITIAL_INDEX;
        self.tail = Some(EntryTail::after_snapshot(
            INITIAL_INDEX,
            INITIAL_TERM,
            members,
            self.tail_bytes_max,
        ));
    }

    pub(crate) fn on_snapshot(
        &mut self,
        hard_state: HardState,
        index: LogIndex,
        term: Term,
        members: &[u8],
    ) -> Result<(), ReplayError> {
        if index != LogIndex(INITIAL_INDEX) || term != Term(INITIAL_TERM) || self.tail.is_some() {
            return Err(ReplayError::SnapshotNotLoaded { index });
        }
        self.begin(members::decode(members).ok_or(ReplayError::BadMembers)?);
        self.on_hard_state(hard_state)
    }

    pub(crate) fn on_append<'a>(
        &mut self,
        hard_state: HardState,
        first_index: LogIndex,
        entries: impl Iterator<Item = EntryRef<'a>>,
    ) -> Result<(), ReplayError> {
        let tail = self.tail.as_mut().ok_or(ReplayError::NoSnapshot)?;
        for (index, entry) in (first_index.0..).zip(entries) {
            if index > tail.last() + 1 {
                let last_index = LogIndex(tail.last());
                return Err(ReplayError::Hole {
                    first_index,
                    last_index,
                });
            }
            if index <= self.applied {
                let committed = LogIndex(self.applied);
                return Err(ReplayError::ReplacesCommitted {
                    first_index,
                    committed,
                });
            }
            tail.append(to_raft_entry(index, &entry));
        }
        self.on_hard_state(hard_state)
    }

    /// Notes term, vote and commit, and applies what the commit index now covers: what is committed is never replaced
    /// by a later record, so it need not wait for the end of the log.
    fn on_hard_state(&mut self, hard_state: HardState) -> Result<(), ReplayError> {
        let tail = self.tail.as_mut().ok_or(ReplayError::NoSnapshot)?;
        let committed = hard_state.commit.0.max(tail.hard_state().commit);
        if committed > tail.last() {
            return Err(ReplayError::CommitAboveLast {
                committed: LogIndex(committed),
                last_index: LogIndex(tail.last()),
            });
        }
        let mut raft_state = raft::eraftpb::HardState::default();
        raft_state.set_term(hard_state.term.0);
        raft_state.set_vote(hard_state.vote.0);
        raft_state.set_commit(committed);
        tail.set_hard_state(raft_state);
        while self.applied < committed {
            let index = self.applied + 1;
            let entry = tail
                .entry(index)
                .expect("an entry that is not applied is in memory");
            if entry.get_entry_type() != EntryType::EntryNormal {
                return Err(ReplayError::UnknownKind);
            }
            if !entry.data.is_empty() {
                apply_batch(&mut self.state, &entry.data, &mut self.decompressed, |_| {}).map_err(
                    |cause| ReplayError::Apply {
                        index: LogIndex(index),
                        cause,
                    },
                )?;
            }
            self.applied = index;
        }
        tail.release_applied(self.applied);
        Ok(())
    }

    /// The replica as it runs, a follower that knows what it has applied.
    pub(crate) fn start(
        self,
        now: Time,
        config: &CoreConfig,
        logger: &slog::Logger,
    ) -> Result<Replica, ReplayError> {
        let tail = self.tail.ok_or(ReplayError::NoSnapshot)?;
        let raft = &config.settings.raft;
        let raft_config = Config {
            id: self.id.0,
            election_tick: raft.election_ticks,
            heartbeat_tick: raft.heartbeat_ticks,
            applied: self.applied,
            max_size_per_msg: raft.message_bytes_max,
            max_inflight_msgs: raft.inflight_messages_max,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            batch_append: true,
            max_uncommitted_size: raft.uncommitted_bytes_max,
            max_committed_size_per_ready: raft.committed_bytes_per_ready_max,
            ..Config::default()
        };
        let logger = logger.new(slog::o!("shard" => self.shard.0));
        let node = RawNode::new(&raft_config, tail, &logger)
            .expect("a recovered log and checked settings are valid for raft");
        let mut replica = Replica {
            id: self.id,
            shard: self.shard,
            node,
            clock: ShardClock {
                stamp: ShardTime(0),
                stamped_at: now,
            },
            state: self.state,
            election_seed: config.seed,
            boot: config.boot,
            role: Role::Follower,
            serving_term: None,
            open: OpenBatch::default(),
            proposals: Proposals::default(),
            compressor: Compressor::default(),
            unpersisted: std::collections::VecDeque::new(),
            ready_last: 0,
            ready_persisted: 0,
            committed: Committed::default(),
            reads: Reads::default(),
            read_contexts: 0,
            parts: RangeParts::default(),
            spare_pending: Vec::new(),
            decompressed: self.decompressed,
            applied_commands: 0,
        };
        replica.seed_election_timeout();
        replica.campaign_if_alone();
        Ok(replica)
    }
}

fn to_raft_entry(index: u64, entry: &EntryRef<'_>) -> Entry {
    let mut raft_entry = Entry::default();
    raft_entry.set_index(index);
    raft_entry.set_term(entry.term.0);
    raft_entry.set_entry_type(match entry.kind {
        EntryKind::Normal => EntryType::EntryNormal,
        EntryKind::ConfChange => EntryType::EntryConfChangeV2,
    });
    raft_entry.set_data(entry.data.to_vec().into());
    raft_entry
}
