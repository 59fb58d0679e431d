//! What a replica hears from the others: what no member of its group could mean is ignored, the rest goes to raft.

use metastore_wal::{Position, ReplicaId};
use raft::Storage;
use raft::eraftpb::{Message, MessageType};
use thiserror::Error;

use super::{Replica, Turn};
use crate::membership::Member;
use crate::peer::{PeerCore, PeerMessage};

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
    /// It must not campaign while its log is being written.
    #[error("the log is being written")]
    Busy,
    /// raft has no use for it.
    #[error("raft refuses it")]
    Refused,
}

impl Replica {
    /// Whether a message is for this replica and from where its sender lives; says who that is.
    pub(crate) fn check_ends(
        &self,
        sender: PeerCore,
        message: &PeerMessage<'_>,
    ) -> Result<Member, Ignored> {
        let home = self.node.store().members().home_of(message.from);
        let checked = if message.to != self.id {
            Err(Ignored::OtherReceiver { to: message.to.0 })
        } else if home != Some(sender) {
            Err(Ignored::StrangeSender {
                from: message.from.0,
            })
        } else {
            Ok(Member {
                replica: message.from,
                home: sender,
            })
        };
        checked.inspect_err(|ignored| self.explain(message.from.0, *ignored))
    }

    /// Takes a message whose ends were checked.
    pub(crate) fn on_peer_message(&mut self, message: Message) -> Result<(), Ignored> {
        let from = message.from;
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
        let durable = turn.log.durable_position();
        for mut message in messages {
            if !anchor(&mut message, |index| self.node.store().term(index).ok()) {
                continue;
            }
            let held = match self.rules.sends_early() {
                true => Some(message),
                false => self.outbox.hold(message, self.unpersisted.iter(), durable),
            };
            if let Some(message) = held {
                self.send(turn, &message);
            }
        }
    }

    /// Sends what waited for the log up to `durable`.
    pub(super) fn send_released(&mut self, turn: &mut Turn<'_>, durable: Position) {
        for message in self.outbox.release(durable) {
            self.send(turn, &message);
        }
    }

    fn send(&mut self, turn: &mut Turn<'_>, message: &Message) {
        let to = ReplicaId(message.to);
        // A member that was removed meanwhile has no home any more.
        if let Some(home) = self.node.store().members().home_of(to) {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.on_offered(turn.now, to);
            }
            turn.peers.push(home, self.shard, message, turn.out);
        }
    }
}

/// Makes an append say what comes before its entries; `false` when that is not known any more.
///
/// raft adds entries to an append to the same follower that has not left yet. When that one was empty it does not look
/// whether they follow: after a rejection they begin further back than the append says. A receiver numbers entries by
/// their place behind the append's index, so it would take each for another.
fn anchor(message: &mut Message, term_of: impl Fn(u64) -> Option<u64>) -> bool {
    let is_append = message.get_msg_type() == MessageType::MsgAppend;
    // Other messages carry what they are about in the data of an entry that has no index.
    let first = message.get_entries().first().filter(|_| is_append);
    let Some(first) = first.map(|entry| entry.index) else {
        return true;
    };
    if first == message.index + 1 {
        return true;
    }
    let Some(term) = term_of(first - 1) else {
        return false;
    };
    message.index = first - 1;
    message.log_term = term;
    true
}

/// Whether the terms of an append's entries are those of a log: they do not go back, and none is above the message's.
fn has_terms_of_a_log(message: &Message) -> bool {
    let entries = message.get_entries().iter().map(|entry| entry.term);
    let terms: Vec<u64> = [message.log_term].into_iter().chain(entries).collect();
    terms.is_sorted() && terms.last().is_some_and(|&last| last <= message.term)
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;

    fn append(index: u64, entries: &[(u64, u64)]) -> Message {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        message.index = index;
        message.log_term = 3;
        let entry = |&(index, term): &(u64, u64)| Entry {
            index,
            term,
            ..Entry::default()
        };
        let entries: Vec<Entry> = entries.iter().map(entry).collect();
        message.set_entries(entries.into());
        message
    }

    /// An empty append at index 926 waited to be sent; the follower rejected an earlier one, and raft put entry 926 into
    /// it. The follower took that for entry 927.
    #[test]
    fn entries_that_raft_put_into_an_empty_append_keep_their_indexes() {
        let mut message = append(926, &[(926, 3)]);
        assert!(anchor(&mut message, |index| (index == 925).then_some(2)));
        assert_eq!((message.index, message.log_term), (925, 2));
        let mut message = append(926, &[(926, 3)]);
        assert!(!anchor(&mut message, |_| None), "it cannot be sent");
    }

    #[test]
    fn an_append_that_is_right_stays_as_it_is() {
        for entries in [&[][..], &[(927, 3), (928, 3)]] {
            let mut message = append(926, entries);
            assert!(anchor(&mut message, |_| panic!("there is nothing to ask")));
            assert_eq!(message, append(926, entries));
        }
    }
}
