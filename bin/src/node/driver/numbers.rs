//! What a core tells of itself: its numbers, and where its shards are.

use std::rc::Rc;

use glommio::timer::Timer;

use super::Driver;
use crate::node::board::{Board, CoreNumbers, PUBLISH_INTERVAL};
use crate::node::wire::{self, DriverCounts};

impl Driver {
    /// Hangs up the core's numbers again and again.
    pub(crate) async fn drive_board(self: Rc<Self>, board: Board) {
        loop {
            for (shard, homes) in self.core.borrow().homes() {
                self.facts.places.note_homes(shard, homes);
            }
            let numbers = self.numbers();
            board.publish(self.facts.hello.core_index, self.clock.now(), numbers);
            Timer::new(PUBLISH_INTERVAL).await;
        }
    }

    fn numbers(&self) -> CoreNumbers {
        let status = self.core.borrow().status();
        CoreNumbers {
            status: wire::status_reply(&self.facts, self.counts(), &status),
            is_serving: status.is_serving,
            accepts_writes: status.accepts_writes,
            stages: status.stages,
            slices: status.slices,
        }
    }

    pub(super) fn counts(&self) -> DriverCounts {
        DriverCounts {
            connections: self.connections.count(),
            connection_counts: self.connections.counts(),
            ring_writes: self.ring.borrow().status().writes,
            memory: self.memory.borrow().counts(),
            peers: self.peers.counts(),
            disk_free_bytes: self.disk.free_bytes(),
        }
    }
}
