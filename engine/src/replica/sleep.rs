//! Groups that have nothing to do fall asleep: they are not ticked and say nothing, however many they are.
//!
//! ```text
//!             nothing to do for some ticks          all who are there sleep
//!   awake ----------------------------> inviting --------------------------> asleep     a leader
//!     ^ <--------------------------------- | <---------------------------------- |
//!               something to do, any message but that a follower sleeps, a member's core comes or goes
//!
//!             the leader invites, and nothing is missing or waits here
//!   awake ------------------------------------------------------------> asleep          a follower
//!     ^ <--------------------------------------------------------------- |
//!               any message but an invitation, a read, silence of the leader's core
//! ```
//!
//! Sleep takes away ticks and nothing else, and raft is right without ticks: what it needs them for is to notice that a
//! leader is gone. While a follower sleeps its leader's core vouches for the leader, once for all shards
//! ([`Neighbours`]). Its word is counted like heartbeats of the group: at the waking the election timer stands where
//! it would stand had each of them been a heartbeat.
//!
//! A core that is there may have a replica that does not lead any more. Such a replica is awake, as every replica is
//! that has just become something else; it campaigns, or follows somebody who lets it sleep. Whoever campaigns or leads
//! speaks to all members, and that wakes them. A follower that is awake and hears nothing wakes its leader.

use metastore_wal::ReplicaId;
use raft::eraftpb::{Message, MessageType};

use super::peers::Ignored;
use super::{Replica, Turn};
use crate::core::Neighbours;
use crate::peer::{Aside, BeatRecord, PeerCore};
use crate::status::Role;

/// Heartbeats that a follower misses before it reminds its leader that it is awake.
const HEARTBEATS_MISSED: usize = 2;

/// How far a replica has come on its way to sleep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Rest {
    #[default]
    Awake,
    /// A leader whose heartbeats invite to sleep.
    Inviting,
    Asleep,
}

/// What keeps a replica awake, or not.
#[derive(Debug, Default)]
pub(super) struct Sleep {
    rest: Rest,
    /// Ticks in a row at which a leader had nothing to do.
    idle_ticks: u32,
    /// Followers that have fallen asleep since they were invited.
    sleepers: Vec<ReplicaId>,
    /// The leader is to learn that this follower is awake.
    must_remind: bool,
}

impl Replica {
    /// Whether time need not pass for it.
    pub(crate) fn is_asleep(&self) -> bool {
        self.sleep.rest == Rest::Asleep
    }

    /// Whether it sleeps as a follower does, who hears of its group from others alone.
    pub(crate) fn is_asleep_following(&self) -> bool {
        self.is_asleep() && self.role == Role::Follower
    }

    /// There is something to do, or will be.
    pub(crate) fn wake(&mut self) {
        self.sleep.rest = Rest::Awake;
        self.sleep.idle_ticks = 0;
        self.sleep.sleepers.clear();
    }

    /// What its heartbeats and answers say beyond raft's words.
    pub(super) fn aside(&self, kind: MessageType) -> Aside {
        match (self.sleep.rest, kind) {
            (Rest::Inviting, MessageType::MsgHeartbeat)
            | (Rest::Asleep, MessageType::MsgHeartbeatResponse) => Aside::Sleep,
            _ => Aside::Nothing,
        }
    }

    // ---- Messages ----

    /// Takes a heartbeat or an answer out of a beat, whose ends were checked.
    pub(crate) fn on_record(
        &mut self,
        record: BeatRecord,
        neighbours: &Neighbours,
    ) -> Result<(), Ignored> {
        match (record.kind, record.aside) {
            (MessageType::MsgHeartbeat, Aside::Sleep) => {
                self.step(record.to_raft())?;
                self.on_invitation(&record, neighbours);
            }
            (MessageType::MsgHeartbeatResponse, Aside::Sleep) => {
                self.step(record.to_raft())?;
                self.on_sleeper(record.from, neighbours);
            }
            (MessageType::MsgHeartbeatResponse, aside) => {
                self.step(record.to_raft())?;
                self.on_waking(record.from);
                if aside == Aside::Lead {
                    self.on_claim(record.from);
                }
            }
            (_, _) => self.on_peer_message(record.to_raft())?,
        }
        Ok(())
    }

    /// A message came that is no part of falling asleep. A leader that speaks knows that it is awake; anybody else
    /// leaves it asleep.
    pub(super) fn wake_for_message(&mut self, from: u64) {
        let is_leader = self.node.raft.leader_id == from;
        self.sleep.must_remind |= self.is_asleep() && !is_leader && self.role == Role::Follower;
        self.wake();
    }

    /// The leader lets the group sleep.
    fn on_invitation(&mut self, heartbeat: &BeatRecord, neighbours: &Neighbours) {
        let raft = &self.node.raft;
        let follows = self.role == Role::Follower
            && raft.leader_id == heartbeat.from.0
            && raft.term == heartbeat.term;
        if follows && self.is_there(heartbeat.from.0, neighbours) && self.has_nothing_to_do() {
            self.sleep.rest = Rest::Asleep;
            self.sleep.must_remind = false;
        } else {
            self.wake();
        }
    }

    /// A follower sleeps, or slept when it said so.
    fn on_sleeper(&mut self, from: ReplicaId, neighbours: &Neighbours) {
        if self.sleep.rest == Rest::Inviting {
            if !self.sleep.sleepers.contains(&from) {
                self.sleep.sleepers.push(from);
            }
            self.fall_asleep_with_others(neighbours);
        }
    }

    /// A follower is awake, as most are that answer a heartbeat.
    fn on_waking(&mut self, from: ReplicaId) {
        match self.sleep.rest {
            Rest::Awake => {}
            Rest::Inviting => self.sleep.sleepers.retain(|&sleeper| sleeper != from),
            Rest::Asleep => self.wake_for_message(from.0),
        }
    }

    // ---- Conditions ----

    /// Whether everything that it knows of is done, here and in its log.
    fn has_nothing_to_do(&self) -> bool {
        let log = &self.node.raft.raft_log;
        let last = log.last_index();
        self.is_quiet()
            && self.outbox.is_empty()
            && self.committed.entries.is_empty()
            && !self.serves_snapshots()
            && self.claim.is_none()
            && !self.is_changing()
            && (log.committed, log.applied(), log.persisted) == (last, last, last)
    }

    /// Whether its leader has nothing to do and no member that is there lacks anything.
    fn may_invite(&self, neighbours: &Neighbours) -> bool {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        let mut members = raft.prs().iter();
        self.is_serving()
            && raft.lead_transferee.is_none()
            && !raft.has_pending_conf()
            && !self.membership().is_joint()
            // Whoever learns is to vote, and when is a question of time.
            && !self.has_learners()
            && self.has_nothing_to_do()
            && members
                .all(|(&id, progress)| progress.matched == last || !self.is_there(id, neighbours))
    }

    fn has_learners(&self) -> bool {
        let members = self.node.store().members();
        !members.conf_state().get_learners().is_empty()
    }

    /// Falls asleep if all members do that are there, and those are enough to lead.
    fn fall_asleep_with_others(&mut self, neighbours: &Neighbours) {
        let sleeps = |id: u64| id == self.id.0 || self.sleep.sleepers.contains(&ReplicaId(id));
        let mut members = self.node.raft.prs().iter();
        let all_sleep = members.all(|(&id, _)| sleeps(id) || !self.is_there(id, neighbours));
        let members = self.node.raft.prs().iter().map(|(&id, _)| id);
        let sleepers = members.filter(|&id| sleeps(id)).collect();
        if all_sleep && self.node.raft.prs().has_quorum(&sleepers) {
            self.sleep.rest = Rest::Asleep;
        }
    }

    fn is_there(&self, member: u64, neighbours: &Neighbours) -> bool {
        let home = self.node.store().members().home_of(ReplicaId(member));
        home.is_some_and(|home| neighbours.is_alive(home))
    }

    /// Wakes where something has begun without anybody saying so.
    pub(super) fn wake_if_busy(&mut self) {
        if self.is_asleep() && !self.has_nothing_to_do() {
            self.wake();
        }
    }

    // ---- Time ----

    /// A tick of a replica that is awake: a leader counts how long it has had nothing to do, a follower reminds a leader
    /// that sleeps while it does not.
    pub(super) fn on_tick_awake(&mut self, turn: &mut Turn<'_>) {
        let Some(sleep_ticks) = turn.settings.raft.idle.sleep_ticks else {
            return;
        };
        match self.role {
            Role::Leader if self.may_invite(turn.neighbours) => {
                self.sleep.idle_ticks = self.sleep.idle_ticks.saturating_add(1);
                if self.sleep.idle_ticks >= sleep_ticks {
                    self.sleep.rest = Rest::Inviting;
                    // Without others nobody has to be invited.
                    self.fall_asleep_with_others(turn.neighbours);
                }
            }
            Role::Leader | Role::Candidate => self.wake(),
            Role::Follower => {
                let silent = self.node.raft.election_elapsed;
                let is_there = self
                    .leader_home()
                    .is_some_and(|home| turn.neighbours.is_alive(home));
                let patience = HEARTBEATS_MISSED * turn.settings.raft.heartbeat_ticks;
                self.sleep.must_remind |= is_there && silent > patience && silent % 2 == 1;
            }
        }
    }

    /// Says to its leader that it is awake, or that it would be the better leader: as an answer to a heartbeat that
    /// did not come, which is harmless wherever it arrives.
    pub(super) fn speak_unasked(&mut self, turn: &mut Turn<'_>) {
        if self.role == Role::Leader {
            return;
        }
        let must_remind = std::mem::take(&mut self.sleep.must_remind);
        let must_claim = self.takes_claim();
        let raft = &self.node.raft;
        if !(must_remind || must_claim) || self.role != Role::Follower || raft.leader_id == 0 {
            return;
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgHeartbeatResponse);
        (message.from, message.to) = (self.id.0, raft.leader_id);
        (message.term, message.commit) = (raft.term, raft.raft_log.committed);
        let durable = turn.log.durable_position();
        let held = self.outbox.hold(message, self.unpersisted.iter(), durable);
        let aside = match must_claim {
            true => Aside::Lead,
            false => Aside::Nothing,
        };
        if let (Some(message), Some(home)) = (held, self.leader_home()) {
            turn.peers
                .push_with(home, self.shard, &message, aside, turn.out);
        }
    }

    // ---- Neighbours ----

    /// Where the others of its group live.
    pub(crate) fn homes(&self) -> impl Iterator<Item = PeerCore> {
        let members = self.node.store().members();
        members.homes_of_others(self.id)
    }

    /// A core of another node came or went. It concerns a leader with a member there.
    pub(crate) fn on_member_changed(&mut self, core: PeerCore) {
        let members = self.node.store().members();
        let has_member = members.living_on(core).next().is_some();
        if self.role == Role::Leader && has_member {
            self.wake();
        }
    }

    /// The core of its leader was not heard for so many ticks.
    pub(crate) fn on_leader_silent(&mut self, core: PeerCore, silent_ticks: u32) {
        if !self.is_asleep() || self.role == Role::Leader || self.leader_home() != Some(core) {
            return;
        }
        self.wake();
        self.node.raft.election_elapsed = silent_ticks as usize;
    }

    /// Somebody asks for its vote in a newer term, who did not hear of its leader for as long as that takes, and the
    /// leader's process seems to be dead from here too: then the vote is not refused for the leader's sake.
    pub(crate) fn give_up_dead_leader(&mut self, message: &Message, neighbours: &Neighbours) {
        let asks_for_vote = matches!(
            message.get_msg_type(),
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
        );
        let raft = &self.node.raft;
        let is_newer = message.term > raft.term && message.from != raft.leader_id;
        if asks_for_vote
            && is_newer
            && let Some(leader) = self.leader_home()
            && neighbours.seems_dead(leader)
        {
            self.on_leader_gone(leader);
        }
    }

    /// The process of its leader has ended. Each survivor forgets it, and those who could lead ask for votes one after
    /// the other, so that they do not split them.
    pub(crate) fn on_leader_gone(&mut self, core: PeerCore) {
        let leader = ReplicaId(self.node.raft.leader_id);
        if self.role != Role::Follower || self.leader_home() != Some(core) {
            return;
        }
        self.wake();
        let voters = self.node.store().members().conf_state().get_voters();
        let survivors = voters.iter().filter(|&&id| id != leader.0);
        let Some(rank) = survivors.into_iter().position(|&id| id == self.id.0) else {
            return;
        };
        let raft = &mut self.node.raft;
        let term = raft.term;
        raft.become_follower(term, raft::INVALID_ID);
        self.seed_election_timeout();
        let raft = &mut self.node.raft;
        // The first at the next tick, and the others when it should have won.
        let left_ticks = 1 + STAGGER_TICKS * rank;
        raft.election_elapsed = raft
            .randomized_election_timeout()
            .saturating_sub(left_ticks);
    }
}

/// Ticks that one survivor of a leader leaves to the one before it.
const STAGGER_TICKS: usize = 2;
