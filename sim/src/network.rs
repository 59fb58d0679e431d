//! The simulated network: who reaches whom, how long it takes, and what is lost, repeated or overtaken.
//!
//! It does **not** carry anything: whoever sends asks when it will arrive, and lets it arrive then.

mod partition;

use std::collections::{BTreeMap, BTreeSet};

use metastore_engine::{NodeId, PeerLane, Time};

pub use self::partition::{Partition, PartitionShape};
use crate::random::Random;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// A node.
    Node(NodeId),
    /// A client.
    Client(usize),
}

/// What is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// Messages between nodes.
    Peers(PeerLane),
    /// Requests and answers, on a connection that is in order as long as it lives.
    Clients,
}

/// What goes wrong, each as so many in a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkFaults {
    /// Messages between nodes that are lost.
    pub loss_per_mille: u64,
    /// Messages between nodes that arrive twice.
    pub duplicate_per_mille: u64,
    /// Messages between nodes that later ones may overtake.
    pub reorder_per_mille: u64,
    /// Pieces of a client's connection with which it breaks.
    pub cut_per_mille: u64,
    /// Messages that take long.
    pub slow_per_mille: u64,
    /// How long those take at most.
    pub slow_max_ns: u64,
    /// The shortest way.
    pub delay_min_ns: u64,
    /// The longest of the usual ones.
    pub delay_max_ns: u64,
}

/// What became of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounters {
    /// Messages and pieces sent.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because their link was cut.
    pub blocked: u64,
    /// That arrived twice.
    pub duplicated: u64,
    /// That did not keep their place.
    pub reordered: u64,
    /// That took long.
    pub slow: u64,
    /// Connections of clients that broke by chance.
    pub cut: u64,
}

/// All links.
#[derive(Debug)]
pub struct Network {
    random: Random,
    /// What goes wrong.
    pub faults: NetworkFaults,
    partition: Option<Partition>,
    /// When the newest message of each link and kind arrives: what keeps its place does not arrive before.
    newest: BTreeMap<(Site, Site, Traffic), Time>,
    counters: NetworkCounters,
}

/// When something arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Never.
    Lost,
    /// Once or more often.
    At(Vec<Time>),
}

impl NetworkFaults {
    /// A good network.
    pub const NONE: NetworkFaults = NetworkFaults {
        loss_per_mille: 0,
        duplicate_per_mille: 0,
        reorder_per_mille: 0,
        cut_per_mille: 0,
        slow_per_mille: 0,
        slow_max_ns: 0,
        delay_min_ns: 50_000,
        delay_max_ns: 200_000,
    };
}

impl Network {
    /// A network in which everybody reaches everybody.
    #[must_use]
    pub fn new(random: Random, faults: NetworkFaults) -> Network {
        Network {
            random,
            faults,
            partition: None,
            newest: BTreeMap::new(),
            counters: NetworkCounters::default(),
        }
    }

    /// What became of messages so far.
    #[must_use]
    pub fn counters(&self) -> NetworkCounters {
        self.counters
    }

    /// Cuts links. What is on its way over them is lost too.
    pub fn split(&mut self, partition: Partition) {
        self.partition = Some(partition);
    }

    /// Everybody reaches everybody again.
    pub fn heal(&mut self) {
        self.partition = None;
    }

    /// Whether anything passes.
    #[must_use]
    pub fn is_open(&self, from: Site, to: Site, traffic: Traffic) -> bool {
        let partition = self.partition.as_ref();
        partition.is_none_or(|partition| !partition.cuts(from, to, traffic))
    }

    /// Something arrives that was sent earlier: whether its link still is there.
    pub fn may_arrive(&mut self, from: Site, to: Site, traffic: Traffic) -> bool {
        let is_open = self.is_open(from, to, traffic);
        self.counters.blocked += u64::from(!is_open);
        is_open
    }

    /// When a message between nodes arrives.
    pub fn send(&mut self, now: Time, from: Site, to: Site, traffic: Traffic) -> Arrivals {
        self.counters.sent += 1;
        if !self.may_arrive(from, to, traffic) {
            return Arrivals::Lost;
        }
        if self.random.chance(self.faults.loss_per_mille) {
            self.counters.lost += 1;
            return Arrivals::Lost;
        }
        let mut arrivals = vec![self.arrival(now, (from, to, traffic))];
        if self.random.chance(self.faults.duplicate_per_mille) {
            self.counters.duplicated += 1;
            let later_ns = self.draw_delay_ns();
            arrivals.push(Time(arrivals[0].0 + later_ns));
        }
        Arrivals::At(arrivals)
    }

    /// When a piece of a client's connection arrives, `None` when the connection breaks instead.
    pub fn send_piece(&mut self, now: Time, from: Site, to: Site) -> Option<Time> {
        self.counters.sent += 1;
        if !self.may_arrive(from, to, Traffic::Clients) {
            return None;
        }
        if self.random.chance(self.faults.cut_per_mille) {
            self.counters.cut += 1;
            return None;
        }
        let link = (from, to, Traffic::Clients);
        let arrival = Time(now.0 + self.draw_delay_ns());
        Some(self.in_order(arrival, link))
    }

    fn arrival(&mut self, now: Time, link: (Site, Site, Traffic)) -> Time {
        let arrival = Time(now.0 + self.draw_delay_ns());
        if self.random.chance(self.faults.reorder_per_mille) {
            self.counters.reordered += 1;
            return arrival;
        }
        self.in_order(arrival, link)
    }

    fn in_order(&mut self, arrival: Time, link: (Site, Site, Traffic)) -> Time {
        let newest = self.newest.entry(link).or_default();
        *newest = (*newest).max(arrival);
        *newest
    }

    /// How long the way is this time.
    pub fn draw_delay_ns(&mut self) -> u64 {
        let faults = self.faults;
        if self.random.chance(faults.slow_per_mille) {
            self.counters.slow += 1;
            return self.random.between(faults.delay_min_ns, faults.slow_max_ns);
        }
        self.random
            .between(faults.delay_min_ns, faults.delay_max_ns)
    }
}

/// Every pair of different sites, in both directions.
fn pairs(sites: &[Site]) -> impl Iterator<Item = (Site, Site)> {
    let from_one = |&from: &Site| {
        let others = sites.iter().filter(move |&&to| to != from);
        others.map(move |&to| (from, to))
    };
    sites.iter().flat_map(from_one)
}

/// Links that are cut.
type Cuts = BTreeSet<(Site, Site)>;

#[cfg(test)]
mod tests;
