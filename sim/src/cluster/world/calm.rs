//! After the last fault: everybody is answered, replicas come together, and what clients saw is judged.

use std::collections::BTreeMap;

use metastore_engine::{LogIndex, ShardId, Time};

use super::faults::HANG_MS_MAX;
use super::{ClusterWorld, Course, FaultKind};
use crate::checkers::ClusterViolation;
use crate::checkers::linearizability::Action;
use crate::violation::Violation;

/// How long after the last fault everybody must have been answered, and again how long replicas may be apart. An
/// election takes two timeouts at the longest, after a leader was lost in the middle of one, three.
const CALM_MS: u64 = 10_000;
/// How long clients go on in the calm before they are to come to an end.
const BUSY_CALM_MS: u64 = 500;
/// How many operations must have succeeded in a world.
const SUCCEEDED_MIN: u64 = 600;
/// Keys that are read at a time in the end.
const KEYS_PER_READ: usize = 6;

impl ClusterWorld {
    pub(super) fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.stop_faults()?;
        let calm_began = self.cluster.now();
        let busy_until = calm_began.plus_ms(BUSY_CALM_MS);
        if self.run_until(busy_until, |_| false)? == Course::Traced {
            return Ok(());
        }
        let by = calm_began.plus_ms(CALM_MS);
        self.is_busy = false;
        self.run_until(by, |world| world.asking().is_none())?;
        if let Some(client) = self.asking() {
            return Err(self.starved(format!("client {client}"), calm_began));
        }
        self.report.answered_after_ns = self.cluster.now().nanos_since(calm_began);
        if self.plan.has(FaultKind::Hang) {
            // What a disk has not done when it becomes well takes as long as it was to take.
            let by = calm_began.plus_ms(HANG_MS_MAX);
            self.run_until(by, |_| false)?;
        }
        self.be_busy_enough()?;
        self.probe_shards(calm_began)?;
        self.read_everything(calm_began)?;
        let by = self.cluster.now().plus_ms(CALM_MS);
        self.run_until(by, |world| world.apart().is_none())?;
        self.report.converged_after_ns = self.cluster.now().nanos_since(calm_began);
        if let Some((shard, least, most)) = self.apart() {
            return Err(Violation::from(ClusterViolation::NotConverged {
                shard,
                least,
                most,
                calm_ms: self.cluster.now().millis_since(calm_began),
            }));
        }
        for status in self.cluster.replicas() {
            self.cluster.observer.on_status(&status)?;
        }
        Ok(self.cluster.observer.check_histories()?)
    }

    /// What was not tried was not tested: where faults left time for little, clients go on in the calm.
    fn be_busy_enough(&mut self) -> Result<(), Violation> {
        let by = self.cluster.now().plus_ms(CALM_MS);
        self.is_busy = true;
        self.run_until(by, |world| world.cluster.tally().succeeded >= SUCCEEDED_MIN)?;
        self.is_busy = false;
        let by = self.cluster.now().plus_ms(CALM_MS);
        self.run_until(by, |world| world.asking().is_none())?;
        Ok(())
    }

    /// A client that still waits.
    fn asking(&self) -> Option<usize> {
        (0..self.plan.cluster.clients).find(|&client| self.cluster.is_asking(client))
    }

    fn starved(&self, who: String, calm_began: Time) -> Violation {
        let calm_ms = self.cluster.now().millis_since(calm_began);
        Violation::from(ClusterViolation::Starved { who, calm_ms })
    }

    /// Every shard takes a write.
    fn probe_shards(&mut self, calm_began: Time) -> Result<(), Violation> {
        for shard in self.plan.cluster.shape.shards() {
            let put = self.workload.draw_put(shard);
            self.ask_and_wait(shard, put, calm_began)?;
        }
        Ok(())
    }

    /// Reads every key, so that what unknown outcomes left is seen.
    fn read_everything(&mut self, calm_began: Time) -> Result<(), Violation> {
        for (shard, keys) in self.workload.keys() {
            for keys in directories(&keys)
                .values()
                .flat_map(|keys| keys.chunks(KEYS_PER_READ))
            {
                self.ask_and_wait(shard, Action::Read(keys.to_vec()), calm_began)?;
            }
        }
        Ok(())
    }

    fn ask_and_wait(
        &mut self,
        shard: ShardId,
        action: Action,
        calm_began: Time,
    ) -> Result<(), Violation> {
        let succeeded = self.cluster.tally().succeeded;
        self.cluster.ask(0, shard, action);
        let by = self.cluster.now().plus_ms(CALM_MS);
        self.run_until(by, |world| !world.cluster.is_asking(0))?;
        if self.cluster.tally().succeeded == succeeded {
            return Err(self.starved(format!("shard {shard}"), calm_began));
        }
        Ok(())
    }

    /// A shard whose replicas have not applied the same.
    fn apart(&self) -> Option<(ShardId, LogIndex, LogIndex)> {
        let mut applied: BTreeMap<ShardId, Vec<LogIndex>> = BTreeMap::new();
        for status in self.cluster.replicas() {
            applied
                .entry(status.shard)
                .or_default()
                .push(status.applied);
        }
        let nodes = self.plan.cluster.shape.nodes().count();
        self.plan.cluster.shape.shards().find_map(|shard| {
            let applied = applied.get(&shard).map_or(&[][..], Vec::as_slice);
            let least = applied.iter().min().copied().unwrap_or_default();
            let most = applied.iter().max().copied().unwrap_or_default();
            let is_apart = applied.len() < nodes || least < most;
            is_apart.then_some((shard, least, most))
        })
    }
}

/// The keys by what stands before their last separator: only what shares it is read at once.
fn directories(keys: &[Vec<u8>]) -> BTreeMap<&[u8], Vec<Vec<u8>>> {
    let mut directories: BTreeMap<&[u8], Vec<Vec<u8>>> = BTreeMap::new();
    for key in keys {
        let directory = crate::workload::directory_of(key);
        directories.entry(directory).or_default().push(key.clone());
    }
    directories
}
