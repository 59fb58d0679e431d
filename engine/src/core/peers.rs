//! What other nodes send: each message finds its replica, or is dropped with a count.

use metastore_wal::{ReplicaId, ShardId};
use raft::eraftpb::MessageType;

use super::Core;
use super::scrubbing::SCRUBBER;
use crate::effect::Effects;
use crate::ids::{LogReadTicket, Time};
use crate::input::LogReadFailed;
use crate::peer::{NoticeKind, OpenedBatch, PeerCore, PeerKind, PeerMessage, Said};
use crate::replica::{Ignored, Replica};

impl Core {
    /// Takes a batch from the core that its connection belongs to.
    pub(super) fn on_peer_messages(
        &mut self,
        now: Time,
        from: PeerCore,
        batch: &[u8],
        out: &mut Effects,
    ) {
        let mut opened = match OpenedBatch::open(&self.config.identity, from, batch) {
            Ok(opened) => opened,
            Err(_useless) => {
                self.counters.peer_dropped += 1;
                return;
            }
        };
        while let Some(said) = opened.next_message() {
            let taken = match said {
                Ok(Said::Message(message)) => self.on_peer_message(now, from, message, out),
                Ok(Said::Beat(beat)) => {
                    self.on_beat(now, from, beat);
                    continue;
                }
                Err(_senseless) => None,
            };
            self.count_taken(taken);
        }
    }

    pub(super) fn count_taken(&mut self, taken: Option<()>) {
        let counter = match taken {
            Some(()) => &mut self.counters.peer_messages,
            None => &mut self.counters.peer_dropped,
        };
        *counter += 1;
    }

    /// Takes one message; `None` when it is of no use.
    fn on_peer_message(
        &mut self,
        now: Time,
        from: PeerCore,
        message: PeerMessage<'_>,
        out: &mut Effects,
    ) -> Option<()> {
        let replica = self
            .replicas
            .binary_search_by_key(&message.shard, Replica::shard)
            .ok()?;
        self.dirty.mark(replica);
        let ends = (message.from, message.to);
        let sender = match self.replicas[replica].check_ends(from, ends, message.kind) {
            Ok(sender) => sender,
            Err(Ignored::RemovedSender { .. }) => {
                self.on_removed_sender(replica, from, &message, out);
                return None;
            }
            Err(_useless) => return None,
        };
        // What is not raft's is work all the same, but for words about membership.
        let is_no_work = match message.kind {
            PeerKind::Raft(kind) => kind != MessageType::MsgSnapshot,
            PeerKind::Notice(_) => true,
            PeerKind::ChunkRequest
            | PeerKind::Chunk
            | PeerKind::RepairRequest
            | PeerKind::RepairTarget => false,
        };
        if !is_no_work {
            self.replicas[replica].wake();
        }
        match message.kind {
            PeerKind::Raft(MessageType::MsgSnapshot) => {
                self.on_offer(replica, sender, message.to_offer()?);
            }
            // What is left is for raft's own word and for records of snapshots: without them nothing would ever be released.
            PeerKind::Raft(MessageType::MsgAppend)
                if message.carries_entries() && !self.log.has_room_to_free() =>
            {
                self.counters.peer_appends_refused += 1;
            }
            PeerKind::Raft(_) => {
                let message = message.to_raft()?;
                let target = &mut self.replicas[replica];
                target.give_up_dead_leader(&message, &self.neighbours);
                target.on_peer_message(message).ok()?;
            }
            PeerKind::ChunkRequest => {
                self.on_chunk_request(now, (replica, from), &message.to_chunk()?, out);
            }
            PeerKind::Chunk => self.on_chunk(replica, &message.to_chunk()?, out),
            PeerKind::RepairRequest => {
                let request = message.to_repair()?;
                let (target, mut turn) = self.turn_of(replica, now, out);
                target.on_repair_request(&mut turn, from, &request);
            }
            PeerKind::RepairTarget => {
                self.replicas[replica].on_repair_target(&message.to_repair()?)
            }
            PeerKind::Notice(NoticeKind::Removed) => self.replicas[replica].on_removed(),
            // It is a member: its leader will find it. Where we take it for our leader, it leads no more.
            PeerKind::Notice(NoticeKind::Question) => {
                let target = &mut self.replicas[replica];
                if target.leader() == Some(message.from) {
                    target.wake();
                }
            }
        }
        Some(())
    }

    /// A replica that is no member any more speaks: it is told so where it asks, or asks for votes or for a repair.
    fn on_removed_sender(
        &mut self,
        replica: usize,
        from: PeerCore,
        message: &PeerMessage<'_>,
        out: &mut Effects,
    ) {
        self.counters.peer_removed += 1;
        let is_to_be_told = matches!(
            message.kind,
            PeerKind::Notice(NoticeKind::Question)
                | PeerKind::RepairRequest
                | PeerKind::Raft(MessageType::MsgRequestVote | MessageType::MsgRequestPreVote)
        );
        let durable = self.log.durable_position();
        let election_ticks = self.config.settings.raft.election_ticks;
        let target = &mut self.replicas[replica];
        if is_to_be_told && !target.may_tell_removed(election_ticks) {
            // It asks again. Time must pass here until then.
            target.wake();
            return;
        }
        let notice = target.notice_to(message.from, NoticeKind::Removed, durable);
        let may_tell = is_to_be_told && !target.is_quarantined();
        if let (true, Some(notice)) = (may_tell, notice) {
            self.peers.push_notice(from, &notice, out);
        }
    }

    /// A part of the log was read back for a follower that lags, or could not be.
    pub(super) fn on_log_read(
        &mut self,
        now: Time,
        ticket: LogReadTicket,
        result: Result<&[u8], LogReadFailed>,
        out: &mut Effects,
    ) {
        if ticket.replica == SCRUBBER {
            self.on_scrub_read(result);
            return;
        }
        let reader = self
            .replicas
            .iter()
            .position(|replica| replica.id() == ticket.replica)
            .expect("the ticket is of a replica of this core");
        let (target, mut turn) = self.turn_of(reader, now, out);
        target.on_log_read(&mut turn, ticket, result);
        self.dirty.mark(reader);
    }

    /// Another voter shall lead a shard.
    pub(super) fn on_hand_over(&mut self, shard: ShardId, to: Option<ReplicaId>) {
        let found = self.replicas.binary_search_by_key(&shard, Replica::shard);
        if let Ok(replica) = found
            && self.replicas[replica].hand_over(to)
        {
            self.dirty.mark(replica);
        }
    }

    /// Lets others lead what nobody waits for here any more.
    pub(super) fn hand_over_quiet(&mut self) {
        for replica in 0..self.replicas.len() {
            let leader = &mut self.replicas[replica];
            if leader.may_hand_over() && leader.hand_over(None) {
                self.dirty.mark(replica);
            }
        }
    }

    /// What was sent to a core of another node may be lost.
    pub(super) fn on_peer_unreachable(&mut self, peer: PeerCore) {
        self.neighbours.on_reset(peer);
        for (position, replica) in self.replicas.iter_mut().enumerate() {
            replica.on_peer_unreachable(peer);
            self.dirty.mark(position);
        }
    }
}
