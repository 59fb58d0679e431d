//! What a replica hears from the others: what no member of its group could mean is ignored, the rest goes to raft.

use metastore_bugs::{Mutant, is_planted};
use metastore_wal::{Position, ReplicaId};
use raft::eraftpb::{Message, MessageType};
use raft::{StateRole, Storage};
use thiserror::Error;

use super::appends::{anchor, split_off};
use super::{Replica, Turn};
use crate::membership::{Member, Standing};
use crate::peer::{NoticeKind, PeerCore, PeerKind};

/// Why a message is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Ignored {
    /// It is for a replica that lived here before, or will.
    #[error("it is for replica {to}, which is not here")]
    OtherReceiver {
        /// Whom it is for.
        to: u64,
    },
    /// Its sender is no member, or does not live where it came from.
    #[error("replica {from} does not send from there")]
    StrangeSender {
        /// Who claims to have sent it.
        from: u64,
    },
    /// Its sender is no member any more.
    #[error("replica {from} is no member any more")]
    RemovedSender {
        /// Who sent it.
        from: u64,
    },
    /// It is of no use to a replica that waits for its first snapshot.
    #[error("it is not for a replica that waits to join")]
    NotJoined,
    /// This replica is to be removed.
    #[error("this replica is no member any more")]
    Removed,
    /// It says that more is committed than we ever acknowledged.
    #[error("it commits index {commit}, our log ends at {last}")]
    CommitBehindLog {
        /// What it commits.
        commit: u64,
        /// Our last index.
        last: u64,
    },
    /// It acknowledges entries that were never sent.
    #[error("it acknowledges index {index}, our log ends at {last}")]
    AcknowledgesBehindLog {
        /// What it acknowledges.
        index: u64,
        /// Our last index.
        last: u64,
    },
    /// Terms of its entries go back, or lie above the message's own.
    #[error("the terms of its entries from index {first_index} on are not those of a log")]
    StrangeTerms {
        /// The first of them.
        first_index: u64,
    },
    /// Only its leader may ask a follower to campaign.
    #[error("its sender does not lead")]
    NotFromLeader,
    /// It must not campaign while its log is being written.
    #[error("the log is being written")]
    Busy,
    /// It takes no part in its group.
    #[error("the replica is in quarantine")]
    Quarantined,
    /// raft has no use for it.
    #[error("raft refuses it")]
    Refused,
}

impl Replica {
    /// Whether a message is for this replica and from where its sender lives; says who that is.
    pub(crate) fn check_ends(
        &mut self,
        sender: PeerCore,
        (from, to): (ReplicaId, ReplicaId),
        kind: PeerKind,
    ) -> Result<Member, Ignored> {
        let standing = self.membership().standing_of(from);
        let checked = match standing {
            Standing::Removed => Err(Ignored::RemovedSender { from: from.0 }),
            _ if to != self.id => Err(Ignored::OtherReceiver { to: to.0 }),
            _ if self.is_fenced() => Err(Ignored::Removed),
            Standing::Member(home) if home != sender => {
                Err(Ignored::StrangeSender { from: from.0 })
            }
            Standing::Unheard if !self.may_hear(kind) => Err(Ignored::NotJoined),
            Standing::Member(_) | Standing::Unheard => Ok(Member {
                replica: from,
                home: sender,
            }),
        };
        if let (Ok(member), Standing::Unheard) = (checked, standing) {
            self.meet(member);
        }
        checked.inspect_err(|ignored| self.explain(from.0, *ignored))
    }

    /// Whether a replica that is not known here may say this. A member that was away knows older members, and those who
    /// joined since may lead. One that waits to join knows nobody, and listens to leaders alone: it has no vote to give.
    fn may_hear(&self, kind: PeerKind) -> bool {
        let is_of_leaders = matches!(
            kind,
            PeerKind::Raft(
                MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
            ) | PeerKind::Chunk
                | PeerKind::RepairTarget
                | PeerKind::Notice(NoticeKind::Removed)
        );
        is_of_leaders || !self.membership().is_unknown()
    }

    /// Takes a message whose ends were checked.
    pub(crate) fn on_peer_message(&mut self, mut message: Message) -> Result<(), Ignored> {
        let from = message.from;
        let is_append_response = message.get_msg_type() == MessageType::MsgAppendResponse;
        if is_planted(Mutant::ProbeTakenForMatch) && is_append_response && message.reject {
            message.reject = false;
            message.index = message.reject_hint;
        }
        self.step(message)?;
        self.wake_for_message(from);
        Ok(())
    }

    pub(super) fn step(&mut self, mut message: Message) -> Result<(), Ignored> {
        let from = message.from;
        if self.membership().is_unknown() {
            // It knows of no term that it may have promised, so its word confirms no reads.
            message.context = bytes::Bytes::new();
        }
        let taken = self.check(&message).and_then(|()| {
            let stepped = self.node.step(message);
            stepped.map_err(|_refused| Ignored::Refused)
        });
        self.seed_election_timeout();
        taken.inspect_err(|ignored| self.explain(from, *ignored))
    }

    fn explain(&self, from: u64, ignored: Ignored) {
        slog::debug!(self.logger, "ignoring a message"; "from" => from, "why" => %ignored);
    }

    /// raft stops the process on some messages that no correct member sends; they must not get that far.
    fn check(&self, message: &Message) -> Result<(), Ignored> {
        if self.is_quarantined() {
            return Err(Ignored::Quarantined);
        }
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        match message.get_msg_type() {
            MessageType::MsgHeartbeat if message.term >= raft.term && message.commit > last => {
                let commit = message.commit;
                Err(Ignored::CommitBehindLog { commit, last })
            }
            MessageType::MsgAppendResponse if !message.reject && message.index > last => {
                let index = message.index;
                Err(Ignored::AcknowledgesBehindLog { index, last })
            }
            MessageType::MsgAppend if !has_terms_of_a_log(message) => Err(Ignored::StrangeTerms {
                first_index: message.index + 1,
            }),
            MessageType::MsgTimeoutNow if message.from != raft.leader_id => {
                Err(Ignored::NotFromLeader)
            }
            MessageType::MsgTimeoutNow if self.must_not_campaign() => Err(Ignored::Busy),
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgAppend
            | MessageType::MsgAppendResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgSnapshot
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgTransferLeader
            | MessageType::MsgTimeoutNow
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse => Ok(()),
        }
    }

    /// What was sent to a core of another node may be lost.
    pub(crate) fn on_peer_unreachable(&mut self, peer: PeerCore) {
        let members = self.node.store().members();
        let there: Vec<u64> = members.living_on(peer).map(|replica| replica.0).collect();
        for replica in there {
            self.node.report_unreachable(replica);
        }
    }

    /// Hands over what raft wants sent, as far as it may leave; the rest waits for the log.
    pub(super) fn send_all(&mut self, turn: &mut Turn<'_>, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let durable = turn.log.durable_position();
        let bytes_max = turn.settings.raft.message_bytes_max;
        for mut message in messages {
            if !anchor(&mut message, |index| self.node.store().term(index).ok()) {
                continue;
            }
            while let Some(rest) = split_off(&mut message, bytes_max) {
                let part = std::mem::replace(&mut message, rest);
                self.send_or_hold(turn, part, durable);
            }
            self.send_or_hold(turn, message, durable);
        }
    }

    fn send_or_hold(&mut self, turn: &mut Turn<'_>, message: Message, durable: Position) {
        let held = match is_planted(Mutant::MessagesLeaveEarly) {
            true => Some(message),
            false => self.outbox.hold(message, self.unpersisted.iter(), durable),
        };
        if let Some(message) = held {
            self.send(turn, &message);
        }
    }

    /// Sends what waited for the log up to `durable`.
    pub(super) fn send_released(&mut self, turn: &mut Turn<'_>, durable: Position) {
        if self.outbox.is_empty() {
            return;
        }
        let raft = &self.node.raft;
        let is_candidate = matches!(raft.state, StateRole::Candidate | StateRole::PreCandidate);
        self.outbox.forget_outdated(raft.term, is_candidate);
        for message in self.outbox.release(durable) {
            self.send(turn, &message);
        }
    }

    fn send(&mut self, turn: &mut Turn<'_>, message: &Message) {
        let to = ReplicaId(message.to);
        // A member that was removed meanwhile has no home any more.
        if let Some(home) = self.home_of(to) {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.on_offered(turn.now, to);
            }
            let aside = self.aside(message.get_msg_type());
            turn.peers
                .push_with(home, self.shard, message, aside, turn.out);
        }
    }
}

/// Whether the terms of an append's entries are those of a log: they do not go back, and none is above the message's.
fn has_terms_of_a_log(message: &Message) -> bool {
    let entries = message.get_entries().iter().map(|entry| entry.term);
    let terms: Vec<u64> = [message.log_term].into_iter().chain(entries).collect();
    terms.is_sorted() && terms.last().is_some_and(|&last| last <= message.term)
}
