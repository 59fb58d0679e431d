//! Partitions: which links are cut, in which direction, and for what.

use std::fmt;

use metastore_engine::PeerLane;

use super::{Cuts, Site, Traffic, pairs};
use crate::random::Random;

/// The shape of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartitionShape {
    /// One site reaches nobody.
    Isolated,
    /// Two groups that do not reach each other.
    Halves,
    /// Two groups that do not reach each other, and one site that reaches both.
    Bridge,
    /// One site is heard and hears nothing.
    Deaf,
    /// One site hears and is not heard.
    Mute,
    /// Every direction of every link on its own.
    Random,
    /// Only what keeps groups alive passes, entries do not.
    EntriesCut,
    /// Only entries pass, votes and heartbeats do not.
    UrgentCut,
}

/// A set of links that are cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    shape: PartitionShape,
    cuts: Cuts,
    /// What does not pass over them, everything when `None`.
    only: Option<PeerLane>,
}

impl PartitionShape {
    /// All of them.
    pub const ALL: [PartitionShape; 8] = [
        PartitionShape::Isolated,
        PartitionShape::Halves,
        PartitionShape::Bridge,
        PartitionShape::Deaf,
        PartitionShape::Mute,
        PartitionShape::Random,
        PartitionShape::EntriesCut,
        PartitionShape::UrgentCut,
    ];
}

impl Partition {
    /// A partition of this shape, around sites drawn from `random`. Clients are on either side.
    ///
    /// # Panics
    /// With less than two sites there is nothing to part.
    #[must_use]
    pub fn draw(random: &mut Random, shape: PartitionShape, sites: &[Site]) -> Partition {
        assert!(sites.len() >= 2, "a partition parts two");
        let is_node = |site: &&Site| matches!(site, Site::Node(_));
        let nodes: Vec<Site> = sites.iter().filter(is_node).copied().collect();
        let one = nodes[random.index(nodes.len())];
        let sides: Vec<bool> = sites.iter().map(|_| random.chance(500)).collect();
        let side_of = |site: Site| {
            let position = sites.iter().position(|&other| other == site);
            sides[position.expect("it is one of them")]
        };
        let cuts = pairs(sites).filter(|&(from, to)| match shape {
            PartitionShape::Isolated => from == one || to == one,
            PartitionShape::Halves => side_of(from) != side_of(to),
            PartitionShape::Bridge => side_of(from) != side_of(to) && from != one && to != one,
            PartitionShape::Deaf => to == one,
            PartitionShape::Mute => from == one,
            PartitionShape::Random | PartitionShape::EntriesCut | PartitionShape::UrgentCut => {
                random.chance(400)
            }
        });
        let cuts = cuts.collect();
        Partition {
            shape,
            cuts,
            only: match shape {
                PartitionShape::EntriesCut => Some(PeerLane::Entries),
                PartitionShape::UrgentCut => Some(PeerLane::Urgent),
                PartitionShape::Isolated
                | PartitionShape::Halves
                | PartitionShape::Bridge
                | PartitionShape::Deaf
                | PartitionShape::Mute
                | PartitionShape::Random => None,
            },
        }
    }

    /// Groups that do not reach each other; who is in none of them reaches everybody.
    #[must_use]
    pub fn of_groups(groups: &[Vec<Site>]) -> Partition {
        let group_of = |site: Site| groups.iter().position(|group| group.contains(&site));
        let sites: Vec<Site> = groups.iter().flatten().copied().collect();
        let cuts = pairs(&sites).filter(|&(from, to)| group_of(from) != group_of(to));
        Partition {
            shape: PartitionShape::Halves,
            cuts: cuts.collect(),
            only: None,
        }
    }

    /// Single directions of links.
    #[must_use]
    pub fn of_links(cuts: &[(Site, Site)]) -> Partition {
        Partition {
            shape: PartitionShape::Random,
            cuts: cuts.iter().copied().collect(),
            only: None,
        }
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> PartitionShape {
        self.shape
    }

    /// Whether this does not pass.
    #[must_use]
    pub fn cuts(&self, from: Site, to: Site, traffic: Traffic) -> bool {
        let is_meant = match (self.only, traffic) {
            (None, _) => true,
            (Some(only), Traffic::Peers(lane)) => only == lane,
            (Some(_), Traffic::Clients) => false,
        };
        is_meant && self.cuts.contains(&(from, to))
    }
}

impl fmt::Display for PartitionShape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            PartitionShape::Isolated => "isolated",
            PartitionShape::Halves => "halves",
            PartitionShape::Bridge => "bridge",
            PartitionShape::Deaf => "deaf",
            PartitionShape::Mute => "mute",
            PartitionShape::Random => "random",
            PartitionShape::EntriesCut => "entries-cut",
            PartitionShape::UrgentCut => "urgent-cut",
        };
        formatter.write_str(name)
    }
}
