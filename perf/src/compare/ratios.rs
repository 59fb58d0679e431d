//! What the rounds come to: ratios of what was measured next to each other, beside their goals.
//!
//! A ratio has one value a round that counts; its figure is the median of these with its extremes. A void sample makes
//! no value: what a peer reached while the client was the limit says nothing about the peer.

use super::document::{Point, PointId, Ratio, Round, Sample, SystemName, Unit};
use super::plan::{Asked, Group, Partners, Section, Step, name_of};
use crate::arguments::{ComparedWorkload, NODES_REPLICATED};
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
        if self.section.workload == ComparedWorkload::W1
            && (self.section.group, peer) == (Group::Replicated, System::Etcd)
        {
            return self.lone_put_of_etcd(point);
        }
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
        let goal = goal_against(self.section, peer, step);
        ratio(
            point,
            goal,
            Unit::Times,
            Some(name_of(peer)),
            name,
            values.collect(),
        )
    }

    /// How long a lone client of a replicated etcd waits, over how long one of this store does.
    fn lone_put_of_etcd(&self, point: &Point) -> Ratio {
        let values = self.rounds.iter().filter_map(|round| {
            let (own, other) = pair(round, &point.id, &name_of(System::Etcd))?;
            Some(other.latency.p50_us / own.latency.p50_us)
        });
        ratio(
            point,
            Some(Goal {
                name: "G3",
                target: Target::AtLeast(2.5),
            }),
            Unit::Times,
            Some(name_of(System::Etcd)),
            format!("{}: p50, etcd / metastore", point.id),
            values.collect(),
        )
    }

    /// What is judged of this store alone.
    fn own(&self, point: &Point) -> Option<Ratio> {
        let group = self.section.group;
        match self.section.workload {
            ComparedWorkload::W1 => Some(self.lone_put(point, group)),
            ComparedWorkload::W2 => Some(self.flushes(point, group)),
            ComparedWorkload::W4 => self.server_cpu(point, group),
            ComparedWorkload::W5 => Some(self.commands(point, group)),
            ComparedWorkload::W3
            | ComparedWorkload::W6
            | ComparedWorkload::W8
            | ComparedWorkload::W12 => None,
        }
    }

    /// A lone put over what the disk and the sockets take by themselves.
    fn lone_put(&self, point: &Point, group: Group) -> Ratio {
        let (name, most, trips, under) = match group {
            Group::Alone => ("G1", 1.25, 1.0, "(floor p50 + ping p50)"),
            Group::Replicated => ("G2", 1.6, 2.0, "(floor p50, three writers + 2 ping p50)"),
        };
        let ping = self.section.plan.points.first().map(|ping| &ping.id);
        let values = self.rounds.iter().filter_map(|round| {
            let p50_us = |id| own_median(round, id, |sample| Some(sample.latency.p50_us));
            Some(p50_us(&point.id)? / (floor_p50_us(round) + trips * p50_us(ping?)?))
        });
        let goal = Goal {
            name,
            target: Target::AtMost(most),
        };
        let name = format!("{}: p50, metastore / {under}", point.id);
        let values = values.collect();
        ratio(point, Some(goal), Unit::Times, None, name, values)
    }

    fn flushes(&self, point: &Point, group: Group) -> Ratio {
        let (replicas, each) = match group {
            Group::Alone => (1.0, "a put"),
            Group::Replicated => (f64::from(NODES_REPLICATED), "a put and replica"),
        };
        let values = self.own_values(point, |sample| Some(sample.costs.flushes? / replicas));
        let goal = Goal {
            name: "G9",
            target: Target::AtMost(0.02),
        };
        let name = format!("{}: durable flushes {each}, metastore", point.id);
        ratio(point, Some(goal), Unit::PerCommand, None, name, values)
    }

    /// Of all nodes together, where everything is saturated.
    fn server_cpu(&self, point: &Point, group: Group) -> Option<Ratio> {
        if group == Group::Alone || point.in_flight_per_connection != 64 {
            return None;
        }
        let goal = Goal {
            name: "G6",
            target: Target::AtMost(12.0),
        };
        let name = format!("{}: server CPU us a put, all nodes, metastore", point.id);
        let values = self.own_values(point, |sample| sample.costs.server_cpu_us);
        let unit = Unit::PerCommand;
        Some(ratio(point, Some(goal), unit, None, name, values))
    }

    fn commands(&self, point: &Point, group: Group) -> Ratio {
        let least = match group {
            Group::Alone => 500_000.0,
            Group::Replicated => 300_000.0,
        };
        let values = self.own_values(point, |sample| Some(sample.achieved_per_second));
        let goal = (point.commands_per_operation == 1_024).then_some(Goal {
            name: "G17",
            target: Target::AtLeast(least),
        });
        let name = format!("{}: commands/s, metastore", point.id);
        ratio(point, goal, Unit::PerSecond, None, name, values)
    }

    /// What this store has shown at a point, one value a round.
    fn own_values(&self, point: &Point, value: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
        let rounds = self.rounds.iter();
        rounds
            .filter_map(|round| own_median(round, &point.id, &value))
            .collect()
    }
}

/// What a ratio to a peer should be, if anything.
fn goal_against(section: &Section, peer: System, step: &Step) -> Option<Goal> {
    let in_flight = match step.asked {
        Asked::Closed(case) => case.in_flight(),
        Asked::Share(..) | Asked::Tree(_) => return None,
    };
    let is_alone = section.group == Group::Alone;
    let (name, target) = match (section.workload, peer) {
        (ComparedWorkload::W1, System::Redis) if is_alone => ("G1r", Target::AtMost(1.1)),
        (ComparedWorkload::W2 | ComparedWorkload::W4, System::Etcd) => {
            ("G4", Target::AtLeast(10.0))
        }
        (ComparedWorkload::W4, System::Redis) if is_alone => ("G5", Target::AtLeast(0.8)),
        // Beside one node of redis, with 16 in flight on each connection.
        (ComparedWorkload::W4, System::Redis) if in_flight == 800 => ("G5", Target::AtLeast(0.4)),
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
