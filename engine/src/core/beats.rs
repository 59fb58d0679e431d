//! What cores tell each other whatever their shards do: that they are there. What follows from hearing it, and from not
//! hearing it, for the replicas; and which of them should lead.

use std::collections::BTreeSet;

use super::disk_health::SLOW_MS;
use super::moves::Move;
use super::neighbours::NeighbourChange;
use super::{Core, DiskSpace, Other, Pace};
use crate::effect::Effects;
use crate::ids::Time;
use crate::peer::{Beat, BeatRecord, PeerCore, PeerKind};
use crate::replica::{Ignored, Replica};

/// Ticks between two looks at where all members live; those of replicas that are awake are looked at every tick.
const LOOK_TICKS: u64 = 64;
/// Election timeouts after a start in which a core asks for no lead: it may not stay, and has much to catch up with.
const GRACE_ELECTIONS: u64 = 4;

/// How the core comes to lead what it should.
#[derive(Debug, Default)]
pub(super) struct Lead {
    /// Ticks since the start.
    ticks: u64,
    /// The replica that is looked at first.
    next: usize,
}

impl Lead {
    pub(super) fn follow(&mut self, moved: Move, replicas: usize) {
        self.next = moved.of_turn(self.next, replicas);
    }
}

impl Core {
    // ---- Hearing ----

    /// A core of another node is there, and says what its replicas have to say to ours.
    pub(super) fn on_beat(&mut self, now: Time, from: PeerCore, beat: Beat<'_>) {
        if let Some(change) = self.neighbours.on_beat(now, from, &beat.stamp) {
            self.on_neighbour(from, change);
        }
        for record in beat.records() {
            let taken = self.on_record(from, record);
            self.count_taken(taken);
        }
    }

    fn on_record(&mut self, from: PeerCore, record: BeatRecord) -> Option<()> {
        let found = self
            .replicas
            .binary_search_by_key(&record.shard, Replica::shard);
        let replica = found.ok()?;
        self.dirty.mark(replica);
        let target = &mut self.replicas[replica];
        let ends = (record.from, record.to);
        match target.check_ends(from, ends, PeerKind::Raft(record.kind)) {
            Ok(_) => target.on_record(record, &self.neighbours).ok(),
            Err(Ignored::RemovedSender { .. }) => {
                self.counters.peer_removed += 1;
                None
            }
            Err(_useless) => None,
        }
    }

    /// Somebody came or went: whoever relies on it wakes.
    fn on_neighbour(&mut self, core: PeerCore, change: NeighbourChange) {
        let silent_ticks = self.neighbours.silent_ticks(core);
        for replica in &mut self.replicas {
            match change {
                NeighbourChange::Appeared => replica.on_member_changed(core),
                NeighbourChange::Silent => {
                    replica.on_member_changed(core);
                    replica.on_leader_silent(core, silent_ticks);
                }
                NeighbourChange::Restarted | NeighbourChange::Gone => {
                    replica.on_member_changed(core);
                    replica.on_leader_gone(core);
                }
            }
        }
    }

    // ---- Time ----

    /// A tick has passed for this core, or several at once because it stood still.
    pub(super) fn tick_neighbours(&mut self, now: Time, missed: u64, out: &mut Effects) {
        self.lead.ticks += 1;
        if self.lead.ticks.is_multiple_of(LOOK_TICKS) {
            self.find_neighbours();
            self.wake_for_state_checks(now);
            self.ask_for_sleeper(now, out);
        } else {
            let awake = self.replicas.iter().filter(|replica| !replica.is_asleep());
            for home in awake.flat_map(Replica::homes) {
                self.neighbours.add(home);
            }
        }
        for (core, change) in self.neighbours.on_tick(self.timing.tick_ns()) {
            self.on_neighbour(core, change);
        }
        if missed >= self.config.settings.raft.election_ticks as u64 {
            // Others may have taken us for dead: leaders are to find out.
            self.replicas.iter_mut().for_each(Replica::wake);
        }
        self.timing.adapt(&self.neighbours);
        for core in self.neighbours.cores() {
            self.peers.beat(core);
        }
    }

    /// Groups sleep though their states are still to be compared: that may take a while. They wake for it.
    fn wake_for_state_checks(&mut self, now: Time) {
        let settings = &self.config.settings;
        for replica in &mut self.replicas {
            if replica.is_asleep() && replica.has_state_check_due(now, settings) {
                replica.wake();
            }
        }
    }

    /// Looks where all members of all shards live.
    pub(super) fn find_neighbours(&mut self) {
        let homes: BTreeSet<PeerCore> = self.replicas.iter().flat_map(Replica::homes).collect();
        self.neighbours.set(&homes);
    }

    pub(super) fn flush_peers(&mut self, now: Time, out: &mut Effects) {
        // A core alone has nothing to say in any turn.
        if self.peers.is_empty() {
            return;
        }
        let (neighbours, timing) = (&self.neighbours, &self.timing);
        let stamp = |to| neighbours.stamp(now, to, timing.needed_ns(), timing.tick_ns());
        self.peers.flush(stamp, out);
    }

    // ---- Leading ----

    /// Asks for the lead of one shard that this core should lead, if it is well: one after the other, so that after a
    /// start they come back without anybody noticing.
    pub(super) fn drive_lead(&mut self) {
        let raft = &self.config.settings.raft;
        let Some(lead_ticks) = raft.idle.lead_ticks else {
            return;
        };
        let grace_ticks = GRACE_ELECTIONS * raft.election_ticks as u64;
        let is_due = self.lead.ticks.is_multiple_of(u64::from(lead_ticks));
        let is_well = self.log.is_ready()
            && !self.log.is_stalled()
            && !self.is_log_behind()
            && self.disk == DiskSpace::Enough
            && !self.is_draining;
        if self.lead.ticks < grace_ticks || !is_due || !is_well {
            return;
        }
        // On a slow disk it leaves the lead to others, unless theirs are no faster.
        let write_ns = self.timing.write_ns();
        let pace = Pace::new(&self.neighbours, self.timing.comparable_ns(write_ns));
        let is_no_loss =
            |leader| write_ns <= SLOW_MS * 1_000_000 || pace.of(leader) == Other::NotFaster;
        let count = self.replicas.len();
        let order = (0..count).map(|step| (self.lead.next + step) % count);
        for rank in order {
            if self.replicas[rank].claims_lead(rank, is_no_loss) {
                self.lead.next = (rank + 1) % count;
                self.dirty.mark(rank);
                return;
            }
        }
    }
}
