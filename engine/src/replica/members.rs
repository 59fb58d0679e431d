//! Changes of the members of a replica's group.
//!
//! ```text
//!   asked ──> waits ──────────────> proposed ──> applied ──────────────> answered
//!               until its learners                 │  joint               ^
//!               have caught up and a               v                      │
//!               spare voter is left       whoever leads by then proposes to leave it
//! ```
//!
//! One change is under way at a time: the next is proposed when everything before it is applied here. What counts is the
//! committed entry. A joint state is left by whoever leads and will stay a voter, so that no change of leader can leave
//! it behind; a leader that is on its way out lets such a one lead.
//!
//! A replica that is no member any more hears so from one that is, or finds it in its own log. Then it does nothing
//! any more: it is fenced, and its core removes it.

use std::collections::BTreeMap;

use metastore_wal::{LogIndex, Part, PartBody, Position, ReplicaId};
use raft::ProgressState;
use raft::eraftpb::{Entry, EntryType};

use super::{Committed, Replica, Turn, fail_commands, to_log_hard_state};
use crate::effect::Effect;
use crate::ids::Time;
use crate::members::{
    ChangeRefused, ChangeTicket, MemberPart, MemberStatus, MembersChange, MembersEffect,
    MembersStatus, Spare,
};
use crate::membership::{Fate, Member, Membership, MembershipChange, Step};
use crate::peer::{Notice, NoticeKind, PeerCore};
use crate::request::{Happened, RequestError};
use crate::status::Role;

/// A learner follows closely when it lacks no more than so many entries.
const LAG_ENTRIES_MAX: u64 = 1_000;
/// Election timeouts without a leader after which a replica asks whether it is a member still.
const LEADERLESS_ELECTIONS: usize = 3;
/// Homes of replicas that joined later than the members are known here, at most.
const STRANGERS_MAX: usize = 64;

/// A change that was asked for.
#[derive(Debug)]
struct Asked {
    ticket: ChangeTicket,
    change: MembershipChange,
    spare: Spare,
    deadline: Time,
    progress: AskedProgress,
}

#[derive(Debug, PartialEq, Eq)]
enum AskedProgress {
    /// Until it can be proposed: for what, when it was last looked at.
    Waiting(ChangeRefused),
    /// Until its entry is applied.
    Proposed { index: u64, term: u64 },
    /// Until the joint state is left.
    Leaving,
}

/// What a leader knows of another member.
#[derive(Debug, Clone, Copy)]
struct Watched {
    heard_at: Time,
    /// Since when it follows closely.
    close_since: Option<Time>,
}

/// Whether a replica takes part in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Life {
    /// It does, or waits to join.
    #[default]
    Lives,
    /// It has learned that it is no member any more.
    Removed,
    /// It does nothing any more.
    Fenced,
}

/// What a replica knows of changes of its group's members.
#[derive(Debug, Default)]
pub(super) struct Changes {
    asked: Option<Asked>,
    /// As the leader.
    watched: BTreeMap<ReplicaId, Watched>,
    /// Where replicas live that joined later than the members are known here.
    strangers: BTreeMap<ReplicaId, PeerCore>,
    life: Life,
    /// Something has changed that raft may have to say something about.
    wants_turn: bool,
}

impl Replica {
    pub(super) fn membership(&self) -> &Membership {
        self.node.store().members()
    }

    /// Whether it does nothing any more, and is to be removed.
    pub(crate) fn is_fenced(&self) -> bool {
        self.changes.life == Life::Fenced
    }

    /// Whether its shard depends on it: it is neither about to join nor to go.
    pub(crate) fn is_member(&self) -> bool {
        self.changes.life == Life::Lives && !self.membership().is_unknown()
    }

    pub(super) fn take_wants_turn(&mut self) -> bool {
        std::mem::take(&mut self.changes.wants_turn)
    }

    // ---- What is asked for ----

    /// Takes a change; says why not, when that is known at once.
    pub(crate) fn ask_for_change(
        &mut self,
        ticket: ChangeTicket,
        change: &MembersChange,
        deadline: Time,
    ) -> Result<(), ChangeRefused> {
        if self.role != Role::Leader || self.changes.life != Life::Lives {
            let leader = self.leader_home();
            return Err(ChangeRefused::NotLeader { leader });
        }
        let members = self.membership();
        if self.changes.asked.is_some() || members.is_joint() {
            return Err(ChangeRefused::InProgress);
        }
        let (change, spare) = to_log_change(members, change)?;
        members.after(&change)?;
        self.changes.asked = Some(Asked {
            ticket,
            change,
            spare,
            deadline,
            progress: AskedProgress::Waiting(ChangeRefused::Busy),
        });
        Ok(())
    }

    /// Brings changes forward: proposes the one that was asked for once it can be made, and leaves a joint state.
    pub(super) fn drive_changes(&mut self, turn: &mut Turn<'_>) {
        let is_joint = self.membership().is_joint();
        if (self.changes.asked.is_none() && !is_joint) || !self.is_serving() {
            return;
        }
        if self.node.raft.has_pending_conf() || self.node.raft.lead_transferee.is_some() {
            return;
        }
        if is_joint {
            self.leave_joint();
            return;
        }
        let Some(mut asked) = self.changes.asked.take() else {
            return;
        };
        if let AskedProgress::Waiting(_) = asked.progress {
            asked.progress = match self.why_not_yet(turn.now, &asked) {
                Some(why) => AskedProgress::Waiting(why),
                None => self.propose_change(&asked.change),
            };
        }
        self.changes.asked = Some(asked);
    }

    fn propose_change(&mut self, change: &MembershipChange) -> AskedProgress {
        let context = change.encode().to_vec();
        let proposed = self.node.propose_conf_change(context, change.to_raft());
        match proposed {
            Ok(()) => AskedProgress::Proposed {
                index: self.node.raft.raft_log.last_index(),
                term: self.node.raft.term,
            },
            Err(_dropped) => AskedProgress::Waiting(ChangeRefused::Busy),
        }
    }

    fn leave_joint(&mut self) {
        if self.membership().is_voter(self.id) {
            // One that is dropped is proposed again: the state is joint still.
            let _ = self.propose_change(&MembershipChange::leave());
        } else {
            self.hand_over(None);
        }
    }

    /// What a change waits for.
    fn why_not_yet(&self, now: Time, asked: &Asked) -> Option<ChangeRefused> {
        let promoted = asked
            .change
            .fates
            .iter()
            .filter(|(_, fate)| *fate == Fate::Vote);
        for &(Member { replica, .. }, _) in promoted {
            if let Some(why) = self.why_behind(now, replica) {
                return Some(why);
            }
        }
        let after = match self.membership().after(&asked.change) {
            Ok(after) => after,
            Err(bad) => return Some(bad.into()),
        };
        if asked.change.step == Step::AtOnce {
            return None;
        }
        let voters = after.conf_state().get_voters();
        let healthy = voters
            .iter()
            .filter(|&&id| self.is_healthy(now, ReplicaId(id)))
            .count();
        let quorum = voters.len() / 2 + 1;
        let needed = match asked.spare {
            Spare::Kept => quorum + 1,
            Spare::GivenUp => quorum,
        };
        (healthy < needed).then_some(ChangeRefused::NoSpare { healthy, needed })
    }

    /// Why a learner may not vote yet: it must hold everything that is committed, and have followed closely for an
    /// election timeout.
    fn why_behind(&self, now: Time, replica: ReplicaId) -> Option<ChangeRefused> {
        let raft_log = &self.node.raft.raft_log;
        let matched = self.node.raft.prs().get(replica.0)?.matched;
        let watched = self.changes.watched.get(&replica);
        let since = watched.and_then(|watched| watched.close_since);
        let is_settled = since.is_some_and(|since| now.millis_since(since) >= self.election_ms);
        let is_close = matched >= raft_log.committed && is_settled && self.is_healthy(now, replica);
        (!is_close).then_some(ChangeRefused::Behind {
            replica,
            matched: LogIndex(matched),
            last: LogIndex(raft_log.last_index()),
        })
    }

    /// Whether a member is this replica, or was heard of within an election timeout.
    fn is_healthy(&self, now: Time, replica: ReplicaId) -> bool {
        let watched = self.changes.watched.get(&replica);
        replica == self.id
            || watched.is_some_and(|watched| now.millis_since(watched.heard_at) <= self.election_ms)
    }

    // ---- Time ----

    /// Looks, as the leader, how the others follow.
    pub(super) fn watch_members(&mut self, now: Time) {
        if self.role != Role::Leader {
            return;
        }
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        let watched = &mut self.changes.watched;
        for &Member { replica, .. } in self.node.store().members().members() {
            let Some(progress) = raft.prs().get(replica.0) else {
                continue;
            };
            // One that has everything is probed until there is more.
            let is_close = progress.state != ProgressState::Snapshot
                && progress.matched + LAG_ENTRIES_MAX >= last;
            if progress.recent_active {
                let seen = watched.entry(replica).or_insert(Watched {
                    heard_at: now,
                    close_since: None,
                });
                seen.heard_at = now;
            }
            if let Some(seen) = watched.get_mut(&replica) {
                seen.close_since = is_close.then(|| seen.close_since.unwrap_or(now));
            }
        }
    }

    /// Refuses a change whose time has passed.
    pub(super) fn expire_change(&mut self, turn: &mut Turn<'_>) {
        let is_over = |asked: &mut Asked| asked.deadline <= turn.now;
        if let Some(asked) = self.changes.asked.take_if(is_over) {
            refuse(turn, asked);
        }
    }

    /// Asks the others whether it is a member still, when it has not heard of a leader for long: whoever was removed
    /// while it was away is told by nobody. One that votes need not ask: it is told when it asks for votes.
    pub(super) fn ask_whether_member(&mut self, turn: &mut Turn<'_>) {
        let raft = &self.node.raft;
        let patience_ticks = LEADERLESS_ELECTIONS * turn.settings.raft.election_ticks;
        // raft counts the ticks since a leader was heard of.
        let is_time =
            raft.election_elapsed > 0 && raft.election_elapsed.is_multiple_of(patience_ticks);
        if raft.promotable() || !is_time {
            return;
        }
        let strangers = self.changes.strangers.iter();
        let strangers = strangers.map(|(&replica, &home)| Member { replica, home });
        let others: Vec<Member> = self
            .membership()
            .members()
            .iter()
            .copied()
            .chain(strangers)
            .collect();
        for other in others {
            if other.replica != self.id {
                self.send_notice(turn, other, NoticeKind::Question);
            }
        }
    }

    fn send_notice(&self, turn: &mut Turn<'_>, to: Member, kind: NoticeKind) {
        let notice = self.notice_to(to.replica, kind);
        turn.peers.push_notice(to.home, &notice, turn.out);
    }

    /// What it has to tell another replica of its shard about its membership.
    pub(crate) fn notice_to(&self, to: ReplicaId, kind: NoticeKind) -> Notice {
        Notice {
            kind,
            shard: self.shard,
            from: self.id,
            to,
            term: self.term(),
        }
    }

    // ---- Who speaks ----

    /// Where a replica lives, a member or one that joined later than the members are known here.
    pub(super) fn home_of(&self, replica: ReplicaId) -> Option<PeerCore> {
        let stranger = || self.changes.strangers.get(&replica).copied();
        self.membership().home_of(replica).or_else(stranger)
    }

    /// Remembers where a replica lives that is newer than the members known here.
    pub(super) fn meet(&mut self, stranger: Member) {
        let strangers = &mut self.changes.strangers;
        strangers.insert(stranger.replica, stranger.home);
        if strangers.len() > STRANGERS_MAX {
            strangers.pop_first();
        }
    }

    /// A member says that this replica is none.
    pub(crate) fn on_removed(&mut self) {
        if self.changes.life == Life::Lives {
            slog::info!(self.logger, "told that it is no member any more"; "replica" => self.id.0);
            self.changes.life = Life::Removed;
        }
    }

    /// A replica that never became a member goes; `false` when it is one, or may be.
    pub(crate) fn discard(&mut self) -> bool {
        let is_waiting = self.membership().is_unknown() && self.installing.is_none();
        if is_waiting {
            self.on_removed();
        }
        is_waiting || self.changes.life != Life::Lives
    }

    // ---- What is committed ----

    /// Applies a committed change: from here on other quorums decide.
    pub(super) fn apply_change(
        &mut self,
        turn: &mut Turn<'_>,
        entry: &Entry,
    ) -> Result<(), String> {
        let change = MembershipChange::decode(&entry.context).map_err(|bad| bad.to_string())?;
        let before = self.membership().clone();
        let after = before.after(&change).map_err(|bad| bad.to_string())?;
        let applied = self.node.apply_conf_change(&change.to_raft());
        let mut state = applied.map_err(|refused| refused.to_string())?;
        for ids in [
            &mut state.voters,
            &mut state.voters_outgoing,
            &mut state.learners,
            &mut state.learners_next,
        ] {
            ids.sort_unstable();
        }
        assert_eq!(&state, after.conf_state(), "raft comes to the same members");
        self.node.mut_store().set_members(after);
        self.changes.wants_turn = true;
        if self.role == Role::Leader {
            self.tell_removed(turn, &before);
        }
        self.forget_strangers();
        if self.membership().home_of(self.id).is_none() {
            self.on_own_removal();
        }
        self.answer_change(turn, &change, entry);
        Ok(())
    }

    /// A snapshot has brought other members.
    pub(super) fn forget_strangers(&mut self) {
        let newest = self.membership().newest();
        self.changes
            .strangers
            .retain(|&replica, _| replica > newest);
        let members = self.node.store().members();
        let is_member = |replica: &ReplicaId| members.home_of(*replica).is_some();
        self.changes.watched.retain(|replica, _| is_member(replica));
    }

    /// The leader tells those who are gone: nothing else reaches them from here on.
    fn tell_removed(&self, turn: &mut Turn<'_>, before: &Membership) {
        for &member in before.members() {
            let is_gone = self.membership().home_of(member.replica).is_none();
            if is_gone && member.replica != self.id {
                self.send_notice(turn, member, NoticeKind::Removed);
            }
        }
    }

    /// Its own log says that it is no member any more. raft must not lead for a moment longer: it looks for itself among
    /// the members, and stops the process where it is not.
    fn on_own_removal(&mut self) {
        slog::info!(self.logger, "removed from its group"; "replica" => self.id.0);
        self.changes.life = Life::Removed;
        if self.role == Role::Leader {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
        }
    }

    /// At a start: the log may say that it is no member any more.
    pub(super) fn find_own_removal(&mut self) {
        let members = self.membership();
        if !members.is_unknown() && members.home_of(self.id).is_none() {
            self.on_own_removal();
        }
    }

    /// The entry of a change is applied.
    fn answer_change(&mut self, turn: &mut Turn<'_>, change: &MembershipChange, entry: &Entry) {
        let Some(mut asked) = self.changes.asked.take() else {
            return;
        };
        let proposed = AskedProgress::Proposed {
            index: entry.index,
            term: entry.term,
        };
        let is_done = match asked.progress {
            AskedProgress::Leaving => change.step == Step::LeaveJoint,
            AskedProgress::Waiting(_) | AskedProgress::Proposed { .. }
                if asked.progress != proposed =>
            {
                false
            }
            AskedProgress::Waiting(_) | AskedProgress::Proposed { .. } => {
                assert_eq!(*change, asked.change, "it is the one that was proposed");
                asked.progress = AskedProgress::Leaving;
                change.step == Step::AtOnce
            }
        };
        if is_done {
            answer(turn, asked.ticket, Ok(LogIndex(entry.index)));
        } else {
            self.changes.asked = Some(asked);
        }
    }

    /// Another entry stands where a change was proposed: raft, or another leader, has put it in its place.
    pub(super) fn check_rejected(&mut self, turn: &mut Turn<'_>, entry: &Entry) {
        let is_in_place = |asked: &mut Asked| match asked.progress {
            AskedProgress::Proposed { index, .. } => index == entry.index,
            AskedProgress::Waiting(_) | AskedProgress::Leaving => false,
        };
        if entry.get_entry_type() == EntryType::EntryNormal
            && let Some(asked) = self.changes.asked.take_if(is_in_place)
        {
            answer(turn, asked.ticket, Err(ChangeRefused::Rejected));
        }
    }

    /// It leads no more: who asked for a change has to ask the next leader.
    pub(super) fn on_lead_lost(&mut self, turn: &mut Turn<'_>) {
        self.changes.watched.clear();
        if let Some(mut asked) = self.changes.asked.take() {
            if let AskedProgress::Waiting(why) = &mut asked.progress {
                let leader = self.leader_home();
                *why = ChangeRefused::NotLeader { leader };
            }
            refuse(turn, asked);
        }
    }

    // ---- The end ----

    /// Does nothing any more, once nothing is being installed; `false` when it goes on.
    pub(super) fn fence_if_removed(&mut self, turn: &mut Turn<'_>) -> bool {
        match self.changes.life {
            Life::Lives => return false,
            Life::Fenced => return true,
            Life::Removed if self.installing.is_some() => return false,
            Life::Removed => {}
        }
        self.on_lead_lost(turn);
        let not_leader = self.not_leader();
        let pending = self.open.abandon();
        fail_commands(pending, &not_leader, turn);
        let unknown = RequestError::Unavailable {
            shard: self.shard,
            happened: Happened::Unknown,
        };
        for lost in self.proposals.take_from(0) {
            fail_commands(lost.pending, &unknown, turn);
        }
        self.reads.fail_all(&not_leader, turn.answers, turn.out);
        self.parts.fail_all(turn.answers);
        self.committed = Committed::default();
        self.outbox.clear();
        self.served.clear();
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, 0);
        self.role = Role::Follower;
        self.serving_term = None;
        self.changes.life = Life::Fenced;
        true
    }

    /// Whether nothing of it is under way, as far as it knows itself.
    pub(crate) fn is_settled(&self) -> bool {
        self.unpersisted.is_empty() && self.reading.is_none() && self.exporting.is_none()
    }

    /// Says nothing before what is staged at `position` is durable.
    pub(crate) fn wait_for(&mut self, position: Position) {
        self.outbox.on_promise(position);
    }

    /// Says in the log that it is gone for good.
    pub(crate) fn stage_tombstone(&self, log: &mut metastore_wal::Log) -> Position {
        log.stage(Part {
            replica: self.id,
            shard: self.shard,
            hard_state: to_log_hard_state(self.node.store().hard_state()),
            body: PartBody::Tombstone,
        })
    }

    // ---- What it reports ----

    pub(super) fn members_status(&self) -> MembersStatus {
        let members = self.membership();
        let state = members.conf_state();
        let count = |ids: &[u64]| u32::try_from(ids.len()).expect("a shard has few members");
        MembersStatus {
            voters: count(state.get_voters()),
            outgoing: count(state.get_voters_outgoing()),
            learners: count(state.get_learners()),
            newest: members.newest(),
        }
    }

    /// How every member stands, as far as it knows.
    pub(crate) fn members(&self, now: Time) -> Vec<MemberStatus> {
        let members = self.membership();
        let is_outgoing = |replica: ReplicaId| {
            let outgoing = members.conf_state().get_voters_outgoing();
            outgoing.contains(&replica.0)
        };
        let status_of = |&member: &Member| {
            let replica = member.replica;
            let part = match (members.is_voter(replica), is_outgoing(replica)) {
                (true, false) if members.is_joint() => MemberPart::Incoming,
                (true, _) => MemberPart::Voter,
                (false, true) => MemberPart::Outgoing,
                (false, false) => MemberPart::Learner,
            };
            let leads = self.role == Role::Leader;
            let progress = self.node.raft.prs().get(replica.0).filter(|_| leads);
            MemberStatus {
                member,
                part,
                matched: progress.map(|progress| LogIndex(progress.matched)),
                is_healthy: leads.then(|| self.is_healthy(now, replica)),
            }
        };
        members.members().iter().map(status_of).collect()
    }
}

/// The change as it stands in the log.
fn to_log_change(
    members: &Membership,
    change: &MembersChange,
) -> Result<(MembershipChange, Spare), ChangeRefused> {
    let member = |replica: ReplicaId| {
        // One that lives nowhere is refused with the change.
        let home = members.home_of(replica).unwrap_or(PeerCore::NOWHERE);
        Member { replica, home }
    };
    Ok(match change {
        MembersChange::AddLearner(learner) => {
            if let Some(replica) = members.living_on(learner.home).next() {
                return Err(ChangeRefused::HomeTaken { replica });
            }
            let change = MembershipChange {
                step: Step::AtOnce,
                fates: vec![(*learner, Fate::Learn)],
            };
            (change, Spare::Kept)
        }
        MembersChange::RemoveLearner(replica) => {
            let change = MembershipChange {
                step: Step::AtOnce,
                fates: vec![(member(*replica), Fate::Remove)],
            };
            (change, Spare::Kept)
        }
        MembersChange::ChangeVoters {
            promote,
            remove,
            spare,
        } => {
            let promoted = promote.iter().map(|&id| (member(id), Fate::Vote));
            let removed = remove.iter().map(|&id| (member(id), Fate::Remove));
            let change = MembershipChange {
                step: Step::EnterJoint,
                fates: promoted.chain(removed).collect(),
            };
            (change, *spare)
        }
    })
}

/// Tells why a change is not made, or that nobody knows.
fn refuse(turn: &mut Turn<'_>, asked: Asked) {
    let why = match asked.progress {
        AskedProgress::Waiting(why) => why,
        AskedProgress::Proposed { .. } | AskedProgress::Leaving => ChangeRefused::Lost {
            happened: Happened::Unknown,
        },
    };
    answer(turn, asked.ticket, Err(why));
}

fn answer(turn: &mut Turn<'_>, ticket: ChangeTicket, result: Result<LogIndex, ChangeRefused>) {
    let changed = MembersEffect::Changed { ticket, result };
    turn.out.queue.push(Effect::Members(changed));
}
