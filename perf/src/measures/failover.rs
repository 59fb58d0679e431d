//! How long writes wait when a leader dies, and when it hands over.
//!
//! A round of the first kind kills the process of a node that leads something, as `kill -9` does, under the load of
//! [`Writers`], and waits until each shard has acknowledged a write that began behind the kill. Then the node comes back
//! and catches up, and leaders go back to their places. A round of the second kind asks one leader to hand over to
//! another voter, and looks for the longest time without an acknowledgement of that shard.

mod writers;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use metastore_net::ReplicaRole;
use serde::Serialize;

use super::absent_nodes::{address_of, await_leaders, await_return};
use super::{Bench, Findings, OwnStore, PLAIN};
use crate::arguments::FailoverArguments;
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::latency::Spread;
use crate::node::NodeError;
use crate::output::number;
use writers::{Outcomes, Writers};

/// The share of kills after which every shard must have acknowledged a write within [`KILL_MS_MAX`].
const KILL_SHARE_MIN: f64 = 0.98;

/// What a kill may cost.
const KILL_MS_MAX: f64 = 1_000.0;

/// What a hand-over may cost.
const TRANSFER_MS_MAX: f64 = 200.0;

/// How long to wait for a shard that acknowledges nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Load before each round, and behind a hand-over: a gap would be over by then.
const CALM: Duration = Duration::from_millis(500);

/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// A leader that died.
#[derive(Debug, Serialize)]
struct Kill {
    node: u32,
    /// Shards that it led.
    led: usize,
    /// From the kill until every shard has acknowledged a write that began behind it. `None`: not within the patience.
    milliseconds: Option<f64>,
    outcomes: Outcomes,
    failure: Option<String>,
}

/// A leader that handed over.
#[derive(Debug, Serialize)]
struct HandOver {
    shard: u32,
    from: u32,
    to: u32,
    /// The longest time without an acknowledgement of the shard.
    gap_milliseconds: f64,
    outcomes: Outcomes,
    failure: Option<String>,
}

/// Measures on one cluster.
pub(super) fn measure_failover(
    bench: &mut Bench<'_>,
    arguments: &FailoverArguments,
) -> Result<Findings, PerfError> {
    let mut own = bench.start(PLAIN)?;
    own.store.settle()?;
    let writers = Writers::start(&own.store)?;
    let mut kills = Vec::new();
    for round in 0..arguments.kills() {
        let kill = kill_one(bench, &mut own, &writers, round)?;
        bench
            .output
            .line(&format!("kill {}: {}", round + 1, kill.words()))?;
        kills.push(kill);
    }
    let mut transfers = Vec::new();
    for round in 0..arguments.transfers() {
        let transfer = hand_over(bench, &mut own, &writers, round)?;
        bench
            .output
            .line(&format!("hand-over {}: {}", round + 1, transfer.words()))?;
        transfers.push(transfer);
    }
    Ok(findings(&kills, &transfers))
}

fn findings(kills: &[Kill], transfers: &[HandOver]) -> Findings {
    let in_time = |kill: &&Kill| kill.milliseconds.is_some_and(|ms| ms <= KILL_MS_MAX);
    let share = kills.iter().filter(in_time).count() as f64 / kills.len() as f64;
    let patience_ms = PATIENCE.as_secs_f64() * 1e3;
    let waits = kills.iter();
    let waits = waits.map(|kill| kill.milliseconds.unwrap_or(patience_ms));
    let gaps = transfers.iter().map(|transfer| transfer.gap_milliseconds);
    let longest_gap = Spread::of(gaps.clone()).map(|gaps| gaps.max);
    let killed = kills.iter().map(|kill| kill.outcomes.failed);
    let failed: u64 = killed
        .chain(transfers.iter().map(|transfer| transfer.outcomes.failed))
        .sum();
    Findings {
        figures: vec![
            Figure::new(
                "kill -9: share of kills with a write on every shard within 1 s",
                Target::AtLeast(KILL_SHARE_MIN),
                Spread::of((!kills.is_empty()).then_some(share)),
            ),
            Figure::new(
                "kill -9: ms to the next write on every shard",
                Target::None,
                Spread::of(waits),
            ),
            Figure::new(
                "hand-over: the longest ms without a write",
                Target::AtMost(TRANSFER_MS_MAX),
                Spread::of(longest_gap),
            ),
            Figure::new(
                "hand-over: ms without a write",
                Target::None,
                Spread::of(gaps),
            ),
            Figure::new(
                "writes that failed",
                Target::AtMost(0.0),
                Spread::of([failed as f64]),
            ),
        ],
        rounds: kills.len() + transfers.len(),
        rounds_thrown_away: 0,
        details: serde_json::json!({ "kills": kills, "hand_overs": transfers }),
    }
}

/// Kills a node, the next one each time, waits for writes everywhere, and brings it back.
fn kill_one(
    bench: &Bench<'_>,
    own: &mut OwnStore,
    writers: &Writers,
    round: u32,
) -> Result<Kill, PerfError> {
    thread::sleep(CALM);
    let leads = await_leaders(&mut own.store)?.leads();
    let mut nodes: Vec<u32> = leads.values().map(|lead| lead.node_id).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let node = nodes[round as usize % nodes.len()];
    let led = leads.values().filter(|lead| lead.node_id == node).count();
    let address = address_of(&mut own.store, node)?;
    let member = own.node.member(address)?;
    own.node.kill_member(&member)?;
    // Not before: until it is dead it still acknowledges.
    let began = writers.mark();
    while !writers.progress().is_everywhere() && began.elapsed() < PATIENCE {
        thread::sleep(LOOK_PAUSE);
    }
    let progress = writers.progress();
    bench.revive(own, &member)?;
    let nodes = own.store.addresses().len();
    await_return(own, nodes)?;
    let later = writers.progress();
    Ok(Kill {
        node,
        led,
        milliseconds: progress
            .slowest_first()
            .map(|wait| wait.as_secs_f64() * 1e3),
        outcomes: later.outcomes,
        failure: later.failure,
    })
}

/// Asks the leader of a shard to hand over, another shard each time.
fn hand_over(
    bench: &Bench<'_>,
    own: &mut OwnStore,
    writers: &Writers,
    round: u32,
) -> Result<HandOver, PerfError> {
    thread::sleep(CALM);
    let observation = await_leaders(&mut own.store)?;
    let leads: Vec<_> = observation.leads().into_iter().collect();
    let (shard, lead) = leads[round as usize % leads.len()];
    let follows = |role| matches!(role, ReplicaRole::Follower);
    let to = observation.statuses().iter().find(|status| {
        let mut replicas = status.replicas.iter();
        status.node_id != lead.node_id
            && replicas.any(|replica| replica.shard == shard && follows(replica.role))
    });
    let to = to.map_or(lead.node_id, |status| status.node_id);
    let place = leads.iter().position(|(other, _)| *other == shard);
    writers.mark();
    transfer(&bench.arguments.metastore, own.store.addresses(), shard, to)?;
    thread::sleep(CALM);
    let progress = writers.progress();
    let gap = progress.shards[place.unwrap_or(0)].longest_gap;
    Ok(HandOver {
        shard,
        from: lead.node_id,
        to,
        gap_milliseconds: gap.as_secs_f64() * 1e3,
        outcomes: progress.outcomes,
        failure: progress.failure,
    })
}

/// By the operators' command.
fn transfer(
    program: &Path,
    addresses: &[SocketAddr],
    shard: u32,
    to: u32,
) -> Result<(), PerfError> {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let asked = Command::new(program)
        .args([
            "shard",
            "transfer-leader",
            "--connect",
            &addresses.join(","),
        ])
        .args(["--shard", &shard.to_string(), "--to", &to.to_string()])
        .output()
        .map_err(|source| NodeError::Start {
            program: program.to_owned(),
            source,
        })?;
    match asked.status.success() {
        true => Ok(()),
        false => Err(PerfError::Preparation {
            failure: String::from_utf8_lossy(&asked.stderr).into_owned(),
        }),
    }
}

impl Kill {
    fn words(&self) -> String {
        let wait = self.milliseconds.map_or_else(
            || format!("NOT within {PATIENCE:?}"),
            |ms| format!("after {} ms", number(ms)),
        );
        format!(
            "node {}, which led {} shards: a write on every shard {wait}; {}",
            self.node,
            self.led,
            words_of(&self.outcomes, self.failure.as_deref())
        )
    }
}

impl HandOver {
    fn words(&self) -> String {
        format!(
            "shard {} from node {} to node {}: {} ms without a write; {}",
            self.shard,
            self.from,
            self.to,
            number(self.gap_milliseconds),
            words_of(&self.outcomes, self.failure.as_deref())
        )
    }
}

fn words_of(outcomes: &Outcomes, failure: Option<&str>) -> String {
    let Outcomes {
        acknowledged,
        unknown,
        failed,
    } = outcomes;
    let failure = failure.map_or_else(String::new, |failure| format!(", such as: {failure}"));
    format!("{acknowledged} writes, {unknown} of unknown outcome, {failed} failed{failure}")
}
