//! `metastore-perf idle`: what shards cost that have nothing to do, and how soon they are led again when they lose
//! their leader; on three cores of three nodes, in virtual time.

use metastore_engine::{IdleSettings, RaftSettings, Settings};
use serde::Serialize;

use super::CoreAloneError;
use super::group::{ConnectionEnd, Group, Traffic};
use crate::arguments::IdleArguments;
use crate::conditions::{Machine, commit};
use crate::error::{PerfError, Verdict};
use crate::output::{Output, Table, number};
use crate::process::own_thread_cpu;

/// Nodes, of one core each.
const NODES: usize = 3;
/// Virtual time in which leaders find their places and groups fall asleep.
const SETTLE_MS: u64 = 60_000;

/// Idle shards, of one kind.
#[derive(Debug, Serialize)]
struct Idle {
    shards: u32,
    may_sleep: bool,
    replicas_awake: usize,
    /// Of one node, in the core alone.
    cpu_percent: f64,
    turns_per_second: f64,
    replica_ticks_per_second: f64,
    batches_per_second: f64,
    batch_bytes_per_second: f64,
    /// How many shards each node leads.
    leads: String,
    /// Until all shards are led again whose leader's process has ended.
    led_again_ms: Option<f64>,
    /// The same where a machine lost its power.
    led_again_after_silence_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    commit: Option<String>,
    idle: &'a [Idle],
}

/// Measures and reports.
pub(crate) fn run(arguments: &IdleArguments) -> Result<Verdict, PerfError> {
    let mut output = Output::new(arguments.json.clone());
    output.line(&format!(
        "idle shards on {NODES} nodes of one core, {} s of virtual time; of one node",
        arguments.seconds
    ))?;
    let mut table = Table::new(&[
        "shards",
        "",
        "awake",
        "CPU %",
        "turns/s",
        "ticks of replicas/s",
        "batches/s",
        "bytes/s",
        "leads of each node",
        "led again ms",
        "without word ms",
    ]);
    let mut all = Vec::new();
    for &shards in &arguments.shards {
        for may_sleep in [true, false] {
            let idle = measure(shards, may_sleep, arguments.seconds)?;
            let milliseconds = |took_ms: Option<f64>| took_ms.map_or("never".to_owned(), number);
            table.row(vec![
                shards.to_string(),
                if may_sleep { "may sleep" } else { "may not" }.to_owned(),
                idle.replicas_awake.to_string(),
                format!("{:.3}", idle.cpu_percent),
                number(idle.turns_per_second),
                number(idle.replica_ticks_per_second),
                number(idle.batches_per_second),
                number(idle.batch_bytes_per_second),
                idle.leads.clone(),
                milliseconds(idle.led_again_ms),
                milliseconds(idle.led_again_after_silence_ms),
            ]);
            all.push(idle);
        }
    }
    output.line(&Machine::this().words())?;
    output.table(&table)?;
    output.json(&Report {
        machine: Machine::this(),
        commit: commit(),
        idle: &all,
    })?;
    Ok(Verdict::Valid)
}

fn settled(shards: u32, may_sleep: bool) -> Group {
    let usual = IdleSettings::default();
    let idle = IdleSettings {
        sleep_ticks: usual.sleep_ticks.filter(|_| may_sleep),
        ..usual
    };
    let raft = RaftSettings {
        idle,
        ..RaftSettings::default()
    };
    let settings = Settings {
        raft,
        ..Settings::default()
    };
    let mut group = Group::new(NODES, shards, &settings);
    group.run_ms(SETTLE_MS);
    group
}

fn measure(shards: u32, may_sleep: bool, seconds: u64) -> Result<Idle, CoreAloneError> {
    let mut group = settled(shards, may_sleep);
    let (before, ticks_before) = (group.traffic(), group.replica_ticks());
    let cpu_before = own_thread_cpu()?;
    group.run_ms(seconds * 1_000);
    let cpu = own_thread_cpu()?.saturating_sub(cpu_before);
    let Traffic {
        turns,
        batches,
        batch_bytes,
    } = group.traffic();
    let each = |count: u64| count as f64 / NODES as f64 / seconds as f64;
    let replica_ticks = group.replica_ticks() - ticks_before;
    let replicas_awake = group.awake() / NODES;
    let leads: Vec<String> = group.leads().iter().map(usize::to_string).collect();
    let again = |group: &mut Group, end| {
        group.stop(0, end);
        group.run_until(|group| group.led() == shards as usize)
    };
    let led_again_ms = again(&mut group, ConnectionEnd::Told);
    let mut group = settled(shards, may_sleep);
    let led_again_after_silence_ms = again(&mut group, ConnectionEnd::Silent);
    Ok(Idle {
        shards,
        may_sleep,
        replicas_awake,
        cpu_percent: 100.0 * cpu.as_secs_f64() / NODES as f64 / seconds as f64,
        turns_per_second: each(turns - before.turns),
        replica_ticks_per_second: each(replica_ticks),
        batches_per_second: each(batches - before.batches),
        batch_bytes_per_second: each(batch_bytes - before.batch_bytes),
        leads: leads.join(" "),
        led_again_ms,
        led_again_after_silence_ms,
    })
}
