//! What is done to the nodes of a cluster, its links and its clocks by whoever owns it.

use metastore_engine::{ConnectionId, CoreId, Input, NodeId, PeerCore, ReplicaId, ShardId, Time};

use super::host::HostStart;
use super::{At, Cluster};
use crate::clock::{Clock, ClockRate};
use crate::disk::{CrashKind, Decay, Disk};
use crate::network::Partition;
use crate::node::SEAL;
use crate::violation::Violation;

impl<E> Cluster<E> {
    /// Starts a node over what is on its disks; false when a disk failed meanwhile.
    ///
    /// # Errors
    /// It does not start, or its logs are not what they should be.
    pub fn start(&mut self, node: NodeId) -> Result<bool, Violation> {
        let now = self.now();
        let host = self.hosts.get_mut(&node).expect("the node is there");
        let found = match host.start(now)? {
            HostStart::Runs(found) => found,
            HostStart::DiskFailed => {
                self.log(
                    &format_args!("n{node}"),
                    "start",
                    format_args!("disk failed"),
                );
                return Ok(false);
            }
        };
        let life = host.life;
        self.log(
            &format_args!("n{node}"),
            "start",
            format_args!("life {life}"),
        );
        for (core, started) in (0..).map(CoreId).zip(found) {
            let place = PeerCore { node, core };
            let decision = started.decision;
            self.log(&At(place), "recovered", format_args!("{decision:?}"));
            for (replica, why, _) in &started.quarantined {
                self.log(
                    &At(place),
                    "quarantine",
                    format_args!("replica {replica}: {why}"),
                );
            }
            self.observer
                .on_recovered(place, started.log, &started.quarantined)?;
            let stop = self.on_core(place, life, |node, now, machine, observe| {
                node.run_turn(now, machine, observe)
            })?;
            if self.stopped(node, stop)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A machine stops, or its process. Its connections are gone.
    pub fn crash(&mut self, node: NodeId, kind: CrashKind) {
        self.log(&format_args!("n{node}"), "crash", format_args!("{kind:?}"));
        let host = self.hosts.get_mut(&node).expect("the node is there");
        host.crash(kind);
        for core in &host.cores {
            self.observer.on_crash(core.place);
        }
        let gone = self
            .servers
            .iter()
            .filter(|(_, end)| end.place.node == node);
        let gone: Vec<(ConnectionId, usize)> = gone
            .map(|(&connection, end)| (connection, end.client))
            .collect();
        for (connection, client) in gone {
            self.break_link(client, connection);
        }
    }

    /// The disks of a node that does not run are replaced by empty ones.
    pub fn replace_disks(&mut self, node: NodeId) {
        self.log(&format_args!("n{node}"), "new-disks", format_args!(""));
        let host = self.hosts.get_mut(&node).expect("the node is there");
        assert!(
            !host.is_running(),
            "disks are replaced while a node is down"
        );
        host.replace_disks();
    }

    /// Links are cut.
    pub fn split(&mut self, partition: Partition) {
        self.log(&"net", "split", format_args!("{partition:?}"));
        self.network.split(partition);
    }

    /// All links are there again.
    pub fn heal(&mut self) {
        self.log(&"net", "heal", format_args!(""));
        self.network.heal();
    }

    /// A node does nothing until `until`, while time passes and its disks go on.
    pub fn pause(&mut self, node: NodeId, until: Time) {
        self.log(
            &format_args!("n{node}"),
            "pause",
            format_args!("until {}", until.0),
        );
        let host = self.hosts.get_mut(&node).expect("the node is there");
        host.paused_until = until;
    }

    /// A node is told that another replica shall lead a shard.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn hand_over(
        &mut self,
        node: NodeId,
        shard: ShardId,
        to: Option<ReplicaId>,
    ) -> Result<(), Violation> {
        let core = self.config.shape.core_of(shard);
        let host = &self.hosts[&node];
        if host.paused_until > self.now() {
            return Ok(());
        }
        let life = host.life;
        self.on_core(PeerCore { node, core }, life, |node, now, machine, _| {
            node.on_input(now, Input::HandOver { shard, to }, machine);
            Ok(())
        })?;
        Ok(())
    }

    /// Something happens to the clock of a node.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn change_clock(
        &mut self,
        node: NodeId,
        change: impl Fn(&mut Clock, Time),
    ) -> Result<(), Violation> {
        let life = self.hosts[&node].life;
        for core in self.config.shape.cores() {
            let place = PeerCore { node, core };
            self.on_core(place, life, |node, now, machine, _| {
                node.change_clock(now, machine, |clock| change(clock, now));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The rate at which a node's clock runs, from now on and after each start.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn set_clock_rate(&mut self, node: NodeId, rate: ClockRate) -> Result<(), Violation> {
        self.log(&format_args!("n{node}"), "clock", format_args!("{rate:?}"));
        let host = self.hosts.get_mut(&node).expect("the node is there");
        host.rate = rate;
        self.change_clock(node, |clock, now| clock.set_rate(now, rate))
    }

    /// Something durable on a disk of a node is damaged; `false` when there is nothing that may be.
    pub fn decay(&mut self, node: NodeId, decay: Decay) -> bool {
        let cores: Vec<CoreId> = self.config.shape.cores().collect();
        let core = cores[self.random.index(cores.len())];
        let place = PeerCore { node, core };
        let host = self.hosts.get_mut(&node).expect("the node is there");
        let hosted = &mut host.cores[usize::from(core.0)];
        let identity = hosted.config.placement.identity;
        if !hosted.disk.decay(decay, &identity, SEAL) {
            return false;
        }
        self.observer.on_decay(place);
        self.log(&At(place), "decay", format_args!("{decay:?}"));
        true
    }

    /// The disks of a node, to be made worse or better.
    pub fn disks(&mut self, node: NodeId) -> impl Iterator<Item = &mut Disk> {
        let host = self.hosts.get_mut(&node).expect("the node is there");
        host.cores.iter_mut().map(|core| &mut core.disk)
    }
}
