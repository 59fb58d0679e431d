//! A document as the page needs it: which system looks how, and the figures of a system at a point.

use crate::compare::document::{
    Document, Point, PointId, Role, Round, Sample, SystemName, WorkloadPlan,
};
use crate::latency::Spread;

/// Classes of peers, which are given out again when there are more peers.
const PEERS: [&str; 5] = ["peer-1", "peer-2", "peer-3", "peer-4", "peer-5"];

/// The class of the system that is judged.
const OURS: &str = "ours";

/// A document and the looks of its systems.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) document: &'a Document,
    pub(super) systems: Vec<Look<'a>>,
}

/// How a system looks wherever it appears.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) name: &'a SystemName,
    /// The class that gives its colour.
    pub(super) class: &'static str,
}

/// The middle of each figure of a system at a point.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) rate: Option<Spread>,
    pub(super) offered: Option<Spread>,
    pub(super) p50_us: Option<Spread>,
    pub(super) p99_us: Option<Spread>,
    pub(super) p999_us: Option<Spread>,
    pub(super) max_us: Option<Spread>,
    /// Samples that may be used.
    pub(super) used: usize,
    /// Samples of rounds that count, those that are void included.
    pub(super) counted: usize,
    /// Why some of these may not be used, each reason once.
    pub(super) void_reasons: Vec<String>,
    /// What those reached that may not be used.
    pub(super) void_rate: Option<Spread>,
}

impl<'a> View<'a> {
    /// Gives each system of the document its looks. Systems that have samples and stand nowhere else come last.
    pub(super) fn of(document: &'a Document) -> View<'a> {
        let ours = document
            .header
            .systems
            .iter()
            .filter(|system| system.role == Role::Ours);
        let ours: Vec<&SystemName> = ours.map(|system| &system.name).collect();
        let known = document.header.systems.iter().map(|system| &system.name);
        let samples = document.rounds.iter().flat_map(|round| &round.samples);
        let mut systems: Vec<Look<'a>> = Vec::new();
        let mut peers = PEERS.iter().cycle();
        for name in known.chain(samples.map(|sample| &sample.system)) {
            if systems.iter().any(|look| look.name == name) {
                continue;
            }
            let class = match ours.contains(&name) {
                true => OURS,
                false => peers.next().expect("a cycle has no end"),
            };
            systems.push(Look { name, class });
        }
        View { document, systems }
    }

    /// The class of a system, for one that is not known too.
    pub(super) fn class(&self, name: &SystemName) -> &'static str {
        let look = self.systems.iter().find(|look| look.name == name);
        look.map_or(PEERS[0], |look| look.class)
    }

    /// The systems that take part in a workload.
    pub(super) fn systems_of(&self, workload: &WorkloadPlan) -> Vec<Look<'a>> {
        let is_skipped = |name: &SystemName| workload.skipped.iter().any(|skip| skip.name == *name);
        let takes_part = |look: &&Look<'a>| !is_skipped(look.name);
        self.systems.iter().filter(takes_part).copied().collect()
    }

    /// A point by its name, with the workload that it belongs to.
    pub(super) fn point(&self, id: &PointId) -> Option<(&'a WorkloadPlan, &'a Point)> {
        let workloads = self.document.header.workloads.iter();
        let mut points = workloads
            .flat_map(|workload| workload.points.iter().map(move |point| (workload, point)));
        points.find(|(_, point)| point.id == *id)
    }

    /// Whether a system was measured at a point in any round at all.
    pub(super) fn was_tried(&self, point: &Point, system: &SystemName) -> bool {
        let mut samples = self.document.rounds.iter().flat_map(|round| &round.samples);
        samples.any(|sample| sample.point == point.id && sample.system == *system)
    }

    /// The workloads that were measured in a round.
    pub(super) fn workloads_of(&self, round: &Round) -> Vec<&'a str> {
        let has =
            |workload: &&WorkloadPlan| workload.points.iter().any(|point| round.has(&point.id));
        let workloads = self.document.header.workloads.iter().filter(has);
        workloads.map(|workload| workload.id.as_str()).collect()
    }

    /// The figures of a system at a point.
    pub(super) fn figures(&self, point: &Point, system: &SystemName) -> Figures {
        let spread = |value: fn(&Sample) -> f64| {
            self.document
                .spread(&point.id, system, |sample| Some(value(sample)))
        };
        let mut void_reasons: Vec<String> = Vec::new();
        let counted = || self.document.samples_counted(&point.id, system);
        for void in counted().filter_map(|sample| sample.void.as_ref()) {
            let words = void.words();
            if !void_reasons.contains(&words) {
                void_reasons.push(words);
            }
        }
        Figures {
            rate: spread(|sample| sample.achieved_per_second),
            offered: self
                .document
                .spread(&point.id, system, |sample| sample.offered_per_second),
            p50_us: spread(|sample| sample.latency.p50_us),
            p99_us: spread(|sample| sample.latency.p99_us),
            p999_us: spread(|sample| sample.latency.p999_us),
            max_us: spread(|sample| sample.latency.max_us),
            used: self.document.samples(&point.id, system).count(),
            counted: counted().count(),
            void_reasons,
            void_rate: Spread::of(
                counted()
                    .filter(|sample| sample.void.is_some())
                    .map(|sample| sample.achieved_per_second),
            ),
        }
    }

    /// A value of the floors around the rounds that count and have a point.
    pub(super) fn floor(
        &self,
        point: &Point,
        value: fn(&crate::floor::Floor) -> f64,
    ) -> Option<Spread> {
        let rounds = self
            .document
            .rounds_counted()
            .filter(|round| round.has(&point.id));
        Spread::of(rounds.flat_map(|round| [value(&round.floor_before), value(&round.floor_after)]))
    }
}
