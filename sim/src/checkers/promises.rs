//! Whether what leaves a node is durable there.
//!
//! Every message between replicas promises something, and what it promises must survive a loss of power at once after
//! it left. This checker reads the messages off the wire by the format's description, with no code of the sender's:
//!
//! | message | promises, of the sender's log |
//! |---|---|
//! | any with a term | the term is durable |
//! | a vote request | the candidate's own vote in that term, and every entry up to the index that it names |
//! | a granted vote | that vote in that term |
//! | an accepted append | every entry up to the index that it names |
//!
//! Pre-votes promise nothing: their term is one that nobody has yet. Nor does a question whether its sender is a member:
//! who asks may have lost its log. A leader's append names entries of its own that
//! need not be durable, as long as it does not count itself.

use std::fmt;

use metastore_engine::{LogIndex, PEER_BATCH_HEAD_BYTES, PeerLane, ReplicaId, ShardId, Term};

use super::ClusterViolation;
use super::log_view::{LogView, ReplicaView};

/// What kind of message it is, by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Entries for a follower.
    Append,
    /// Whether a follower took them.
    AppendResponse,
    /// The leader is there.
    Heartbeat,
    /// So is the follower.
    HeartbeatResponse,
    /// A candidate asks for a vote.
    VoteRequest,
    /// Whether it gets it.
    VoteResponse,
    /// Whether it would get it.
    PreVoteRequest,
    /// The answer to that.
    PreVoteResponse,
    /// Whether the sender is a member still.
    Question,
    /// Anything else.
    Other(u8),
}

/// The head of a message as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSeen {
    /// Its kind.
    pub kind: MessageKind,
    /// Whether it says no.
    pub is_rejected: bool,
    /// Its shard.
    pub shard: ShardId,
    /// How many entries it carries.
    pub entries: u32,
    /// Who sent it.
    pub from: ReplicaId,
    /// Whom it is for.
    pub to: ReplicaId,
    /// The sender's term.
    pub term: Term,
    /// The index that it names.
    pub index: LogIndex,
    /// What the sender calls committed.
    pub commit: LogIndex,
}

const MESSAGE_HEAD_BYTES: usize = 80;
const REJECTED: u8 = 1;
/// A beat, which holds the heartbeats and answers of many shards.
const BEAT: u8 = 17;
const BEAT_HEAD_BYTES: usize = 64;
const RECORD_BYTES: usize = 40;

/// The messages of a batch, in order, those in beats included.
pub fn messages_of(batch: &[u8]) -> impl Iterator<Item = MessageSeen> {
    let mut rest = &batch[PEER_BATCH_HEAD_BYTES..];
    let mut records: &[u8] = &[];
    std::iter::from_fn(move || {
        while records.is_empty() && rest.first() == Some(&BEAT) {
            let length = u32::from_le_bytes(rest[4..8].try_into().expect("four"));
            (records, rest) = rest[BEAT_HEAD_BYTES..].split_at(length as usize);
        }
        if !records.is_empty() {
            let (record, others) = records.split_at(RECORD_BYTES);
            records = others;
            return Some(heartbeat_of(record));
        }
        let head = rest.get(..MESSAGE_HEAD_BYTES)?;
        let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight"));
        let body_bytes = u32_at(4) as usize;
        rest = &rest[MESSAGE_HEAD_BYTES + body_bytes..];
        Some(MessageSeen {
            kind: MessageKind::of(head[0]),
            is_rejected: head[1] & REJECTED != 0,
            shard: ShardId(u32_at(8)),
            entries: u32_at(12),
            from: ReplicaId(u64_at(16)),
            to: ReplicaId(u64_at(24)),
            term: Term(u64_at(32)),
            index: LogIndex(u64_at(40)),
            commit: LogIndex(u64_at(56)),
        })
    })
}

/// A heartbeat, or an answer to one, as it stands in a beat.
fn heartbeat_of(record: &[u8]) -> MessageSeen {
    let u64_at = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight"));
    MessageSeen {
        kind: MessageKind::of(record[0]),
        is_rejected: false,
        shard: ShardId(u32::from_le_bytes(record[4..8].try_into().expect("four"))),
        entries: 0,
        from: ReplicaId(u64_at(8)),
        to: ReplicaId(u64_at(16)),
        term: Term(u64_at(24)),
        index: LogIndex(0),
        commit: LogIndex(u64_at(32)),
    }
}

/// Holds what a node sends against its durable log.
///
/// # Errors
/// Something was promised too early.
pub fn check_sent(batch: &[u8], durable: &LogView, lane: PeerLane) -> Result<(), ClusterViolation> {
    if lane == PeerLane::Snapshots {
        return Ok(());
    }
    messages_of(batch).try_for_each(|message| message.check(durable.get(&message.from)))
}

impl MessageKind {
    fn of(code: u8) -> MessageKind {
        match code {
            1 => MessageKind::Append,
            2 => MessageKind::AppendResponse,
            3 => MessageKind::Heartbeat,
            4 => MessageKind::HeartbeatResponse,
            5 => MessageKind::VoteRequest,
            6 => MessageKind::VoteResponse,
            7 => MessageKind::PreVoteRequest,
            8 => MessageKind::PreVoteResponse,
            19 => MessageKind::Question,
            other => MessageKind::Other(other),
        }
    }

    /// Whether only a leader sends it.
    #[must_use]
    pub fn is_of_leader(self) -> bool {
        matches!(self, MessageKind::Append | MessageKind::Heartbeat)
    }
}

impl fmt::Display for MessageSeen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let no = if self.is_rejected { " rejected" } else { "" };
        write!(
            formatter,
            "{:?}{no} {}->{} shard {} term {} index {} entries {} commit {}",
            self.kind,
            self.from,
            self.to,
            self.shard,
            self.term,
            self.index,
            self.entries,
            self.commit
        )
    }
}

impl MessageSeen {
    fn check(&self, durable: Option<&ReplicaView>) -> Result<(), ClusterViolation> {
        let hard_state = durable.map(|view| view.hard_state).unwrap_or_default();
        let last = durable.map(ReplicaView::last).unwrap_or_default();
        let is_bound = !matches!(
            self.kind,
            MessageKind::PreVoteRequest | MessageKind::PreVoteResponse | MessageKind::Question
        );
        let term_is_durable = !is_bound || self.term <= hard_state.term;
        let has_voted = |candidate| {
            // With a newer term the vote of an older one is not kept, and binds nobody any more.
            self.term < hard_state.term || hard_state.vote == candidate
        };
        let is_kept = match self.kind {
            MessageKind::VoteRequest => has_voted(self.from) && self.index <= last,
            MessageKind::VoteResponse => self.is_rejected || has_voted(self.to),
            MessageKind::AppendResponse => self.is_rejected || self.index <= last,
            MessageKind::Append
            | MessageKind::Heartbeat
            | MessageKind::HeartbeatResponse
            | MessageKind::PreVoteRequest
            | MessageKind::PreVoteResponse
            | MessageKind::Question
            | MessageKind::Other(_) => true,
        };
        if term_is_durable && is_kept {
            return Ok(());
        }
        Err(ClusterViolation::PromisedTooEarly {
            message: format!("{self:?}"),
            durable: format!("{hard_state:?} and entries up to {last}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_wal::HardState;
    use std::collections::BTreeMap;

    /// A batch of one message, laid out by the format's description.
    fn batch(kind: u8, is_rejected: bool, term: u64, index: u64) -> Vec<u8> {
        let mut bytes = vec![0; PEER_BATCH_HEAD_BYTES + MESSAGE_HEAD_BYTES];
        let head = &mut bytes[PEER_BATCH_HEAD_BYTES..];
        head[0] = kind;
        head[1] = u8::from(is_rejected);
        head[16] = 1;
        head[24] = 2;
        head[32..40].copy_from_slice(&term.to_le_bytes());
        head[40..48].copy_from_slice(&index.to_le_bytes());
        bytes
    }

    /// The sender has durably voted for `vote` in term 5, and has entries up to 9 in its snapshot.
    fn durable(vote: u64) -> LogView {
        let hard_state = HardState {
            term: Term(5),
            vote: ReplicaId(vote),
            commit: LogIndex(0),
        };
        let view = ReplicaView {
            shard: ShardId(0),
            hard_state,
            covered: LogIndex(9),
            entries: BTreeMap::new(),
        };
        LogView::from([(ReplicaId(1), view)])
    }

    #[test]
    fn what_is_durable_may_be_promised_and_nothing_else() {
        let (yes, no) = (true, false);
        let cases = [
            // kind, rejected, term, index, vote, whether it may leave
            (4, no, 5, 0, 0, yes),
            (4, no, 6, 0, 0, no),
            (3, no, 6, 0, 1, no),
            (1, no, 5, 99, 1, yes),
            (2, no, 5, 9, 0, yes),
            (2, no, 5, 10, 0, no),
            (2, yes, 5, 10, 0, yes),
            (2, yes, 6, 10, 0, no),
            (5, no, 5, 9, 1, yes),
            (5, no, 5, 9, 0, no),
            (5, no, 5, 10, 1, no),
            (6, no, 5, 0, 2, yes),
            (6, no, 5, 0, 0, no),
            (6, yes, 5, 0, 0, yes),
            (6, no, 4, 0, 0, yes),
            (7, no, 6, 0, 0, yes),
            (8, no, 6, 0, 0, yes),
            (18, no, 6, 0, 0, no),
            (19, no, 6, 0, 0, yes),
        ];
        for (kind, is_rejected, term, index, vote, may_leave) in cases {
            let sent = batch(kind, is_rejected, term, index);
            let checked = check_sent(&sent, &durable(vote), PeerLane::Urgent);
            assert_eq!(
                checked.is_ok(),
                may_leave,
                "{kind} {is_rejected} {term} {index} {vote}: {checked:?}"
            );
        }
    }

    /// A beat without anything in it, and one in which the second heartbeat is of a term that is not durable.
    #[test]
    fn heartbeats_in_beats_are_held_against_the_log_too() {
        let beat = |records: &[u8]| {
            let mut bytes = [0; BEAT_HEAD_BYTES];
            bytes[0] = BEAT;
            bytes[4] = u8::try_from(records.len()).expect("few");
            [&bytes[..], records].concat()
        };
        let record = |term: u8| {
            let mut bytes = [0; RECORD_BYTES];
            (bytes[0], bytes[8], bytes[16], bytes[24]) = (4, 1, 2, term);
            bytes
        };
        let records = [record(5), record(6)].concat();
        let behind = batch(4, false, 5, 0).split_off(PEER_BATCH_HEAD_BYTES);
        let all = [
            &[0; PEER_BATCH_HEAD_BYTES][..],
            &beat(&[]),
            &beat(&records),
            &behind,
        ]
        .concat();
        let terms: Vec<u64> = messages_of(&all).map(|message| message.term.0).collect();
        assert_eq!(terms, [5, 6, 5]);
        assert!(check_sent(&all, &durable(0), PeerLane::Urgent).is_err());
        let records = [record(5), record(5)].concat();
        let kept = [&[0; PEER_BATCH_HEAD_BYTES][..], &beat(&records)].concat();
        assert!(check_sent(&kept, &durable(0), PeerLane::Urgent).is_ok());
    }

    #[test]
    fn who_has_nothing_durable_promises_nothing() {
        let sent = batch(4, false, 1, 0);
        assert!(check_sent(&sent, &LogView::new(), PeerLane::Urgent).is_err());
    }
}
