//! What is wrong with the network at present: who does not reach whom, and what becomes of bytes on their way.
//!
//! It is said for each direction of each pair of [`Site`]s. Several things may be wrong at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metastore_sim::network::{Partition, Site, Traffic};

/// How a link that is cut shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing arrives until it heals, and then everything does: a network that loses packets, which are sent again.
    Silent,
    /// Connections break, and cannot be made.
    Reset,
}

/// Something that is wrong with bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// They are accepted and never arrive; nor does anything behind them on that connection.
    Swallow,
    /// They take up to so long.
    Delay {
        /// At least.
        min: Duration,
        /// At most.
        max: Duration,
    },
    /// So many a second pass.
    Throttle {
        /// How many.
        bytes_per_s: u64,
    },
    /// In so many of a thousand pieces a bit is another one.
    Corrupt {
        /// How many.
        per_mille: u64,
    },
    /// With so many of a thousand pieces the connection ends, somewhere in the middle of them.
    Break {
        /// How many.
        per_mille: u64,
    },
    /// With so many of a thousand pieces the direction ends, and the other one goes on.
    HalfClose {
        /// How many.
        per_mille: u64,
    },
}

/// All that is wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    partitions: BTreeMap<u64, (Partition, Cut)>,
    harms: BTreeMap<u64, (Harm, BTreeSet<(Site, Site)>)>,
}

/// What becomes of bytes in one direction of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Treatment {
    pub(crate) cut: Option<Cut>,
    pub(crate) harms: Vec<Harm>,
}

impl Weather {
    /// Begins a partition, which [`Weather::end`] ends by its number.
    pub(crate) fn part(&mut self, number: u64, partition: Partition, cut: Cut) {
        self.partitions.insert(number, (partition, cut));
    }

    /// Begins to do harm in these directions.
    pub(crate) fn harm(&mut self, number: u64, harm: Harm, links: BTreeSet<(Site, Site)>) {
        self.harms.insert(number, (harm, links));
    }

    /// What began under this number is over.
    pub(crate) fn end(&mut self, number: u64) {
        self.partitions.remove(&number);
        self.harms.remove(&number);
    }

    /// What becomes of bytes.
    pub(crate) fn treatment(&self, from: Site, to: Site, traffic: Traffic) -> Treatment {
        let cuts = self.partitions.values();
        let mut cuts = cuts.filter(|(partition, _)| partition.cuts(from, to, traffic));
        let harms = self.harms.values();
        let harms = harms.filter(|(_, links)| links.contains(&(from, to)));
        Treatment {
            cut: cuts.next().map(|&(_, cut)| cut),
            harms: harms.map(|&(harm, _)| harm).collect(),
        }
    }
}

impl Treatment {
    /// Whether nothing passes now that may pass later.
    pub(crate) fn is_held(&self) -> bool {
        self.cut == Some(Cut::Silent)
    }

    /// Whether there can be no connection.
    pub(crate) fn is_reset(&self) -> bool {
        self.cut == Some(Cut::Reset)
    }

    /// Whether bytes go nowhere.
    pub(crate) fn swallows(&self) -> bool {
        self.harms.contains(&Harm::Swallow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_engine::{NodeId, PeerLane};

    const ONE: Site = Site::Node(NodeId(1));
    const TWO: Site = Site::Node(NodeId(2));
    const ENTRIES: Traffic = Traffic::Peers(PeerLane::Entries);

    #[test]
    fn what_ends_is_over_and_what_does_not_goes_on() {
        let mut weather = Weather::default();
        weather.part(1, Partition::of_links(&[(ONE, TWO)]), Cut::Silent);
        weather.harm(2, Harm::Swallow, BTreeSet::from([(ONE, TWO), (TWO, ONE)]));
        let there = weather.treatment(ONE, TWO, ENTRIES);
        assert!(there.is_held() && there.swallows() && !there.is_reset());
        // One direction of a partition is not the other.
        let back = weather.treatment(TWO, ONE, ENTRIES);
        assert!(!back.is_held() && back.swallows());
        weather.end(1);
        assert!(!weather.treatment(ONE, TWO, ENTRIES).is_held());
        weather.end(2);
        assert_eq!(weather.treatment(ONE, TWO, ENTRIES), Treatment::default());
    }
}
