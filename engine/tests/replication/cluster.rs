//! Nodes of one core each with a network between them that delivers, loses and repeats what the test says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use metastore_engine::{
    BootNonce, ChangeRefused, ChangeTicket, CoreConfig, CoreCounters, CoreId, Identity, Input,
    LogHistory, LogIndex, Member, MemberStatus, MembersChange, MembersEffect, MembersInput, NodeId,
    PeerCore, PeerLane, ReplicaId, ReplicaStatus, Request, Role, ShardId, Time, describe_batch,
};
use metastore_statemachine::{Command, GetQuery, NamespaceId};

use crate::harness::{Answer, Files, TestNode, config, start};

/// A node by its number, from 1 on.
pub(crate) type NodeNumber = u32;

/// Who sends, and who receives.
type Link = (NodeNumber, NodeNumber);

struct Machine {
    /// `None` while it is down.
    node: Option<TestNode>,
    /// What its devices held when it went down.
    files: Files,
    boots: u64,
    /// Log writes that had begun when last looked.
    writes: u64,
}

/// Nodes and the batches between them.
pub(crate) struct TestCluster {
    configs: Vec<CoreConfig>,
    machines: Vec<Machine>,
    links: BTreeMap<Link, VecDeque<(PeerLane, Vec<u8>)>>,
    members: Vec<(NodeNumber, MembersEffect)>,
    tickets: u64,
    /// Nodes whose place on the network others have.
    aliases: BTreeMap<NodeNumber, NodeNumber>,
    cut: BTreeSet<(NodeNumber, NodeNumber)>,
    /// Whether beats without heartbeats are carried too.
    pub(crate) carries_beats: bool,
}

fn core_of(node: NodeNumber) -> PeerCore {
    PeerCore {
        node: NodeId(node),
        core: CoreId(0),
    }
}

/// Replica n of the first shard lives on node n, replica 100 + n of the second too, and so on.
fn replica_of(node: NodeNumber, shard: u32) -> ReplicaId {
    ReplicaId(u64::from(shard) * 100 + u64::from(node))
}

fn config_of(node: NodeNumber, nodes: u32, shards: u32) -> CoreConfig {
    let alone = config(0, 1, shards);
    let identity = Identity {
        node: NodeId(node),
        ..alone.identity
    };
    let voters = |shard| {
        let voters = (1..=nodes).map(|node| Member {
            replica: replica_of(node, shard),
            home: core_of(node),
        });
        (ShardId(shard), voters.collect())
    };
    let mut log = alone.log.clone();
    log.identity = identity;
    CoreConfig {
        identity,
        replicas: (0..shards)
            .map(|shard| (replica_of(node, shard), ShardId(shard)))
            .collect(),
        members: (0..shards).map(voters).collect(),
        log,
        ..alone
    }
}

impl TestCluster {
    /// Nodes that have written what they write at their first start.
    pub(crate) fn new(nodes: u32, shards: u32) -> TestCluster {
        TestCluster::with(nodes, shards, |_| {})
    }

    /// As [`TestCluster::new`], with other settings.
    pub(crate) fn with(nodes: u32, shards: u32, change: impl Fn(&mut CoreConfig)) -> TestCluster {
        let mut configs: Vec<CoreConfig> = (1..=nodes)
            .map(|node| config_of(node, nodes, shards))
            .collect();
        configs.iter_mut().for_each(change);
        let machine = |_: &CoreConfig| Machine {
            node: None,
            files: Files::default(),
            boots: 0,
            writes: 0,
        };
        let mut cluster = TestCluster {
            machines: configs.iter().map(machine).collect(),
            configs,
            links: BTreeMap::new(),
            members: Vec::new(),
            tickets: 0,
            aliases: BTreeMap::new(),
            cut: BTreeSet::new(),
            carries_beats: false,
        };
        for node in 1..=nodes {
            cluster.start(node);
        }
        cluster
    }

    pub(crate) fn numbers(&self) -> std::ops::RangeInclusive<NodeNumber> {
        1..=u32::try_from(self.machines.len()).expect("few nodes")
    }

    fn machine(&mut self, node: NodeNumber) -> &mut Machine {
        &mut self.machines[node as usize - 1]
    }

    /// A node that is up.
    pub(crate) fn node(&mut self, node: NodeNumber) -> &mut TestNode {
        self.machine(node).node.as_mut().expect("the node is up")
    }

    pub(crate) fn is_up(&self, node: NodeNumber) -> bool {
        self.machines[node as usize - 1].node.is_some()
    }

    /// Starts a node that is down from what its devices hold.
    pub(crate) fn start(&mut self, number: NodeNumber) {
        let mut config = self.configs[number as usize - 1].clone();
        let machine = self.machine(number);
        machine.boots += 1;
        config.boot = BootNonce(machine.boots);
        let history = match machine.boots {
            1 => LogHistory::New,
            _ => LogHistory::HasServed,
        };
        let now = Time(1_000_000_000 * machine.boots);
        let files = std::mem::take(&mut machine.files);
        let core = start(config, files, now, history).expect("undamaged files");
        let mut node = TestNode {
            cores: vec![core],
            now,
            answers: Vec::new(),
            sent: Vec::new(),
            members: Vec::new(),
            holds_slices: false,
            holds_snapshots: false,
        };
        node.settle();
        machine.writes = durable_writes(&node);
        machine.node = Some(node);
        self.collect(number);
    }

    /// Takes a node's power: what was not durable is gone, and so is what was on its way to it or from it.
    pub(crate) fn crash(&mut self, number: NodeNumber) {
        let machine = self.machine(number);
        let node = machine.node.take().expect("the node is up");
        machine.files = node.cores.into_iter().next().expect("one core").files;
        self.links
            .retain(|&(from, to), _| from != number && to != number);
    }

    /// The snapshots of a node that is down cannot be read any more.
    pub(crate) fn damage_snapshots(&mut self, number: NodeNumber) {
        self.machine(number).files.snapshots.is_unreadable = true;
    }

    /// Lets a tick pass on one node.
    pub(crate) fn tick(&mut self, number: NodeNumber) {
        let node = self.node(number);
        node.pass_ms(50);
        node.turn();
        self.collect(number);
    }

    /// Asks a node for something; `request` is the number of the request.
    pub(crate) fn put(&mut self, number: NodeNumber, request: u64, key: &str, value: &str) {
        let command = Command::put(NamespaceId::DEFAULT, key.as_bytes(), value.as_bytes());
        let node = self.node(number);
        node.command(0, request, &command);
        node.turn();
        self.collect(number);
    }

    /// Reads a key on a node.
    pub(crate) fn get(&mut self, number: NodeNumber, request: u64, key: &str) {
        let query = GetQuery {
            namespace: NamespaceId::DEFAULT,
            key: key.as_bytes(),
            at: None,
        };
        let node = self.node(number);
        node.request(0, request, Request::Get(query));
        node.turn();
        self.collect(number);
    }

    /// Lets time pass on a node until it has something to say.
    pub(crate) fn campaign(&mut self, number: NodeNumber) {
        for _ in 0..40 {
            self.tick(number);
            let says = |batch| !describe_batch(batch).expect("intact").is_empty();
            if self
                .on_the_way()
                .any(|(from, _, batch)| from == number && says(batch))
            {
                return;
            }
        }
        panic!("node {number} has nothing to say");
    }

    /// Completes the oldest record that a node writes, and marks before it; `false` when it writes nothing.
    pub(crate) fn complete_write(&mut self, number: NodeNumber) -> bool {
        let node = self.node(number);
        let records = node.writes_in_flight(0);
        let mut is_done = false;
        while node.complete_write(0) {
            is_done = true;
            if node.writes_in_flight(0) < records {
                break;
            }
        }
        node.turn();
        self.collect(number);
        is_done
    }

    /// Tells a leader to let another lead the first shard.
    pub(crate) fn hand_over(&mut self, number: NodeNumber, to: NodeNumber) {
        let (shard, to) = (ShardId(0), Some(replica_of(to, 0)));
        let node = self.node(number);
        node.step(0, Input::HandOver { shard, to });
        node.turn();
        self.collect(number);
    }

    /// A node's connections to all others end; nothing that was on its way is lost with them.
    pub(crate) fn reset_connections(&mut self, number: NodeNumber) {
        for other in self.numbers().filter(|&other| other != number) {
            self.reset_connections_to(number, other);
        }
    }

    /// The same with those to one other.
    pub(crate) fn reset_connections_to(&mut self, number: NodeNumber, other: NodeNumber) {
        let peer = core_of(other);
        let node = self.node(number);
        node.step(0, Input::PeerUnreachable { peer });
        node.turn();
        self.collect(number);
    }

    // ---- Members ----

    /// A node more, on which nothing lives.
    pub(crate) fn add_node(&mut self) -> NodeNumber {
        let number = u32::try_from(self.machines.len()).expect("few nodes") + 1;
        let first = &self.configs[0];
        let identity = Identity {
            node: NodeId(number),
            ..first.identity
        };
        let mut config = first.clone();
        config.identity = identity;
        config.log.identity = identity;
        config.replicas.clear();
        self.configs.push(config);
        self.machines.push(Machine {
            node: None,
            files: Files::default(),
            boots: 0,
            writes: 0,
        });
        self.start(number);
        number
    }

    /// A node that never had anything is what another was: it has its name, which is down for good.
    pub(crate) fn take_place(&mut self, number: NodeNumber, of: NodeNumber) {
        assert!(!self.is_up(of), "it has stopped");
        let mut config = self.configs[of as usize - 1].clone();
        config.replicas.clear();
        self.configs[number as usize - 1] = config;
        let place = &mut self.machines[number as usize - 1];
        place.node = None;
        place.files = Files::default();
        place.boots = 0;
        self.aliases.insert(of, number);
        self.start(number);
    }

    /// A member of the first shard that lives on a node.
    pub(crate) fn member(replica: u64, node: NodeNumber) -> Member {
        Member {
            replica: ReplicaId(replica),
            home: core_of(node),
        }
    }

    fn tell(&mut self, number: NodeNumber, input: MembersInput) {
        let node = self.node(number);
        node.step(0, Input::Members(input));
        node.turn();
        self.collect(number);
    }

    /// Tells a leader to let a replica of the first shard lead.
    pub(crate) fn hand_over_to_replica(&mut self, number: NodeNumber, to: u64) {
        let (shard, to) = (ShardId(0), Some(ReplicaId(to)));
        let node = self.node(number);
        node.step(0, Input::HandOver { shard, to });
        node.turn();
        self.collect(number);
    }

    /// A replica of the first shard is to live on a node.
    pub(crate) fn create(&mut self, number: NodeNumber, replica: u64) {
        self.create_of(number, replica, 0);
    }

    /// The same for another shard.
    pub(crate) fn create_of(&mut self, number: NodeNumber, replica: u64, shard: u32) {
        let (replica, shard) = (ReplicaId(replica), ShardId(shard));
        self.tell(number, MembersInput::Create { replica, shard });
    }

    /// A replica that never joined is not wanted any more.
    pub(crate) fn discard(&mut self, number: NodeNumber, replica: u64) {
        let replica = ReplicaId(replica);
        self.tell(number, MembersInput::Discard { replica });
    }

    /// Whoever keeps the map knows that a replica is no member any more.
    pub(crate) fn tell_removed(&mut self, number: NodeNumber, replica: u64) {
        let replica = ReplicaId(replica);
        self.tell(number, MembersInput::Removed { replica });
    }

    /// Asks a node to change the members of the first shard.
    pub(crate) fn change(&mut self, number: NodeNumber, change: MembersChange) -> ChangeTicket {
        self.tickets += 1;
        let ticket = ChangeTicket(self.tickets);
        let input = MembersInput::Change {
            ticket,
            shard: ShardId(0),
            change,
            deadline_ms: 5_000,
        };
        self.tell(number, input);
        ticket
    }

    /// What became of a change, once it is known.
    pub(crate) fn outcome(&self, asked: ChangeTicket) -> Option<&Result<LogIndex, ChangeRefused>> {
        self.members.iter().find_map(|(_, effect)| match effect {
            MembersEffect::Changed { ticket, result } if *ticket == asked => Some(result),
            MembersEffect::Changed { .. }
            | MembersEffect::Created { .. }
            | MembersEffect::Unlist { .. }
            | MembersEffect::Removed { .. } => None,
        })
    }

    /// What nodes told about members so far, each with its node.
    pub(crate) fn members_told(&self) -> &[(NodeNumber, MembersEffect)] {
        &self.members
    }

    /// The members of the first shard, as a node knows them.
    pub(crate) fn members(&mut self, number: NodeNumber) -> Vec<MemberStatus> {
        let node = self.node(number);
        node.cores[0].core.members(node.now, ShardId(0))
    }

    /// How many replicas live on a node.
    pub(crate) fn replicas(&mut self, number: NodeNumber) -> usize {
        self.node(number).cores[0].core.replicas().count()
    }

    /// Lets time pass on every node that is up, and everything move.
    pub(crate) fn pass_ticks(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for number in self.numbers() {
                if self.is_up(number) {
                    self.tick(number);
                }
            }
            self.settle();
        }
    }

    /// Tells a node to stop.
    pub(crate) fn drain(&mut self, number: NodeNumber) {
        let node = self.node(number);
        node.step(0, Input::Drain);
        node.turn();
        self.collect(number);
    }

    /// Delivers what is on its way between two nodes; says how many batches that were.
    pub(crate) fn deliver(&mut self, from: NodeNumber, to: NodeNumber) -> usize {
        let batches = self.links.remove(&(from, to)).unwrap_or_default();
        let count = batches.len();
        for (_, batch) in batches {
            self.hand_bytes(from, to, &batch);
        }
        if count > 0 {
            self.node(to).turn();
            self.collect(to);
        }
        count
    }

    /// Hands bytes to a node as if they came from another.
    pub(crate) fn hand_bytes(&mut self, from: NodeNumber, to: NodeNumber, batch: &[u8]) {
        let name = self.aliases.iter().find(|(_, place)| **place == from);
        let from = core_of(name.map_or(from, |(&name, _)| name));
        self.node(to).step(0, Input::PeerMessages { from, batch });
    }

    /// Forgets what is on its way between two nodes.
    pub(crate) fn lose(&mut self, from: NodeNumber, to: NodeNumber) -> usize {
        self.links
            .remove(&(from, to))
            .map_or(0, |batches| batches.len())
    }

    /// From now on nothing passes between the two sides.
    pub(crate) fn partition(&mut self, one: &[NodeNumber], other: &[NodeNumber]) {
        for &a in one {
            for &b in other {
                self.cut.extend([(a, b), (b, a)]);
                self.lose(a, b);
                self.lose(b, a);
            }
        }
    }

    /// Everything passes again.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// What is on its way, in the order of links and then of time.
    pub(crate) fn on_the_way(&self) -> impl Iterator<Item = (NodeNumber, NodeNumber, &[u8])> {
        self.links.iter().flat_map(|(&(from, to), batches)| {
            batches.iter().map(move |(_, batch)| (from, to, &batch[..]))
        })
    }

    /// Delivers and completes until nothing moves any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut moved = 0;
            for number in self.numbers() {
                if !self.is_up(number) {
                    continue;
                }
                moved += usize::from(self.complete_write(number));
                moved += usize::from(self.node(number).complete_snapshot_work(0));
                for to in self.numbers() {
                    if self.is_up(to) {
                        moved += self.deliver(number, to);
                    } else {
                        self.lose(number, to);
                    }
                }
            }
            if moved == 0 {
                return;
            }
        }
        panic!("the nodes never come to rest");
    }

    /// Lets a node's time pass until it leads, and delivers everything. The others forget their leader before, and what
    /// they say meanwhile is lost.
    pub(crate) fn elect(&mut self, number: NodeNumber) {
        self.settle();
        for other in self.numbers().filter(|&other| other != number) {
            for _ in 0..10 {
                if self.is_up(other) {
                    self.tick(other);
                    self.numbers().for_each(|to| {
                        self.lose(other, to);
                    });
                }
            }
        }
        for _ in 0..40 {
            self.tick(number);
            self.settle();
            if self.status(number).role == Role::Leader {
                return;
            }
        }
        panic!("node {number} is not elected");
    }

    /// What the first shard's replica on a node reports.
    pub(crate) fn status(&mut self, number: NodeNumber) -> ReplicaStatus {
        self.node(number).cores[0].core.status().replicas[0]
    }

    /// What a node has counted since its start.
    pub(crate) fn counters(&mut self, number: NodeNumber) -> CoreCounters {
        self.node(number).cores[0].core.status().counters
    }

    /// Does the oldest thing that was asked for the file of a snapshot.
    pub(crate) fn do_snapshot_work(&mut self, number: NodeNumber) -> bool {
        let node = self.node(number);
        let is_done = node.complete_snapshot_work(0);
        node.turn();
        self.collect(number);
        is_done
    }

    /// Whether something is asked for the file of a snapshot.
    pub(crate) fn has_snapshot_work(&mut self, number: NodeNumber) -> bool {
        self.node(number).has_snapshot_work(0)
    }

    /// Whether the next thing that is asked for the file of a snapshot is to name it: all of it is there.
    pub(crate) fn names_snapshot(&mut self, number: NodeNumber) -> bool {
        self.node(number).names_snapshot(0)
    }

    /// Lets the oldest thing fail that was asked for the file of a snapshot.
    pub(crate) fn fail_snapshot_work(&mut self, number: NodeNumber) {
        let node = self.node(number);
        node.fail_snapshot_work(0);
        node.turn();
        self.collect(number);
    }

    /// Lets everything move until the devices of a node have done so many things; `false` when they had less to do.
    pub(crate) fn fetch_until(&mut self, number: NodeNumber, steps: u32) -> bool {
        let mut done = 0;
        for _ in 0..400 {
            for from in self.numbers() {
                for to in self.numbers() {
                    self.deliver(from, to);
                }
                if from != number {
                    self.complete_write(from);
                    self.do_snapshot_work(from);
                }
            }
            for is_done in [self.do_snapshot_work(number), self.complete_write(number)] {
                done += u32::from(is_done);
                if done > steps {
                    return true;
                }
            }
            if self.on_the_way().count() == 0 {
                self.tick(1);
            }
        }
        false
    }

    /// The answers that a node gave.
    pub(crate) fn take_answers(&mut self, number: NodeNumber) -> Vec<(u64, Answer)> {
        self.node(number).take_answers()
    }

    /// Whether a node has begun a log write since the last time.
    pub(crate) fn has_begun_write(&mut self, number: NodeNumber) -> bool {
        let machine = self.machine(number);
        let node = machine.node.as_ref().expect("the node is up");
        let writes = durable_writes(node) + node.writes_in_flight(0) as u64;
        std::mem::replace(&mut machine.writes, writes) < writes
    }

    /// Takes what a node sent, and takes off its list what is to be removed.
    fn collect(&mut self, from: NodeNumber) {
        for effect in std::mem::take(&mut self.node(from).members) {
            if let MembersEffect::Unlist { replica, shard } = effect {
                let listed = &mut self.configs[from as usize - 1].replicas;
                listed.retain(|&other| other != (replica, shard));
            }
            self.members.push((from, effect));
        }
        for (to, lane, batch) in std::mem::take(&mut self.node(from).sent) {
            assert_eq!(to.core, CoreId(0));
            let receiver = self.aliases.get(&to.node.0).copied();
            let link = (from, receiver.unwrap_or(to.node.0));
            // A beat without heartbeats says nothing of any shard.
            let is_beat = describe_batch(&batch).expect("intact").is_empty();
            if !self.cut.contains(&link) && (self.carries_beats || !is_beat) {
                self.links.entry(link).or_default().push_back((lane, batch));
            }
        }
    }
}

fn durable_writes(node: &TestNode) -> u64 {
    node.cores[0].core.status().log.durable_writes
}
