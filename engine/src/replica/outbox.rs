//! What a replica says to the others, and what each message waits for.
//!
//! A message promises something: a vote, a term, entries that will not be forgotten. It leaves when that is durable here,
//! and not later.
//!
//! | message | leaves when durable |
//! |---|---|
//! | any | the newest term and vote |
//! | append accepted | also our log up to the index that it names |
//! | vote or pre-vote request | also our log up to its end: raft leads from there on |

use metastore_wal::Position;
use raft::eraftpb::{Message, MessageType};

use super::Unpersisted;

/// Messages that wait at most; beyond that they are dropped, as a network may drop them.
const HELD_MAX: usize = 4096;

#[derive(Debug)]
struct Held {
    position: Position,
    message: Message,
}

/// Messages that wait for the log.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    held: Vec<Held>,
    /// Where the newest term and vote are staged; what is at or before the durable position is of no interest.
    promised_at: Position,
    dropped: u64,
}

/// The index up to which our log must be durable before a message leaves, if it names one.
fn index_named(message: &Message) -> Option<u64> {
    match message.get_msg_type() {
        MessageType::MsgAppendResponse => (!message.reject).then_some(message.index),
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => Some(message.index),
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgAppend
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
        | MessageType::MsgRequestPreVoteResponse => None,
    }
}

/// Whether `newer` says all that `older` says: the receiver of both needs the newer one only.
fn repeats(older: &Message, newer: &Message) -> bool {
    let is_acceptance = |message: &Message| {
        message.get_msg_type() == MessageType::MsgAppendResponse && !message.reject
    };
    is_acceptance(older)
        && is_acceptance(newer)
        && (older.to, older.term) == (newer.to, newer.term)
        && older.index <= newer.index
}

impl Outbox {
    /// A term or a vote was staged at `position`.
    pub(super) fn on_promise(&mut self, position: Position) {
        self.promised_at = position;
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether the newest term and vote are durable: then what promises no more may leave at once.
    pub(super) fn may_speak(&self, durable: Position) -> bool {
        self.promised_at <= durable
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// Messages dropped because too many waited.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes a message that raft wants sent. It comes back at once if nothing of what it promises waits for the log:
    /// `unpersisted` is what does, oldest first.
    pub(super) fn hold<'u>(
        &mut self,
        message: Message,
        unpersisted: impl DoubleEndedIterator<Item = &'u Unpersisted>,
        durable: Position,
    ) -> Option<Message> {
        let entries_at = index_named(&message).and_then(|index| {
            // Later parts begin behind the index: they say nothing about it.
            let covering = unpersisted.rev().find(|part| part.first_index <= index);
            covering.map(|part| part.position)
        });
        let position = entries_at.unwrap_or_default().max(self.promised_at);
        if position <= durable {
            return Some(message);
        }
        let is_full = self.held.len() >= HELD_MAX;
        let same = self
            .held
            .iter_mut()
            .find(|held| held.position == position && repeats(&held.message, &message));
        match same {
            Some(held) => held.message = message,
            None if is_full => self.dropped += 1,
            None => self.held.push(Held { position, message }),
        }
        None
    }

    /// Forgets what was true when it was said and is of no use any more: what belongs to an older term, and requests for
    /// votes of who stands for election no longer. The log that they name may have been replaced meanwhile.
    pub(super) fn forget_outdated(&mut self, term: u64, is_candidate: bool) {
        self.held.retain(|held| {
            let of_older_term = (1..term).contains(&held.message.term);
            let asks_for_votes = matches!(
                held.message.get_msg_type(),
                MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
            );
            !of_older_term && (is_candidate || !asks_for_votes)
        });
    }

    /// Takes out what waits for nothing any more, in the order in which it was said.
    pub(super) fn release(&mut self, durable: Position) -> Vec<Message> {
        let mut released: Vec<Message> = Vec::new();
        for held in self.held.extract_if(.., |held| held.position <= durable) {
            match released
                .iter_mut()
                .find(|older| repeats(older, &held.message))
            {
                // One acknowledgement for everything that became durable together.
                Some(older) => *older = held.message,
                None => released.push(held.message),
            }
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(index: u64) -> Message {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppendResponse);
        message.to = 2;
        message.term = 5;
        message.index = index;
        message
    }

    fn part(position: u64, first_index: u64, last_index: u64) -> Unpersisted {
        Unpersisted {
            position: Position(position),
            ready_number: position,
            first_index,
            last_index,
        }
    }

    fn of_kind(kind: MessageType) -> Message {
        let mut message = accepted(0);
        message.set_msg_type(kind);
        message
    }

    #[test]
    fn an_acceptance_waits_for_the_part_that_holds_its_index_and_for_no_later_one() {
        let parts = [part(7, 10, 12), part(8, 13, 15)];
        let mut outbox = Outbox::default();
        let durable = Position(6);
        assert!(outbox.hold(accepted(9), parts.iter(), durable).is_some());
        assert!(outbox.hold(accepted(12), parts.iter(), durable).is_none());
        assert!(outbox.hold(accepted(13), parts.iter(), durable).is_none());
        assert!(outbox.release(Position(6)).is_empty());
        assert_eq!(outbox.release(Position(7)), [accepted(12)]);
        assert_eq!(outbox.release(Position(8)), [accepted(13)]);
    }

    /// Entry 11 was staged twice: the first time by a leader that is no more. What is said now is about the second.
    #[test]
    fn an_acceptance_of_a_replaced_entry_waits_for_what_replaced_it() {
        let parts = [part(7, 10, 12), part(8, 11, 11)];
        let mut outbox = Outbox::default();
        assert!(
            outbox
                .hold(accepted(11), parts.iter(), Position(6))
                .is_none()
        );
        assert!(outbox.release(Position(7)).is_empty());
        assert_eq!(outbox.release(Position(8)).len(), 1);
    }

    #[test]
    fn what_became_durable_together_is_acknowledged_once() {
        let parts = [part(7, 10, 12), part(8, 13, 15)];
        let mut outbox = Outbox::default();
        for index in 10..=15 {
            let held = outbox.hold(accepted(index), parts.iter(), Position(6));
            assert!(held.is_none());
        }
        assert_eq!(outbox.held.len(), 2);
        assert_eq!(outbox.release(Position(8)), [accepted(15)]);
    }

    #[test]
    fn nothing_leaves_before_the_newest_term_and_vote() {
        let parts = [part(7, 10, 12)];
        let mut outbox = Outbox::default();
        outbox.on_promise(Position(7));
        let heartbeat = of_kind(MessageType::MsgHeartbeatResponse);
        let vote = of_kind(MessageType::MsgRequestVoteResponse);
        for message in [&heartbeat, &vote] {
            let held = outbox.hold(message.clone(), parts.iter(), Position(6));
            assert!(held.is_none());
        }
        assert_eq!(outbox.release(Position(7)), [heartbeat, vote]);
    }

    #[test]
    fn a_heartbeat_is_answered_while_entries_wait_and_a_vote_is_not_asked_for() {
        let parts = [part(7, 10, 12)];
        let mut outbox = Outbox::default();
        let heartbeat = of_kind(MessageType::MsgHeartbeatResponse);
        assert!(outbox.hold(heartbeat, parts.iter(), Position(6)).is_some());
        let mut rejection = accepted(12);
        rejection.reject = true;
        assert!(outbox.hold(rejection, parts.iter(), Position(6)).is_some());
        for kind in [MessageType::MsgRequestVote, MessageType::MsgRequestPreVote] {
            let mut request = of_kind(kind);
            request.index = 12;
            assert!(outbox.hold(request, parts.iter(), Position(6)).is_none());
        }
        assert_eq!(outbox.release(Position(7)).len(), 2);
    }

    /// The candidate has heard of another leader before its own vote was durable, and that one's entries took the place of
    /// those at the end of its log.
    #[test]
    fn what_was_said_before_somebody_else_was_elected_does_not_leave() {
        let mut outbox = Outbox::default();
        outbox.on_promise(Position(7));
        let none: [Unpersisted; 0] = [];
        let mut of_term = |kind, term| {
            let mut message = of_kind(kind);
            message.term = term;
            assert!(outbox.hold(message, none.iter(), Position(6)).is_none());
        };
        of_term(MessageType::MsgRequestVoteResponse, 4);
        of_term(MessageType::MsgRequestVote, 5);
        of_term(MessageType::MsgAppendResponse, 5);
        outbox.forget_outdated(5, true);
        assert_eq!(outbox.held.len(), 2, "the answer was of term 4");
        outbox.forget_outdated(5, false);
        let left = outbox.release(Position(7));
        let kinds: Vec<_> = left.iter().map(Message::get_msg_type).collect();
        assert_eq!(kinds, [MessageType::MsgAppendResponse]);
    }

    #[test]
    fn what_waits_has_a_limit() {
        let mut outbox = Outbox::default();
        outbox.on_promise(Position(7));
        let none: [Unpersisted; 0] = [];
        for _ in 0..HELD_MAX + 3 {
            let message = of_kind(MessageType::MsgHeartbeatResponse);
            assert!(outbox.hold(message, none.iter(), Position(6)).is_none());
        }
        assert_eq!(outbox.dropped(), 3);
        assert_eq!(outbox.release(Position(7)).len(), HELD_MAX);
    }
}
