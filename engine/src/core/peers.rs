//! What other nodes send: each message finds its replica, or is dropped with a count.

use super::Core;
use crate::effect::Effects;
use crate::ids::{LogReadTicket, Time};
use crate::input::LogReadFailed;
use crate::peer::{OpenedBatch, PeerCore};
use crate::replica::Replica;

impl Core {
    /// Takes a batch from the core that its connection belongs to.
    pub(super) fn on_peer_messages(&mut self, from: PeerCore, batch: &[u8]) {
        let mut opened = match OpenedBatch::open(&self.config.identity, from, batch) {
            Ok(opened) => opened,
            Err(_useless) => {
                self.counters.peer_dropped += 1;
                return;
            }
        };
        while let Some(message) = opened.next_message() {
            let taken = message.is_ok_and(|message| {
                let found = self
                    .replicas
                    .binary_search_by_key(&message.shard, Replica::shard);
                found.is_ok_and(|replica| {
                    self.dirty.mark(replica);
                    self.replicas[replica]
                        .on_peer_message(from, message)
                        .is_ok()
                })
            });
            let counter = match taken {
                true => &mut self.counters.peer_messages,
                false => &mut self.counters.peer_dropped,
            };
            *counter += 1;
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
        let reader = self
            .replicas
            .iter()
            .position(|replica| replica.id() == ticket.replica)
            .expect("the ticket is of a replica of this core");
        let (target, mut turn) = self.turn_of(reader, now, out);
        target.on_log_read(&mut turn, ticket, result);
        self.dirty.mark(reader);
    }

    /// What was sent to a core of another node may be lost.
    pub(super) fn on_peer_unreachable(&mut self, peer: PeerCore) {
        for (position, replica) in self.replicas.iter_mut().enumerate() {
            replica.on_peer_unreachable(peer);
            self.dirty.mark(position);
        }
    }
}
