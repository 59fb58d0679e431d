//! What the rounds come to: ratios of what was measured next to each other, beside their goals.
//!
//! A ratio has one value a round that counts; its figure is the median of these with its extremes. A void sample makes
//! no value: what a peer reached while the client was the limit says nothing about the peer.

use super::document::{Point, PointId, Ratio, Round, Sample, SystemName, Unit};
use super::plan::{Asked, Partners, Section, Step, name_of};
use crate::arguments::ComparedWorkload;
use crate::figure::{Figure, Target};
use crate::latency::Spread;
use crate::system::System;

/// A goal by its name.
struct Goal {
    name: &'static str,
    target: Target,
}

/// The ratios of all sections, in their order.
pub(super) fn ratios(sections: &[Section], rounds: &[Round]) -> Vec<Ratio> {
    let counted: Vec<&Round> = rounds
        .iter()
        .filter(|round| round.discard.is_none())
        .collect();
    let of = |section| {
        Ratios {
            section,
            rounds: &counted,
        }
        .all()
    };
    sections.iter().flat_map(of).collect()
}

/// Those of one section.
struct Ratios<'a> {
    section: &'a Section,
    /// That count.
    rounds: &'a [&'a Round],
}

impl Ratios<'_> {
    fn all(&self) -> Vec<Ratio> {
        let mut all = Vec::new();
        for (point, step) in self.section.points() {
            if step.partners == Partners::Peers && !matches!(step.asked, Asked::Share(..)) {
                all.extend(self.own(point));
                let peers = &self.section.systems[1..];
                all.extend(peers.iter().map(|&peer| self.against(peer, point, step)));
            }
        }
        all
    }

    /// This store beside a peer: how long a lone client waits, otherwise how much is done.
    fn against(&self, peer: System, point: &Point, step: &Step) -> Ratio {
        let (what, value): (_, fn(&Sample) -> f64) =
            if self.section.workload == ComparedWorkload::W1 {
                ("p50", |sample| sample.latency.p50_us)
            } else {
                ("rate", |sample| sample.achieved_per_second)
            };
        let values = self.rounds.iter().filter_map(|round| {
            let (own, other) = pair(round, &point.id, &name_of(peer))?;
            Some(value(own) / value(other))
        });
        let name = format!("{}: {what}, metastore / {}", point.id, peer.words());
        let goal = goal_against(self.section.workload, peer, step);
        ratio(
            point,
            goal,
            Unit::Times,
            Some(name_of(peer)),
            name,
            values.collect(),
        )
    }

    /// What is judged of this store alone.
    fn own(&self, point: &Point) -> Option<Ratio> {
        match self.section.workload {
            ComparedWorkload::W1 => {
                let ping = &self.section.plan.points.first()?.id;
                let values = self.rounds.iter().filter_map(|round| {
                    let put_us =
                        own_median(round, &point.id, |sample| Some(sample.latency.p50_us))?;
                    let ping_us = own_median(round, ping, |sample| Some(sample.latency.p50_us))?;
                    Some(put_us / (floor_p50_us(round) + ping_us))
                });
                let goal = Goal {
                    name: "G1",
                    target: Target::AtMost(1.25),
                };
                let name = format!("{}: p50, metastore / (floor p50 + ping p50)", point.id);
                Some(ratio(
                    point,
                    Some(goal),
                    Unit::Times,
                    None,
                    name,
                    values.collect(),
                ))
            }
            ComparedWorkload::W2 => {
                let values = self.rounds.iter().filter_map(|round| {
                    own_median(round, &point.id, |sample| sample.costs.flushes)
                });
                let goal = Goal {
                    name: "G9",
                    target: Target::AtMost(0.02),
                };
                let name = format!("{}: durable flushes a put, metastore", point.id);
                Some(ratio(
                    point,
                    Some(goal),
                    Unit::PerCommand,
                    None,
                    name,
                    values.collect(),
                ))
            }
            ComparedWorkload::W5 => {
                let values = self.rounds.iter().filter_map(|round| {
                    own_median(round, &point.id, |sample| Some(sample.achieved_per_second))
                });
                let goal = (point.commands_per_operation == 1_024).then_some(Goal {
                    name: "G17",
                    target: Target::AtLeast(500_000.0),
                });
                let name = format!("{}: commands/s, metastore", point.id);
                Some(ratio(
                    point,
                    goal,
                    Unit::PerSecond,
                    None,
                    name,
                    values.collect(),
                ))
            }
            ComparedWorkload::W3
            | ComparedWorkload::W4
            | ComparedWorkload::W6
            | ComparedWorkload::W8
            | ComparedWorkload::W12 => None,
        }
    }
}

/// What a ratio to a peer should be, if anything.
fn goal_against(workload: ComparedWorkload, peer: System, step: &Step) -> Option<Goal> {
    let in_flight = match step.asked {
        Asked::Closed(case) => case.in_flight(),
        Asked::Share(..) | Asked::Tree(_) => return None,
    };
    let (name, target) = match (workload, peer) {
        (ComparedWorkload::W1, System::Redis) => ("G1r", Target::AtMost(1.1)),
        (ComparedWorkload::W2 | ComparedWorkload::W4, System::Etcd) => {
            ("G4", Target::AtLeast(10.0))
        }
        (ComparedWorkload::W4, System::Redis) => ("G5", Target::AtLeast(0.8)),
        (ComparedWorkload::W6, System::Redis) if in_flight == 256 => ("G8", Target::AtLeast(0.5)),
        (ComparedWorkload::W6, System::Etcd) if in_flight == 256 => ("G8", Target::AtLeast(10.0)),
        _ => return None,
    };
    Some(Goal { name, target })
}

fn ratio(
    point: &Point,
    goal: Option<Goal>,
    unit: Unit,
    against: Option<SystemName>,
    name: String,
    values: Vec<f64>,
) -> Ratio {
    let target = goal.as_ref().map_or(Target::None, |goal| goal.target);
    let measured = Spread::of(values.iter().copied());
    Ratio {
        goal: goal.map(|goal| goal.name.to_owned()),
        unit,
        against,
        point: point.id.clone(),
        values,
        figure: Figure::new(name, target, measured),
    }
}

/// A peer's sample at a point and this store's that was taken nearest to it; of two as near, the earlier.
fn pair<'a>(
    round: &'a Round,
    point: &PointId,
    peer: &SystemName,
) -> Option<(&'a Sample, &'a Sample)> {
    let at_point = round.samples.iter().filter(|sample| sample.point == *point);
    let usable: Vec<(usize, &Sample)> = at_point
        .enumerate()
        .filter(|(_, sample)| sample.void.is_none())
        .collect();
    let &(place, other) = usable.iter().find(|(_, sample)| sample.system == *peer)?;
    let own = name_of(System::MetaStore);
    let own = usable.iter().filter(|(_, sample)| sample.system == own);
    let &(_, nearest) = own.min_by_key(|(own_place, _)| own_place.abs_diff(place))?;
    Some((nearest, other))
}

/// The middle of this store's samples at a point of one round.
fn own_median(
    round: &Round,
    point: &PointId,
    value: impl Fn(&Sample) -> Option<f64>,
) -> Option<f64> {
    let own = name_of(System::MetaStore);
    let samples = round
        .samples
        .iter()
        .filter(|sample| sample.point == *point && sample.system == own && sample.void.is_none());
    Some(Spread::of(samples.filter_map(value))?.median)
}

/// The floor that lies under a round.
pub(super) fn floor_p50_us(round: &Round) -> f64 {
    f64::midpoint(round.floor_before.p50_us, round.floor_after.p50_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Thoroughness;
    use crate::compare::document::{Discard, Void};
    use crate::compare::fixture::{round_of, void_for_client};
    use crate::figure::Standing;

    const PEERS: [System; 2] = [System::Etcd, System::Redis];

    fn section(workload: ComparedWorkload) -> Section {
        Section::new(workload, &PEERS, Thoroughness::Full)
    }

    /// The ratios of one section by the names of goals and peers.
    fn values(
        section: &Section,
        rounds: &[Round],
        goal: Option<&str>,
        peer: Option<System>,
    ) -> Vec<f64> {
        let all = ratios(std::slice::from_ref(section), rounds);
        let wanted = all
            .into_iter()
            .find(|ratio| ratio.goal.as_deref() == goal && ratio.against == peer.map(name_of));
        wanted.expect("there is such a ratio").values
    }

    /// Sets what a system's samples show, one after the other.
    fn set_rates(round: &mut Round, system: System, rates: &[f64]) {
        let own = round
            .samples
            .iter_mut()
            .filter(|sample| sample.system == name_of(system));
        for (sample, &rate) in own.zip(rates) {
            sample.achieved_per_second = rate;
        }
    }

    #[test]
    fn a_peer_is_paired_with_what_was_measured_beside_it() {
        let section = section(ComparedWorkload::W2);
        let mut round = round_of(1, &section, 100.0);
        // metastore etcd metastore redis
        set_rates(&mut round, System::MetaStore, &[300_000.0, 200_000.0]);
        set_rates(&mut round, System::Etcd, &[20_000.0]);
        set_rates(&mut round, System::Redis, &[100_000.0]);
        let rounds = [round];
        assert_eq!(
            values(&section, &rounds, Some("G4"), Some(System::Etcd)),
            [15.0]
        );
        assert_eq!(values(&section, &rounds, None, Some(System::Redis)), [2.0]);
        let [mut round] = rounds;
        // The one beside it is void, so the next nearest is taken; of a void peer nothing is.
        round.samples[0].void = Some(void_for_client());
        let rounds = [round];
        assert_eq!(
            values(&section, &rounds, Some("G4"), Some(System::Etcd)),
            [10.0]
        );
        let [mut round] = rounds;
        round.samples[1].void = Some(Void::FlushesContradicted);
        let none = values(&section, &[round], Some("G4"), Some(System::Etcd));
        assert!(none.is_empty());
    }

    #[test]
    fn the_figure_is_the_median_of_the_rounds_that_count() {
        let section = section(ComparedWorkload::W4);
        let rounds: Vec<Round> = [(90.0, None), (10.0, None), (80.0, None), (100.0, Some(0.2))]
            .into_iter()
            .zip(1..)
            .map(|((own, drift), number)| {
                let mut round = round_of(number, &section, 100.0);
                set_rates(&mut round, System::MetaStore, &[own; 4]);
                set_rates(&mut round, System::Redis, &[100.0; 2]);
                round.discard = drift.map(|drift| Discard::FloorMoved { drift });
                round
            })
            .collect();
        let all = ratios(std::slice::from_ref(&section), &rounds);
        let redis = all
            .iter()
            .find(|ratio| ratio.against == Some(name_of(System::Redis)))
            .unwrap();
        assert_eq!(redis.goal.as_deref(), Some("G5"));
        assert_eq!(redis.values, [0.9, 0.1, 0.8]);
        let spread = redis.figure.measured().unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (0.8, 0.1, 0.9));
        assert_eq!(redis.figure.standing(), Standing::Met);
        // Two points, each with two peers.
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn a_lone_put_stands_beside_floor_and_ping() {
        let section = section(ComparedWorkload::W1);
        let mut round = round_of(1, &section, 100.0);
        // ping, then metastore etcd metastore redis
        for (sample, p50_us) in round
            .samples
            .iter_mut()
            .zip([50.0, 170.0, 400.0, 190.0, 200.0])
        {
            sample.latency.p50_us = p50_us;
        }
        let rounds = [round];
        let own = values(&section, &rounds, Some("G1"), None);
        assert_eq!(own, [180.0 / 150.0]);
        assert_eq!(
            values(&section, &rounds, Some("G1r"), Some(System::Redis)),
            [0.95]
        );
        assert_eq!(values(&section, &rounds, None, Some(System::Etcd)), [0.425]);
    }

    #[test]
    fn goals_stand_at_their_points_only() {
        let goals = |workload| -> Vec<String> {
            let all = ratios(&[section(workload)], &[]);
            let named = all.into_iter().filter_map(|ratio| {
                Some(format!("{} {}", ratio.goal?, ratio.figure.target().words()))
            });
            named.collect()
        };
        assert_eq!(goals(ComparedWorkload::W1), ["G1 <= 1.25", "G1r <= 1.10"]);
        assert_eq!(goals(ComparedWorkload::W2), ["G9 <= 0.020", "G4 >= 10.0"]);
        assert_eq!(goals(ComparedWorkload::W3).len(), 0);
        let pipelines = ["G4 >= 10.0", "G5 >= 0.800", "G4 >= 10.0", "G5 >= 0.800"];
        assert_eq!(goals(ComparedWorkload::W4), pipelines);
        assert_eq!(goals(ComparedWorkload::W5), ["G17 >= 500,000"]);
        assert_eq!(goals(ComparedWorkload::W6), ["G8 >= 10.0", "G8 >= 0.500"]);
        assert_eq!(goals(ComparedWorkload::W8).len(), 0);
        assert_eq!(goals(ComparedWorkload::W12).len(), 0);
    }

    #[test]
    fn without_rounds_nothing_is_met() {
        let all = ratios(&[section(ComparedWorkload::W2)], &[]);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|ratio| ratio.values.is_empty()));
        let judged = all.iter().filter(|ratio| ratio.goal.is_some());
        assert!(
            judged.clone().count() == 2 && judged.clone().all(|ratio| ratio.figure.is_missed())
        );
    }
}
