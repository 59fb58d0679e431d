//! What a core reports about itself. Nothing here changes it.

use metastore_wal::ShardId;

use super::Core;
use crate::memory::{Account, MemoryAccounts};
use crate::peer::PeerCore;
use crate::replica::Replica;
use crate::status::{AdmissionStatus, CoreStatus, ReplicaStatus, WaitingWork};

impl Core {
    /// Whether the shard of every replica of the core has a leader that answers, as far as is known here.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        let mut members = self.replicas.iter().filter(|replica| replica.is_member());
        members.all(Replica::is_useful)
    }

    /// Whether the log holds, durably, every replica that is here since the start: from then on it may lack none.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.log.is_ready() && self.log.durable_position() >= self.begins_at
    }

    /// Where the members of every shard live that has a replica here, as far as that one knows.
    pub fn homes(&self) -> impl Iterator<Item = (ShardId, Vec<PeerCore>)> {
        let homes_of = |replica: &Replica| (replica.shard(), replica.all_homes());
        self.replicas.iter().map(homes_of)
    }

    /// Where the replica lives that leads, of every shard that has a replica here, as far as that one knows.
    pub fn leaders(&self) -> impl Iterator<Item = (ShardId, Option<PeerCore>)> {
        let leader_of = |replica: &Replica| (replica.shard(), replica.leader_home());
        self.replicas.iter().map(leader_of)
    }

    /// Whether, after [`Input::Drain`](crate::Input::Drain), everything accepted is finished and the log has its mark.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_draining
            && self.answers.gathers() == 0
            && self.merges.len() == 0
            && self.sweeps.len() == 0
            && self.replicas.iter().all(Replica::is_quiet)
            && self.snapshots.is_quiet()
            && self.transfers.is_quiet()
            && self.log.is_idle()
            && !self.log.needs_mark()
    }

    /// Whether a record waits for a segment to be prepared.
    #[must_use]
    pub fn is_log_stalled(&self) -> bool {
        self.log.is_stalled()
    }

    /// Whether the log will soon have no segment to go on in: the one being prepared is urgent.
    #[must_use]
    pub fn is_segment_urgent(&self) -> bool {
        self.log.is_segment_urgent()
    }

    /// What a snapshot of its largest shard would take at most, in bytes, before compression.
    #[must_use]
    pub fn snapshot_bytes_max(&self) -> u64 {
        let states = self.replicas.iter().map(Replica::state_bytes);
        states.max().unwrap_or(0)
    }

    /// Whether more than a good part of a record waits for the log: background writes should make room.
    #[must_use]
    pub fn is_log_behind(&self) -> bool {
        self.log.staged_bytes() >= self.config.log.record_bytes_max / 4
    }

    /// What the core reports about itself.
    #[must_use]
    pub fn status(&self) -> CoreStatus {
        CoreStatus {
            core: self.id(),
            is_serving: self.is_serving(),
            accepts_writes: self.accepts_writes(),
            log: self.log.status(),
            counters: self.counters,
            waiting: WaitingWork {
                gathers: self.answers.gathers(),
                ranges: self.merges.len(),
                sweeps: self.sweeps.len(),
                range_parts: self.replicas.iter().map(Replica::open_parts).sum(),
                command_bytes: self.replicas.iter().map(Replica::waiting_bytes).sum(),
                unpersisted_readies: self.replicas.iter().map(Replica::unpersisted_readies).sum(),
            },
            admission: AdmissionStatus {
                refused: self.admission.refused(),
                is_refusing: self.admission.is_refusing(),
                room: *self.admission.memory(),
            },
            memory: self.memory(),
            stages: self.stages.summaries(),
            slices: self.slices.summaries(),
            replicas: self.replicas.iter().map(Replica::status).collect(),
        }
    }

    /// How its replicas stand. Unlike [`Core::status`] it costs next to nothing.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaStatus> {
        self.replicas.iter().map(Replica::status)
    }

    /// What the core holds, by account; the driver adds what it holds itself.
    #[must_use]
    pub fn memory(&self) -> MemoryAccounts {
        let mut accounts = MemoryAccounts::default();
        for replica in &self.replicas {
            replica.add_memory(&mut accounts);
        }
        let replies = self.answers.bytes() + self.merges.bytes();
        accounts.add(Account::Replies, replies as u64);
        accounts.add(Account::Log, self.log_buffer_bytes());
        accounts.add(Account::Snapshot, self.snapshots.bytes());
        accounts
    }

    fn log_buffer_bytes(&self) -> u64 {
        let log = &self.config.log;
        (log.record_bytes_max * log.writes_in_flight_max) as u64
    }
}
