//! One seeded run of a cluster: a time of faults, in which it must stay right, and a time of calm, in which it must come
//! to life again.
//!
//! Everything about it follows from its seed: how large the cluster is, what clients do, which faults there are and
//! when. What a run went through is in its [`ClusterReport`].

mod calm;
mod faults;
mod operator;
mod plan;
mod report;

use metastore_engine::{NodeId, ShardMap, Time};

pub use self::faults::FaultKind;
use self::faults::{DiskTrouble, Faults};
pub use self::operator::MembersTally;
use self::operator::Operator;
pub use self::plan::ClusterPlan;
pub use self::report::ClusterReport;
use super::event_log::EventLog;
use super::shape::shard_of;
use super::{Cluster, ClusterStepped};
use crate::oracle::Checkers;
use crate::random::Random;
use crate::trace::Trace;
use crate::violation::Violation;
use crate::workload::{ValueSizes, Workload};

/// Directories, and so routing parts, of each shard.
const DIRECTORIES_PER_SHARD: usize = 2;
/// How long values are.
const VALUES: ValueSizes = ValueSizes {
    long_per_mille: 100,
    long_bytes_max: 400,
};

/// What a world lets happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorldEvent {
    /// A client has thought of something.
    Think(usize),
    /// The next fault of a kind.
    Fault(FaultKind),
    /// The disks of a node are well again.
    EndTrouble(DiskTrouble, NodeId),
    /// The newest partition is healed, if it still is that one.
    Heal(u64),
    /// A node that is down starts.
    Restart(NodeId),
    /// A node crashes just after its start.
    CrashStarting(NodeId),
    /// The operator looks after the members of shards.
    Operate,
    /// A time has come that the world was waiting for.
    Bell(u64),
}

/// A simulated cluster with everything that happens to it.
pub struct ClusterWorld {
    plan: ClusterPlan,
    random: Random,
    cluster: Cluster<WorldEvent>,
    workload: Workload,
    /// The directories of each shard.
    directories: Vec<Vec<Vec<u8>>>,
    faults: Faults,
    operator: Operator,
    /// Whether clients think of anything new.
    is_busy: bool,
    /// Whether anything still goes wrong.
    is_faulty: bool,
    /// Names the bell that the world waits for.
    bell: u64,
    report: ClusterReport,
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    GoesOn,
    /// As many inputs as were asked for have been traced.
    Traced,
}

impl ClusterWorld {
    /// The world of a seed.
    #[must_use]
    pub fn new(seed: u64, checkers: Checkers) -> ClusterWorld {
        let mut random = Random::new(seed);
        let plan = ClusterPlan::draw(&mut random, checkers);
        ClusterWorld::of_plan(plan, random)
    }

    /// The world of a seed without its faults: nothing fails, and no message is lost or late. What is wrong here is
    /// wrong every day.
    #[must_use]
    pub fn without_faults(seed: u64, checkers: Checkers) -> ClusterWorld {
        let mut random = Random::new(seed);
        let mut plan = ClusterPlan::draw(&mut random, checkers);
        plan.drop_faults();
        ClusterWorld::of_plan(plan, random)
    }

    fn of_plan(plan: ClusterPlan, mut random: Random) -> ClusterWorld {
        let cluster = Cluster::new(plan.cluster.clone(), random.fork());
        let directories = directories_of(cluster.shard_map());
        ClusterWorld {
            workload: Workload::new(random.fork(), VALUES).with_directories(directories.concat()),
            directories,
            faults: Faults::default(),
            operator: Operator::default(),
            is_busy: true,
            is_faulty: true,
            bell: 0,
            report: ClusterReport::default(),
            cluster,
            plan,
            random,
        }
    }

    /// How replicas stand, a line each.
    #[must_use]
    pub fn standing(&self) -> Vec<String> {
        self.cluster.standing()
    }

    /// Records a trace and stops when it is full.
    pub fn set_trace(&mut self, trace: Trace) {
        self.cluster.trace = Some(trace);
    }

    /// The trace so far.
    #[must_use]
    pub fn take_trace(&mut self) -> Option<Trace> {
        self.cluster.trace.take()
    }

    /// Writes down what happens.
    pub fn set_event_log(&mut self, log: EventLog) {
        self.cluster.event_log = log;
    }

    /// What the world is like.
    #[must_use]
    pub fn plan(&self) -> &ClusterPlan {
        &self.plan
    }

    /// What it went through so far.
    #[must_use]
    pub fn report(&self) -> ClusterReport {
        let mut report = self.report.clone();
        report.simulated_ns = self.cluster.now().0;
        report.tally = self.cluster.tally();
        report.counters = self.cluster.counters();
        report.network = self.cluster.network.counters();
        report.states_compared = self.cluster.observer.states_compared();
        (report.looks, report.looks_asleep) = self.cluster.observer.looks();
        report.reigns = self.cluster.observer.reigns();
        report.undecided = self.cluster.observer.undecided();
        report.quarantines = self.cluster.observer.quarantines();
        report.faults = self.faults.counts.clone();
        report.members = self.operator.tally;
        report.add_network_faults();
        report
    }

    /// Lives through all faults, then comes to rest.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn run(&mut self) -> Result<(), Violation> {
        for node in self.plan.cluster.shape.nodes() {
            self.set_up(node)?;
            self.restart(node)?;
        }
        if self.plan.changes_members() {
            for _ in 0..self.plan.spare_nodes {
                self.add_node()?;
            }
            self.operate_later();
        }
        for client in 0..self.plan.cluster.clients {
            self.think_later(client);
        }
        for kind in self.plan.scheduled_faults() {
            self.schedule_fault(kind);
        }
        if self.run_until(Time(self.plan.faults_ns), |_| false)? == Course::Traced {
            return Ok(());
        }
        self.come_to_rest()
    }

    /// Until a time, or until something holds.
    fn run_until(
        &mut self,
        by: Time,
        mut is_enough: impl FnMut(&mut ClusterWorld) -> bool,
    ) -> Result<Course, Violation> {
        self.bell += 1;
        let bell = self.bell;
        self.cluster.at(by, WorldEvent::Bell(bell));
        while !is_enough(self) {
            match self.cluster.step()?.expect("a bell is to ring") {
                ClusterStepped::Own(WorldEvent::Bell(rung)) if rung == bell => {
                    return Ok(Course::GoesOn);
                }
                ClusterStepped::Own(event) => self.on_event(event)?,
                ClusterStepped::Stopped(node) => self.restart_later(node),
                ClusterStepped::WentOn => {}
            }
            if self.cluster.trace.as_ref().is_some_and(Trace::is_full) {
                return Ok(Course::Traced);
            }
        }
        Ok(Course::GoesOn)
    }

    fn on_event(&mut self, event: WorldEvent) -> Result<(), Violation> {
        match event {
            WorldEvent::Think(client) => {
                self.on_think(client);
                Ok(())
            }
            WorldEvent::Fault(kind) => self.on_fault(kind),
            WorldEvent::EndTrouble(trouble, node) => {
                self.end_trouble(trouble, node);
                Ok(())
            }
            WorldEvent::Heal(number) => {
                self.heal(number);
                Ok(())
            }
            WorldEvent::Restart(node) => self.restart(node),
            WorldEvent::CrashStarting(node) => {
                self.crash(node);
                Ok(())
            }
            WorldEvent::Operate => self.on_operate(),
            // Of an earlier wait.
            WorldEvent::Bell(_) => Ok(()),
        }
    }

    // ---- Clients ----

    fn think_later(&mut self, client: usize) {
        let think_ns = self
            .random
            .between(self.plan.think_min_ns, self.plan.think_max_ns);
        let time = Time(self.cluster.now().0 + think_ns);
        self.cluster.at(time, WorldEvent::Think(client));
    }

    fn on_think(&mut self, client: usize) {
        self.think_later(client);
        let is_lull = self.is_faulty && self.cluster.now() < self.faults.lull_until;
        if self.is_busy && !is_lull && !self.cluster.is_asking(client) {
            let operation = self.workload.draw_of_cluster(self.cluster.known(client));
            // Where replicas move one by one there may be no node that has one of every shard.
            if !operation.is_wide() || !self.plan.changes_members() {
                self.cluster.ask(client, operation);
            }
        }
    }
}

/// Directories for each shard to have some.
fn directories_of(map: &ShardMap) -> Vec<Vec<Vec<u8>>> {
    let of_shard = |shard| {
        let names = (0..).map(|number: u64| format!("/d{number}/").into_bytes());
        let here = names.filter(|name| shard_of(map, name) == shard);
        here.take(DIRECTORIES_PER_SHARD).collect()
    };
    let shards = map.shards().iter();
    shards.map(|location| of_shard(location.shard)).collect()
}

#[cfg(test)]
mod tests;
