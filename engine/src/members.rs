//! Changes of members as they cross the border of the core: what is asked for, and what becomes of it.
//!
//! ```text
//!   a dead replica 3 is replaced by replica 4 on another node
//!
//!   1 Create {4}                          on the node that joins      ->  Created
//!   2 Change {AddLearner(4)}              on the leader               ->  Changed: 4 fetches a snapshot and follows
//!   3 Change {ChangeVoters(+4, -3)}       on the leader               ->  Changed, once 4 has caught up and nobody asks
//!                                                                         3 any more: a joint state lay between
//!   4 Unlist {3}, then Removed {3}        on the node that replica 3 lived on, once it hears of it
//! ```
//!
//! It does **not** choose who replaces whom, and gives no ids: whoever asks does, with ids that were never used before.

use metastore_wal::{LogIndex, ReplicaId, ShardId};
use thiserror::Error;

pub use crate::membership::BadChange;
use crate::membership::Member;
use crate::peer::PeerCore;
use crate::request::Happened;

/// Names one change that was asked for, from there to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeTicket(pub u64);

/// What is to become of the members of a shard. One change is under way at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembersChange {
    /// A replica joins and learns. Its id is newer than those of all members before it.
    AddLearner(Member),
    /// A replica that only learns is removed.
    RemoveLearner(ReplicaId),
    /// Learners begin to vote and members are removed, in one joint change, which is answered when it is over.
    ChangeVoters {
        /// Those that begin to vote. It waits until they have caught up.
        promote: Vec<ReplicaId>,
        /// Those that are removed.
        remove: Vec<ReplicaId>,
        /// Whether a voter must be left that can fail.
        spare: Spare,
    },
}

/// Whether a quorum must be left without one of the voters that are healthy now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spare {
    /// It must: else the next failure ends the service of the shard.
    Kept,
    /// It need not, as where a shard is to have one voter.
    GivenUp,
}

/// What a driver tells a core about members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembersInput {
    /// The leader of a shard is to change its members; answered with [`MembersEffect::Changed`].
    Change {
        /// Comes back with the answer.
        ticket: ChangeTicket,
        /// The shard.
        shard: ShardId,
        /// What is to become of them.
        change: MembersChange,
        /// How long the change may wait until it can be made, and then until it is.
        deadline_ms: u32,
    },
    /// A replica is to live here from now on, empty until the leader of its shard has it join; answered with
    /// [`MembersEffect::Created`] once it is durable. Whoever did not hear the answer may ask again.
    Create {
        /// The replica. Its id was never used before.
        replica: ReplicaId,
        /// Its shard, of which no other replica lives here.
        shard: ShardId,
    },
    /// A replica that was created here and never became a member is not wanted any more. Whoever is a member stays.
    Discard {
        /// The replica.
        replica: ReplicaId,
    },
    /// Whoever keeps the map of shards knows from a leader, whose newest change is
    /// [settled](MembersStatus::is_settled), that a replica is no member any more. It goes, as if a member had told it:
    /// all those that it knows may be gone themselves.
    Removed {
        /// The replica.
        replica: ReplicaId,
    },
    /// What [`MembersEffect::Unlist`] asked for is durable.
    Unlisted {
        /// The replica.
        replica: ReplicaId,
    },
}

/// What a core tells its driver about members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembersEffect {
    /// A change is made, or is not.
    Changed {
        /// Of [`MembersInput::Change`].
        ticket: ChangeTicket,
        /// The index of the entry that completed it.
        result: Result<LogIndex, ChangeRefused>,
    },
    /// A replica is durable in the log of this core, or was not created.
    Created {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
        /// Why not.
        result: Result<(), CreateRefused>,
    },
    /// A replica is no member any more, and its data is to go. Where [`CoreConfig::replicas`](crate::CoreConfig::replicas)
    /// of the next start would name it, take it out durably; then answer with [`MembersInput::Unlisted`]. It may be said
    /// again after a start.
    Unlist {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
    },
    /// Nothing is left of a replica, in the log or beside it.
    Removed {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
    },
}

/// Why members are not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeRefused {
    /// Another replica leads, or none.
    #[error("the leader of the shard is not here")]
    NotLeader {
        /// Where it lives, as far as it is known.
        leader: Option<PeerCore>,
    },
    /// Another change is under way.
    #[error("another change of the members is under way")]
    InProgress,
    /// The members do not allow it.
    #[error("the members cannot be changed like that: {0}")]
    Impossible(#[from] BadChange),
    /// A member of the shard lives where the new one is to live.
    #[error("replica {replica} of the shard lives there")]
    HomeTaken {
        /// That member.
        replica: ReplicaId,
    },
    /// A learner that is to vote has not caught up in time.
    #[error("replica {replica} has not caught up: it holds entries up to {matched} of {last}")]
    Behind {
        /// The learner.
        replica: ReplicaId,
        /// Up to where it holds the log.
        matched: LogIndex,
        /// Where the log ends.
        last: LogIndex,
    },
    /// Too few voters would be healthy.
    #[error(
        "{healthy} of the voters after it are healthy, {needed} must be for the next failure to be survived"
    )]
    NoSpare {
        /// How many are healthy, as far as the leader knows.
        healthy: usize,
        /// How many must be.
        needed: usize,
    },
    /// The leader does not take it at present: it is about to begin or to hand over.
    #[error("the leader takes no change at present")]
    Busy,
    /// It was proposed, and came to nothing.
    #[error("an earlier change came before it")]
    Rejected,
    /// The lead or the time was lost while it was under way.
    #[error("what became of it is not known here")]
    Lost {
        /// Whether it may still be made.
        happened: Happened,
    },
}

/// Why a replica is not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CreateRefused {
    /// A replica of the shard lives here, or is not yet removed to its end.
    #[error("replica {replica} of the shard is here")]
    ShardIsHere {
        /// That replica.
        replica: ReplicaId,
    },
    /// 0 names no replica.
    #[error("0 names no replica")]
    NoReplica,
    /// A replica of another shard lives here under this id.
    #[error("the id is that of a replica of shard {shard}, which lives here")]
    IdTaken {
        /// That shard.
        shard: ShardId,
    },
    /// The process is to stop.
    #[error("the process is to stop")]
    Draining,
}

/// How a member stands, as its group's leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberStatus {
    /// Who it is and where it lives.
    pub member: Member,
    /// What part it plays in quorums.
    pub part: MemberPart,
    /// Up to where the leader knows it to hold the log; `None` where another leads.
    pub matched: Option<LogIndex>,
    /// Whether the leader has heard of it lately; `None` where another leads.
    pub is_healthy: Option<bool>,
    /// How the leader sends to it; `None` where another leads.
    pub feed: Option<Feed>,
}

/// How a leader sends entries to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// One message at a time: it is not known how far the member's log goes.
    Probe,
    /// One message after the other, without waiting for answers.
    Replicate,
    /// None before the member has the snapshot up to this entry.
    Snapshot {
        /// The last entry that it covers.
        index: LogIndex,
    },
}

/// What part a member plays in the quorums of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberPart {
    /// It votes.
    Voter,
    /// It holds the log and does not vote.
    Learner,
    /// It votes in the half of a joint state that stays, and did not before.
    Incoming,
    /// It votes in the half of a joint state that goes, and will not be left.
    Outgoing,
}

/// How many members a shard has, as a replica knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MembersStatus {
    /// Those that vote; in a joint state in the half that stays.
    pub voters: u32,
    /// Those that vote in the half of a joint state that goes; 0 outside of one.
    pub outgoing: u32,
    /// Those that only learn.
    pub learners: u32,
    /// The newest replica that ever was a member; 0 where the members are not known yet.
    pub newest: ReplicaId,
    /// Whether most of the voters know that the newest change is committed, as far as their leader has heard: until then
    /// a loss may need the members before. Only a leader can say so.
    pub is_settled: bool,
}

impl MembersStatus {
    /// Whether a joint state is to be left.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.outgoing > 0
    }
}
