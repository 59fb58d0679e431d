//! What messages are about: their codes, their lanes, and what they are called.

use raft::eraftpb::MessageType;

use super::{NoticeKind, PeerLane};

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerKind {
    /// What raft says.
    Raft(MessageType),
    /// A chunk of a snapshot's file is asked for.
    ChunkRequest,
    /// A chunk of a snapshot's file, or that it is not there.
    Chunk,
    /// A replica in quarantine asks for a snapshot, or how far it must go.
    RepairRequest,
    /// How far it must go.
    RepairTarget,
    /// Something about being a member.
    Notice(NoticeKind),
}

pub(super) const REQUEST_CODE: u8 = 13;
pub(super) const CHUNK_CODE: u8 = 14;
pub(super) const REPAIR_REQUEST_CODE: u8 = 15;
pub(super) const REPAIR_TARGET_CODE: u8 = 16;
// 17 is a beat, which has a head of its own.
pub(super) const REMOVED_CODE: u8 = 18;
pub(super) const QUESTION_CODE: u8 = 19;

/// What raft's kinds are called on the wire; `None` for those that never leave a process.
pub(super) fn code_of(kind: MessageType) -> Option<u8> {
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
        MessageType::MsgSnapshot => 12,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader => return None,
    })
}

pub(super) fn kind_of(code: u8) -> Option<PeerKind> {
    Some(PeerKind::Raft(match code {
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
        12 => MessageType::MsgSnapshot,
        REQUEST_CODE => return Some(PeerKind::ChunkRequest),
        CHUNK_CODE => return Some(PeerKind::Chunk),
        REPAIR_REQUEST_CODE => return Some(PeerKind::RepairRequest),
        REPAIR_TARGET_CODE => return Some(PeerKind::RepairTarget),
        REMOVED_CODE => return Some(PeerKind::Notice(NoticeKind::Removed)),
        QUESTION_CODE => return Some(PeerKind::Notice(NoticeKind::Question)),
        _ => return None,
    }))
}

pub(super) fn is_read_index(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp
    )
}

pub(super) fn may_have_body(kind: PeerKind) -> bool {
    match kind {
        PeerKind::Raft(MessageType::MsgSnapshot) | PeerKind::Chunk => true,
        PeerKind::Raft(kind) => may_have_context(kind),
        PeerKind::ChunkRequest
        | PeerKind::RepairRequest
        | PeerKind::RepairTarget
        | PeerKind::Notice(_) => false,
    }
}

pub(super) fn may_have_context(kind: MessageType) -> bool {
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

/// What a message is called in traces.
pub(super) fn name_of(kind: MessageType, is_rejected: bool) -> &'static str {
    match kind {
        MessageType::MsgAppend => "append",
        MessageType::MsgAppendResponse if is_rejected => "append rejected",
        MessageType::MsgAppendResponse => "append accepted",
        MessageType::MsgHeartbeat => "heartbeat",
        MessageType::MsgHeartbeatResponse => "heartbeat response",
        MessageType::MsgRequestVote => "vote request",
        MessageType::MsgRequestVoteResponse if is_rejected => "vote refused",
        MessageType::MsgRequestVoteResponse => "vote granted",
        MessageType::MsgRequestPreVote => "pre-vote request",
        MessageType::MsgRequestPreVoteResponse if is_rejected => "pre-vote refused",
        MessageType::MsgRequestPreVoteResponse => "pre-vote granted",
        MessageType::MsgTimeoutNow => "campaign now",
        MessageType::MsgReadIndex => "read index",
        MessageType::MsgReadIndexResp => "read index response",
        MessageType::MsgSnapshot => "offer of a snapshot",
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader => unreachable!("it has no code on the wire"),
    }
}
