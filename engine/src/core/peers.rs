//! What other nodes send: each message finds its replica, or is dropped with a count.

use super::Core;
use crate::peer::{OpenedBatch, PeerCore};

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
        // Every shard has one replica, which nobody writes to.
        while let Some(_message) = opened.next_message() {
            self.counters.peer_dropped += 1;
        }
    }

    /// What was sent to a core of another node may be lost.
    pub(super) fn on_peer_unreachable(&mut self, _peer: PeerCore) {}
}
