//! One node of a cluster: its cores, each with a disk, which start and stop together.

use metastore_engine::{LogHistory, NodeId, PeerCore, ReplicaStatus, Time};
use metastore_wal::recovery::RecoveryError;

use crate::clock::{Clock, ClockRate};
use crate::disk::{CrashKind, Disk, FileName};
use crate::node::{Node, NodeConfig, NodeCounters, StartFailure, Started};
use crate::violation::Violation;

const MARK_BYTES: usize = 2 * metastore_wal::format::BLOCK_BYTES;

/// A core of a node with its disk.
pub(super) struct HostCore {
    pub(super) place: PeerCore,
    pub(super) config: NodeConfig,
    pub(super) core: Option<Node>,
    pub(super) disk: Disk,
    /// Whether its log has ever held all of its replicas: from then on it may lack none.
    pub(super) has_served: bool,
    pub(super) last_status: Time,
    /// When it was last asked what it holds.
    pub(super) last_holding: Time,
}

/// A node.
pub(super) struct Host {
    pub(super) node: NodeId,
    /// Counts its starts and stops, so that nothing meant for one life reaches the next.
    pub(super) life: u64,
    pub(super) cores: Vec<HostCore>,
    pub(super) paused_until: Time,
    pub(super) rate: ClockRate,
    /// It has stopped for good, and its disks are gone.
    pub(super) is_lost: bool,
    counters: NodeCounters,
}

/// What came of a start.
pub(super) enum HostStart {
    /// All cores run; what each found in its log.
    Runs(Vec<Started>),
    /// A disk failed; the next start may do better.
    DiskFailed,
}

impl Host {
    /// A node that was formatted and never ran.
    pub(super) fn new(node: NodeId, cores: Vec<(NodeConfig, Disk)>) -> Host {
        let format = |(config, mut disk): (NodeConfig, Disk)| {
            disk.format_file(FileName::Mark, MARK_BYTES);
            HostCore {
                place: PeerCore {
                    node,
                    core: config.placement.identity.core,
                },
                config,
                core: None,
                disk,
                has_served: false,
                last_status: Time(0),
                last_holding: Time(0),
            }
        };
        Host {
            node,
            life: 0,
            cores: cores.into_iter().map(format).collect(),
            paused_until: Time(0),
            rate: ClockRate::TRUE,
            is_lost: false,
            counters: NodeCounters::default(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.cores.iter().all(|core| core.core.is_some())
    }

    /// What its cores did in all lives.
    pub(super) fn counters(&self) -> NodeCounters {
        let mut total = self.counters;
        for core in self.cores.iter().filter_map(|core| core.core.as_ref()) {
            total.add(&core.counters());
        }
        total
    }

    /// How its replicas stand, those in the middle of a turn left out.
    pub(super) fn replicas(&self) -> impl Iterator<Item = ReplicaStatus> {
        let running = self.cores.iter().filter_map(|core| core.core.as_ref());
        running.filter_map(Node::replicas).flatten()
    }

    /// How all of its replicas stand; `None` where it does not run, or a core is in the middle of a turn.
    pub(super) fn all_replicas(&self) -> Option<Vec<ReplicaStatus>> {
        let of_core = |core: &HostCore| core.core.as_ref().and_then(Node::replicas);
        let replicas = self.cores.iter().map(of_core);
        let replicas: Option<Vec<Vec<ReplicaStatus>>> = replicas.collect();
        replicas.map(|replicas| replicas.concat())
    }

    /// Starts every core over what is on its disk.
    pub(super) fn start(&mut self, now: Time) -> Result<HostStart, Violation> {
        assert!(!self.is_running(), "a node runs once");
        assert!(!self.is_lost, "who is lost does not come back");
        self.life += 1;
        self.paused_until = now;
        let clock = Clock::starting(now, self.rate);
        let mut found = Vec::new();
        for core in &mut self.cores {
            let history = match core.has_served {
                true => LogHistory::HasServed,
                false => LogHistory::New,
            };
            match Node::start(&core.config, clock, self.life, history, &mut core.disk) {
                Ok((node, started)) => {
                    core.core = Some(node);
                    found.push(started);
                }
                Err(
                    StartFailure::DiskFailed(_) | StartFailure::Refused(RecoveryError::Source(_)),
                ) => {
                    self.forget_cores();
                    return Ok(HostStart::DiskFailed);
                }
                Err(StartFailure::Refused(error)) => {
                    let cause = format!("node {}: {error:?}", self.node);
                    return Err(Violation::RecoveryRefused { cause });
                }
                Err(StartFailure::Violation(violation)) => return Err(violation),
            }
        }
        Ok(HostStart::Runs(found))
    }

    /// The machine stops, or its process.
    pub(super) fn crash(&mut self, kind: CrashKind) {
        self.forget_cores();
        for core in &mut self.cores {
            core.disk.crash(kind);
        }
    }

    /// The disks are replaced by new ones, formatted like those before.
    pub(super) fn replace_disks(&mut self) {
        for core in &mut self.cores {
            core.disk.wipe();
            core.disk.format_file(FileName::Mark, MARK_BYTES);
            core.has_served = false;
        }
    }

    fn forget_cores(&mut self) {
        self.counters = self.counters();
        self.life += 1;
        for core in &mut self.cores {
            core.core = None;
        }
    }
}
