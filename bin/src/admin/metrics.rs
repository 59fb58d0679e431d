//! The text of `/metrics`, in the format of OpenMetrics.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use metastore_engine::{BUCKET_BOUNDS_NS, StageSummary};
use metastore_net::{Counter, ReplicaRole, ReplicaStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::health;
use super::metric::{
    CORE, COUNTERS, Core, Kind, Measure, Metric, NODE, Node, Number, REPLICA,
    UNKNOWN_COUNTER_PREFIX,
};
use super::process::ProcessNumbers;
use crate::log;
use crate::node::{Board, CoreNumbers};

/// Everything that is on the board, as text.
pub(super) fn render(board: &Board) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(NodeCollector(board.clone())));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes everything");
    text
}

#[derive(Debug)]
struct NodeCollector(Board);

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let board = &self.0;
        let node = Node {
            uptime: board.uptime(),
            is_ready: health::readiness(board).is_empty(),
            cores: board.cores(),
            log: log::counts(),
            process: ProcessNumbers::read(board.uptime()),
        };
        let cores: Vec<Core> = (0..board.cores())
            .map(|index| Core {
                index,
                pulse_age: board.pulse_age(index),
                numbers: board.numbers(index),
            })
            .collect();
        let out = &mut encoder;
        encode_build(out)?;
        for metric in &NODE {
            if let Some(number) = (metric.read)(&node) {
                let mut family = describe(out, metric.name, metric)?;
                encode_number(&mut family, metric.kind, number)?;
            }
        }
        for metric in &CORE {
            let mut family = describe(out, metric.name, metric)?;
            for core in &cores {
                let labels = [("core", core.index)];
                encode_of(&mut family, &labels, metric.kind, (metric.read)(core))?;
            }
        }
        encode_log_info(out, &cores)?;
        encode_counters(out, &cores)?;
        encode_times(out, &cores, &STAGES)?;
        encode_times(out, &cores, &SLICES)?;
        encode_replicas(out, &cores)
    }
}

fn encode_build(out: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "The program that runs";
    let mut family = out.encode_descriptor("metastore_build", help, None, MetricType::Info)?;
    family.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
}

fn describe<'a, T>(
    out: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    metric: &Metric<T>,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    let (unit, kind) = (metric.measure.unit(), metric_type(metric.kind));
    out.encode_descriptor(name, metric.help, unit, kind)
}

fn metric_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    }
}

fn encode_of(
    family: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    kind: Kind,
    number: Option<Number>,
) -> fmt::Result {
    match number {
        Some(number) => encode_number(&mut family.encode_family(labels)?, kind, number),
        None => Ok(()),
    }
}

fn encode_number(family: &mut MetricEncoder<'_>, kind: Kind, number: Number) -> fmt::Result {
    let no_exemplar: Option<&Exemplar<NoLabelSet, f64>> = None;
    match (kind, number) {
        (Kind::Counter, Number::Whole(number)) => family.encode_counter(&number, no_exemplar),
        (Kind::Counter, Number::Real(number)) => family.encode_counter(&number, no_exemplar),
        (Kind::Gauge, Number::Whole(number)) => family.encode_gauge(&number),
        (Kind::Gauge, Number::Real(number)) => family.encode_gauge(&number),
    }
}

fn reported(cores: &[Core]) -> impl Iterator<Item = (u16, &CoreNumbers)> {
    cores
        .iter()
        .filter_map(|core| Some((core.index, core.numbers.as_deref()?)))
}

fn encode_log_info(out: &mut DescriptorEncoder<'_>, cores: &[Core]) -> fmt::Result {
    let help = "How the log of the core makes writes durable";
    let mut family = out.encode_descriptor("metastore_wal", help, None, MetricType::Info)?;
    for (core, numbers) in reported(cores) {
        let core = core.to_string();
        let method = numbers.status.log.flush_method.as_str();
        family.encode_info(&[("core", core.as_str()), ("flush_method", method)])?;
    }
    Ok(())
}

/// The counters of `metastore status`: those of the table under its names, and whatever else there is under its own.
fn encode_counters(out: &mut DescriptorEncoder<'_>, cores: &[Core]) -> fmt::Result {
    for metric in &COUNTERS {
        let (unit, kind) = (metric.measure.unit(), metric_type(metric.kind));
        let mut family = out.encode_descriptor(metric.name, metric.help, unit, kind)?;
        for (core, numbers) in reported(cores) {
            let is_this = |counter: &&Counter| counter.name == metric.status_name;
            let found = numbers.status.counters.iter().find(is_this);
            let number = found.map(|counter| Number::Whole(counter.value));
            encode_of(&mut family, &[("core", core)], metric.kind, number)?;
        }
    }
    let is_unknown = |name: &str| !COUNTERS.iter().any(|metric| metric.status_name == name);
    let unknown: BTreeSet<&str> = reported(cores)
        .flat_map(|(_, numbers)| &numbers.status.counters)
        .map(|counter| counter.name.as_str())
        .filter(|name| is_unknown(name))
        .collect();
    for status_name in unknown {
        let name = format!("{UNKNOWN_COUNTER_PREFIX}{status_name}");
        let help = "A number of metastore status";
        let mut family = out.encode_descriptor(&name, help, None, MetricType::Gauge)?;
        for (core, numbers) in reported(cores) {
            let is_this = |counter: &&Counter| counter.name == status_name;
            let found = numbers.status.counters.iter().find(is_this);
            let number = found.map(|counter| Number::Whole(counter.value));
            encode_of(&mut family, &[("core", core)], Kind::Gauge, number)?;
        }
    }
    Ok(())
}

/// Histograms of times, one for each value of a label.
struct Times {
    name: &'static str,
    longest: &'static str,
    help: &'static str,
    label: &'static str,
    read: fn(&CoreNumbers) -> &[StageSummary],
}

static STAGES: Times = Times {
    name: "metastore_command_stage",
    longest: "metastore_command_stage_longest",
    help: "Time that commands spend in each stage from their arrival to their answer",
    label: "stage",
    read: |numbers| &numbers.stages,
};

static SLICES: Times = Times {
    name: "metastore_slice",
    longest: "metastore_slice_longest",
    help: "Time that slices of background work take",
    label: "kind",
    read: |numbers| &numbers.slices,
};

fn encode_times(out: &mut DescriptorEncoder<'_>, cores: &[Core], times: &Times) -> fmt::Result {
    let unit = Measure::Seconds.unit();
    let mut family = out.encode_descriptor(times.name, times.help, unit, MetricType::Histogram)?;
    for (core, numbers) in reported(cores) {
        let core = core.to_string();
        for summary in (times.read)(numbers) {
            let labels = [("core", core.as_str()), (times.label, summary.name)];
            encode_histogram(&mut family.encode_family(&labels)?, summary)?;
        }
    }
    let help = "The longest of these times since the process began";
    let mut family = out.encode_descriptor(times.longest, help, unit, MetricType::Gauge)?;
    for (core, numbers) in reported(cores) {
        let core = core.to_string();
        for summary in (times.read)(numbers) {
            let labels = [("core", core.as_str()), (times.label, summary.name)];
            let longest = Number::Real(seconds(summary.max_ns));
            encode_of(&mut family, &labels, Kind::Gauge, Some(longest))?;
        }
    }
    Ok(())
}

fn encode_histogram(family: &mut MetricEncoder<'_>, summary: &StageSummary) -> fmt::Result {
    let within: u64 = summary.buckets.iter().sum();
    let beyond = summary.count.saturating_sub(within);
    let buckets: Vec<(f64, u64)> = BUCKET_BOUNDS_NS
        .iter()
        .zip(summary.buckets)
        .map(|(&bound_ns, count)| (seconds(bound_ns), count))
        .chain([(f64::INFINITY, beyond)])
        .collect();
    let sum = seconds(summary.sum_ns);
    family.encode_histogram::<NoLabelSet>(sum, within + beyond, &buckets, None)
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

fn encode_replicas(out: &mut DescriptorEncoder<'_>, cores: &[Core]) -> fmt::Result {
    let replicas = || {
        reported(cores).flat_map(|(core, numbers)| {
            let replicas = numbers.status.replicas.iter();
            replicas.map(move |replica| (core, replica))
        })
    };
    let help = "Where each shard has its replica, and what part that plays";
    let mut family = out.encode_descriptor("metastore_replica", help, None, MetricType::Info)?;
    for (core, replica) in replicas() {
        family.encode_info(&[
            ("core", core.to_string()),
            ("shard", replica.shard.to_string()),
            ("replica", replica.replica.to_string()),
            ("role", role(replica).to_owned()),
        ])?;
    }
    for metric in &REPLICA {
        let mut family = describe(out, metric.name, metric)?;
        for (core, replica) in replicas() {
            let labels = [("core", u32::from(core)), ("shard", replica.shard)];
            encode_of(&mut family, &labels, metric.kind, (metric.read)(replica))?;
        }
    }
    Ok(())
}

fn role(replica: &ReplicaStatus) -> &'static str {
    match replica.role {
        ReplicaRole::Follower => "follower",
        ReplicaRole::Candidate => "candidate",
        ReplicaRole::Leader => "leader",
        ReplicaRole::Learner => "learner",
        ReplicaRole::Quarantined => "quarantined",
    }
}
