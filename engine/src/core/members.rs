//! Replicas that come to a core and go from it, and changes of members that are asked for.
//!
//! A replica comes with one record in the log: from then on it is there, empty, until the leader of its shard offers it a
//! snapshot. It goes in steps, each of which a start takes up again where a crash left it:
//!
//! ```text
//!   fenced ──> settled ──────────> unlisted ──────> buried ───────────────────> removed
//!     it knows   nothing of it       the next start    a tombstone in the log,     its file is gone, and another
//!     that it    is under way        does not look     known to be durable by      replica of the shard may come
//!     is none                        for it            what follows it
//! ```
//!
//! A crash before the tombstone finds the replica in the log: it starts, and finds out once more that it is no member. A
//! crash behind it leaves a file that no record names: the next start removes it.

use std::collections::BTreeMap;

use metastore_wal::{Position, ReplicaId, ShardId};

use super::Core;
use super::moves::Move;
use crate::effect::{Effect, Effects};
use crate::ids::Time;
use crate::members::{
    ChangeRefused, ChangeTicket, CreateRefused, MemberStatus, MembersChange, MembersEffect,
    MembersInput,
};
use crate::replica::{RecoveringReplica, Replica};

/// How far the removal of a replica has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    /// What is under way for it comes to its end.
    Settling,
    /// The driver takes it off its list.
    Unlisting,
    /// Its tombstone is staged here, and its file is removed once that is certain to last.
    Burying(Position),
}

/// Replicas that come or go.
#[derive(Debug, Default)]
pub(super) struct Residents {
    coming: Vec<(Position, ReplicaId, ShardId)>,
    going: BTreeMap<ReplicaId, Removal>,
    /// The replica that asks next whether it is a member still, if it sleeps.
    asks_next: usize,
}

impl Residents {
    /// A replica does nothing any more.
    pub(super) fn on_fenced(&mut self, replica: ReplicaId) {
        self.going.entry(replica).or_insert(Removal::Settling);
    }

    /// Whether nobody comes or goes.
    pub(super) fn is_quiet(&self) -> bool {
        self.coming.is_empty() && self.going.is_empty()
    }
}

impl Core {
    /// How the members of a shard stand, as its replica here knows them; empty where none lives here.
    #[must_use]
    pub fn members(&self, now: Time, shard: ShardId) -> Vec<MemberStatus> {
        let Some(replica) = self.find_replica(shard) else {
            return Vec::new();
        };
        let replica = &self.replicas[replica];
        let mut members = replica.members(now);
        // In a group that sleeps nobody speaks but the cores, for all of their replicas.
        if replica.is_asleep() {
            for status in &mut members {
                let home = status.member.home;
                let is_there =
                    status.member.replica == replica.id() || self.neighbours.is_alive(home);
                status.is_healthy = status.is_healthy.map(|_| is_there);
            }
        }
        members
    }

    pub(super) fn on_members(&mut self, now: Time, input: MembersInput, out: &mut Effects) {
        match input {
            MembersInput::Change {
                ticket,
                shard,
                change,
                deadline_ms,
            } => {
                let deadline = self.deadline(now, deadline_ms);
                if let Err(refused) = self.ask_for_change(ticket, shard, &change, deadline) {
                    let result = Err(refused);
                    let changed = MembersEffect::Changed { ticket, result };
                    out.queue.push(Effect::Members(changed));
                }
            }
            MembersInput::Create { replica, shard } => {
                let created = self.create_replica(now, replica, shard);
                if let Some(result) = created.transpose() {
                    let created = MembersEffect::Created {
                        replica,
                        shard,
                        result,
                    };
                    out.queue.push(Effect::Members(created));
                }
            }
            MembersInput::Discard { replica } => {
                let here = self.position_of(replica);
                if let Some(here) = here
                    && self.replicas[here].discard()
                {
                    self.dirty.mark(here);
                }
            }
            MembersInput::Removed { replica } => {
                if let Some(here) = self.position_of(replica) {
                    self.replicas[here].on_removed();
                    self.dirty.mark(here);
                }
            }
            MembersInput::Unlisted { replica } => self.bury(replica),
        }
    }

    fn ask_for_change(
        &mut self,
        ticket: ChangeTicket,
        shard: ShardId,
        change: &MembersChange,
        deadline: Time,
    ) -> Result<(), ChangeRefused> {
        let Some(replica) = self.find_replica(shard) else {
            return Err(ChangeRefused::NotLeader { leader: None });
        };
        self.dirty.mark(replica);
        self.replicas[replica].ask_for_change(ticket, change, deadline)
    }

    fn position_of(&self, replica: ReplicaId) -> Option<usize> {
        self.replicas.iter().position(|here| here.id() == replica)
    }

    // ---- Coming ----

    /// `None` while it is not durable yet. Who has not heard the answer may ask again.
    fn create_replica(
        &mut self,
        now: Time,
        replica: ReplicaId,
        shard: ShardId,
    ) -> Result<Option<()>, CreateRefused> {
        if let Some(here) = self.find_replica(shard) {
            let here = self.replicas[here].id();
            if here == replica && !self.residents.going.contains_key(&replica) {
                return Ok((!self.is_coming(replica)).then_some(()));
            }
            return Err(CreateRefused::ShardIsHere { replica: here });
        }
        if replica == ReplicaId(0) {
            return Err(CreateRefused::NoReplica);
        }
        if let Some(other) = self.position_of(replica) {
            let shard = self.replicas[other].shard();
            return Err(CreateRefused::IdTaken { shard });
        }
        if self.is_draining {
            return Err(CreateRefused::Draining);
        }
        let position = RecoveringReplica::stage_joining(replica, shard, &mut self.log);
        let parameters = self.config.parameters;
        let tail_bytes_max = self.config.settings.raft.tail_bytes_max;
        let joining = RecoveringReplica::joining(replica, shard, parameters, tail_bytes_max);
        let started = joining.start(now, &self.config, &self.logger);
        let mut started = started.expect("a replica without a log has nothing to be wrong");
        started.wait_for(position);
        self.insert_replica(started);
        self.residents.coming.push((position, replica, shard));
        Ok(None)
    }

    fn insert_replica(&mut self, replica: Replica) {
        let shard = replica.shard();
        let at = self.replicas.partition_point(|here| here.shard() < shard);
        self.replicas.insert(at, replica);
        self.move_replicas(Move::Inserted(at));
        self.dirty.mark(at);
    }

    // ---- Members still? ----

    /// One replica after the other asks, if it sleeps and follows, whether it is a member still. It may have missed that
    /// it was removed; the core of who led it may be there all the same, and then nothing wakes it.
    pub(super) fn ask_for_sleeper(&mut self, now: Time, out: &mut Effects) {
        let count = self.replicas.len();
        let mut order = (0..count).map(|step| (self.residents.asks_next + step) % count);
        let Some(asks) = order.find(|&place| self.replicas[place].is_asleep_following()) else {
            return;
        };
        self.residents.asks_next = (asks + 1) % count;
        let (target, mut turn) = self.turn_of(asks, now, out);
        target.ask_others(&mut turn);
    }

    // ---- Going ----

    /// Brings everybody forward who comes or goes.
    pub(super) fn drive_residents(&mut self, out: &mut Effects) {
        if self.residents.is_quiet() {
            return;
        }
        let durable = self.log.durable_position();
        let created =
            |&mut (position, ..): &mut (Position, ReplicaId, ShardId)| position <= durable;
        for (_, replica, shard) in self.residents.coming.extract_if(.., created) {
            self.counters.replicas_created += 1;
            let result = Ok(());
            let created = MembersEffect::Created {
                replica,
                shard,
                result,
            };
            out.queue.push(Effect::Members(created));
        }
        let going: Vec<(ReplicaId, Removal)> = self
            .residents
            .going
            .iter()
            .map(|(&id, &step)| (id, step))
            .collect();
        for (replica, removal) in going {
            match removal {
                Removal::Settling => self.unlist_settled(replica, out),
                Removal::Unlisting => {}
                Removal::Burying(position) => self.remove_buried(replica, position, out),
            }
        }
    }

    /// Once nothing is under way for a replica, the driver takes it off its list.
    fn unlist_settled(&mut self, replica: ReplicaId, out: &mut Effects) {
        let at = self
            .position_of(replica)
            .expect("it is here until it is removed");
        self.snapshots.give_up(at);
        self.transfers.give_up(at);
        let is_settled = self.replicas[at].is_settled()
            && !self.snapshots.works_for(at)
            && !self.transfers.works_for(at)
            && !self.is_coming(replica);
        if !is_settled {
            return;
        }
        let shard = self.replicas[at].shard();
        self.residents.going.insert(replica, Removal::Unlisting);
        let unlist = MembersEffect::Unlist { replica, shard };
        out.queue.push(Effect::Members(unlist));
    }

    /// Whether its creation is not durable yet: that is answered first.
    fn is_coming(&self, replica: ReplicaId) -> bool {
        self.residents
            .coming
            .iter()
            .any(|&(_, coming, _)| coming == replica)
    }

    fn bury(&mut self, replica: ReplicaId) {
        if self.residents.going.get(&replica) != Some(&Removal::Unlisting) {
            return;
        }
        let at = self
            .position_of(replica)
            .expect("it is here until it is removed");
        let position = self.replicas[at].stage_tombstone(&mut self.log);
        if let Some(snapshot) = self.replicas[at].last_snapshot_id() {
            self.snapshots.supersede(position, snapshot);
        }
        self.residents
            .going
            .insert(replica, Removal::Burying(position));
    }

    fn remove_buried(&mut self, replica: ReplicaId, position: Position, out: &mut Effects) {
        let at = self
            .position_of(replica)
            .expect("it is here until it is removed");
        let shard = self.replicas[at].shard();
        // A replica of the shard that comes next may fetch a snapshot of the same name.
        let is_over =
            position <= self.log.covered_position() && !self.snapshots.has_files_of(shard);
        if !is_over {
            return;
        }
        self.residents.going.remove(&replica);
        self.replicas.remove(at);
        self.move_replicas(Move::Removed(at));
        self.counters.replicas_removed += 1;
        let removed = MembersEffect::Removed { replica, shard };
        out.queue.push(Effect::Members(removed));
    }

    // ---- Places ----

    /// Whoever knows replicas by their places follows when one comes or goes.
    fn move_replicas(&mut self, moved: Move) {
        self.dirty.follow(moved);
        self.waiting_for_log.follow(moved);
        for (_, replica) in &mut self.awaiting_log {
            let follows = moved.of(*replica);
            *replica = follows.expect("what is removed has nothing on its way to the log");
        }
        self.slices.follow(moved, self.replicas.len());
        self.snapshots.follow(moved, self.replicas.len());
        self.transfers.follow(moved);
        self.lead.follow(moved, self.replicas.len());
        let asks_next = &mut self.residents.asks_next;
        *asks_next = moved.of_turn(*asks_next, self.replicas.len());
        for place in 0..self.routes.len() {
            self.routes[place] = self.find_route(self.routes[place].shard);
        }
    }
}
