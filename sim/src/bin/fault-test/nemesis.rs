//! Who makes things go wrong, as a plan says, and in the end takes everything back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use metastore_engine::{NodeId, PeerCore, ShardId};
use metastore_sim::network::{Partition, PartitionShape, Site};
use metastore_sim::random::Random;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::disks::{Disks, Pulse};
use crate::failure::Cause;
use crate::formatted::Formatted;
use crate::nodes::Nodes;
use crate::plan::{FaultKind, Plan, PlannedFault};
use crate::weather::{Cut, Harm, Weather};
use crate::witness::Witness;

/// What it acts upon.
pub(crate) struct Nemesis<'a> {
    pub(crate) nodes: &'a mut Nodes,
    pub(crate) weather: &'a watch::Sender<Arc<Weather>>,
    pub(crate) witness: &'a mut Witness,
    pub(crate) disks: &'a mut Disks,
    plan: &'a Plan,
    /// What is to be taken back, and when.
    undo: BTreeMap<(Instant, u64), Undo>,
    next_number: u64,
    pub(crate) done: Done,
}

/// What it did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// How often each kind of fault happened.
    pub(crate) counts: BTreeMap<FaultKind, u64>,
    /// Nodes that were killed while they led shards.
    pub(crate) leaders_killed: Vec<LeaderKilled>,
    /// From when to when anything was wrong, by number.
    spans: BTreeMap<u64, (Instant, Instant)>,
    /// What it did, line by line.
    pub(crate) lines: Vec<String>,
}

/// A node that was killed while it led shards.
#[derive(Debug)]
pub(crate) struct LeaderKilled {
    number: u64,
    pub(crate) at: Instant,
    pub(crate) shards: Vec<ShardId>,
}

/// How a fault is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Start(u32),
    Resume(u32),
    Weather,
    Free(u32),
    Thaw(u32),
}

/// How long a fault may be felt when it is over.
const AFTER_PAINS: Duration = Duration::from_millis(700);
/// When to look again for a node that is to stop and start.
const ASK_AGAIN: Duration = Duration::from_millis(30);

impl Done {
    /// Whether nothing else was wrong from a little before a leader was killed until `by`.
    pub(crate) fn was_alone(&self, killed: &LeaderKilled, by: Instant) -> bool {
        let mut others = self
            .spans
            .iter()
            .filter(|(number, _)| **number != killed.number);
        others.all(|(_, &(began, ended))| ended + AFTER_PAINS < killed.at || began > by)
    }
}

impl<'a> Nemesis<'a> {
    pub(crate) fn new(
        nodes: &'a mut Nodes,
        weather: &'a watch::Sender<Arc<Weather>>,
        (witness, disks): (&'a mut Witness, &'a mut Disks),
        plan: &'a Plan,
    ) -> Nemesis<'a> {
        Nemesis {
            disks,
            nodes,
            weather,
            witness,
            plan,
            undo: BTreeMap::new(),
            next_number: 0,
            done: Done::default(),
        }
    }

    /// Lets everything go wrong that is planned.
    pub(crate) fn run(&mut self) -> Result<(), Cause> {
        let began = Instant::now();
        for fault in &self.plan.faults {
            self.wait_until(began + fault.at)?;
            self.begin(began, fault)?;
        }
        self.wait_until(began + self.plan.faults_time)
    }

    /// Takes everything back that is still wrong.
    pub(crate) fn heal(&mut self) -> Result<(), Cause> {
        let now = Instant::now();
        // First the network, which nodes need that are to stop.
        self.weather.send_replace(Arc::new(Weather::default()));
        while let Some((key, undo)) = self.undo.pop_first() {
            if key.0 > now && matches!(undo, Undo::Start(node) if self.nodes.is_stopping(node)) {
                std::thread::sleep(ASK_AGAIN);
                self.nodes.check()?;
            }
            self.take_back(key.1, undo)?;
            self.end_span(key.1, now);
        }
        for node in self.nodes.numbers() {
            assert!(self.nodes.is_awake(node), "what was stopped was started");
        }
        Ok(())
    }

    /// Takes back what is due, until then.
    fn wait_until(&mut self, until: Instant) -> Result<(), Cause> {
        loop {
            let next = self.undo.first_key_value().map(|(&(at, _), _)| at);
            let next = next.filter(|&at| at < until).unwrap_or(until);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            self.nodes.check()?;
            if next == until {
                return Ok(());
            }
            let Some(((_, number), undo)) = self.undo.pop_first() else {
                return Ok(());
            };
            self.take_back(number, undo)?;
        }
    }

    fn take_back(&mut self, number: u64, undo: Undo) -> Result<(), Cause> {
        match undo {
            Undo::Start(node) if self.nodes.is_stopping(node) => {
                let later = Instant::now() + ASK_AGAIN;
                self.undo.insert((later, number), Undo::Start(node));
            }
            Undo::Start(node) => {
                if !self.nodes.is_running(node) {
                    self.start(node)?;
                }
            }
            Undo::Resume(node) => self.nodes.resume(node)?,
            Undo::Free(node) => self.disks.free(node)?,
            Undo::Thaw(node) => self.disks.thaw(node),
            Undo::Weather => {
                self.weather
                    .send_modify(|weather| Arc::make_mut(weather).end(number));
            }
        }
        Ok(())
    }

    fn start(&mut self, node: u32) -> Result<(), Cause> {
        if self.plan.has_snapshots {
            // What it holds now may be released later.
            self.witness.look(node, &self.nodes.data(node))?;
        }
        Ok(self.nodes.start(node)?)
    }

    fn begin(&mut self, began: Instant, fault: &PlannedFault) -> Result<(), Cause> {
        let mut random = Random::new(fault.draw);
        let now = Instant::now();
        self.next_number += 1;
        let number = self.next_number;
        let until = now + fault.length;
        let what = match fault.kind {
            FaultKind::Kill | FaultKind::KillLeader => {
                let leaders = self.nodes.leaders();
                let nodes = match fault.kind == FaultKind::KillLeader {
                    true => leading(&leaders),
                    false => self.running(),
                };
                let Some(node) = one_of(&nodes, &mut random) else {
                    return Ok(());
                };
                self.kill(number, node, leaders)?;
                self.undo.insert((until, number), Undo::Start(node));
                format!("node {node}")
            }
            FaultKind::KillAll => {
                let nodes = self.running();
                for &node in &nodes {
                    self.disks.thaw(node);
                    self.nodes.kill(node)?;
                }
                for node in nodes {
                    // Not all at the same time.
                    self.next_number += 1;
                    let until = until + Duration::from_millis(random.below(300));
                    self.undo
                        .insert((until, self.next_number), Undo::Start(node));
                }
                "all nodes".to_owned()
            }
            FaultKind::Pause => {
                let awake = self.awake();
                let Some(node) = one_of(&awake, &mut random) else {
                    return Ok(());
                };
                self.nodes.pause(node)?;
                self.undo.insert((until, number), Undo::Resume(node));
                format!("node {node}")
            }
            FaultKind::Restart => {
                let awake = self.awake();
                let Some(node) = one_of(&awake, &mut random) else {
                    return Ok(());
                };
                self.disks.thaw(node);
                self.nodes.begin_stop(node)?;
                self.undo.insert((until, number), Undo::Start(node));
                format!("node {node}")
            }
            FaultKind::Partition | FaultKind::Flapping => self.part((until, number), &mut random),
            FaultKind::FullDisk | FaultKind::HungDisk | FaultKind::SlowDisk => {
                let Some(node) = one_of(&self.disks.nodes(), &mut random) else {
                    return Ok(());
                };
                self.spoil_disk((until, number), fault.kind, node, &mut random)?
            }
            FaultKind::Swallow
            | FaultKind::Break
            | FaultKind::HalfClose
            | FaultKind::Delay
            | FaultKind::Throttle
            | FaultKind::Corrupt => self.harm((until, number), fault.kind, &mut random),
        };
        *self.done.counts.entry(fault.kind).or_default() += 1;
        self.done.spans.insert(number, (now, until));
        self.done.lines.push(format!(
            "{:5} ms, for {:4} ms: {} of {what}",
            (now - began).as_millis(),
            fault.length.as_millis(),
            fault.kind
        ));
        Ok(())
    }

    fn end_span(&mut self, number: u64, now: Instant) {
        if let Some((_, until)) = self.done.spans.get_mut(&number) {
            *until = now.min(*until);
        }
    }

    // ---- Nodes ----

    fn running(&self) -> Vec<u32> {
        let nodes = self.nodes.numbers();
        nodes.filter(|&node| self.nodes.is_running(node)).collect()
    }

    /// Those that serve, and go on to.
    fn awake(&self) -> Vec<u32> {
        let nodes = self.nodes.numbers();
        let awake = |node: &u32| self.nodes.is_awake(*node) && !self.nodes.is_stopping(*node);
        nodes.filter(awake).collect()
    }

    fn kill(
        &mut self,
        number: u64,
        node: u32,
        leaders: BTreeMap<ShardId, PeerCore>,
    ) -> Result<(), Cause> {
        let here = leaders
            .into_iter()
            .filter(|(_, home)| home.node == NodeId(node));
        let shards: Vec<ShardId> = here.map(|(shard, _)| shard).collect();
        // Who waits for a frozen disk does not end.
        self.disks.thaw(node);
        self.nodes.kill(node)?;
        if !shards.is_empty() {
            self.done.leaders_killed.push(LeaderKilled {
                number,
                at: Instant::now(),
                shards,
            });
        }
        Ok(())
    }

    // ---- Disks ----

    fn spoil_disk(
        &mut self,
        key: (Instant, u64),
        kind: FaultKind,
        node: u32,
        random: &mut Random,
    ) -> Result<String, Cause> {
        if kind == FaultKind::FullDisk {
            // Who wants to take the last byte must not wait for it.
            self.disks.thaw(node);
            self.disks.fill(node)?;
            self.undo.insert(key, Undo::Free(node));
            return Ok(format!("node {node}"));
        }
        let pulse = match kind == FaultKind::HungDisk {
            true => Pulse {
                frozen: Duration::from_secs(5),
                thawed: Duration::ZERO,
            },
            false => Pulse {
                frozen: Duration::from_millis(random.weighted(&[(2, 10), (2, 50), (1, 200)])),
                thawed: Duration::from_millis(random.between(1, 10)),
            },
        };
        self.disks.freeze(node, pulse);
        self.undo.insert(key, Undo::Thaw(node));
        Ok(format!("node {node}, {pulse:?}"))
    }

    // ---- The network ----

    /// All nodes, and sometimes all clients.
    fn sites(&self, random: &mut Random) -> Vec<Site> {
        let nodes = self.nodes.numbers().map(|node| Site::Node(NodeId(node)));
        let clients = match random.chance(500) {
            true => self.plan.clients,
            false => 0,
        };
        nodes.chain((0..clients).map(Site::Client)).collect()
    }

    fn part(&mut self, key: (Instant, u64), random: &mut Random) -> String {
        let sites = self.sites(random);
        let shape = PartitionShape::ALL[random.index(PartitionShape::ALL.len())];
        let partition = Partition::draw(random, shape, &sites);
        let cut = random.weighted(&[(3, Cut::Silent), (1, Cut::Reset)]);
        self.weather
            .send_modify(|weather| Arc::make_mut(weather).part(key.1, partition, cut));
        self.undo.insert(key, Undo::Weather);
        format!("{} sites, {shape}, {cut:?}", sites.len())
    }

    fn harm(&mut self, key: (Instant, u64), kind: FaultKind, random: &mut Random) -> String {
        let sites = self.sites(random);
        let harm = draw_harm(kind, random);
        // Half of the time everybody is concerned, else a part.
        let per_mille = random.weighted(&[(1, 1_000), (1, 300)]);
        let mut links = BTreeSet::new();
        for &from in &sites {
            for &to in sites.iter().filter(|&&to| to != from) {
                if random.chance(per_mille) {
                    links.insert((from, to));
                }
            }
        }
        let what = format!("{} directions, {harm:?}", links.len());
        self.weather
            .send_modify(|weather| Arc::make_mut(weather).harm(key.1, harm, links));
        self.undo.insert(key, Undo::Weather);
        what
    }
}

/// The nodes that lead something.
fn leading(leaders: &BTreeMap<ShardId, PeerCore>) -> Vec<u32> {
    let nodes: BTreeSet<u32> = leaders.values().map(|home| home.node.0).collect();
    nodes.into_iter().collect()
}

fn one_of(nodes: &[u32], random: &mut Random) -> Option<u32> {
    (!nodes.is_empty()).then(|| nodes[random.index(nodes.len())])
}

fn draw_harm(kind: FaultKind, random: &mut Random) -> Harm {
    match kind {
        FaultKind::Break => Harm::Break {
            per_mille: random.between(2, 60),
        },
        FaultKind::HalfClose => Harm::HalfClose {
            per_mille: random.between(2, 60),
        },
        FaultKind::Delay => {
            let min_ms = random.weighted(&[(2, 0), (1, 20), (1, 100)]);
            let max_ms = min_ms + random.weighted(&[(2, 5), (2, 50), (1, 300)]);
            Harm::Delay {
                min: Duration::from_millis(min_ms),
                max: Duration::from_millis(max_ms),
            }
        }
        FaultKind::Throttle => Harm::Throttle {
            bytes_per_s: random.weighted(&[(1, 4 << 10), (1, 64 << 10)]),
        },
        FaultKind::Corrupt => Harm::Corrupt {
            per_mille: random.between(2, 60),
        },
        FaultKind::Swallow
        | FaultKind::Kill
        | FaultKind::KillLeader
        | FaultKind::KillAll
        | FaultKind::Pause
        | FaultKind::Restart
        | FaultKind::Partition
        | FaultKind::Flapping
        | FaultKind::FullDisk
        | FaultKind::HungDisk
        | FaultKind::SlowDisk => Harm::Swallow,
    }
}

/// What nodes were formatted with.
pub(crate) fn formatted(nodes: &Nodes) -> Result<BTreeMap<u32, Formatted>, Cause> {
    let mut all = BTreeMap::new();
    for node in nodes.numbers() {
        let formatted =
            Formatted::read(&nodes.data(node)).map_err(crate::witness::WitnessError::from)?;
        all.insert(node, formatted);
    }
    Ok(all)
}
