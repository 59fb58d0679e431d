//! What is measured: workloads with their points, who takes part in each, and in which order.
//!
//! A workload is measured in rounds. A round is, between two floors, every point of one workload; at each point every
//! peer is measured next to this store, so that what is compared was measured seconds apart:
//!
//! ```text
//! thorough   floor | point 1: ours, etcd, ours, redis | point 2: ours, etcd, ours, redis | floor
//! quick      floor | point 1: etcd, ours, redis | floor
//! ```

use super::document::{MissingSystem, Point, PointId, PointPace, SystemName, Waits, WorkloadPlan};
use crate::arguments::{ComparedWorkload, Thoroughness};
use crate::keys::{Directories, KeySpace};
use crate::operation::{Mix, Operation};
use crate::output::grouped;
use crate::system::System;
use crate::workload::{Case, CaseOverrides, Workload};

/// Shares of the capacity at which the open loop is measured.
const SHARES: [f64; 3] = [0.2, 0.5, 0.8];

/// The same of a first impression.
const SHARES_QUICK: [f64; 2] = [0.5, 0.8];

/// One workload as it is compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Section {
    pub(super) workload: ComparedWorkload,
    pub(super) group: Group,
    /// As the result shows it.
    pub(super) plan: WorkloadPlan,
    /// One for each point of it, in the same order.
    pub(super) steps: Vec<Step>,
    /// Who takes part, this store first.
    pub(super) systems: Vec<System>,
}

/// How many hold what is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// One node of each system.
    Alone,
    /// Three nodes of this store and three members of etcd; redis has one in any case.
    Replicated,
}

impl Group {
    pub(super) fn of_nodes(nodes: u16) -> Group {
        match nodes {
            1 => Group::Alone,
            _ => Group::Replicated,
        }
    }
}

/// What is done at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) asked: Asked,
    pub(super) partners: Partners,
}

/// What is asked at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Asked {
    /// Operations of a load, as fast as they are answered.
    Closed(Case),
    /// The same in an open loop, at a share of what the system has just reached.
    Share(Case, f64),
    /// A phase of the tree's metadata, from its beginning to its end.
    Tree(TreePhase),
}

/// With whom a point is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partners {
    /// This store alone: a part of its own figures.
    Nobody,
    /// Every peer that takes part in the workload.
    Peers,
}

/// What is done with the whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TreePhase {
    /// A put for each entry.
    Create,
    /// A get for each entry.
    Stat,
    /// A range for each directory.
    List,
}

impl TreePhase {
    /// In the order in which they are done.
    pub(super) const ALL: [TreePhase; 3] = [TreePhase::Create, TreePhase::Stat, TreePhase::List];

    /// Its name.
    pub(super) fn words(self) -> &'static str {
        match self {
            TreePhase::Create => "create",
            TreePhase::Stat => "stat",
            TreePhase::List => "list",
        }
    }
}

/// Requests in flight while a tree is stored and read back, on one connection.
pub(super) const TREE_IN_FLIGHT: usize = 16;

impl Section {
    /// The section of a workload with these peers, each alone.
    #[cfg(test)]
    pub(super) fn new(
        workload: ComparedWorkload,
        peers: &[System],
        thoroughness: Thoroughness,
    ) -> Section {
        Section::of(Group::Alone, workload, peers, thoroughness)
    }

    /// The section of a workload with these peers, of which some may not take part.
    pub(super) fn of(
        group: Group,
        workload: ComparedWorkload,
        peers: &[System],
        thoroughness: Thoroughness,
    ) -> Section {
        let steps = steps_of(group, workload, thoroughness);
        let mut systems = vec![System::MetaStore];
        let mut skipped = Vec::new();
        for &peer in peers {
            match lacks(peer, &steps) {
                None => systems.push(peer),
                Some(why) => skipped.push(MissingSystem {
                    name: name_of(peer),
                    why: why.to_owned(),
                }),
            }
        }
        Section {
            workload,
            group,
            plan: WorkloadPlan {
                id: id_of(workload).to_owned(),
                title: title_of(workload).to_owned(),
                points: steps.iter().map(|step| point_of(step.asked)).collect(),
                skipped,
            },
            steps,
            systems,
        }
    }

    /// The points with what is done there.
    pub(super) fn points(&self) -> impl Iterator<Item = (&Point, &Step)> {
        self.plan.points.iter().zip(&self.steps)
    }

    /// The systems that are measured at a point, one after the other.
    pub(super) fn turns(&self, step: &Step, thoroughness: Thoroughness) -> Vec<System> {
        match step.partners {
            Partners::Nobody => vec![System::MetaStore],
            Partners::Peers => turns_with(&self.systems[1..], thoroughness),
        }
    }

    /// Whether systems do nothing but read at a point, so that what they were given before must not show.
    pub(super) fn reads_only_at(point: &Point, step: &Step) -> bool {
        let is_shared = step.partners == Partners::Peers;
        is_shared && point.waits == Waits::ForNothing
    }

    /// Whether a real tree is stored.
    pub(super) fn needs_tree(&self) -> bool {
        let is_tree = |step: &Step| matches!(step.asked, Asked::Tree(_));
        self.steps.iter().any(is_tree)
    }

    /// The keys that must be loaded before.
    pub(super) fn key_space(&self) -> Option<KeySpace> {
        let space_of = |step: &Step| match step.asked {
            Asked::Closed(case) | Asked::Share(case, _) => case.mix.key_space(),
            Asked::Tree(_) => None,
        };
        self.steps.iter().find_map(space_of)
    }
}

/// The systems in their order: each peer beside this store.
fn turns_with(peers: &[System], thoroughness: Thoroughness) -> Vec<System> {
    match (thoroughness, peers) {
        (_, []) => vec![System::MetaStore],
        (Thoroughness::Quick, &[first, second]) => vec![first, System::MetaStore, second],
        (Thoroughness::Quick | Thoroughness::Full, peers) => {
            let pairs = peers.iter().map(|&peer| [System::MetaStore, peer]);
            pairs.flatten().collect()
        }
    }
}

/// The name of a system in a result.
pub(super) fn name_of(system: System) -> SystemName {
    SystemName(system.words().to_owned())
}

fn id_of(workload: ComparedWorkload) -> &'static str {
    match workload {
        ComparedWorkload::W1 => "w1",
        ComparedWorkload::W2 => "w2",
        ComparedWorkload::W3 => "w3",
        ComparedWorkload::W4 => "w4",
        ComparedWorkload::W5 => "w5",
        ComparedWorkload::W6 => "w6",
        ComparedWorkload::W8 => "w8",
        ComparedWorkload::W12 => "w12",
    }
}

fn title_of(workload: ComparedWorkload) -> &'static str {
    match workload {
        ComparedWorkload::W1 => "A single client that puts, one at a time",
        ComparedWorkload::W2 => "Puts, 1,000 in flight",
        ComparedWorkload::W3 => "Puts with long keys and values, 1,000 in flight",
        ComparedWorkload::W4 => "Small puts on deep pipelines",
        ComparedWorkload::W5 => "Batches of puts",
        ComparedWorkload::W6 => "Linearizable gets",
        ComparedWorkload::W8 => {
            "A mix of metadata operations, at shares of each system's own capacity"
        }
        ComparedWorkload::W12 => "The metadata of a real file tree",
    }
}

/// The points of a workload. A first impression has the one that its goals are about.
fn steps_of(group: Group, workload: ComparedWorkload, thoroughness: Thoroughness) -> Vec<Step> {
    let cases = |workload: Workload| workload.cases(&CaseOverrides::default());
    let closed = |wanted: &[Case]| -> Vec<Step> {
        wanted
            .iter()
            .map(|&case| with_peers(Asked::Closed(case)))
            .collect()
    };
    let of = |workload: Workload, is_goal: fn(&Case) -> bool| {
        let mut cases = cases(workload);
        if thoroughness == Thoroughness::Quick {
            cases.retain(is_goal);
        }
        closed(&cases)
    };
    match workload {
        ComparedWorkload::W1 => {
            let ping = Step {
                asked: Asked::Closed(Case::deepest(Workload::Ping)),
                partners: Partners::Nobody,
            };
            let mut steps = vec![ping];
            steps.extend(closed(&cases(Workload::W1)));
            steps
        }
        ComparedWorkload::W2 => closed(&cases(Workload::W2)),
        ComparedWorkload::W3 => closed(&cases(Workload::W3)),
        // Goals of clusters are about both points.
        ComparedWorkload::W4 if group == Group::Replicated => closed(&cases(Workload::W4)),
        ComparedWorkload::W4 => of(Workload::W4, |case| case.in_flight_per_connection == 64),
        ComparedWorkload::W5 => of(Workload::W5, |case| {
            case.mix.commands_per_request() == 1_024
        }),
        ComparedWorkload::W6 => of(Workload::W6, |case| case.in_flight() == 256),
        ComparedWorkload::W8 => {
            let case = Case::deepest(Workload::W8);
            let mut steps = closed(&[case]);
            let shares = match thoroughness {
                Thoroughness::Quick => SHARES_QUICK.as_slice(),
                Thoroughness::Full => SHARES.as_slice(),
            };
            let at_share = |&share: &f64| with_peers(Asked::Share(case, share));
            steps.extend(shares.iter().map(at_share));
            steps
        }
        ComparedWorkload::W12 => TreePhase::ALL
            .map(|phase| with_peers(Asked::Tree(phase)))
            .to_vec(),
    }
}

fn with_peers(asked: Asked) -> Step {
    Step {
        asked,
        partners: Partners::Peers,
    }
}

/// Why a peer cannot take part, if it cannot.
fn lacks(peer: System, steps: &[Step]) -> Option<&'static str> {
    let shared = steps.iter().filter(|step| step.partners == Partners::Peers);
    shared
        .filter_map(|step| match step.asked {
            Asked::Closed(case) | Asked::Share(case, _) => peer.lacks(case.mix),
            Asked::Tree(phase) => peer.lacks(mix_of(phase)),
        })
        .next()
}

/// The operation of a phase, as far as systems lack it or not.
fn mix_of(phase: TreePhase) -> Mix {
    let space = KeySpace::LONG.within(Directories::Spread);
    Mix::Only(match phase {
        TreePhase::Create => Operation::Put(space),
        TreePhase::Stat => Operation::Get(space),
        TreePhase::List => Operation::List(space),
    })
}

fn point_of(asked: Asked) -> Point {
    match asked {
        Asked::Closed(case) => point_of_case(&case, PointPace::Closed),
        Asked::Share(case, share) => point_of_case(&case, PointPace::ShareOfCapacity(share)),
        Asked::Tree(phase) => Point {
            id: PointId(format!("w12 {}", phase.words())),
            label: phase.words().to_owned(),
            operation: format!("{} entries", phase.words()),
            connections: 1,
            in_flight_per_connection: TREE_IN_FLIGHT,
            commands_per_operation: 1,
            pace: PointPace::Closed,
            waits: match phase {
                TreePhase::Create => Waits::ForDisk,
                TreePhase::Stat | TreePhase::List => Waits::ForNothing,
            },
        },
    }
}

fn point_of_case(case: &Case, pace: PointPace) -> Point {
    let commands = case.mix.commands_per_request();
    let (id, label) = match pace {
        PointPace::Closed if commands > 1 => (
            case.label(),
            format!("{} a batch", grouped(commands as i64)),
        ),
        PointPace::Closed => (
            case.label(),
            format!("{} in flight", grouped(case.in_flight() as i64)),
        ),
        PointPace::ShareOfCapacity(share) => {
            let words = format!("{:.0} %", share * 100.0);
            (
                format!("{} open {words}", case.label()),
                format!("{words} of the capacity"),
            )
        }
    };
    Point {
        id: PointId(id),
        label,
        operation: case.asked_words(),
        connections: case.connections,
        in_flight_per_connection: case.in_flight_per_connection,
        commands_per_operation: commands,
        pace,
        waits: match case.workload {
            Workload::Ping | Workload::W6 => Waits::ForNothing,
            Workload::W1
            | Workload::W2
            | Workload::W3
            | Workload::W4
            | Workload::W5
            | Workload::W8 => Waits::ForDisk,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEERS: [System; 2] = [System::Etcd, System::Redis];

    fn turns(
        workload: ComparedWorkload,
        peers: &[System],
        thoroughness: Thoroughness,
    ) -> Vec<String> {
        let section = Section::new(workload, peers, thoroughness);
        let words = |step: &Step| {
            let turns = section.turns(step, thoroughness).into_iter();
            turns.map(System::words).collect::<Vec<_>>().join(" ")
        };
        section.steps.iter().map(words).collect()
    }

    #[test]
    fn every_peer_is_measured_beside_this_store() {
        use ComparedWorkload::{W1, W4, W8};
        use Thoroughness::{Full, Quick};
        let pairs = "metastore etcd metastore redis";
        assert_eq!(turns(W4, &PEERS, Full), [pairs, pairs]);
        assert_eq!(turns(W4, &PEERS, Quick), ["etcd metastore redis"]);
        assert_eq!(turns(W4, &[System::Redis], Quick), ["metastore redis"]);
        assert_eq!(turns(W4, &[], Full), ["metastore", "metastore"]);
        assert_eq!(turns(W1, &PEERS, Full), ["metastore", pairs]);
        let replicated = Section::of(Group::Replicated, W4, &PEERS, Quick);
        assert_eq!(replicated.steps.len(), 2);
        // redis takes no part in the mix.
        assert_eq!(turns(W8, &PEERS, Quick), ["metastore etcd"; 3]);
    }

    #[test]
    fn who_takes_no_part_is_named_with_the_reason() {
        for workload in [ComparedWorkload::W8, ComparedWorkload::W12] {
            let section = Section::new(workload, &PEERS, Thoroughness::Full);
            assert_eq!(section.systems, [System::MetaStore, System::Etcd]);
            let [skipped] = section.plan.skipped.as_slice() else {
                panic!("{:?}", section.plan.skipped);
            };
            assert_eq!(skipped.name, name_of(System::Redis));
            assert!(skipped.why.starts_with("redis"), "{}", skipped.why);
        }
    }

    #[test]
    fn points_have_names_of_their_own() {
        let all = [
            ComparedWorkload::W1,
            ComparedWorkload::W2,
            ComparedWorkload::W3,
            ComparedWorkload::W4,
            ComparedWorkload::W5,
            ComparedWorkload::W6,
            ComparedWorkload::W8,
            ComparedWorkload::W12,
        ];
        let ids_with = |thoroughness| -> Vec<PointId> {
            let sections = all.map(|workload| Section::new(workload, &PEERS, thoroughness));
            let points = sections.iter().flat_map(|section| &section.plan.points);
            points.map(|point| point.id.clone()).collect()
        };
        let mut ids = ids_with(Thoroughness::Full);
        let quick = ids_with(Thoroughness::Quick);
        assert!(quick.iter().all(|id| ids.contains(id)), "{quick:?}");
        assert_eq!((ids.len(), quick.len()), (19, 13));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 19);
    }
}
