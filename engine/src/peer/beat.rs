//! What one core says to another in one piece about all shards that they share: that it is there, and the heartbeats.

use metastore_wal::{ReplicaId, ShardId};
use raft::eraftpb::{Message, MessageType};

use super::error::PeerError;
use super::kind::{PeerKind, code_of, kind_of, name_of};
use super::message::NUMBER_MAX;
use crate::fields::{length_u32, put, u32_at, u64_at};

/// Length of a beat's head.
pub(crate) const BEAT_HEAD_BYTES: usize = 64;
/// Length of one heartbeat, or of one answer to one.
pub(crate) const RECORD_BYTES: usize = 40;
const _: () = assert!(BEAT_HEAD_BYTES.is_multiple_of(8) && RECORD_BYTES.is_multiple_of(8));

/// What a beat is called on the wire.
pub(super) const BEAT_CODE: u8 = 17;

const SLEEP_CODE: u8 = 1;
const LEAD_CODE: u8 = 2;

/// Where the numbers of a head stand that count nanoseconds.
const TIMES: [usize; 3] = [24, 40, 48];

/// What a core says of itself with every beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    /// Differs at every start of the sender.
    pub(crate) boot: u64,
    /// When it was sent, by the sender's clock, in nanoseconds.
    pub(crate) sent_ns: u64,
    /// The newest beat of the receiver that the sender had; all zero when it had none.
    pub(crate) echo: Echo,
    /// How long a tick the sender needs by what it measured itself, in microseconds.
    pub(crate) tick_needed_us: u32,
    /// How long its ticks are, in microseconds.
    pub(crate) tick_us: u32,
}

/// A beat that is told of to its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Echo {
    /// In which life that one was sent.
    pub(crate) boot: u64,
    /// When it was sent, by the clock of who sent it.
    pub(crate) sent_ns: u64,
    /// For how long it has been here.
    pub(crate) held_ns: u64,
}

/// What a heartbeat or its answer says beyond what raft says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Aside {
    /// Nothing.
    #[default]
    Nothing,
    /// A leader: the group may sleep. A follower: this replica sleeps.
    Sleep,
    /// A follower: this replica would be the better leader.
    Lead,
}

impl Aside {
    const fn code(self) -> u8 {
        match self {
            Aside::Nothing => 0,
            Aside::Sleep => SLEEP_CODE,
            Aside::Lead => LEAD_CODE,
        }
    }

    fn of_code(code: u8, kind: MessageType) -> Option<Aside> {
        match code {
            0 => Some(Aside::Nothing),
            SLEEP_CODE => Some(Aside::Sleep),
            LEAD_CODE if kind == MessageType::MsgHeartbeatResponse => Some(Aside::Lead),
            _ => None,
        }
    }
}

/// A beat, still in its bytes: that a core is there, and the heartbeats and answers of all shards in one piece.
///
/// ```text
///       0       1       2       3       4       5       6       7
///   0 | 17    | 0     | 0     | 0     | length of the records (u32)   |
///   8 | 0                             | records (u32)                 |
///  16 | the sender's boot nonce (u64)                                 |
///  24 | when it was sent, ns of the sender's clock (u64)              |
///  32 | boot nonce of the newest beat of the receiver (u64)           |
///  40 | when that one was sent, ns of the receiver's clock (u64)      |
///  48 | how long ago it had arrived, ns (u64)                         |
///  56 | tick that the sender needs, us| tick that it has, us (u32)    |
///  64 | records ...
/// ```
///
/// and for each heartbeat or answer
///
/// ```text
///   0 | kind  | aside | 0     | 0     | shard (u32)                   |
///   8 | sender's replica (u64)                                        |
///  16 | receiver's replica (u64)                                      |
///  24 | term (u64)                                                    |
///  32 | commit (u64)                                                  |
/// ```
///
/// * kind: 3 heartbeat, 4 its response, as in other messages. Those that confirm reads are messages of their own: they
///   carry a context.
/// * aside: 1 of a heartbeat, the group may sleep; of a response, the sender sleeps. 2 of a response, the sender would be
///   the better leader.
/// * A beat of a core that has not heard the receiver has zeros in the place of the receiver's beat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beat<'a> {
    pub(crate) stamp: Stamp,
    records: &'a [[u8; RECORD_BYTES]],
}

/// One heartbeat, or one answer to one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BeatRecord {
    pub(crate) kind: MessageType,
    pub(crate) aside: Aside,
    pub(crate) shard: ShardId,
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    pub(crate) term: u64,
    commit: u64,
}

/// Whether a message goes into the beat of its turn instead of standing for itself.
pub(super) fn is_merged(message: &Message) -> bool {
    let is_heartbeat = matches!(
        message.get_msg_type(),
        MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse
    );
    is_heartbeat && message.context.is_empty()
}

/// Appends one heartbeat, or one answer, to the records of a beat.
pub(super) fn encode_record(shard: ShardId, message: &Message, aside: Aside, out: &mut Vec<u8>) {
    let kind = message.get_msg_type();
    assert!(is_merged(message), "{kind:?} is a message of its own");
    let mut record = [0; RECORD_BYTES];
    let code = code_of(kind).expect("heartbeats leave a process");
    put(&mut record, 0, [code, aside.code()]);
    put(&mut record, 4, shard.0.to_le_bytes());
    put(&mut record, 8, message.from.to_le_bytes());
    put(&mut record, 16, message.to.to_le_bytes());
    put(&mut record, 24, message.term.to_le_bytes());
    put(&mut record, 32, message.commit.to_le_bytes());
    out.extend_from_slice(&record);
}

/// Appends a beat with these records to `out`.
pub(super) fn encode(stamp: &Stamp, records: &[u8], out: &mut Vec<u8>) {
    assert!(records.len().is_multiple_of(RECORD_BYTES));
    let mut head = [0; BEAT_HEAD_BYTES];
    put(&mut head, 0, [BEAT_CODE]);
    put(&mut head, 4, length_u32(records.len()).to_le_bytes());
    let count = length_u32(records.len() / RECORD_BYTES);
    put(&mut head, 12, count.to_le_bytes());
    put(&mut head, 16, stamp.boot.to_le_bytes());
    put(&mut head, 24, stamp.sent_ns.to_le_bytes());
    put(&mut head, 32, stamp.echo.boot.to_le_bytes());
    put(&mut head, 40, stamp.echo.sent_ns.to_le_bytes());
    put(&mut head, 48, stamp.echo.held_ns.to_le_bytes());
    put(&mut head, 56, stamp.tick_needed_us.to_le_bytes());
    put(&mut head, 60, stamp.tick_us.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(records);
}

/// Takes a beat off `rest`; `at` says where it begins, for the error.
pub(super) fn decode<'a>(rest: &mut &'a [u8], at: usize) -> Result<Beat<'a>, PeerError> {
    let short = |needed: usize| PeerError::Short {
        needed: at + needed,
        actual: at + rest.len(),
    };
    let malformed = |offset: usize| PeerError::Malformed {
        offset: at + offset,
    };
    let Some((head, body)) = rest.split_at_checked(BEAT_HEAD_BYTES) else {
        return Err(short(BEAT_HEAD_BYTES));
    };
    let body_bytes = u32_at(head, 4) as usize;
    let Some((body, after)) = body.split_at_checked(body_bytes) else {
        return Err(short(BEAT_HEAD_BYTES + body_bytes));
    };
    if head[1..4] != [0; 3] || u32_at(head, 8) != 0 {
        return Err(malformed(1));
    }
    if let Some(offset) = TIMES.into_iter().find(|&at| u64_at(head, at) > NUMBER_MAX) {
        return Err(malformed(offset));
    }
    let (records, odd) = body.as_chunks::<RECORD_BYTES>();
    if !odd.is_empty() || records.len() != u32_at(head, 12) as usize {
        return Err(malformed(12));
    }
    if let Some(wrong) = records.iter().position(|bytes| record_of(bytes).is_none()) {
        return Err(malformed(BEAT_HEAD_BYTES + wrong * RECORD_BYTES));
    }
    *rest = after;
    let echo = Echo {
        boot: u64_at(head, 32),
        sent_ns: u64_at(head, 40),
        held_ns: u64_at(head, 48),
    };
    let stamp = Stamp {
        boot: u64_at(head, 16),
        sent_ns: u64_at(head, 24),
        echo,
        tick_needed_us: u32_at(head, 56),
        tick_us: u32_at(head, 60),
    };
    Ok(Beat { stamp, records })
}

fn record_of(bytes: &[u8; RECORD_BYTES]) -> Option<BeatRecord> {
    let PeerKind::Raft(kind) = kind_of(bytes[0])? else {
        return None;
    };
    let is_heartbeat = matches!(
        kind,
        MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse
    );
    let numbers = [8, 16, 24, 32].map(|offset| u64_at(bytes, offset));
    let [from, to, term, commit] = numbers;
    let is_possible = is_heartbeat
        && bytes[2..4] == [0, 0]
        && numbers.iter().all(|&number| number <= NUMBER_MAX)
        && from > 0
        && to > 0
        && from != to
        && term > 0;
    if !is_possible {
        return None;
    }
    Some(BeatRecord {
        kind,
        aside: Aside::of_code(bytes[1], kind)?,
        shard: ShardId(u32_at(bytes, 4)),
        from: ReplicaId(from),
        to: ReplicaId(to),
        term,
        commit,
    })
}

impl<'a> Beat<'a> {
    /// The heartbeats and answers.
    pub(crate) fn records(&self) -> impl ExactSizeIterator<Item = BeatRecord> + use<'a> {
        let record = |bytes| record_of(bytes).expect("it was checked");
        self.records.iter().map(record)
    }
}

impl BeatRecord {
    /// The message as raft takes it.
    pub(crate) fn to_raft(self) -> Message {
        let mut message = Message::default();
        message.set_msg_type(self.kind);
        message.from = self.from.0;
        message.to = self.to.0;
        message.term = self.term;
        message.commit = self.commit;
        message
    }
}

impl std::fmt::Display for BeatRecord {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let BeatRecord {
            shard,
            from,
            to,
            term,
            ..
        } = self;
        let name = name_of(self.kind, false);
        write!(formatter, "shard {shard} {from}->{to} {name} term {term}")?;
        if self.commit > 0 {
            write!(formatter, " commit {}", self.commit)?;
        }
        match self.aside {
            Aside::Nothing => Ok(()),
            Aside::Sleep => write!(formatter, " sleep"),
            Aside::Lead => write!(formatter, " lead"),
        }
    }
}

#[cfg(test)]
mod tests;
