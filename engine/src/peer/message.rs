//! One message between two replicas of a shard.

use std::fmt;

use bytes::Bytes;
use metastore_wal::format::{ENTRY_HEADER_BYTES, Entries, EntryRef, put_entry_header};
use metastore_wal::{EntryKind, LogIndex, ReplicaId, ShardId, Term};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

use super::error::PeerError;
use super::kind::{
    CHUNK_CODE, PeerKind, QUESTION_CODE, REMOVED_CODE, REQUEST_CODE, code_of, is_read_index,
    kind_of, may_have_body, may_have_context, name_of,
};
use super::notice::{Notice, NoticeKind};
use crate::fields::{length_u32, put, u32_at, u64_at};
use crate::ids::{BootNonce, SnapshotId};
use crate::membership::Membership;

/// Length of a message's head.
const HEAD_BYTES: usize = 80;
const _: () = assert!(HEAD_BYTES.is_multiple_of(8));

const REJECTED: u8 = 1;
const TRANSFER: u8 = 2;

/// Where the numbers of a head stand.
const NUMBERS: [usize; 8] = [16, 24, 32, 40, 48, 56, 64, 72];
/// No group lives long enough to count this far: what claims more is refused here, so that no arithmetic behind it can
/// overflow.
pub(super) const NUMBER_MAX: u64 = u64::MAX / 4;

/// With this context a candidate says that its leader asked it to campaign.
const TRANSFER_CONTEXT: &[u8] = raft::CAMPAIGN_TRANSFER;

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
///   8 its response, 9 campaign now, 10 read index, 11 its response, 12 offer of a snapshot, 13 request for a chunk of
///   its file, 14 that chunk, 15 request of a replica in quarantine, 16 how far the snapshot that it needs must go.
///   17 is a [beat](super::beat::Beat), which has a head of its own: heartbeats and their responses stand there, unless
///   they confirm reads. 18 the receiver is no member any more, 19 the sender asks whether it is one.
/// * flags: 1 rejected, 2 the candidate was asked to campaign by its leader. A rejected chunk says that the file is not
///   there.
/// * The body of an append is its entries, as they stand in the log: each a head of 16 bytes and its data. Their indexes
///   follow from the message's. The body of a heartbeat, of a read index and of their responses is the context of the
///   reads that it confirms. The body of an offer is the length of the snapshot's file (u64) and its members as they
///   stand in the log; that of a chunk is the chunk. Other messages have none.
/// * Index and term of an offer, of a request for a chunk and of the chunk are those of the last entry that the snapshot
///   covers. A request and a chunk have in the place of the commit index where the chunk begins in the file, and a request
///   in the place of the next index how many bytes it asks for.
/// * The index of a request of a replica in quarantine, and of the answer, is the one to which the snapshot must go. In the
///   place of the index's term a request has the term of the leader that said so; both are 0 while nobody has. In the
///   place of the commit index a request has a number of the life of its sender's process, which the answer repeats.
/// * The term of a read index is 0: it is for whoever leads. So may be that of a question whether the sender is a member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerMessage<'a> {
    pub(crate) shard: ShardId,
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    pub(crate) kind: PeerKind,
    flags: u8,
    entries: u32,
    head: &'a [u8],
    body: &'a [u8],
}

/// What an offer of a snapshot says beyond raft's numbers.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotOffer {
    pub(crate) snapshot: SnapshotId,
    /// The leader's term.
    pub(crate) term: Term,
    pub(crate) file_bytes: u64,
    pub(crate) members: Membership,
}

/// The body of an offer, which raft carries as the data of its message.
pub(crate) fn encode_offer(file_bytes: u64, members: &Membership) -> Bytes {
    [&file_bytes.to_le_bytes()[..], &members.encode()]
        .concat()
        .into()
}

/// A message about a chunk of a snapshot's file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkMessage<'a> {
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    pub(crate) term: Term,
    pub(crate) snapshot: SnapshotId,
    /// Where it begins in the file.
    pub(crate) offset: u64,
    pub(crate) content: ChunkContent<'a>,
}

/// What a message about a chunk says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkContent<'a> {
    /// So many bytes are wanted.
    Wanted(u64),
    /// Here they are.
    Bytes(&'a [u8]),
    /// There is no such file, or it cannot be read.
    Gone,
}

/// A message about the repair of a replica in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RepairMessage {
    pub(crate) shard: ShardId,
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    /// The sender's term.
    pub(crate) term: Term,
    /// How far the snapshot must go, 0 while nobody has said so.
    pub(crate) index: LogIndex,
    /// The term of the leader that said so.
    pub(crate) known_term: Term,
    /// The life of the process that asks. An answer to an earlier one may be late, and not go far enough.
    pub(crate) life: u64,
}

/// How the life of a process stands in a message about a repair.
pub(crate) fn life_of(boot: BootNonce) -> u64 {
    boot.0 & NUMBER_MAX
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
        for (index, entry) in (message.index + 1..).zip(message.get_entries()) {
            assert_eq!(
                entry.index, index,
                "a receiver numbers entries by their place"
            );
            encode_entry(entry, out);
        }
    } else if is_read_index(kind) {
        // raft carries the context of these in the data of one entry.
        out.extend_from_slice(&message.entries[0].data);
    } else if may_have_context(kind) {
        out.extend_from_slice(&message.context);
    } else if kind == MessageType::MsgSnapshot {
        out.extend_from_slice(&message.get_snapshot().data);
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
    let metadata = message.get_snapshot().get_metadata();
    let (index, log_term) = if kind == MessageType::MsgSnapshot {
        (metadata.index, metadata.term)
    } else {
        (message.index, message.log_term)
    };
    put(head, 40, index.to_le_bytes());
    put(head, 48, log_term.to_le_bytes());
    put(head, 56, message.commit.to_le_bytes());
    put(head, 64, message.commit_term.to_le_bytes());
    put(head, 72, message.reject_hint.to_le_bytes());
}

/// Appends a message about a chunk to `out`.
pub(super) fn encode_chunk(message: &ChunkMessage<'_>, out: &mut Vec<u8>) {
    let (code, flags, wanted, body) = match message.content {
        ChunkContent::Wanted(wanted) => (REQUEST_CODE, 0, wanted, &[][..]),
        ChunkContent::Bytes(bytes) => (CHUNK_CODE, 0, 0, bytes),
        ChunkContent::Gone => (CHUNK_CODE, REJECTED, 0, &[][..]),
    };
    let start = out.len();
    out.resize(start + HEAD_BYTES, 0);
    out.extend_from_slice(body);
    let head = &mut out[start..start + HEAD_BYTES];
    put(head, 0, [code, flags]);
    put(head, 4, length_u32(body.len()).to_le_bytes());
    put(head, 8, message.snapshot.shard.0.to_le_bytes());
    put(head, 16, message.from.0.to_le_bytes());
    put(head, 24, message.to.0.to_le_bytes());
    put(head, 32, message.term.0.to_le_bytes());
    put(head, 40, message.snapshot.index.0.to_le_bytes());
    put(head, 48, message.snapshot.term.0.to_le_bytes());
    put(head, 56, message.offset.to_le_bytes());
    put(head, 72, wanted.to_le_bytes());
}

/// Appends a message about a repair to `out`.
pub(super) fn encode_repair(code: u8, message: &RepairMessage, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEAD_BYTES, 0);
    let head = &mut out[start..];
    put(head, 0, [code]);
    put(head, 8, message.shard.0.to_le_bytes());
    put(head, 16, message.from.0.to_le_bytes());
    put(head, 24, message.to.0.to_le_bytes());
    put(head, 32, message.term.0.to_le_bytes());
    put(head, 40, message.index.0.to_le_bytes());
    put(head, 48, message.known_term.0.to_le_bytes());
    put(head, 56, message.life.to_le_bytes());
}

/// Appends a notice to `out`.
pub(super) fn encode_notice(notice: &Notice, out: &mut Vec<u8>) {
    let code = match notice.kind {
        NoticeKind::Removed => REMOVED_CODE,
        NoticeKind::Question => QUESTION_CODE,
    };
    let start = out.len();
    out.resize(start + HEAD_BYTES, 0);
    let head = &mut out[start..];
    put(head, 0, [code]);
    put(head, 8, notice.shard.0.to_le_bytes());
    put(head, 16, notice.from.0.to_le_bytes());
    put(head, 24, notice.to.0.to_le_bytes());
    put(head, 32, notice.term.0.to_le_bytes());
}

fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    let (kind, data) = kind_and_data(entry);
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
        PeerKind::Raft(MessageType::MsgRequestVote | MessageType::MsgRequestPreVote)
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
    if kind == PeerKind::Raft(MessageType::MsgAppend) {
        Entries::check(body, entries).ok_or(malformed(HEAD_BYTES))?;
    } else if entries > 0 || (!body.is_empty() && !may_have_body(kind)) {
        return Err(malformed(12));
    }
    let (from, to) = (u64_at(head, 16), u64_at(head, 24));
    if from == 0 || to == 0 || from == to {
        return Err(malformed(16));
    }
    let has_term = u64_at(head, 32) > 0;
    let is_possible = match kind {
        // It is for whoever leads.
        PeerKind::Raft(MessageType::MsgReadIndex) => !has_term,
        // Whoever never had one may ask.
        PeerKind::Notice(NoticeKind::Question) => true,
        PeerKind::Raft(_)
        | PeerKind::ChunkRequest
        | PeerKind::Chunk
        | PeerKind::RepairRequest
        | PeerKind::RepairTarget
        | PeerKind::Notice(NoticeKind::Removed) => has_term,
    };
    if !is_possible {
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

impl<'a> PeerMessage<'a> {
    fn snapshot(&self) -> SnapshotId {
        SnapshotId {
            shard: self.shard,
            term: Term(u64_at(self.head, 48)),
            index: LogIndex(u64_at(self.head, 40)),
        }
    }

    /// An offer of a snapshot; `None` when its body is none.
    pub(crate) fn to_offer(self) -> Option<SnapshotOffer> {
        let (file_bytes, members) = self.body.split_first_chunk()?;
        let snapshot = self.snapshot();
        let file_bytes = u64::from_le_bytes(*file_bytes);
        let is_possible = snapshot.index.0 > 0 && file_bytes > 0 && file_bytes <= NUMBER_MAX;
        is_possible.then_some(SnapshotOffer {
            snapshot,
            term: Term(u64_at(self.head, 32)),
            file_bytes,
            members: Membership::decode(members)?,
        })
    }

    /// A message about a chunk; `None` when it is another.
    pub(crate) fn to_chunk(self) -> Option<ChunkMessage<'a>> {
        let content = match self.kind {
            PeerKind::ChunkRequest => ChunkContent::Wanted(u64_at(self.head, 72)),
            PeerKind::Chunk if self.flags & REJECTED != 0 => ChunkContent::Gone,
            PeerKind::Chunk => ChunkContent::Bytes(self.body),
            PeerKind::Raft(_)
            | PeerKind::RepairRequest
            | PeerKind::RepairTarget
            | PeerKind::Notice(_) => return None,
        };
        Some(ChunkMessage {
            from: self.from,
            to: self.to,
            term: Term(u64_at(self.head, 32)),
            snapshot: self.snapshot(),
            offset: u64_at(self.head, 56),
            content,
        })
    }

    /// A message about a repair; `None` when it is another.
    pub(crate) fn to_repair(self) -> Option<RepairMessage> {
        let is_one = matches!(self.kind, PeerKind::RepairRequest | PeerKind::RepairTarget);
        is_one.then(|| RepairMessage {
            shard: self.shard,
            from: self.from,
            to: self.to,
            term: Term(u64_at(self.head, 32)),
            index: LogIndex(u64_at(self.head, 40)),
            known_term: Term(u64_at(self.head, 48)),
            life: u64_at(self.head, 56),
        })
    }

    /// Whether it is an append that brings something.
    pub(crate) fn carries_entries(&self) -> bool {
        self.entries > 0
    }

    /// The message as raft takes it, entries and context copied; `None` when it is not for raft.
    pub(crate) fn to_raft(self) -> Option<Message> {
        let kind = match self.kind {
            PeerKind::Raft(MessageType::MsgSnapshot)
            | PeerKind::ChunkRequest
            | PeerKind::Chunk
            | PeerKind::RepairRequest
            | PeerKind::RepairTarget
            | PeerKind::Notice(_) => return None,
            PeerKind::Raft(kind) => kind,
        };
        let mut message = Message::default();
        message.set_msg_type(kind);
        message.from = self.from.0;
        message.to = self.to.0;
        message.term = u64_at(self.head, 32);
        message.index = u64_at(self.head, 40);
        message.log_term = u64_at(self.head, 48);
        message.commit = u64_at(self.head, 56);
        message.commit_term = u64_at(self.head, 64);
        message.reject_hint = u64_at(self.head, 72);
        message.reject = self.flags & REJECTED != 0;
        if kind == MessageType::MsgAppend {
            let entries = Entries::check(self.body, self.entries).expect("it was checked");
            let first_index = message.index + 1;
            let indexed = (first_index..).zip(entries);
            let entries: Vec<Entry> = indexed
                .map(|(index, entry)| to_raft_entry(index, &entry))
                .collect();
            message.set_entries(entries.into());
        } else if is_read_index(kind) {
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
        Some(message)
    }
}

impl fmt::Display for PeerMessage<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_rejected = self.flags & REJECTED != 0;
        let name = match self.kind {
            PeerKind::ChunkRequest => "chunk request",
            PeerKind::Chunk if is_rejected => "chunk gone",
            PeerKind::Chunk => "chunk",
            PeerKind::RepairRequest => "repair request",
            PeerKind::RepairTarget => "repair target",
            PeerKind::Notice(NoticeKind::Removed) => "no member any more",
            PeerKind::Notice(NoticeKind::Question) => "question whether it is a member",
            PeerKind::Raft(kind) => name_of(kind, is_rejected),
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
            write!(formatter, " and {} bytes", self.body.len())?;
        }
        Ok(())
    }
}

/// What an entry means to raft, and its data as the log holds it.
///
/// A change of members is kept in our own encoding, which is its context: no peer parses what raft made of it. A leader's
/// word about the state is a context without data.
pub(crate) fn kind_and_data(entry: &Entry) -> (EntryKind, &Bytes) {
    match entry.get_entry_type() {
        EntryType::EntryNormal if !entry.context.is_empty() => {
            (EntryKind::StateCheck, &entry.context)
        }
        EntryType::EntryNormal => (EntryKind::Normal, &entry.data),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            (EntryKind::ConfChange, &entry.context)
        }
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
        EntryKind::StateCheck => raft_entry.context = data,
        EntryKind::ConfChange => {
            raft_entry.set_entry_type(EntryType::EntryConfChangeV2);
            raft_entry.context = data;
        }
    }
    raft_entry
}

const _: () = assert!(ENTRY_HEADER_BYTES == 16, "as the messages draw it");
