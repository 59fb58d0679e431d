//! Changes of the members of a replica's group.
//!
//! ```text
//!   asked ──> waits ──────────────> proposed ──> applied ──────────────> most know it ──> answered
//!               until its learners                 │  joint               ^                those who are gone are told
//!               have caught up and a               v                      │
//!               spare voter is left       whoever leads by then proposes to leave it
//! ```
//!
//! One change is under way at a time: the next is proposed when everything before it is applied here. What counts is the
//! committed entry. A joint state is left by whoever leads and will stay a voter, so that no change of leader can leave
//! it behind; a leader that is on its way out lets such a one lead.
//!
//! A change takes effect where it is applied: those who do not know yet that it is committed need a quorum of the members
//! before. So it is over once most of the voters know, and will after a start, and those who are gone go then: whoever is
//! lost from there on, one that knows is left, and tells the others when it asks for their votes. That is so when they hold
//! an entry that the leader proposed after it had applied the change: what the leader calls committed comes with every
//! entry, and into the same record.

use metastore_bugs::{Mutant, is_planted};
use metastore_wal::{LogIndex, ReplicaId};
use raft::eraftpb::{Entry, EntryType};

use super::removal::Life;
use super::{Replica, Turn};
use crate::effect::Effect;
use crate::ids::Time;
use crate::members::{ChangeRefused, ChangeTicket, MembersChange, MembersEffect, Spare};
use crate::membership::{Fate, Member, Membership, MembershipChange, Step};
use crate::peer::{NoticeKind, PeerCore};
use crate::request::Happened;
use crate::status::Role;

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
    /// Until most of the voters know for good that this entry is committed.
    Spreading { index: u64 },
}

/// What a replica knows of changes of its group's members.
#[derive(Debug, Default)]
pub(super) struct Changes {
    asked: Option<Asked>,
    /// Those who are gone, until most of the voters know of it and they are told.
    farewells: Vec<Member>,
    /// The newest change that is applied, and for how many ticks the same leader has led since.
    changed_at: u64,
    ticks_since: u64,
    /// Who holds this entry knows of the newest change; `None` until it is proposed.
    settles_at: Option<u64>,
    /// Something has changed that raft may have to say something about.
    wants_turn: bool,
}

impl Replica {
    pub(super) fn membership(&self) -> &Membership {
        self.node.store().members()
    }

    pub(super) fn take_wants_turn(&mut self) -> bool {
        std::mem::take(&mut self.changes.wants_turn)
    }

    /// Whether a change that was asked for here is not over.
    pub(super) fn is_changing(&self) -> bool {
        let Changes {
            asked,
            farewells,
            settles_at,
            ..
        } = &self.changes;
        asked.is_some()
            || !farewells.is_empty()
            || self.role == Role::Leader && settles_at.is_none()
    }

    /// The members are those of a snapshot: when they last changed is not known.
    pub(super) fn take_members_as_of(&mut self, index: u64) {
        (self.changes.changed_at, self.changes.ticks_since) = (index, 0);
    }

    /// Time has passed.
    pub(super) fn count_since_change(&mut self, ticks: u64) {
        let since = &mut self.changes.ticks_since;
        *since = since.saturating_add(ticks);
    }

    // ---- What is asked for ----

    /// Takes a change; says why not, when that is known at once.
    pub(crate) fn ask_for_change(
        &mut self,
        ticket: ChangeTicket,
        change: &MembersChange,
        deadline: Time,
    ) -> Result<(), ChangeRefused> {
        if self.role != Role::Leader || self.belonging.life != Life::Lives {
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
        if is_planted(Mutant::JointLeftByFirstLeader) && self.changes.asked.is_none() {
            return;
        }
        if self.membership().is_voter(self.id) || is_planted(Mutant::JointLeftByFirstLeader) {
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

    // ---- Who knows of it ----

    /// Lets the others know of the newest change, and ends what most of them know of.
    pub(super) fn end_changes(&mut self, turn: &mut Turn<'_>) {
        // A joint state is to be left first.
        if self.role != Role::Leader || !self.is_changing() || self.membership().is_joint() {
            return;
        }
        if self.changes.settles_at.is_none() && self.is_serving() {
            // One that is dropped is proposed again.
            let proposed = self.node.propose(Vec::new(), Vec::new());
            self.changes.settles_at = proposed.ok().map(|()| self.node.raft.raft_log.last_index());
        }
        if !self.is_change_settled() {
            return;
        }
        for member in std::mem::take(&mut self.changes.farewells) {
            self.send_notice(turn, member, NoticeKind::Removed);
        }
        if let Some(Asked {
            progress: AskedProgress::Spreading { index },
            ticket,
            ..
        }) = self.changes.asked
        {
            self.changes.asked = None;
            answer(turn, ticket, Ok(LogIndex(index)));
        }
    }

    /// It leads from here on, with a first entry of its own: what it had applied before comes with that.
    pub(super) fn on_lead_won(&mut self) {
        self.changes.settles_at = Some(self.node.raft.raft_log.last_index());
    }

    /// Another leads, or the same one in another term.
    pub(super) fn on_new_reign(&mut self) {
        self.changes.ticks_since = 0;
    }

    /// Whether most of those who vote know of the newest change, also after a start.
    pub(super) fn is_change_settled(&self) -> bool {
        let Some(index) = self.changes.settles_at else {
            return false;
        };
        let knows = |id: &&u64| {
            let progress = self.node.raft.prs().get(**id);
            progress.is_some_and(|of| of.matched >= index)
        };
        let state = self.membership().conf_state();
        let mut halves = [state.get_voters(), state.get_voters_outgoing()].into_iter();
        halves.all(|half| half.is_empty() || 2 * half.iter().filter(knows).count() > half.len())
    }

    /// Whether those who are gone may be told so. Who follows one leader for so long after a change, and has applied what
    /// came after it, knows that a quorum has heard of it.
    pub(crate) fn may_tell_removed(&self, election_ticks: usize) -> bool {
        let Changes {
            changed_at,
            ticks_since,
            ..
        } = self.changes;
        match self.role {
            Role::Leader => self.is_change_settled(),
            Role::Candidate => false,
            Role::Follower => {
                self.leader().is_some()
                    && ticks_since > 2 * election_ticks as u64
                    && self.node.raft.raft_log.applied() > changed_at
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

    // ---- What is committed ----

    /// Applies a committed change: from here on other quorums decide.
    pub(super) fn apply_change(&mut self, entry: &Entry) -> Result<(), String> {
        let change = MembershipChange::decode(&entry.context).map_err(|bad| bad.to_string())?;
        let before = self.membership().clone();
        let after = before.after(&change).map_err(|bad| bad.to_string())?;
        if self.role == Role::Leader || !is_planted(Mutant::ChangeAppliedLate) {
            self.tell_raft_of_change(&change, &after)?;
        }
        self.node.mut_store().set_members(after);
        self.changes.wants_turn = true;
        (self.changes.changed_at, self.changes.ticks_since) = (entry.index, 0);
        if self.role == Role::Leader {
            let gone = self.gone_since(&before);
            self.changes.farewells.extend(gone);
            self.changes.settles_at = None;
        }
        self.forget_strangers();
        if self.membership().home_of(self.id).is_none() {
            self.on_own_removal();
        }
        self.on_change_applied(&change, entry);
        Ok(())
    }

    fn tell_raft_of_change(
        &mut self,
        change: &MembershipChange,
        after: &Membership,
    ) -> Result<(), String> {
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
        Ok(())
    }

    /// The entry of a change is applied.
    fn on_change_applied(&mut self, change: &MembershipChange, entry: &Entry) {
        let Some(mut asked) = self.changes.asked.take() else {
            return;
        };
        let proposed = AskedProgress::Proposed {
            index: entry.index,
            term: entry.term,
        };
        let is_done = match asked.progress {
            AskedProgress::Leaving => change.step == Step::LeaveJoint,
            AskedProgress::Spreading { .. } => false,
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
            let index = entry.index;
            asked.progress = AskedProgress::Spreading { index };
        }
        self.changes.asked = Some(asked);
    }

    /// Another entry stands where a change was proposed: raft, or another leader, has put it in its place.
    pub(super) fn check_rejected(&mut self, turn: &mut Turn<'_>, entry: &Entry) {
        let is_in_place = |asked: &mut Asked| match asked.progress {
            AskedProgress::Proposed { index, .. } => index == entry.index,
            AskedProgress::Waiting(_)
            | AskedProgress::Leaving
            | AskedProgress::Spreading { .. } => false,
        };
        if entry.get_entry_type() == EntryType::EntryNormal
            && let Some(asked) = self.changes.asked.take_if(is_in_place)
        {
            answer(turn, asked.ticket, Err(ChangeRefused::Rejected));
        }
    }

    /// It leads no more: who asked for a change has to ask the next leader.
    pub(super) fn on_lead_lost(&mut self, turn: &mut Turn<'_>) {
        self.watching.forget_all();
        self.changes.farewells.clear();
        if let Some(mut asked) = self.changes.asked.take() {
            if let AskedProgress::Waiting(why) = &mut asked.progress {
                let leader = self.leader_home();
                *why = ChangeRefused::NotLeader { leader };
            }
            refuse(turn, asked);
        }
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
        AskedProgress::Proposed { .. }
        | AskedProgress::Leaving
        | AskedProgress::Spreading { .. } => ChangeRefused::Lost {
            happened: Happened::Unknown,
        },
    };
    answer(turn, asked.ticket, Err(why));
}

fn answer(turn: &mut Turn<'_>, ticket: ChangeTicket, result: Result<LogIndex, ChangeRefused>) {
    let changed = MembersEffect::Changed { ticket, result };
    turn.out.queue.push(Effect::Members(changed));
}
