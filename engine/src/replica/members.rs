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

use metastore_bugs::{Mutant, is_planted};
use metastore_wal::{LogIndex, ReplicaId};
use raft::eraftpb::{Entry, EntryType};

use super::removal::Life;
use super::{Replica, Turn};
use crate::effect::Effect;
use crate::ids::Time;
use crate::members::{ChangeRefused, ChangeTicket, MembersChange, MembersEffect, Spare};
use crate::membership::{Fate, Member, Membership, MembershipChange, Step};
use crate::peer::PeerCore;
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
}

/// What a replica knows of changes of its group's members.
#[derive(Debug, Default)]
pub(super) struct Changes {
    asked: Option<Asked>,
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
        self.changes.asked.is_some()
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

    /// Refuses a change whose time has passed.
    pub(super) fn expire_change(&mut self, turn: &mut Turn<'_>) {
        let is_over = |asked: &mut Asked| asked.deadline <= turn.now;
        if let Some(asked) = self.changes.asked.take_if(is_over) {
            refuse(turn, asked);
        }
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
        if self.role == Role::Leader || !is_planted(Mutant::ChangeAppliedLate) {
            self.tell_raft_of_change(&change, &after)?;
        }
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
        self.watching.forget_all();
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
