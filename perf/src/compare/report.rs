//! A comparison as tables and notes for people at a terminal.

use super::document::{Document, Point, Round, Sample, SystemName, WorkloadPlan};
use super::plan::name_of;
use crate::error::PerfError;
use crate::figure::Figure;
use crate::latency::Spread;
use crate::machine_use::OTHERS_SHARE_MAX;
use crate::output::{Output, Table, number};
use crate::system::System;

/// Peers that are slower than this with 1,000 puts in flight are not as they should be: the machine, or how they were
/// started, is in doubt.
const SUSPECT_BELOW: [(System, f64); 2] = [(System::Etcd, 8_000.0), (System::Redis, 100_000.0)];

/// The workload that shows it.
const SUSPECT_WORKLOAD: &str = "w2";

impl Document {
    /// Prints what came out.
    pub(super) fn print(&self, output: &mut Output) -> Result<(), PerfError> {
        for workload in &self.header.workloads {
            output.line("")?;
            output.line(&format!("{}: {}", workload.id, workload.title))?;
            output.table(&self.table(workload))?;
            for skipped in &workload.skipped {
                output.line(&format!("{} takes no part: {}", skipped.name, skipped.why))?;
            }
        }
        output.line("")?;
        let figures = self.ratios.iter().map(|ratio| &ratio.figure);
        output.table(&Figure::table(figures))?;
        output.line("")?;
        for line in self.notes() {
            output.line(&line)?;
        }
        Ok(())
    }

    /// The points of a workload under its floor, a row for each system.
    fn table(&self, workload: &WorkloadPlan) -> Table {
        let mut table = Table::new(&[
            "median (min..max)",
            "offered/s",
            "commands/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "CPU us",
            "bytes",
            "flushes",
            "client",
            "valid",
        ]);
        table.row(self.floor_row(workload));
        for point in &workload.points {
            for system in &self.header.systems {
                if self
                    .samples_counted(&point.id, &system.name)
                    .next()
                    .is_some()
                {
                    table.row(self.row(point, &system.name));
                }
            }
        }
        table
    }

    fn floor_row(&self, workload: &WorkloadPlan) -> Vec<String> {
        let is_own = |round: &&Round| workload.is_in(round);
        let rounds: Vec<&Round> = self.rounds_counted().filter(is_own).collect();
        let floors = || {
            let both = rounds
                .iter()
                .map(|round| [&round.floor_before, &round.floor_after]);
            both.flatten()
        };
        let words = |spread: Option<Spread>| spread.map_or("-".to_owned(), |s| s.words());
        let tried = self.rounds.iter().filter(is_own).count();
        let blank = || String::new();
        vec![
            match self.header.conditions.store.nodes {
                None => "floor: durable writes of 4 KiB, one at a time".to_owned(),
                Some(nodes) => {
                    format!("floor: durable writes of 4 KiB, {nodes} at a time, a file each")
                }
            },
            blank(),
            words(Spread::of(floors().map(|floor| floor.writes_per_second))),
            words(Spread::of(floors().map(|floor| floor.p50_us))),
            words(Spread::of(floors().map(|floor| floor.p99_us))),
            blank(),
            blank(),
            blank(),
            blank(),
            blank(),
            format!("{} of {tried}", rounds.len()),
        ]
    }

    fn row(&self, point: &Point, system: &SystemName) -> Vec<String> {
        let spread = |value: fn(&Sample) -> Option<f64>| self.spread(&point.id, system, value);
        let full = |value| spread(value).map_or("-".to_owned(), |spread| spread.words());
        let middle = |value| spread(value).map_or("-".to_owned(), |spread| number(spread.median));
        let share = spread(|sample| Some(sample.client_cpu_share));
        vec![
            format!("{}, {system}", point.id),
            middle(|sample| sample.offered_per_second),
            full(|sample| Some(sample.achieved_per_second)),
            full(|sample| Some(sample.latency.p50_us)),
            full(|sample| Some(sample.latency.p99_us)),
            middle(|sample| Some(sample.latency.p999_us)),
            middle(|sample| sample.costs.server_cpu_us),
            middle(|sample| sample.costs.written_bytes),
            middle(|sample| sample.costs.flushes),
            share.map_or("-".to_owned(), |share| {
                format!("{:.0} %", share.median * 100.0)
            }),
            format!(
                "{} of {}",
                self.samples(&point.id, system).count(),
                self.samples_counted(&point.id, system).count()
            ),
        ]
    }

    /// What must be known beside the figures.
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "{} rounds count, {} were thrown away",
            self.rounds_counted().count(),
            self.rounds_thrown_away().count()
        )];
        for (round, why) in self.rounds_thrown_away() {
            notes.push(format!(
                "round {} was thrown away: {}",
                round.number,
                why.words()
            ));
        }
        for missing in &self.header.missing {
            notes.push(format!(
                "{} was not measured: {}",
                missing.name, missing.why
            ));
        }
        notes.extend(self.void_words());
        notes.extend(self.move_words());
        notes.extend(
            self.suspicions
                .iter()
                .map(|words| format!("SUSPECT: {words}")),
        );
        notes
    }

    /// The points at which a system has void samples.
    fn void_words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let points = self
            .header
            .workloads
            .iter()
            .flat_map(|workload| &workload.points);
        for point in points {
            for system in &self.header.systems {
                let samples = || self.samples_counted(&point.id, &system.name);
                let Some(first) = samples().find_map(|sample| sample.void.as_ref()) else {
                    continue;
                };
                let void: Vec<&Sample> = samples().filter(|sample| sample.void.is_some()).collect();
                let reached = void.iter().map(|sample| sample.achieved_per_second);
                lines.push(format!(
                    "{}, {}: void in {} of {} samples, which reached {}/s: {}",
                    point.id,
                    system.name,
                    void.len(),
                    samples().count(),
                    Spread::of(reached).map_or("-".to_owned(), |reached| reached.words()),
                    first.words()
                ));
            }
        }
        lines
    }

    /// The points at which leaders of a cluster did not stay where they were.
    fn move_words(&self) -> Vec<String> {
        let samples = self.rounds_counted().flat_map(|round| &round.samples);
        let moved = samples.filter_map(|sample| {
            let words = sample.moves.as_ref()?.words();
            Some(format!("{}, {}: {words}", sample.point, sample.system))
        });
        moved.collect()
    }

    /// Why the run as a whole is to be doubted.
    pub(super) fn find_suspicions(&self) -> Vec<String> {
        let mut suspicions = Vec::new();
        let workloads = &self.header.workloads;
        let crowd = workloads
            .iter()
            .filter(|workload| workload.id == SUSPECT_WORKLOAD);
        for point in crowd.flat_map(|workload| &workload.points) {
            for (system, least) in SUSPECT_BELOW {
                let name = name_of(system);
                let rate = self.spread(&point.id, &name, |sample| Some(sample.achieved_per_second));
                if let Some(rate) = rate.filter(|rate| rate.median < least) {
                    suspicions.push(format!(
                        "{name} has made {}/s with {}, less than {}/s: the machine is busy, or {name} not as it should be",
                        number(rate.median),
                        point.label,
                        number(least)
                    ));
                }
            }
        }
        let samples = self.rounds_counted().flat_map(|round| &round.samples);
        let others = Spread::of(samples.filter_map(|sample| sample.others_cpu_share));
        if let Some(others) = others.filter(|others| others.median > OTHERS_SHARE_MAX) {
            suspicions.push(format!(
                "processes without a part in it took {} CPUs; latencies and ratios are worth little on a machine that \
                 is not quiet",
                others.words()
            ));
        }
        for workload in workloads {
            if !self.rounds_counted().any(|round| workload.is_in(round)) {
                suspicions.push(format!("no round of {} counts", workload.id));
            }
        }
        suspicions
    }

    /// Whether every workload has a round that counts, and this store a usable sample at every point.
    pub(super) fn is_complete(&self) -> bool {
        let own = name_of(System::MetaStore);
        let points = self
            .header
            .workloads
            .iter()
            .flat_map(|workload| &workload.points);
        let mut points = points;
        points.all(|point| self.samples(&point.id, &own).next().is_some())
    }
}

impl WorkloadPlan {
    /// Whether a round is one of this workload.
    pub(super) fn is_in(&self, round: &Round) -> bool {
        self.points.iter().any(|point| round.has(&point.id))
    }
}
