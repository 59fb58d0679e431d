//! One measurement: a case under load, with what it cost the store and the client.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::arguments::Effort;
use crate::latency::Latency;
use crate::load::{LoadError, LoadPlan, LoadResult, Losses, Pace, drive};
use crate::machine_use::{busy_time, others_share};
use crate::operation::{OperationKind, RequestMaker};
use crate::peer::{Peer, PeerError};
use crate::process::{ProcessError, ProcessId, ProcessUse};
use crate::store::{Costs, DiskCache, FlushCheck, Observation, Store, StoreError};
use crate::system::Target;
use crate::workload::Case;

/// Above this share of a CPU the single-threaded client has nothing left to give.
const CLIENT_CPU_SHARE_MAX: f64 = 0.95;

/// An open loop's client may add this much to the mean latency by its own lateness.
///
/// Requests that come at random times see the client as it is at random times, so their lateness in leaving is also
/// how late the same thread looks at answers.
const CLIENT_DELAY_SHARE_MAX: f64 = 0.05;

/// As before, of the 99th percentile: now and then the system takes the client's CPU away.
const CLIENT_DELAY_P99_SHARE_MAX: f64 = 0.25;

/// Less than this of the offered load means that the store does not keep up.
const ACHIEVED_SHARE_MIN: f64 = 0.99;

/// How long answers are awaited after the last request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeasurementError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// What one round of a case has shown.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    /// Open loop: operations that were meant to start, a second.
    pub(crate) offered_per_second: Option<f64>,
    /// Answers a second.
    pub(crate) achieved_per_second: f64,
    pub(crate) latency: Latency,
    /// Of a mix: each operation by itself.
    pub(crate) operations: Vec<OperationLatency>,
    /// Of requests that were sent while something was going on that the measurement watched; none if it watched nothing.
    pub(crate) marked: Latency,
    /// Compare-and-swaps that came too late, which is an answer and no failure.
    pub(crate) conflicts: u64,
    /// Of a cluster that did not stay as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) moves: Option<Moves>,
    /// Of a run in which something was put off, or that went on without a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) losses: Option<Losses>,
    /// Over warm-up, measured time and what was answered after it, so that counters and operations match exactly.
    pub(crate) costs: Costs,
    pub(crate) flush_check: FlushCheck,
    pub(crate) client: ClientUse,
    /// CPUs that went to processes other than the store and this one.
    pub(crate) others_cpu_share: Option<f64>,
    pub(crate) failures: u64,
    pub(crate) first_failure: Option<String>,
    /// Why the numbers must not be used, if there is a reason.
    pub(crate) invalid: Option<Invalid>,
    /// For merging with other rounds.
    #[serde(skip)]
    pub(crate) histogram: Histogram<u64>,
    /// For merging and comparing.
    #[serde(skip)]
    pub(crate) histogram_marked: Histogram<u64>,
}

/// The latency of one operation of a mix.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OperationLatency {
    pub(crate) operation: OperationKind,
    pub(crate) latency: Latency,
    /// For merging with other rounds.
    #[serde(skip)]
    pub(crate) histogram: Histogram<u64>,
}

/// What happened to the leaders of a cluster while it was measured. Whoever was sent elsewhere asked there, and waited from
/// the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moves {
    /// Requests that came to a core that did not lead their shard.
    pub(crate) redirected: u64,
    /// Times that a request was refused for the moment, as by a leader that hands over, and sent again after a pause.
    #[serde(default)]
    pub(crate) put_off: u64,
    /// Whether a shard was led by another node, or in another term, at the end than at the beginning.
    pub(crate) have_leaders_moved: bool,
}

impl Moves {
    /// Nothing where nothing has happened.
    fn of(redirected: u64, put_off: u64, have_leaders_moved: bool) -> Option<Moves> {
        (redirected + put_off > 0 || have_leaders_moved).then_some(Moves {
            redirected,
            put_off,
            have_leaders_moved,
        })
    }

    /// What happened, in words.
    pub(crate) fn words(&self) -> String {
        let moved = match self.have_leaders_moved {
            true => "LEADERS MOVED",
            false => "leaders stayed",
        };
        format!(
            "{moved}, {} requests were sent elsewhere, {} put off",
            self.redirected, self.put_off
        )
    }
}

/// What the client itself has spent.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct ClientUse {
    /// Of one CPU; an open loop asks without sleep when the next request is near, and may use all of it.
    pub(crate) cpu_share: f64,
    pub(crate) cpu_us_per_operation: f64,
    /// Open loop: mean time by which requests left later than intended though there was room for them.
    pub(crate) delay_us: Option<f64>,
    /// As before, of one request in a hundred.
    pub(crate) delay_p99_us: Option<f64>,
}

/// Why the numbers of a measurement must not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Invalid {
    /// Operations failed.
    Failures,
    /// The store did not keep up with the offered load, although no node was lost that serves it.
    NotAchieved,
    /// The client was the bottleneck: it had too much to do, or did not get its CPU.
    Client,
    /// Nothing was answered in the measured time.
    Nothing,
    /// The load is a share of a capacity that could not be measured.
    Capacity,
}

impl Invalid {
    /// The reason in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Invalid::Failures => "operations failed",
            Invalid::NotAchieved => "less was achieved than offered",
            Invalid::Client => "the client was the bottleneck, or did not get its CPU",
            Invalid::Nothing => "nothing was answered",
            Invalid::Capacity => "the capacity of which it is a share is void",
        }
    }
}

impl Measurement {
    /// Whether the numbers must not be used: for a reason of the load, or because the disk has flushed less often than
    /// the store says, so that puts were not durable.
    pub(crate) fn is_void(&self) -> bool {
        self.void_words().is_some()
    }

    /// Why the numbers must not be used, in words.
    pub(crate) fn void_words(&self) -> Option<&'static str> {
        let is_contradicted = self.flush_check == FlushCheck::Contradicted;
        self.invalid
            .map(Invalid::words)
            .or(is_contradicted.then(|| self.flush_check.words()))
    }
}

/// Runs one round of a case.
pub(crate) fn measure(
    case: &Case,
    pace: Pace,
    effort: &Effort,
    store: &mut Store,
    requests: &mut RequestMaker,
) -> Result<Measurement, MeasurementError> {
    measure_marked(case, pace, effort, None, store, requests)
}

/// As [`measure`], and marks the requests that are sent while `mark` is set.
pub(crate) fn measure_marked(
    case: &Case,
    pace: Pace,
    effort: &Effort,
    mark: Option<&AtomicBool>,
    store: &mut Store,
    requests: &mut RequestMaker,
) -> Result<Measurement, MeasurementError> {
    measure_subject(
        case,
        pace,
        effort,
        mark,
        &mut Subject::Store(store),
        requests,
    )
}

/// The same against any system.
pub(crate) fn measure_subject(
    case: &Case,
    pace: Pace,
    effort: &Effort,
    mark: Option<&AtomicBool>,
    subject: &mut Subject<'_>,
    requests: &mut RequestMaker,
) -> Result<Measurement, MeasurementError> {
    measure_by(subject, pace, |target| {
        drive(&plan_of(case, pace, effort, mark, target), requests)
    })
}

/// One round of a case against a cluster of which a node may be lost meanwhile: the load goes on with whoever leads then.
///
/// Nodes that `store` observes must stay. While leaders are missing nothing is achieved, so that the load may fall behind
/// what is offered: that does not make the measurement void, because it is what it shows. What never found room counts
/// with the time that it waited.
pub(crate) fn measure_surviving(
    case: &Case,
    pace: Pace,
    effort: &Effort,
    store: &mut Store,
    requests: &mut RequestMaker,
) -> Result<Measurement, MeasurementError> {
    measure_by(&mut Subject::Store(store), pace, |target| {
        let plan = LoadPlan {
            survives_lost_nodes: true,
            ..plan_of(case, pace, effort, None, target)
        };
        drive(&plan, requests)
    })
}

fn plan_of<'a>(
    case: &Case,
    pace: Pace,
    effort: &Effort,
    mark: Option<&'a AtomicBool>,
    target: Target<'a>,
) -> LoadPlan<'a> {
    LoadPlan {
        target,
        mix: case.mix,
        connections: case.connections,
        in_flight_per_connection: case.in_flight_per_connection,
        pace,
        warm_up: effort.warm_up,
        measured: effort.measured,
        patience: PATIENCE,
        mark,
        survives_lost_nodes: false,
    }
}

/// What `load` costs the system that it is given to, and the client.
pub(crate) fn measure_by(
    subject: &mut Subject<'_>,
    pace: Pace,
    load: impl FnOnce(Target<'_>) -> Result<LoadResult, LoadError>,
) -> Result<Measurement, MeasurementError> {
    subject.refresh()?;
    let before = subject.observe()?;
    let client_before = ProcessId::own().usage()?;
    let busy_before = busy_time();
    let started = Instant::now();
    let result = load(subject.target())?;
    let spent = Spent {
        elapsed: started.elapsed(),
        client_cpu: ProcessId::own().usage()?.since(&client_before).cpu,
        machine_busy: busy_time()
            .zip(busy_before)
            .map(|(now, then)| now.saturating_sub(then)),
    };
    let after = subject.observe()?;
    let costs = after.costs_since(&before, result.answered_in_all);
    let cache = subject.write_cache();
    let is_led_anew = after.has_other_leaders(&before);
    let moves = Moves::of(result.redirected, result.losses.put_off, is_led_anew);
    Ok(Measurement {
        moves,
        ..conclude(result, pace, costs, cache, &spent)
    })
}

/// What is measured: this store, or another system.
#[derive(Debug)]
pub(crate) enum Subject<'a> {
    Store(&'a mut Store),
    /// Its process tells what it costs; what it does with its disk is not seen.
    Peer(&'a mut Peer),
}

/// A look at the counters of a subject.
enum Look {
    Store(Observation),
    Peer(ProcessUse),
}

impl Subject<'_> {
    /// Finds out who leads by now, where there is a choice.
    fn refresh(&mut self) -> Result<(), MeasurementError> {
        match self {
            Subject::Store(store) => Ok(store.refresh_routes()?),
            Subject::Peer(peer) => Ok(peer.find_leader()?),
        }
    }

    fn target(&self) -> Target<'_> {
        match self {
            Subject::Store(store) => store.target(),
            Subject::Peer(peer) => peer.target(),
        }
    }

    fn observe(&mut self) -> Result<Look, MeasurementError> {
        Ok(match self {
            Subject::Store(store) => Look::Store(store.observe()?),
            Subject::Peer(peer) => Look::Peer(peer.observe()?),
        })
    }

    fn write_cache(&self) -> Option<DiskCache> {
        match self {
            Subject::Store(store) => store.write_cache(),
            Subject::Peer(_) => None,
        }
    }
}

impl Look {
    fn has_other_leaders(&self, earlier: &Look) -> bool {
        match (self, earlier) {
            (Look::Store(now), Look::Store(then)) => now.has_other_leaders(then),
            (Look::Store(_) | Look::Peer(_), _) => false,
        }
    }

    fn costs_since(&self, earlier: &Look, operations: u64) -> Costs {
        match (self, earlier) {
            (Look::Store(now), Look::Store(then)) => now.costs_since(then, operations),
            (Look::Peer(now), Look::Peer(then)) => Costs::of_process(&now.since(then), operations),
            (Look::Store(_), Look::Peer(_)) | (Look::Peer(_), Look::Store(_)) => {
                unreachable!("a subject stays what it is")
            }
        }
    }
}

/// What was spent on this side of the socket.
struct Spent {
    elapsed: Duration,
    client_cpu: Duration,
    /// Of all CPUs together.
    machine_busy: Option<Duration>,
}

fn conclude(
    result: LoadResult,
    pace: Pace,
    costs: Costs,
    cache: Option<DiskCache>,
    spent: &Spent,
) -> Measurement {
    let is_open = pace != Pace::Closed;
    let measured_s = result.measured.as_secs_f64();
    let client = ClientUse {
        cpu_share: spent.client_cpu.as_secs_f64() / spent.elapsed.as_secs_f64(),
        cpu_us_per_operation: spent.client_cpu.as_secs_f64() * 1e6
            / result.answered_in_all.max(1) as f64,
        delay_us: is_open.then(|| result.client_delay.mean() / 1e3),
        delay_p99_us: is_open.then(|| result.client_delay.value_at_quantile(0.99) as f64 / 1e3),
    };
    let others = |(busy, server_cpu): (Duration, Duration)| {
        others_share(busy, server_cpu + spent.client_cpu, spent.elapsed)
    };
    Measurement {
        others_cpu_share: spent.machine_busy.zip(costs.server_cpu).map(others),
        offered_per_second: is_open.then(|| result.offered as f64 / measured_s),
        achieved_per_second: result.answered as f64 / measured_s,
        invalid: find_invalid(&result, pace, &client),
        latency: Latency::of(&result.latency),
        operations: OperationLatency::of_mix(result.latency_by_kind),
        marked: Latency::of(&result.latency_marked),
        conflicts: result.conflicts,
        moves: None,
        losses: (result.losses != Losses::default()).then_some(result.losses),
        flush_check: FlushCheck::of(&costs, cache),
        costs,
        failures: result.failures.count,
        first_failure: result.failures.first.as_ref().map(ToString::to_string),
        client,
        histogram: result.latency,
        histogram_marked: result.latency_marked,
    }
}

impl OperationLatency {
    /// Nothing for a mix of one operation, whose latency is that of the whole.
    fn of_mix(histograms: Vec<(OperationKind, Histogram<u64>)>) -> Vec<OperationLatency> {
        if histograms.len() < 2 {
            return Vec::new();
        }
        let one = |(operation, histogram)| OperationLatency {
            operation,
            latency: Latency::of(&histogram),
            histogram,
        };
        histograms.into_iter().map(one).collect()
    }
}

fn find_invalid(result: &LoadResult, pace: Pace, client: &ClientUse) -> Option<Invalid> {
    if result.failures.count > 0 {
        return Some(Invalid::Failures);
    }
    if result.answered == 0 {
        return Some(Invalid::Nothing);
    }
    match pace {
        Pace::Closed => (client.cpu_share > CLIENT_CPU_SHARE_MAX).then_some(Invalid::Client),
        Pace::Poisson { .. } => {
            let achieved = result.answered as f64 / result.offered.max(1) as f64;
            let is_behind = result.unsent > 0 || achieved < ACHIEVED_SHARE_MIN;
            // Without a leader nothing can be achieved; then latencies tell what became of the load.
            if is_behind && result.losses.connections == 0 {
                return Some(Invalid::NotAchieved);
            }
            let delay_max_ns = result.latency.mean() * CLIENT_DELAY_SHARE_MAX;
            let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99) as f64;
            let delay_p99_max_ns = p99(&result.latency) * CLIENT_DELAY_P99_SHARE_MAX;
            let is_late = result.client_delay.mean() > delay_max_ns
                || p99(&result.client_delay) > delay_p99_max_ns;
            is_late.then_some(Invalid::Client)
        }
    }
}

#[cfg(test)]
mod tests;
