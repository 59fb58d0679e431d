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
mod tests;
