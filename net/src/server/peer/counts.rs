//! What has happened to the connections between cores.

use crate::peer::{HelloFault, IncomingFault};

/// What has happened to the connections from other cores since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IncomingCounts {
    /// Hellos that were accepted.
    pub opened: u64,
    /// Of these, how many took the place of another connection of the same core and lane.
    pub replaced: u64,
    /// Batches handed over.
    pub batches: u64,
    /// Closed because too many had not said hello.
    pub turned_away: u64,
    /// Not accepted for want of descriptors or memory, counted once for each attempt.
    pub accept_failures: u64,
    /// Closed because a hello, a batch or the closing after a refusal took too long.
    pub timed_out: u64,
    /// Ended by the sender, or broken, before a hello was complete or in the middle of a batch.
    pub cut_short: u64,
    /// Closed because what they sent first was no hello.
    pub strangers: u64,
    /// Refused: a hello that was damaged or said what is not known here.
    pub damaged: u64,
    /// Refused: no common version.
    pub wrong_version: u64,
    /// Refused: of another cluster, or of one that was formatted with other shards or recovered another time.
    pub wrong_cluster: u64,
    /// Refused: meant for another core, or from this very node.
    pub wrong_core: u64,
    /// Refused: too many connections.
    pub full: u64,
    /// Refused: the sender's data was formatted anew under an id that has served.
    pub other_data: u64,
    /// Closed because what followed the hello was no batch, or too long.
    pub bad_batches: u64,
}

impl IncomingCounts {
    /// Connections that were closed because of what they sent, or did not, or because there were too many.
    #[must_use]
    pub fn refused(&self) -> u64 {
        let too_many = self.turned_away + self.full;
        let wrong = self.wrong_version + self.wrong_cluster + self.wrong_core + self.other_data;
        let senseless = self.strangers + self.damaged + self.bad_batches;
        too_many + wrong + senseless + self.timed_out
    }

    pub(super) fn note_fault(&mut self, fault: &IncomingFault) {
        let count = match fault {
            IncomingFault::Batch(_) => &mut self.bad_batches,
            IncomingFault::Hello(HelloFault::Magic { .. }) => &mut self.strangers,
            IncomingFault::Hello(
                HelloFault::Checksum { .. } | HelloFault::Reserved { .. } | HelloFault::Lane { .. },
            ) => &mut self.damaged,
            IncomingFault::Hello(HelloFault::Version { .. }) => &mut self.wrong_version,
            IncomingFault::Hello(
                HelloFault::Cluster { .. }
                | HelloFault::InitialMap { .. }
                | HelloFault::Epoch { .. },
            ) => &mut self.wrong_cluster,
            IncomingFault::Hello(HelloFault::Receiver { .. } | HelloFault::Sender { .. }) => {
                &mut self.wrong_core
            }
        };
        *count += 1;
    }
}

/// What has happened to the connections to other cores since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounts {
    /// Attempts to connect.
    pub attempts: u64,
    /// Connections that could be used.
    pub opened: u64,
    /// Of these, how many have ended, or were removed.
    pub ended: u64,
    /// Batches that the kernel has taken.
    pub sent: u64,
    /// Writes in which it took them, or parts of them.
    pub writes: u64,
    /// Batches that waited, or were sent in part, when their connection ended, could not be made, or was removed.
    pub lost: u64,
    /// Batches dropped because too much waited.
    pub dropped_full: u64,
    /// Batches dropped because there was no connection and it was not yet time to try again.
    pub dropped_unreachable: u64,
    /// Batches dropped because nobody knows where their receiver is, or because no batch is like that.
    pub dropped_unsendable: u64,
}

impl LinkCounts {
    /// Batches that were dropped before they could be sent.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.dropped_full + self.dropped_unreachable + self.dropped_unsendable
    }
}
