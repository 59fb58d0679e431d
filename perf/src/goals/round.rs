//! One round of all points.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::arguments::Effort;
use crate::error::PerfError;
use crate::floor::{Floor, FloorError, measure_beside_store};
use crate::load::Pace;
use crate::measurement::{Measurement, Moves, measure};
use crate::operation::RequestMaker;
use crate::output::number;
use crate::pinning::Pinning;
use crate::store::{FlushCheck, Store};
use crate::workload::{Case, Workload};

/// Everything that one round has shown.
#[derive(Debug, Serialize)]
pub(super) struct Round {
    pub(super) floor_before: Floor,
    pub(super) ping: Measurement,
    /// Puts, one in flight.
    pub(super) lone: Measurement,
    pub(super) floor_after: Floor,
    /// Puts, 1,000 in flight.
    pub(super) crowd: Measurement,
    /// Puts on deep pipelines.
    pub(super) deep: Measurement,
    /// How many nodes the store has.
    #[serde(skip_serializing_if = "is_one")]
    pub(super) nodes: u16,
}

fn is_one(nodes: &u16) -> bool {
    *nodes == 1
}

/// What a round stands on.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    /// Where the floor is measured.
    pub(super) data: &'a Path,
    pub(super) pinning: &'a Pinning,
    pub(super) nodes: u16,
}

impl Ground<'_> {
    fn floor(&self, effort: &Effort) -> Result<Floor, FloorError> {
        measure_beside_store(effort.measured, self.data, self.pinning, self.nodes)
    }
}

/// Why a round does not count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Discard {
    /// The floor at its end differs too much from the floor at its start; as a share of the lower one.
    FloorMoved { drift: f64 },
    /// One of its measurements is void.
    Invalid,
    /// The disk has flushed less often than the store says.
    FlushesContradicted,
}

/// How long a round takes if nothing must be waited for.
pub(super) fn expected_duration(effort: &Effort) -> Duration {
    let points = (effort.warm_up + effort.measured) * 4;
    points + effort.measured * 2
}

/// Measures all points, one after the other.
pub(super) fn measure_round(
    effort: &Effort,
    ground: &Ground<'_>,
    store: &mut Store,
    requests: &mut RequestMaker,
) -> Result<Round, PerfError> {
    store.settle()?;
    let floor_before = ground.floor(effort)?;
    let mut point = |workload| {
        let case = Case::deepest(workload);
        measure(&case, Pace::Closed, effort, store, requests)
    };
    let ping = point(Workload::Ping)?;
    let lone = point(Workload::W1)?;
    let floor_after = ground.floor(effort)?;
    let crowd = point(Workload::W2)?;
    let deep = point(Workload::W4)?;
    Ok(Round {
        floor_before,
        ping,
        lone,
        floor_after,
        crowd,
        deep,
        nodes: ground.nodes,
    })
}

impl Round {
    /// The floor that lies under the lone puts.
    pub(super) fn floor_p50_us(&self) -> f64 {
        f64::midpoint(self.floor_before.p50_us, self.floor_after.p50_us)
    }

    /// Durable writes a second of the floor.
    pub(super) fn floor_per_second(&self) -> f64 {
        let (before, after) = (&self.floor_before, &self.floor_after);
        f64::midpoint(before.writes_per_second, after.writes_per_second)
    }

    /// Latency of a lone put over what its disk write and its round trip cost by themselves; in a cluster there is a second
    /// round trip to another node.
    pub(super) fn put_latency_ratio(&self) -> f64 {
        let trips = if self.nodes == 1 { 1.0 } else { 2.0 };
        self.lone.latency.p50_us / (self.floor_p50_us() + trips * self.ping.latency.p50_us)
    }

    /// What happened to leaders, of each measurement in which they did not stay.
    pub(super) fn moves(&self) -> impl Iterator<Item = &Moves> {
        let all = [&self.ping, &self.lone, &self.crowd, &self.deep];
        all.into_iter().filter_map(|point| point.moves.as_ref())
    }

    /// The most that processes without a part in the round took, in CPUs.
    pub(super) fn others_cpu_share(&self) -> Option<f64> {
        let all = [&self.ping, &self.lone, &self.crowd, &self.deep];
        let shares = all.iter().filter_map(|point| point.others_cpu_share);
        shares.max_by(f64::total_cmp)
    }

    /// Why the round does not count, if it does not.
    pub(super) fn discard(&self) -> Option<Discard> {
        if let Some(drift) = self.floor_before.drift_to(&self.floor_after) {
            return Some(Discard::FloorMoved { drift });
        }
        let all = [&self.ping, &self.lone, &self.crowd, &self.deep];
        if all.iter().any(|measurement| measurement.invalid.is_some()) {
            return Some(Discard::Invalid);
        }
        all.iter()
            .any(|measurement| measurement.is_void())
            .then_some(Discard::FlushesContradicted)
    }

    /// The round in a line.
    pub(super) fn words(&self) -> String {
        format!(
            "floor p50 {} then {} us, ping p50 {} us, put p50 {} us: ratio {}; {} flushes a put with 1,000 in flight; \
             {} puts/s and {} CPU us a put on deep pipelines",
            number(self.floor_before.p50_us),
            number(self.floor_after.p50_us),
            number(self.ping.latency.p50_us),
            number(self.lone.latency.p50_us),
            number(self.put_latency_ratio()),
            number(self.crowd.costs.durable_writes_per_operation),
            number(self.deep.achieved_per_second),
            number(
                self.deep
                    .costs
                    .server_cpu_us_per_operation
                    .unwrap_or(f64::NAN)
            ),
        )
    }

    /// Whether the disk bears out the store's count of durable writes, for each kind of put.
    pub(super) fn flush_words(&self) -> Vec<String> {
        let kinds = [
            ("one in flight", &self.lone),
            ("1,000 in flight", &self.crowd),
            ("deep pipelines", &self.deep),
        ];
        let words = |(kind, measurement): (&str, &Measurement)| {
            let costs = &measurement.costs;
            format!(
                "{kind}: {} puts, {} durable writes and {} marks by the store's count, {} flushes by the disk's: {}",
                costs.operations,
                costs.durable_writes,
                costs.mark_writes,
                costs
                    .device_flushes
                    .map_or("unknown".to_owned(), |flushes| flushes.to_string()),
                measurement.flush_check.words()
            )
        };
        kinds.into_iter().map(words).collect()
    }
}

impl Discard {
    /// The reason in words.
    pub(super) fn words(&self) -> String {
        match self {
            Discard::FloorMoved { drift } => format!("the floor moved by {:.0} %", drift * 100.0),
            Discard::Invalid => "a measurement is void".to_owned(),
            Discard::FlushesContradicted => FlushCheck::Contradicted.words().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::FloorTool;
    use crate::measurement::Invalid;

    fn floor_of(p50_us: f64) -> Floor {
        Floor {
            tool: FloorTool::OwnRing,
            writes: 1_000,
            writes_per_second: 1e6 / p50_us,
            p50_us,
            p99_us: 2.0 * p50_us,
            max_us: 3.0 * p50_us,
        }
    }

    fn round(floor_before_us: f64, floor_after_us: f64) -> Round {
        Round {
            floor_before: floor_of(floor_before_us),
            ping: Measurement::with_p50(40.0),
            lone: Measurement::with_p50(196.0),
            floor_after: floor_of(floor_after_us),
            crowd: Measurement::with_p50(8_000.0),
            deep: Measurement::with_p50(6_000.0),
            nodes: 1,
        }
    }

    #[test]
    fn the_ratio_is_over_the_mean_floor_and_the_ping() {
        assert!((round(95.0, 105.0).put_latency_ratio() - 1.4).abs() < 1e-9);
        let replicated = Round {
            nodes: 3,
            ..round(95.0, 105.0)
        };
        assert!((replicated.put_latency_ratio() - 196.0 / 180.0).abs() < 1e-9);
    }

    #[test]
    fn a_round_counts_while_the_floor_stays() {
        assert_eq!(round(100.0, 114.9).discard(), None);
        assert_eq!(round(114.9, 100.0).discard(), None);
        for moved in [round(100.0, 116.0), round(116.0, 100.0)] {
            let Some(Discard::FloorMoved { drift }) = moved.discard() else {
                panic!("{:?}", moved.discard());
            };
            assert!((drift - 0.16).abs() < 1e-9);
        }
        let mut void = round(100.0, 100.0);
        void.crowd.invalid = Some(Invalid::Client);
        assert_eq!(void.discard(), Some(Discard::Invalid));
        let mut contradicted = round(100.0, 100.0);
        contradicted.deep.flush_check = FlushCheck::Contradicted;
        assert_eq!(contradicted.discard(), Some(Discard::FlushesContradicted));
    }
}
