//! What it costs clients that a node which was away for long gets the whole state again, over connections that break.
//!
//! One node of a cluster is killed before anything is loaded. When the others hold the state, and nothing else than
//! snapshots is left of its log, good clients ask at a share of the capacity, and the node comes back. A thread cuts its
//! connections while snapshots arrive, and tells from when to when it was behind: what clients sent then is compared
//! with what they sent before and after.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use metastore_net::StatusReply;
use metastore_net::blocking::{Client, ConnectOptions};
use serde::Serialize;

use super::absent_nodes::connect_without;
use super::data_files::DataFiles;
use super::{Bench, Findings};
use crate::arguments::CatchUpArguments;
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::good_clients::{GoodClients, Span};
use crate::keys::KeySpace;
use crate::latency::{Latency, Spread, new_histogram};
use crate::measurement::Measurement;
use crate::node::PEER_PORTS_ABOVE;
use crate::operation::RequestMaker;
use crate::output::number;
use crate::preload::preload_store;

/// What the tail may grow to.
const TAIL_RATIO_MAX: f64 = 2.0;

/// The part of the state that must come as snapshots for the rest, which comes from the log, to be small.
const SNAPSHOT_SHARE_MIN: f64 = 0.5;

/// A 99th percentile of fewer is chance.
const MARKED_MIN: u64 = 1_000;

/// How long a node may take to come back.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

/// Time between two looks at a node.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How long a node that starts may not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A node that comes back.
#[derive(Debug)]
struct Returner<'a> {
    address: SocketAddr,
    /// One of the others.
    witness: SocketAddr,
    data: PathBuf,
    /// What snapshots hold on another node.
    expected_bytes: u64,
    cuts: u32,
    /// Set while it is behind.
    is_behind: &'a AtomicBool,
    /// Set when there is nothing more to see.
    is_over: &'a AtomicBool,
}

/// How it came back.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Return {
    seconds: f64,
    /// How often its connections were cut while a snapshot arrived, and how many connections there were in all.
    cuts: u32,
    connections_cut: u32,
    /// Files of snapshots that were begun again, from nothing.
    begun_anew: u32,
    /// What arrived as snapshots.
    snapshot_bytes: u64,
    has_caught_up: bool,
}

/// Measures on one cluster.
pub(super) fn measure_catch_up(
    bench: &mut Bench<'_>,
    arguments: &CatchUpArguments,
) -> Result<Findings, PerfError> {
    check_ss()?;
    let mut own = bench.start(&arguments.small_log())?;
    own.store.settle()?;
    let addresses = own.store.addresses().to_vec();
    let [witness, .., away] = addresses[..] else {
        unreachable!("a cluster has several nodes");
    };
    let member = own.node.member(away)?;
    own.node.kill_member(&member)?;
    own.store = connect_without(witness, away)?;

    let space = KeySpace::WIDE;
    let state_bytes = arguments.state_bytes();
    let keys = state_bytes / (space.key_bytes + space.value_bytes) as u64;
    let loaded = preload_store(&mut own.store, space, &mut RequestMaker::new(keys))?;
    bench.output.line(&loaded.words())?;
    let (mut clients, loaded) =
        GoodClients::load(&mut own.store, bench.effort.keys, arguments.directories)?;
    bench.output.line(&loaded.words())?;
    own.store.settle()?;
    let span = Span::from(&bench.effort);
    let capacity = clients.measure_capacity(&mut own.store, span)?;
    let rate = (arguments.load * capacity.achieved_per_second).max(1.0);

    let (is_behind, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let returner = Returner {
        address: away,
        witness,
        data: own.node.member_data(away),
        expected_bytes: DataFiles::of(&own.node.member_data(witness))?.snapshot_bytes,
        cuts: arguments.cuts,
        is_behind: &is_behind,
        is_over: &is_over,
    };
    let mut measured = Measured::new();
    measured.add(clients.measure_marked_at(&mut own.store, rate, span, &is_behind)?);
    is_behind.store(true, Ordering::Relaxed);
    bench.revive(&mut own, &member)?;
    let returned = thread::scope(|scope| {
        let watch = scope.spawn(|| returner.watch());
        while !is_over.load(Ordering::Acquire) {
            let found = clients.measure_marked_at(&mut own.store, rate, span, &is_behind);
            match found {
                Ok(found) => measured.add(found),
                Err(error) => {
                    is_over.store(true, Ordering::Release);
                    return Err(error);
                }
            }
        }
        watch.join().expect("the watcher does not panic")
    })?;
    measured.add(clients.measure_marked_at(&mut own.store, rate, span, &is_behind)?);
    bench.output.line(&returned.words(state_bytes))?;
    if let Some(why) = measured.void {
        bench
            .output
            .line(&format!("THE COMPARISON IS VOID: {why}"))?;
    }
    Ok(findings(
        &measured,
        &returned,
        (state_bytes, arguments.cuts),
    ))
}

fn findings(measured: &Measured, returned: &Return, (state_bytes, cuts): (u64, u32)) -> Findings {
    let (behind, otherwise) = (
        Latency::of(&measured.behind),
        Latency::of(&measured.otherwise),
    );
    let is_enough = behind.count.min(otherwise.count) >= MARKED_MIN && measured.void.is_none();
    let ratio = is_enough.then_some(behind.p99_us / otherwise.p99_us);
    let share = returned.snapshot_bytes as f64 / state_bytes as f64;
    let seconds = returned.has_caught_up.then_some(returned.seconds);
    Findings {
        figures: vec![
            Figure::new(
                "catch-up: w8 p99 while a node is behind / otherwise",
                Target::AtMost(TAIL_RATIO_MAX),
                Spread::of(ratio),
            ),
            Figure::new(
                "w8 p99 us while a node is behind",
                Target::None,
                Spread::of([behind.p99_us]),
            ),
            Figure::new(
                "w8 p99 us otherwise",
                Target::None,
                Spread::of([otherwise.p99_us]),
            ),
            Figure::new(
                "seconds to catch up",
                Target::AtMost(CATCH_UP_MAX.as_secs_f64()),
                Spread::of(seconds),
            ),
            Figure::new(
                "bytes that came as snapshots / state",
                Target::AtLeast(SNAPSHOT_SHARE_MIN),
                Spread::of([share]),
            ),
            Figure::new(
                "times that its connections were cut meanwhile",
                Target::AtLeast(f64::from(cuts)),
                Spread::of([f64::from(returned.cuts)]),
            ),
            Figure::new(
                "snapshots that were begun anew",
                Target::AtMost(0.0),
                Spread::of([f64::from(returned.begun_anew)]),
            ),
        ],
        rounds: usize::from(is_enough),
        rounds_thrown_away: usize::from(!is_enough),
        details: serde_json::json!({
            "return": returned,
            "behind": behind,
            "otherwise": otherwise,
            "void": measured.void,
        }),
    }
}

/// What clients had to wait, by how the node stood when they asked.
#[derive(Debug)]
struct Measured {
    behind: Histogram<u64>,
    otherwise: Histogram<u64>,
    /// Why the first measurement that is void is void.
    void: Option<&'static str>,
}

impl Measured {
    fn new() -> Measured {
        Measured {
            behind: new_histogram(),
            otherwise: new_histogram(),
            void: None,
        }
    }

    fn add(&mut self, found: Measurement) {
        let mut otherwise = found.histogram.clone();
        otherwise
            .subtract(&found.histogram_marked)
            .expect("what was marked is part of all");
        let same_bounds = "all histograms have the same bounds";
        self.behind.add(&found.histogram_marked).expect(same_bounds);
        self.otherwise.add(&otherwise).expect(same_bounds);
        self.void = self.void.or(found.void_words());
    }
}

impl Returner<'_> {
    /// Watches to the end, and lets nobody wait for it after that, however it comes.
    fn watch(&self) -> Result<Return, PerfError> {
        let returned = self.cut_until_caught_up();
        self.is_behind.store(false, Ordering::Relaxed);
        self.is_over.store(true, Ordering::Release);
        returned
    }

    /// Cuts its connections as snapshots arrive, until it has what the others have.
    fn cut_until_caught_up(&self) -> Result<Return, PerfError> {
        let began = Instant::now();
        let mut returned = Return::default();
        let mut before = DataFiles::default();
        while began.elapsed() < CATCH_UP_MAX && !self.is_over.load(Ordering::Acquire) {
            let files = DataFiles::of(&self.data).unwrap_or_default();
            let is_same = files.snapshot_paths == before.snapshot_paths;
            returned.begun_anew +=
                u32::from(is_same && files.unfinished_bytes < before.unfinished_bytes);
            let arrived = files.snapshot_bytes + files.unfinished_bytes;
            returned.snapshot_bytes = returned.snapshot_bytes.max(arrived);
            let due = self.expected_bytes * u64::from(returned.cuts + 1) / u64::from(self.cuts + 1);
            if returned.cuts < self.cuts && files.unfinished_bytes > 0 && arrived >= due {
                let connections = cut(self.address.port() + PEER_PORTS_ABOVE)?;
                returned.connections_cut += connections;
                // Where there is none at this moment, there is one at the next look.
                returned.cuts += u32::from(connections > 0);
            }
            before = files;
            if self.has_caught_up() {
                returned.has_caught_up = true;
                break;
            }
            thread::sleep(LOOK_PAUSE);
        }
        returned.seconds = began.elapsed().as_secs_f64();
        Ok(returned)
    }

    /// Whether it has applied everything that another had applied a moment before.
    fn has_caught_up(&self) -> bool {
        let Some((other, own)) = status(self.witness).zip(status(self.address)) else {
            return false;
        };
        other.replicas.iter().all(|replica| {
            let mut same = own.replicas.iter().filter(|own| own.shard == replica.shard);
            same.any(|own| own.applied >= replica.applied)
        })
    }
}

impl Return {
    fn words(&self, state_bytes: u64) -> String {
        let mib = |bytes: u64| number(bytes as f64 / f64::from(1 << 20));
        format!(
            "behind by {} MiB; {} after {} s; {} MiB came as snapshots; cut {} times, {} connections in all; {} files \
             begun anew",
            mib(state_bytes),
            match self.has_caught_up {
                true => "caught up",
                false => "NOT CAUGHT UP",
            },
            number(self.seconds),
            mib(self.snapshot_bytes),
            self.cuts,
            self.connections_cut,
            self.begun_anew
        )
    }
}

fn status(address: SocketAddr) -> Option<StatusReply> {
    let options = ConnectOptions {
        timeout: ANSWER_TIMEOUT,
        client_name: "metastore-perf",
        ..ConnectOptions::default()
    };
    let mut client = Client::connect_with(address, &options).ok()?;
    client.status().ok()
}

/// Has the kernel reset all connections to a port of this machine, and says how many there were.
fn cut(port: u16) -> Result<u32, PerfError> {
    let told = Command::new("ss")
        .args([
            "-HKtn",
            "state",
            "established",
            "dport",
            "=",
            &format!(":{port}"),
        ])
        .output()
        .map_err(PerfError::NoSs)?;
    let lines = String::from_utf8_lossy(&told.stdout).lines().count();
    Ok(u32::try_from(lines).unwrap_or(u32::MAX))
}

fn check_ss() -> Result<(), PerfError> {
    let found = Command::new("ss").arg("-V").stdout(Stdio::null()).status();
    found.map(drop).map_err(PerfError::NoSs)
}
