//! What all checkers of a cluster are shown.

use std::collections::{BTreeMap, BTreeSet};

use metastore_engine::{
    CoreStatus, PeerCore, PeerLane, Quarantine, ReplicaId, ReplicaStatus, ShardId,
};
use metastore_wal::HardState;

use crate::checkers::ClusterViolation;
use crate::checkers::budgets::Budgets;
use crate::checkers::linearizability::{Operation, ShardHistory, Verdict};
use crate::checkers::log_view::{LogView, PartBodySeen};
use crate::checkers::log_watch::{LogOwner, LogWatch};
use crate::checkers::promises::{self, MessageKind};
use crate::checkers::replication::Replication;
use crate::disk::{Disk, FileName};
use crate::node::SEAL;
use crate::oracle::Checkers;

use super::shape::Shape;

/// What a replica in quarantine may send, by the numbers on the wire.
const CHUNK_REQUEST: u8 = 13;
const CHUNK: u8 = 14;
const REPAIR_REQUEST: u8 = 15;

/// The checkers, and what they have seen.
#[derive(Debug)]
pub struct Observer {
    logs: BTreeMap<PeerCore, LogWatch>,
    replication: Replication,
    histories: BTreeMap<ShardId, ShardHistory>,
    undecided: u64,
    budgets: Budgets,
    /// Whose disks have ever decayed.
    decayed: BTreeSet<PeerCore>,
    /// Replicas that take no part, each with its place.
    in_quarantine: BTreeMap<ReplicaId, PeerCore>,
    /// What replicas held durably when their disk decayed, until they are found whole.
    before_decay: LogView,
    quarantines: u64,
    looks: u64,
    looks_asleep: u64,
    checkers: Checkers,
}

impl Observer {
    /// The checkers of a cluster in which nothing has happened.
    #[must_use]
    pub fn new(shape: Shape, budgets: Budgets, checkers: Checkers) -> Observer {
        let places = shape.nodes().flat_map(|node| {
            let cores = shape.cores();
            cores.map(move |core| PeerCore { node, core })
        });
        Observer {
            logs: places.map(watch_of).collect(),
            replication: Replication::new(shape.voters()),
            histories: shape
                .shards()
                .map(|shard| (shard, ShardHistory::new(shard)))
                .collect(),
            undecided: 0,
            budgets,
            decayed: BTreeSet::new(),
            in_quarantine: BTreeMap::new(),
            before_decay: LogView::new(),
            quarantines: 0,
            looks: 0,
            looks_asleep: 0,
            checkers,
        }
    }

    /// A core more, whose log was never written.
    pub fn on_new_place(&mut self, place: PeerCore) {
        self.logs.extend([watch_of(place)]);
    }

    /// What a checker says that is not a client, if anybody listens to it.
    fn heard(&self, said: Result<(), ClusterViolation>) -> Result<(), ClusterViolation> {
        match self.checkers {
            Checkers::All | Checkers::AllButOrder => said,
            Checkers::ClientsAlone => Ok(()),
        }
    }

    /// What a checker says of when something left or was acknowledged.
    fn heard_of_order(&self, said: Result<(), ClusterViolation>) -> Result<(), ClusterViolation> {
        match self.checkers {
            Checkers::All => said,
            Checkers::AllButOrder | Checkers::ClientsAlone => Ok(()),
        }
    }

    // ---- Logs ----

    /// A record leaves for the disk.
    ///
    /// # Errors
    /// It contradicts another log.
    pub fn on_submitted(
        &mut self,
        place: PeerCore,
        target: (FileName, u64),
        bytes: &[u8],
    ) -> Result<(), ClusterViolation> {
        let log = self.logs.get_mut(&place).expect("every core has a log");
        let record = log.on_submitted(target, bytes);
        let mut parts = record.parts.iter();
        let said = parts.try_for_each(|part| self.replication.on_written(part));
        self.heard(said)
    }

    /// A disk has changed.
    ///
    /// # Errors
    /// What is durable contradicts what was.
    pub fn on_disk_changed(
        &mut self,
        place: PeerCore,
        disk: &Disk,
    ) -> Result<(), ClusterViolation> {
        let log = self.logs.get_mut(&place).expect("every core has a log");
        let parts = log.advance(disk);
        for part in &parts {
            // What takes the place of everything ends a quarantine.
            if matches!(
                part.body,
                PartBodySeen::Snapshot { .. } | PartBodySeen::Tombstone
            ) {
                self.in_quarantine.remove(&part.replica);
                self.before_decay.remove(&part.replica);
            }
        }
        let mut parts = parts.iter();
        let said = parts.try_for_each(|part| self.replication.on_durable(part));
        self.heard(said)
    }

    /// A machine has stopped.
    pub fn on_crash(&mut self, place: PeerCore) {
        self.logs
            .get_mut(&place)
            .expect("every core has a log")
            .on_crash();
    }

    /// A start read a log.
    ///
    /// # Errors
    /// It lacks something, or has what was never written.
    pub fn on_recovered(
        &mut self,
        place: PeerCore,
        found: LogView,
        quarantined: &[(ReplicaId, Quarantine, HardState)],
    ) -> Result<(), ClusterViolation> {
        if let Some(&(replica, why, _)) = quarantined.first()
            && !self.decayed.contains(&place)
        {
            return Err(ClusterViolation::StrangeQuarantine { replica, why });
        }
        self.in_quarantine.retain(|_, at| *at != place);
        for replica in found.keys() {
            if quarantined.iter().all(|(damaged, ..)| damaged != replica) {
                self.before_decay.remove(replica);
            }
        }
        let named = quarantined.iter().map(|(replica, ..)| (*replica, place));
        self.in_quarantine.extend(named);
        self.quarantines += quarantined.len() as u64;
        let said = self.replication.on_recovered(&found);
        self.heard(said)?;
        let log = self.logs.get_mut(&place).expect("every core has a log");
        let said = log.on_recovered(found, quarantined);
        self.heard(said)
    }

    /// Something durable on a disk has decayed.
    pub fn on_decay(&mut self, place: PeerCore) {
        self.decayed.insert(place);
        for (&replica, view) in self.logs[&place].durable() {
            let before = self.before_decay.entry(replica);
            before.or_insert_with(|| view.clone());
        }
    }

    /// How many replicas of a core are durable in its log.
    #[must_use]
    pub fn durable_replicas(&self, place: PeerCore) -> usize {
        self.logs[&place].durable().len()
    }

    // ---- Messages ----

    /// A batch leaves for another node.
    ///
    /// # Errors
    /// It promises what is not durable, or two lead.
    pub fn on_sent(
        &mut self,
        from: PeerCore,
        lane: PeerLane,
        batch: &[u8],
    ) -> Result<(), ClusterViolation> {
        let said = promises::check_sent(batch, self.logs[&from].durable(), lane);
        self.heard_of_order(said)?;
        for message in promises::messages_of(batch) {
            let may_be_said = match message.kind {
                MessageKind::Question | MessageKind::Other(CHUNK_REQUEST | REPAIR_REQUEST) => true,
                // That it has no snapshot for who asks.
                MessageKind::Other(CHUNK) => message.is_rejected,
                MessageKind::Append
                | MessageKind::AppendResponse
                | MessageKind::Heartbeat
                | MessageKind::HeartbeatResponse
                | MessageKind::VoteRequest
                | MessageKind::VoteResponse
                | MessageKind::PreVoteRequest
                | MessageKind::PreVoteResponse
                | MessageKind::Other(_) => false,
            };
            // A follower passes on what another one asked, in that one's name.
            let is_its_own = self.in_quarantine.get(&message.from) == Some(&from);
            if is_its_own && !may_be_said {
                let (replica, message) = (message.from, message.to_string());
                return Err(ClusterViolation::ActsInQuarantine { replica, message });
            }
        }
        if lane == PeerLane::Snapshots {
            return Ok(());
        }
        for message in promises::messages_of(batch) {
            if message.kind.is_of_leader() {
                let (shard, term) = (message.shard, message.term);
                let said = self.replication.on_leader(shard, term, message.from);
                self.heard(said)?;
            }
        }
        Ok(())
    }

    /// A replica reports how it stands.
    ///
    /// # Errors
    /// It contradicts itself or another.
    pub fn on_status(&mut self, status: &ReplicaStatus) -> Result<(), ClusterViolation> {
        self.looks += 1;
        self.looks_asleep += u64::from(status.is_asleep);
        let said = self.replication.on_status(status);
        self.heard(said)
    }

    /// A core reports what it holds.
    ///
    /// # Errors
    /// It is more than it may.
    pub fn on_core_status(
        &self,
        place: PeerCore,
        status: &CoreStatus,
    ) -> Result<(), ClusterViolation> {
        self.heard(self.budgets.check(place, status))
    }

    /// Holds cores against other budgets from now on.
    #[cfg(test)]
    pub(crate) fn set_budgets(&mut self, budgets: Budgets) {
        self.budgets = budgets;
    }

    // ---- Clients ----

    /// A change is acknowledged.
    ///
    /// # Errors
    /// A quorum could still lose it.
    pub fn on_acknowledged(&self, shard: ShardId, command: &[u8]) -> Result<(), ClusterViolation> {
        let durable = self.logs.values().map(LogWatch::durable);
        let removed = self.logs.values().map(LogWatch::removed);
        let durable = durable.chain(removed).chain([&self.before_decay]);
        let said = self.replication.on_acknowledged(shard, command, durable);
        self.heard_of_order(said)
    }

    /// A client's operation has come to its end, or its client will never know.
    pub fn on_operation(&mut self, shard: ShardId, operation: Operation) {
        let history = self.histories.get_mut(&shard);
        history.expect("the cluster has the shard").add(operation);
    }

    /// What clients have done with a shard so far.
    #[must_use]
    pub fn history(&self, shard: ShardId) -> &ShardHistory {
        &self.histories[&shard]
    }

    /// Judges what clients saw.
    ///
    /// # Errors
    /// No order of events explains it.
    pub fn check_histories(&mut self) -> Result<(), ClusterViolation> {
        for (&shard, history) in &self.histories {
            let log = match self.checkers {
                Checkers::All | Checkers::AllButOrder => Some(self.replication.log_of(shard)?),
                Checkers::ClientsAlone => None,
            };
            let verdict = history
                .check(log.as_ref())
                .map_err(|cause| ClusterViolation::NotLinearizable { shard, cause })?;
            self.undecided += u64::from(verdict == Verdict::Undecided);
        }
        Ok(())
    }

    /// Histories for which the search for an order was given up.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        self.undecided
    }

    /// How often a start found a replica that takes no part.
    #[must_use]
    pub fn quarantines(&self) -> u64 {
        self.quarantines
    }

    /// How often a replica was looked at, and how often it slept.
    #[must_use]
    pub fn looks(&self) -> (u64, u64) {
        (self.looks, self.looks_asleep)
    }

    /// In how many terms of any shard somebody led.
    #[must_use]
    pub fn reigns(&self) -> u64 {
        self.replication.reigns()
    }

    /// How often the states of replicas were compared.
    #[must_use]
    pub fn states_compared(&self) -> u64 {
        self.replication.states_compared()
    }
}

/// A log that was never written.
fn watch_of(place: PeerCore) -> (PeerCore, LogWatch) {
    let owner = LogOwner {
        node: place.node,
        core: place.core,
    };
    (place, LogWatch::new(owner, SEAL))
}
