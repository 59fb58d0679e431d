//! One round of one workload: floor, every point with every system in turn, floor.

use std::collections::BTreeMap;

use super::contestants::{Contestants, Stage, Unready};
use super::document::{Discard, Document, Point, Role, Round, Sample, SampleCosts, Void};
use super::plan::{Asked, Section, Step, name_of};
use super::ratios::ratios;
use super::resume::Opened;
use super::schedule::{Schedule, Turn};
use super::tree::{TreeMetadata, drive_phase};
use crate::arguments::Thoroughness;
use crate::error::PerfError;
use crate::floor::{Floor, measure_beside_store};
use crate::latency::{Latency, new_histogram};
use crate::load::Pace;
use crate::measurement::{Invalid, Measurement, MeasurementError, measure_by, measure_subject};
use crate::operation::RequestMaker;
use crate::output::{Output, number};
use crate::system::System;

/// What rounds are measured with.
#[derive(Debug)]
pub(super) struct Rounds<'a> {
    pub(super) stage: &'a Stage,
    pub(super) schedule: &'a Schedule<'a>,
    /// That run beside this store.
    pub(super) peers: Vec<System>,
    /// For the workload that needs it.
    pub(super) tree: Option<&'a TreeMetadata>,
    /// That of the end of the last round, of use to the next one if that follows at once.
    pub(super) last_floor: Option<Floor>,
}

/// What a system has reached in a closed loop.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    per_second: f64,
    is_void: bool,
}

/// Servers and the pass that they were started for.
struct Running {
    contestants: Contestants,
    /// None yet.
    pass: Option<u32>,
}

impl Rounds<'_> {
    /// Measures until the schedule ends, and keeps each round as it ends. `first` are servers that run and
    /// that nobody has used.
    pub(super) fn measure_all(
        mut self,
        opened: &mut Opened,
        first: Option<Contestants>,
        output: &mut Output,
    ) -> Result<Document, PerfError> {
        let mut running = first.map(|contestants| Running {
            contestants,
            pass: None,
        });
        while let Some(turn) = self.schedule.next(&opened.rounds) {
            let mut servers = self.servers_for(&turn, running.take())?;
            let number = opened.rounds.last().map_or(1, |round| round.number + 1);
            let round = self.measure(number, turn.section, &mut servers.contestants, output)?;
            output.line(&round.floor_words())?;
            opened.journal.append(&round)?;
            // A system that has failed may do so again, for the same reason.
            if !round.has_failures() {
                servers.pass = Some(turn.pass);
                running = Some(servers);
            }
            opened.rounds.push(round);
        }
        let mut document = Document {
            header: opened.header.clone(),
            ratios: ratios(self.schedule.sections, &opened.rounds),
            rounds: opened.rounds.clone(),
            apart: Vec::new(),
            suspicions: Vec::new(),
        };
        document.suspicions = document.find_suspicions();
        Ok(document)
    }

    /// The servers that run, if they may be used once more, or new ones.
    fn servers_for(
        &mut self,
        turn: &Turn<'_>,
        running: Option<Running>,
    ) -> Result<Running, PerfError> {
        if let Some(running) = running {
            let is_fresh = running.pass.is_none();
            let is_same_pass = running.pass == Some(turn.pass);
            let is_quick = self.schedule.thoroughness == Thoroughness::Quick;
            if is_fresh || (is_quick && is_same_pass) {
                return Ok(running);
            }
            // They end before others start.
        }
        self.last_floor = None;
        let contestants = self.stage.start(&self.peers)?;
        Ok(Running {
            contestants,
            pass: None,
        })
    }

    /// Measures one round of a section.
    pub(super) fn measure(
        &mut self,
        number: u32,
        section: &Section,
        contestants: &mut Contestants,
        output: &mut Output,
    ) -> Result<Round, PerfError> {
        let mut requests = RequestMaker::new(self.schedule.effort.keys);
        let unready = contestants.load(section.key_space(), &section.systems, &mut requests);
        let floor_before = match self.last_floor.take() {
            Some(floor) if self.schedule.thoroughness == Thoroughness::Quick => floor,
            Some(_) | None => self.floor()?,
        };
        let mut points = Points {
            rounds: self,
            contestants,
            requests,
            unready,
            capacities: BTreeMap::new(),
            samples: Vec::new(),
        };
        for (point, step) in section.points() {
            let first = points.samples.len();
            if Section::reads_only_at(point, step) {
                points.contestants.let_forget_writes(&section.systems);
            }
            for system in section.turns(step, points.rounds.schedule.thoroughness) {
                points.measure(point, step, system);
            }
            output.line(&point_words(number, point, &points.samples[first..]))?;
        }
        let samples = points.samples;
        let floor_after = self.floor()?;
        self.last_floor = Some(floor_after.clone());
        let discard = floor_before
            .drift_to(&floor_after)
            .map(|drift| Discard::FloorMoved { drift });
        Ok(Round {
            number,
            floor_before,
            floor_after,
            samples,
            discard,
        })
    }

    fn floor(&self) -> Result<Floor, PerfError> {
        let seconds = self.schedule.floor_seconds();
        Ok(measure_beside_store(
            seconds,
            &self.stage.data,
            &self.stage.pinning,
            self.stage.nodes,
        )?)
    }
}

/// The points of a round while they are measured.
struct Points<'a> {
    rounds: &'a Rounds<'a>,
    contestants: &'a mut Contestants,
    requests: RequestMaker,
    unready: Vec<Unready>,
    capacities: BTreeMap<&'static str, Capacity>,
    samples: Vec<Sample>,
}

impl Points<'_> {
    /// Measures one system at a point. That it fails makes its sample void.
    fn measure(&mut self, point: &Point, step: &Step, system: System) {
        let unready = self.unready.iter().find(|found| found.system == system);
        if let Some(Unready { why, .. }) = unready {
            self.samples.push(failed_sample(point, system, why.clone()));
            return;
        }
        let sample = match self.measurement(step.asked, system) {
            Ok(measurement) => {
                if let Asked::Closed(_) = step.asked {
                    let capacity = Capacity {
                        per_second: measurement.achieved_per_second,
                        is_void: measurement.is_void(),
                    };
                    self.capacities.insert(system.words(), capacity);
                }
                let role = match system {
                    System::MetaStore => Role::Ours,
                    System::Etcd | System::Redis => Role::Peer,
                };
                Sample::of(point, &name_of(system), &measurement, role)
            }
            Err(error) => failed_sample(point, system, error.to_string()),
        };
        self.samples.push(sample);
    }

    fn measurement(
        &mut self,
        asked: Asked,
        system: System,
    ) -> Result<Measurement, MeasurementError> {
        let capacity = self.capacities.get(system.words()).copied();
        let effort = &self.rounds.schedule.effort;
        let mut subject = self.contestants.subject(system);
        let requests = &mut self.requests;
        match asked {
            Asked::Closed(case) => {
                measure_subject(&case, Pace::Closed, effort, None, &mut subject, requests)
            }
            Asked::Share(case, share) => {
                // A system that has failed just before will not answer now either.
                let capacity = capacity.unwrap_or(Capacity {
                    per_second: 0.0,
                    is_void: true,
                });
                let pace = Pace::Poisson {
                    operations_per_second: (share * capacity.per_second).max(1.0),
                };
                let measured = measure_subject(&case, pace, effort, None, &mut subject, requests);
                let mut measurement = measured?;
                if capacity.is_void {
                    measurement.invalid.get_or_insert(Invalid::Capacity);
                }
                Ok(measurement)
            }
            Asked::Tree(phase) => {
                let tree = self
                    .rounds
                    .tree
                    .expect("a tree was walked for its workload");
                measure_by(&mut subject, Pace::Closed, |target| {
                    drive_phase(target, tree, phase)
                })
            }
        }
    }
}

/// The sample of a system that could not be measured.
fn failed_sample(point: &Point, system: System, why: String) -> Sample {
    Sample {
        point: point.id.clone(),
        system: name_of(system),
        offered_per_second: None,
        achieved_per_second: 0.0,
        latency: Latency::of(&new_histogram()),
        operations: Vec::new(),
        costs: SampleCosts::default(),
        client_cpu_share: 0.0,
        others_cpu_share: None,
        stages: Vec::new(),
        moves: None,
        void: Some(Void::Load {
            invalid: Invalid::Failures,
            first_failure: Some(why),
        }),
    }
}

/// What a point has shown, in a line.
fn point_words(round: u32, point: &Point, samples: &[Sample]) -> String {
    let words = |sample: &Sample| {
        let void = sample.void.as_ref();
        let void = void.map_or(String::new(), |void| format!(" VOID: {}", void.words()));
        let moves = sample.moves.as_ref();
        let moves = moves.map_or(String::new(), |moves| format!(" ({})", moves.words()));
        format!(
            "{} {}/s p50 {} us{moves}{void}",
            sample.system,
            number(sample.achieved_per_second),
            number(sample.latency.p50_us),
        )
    };
    let samples: Vec<String> = samples.iter().map(words).collect();
    format!("round {round}, {}: {}", point.id, samples.join("; "))
}

impl Round {
    /// Whether a system has failed at a point.
    fn has_failures(&self) -> bool {
        let is_failed = |sample: &Sample| {
            let void = sample.void.as_ref();
            void.is_some_and(|void| match void {
                Void::Load { invalid, .. } => *invalid == Invalid::Failures,
                Void::FlushesContradicted => false,
            })
        };
        self.samples.iter().any(is_failed)
    }

    /// What surrounds its points, in a line.
    pub(super) fn floor_words(&self) -> String {
        let discard = self.discard.as_ref();
        let discard = discard.map_or(String::new(), |why| {
            format!("  THROWN AWAY: {}", why.words())
        });
        format!(
            "round {}: floor p50 {} then {} us{discard}",
            self.number,
            number(self.floor_before.p50_us),
            number(self.floor_after.p50_us),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::ComparedWorkload;
    use crate::compare::fixture::{round_of, void_for_client};

    #[test]
    fn a_system_that_failed_is_told_with_its_reason_and_does_not_serve_again() {
        let peers = [System::Redis];
        let section = Section::new(ComparedWorkload::W2, &peers, Thoroughness::Quick);
        let mut round = round_of(1, &section, 100.0);
        assert!(!round.has_failures());
        round.samples[0].void = Some(void_for_client());
        assert!(!round.has_failures(), "the client is to blame");
        let point = &section.plan.points[0];
        let failed = failed_sample(point, System::Redis, "a connection broke".to_owned());
        let words = point_words(1, point, std::slice::from_ref(&failed));
        assert!(
            words.ends_with("VOID: operations failed: a connection broke"),
            "{words}"
        );
        round.samples.push(failed);
        assert!(round.has_failures());
    }
}
