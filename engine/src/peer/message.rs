//! One message between two replicas of a shard.

use std::fmt;

use bytes::Bytes;
use metastore_wal::format::{ENTRY_HEADER_BYTES, Entries, EntryRef, put_entry_header};
use metastore_wal::{EntryKind, ReplicaId, ShardId, Term};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use thiserror::Error;

use super::PeerLane;
use super::bytes::{length_u32, put, u32_at, u64_at};

/// Length of a message's head.
const HEAD_BYTES: usize = 80;
const _: () = assert!(HEAD_BYTES.is_multiple_of(8));

const REJECTED: u8 = 1;
const TRANSFER: u8 = 2;

/// Where the numbers of a head stand.
const NUMBERS: [usize; 8] = [16, 24, 32, 40, 48, 56, 64, 72];
/// No group lives long enough to count this far: what claims more is refused here, so that no arithmetic behind it can
/// overflow.
const NUMBER_MAX: u64 = u64::MAX / 4;

/// With this context a candidate says that its leader asked it to campaign.
const TRANSFER_CONTEXT: &[u8] = raft::CAMPAIGN_TRANSFER;

/// Why bytes from a peer are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PeerError {
    /// It ends too early.
    #[error("{actual} bytes are fewer than the {needed} that it needs")]
    Short {
        /// What it needs.
        needed: usize,
        /// What is there.
        actual: usize,
    },
    /// Another version of the format.
    #[error("its version is {version}, this program knows {known}")]
    Version {
        /// Its version.
        version: u16,
        /// What is known.
        known: u16,
    },
    /// The checksum is wrong.
    #[error("its checksum is {found:08x}, its bytes have {expected:08x}")]
    Checksum {
        /// What the bytes have.
        expected: u32,
        /// What it says.
        found: u32,
    },
    /// It is from another cluster, for another core, or from another sender than the connection's.
    #[error("it is not from that sender to this core of this cluster")]
    Misdirected,
    /// A field has a value that means nothing.
    #[error("at byte {offset}: a value that means nothing")]
    Malformed {
        /// Where.
        offset: usize,
    },
}

/// A message of one replica to another, still in its bytes.
///
/// ```text
///       0       1       2       3       4       5       6       7
///   0 | kind  | flags | 0     | 0     | length of the body (u32)      |
///   8 | shard (u32)                   | entries (u32)                 |
///  16 | sender's replica (u64)                                        |
///  24 | receiver's replica (u64)                                      |
///  32 | term (u64)                                                    |
///  40 | index (u64)                                                   |
///  48 | term of the entry at the index (u64)                          |
///  56 | commit (u64)                                                  |
///  64 | term of the entry at the commit index (u64)                   |
///  72 | where to try next, when rejected (u64)                        |
///  80 | body ...
/// ```
///
/// * kind: 1 append, 2 its response, 3 heartbeat, 4 its response, 5 vote request, 6 its response, 7 pre-vote request,
///   8 its response, 9 campaign now, 10 read index, 11 its response. 12 to 15 are kept for snapshots.
/// * flags: 1 rejected, 2 the candidate was asked to campaign by its leader.
/// * The body of an append is its entries, as they stand in the log: each a head of 16 bytes and its data. Their indexes
///   follow from the message's. The body of a heartbeat, of a read index and of their responses is the context of the
///   reads that it confirms. Other messages have none.
/// * The term of a read index is 0: it is for whoever leads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerMessage<'a> {
    pub(crate) shard: ShardId,
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    kind: MessageType,
    flags: u8,
    entries: u32,
    head: &'a [u8],
    body: &'a [u8],
}

/// What raft's kinds are called on the wire; `None` for those that never leave a process.
fn code_of(kind: MessageType) -> Option<u8> {
    Some(match kind {
        MessageType::MsgAppend => 1,
        MessageType::MsgAppendResponse => 2,
        MessageType::MsgHeartbeat => 3,
        MessageType::MsgHeartbeatResponse => 4,
        MessageType::MsgRequestVote => 5,
        MessageType::MsgRequestVoteResponse => 6,
        MessageType::MsgRequestPreVote => 7,
        MessageType::MsgRequestPreVoteResponse => 8,
        MessageType::MsgTimeoutNow => 9,
        MessageType::MsgReadIndex => 10,
        MessageType::MsgReadIndexResp => 11,
        MessageType::MsgSnapshot
        | MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader => return None,
    })
}

fn kind_of(code: u8) -> Option<MessageType> {
    Some(match code {
        1 => MessageType::MsgAppend,
        2 => MessageType::MsgAppendResponse,
        3 => MessageType::MsgHeartbeat,
        4 => MessageType::MsgHeartbeatResponse,
        5 => MessageType::MsgRequestVote,
        6 => MessageType::MsgRequestVoteResponse,
        7 => MessageType::MsgRequestPreVote,
        8 => MessageType::MsgRequestPreVoteResponse,
        9 => MessageType::MsgTimeoutNow,
        10 => MessageType::MsgReadIndex,
        11 => MessageType::MsgReadIndexResp,
        _ => return None,
    })
}

fn is_read_index(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp
    )
}

fn may_have_context(kind: MessageType) -> bool {
    is_read_index(kind)
        || matches!(
            kind,
            MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse
        )
}

/// Which lane carries messages of a kind.
pub(super) fn lane_of(kind: MessageType) -> PeerLane {
    match kind {
        MessageType::MsgAppend | MessageType::MsgAppendResponse => PeerLane::Entries,
        MessageType::MsgSnapshot => PeerLane::Snapshots,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
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
        | MessageType::MsgRequestPreVoteResponse => PeerLane::Urgent,
    }
}

/// Appends a message to `out`.
///
/// # Panics
/// On a message that never leaves a process.
pub(super) fn encode(shard: ShardId, message: &Message, out: &mut Vec<u8>) {
    let kind = message.get_msg_type();
    let Some(code) = code_of(kind) else {
        panic!("{kind:?} never leaves a process");
    };
    let start = out.len();
    out.resize(start + HEAD_BYTES, 0);
    let mut entries = 0;
    if kind == MessageType::MsgAppend {
        entries = message.entries.len();
        for entry in message.get_entries() {
            encode_entry(entry, out);
        }
    } else if is_read_index(kind) {
        // raft carries the context of these in the data of one entry.
        out.extend_from_slice(&message.entries[0].data);
    } else if may_have_context(kind) {
        out.extend_from_slice(&message.context);
    }
    let body_bytes = out.len() - start - HEAD_BYTES;
    let is_transfer = message.get_context() == TRANSFER_CONTEXT;
    let flags = u8::from(message.reject) * REJECTED + u8::from(is_transfer) * TRANSFER;
    let head = &mut out[start..start + HEAD_BYTES];
    put(head, 0, [code, flags]);
    put(head, 4, length_u32(body_bytes).to_le_bytes());
    put(head, 8, shard.0.to_le_bytes());
    put(head, 12, length_u32(entries).to_le_bytes());
    put(head, 16, message.from.to_le_bytes());
    put(head, 24, message.to.to_le_bytes());
    put(head, 32, message.term.to_le_bytes());
    put(head, 40, message.index.to_le_bytes());
    put(head, 48, message.log_term.to_le_bytes());
    put(head, 56, message.commit.to_le_bytes());
    put(head, 64, message.commit_term.to_le_bytes());
    put(head, 72, message.reject_hint.to_le_bytes());
}

fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    // A change of members travels in our own encoding, which is its context: no peer parses what raft made of it.
    let (kind, data) = match entry.get_entry_type() {
        EntryType::EntryNormal => (EntryKind::Normal, &entry.data),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            (EntryKind::ConfChange, &entry.context)
        }
    };
    put_entry_header(out, Term(entry.term), kind, data.len());
    out.extend_from_slice(data);
}

/// Takes the next message off `rest`; `at` says where it begins, for the error.
pub(super) fn decode<'a>(rest: &mut &'a [u8], at: usize) -> Result<PeerMessage<'a>, PeerError> {
    let Some((head, body)) = rest.split_at_checked(HEAD_BYTES) else {
        return Err(PeerError::Short {
            needed: at + HEAD_BYTES,
            actual: at + rest.len(),
        });
    };
    let body_bytes = u32_at(head, 4) as usize;
    let Some((body, after)) = body.split_at_checked(body_bytes) else {
        return Err(PeerError::Short {
            needed: at + HEAD_BYTES + body_bytes,
            actual: at + rest.len(),
        });
    };
    let malformed = |offset: usize| PeerError::Malformed {
        offset: at + offset,
    };
    let kind = kind_of(head[0]).ok_or(malformed(0))?;
    let (flags, entries) = (head[1], u32_at(head, 12));
    let may_be_asked = matches!(
        kind,
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
    );
    let is_asked = flags & TRANSFER != 0;
    if flags & !(REJECTED | TRANSFER) != 0 || head[2..4] != [0, 0] || is_asked && !may_be_asked {
        return Err(malformed(1));
    }
    if let Some(offset) = NUMBERS
        .into_iter()
        .find(|&offset| u64_at(head, offset) > NUMBER_MAX)
    {
        return Err(malformed(offset));
    }
    if kind == MessageType::MsgAppend {
        Entries::check(body, entries).ok_or(malformed(HEAD_BYTES))?;
    } else if entries > 0 || (!body.is_empty() && !may_have_context(kind)) {
        return Err(malformed(12));
    }
    let (from, to) = (u64_at(head, 16), u64_at(head, 24));
    if from == 0 || to == 0 || from == to {
        return Err(malformed(16));
    }
    let is_for_whoever_leads = kind == MessageType::MsgReadIndex;
    if (u64_at(head, 32) == 0) != is_for_whoever_leads {
        return Err(malformed(32));
    }
    *rest = after;
    Ok(PeerMessage {
        shard: ShardId(u32_at(head, 8)),
        from: ReplicaId(from),
        to: ReplicaId(to),
        kind,
        flags,
        entries,
        head,
        body,
    })
}

impl PeerMessage<'_> {
    /// The message as raft takes it: entries and context copied.
    pub(crate) fn to_raft(self) -> Message {
        let mut message = Message::default();
        message.set_msg_type(self.kind);
        message.from = self.from.0;
        message.to = self.to.0;
        message.term = u64_at(self.head, 32);
        message.index = u64_at(self.head, 40);
        message.log_term = u64_at(self.head, 48);
        message.commit = u64_at(self.head, 56);
        message.commit_term = u64_at(self.head, 64);
        message.reject_hint = u64_at(self.head, 72);
        message.reject = self.flags & REJECTED != 0;
        if self.kind == MessageType::MsgAppend {
            let entries = Entries::check(self.body, self.entries).expect("it was checked");
            let first_index = message.index + 1;
            let indexed = (first_index..).zip(entries);
            let entries: Vec<Entry> = indexed
                .map(|(index, entry)| to_raft_entry(index, &entry))
                .collect();
            message.set_entries(entries.into());
        } else if is_read_index(self.kind) {
            let entry = Entry {
                data: Bytes::copy_from_slice(self.body),
                ..Entry::default()
            };
            message.set_entries(vec![entry].into());
        } else if self.flags & TRANSFER != 0 {
            message.context = Bytes::from_static(TRANSFER_CONTEXT);
        } else {
            message.context = Bytes::copy_from_slice(self.body);
        }
        message
    }
}

impl fmt::Display for PeerMessage<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            MessageType::MsgAppend => "append",
            MessageType::MsgAppendResponse if self.flags & REJECTED != 0 => "append rejected",
            MessageType::MsgAppendResponse => "append accepted",
            MessageType::MsgHeartbeat => "heartbeat",
            MessageType::MsgHeartbeatResponse => "heartbeat response",
            MessageType::MsgRequestVote => "vote request",
            MessageType::MsgRequestVoteResponse if self.flags & REJECTED != 0 => "vote refused",
            MessageType::MsgRequestVoteResponse => "vote granted",
            MessageType::MsgRequestPreVote => "pre-vote request",
            MessageType::MsgRequestPreVoteResponse if self.flags & REJECTED != 0 => {
                "pre-vote refused"
            }
            MessageType::MsgRequestPreVoteResponse => "pre-vote granted",
            MessageType::MsgTimeoutNow => "campaign now",
            MessageType::MsgReadIndex => "read index",
            MessageType::MsgReadIndexResp => "read index response",
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgSnapshot
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgTransferLeader => unreachable!("it has no code on the wire"),
        };
        let PeerMessage {
            shard, from, to, ..
        } = self;
        write!(formatter, "shard {shard} {from}->{to} {name}")?;
        let numbers = [
            ("term", 32),
            ("index", 40),
            ("of term", 48),
            ("commit", 56),
            ("of term", 64),
            ("next", 72),
        ];
        for (name, offset) in numbers {
            let number = u64_at(self.head, offset);
            if number > 0 {
                write!(formatter, " {name} {number}")?;
            }
        }
        if self.entries > 0 {
            let entries = Entries::check(self.body, self.entries).expect("it was checked");
            let terms: Vec<u64> = entries.map(|entry| entry.term.0).collect();
            write!(formatter, " entries of terms {terms:?}")?;
        } else if !self.body.is_empty() {
            write!(formatter, " context {} bytes", self.body.len())?;
        }
        Ok(())
    }
}

/// One entry as it stands in the log, as raft takes it.
pub(crate) fn to_raft_entry(index: u64, entry: &EntryRef<'_>) -> Entry {
    let mut raft_entry = Entry::default();
    raft_entry.set_index(index);
    raft_entry.set_term(entry.term.0);
    let data = Bytes::copy_from_slice(entry.data);
    match entry.kind {
        EntryKind::Normal => raft_entry.data = data,
        EntryKind::ConfChange => {
            raft_entry.set_entry_type(EntryType::EntryConfChangeV2);
            raft_entry.context = data;
        }
    }
    raft_entry
}

const _: () = assert!(ENTRY_HEADER_BYTES == 16, "as the messages draw it");
