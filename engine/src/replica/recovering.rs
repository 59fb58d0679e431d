//! A replica while its log is replayed: it begins with its snapshot, committed entries are applied as they pass, the
//! rest waits in the tail.

mod copy;

use std::collections::BTreeMap;

use metastore_bugs::{Mutant, is_planted};
use metastore_statemachine::{Parameters, ShardTime, StateMachine};
use metastore_wal::recovery::{EntryRef, RecoveredReplica};
use metastore_wal::{
    EntryKind, HardState, Log, LogIndex, Part, PartBody, Position, ReplicaId, ShardId,
    SnapshotPoint, Term,
};
use raft::eraftpb::Entry;
use raft::{Config, RawNode, ReadOnlyOption};
use thiserror::Error;

use super::apply::apply_batch;
use super::claims::Ambition;
use super::commands::{Compressor, OpenBatch, Proposals};
use super::outbox::Outbox;
use super::parts::RangeParts;
use super::quarantine::Quarantine;
use super::reads::Reads;
use super::repairing::Repair;
use super::sleep::Sleep;
use super::snapshots::LastSnapshot;
use super::state_checks::{Checked, StateChecks};
use super::tail::EntryTail;
use super::{Belonging, Changes, Committed, Replica, ShardClock, Watching};
use crate::core::CoreConfig;
use crate::ids::{SnapshotId, Time};
use crate::membership::{BadChange, ForcedMembers, Member, Membership, MembershipChange};
use crate::peer::{kind_and_data, to_raft_entry};
use crate::settings::RaftSettings;
use crate::status::Role;

/// Why a replica's records cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// There are records, and no snapshot that every replica begins with.
    #[error("its log names no snapshot, with which every replica begins")]
    NoSnapshot,
    /// The driver did not load the snapshot that the log names.
    #[error("its snapshot at index {index} was not loaded")]
    SnapshotNotLoaded {
        /// Its index.
        index: LogIndex,
    },
    /// The members in a snapshot's record are not readable.
    #[error("the members in its snapshot's record are not readable")]
    BadMembers,
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
    /// The commit index lies behind the last entry that follows the snapshot without a hole: entries were lost.
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
    /// A committed change of members does not follow the members before it.
    #[error("entry {index} cannot change the members: {cause}")]
    BadChange {
        /// Its index.
        index: LogIndex,
        /// Why.
        cause: BadChange,
    },
    /// A record of a kind that this version does not replay.
    #[error("it has a record of a kind that this version does not replay")]
    UnknownKind,
}

/// The snapshot with which every replica begins: an empty state, so that a member without data always needs one. It
/// has no file.
const INITIAL_INDEX: u64 = 1;
const INITIAL_TERM: u64 = 1;

/// Whether a snapshot is the one with which every replica begins, or stands for none where it waits to join.
pub(crate) fn is_initial(index: LogIndex, term: Term) -> bool {
    (index.0, term.0) == (INITIAL_INDEX, INITIAL_TERM) || index.0 == 0
}

/// A replica on its way from the log.
///
/// It begins behind the newest snapshot that the log names, whose state is loaded before the first entry comes. Entries
/// that the snapshot covers are passed over. Entries may come with a hole before them, which a later record fills; they
/// wait in `ahead` until then.
pub(crate) struct RecoveringReplica {
    id: ReplicaId,
    shard: ShardId,
    /// `None` until the snapshot is loaded.
    state: Option<StateMachine>,
    tail: EntryTail,
    ahead: BTreeMap<u64, Entry>,
    applied: u64,
    decompressed: Vec<u8>,
    /// Length of the snapshot's file; 0 for the one that has none.
    snapshot_bytes: u64,
    /// Bytes of the entries' data that the snapshot does not cover.
    log_bytes: u64,
    state_checks: StateChecks,
    quarantine: Option<Quarantine>,
    /// What it has promised, where it needs to be repaired and can be.
    promised: Option<HardState>,
    /// The newest applied entry that set its members by force, and the recovery that did.
    forced: Option<(u64, u128)>,
    /// Entries that set its members by force and are not applied yet, by their index.
    forces: BTreeMap<u64, ForcedMembers>,
    /// The newest of them for which revisions were passed over.
    passed_for: u64,
}

impl RecoveringReplica {
    /// A replica whose log begins behind `snapshot`.
    pub(crate) fn new(
        id: ReplicaId,
        shard: ShardId,
        snapshot: &SnapshotPoint,
        parameters: Parameters,
        tail_bytes_max: usize,
    ) -> Result<RecoveringReplica, ReplayError> {
        let members = Membership::decode(&snapshot.members).ok_or(ReplayError::BadMembers)?;
        let SnapshotPoint { index, term, .. } = *snapshot;
        Ok(RecoveringReplica {
            id,
            shard,
            state: is_initial(index, term).then(|| StateMachine::new(parameters)),
            tail: EntryTail::after_snapshot(index.0, term.0, members, tail_bytes_max),
            ahead: BTreeMap::new(),
            applied: index.0,
            decompressed: Vec::new(),
            snapshot_bytes: 0,
            log_bytes: 0,
            state_checks: StateChecks::default(),
            quarantine: None,
            promised: None,
            forced: None,
            forces: BTreeMap::new(),
            passed_for: 0,
        })
    }

    /// A replica that never existed, in a group of `voters` of which it is one, behind the snapshot of an empty state.
    pub(crate) fn create(
        id: ReplicaId,
        shard: ShardId,
        voters: &[Member],
        parameters: Parameters,
        tail_bytes_max: usize,
        log: &mut Log,
    ) -> RecoveringReplica {
        let snapshot = SnapshotPoint {
            index: LogIndex(INITIAL_INDEX),
            term: Term(INITIAL_TERM),
            members: Membership::of_voters(voters).encode(),
        };
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
                index: snapshot.index,
                term: snapshot.term,
                members: snapshot.members.clone(),
            },
        });
        RecoveringReplica::new(id, shard, &snapshot, parameters, tail_bytes_max)
            .expect("members that were just encoded are readable")
    }

    /// A replica that waits to join a group: it knows nothing, not even who belongs to it, until the leader offers it a
    /// snapshot.
    pub(crate) fn joining(
        id: ReplicaId,
        shard: ShardId,
        parameters: Parameters,
        tail_bytes_max: usize,
    ) -> RecoveringReplica {
        RecoveringReplica {
            id,
            shard,
            state: Some(StateMachine::new(parameters)),
            tail: EntryTail::after_snapshot(0, 0, Membership::unknown(), tail_bytes_max),
            ahead: BTreeMap::new(),
            applied: 0,
            decompressed: Vec::new(),
            snapshot_bytes: 0,
            log_bytes: 0,
            state_checks: StateChecks::default(),
            quarantine: None,
            promised: None,
            forced: None,
            forces: BTreeMap::new(),
            passed_for: 0,
        }
    }

    /// What the log says first of a replica that waits to join: that there is one.
    pub(crate) fn stage_joining(id: ReplicaId, shard: ShardId, log: &mut Log) -> Position {
        log.stage(Part {
            replica: id,
            shard,
            hard_state: HardState::default(),
            body: PartBody::Append {
                first_index: LogIndex(1),
                entries: Vec::new(),
            },
        })
    }

    /// A replica that takes no part until it is repaired, if it ever is. Nothing of its state is of use.
    pub(crate) fn in_quarantine(
        known: &RecoveredReplica,
        why: Quarantine,
        parameters: Parameters,
        tail_bytes_max: usize,
    ) -> Result<RecoveringReplica, ReplayError> {
        let (id, shard) = (known.replica, known.shard);
        let mut begun = match known.snapshot.members.is_empty() {
            true => RecoveringReplica::joining(id, shard, parameters, tail_bytes_max),
            false => {
                RecoveringReplica::new(id, shard, &known.snapshot, parameters, tail_bytes_max)?
            }
        };
        // What is known of its promises goes into its tombstone, if it ever gets one.
        let mut hard_state = raft::eraftpb::HardState::default();
        hard_state.set_term(known.hard_state.term.0);
        hard_state.set_vote(known.hard_state.vote.0);
        hard_state.set_commit(begun.applied);
        begun.tail.set_hard_state(hard_state);
        let promised = match why {
            Quarantine::LogDamaged | Quarantine::SnapshotDamaged => Some(known.hard_state),
            Quarantine::PromisesLost | Quarantine::StateDiffers { .. } => None,
        };
        Ok(RecoveringReplica {
            state: Some(StateMachine::new(parameters)),
            quarantine: Some(why),
            promised,
            ..begun
        })
    }

    /// Whether others belong to its group.
    pub(crate) fn has_peers(&self) -> bool {
        self.tail.members().others(self.id).next().is_some()
    }

    /// Whether others may belong to its group: where it does not know the members, it came to them.
    pub(crate) fn may_have_peers(&self) -> bool {
        self.tail.members().is_unknown() || self.has_peers()
    }

    /// The file of its snapshot cannot be loaded: what follows it in the log is of no use.
    pub(crate) fn on_snapshot_damaged(&mut self) {
        self.quarantine = Some(Quarantine::SnapshotDamaged);
    }

    /// Why it can take no part.
    pub(crate) fn quarantine(&self) -> Option<Quarantine> {
        self.quarantine
    }

    /// The snapshot that must be loaded before the first entry comes, if it has not been.
    pub(crate) fn snapshot_to_load(&self) -> Option<SnapshotId> {
        let (index, term) = self.tail.snapshot();
        let is_wanted = self.state.is_none() && !self.is_without_state();
        is_wanted.then_some(SnapshotId {
            shard: self.shard,
            term: Term(term),
            index: LogIndex(index),
        })
    }

    pub(crate) fn members(&self) -> bytes::Bytes {
        self.tail.members().encode()
    }

    /// The state of the snapshot, from a file of `bytes`.
    pub(crate) fn on_loaded(&mut self, state: StateMachine, bytes: u64) {
        self.state = Some(state);
        self.snapshot_bytes = bytes;
    }

    /// A record with a snapshot: the newest is known already, but what lies behind `last_index` is void.
    pub(crate) fn on_snapshot(
        &mut self,
        hard_state: HardState,
        last_index: LogIndex,
    ) -> Result<(), ReplayError> {
        if self.is_without_state() {
            return Ok(());
        }
        self.truncate_from(last_index.next())?;
        self.on_hard_state(hard_state)
    }

    fn is_without_state(&self) -> bool {
        self.quarantine == Some(Quarantine::SnapshotDamaged)
    }

    pub(crate) fn on_append<'a>(
        &mut self,
        hard_state: HardState,
        first_index: LogIndex,
        entries: impl ExactSizeIterator<Item = EntryRef<'a>>,
    ) -> Result<(), ReplayError> {
        if entries.len() > 0 && !self.is_without_state() {
            if !is_planted(Mutant::ReplacedSuffixSurvives) {
                self.truncate_from(first_index)?;
            }
            self.keep(first_index, entries);
        }
        self.on_hard_state(hard_state)
    }

    /// Entries written again: those that were never seen are taken.
    pub(crate) fn on_rewrite<'a>(
        &mut self,
        hard_state: HardState,
        first_index: LogIndex,
        entries: impl ExactSizeIterator<Item = EntryRef<'a>>,
    ) -> Result<(), ReplayError> {
        if !self.is_without_state() {
            self.keep(first_index, entries);
        }
        self.on_hard_state(hard_state)
    }

    fn truncate_from(&mut self, first_index: LogIndex) -> Result<(), ReplayError> {
        let (snapshot_index, _) = self.tail.snapshot();
        let first = first_index.0.max(snapshot_index + 1);
        if first <= self.applied {
            return Err(ReplayError::ReplacesCommitted {
                first_index,
                committed: LogIndex(self.applied),
            });
        }
        self.ahead.split_off(&first);
        self.forces.split_off(&first);
        self.tail.truncate_behind(first - 1);
        Ok(())
    }

    fn keep<'a>(&mut self, first_index: LogIndex, entries: impl Iterator<Item = EntryRef<'a>>) {
        for (index, entry) in (first_index.0..).zip(entries) {
            let next = self.tail.last() + 1;
            if index >= next
                && entry.kind == EntryKind::ConfChange
                && let Some(forced) = ForcedMembers::decode(entry.data)
            {
                self.forces.insert(index, forced);
            }
            if index == next {
                self.log_bytes += entry.data.len() as u64;
                self.tail.append(to_raft_entry(index, &entry));
            } else if index > next {
                self.ahead.insert(index, to_raft_entry(index, &entry));
            }
        }
        while let Some(entry) = self.ahead.remove(&(self.tail.last() + 1)) {
            self.log_bytes += entry.data.len() as u64;
            self.tail.append(entry);
        }
        // What filled a hole may have repeated what waited behind it.
        self.ahead = self.ahead.split_off(&(self.tail.last() + 1));
    }

    /// Notes term, vote and commit, and applies what the commit index now covers: what is committed is never replaced
    /// by a later record, so it need not wait for the end of the log.
    pub(crate) fn on_hard_state(&mut self, hard_state: HardState) -> Result<(), ReplayError> {
        if self.is_without_state() {
            return Ok(());
        }
        let committed = match is_planted(Mutant::CommitBelowSnapshot) {
            true => hard_state.commit.0,
            false => hard_state.commit.0.max(self.tail.hard_state().commit),
        };
        let mut raft_state = raft::eraftpb::HardState::default();
        raft_state.set_term(hard_state.term.0);
        raft_state.set_vote(hard_state.vote.0);
        raft_state.set_commit(committed);
        self.tail.set_hard_state(raft_state);
        let (snapshot_index, _) = self.tail.snapshot();
        let not_loaded = ReplayError::SnapshotNotLoaded {
            index: LogIndex(snapshot_index),
        };
        let state = self.state.as_mut().ok_or(not_loaded)?;
        while self.applied < committed
            && let Some(entry) = self.tail.entry(self.applied + 1)
        {
            let index = LogIndex(entry.index);
            if let Some((&at, forced)) = self.forces.range(index.0..).next()
                && (index > forced.passed_behind || index.0 == at)
            {
                if self.passed_for < at {
                    state.pass_revisions(forced.revisions_passed);
                    self.passed_for = at;
                }
                // What leaders said of their states is not true of this one any more.
                self.state_checks.forget();
            }
            let (kind, data) = kind_and_data(entry);
            match kind {
                EntryKind::ConfChange if is_planted(Mutant::ChangeForgottenByStart) => {}
                EntryKind::ConfChange => {
                    if let Some(forced) = self.forces.remove(&index.0) {
                        self.forced = Some((index.0, forced.recovery));
                    }
                    let after = members_after(self.tail.members(), data);
                    let after = after.map_err(|cause| ReplayError::BadChange { index, cause })?;
                    self.tail.set_members(after);
                }
                EntryKind::StateCheck => {
                    let hash = state.state_hash();
                    match self.state_checks.on_word(index.0, data, hash) {
                        Checked::Fine => {}
                        Checked::Differs(why) => self.quarantine = Some(why),
                        Checked::Unknown => return Err(ReplayError::UnknownKind),
                    }
                }
                EntryKind::Normal if data.is_empty() => {}
                EntryKind::Normal => {
                    apply_batch(state, data, &mut self.decompressed, |_| {})
                        .map_err(|cause| ReplayError::Apply { index, cause })?;
                    self.state_checks.on_applied();
                }
            }
            self.applied = index.0;
        }
        self.tail.release_applied(self.applied);
        Ok(())
    }

    /// Everything that is committed must have come by now.
    fn check_end(&self) -> Result<(), ReplayError> {
        let committed = LogIndex(self.tail.hard_state().commit);
        let last_index = LogIndex(self.tail.last());
        if committed > last_index || !self.ahead.is_empty() {
            return Err(ReplayError::CommitAboveLast {
                committed,
                last_index,
            });
        }
        Ok(())
    }

    /// The replica as it runs, a follower that knows what it has applied.
    pub(crate) fn start(
        self,
        now: Time,
        config: &CoreConfig,
        logger: &slog::Logger,
    ) -> Result<Replica, ReplayError> {
        if self.promised.is_none() {
            self.check_end()?;
        }
        let mut tail = self.tail;
        if is_planted(Mutant::VoteIsForgotten) {
            let mut hard_state = tail.hard_state().clone();
            hard_state.vote = 0;
            tail.set_hard_state(hard_state);
        }
        tail.set_snapshot_file(self.snapshot_bytes);
        let (snapshot_index, _) = tail.snapshot();
        let state = self.state.ok_or(ReplayError::SnapshotNotLoaded {
            index: LogIndex(snapshot_index),
        })?;
        let logger = logger.new(slog::o!("shard" => self.shard.0));
        let node = new_node(self.id, self.applied, tail, &config.settings.raft, &logger);
        let mut replica = Replica {
            id: self.id,
            shard: self.shard,
            node,
            clock: ShardClock {
                stamp: ShardTime(0),
                stamped_at: now,
            },
            state,
            state_index: LogIndex(self.applied),
            logger,
            election_seed: config.seed,
            boot: config.boot,
            role: Role::Follower,
            reign: (0, 0),
            serving_term: None,
            open: OpenBatch::default(),
            proposals: Proposals::default(),
            compressor: Compressor::default(),
            unpersisted: std::collections::VecDeque::new(),
            outbox: Outbox::default(),
            reading: None,
            log_reads: 0,
            ready_last: 0,
            ready_persisted: 0,
            committed: Committed::default(),
            reads: Reads::default(),
            read_contexts: 0,
            parts: RangeParts::default(),
            spare_pending: Vec::new(),
            decompressed: self.decompressed,
            applied_commands: 0,
            last_snapshot: LastSnapshot {
                bytes: self.snapshot_bytes,
                taken_at: now,
                log_bytes: self.log_bytes,
            },
            exporting: None,
            served: Vec::new(),
            installing: None,
            replaced_snapshot: None,
            changes: Changes::default(),
            belonging: Belonging::default(),
            watching: Watching::default(),
            election_ms: config.settings.raft.tick_interval_ms
                * config.settings.raft.election_ticks as u64,
            sleep: Sleep::default(),
            claim: None,
            ambition: Ambition::default(),
            state_checks: self.state_checks,
            quarantine: self.quarantine,
            repair: self.promised.map(Repair::new),
            repairs: 0,
            is_disk_hung: false,
            repair_wants: None,
            forced_at: LogIndex(self.forced.map_or(0, |(index, _)| index)),
        };
        replica.state_checks.begin(now);
        replica.take_members_as_of(replica.node.raft.raft_log.applied());
        replica.seed_election_timeout();
        if !replica.is_quarantined() {
            replica.campaign_if_alone();
        }
        Ok(replica)
    }
}

/// The members after an entry that says what becomes of them.
fn members_after(members: &Membership, data: &[u8]) -> Result<Membership, BadChange> {
    match ForcedMembers::decode(data) {
        Some(forced) => members.after_force(&forced),
        None => MembershipChange::decode(data).and_then(|change| members.after(&change)),
    }
}

/// raft over a log that is whole.
pub(super) fn new_node(
    id: ReplicaId,
    applied: u64,
    tail: EntryTail,
    raft: &RaftSettings,
    logger: &slog::Logger,
) -> RawNode<EntryTail> {
    let config = Config {
        id: id.0,
        election_tick: raft.election_ticks,
        heartbeat_tick: raft.heartbeat_ticks,
        applied,
        max_size_per_msg: raft.message_bytes_max,
        max_inflight_msgs: raft.inflight_messages_max,
        // The next append or heartbeat tells it. By itself it would wake every follower once more for each lone entry.
        skip_bcast_commit: true,
        check_quorum: true,
        pre_vote: true,
        read_only_option: match is_planted(Mutant::LeaseWithoutClock) {
            true => ReadOnlyOption::LeaseBased,
            false => ReadOnlyOption::Safe,
        },
        batch_append: true,
        max_uncommitted_size: raft.uncommitted_bytes_max,
        max_committed_size_per_ready: raft.committed_bytes_per_ready_max,
        ..Config::default()
    };
    RawNode::new(&config, tail, logger)
        .expect("a recovered log and checked settings are valid for raft")
}

#[cfg(test)]
mod tests;
