//! Copies of shards in logs that nobody runs: what each is worth, and how one of them is made the only one.
//!
//! It does **not** choose among copies: it sees one log at a time. Whoever has looked at all that are left does, see
//! `metastore recover`.

use metastore_wal::recovery::{Recovered, RecoveredReplica, Standing};
use metastore_wal::{
    Entry, EntryKind, HardState, LogIndex, Part, PartBody, ReplicaId, ShardId, Term,
};

use crate::core::{CoreBuilder, StartError};
use crate::membership::{ForcedMembers, Member, Membership};
use crate::replica::Quarantine;

/// Revisions that a shard passes over when it goes on with one copy. More than it could have made since the copy was
/// written: at a million changes a second it takes twelve days. A shard can be recovered so sixteen million times.
pub const REVISIONS_PASSED: u64 = 1 << 40;

/// What a log holds of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardCopy {
    /// The shard.
    pub shard: ShardId,
    /// The replica that held it.
    pub replica: ReplicaId,
    /// The newest term that it has heard of.
    pub term: Term,
    /// The term of its last entry.
    pub last_term: Term,
    /// Its last entry.
    pub last_index: LogIndex,
    /// The last entry that it knows to be committed.
    pub committed: LogIndex,
    /// The terms of its entries from the last that it knows to be committed on.
    pub runs: Vec<TermRun>,
    /// The newest replica that it knows to have been a member.
    pub newest: ReplicaId,
    /// Who belongs to the shard as of the last committed entry, and as of each change behind that.
    pub groups: Vec<Group>,
    /// Keys as of the last committed entry.
    pub keys: u64,
    /// The recovery that has set the members, where that is its last entry.
    pub forced_last: Option<u128>,
    /// Why it cannot be used, if so.
    pub fault: Option<CopyFault>,
}

/// Entries that follow each other and have one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermRun {
    /// The first of them.
    pub first_index: LogIndex,
    /// Their term.
    pub term: Term,
}

/// Why a copy of a shard cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyFault {
    /// It takes no part.
    #[error("{0}")]
    Quarantine(Quarantine),
    /// Something of its log is missing.
    #[error("entries of its log are damaged or lost")]
    Damaged,
    /// It waits for its first snapshot.
    #[error("it has not got its first snapshot yet")]
    Joining,
    /// It is a member no more.
    #[error("it was removed from its shard")]
    Removed,
}

/// Who belongs to a shard at some point of its log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Those who vote; in a joint state, in the half that stays.
    pub voters: Vec<Member>,
    /// In a joint state, those who vote in the half that goes.
    pub outgoing: Vec<Member>,
    /// All of them, also those who only learn.
    pub members: Vec<Member>,
}

impl Group {
    pub(crate) fn of(members: &Membership) -> Group {
        let state = members.conf_state();
        let among = |ids: &[u64]| {
            let all = members.members().iter().copied();
            all.filter(|member| ids.contains(&member.replica.0))
                .collect()
        };
        Group {
            voters: among(state.get_voters()),
            outgoing: among(state.get_voters_outgoing()),
            members: members.members().to_vec(),
        }
    }
}

impl CoreBuilder {
    /// What the log that was replayed holds of each shard. Nothing is changed by looking.
    ///
    /// # Errors
    /// What [`CoreBuilder::on_event`](CoreBuilder::on_event) found wrong.
    pub fn copies(self, recovered: &Recovered) -> Result<Vec<ShardCopy>, StartError> {
        let asked = self.config.replicas.clone();
        let mut recovering = self.into_recovering()?;
        let mut copies = Vec::new();
        for known in &recovered.replicas {
            let replica = known.replica;
            let one = recovering.remove(&replica);
            copies.push(match (known.standing, one) {
                (Standing::Whole, Some(one)) => one
                    .describe()
                    .map_err(|cause| StartError::Replay { replica, cause })?,
                // Of what is damaged the replay tells nothing.
                (Standing::Damaged | Standing::Lost, _) | (Standing::Whole, None) => damaged(known),
            });
        }
        let is_missing = |&&(replica, _): &&(ReplicaId, ShardId)| {
            copies.iter().all(|copy| copy.replica != replica)
        };
        if let Some(&(replica, shard)) = asked.iter().find(is_missing) {
            return Err(StartError::MissingReplica { replica, shard });
        }
        copies.sort_by_key(|copy| (copy.shard, copy.replica));
        Ok(copies)
    }
}

fn damaged(known: &RecoveredReplica) -> ShardCopy {
    ShardCopy {
        shard: known.shard,
        replica: known.replica,
        term: known.hard_state.term,
        last_term: Term(0),
        last_index: known.last_index,
        committed: known.hard_state.commit,
        runs: Vec::new(),
        newest: known.replica,
        groups: Vec::new(),
        keys: 0,
        forced_last: None,
        fault: Some(CopyFault::Damaged),
    }
}

/// How a copy is made the only one of its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Force {
    /// The shard.
    pub shard: ShardId,
    /// The replica that holds it, and where that lives.
    pub voter: Member,
    /// The last entry of the copy.
    pub last_index: LogIndex,
    /// The last entry that no lost copy can have had otherwise: revisions are passed over behind it.
    pub passed_behind: LogIndex,
    /// Newer than any term that any copy has heard of.
    pub term: Term,
    /// The newest replica that any copy knows to have been a member.
    pub newest: ReplicaId,
    /// How many times the cluster was recovered, this time included.
    pub epoch: u32,
    /// The number that was drawn for this time.
    pub recovery: u128,
}

impl Force {
    /// What is to be written behind the last entry of the copy. Everything before it is committed with it, and the next
    /// start finds a group of one.
    #[must_use]
    pub fn to_part(&self) -> Part {
        let index = self.last_index.next();
        let forced = ForcedMembers {
            epoch: self.epoch,
            recovery: self.recovery,
            newest: self.newest,
            revisions_passed: REVISIONS_PASSED,
            passed_behind: self.passed_behind,
            voter: self.voter,
        };
        Part {
            replica: self.voter.replica,
            shard: self.shard,
            hard_state: HardState {
                term: self.term,
                vote: ReplicaId(0),
                commit: index,
            },
            body: PartBody::Append {
                first_index: index,
                entries: vec![Entry {
                    term: self.term,
                    kind: EntryKind::ConfChange,
                    data: forced.encode(),
                }],
            },
        }
    }
}
