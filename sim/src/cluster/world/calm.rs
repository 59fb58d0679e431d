//! After the last fault: everybody is answered, replicas come together, and what clients saw is judged.

use std::collections::BTreeMap;

use metastore_engine::{LogIndex, ShardId, TickTiming, Time};
use metastore_statemachine::Scope;

use super::faults::HANG_MS_MAX;
use super::{ClusterWorld, Course, FaultKind};
use crate::checkers::ClusterViolation;
use crate::operation::{Operation, RangeOf};
use crate::trace::Trace;
use crate::violation::Violation;

/// How long after the last fault everybody must have been answered, and again how long replicas may be apart. An
/// election takes two timeouts at the longest, after a leader was lost in the middle of one, three.
const CALM_MS: u64 = 10_000;
/// How long clients go on in the calm before they are to come to an end.
const BUSY_CALM_MS: u64 = 4_000;
/// Who has waited so long in the calm, while so many were served who asked the same shard later, is forgotten. A client may
/// lose two timeouts to nodes that are gone before it finds one that answers.
const STARVING_MS: u64 = 3_000;
const OVERTAKEN_MAX: u64 = 20;
/// How many operations must have succeeded in a world.
const SUCCEEDED_MIN: u64 = 600;

impl ClusterWorld {
    pub(super) fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.stop_faults()?;
        let calm_began = self.cluster.now();
        let busy_until = calm_began.plus_ms(BUSY_CALM_MS);
        let is_unfair = |world: &mut ClusterWorld| world.forgotten(calm_began).is_some();
        if self.run_until(busy_until, is_unfair)? == Course::Traced {
            return Ok(());
        }
        self.check_forgotten(calm_began)?;
        let by = calm_began.plus_ms(CALM_MS);
        self.is_busy = false;
        self.run_until(by, |world| world.asking().is_none())?;
        if self.is_traced() {
            return Ok(());
        }
        if let Some(client) = self.asking() {
            return Err(self.starved(format!("client {client}"), calm_began));
        }
        self.report.answered_after_ns = self.cluster.now().nanos_since(calm_began);
        let pains_ms = self.after_pains_ms();
        if pains_ms > 0 {
            // Nobody may be forgotten once nothing is felt any more.
            let busy_until = calm_began.plus_ms(pains_ms + BUSY_CALM_MS);
            self.be_busy(busy_until, is_unfair)?;
            self.check_forgotten(calm_began)?;
        }
        self.be_busy_enough()?;
        self.check_forgotten(calm_began)?;
        self.probe_shards(calm_began)?;
        self.read_everything(calm_began)?;
        let by = self.cluster.now().plus_ms(CALM_MS);
        self.run_until(by, |world| {
            world.apart().is_none() && world.unsettled().is_none()
        })?;
        if self.is_traced() {
            return Ok(());
        }
        self.report.converged_after_ns = self.cluster.now().nanos_since(calm_began);
        if let Some((shard, least, most)) = self.apart() {
            return Err(Violation::from(ClusterViolation::NotConverged {
                shard,
                least,
                most,
                calm_ms: self.cluster.now().millis_since(calm_began),
            }));
        }
        if let Some((shard, what)) = self.unsettled() {
            return Err(Violation::from(ClusterViolation::MembersUnsettled {
                shard,
                what,
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
        self.be_busy(by, |world| world.cluster.tally().succeeded >= SUCCEEDED_MIN)
    }

    /// Clients go on until a moment, or until something is so, and come to an end.
    fn be_busy(
        &mut self,
        until: Time,
        is_over: impl FnMut(&mut ClusterWorld) -> bool,
    ) -> Result<(), Violation> {
        self.is_busy = true;
        self.run_until(until, is_over)?;
        self.is_busy = false;
        let by = self.cluster.now().plus_ms(CALM_MS);
        self.run_until(by, |world| world.asking().is_none())?;
        Ok(())
    }

    fn check_forgotten(&self, calm_began: Time) -> Result<(), Violation> {
        match self.forgotten(calm_began) {
            None => Ok(()),
            Some(client) => {
                let calm_ms = self.cluster.now().millis_since(calm_began);
                let broken = ClusterViolation::Overtaken { client, calm_ms };
                Err(Violation::from(broken))
            }
        }
    }

    /// A client that waits while others are served, or has given up when every shard should long have had a leader.
    fn forgotten(&self, calm_began: Time) -> Option<usize> {
        let calm_began = calm_began.plus_ms(self.after_pains_ms());
        let starving = self
            .cluster
            .starving(calm_began, STARVING_MS, OVERTAKEN_MAX);
        let calm_for_long = calm_began.plus_ms(STARVING_MS);
        starving.or(self.cluster.given_up_since(calm_for_long))
    }

    /// How long what went wrong may still be felt.
    fn after_pains_ms(&self) -> u64 {
        // Who asks a node whose disk still hangs, again and again by chance, waits as long as the disk does.
        let hang_ms = match self.plan.has(FaultKind::Hang) {
            true => HANG_MS_MAX,
            false => 0,
        };
        // Where ticks are measured, whatever held messages up makes elections as long as they may be, one at least.
        let election_ms = match self.plan.cluster.settings.raft.timing {
            TickTiming::Adaptive {
                election_ms_max, ..
            } => 2 * election_ms_max,
            TickTiming::Fixed => 0,
        };
        hang_ms + election_ms
    }

    /// Whether as many inputs have been traced as were asked for: then nothing more is judged.
    fn is_traced(&self) -> bool {
        self.cluster.trace.as_ref().is_some_and(Trace::is_full)
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
        for directories in self.directories.clone() {
            let put = self.workload.draw_put_in(&directories[0]);
            self.ask_and_wait(Operation::Mutate(put), calm_began)?;
        }
        Ok(())
    }

    /// Reads every key, so that what unknown outcomes left is seen.
    fn read_everything(&mut self, calm_began: Time) -> Result<(), Violation> {
        for directory in self.directories.concat() {
            let range = RangeOf {
                prefix: directory,
                scope: Scope::Children { separator: b'/' },
                ..RangeOf::everything()
            };
            self.ask_and_wait(Operation::Range(range), calm_began)?;
        }
        Ok(())
    }

    fn ask_and_wait(&mut self, operation: Operation, calm_began: Time) -> Result<(), Violation> {
        let succeeded = self.cluster.tally().succeeded;
        if self.is_traced() {
            return Ok(());
        }
        let who = format!("{operation:?}");
        self.cluster.ask(0, operation);
        let by = self.cluster.now().plus_ms(CALM_MS);
        self.run_until(by, |world| !world.cluster.is_asking(0))?;
        if self.is_traced() {
            return Ok(());
        }
        if self.cluster.tally().succeeded == succeeded {
            return Err(self.starved(who, calm_began));
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
        self.plan.cluster.shape.shards().find_map(|shard| {
            let applied = applied.get(&shard).map_or(&[][..], Vec::as_slice);
            let least = applied.iter().min().copied().unwrap_or_default();
            let most = applied.iter().max().copied().unwrap_or_default();
            (least < most).then_some((shard, least, most))
        })
    }
}
