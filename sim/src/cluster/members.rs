//! Nodes that join a cluster or are lost for good, and what their cores are told about members.

use metastore_engine::{
    Input, MemberStatus, MembersEffect, MembersInput, NodeId, PeerCore, ReplicaId, ReplicaStatus,
    ShardId,
};

use super::host::Host;
use super::{Cluster, node_config};
use crate::disk::Disk;
use crate::violation::Violation;

impl<E> Cluster<E> {
    /// The nodes that there are: those that were lost for good left out.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        let hosts = self.hosts.values().filter(|host| !host.is_lost);
        hosts.map(|host| host.node).collect()
    }

    /// Every replica that runs, with its node, those in the middle of a turn left out.
    #[must_use]
    pub fn residents(&self) -> Vec<(NodeId, ReplicaStatus)> {
        let of_host = |host: &Host| {
            let node = host.node;
            let replicas = host.replicas().map(move |status| (node, status));
            replicas.collect::<Vec<_>>()
        };
        self.hosts.values().flat_map(of_host).collect()
    }

    /// The replicas of a node; `None` where it does not run, or a core of it is in the middle of a turn.
    #[must_use]
    pub fn replicas_of(&self, node: NodeId) -> Option<Vec<ReplicaStatus>> {
        self.hosts[&node].all_replicas()
    }

    /// The members of a shard as a node knows them; empty where it has no replica, or is in the middle of a turn.
    #[must_use]
    pub fn members(&self, node: NodeId, shard: ShardId) -> Vec<MemberStatus> {
        let core = self.config.shape.core_of(shard);
        let host_core = &self.hosts[&node].cores[usize::from(core.0)];
        let running = host_core.core.as_ref();
        running.map_or(Vec::new(), |core| core.members(self.now(), shard))
    }

    /// A node more, with empty disks, on which nothing lives. It does not run yet.
    pub fn add_node(&mut self) -> NodeId {
        let newest = self.hosts.last_key_value().map_or(0, |(node, _)| node.0);
        let node = NodeId(newest + 1);
        let core = |core| {
            let place = PeerCore { node, core };
            let config = node_config(&self.config, place, &mut self.random);
            let disk = Disk::new(self.random.fork(), self.config.latency);
            self.observer.on_new_place(place);
            (config, disk)
        };
        let cores = self.config.shape.cores().map(core).collect();
        self.hosts.insert(node, Host::new(node, cores));
        self.log(&format_args!("n{node}"), "joins", format_args!(""));
        node
    }

    /// A node that has stopped is lost for good, with all that its disks held.
    pub fn lose(&mut self, node: NodeId) {
        self.log(&format_args!("n{node}"), "lost", format_args!(""));
        let host = self.hosts.get_mut(&node).expect("the node is there");
        assert!(!host.is_running(), "a node is lost when it has stopped");
        host.is_lost = true;
    }

    /// An id that no replica ever had.
    pub fn new_replica_id(&mut self) -> ReplicaId {
        self.newest_replica.0 += 1;
        self.newest_replica
    }

    /// Tells the core of a node that has a shard, or is to have it, about members. One that is paused, or down, hears
    /// nothing.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn tell_of_members(
        &mut self,
        node: NodeId,
        shard: ShardId,
        input: MembersInput,
    ) -> Result<(), Violation> {
        let core = self.config.shape.core_of(shard);
        let host = &self.hosts[&node];
        if host.paused_until > self.now() {
            return Ok(());
        }
        let life = host.life;
        let place = PeerCore { node, core };
        self.on_core(place, life, |node, now, machine, _| {
            node.on_input(now, Input::Members(input), machine);
            Ok(())
        })?;
        Ok(())
    }

    /// A core has told something about members.
    pub(super) fn on_members_told(&mut self, place: PeerCore, effect: MembersEffect) {
        if self.event_log.is_read() {
            let at = super::At(place);
            self.log(&at, "members", format_args!("{effect:?}"));
        }
        if let MembersEffect::Unlist { replica, shard } = effect {
            let host = self.hosts.get_mut(&place.node).expect("the node is there");
            let listed = &mut host.cores[usize::from(place.core.0)]
                .config
                .placement
                .replicas;
            listed.retain(|&other| other != (replica, shard));
        }
        self.members_told.push((place, effect));
    }

    /// What cores have told about members since the last time.
    pub fn take_members_told(&mut self) -> Vec<(PeerCore, MembersEffect)> {
        std::mem::take(&mut self.members_told)
    }
}
