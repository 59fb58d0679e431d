//! What well-behaved clients notice of abuse: idle connections by the thousands, clients that break every rule, and one
//! that asks as fast as it can; and what all of them cost the store in memory.
//!
//! A round is: the capacity in a closed loop, the open loop at its share alone, then the same beside the abusers. All
//! clients share this process's CPU, so what the abusers take of it counts against the good ones, too.

mod abusers;
mod wire;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::abusers::{AbuseCounts, Abusers};
use self::wire::IdleConnections;
use super::{Bench, Findings};
use crate::arguments::AbuseArguments;
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::good_clients::{GoodClients, Span};
use crate::latency::Spread;
use crate::measurement::Measurement;
use crate::output::number;
use crate::store::Store;

/// How long the store's books may take until they show what has come and gone.
const BOOKS_PAUSE: Duration = Duration::from_millis(1_500);
/// How long abusers are at work before anything is measured.
const ABUSE_LEAD: Duration = Duration::from_millis(500);

/// Memory of the store at one moment, in bytes.
#[derive(Debug, Clone, Serialize)]
struct Memory {
    resident: u64,
    /// What its accounts come to, and what it may use.
    granted: u64,
    budget: u64,
    /// By account, summed over its cores; those that hold nothing left out.
    accounts: Vec<(String, u64)>,
}

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    capacity: Measurement,
    alone: Measurement,
    abused: Measurement,
    /// Before the idle connections, with them, beside all abusers, and after all have gone.
    before: Memory,
    idle: Memory,
    during: Memory,
    after: Memory,
    idle_connections: usize,
    abuse: AbuseCounts,
}

/// Measures on a store of the bench.
pub(super) fn measure_abuse(
    bench: &mut Bench<'_>,
    arguments: &AbuseArguments,
) -> Result<Findings, PerfError> {
    let mut own = bench.start::<&str>(&[])?;
    let store = &mut own.store;
    let directories = arguments.directories;
    let (mut clients, loaded) = GoodClients::load(store, bench.effort.keys, directories)?;
    bench.output.line(&loaded.words())?;
    let span = Span::from(&bench.effort);
    let (mut rounds, mut thrown_away) = (Vec::new(), Vec::new());
    for number_of_round in 1..=bench.effort.rounds {
        store.settle()?;
        let capacity = clients.measure_capacity(store, span)?;
        let rate = (arguments.load * capacity.achieved_per_second).max(1.0);
        let alone = clients.measure_at(store, rate, span)?;
        let round = measure_round(
            store,
            &mut clients,
            (capacity, alone),
            (rate, span),
            arguments,
        )?;
        bench
            .output
            .line(&format!("round {number_of_round}: {}", round.words()))?;
        match round.is_void() {
            true => thrown_away.push(round),
            false => rounds.push(round),
        }
    }
    // What a connection costs does not hang on the load.
    let all = || rounds.iter().chain(&thrown_away);
    if let Some(round) = all().next() {
        for line in round.memory_lines() {
            bench.output.line(&line)?;
        }
    }
    Ok(Findings {
        figures: figures(&rounds, Spread::of(all().map(Round::idle_bytes))),
        rounds: rounds.len(),
        rounds_thrown_away: thrown_away.len(),
        details: serde_json::json!({
            "load": arguments.load,
            "loaded": loaded,
            "rounds": rounds,
            "thrown_away": thrown_away,
        }),
    })
}

/// The second half of a round: the same load beside the abusers.
fn measure_round(
    store: &mut Store,
    clients: &mut GoodClients,
    (capacity, alone): (Measurement, Measurement),
    (rate, span): (f64, Span),
    arguments: &AbuseArguments,
) -> Result<Round, PerfError> {
    thread::sleep(BOOKS_PAUSE);
    let before = memory_of(store)?;
    let address: SocketAddr = store.addresses()[0];
    let idle_connections =
        IdleConnections::open(address, arguments.connections).map_err(PerfError::Connections)?;
    thread::sleep(BOOKS_PAUSE);
    let idle = memory_of(store)?;
    let abusers = Abusers::start(address);
    thread::sleep(ABUSE_LEAD);
    let abused = clients.measure_at(store, rate, span)?;
    let during = memory_of(store)?;
    let abuse = abusers.stop();
    let count = idle_connections.len();
    drop(idle_connections);
    let after = memory_at_rest(store, &before)?;
    Ok(Round {
        capacity,
        alone,
        abused,
        before,
        idle,
        during,
        after,
        idle_connections: count,
        abuse,
    })
}

fn memory_of(store: &mut Store) -> Result<Memory, PerfError> {
    let observation = store.observe()?;
    let mut memory = Memory {
        resident: store.resident_bytes().unwrap_or(0),
        granted: 0,
        budget: 0,
        accounts: Vec::new(),
    };
    for counter in observation
        .statuses()
        .iter()
        .flat_map(|status| &status.counters)
    {
        match counter.name.as_str() {
            "memory_node_granted_bytes" => memory.granted = counter.value,
            "memory_node_budget_bytes" => memory.budget = counter.value,
            name => {
                let account = name
                    .strip_prefix("memory_")
                    .and_then(|name| name.strip_suffix("_bytes"));
                if let Some(account) = account
                    && counter.value > 0
                    && !account.starts_with("node_")
                {
                    memory.add(account, counter.value);
                }
            }
        }
    }
    Ok(memory)
}

/// Memory once the connections' accounts are back where they were, or after a while.
fn memory_at_rest(store: &mut Store, before: &Memory) -> Result<Memory, PerfError> {
    const PATIENCE: Duration = Duration::from_secs(15);
    let started = Instant::now();
    loop {
        let memory = memory_of(store)?;
        let is_back = ["inbound", "outbound", "connections"]
            .iter()
            .all(|account| memory.account(account) <= before.account(account));
        if is_back || started.elapsed() > PATIENCE {
            return Ok(memory);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn figures(rounds: &[Round], idle_bytes: Option<Spread>) -> Vec<Figure> {
    let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
    vec![
        Figure::new(
            "good clients: w8 p99 beside abusers / alone, at the share of the capacity",
            Target::None,
            spread(|round| round.abused.latency.p99_us / round.alone.latency.p99_us),
        ),
        Figure::new(
            "w8 p99 us alone",
            Target::None,
            spread(|round| round.alone.latency.p99_us),
        ),
        Figure::new(
            "w8 p99 us beside abusers",
            Target::None,
            spread(|round| round.abused.latency.p99_us),
        ),
        Figure::new(
            "resident bytes an idle connection",
            Target::None,
            idle_bytes,
        ),
        Figure::new(
            "accounts beside abusers / budget",
            Target::AtMost(1.0),
            spread(|round| round.during.granted as f64 / round.during.budget.max(1) as f64),
        ),
    ]
}

impl Memory {
    fn add(&mut self, account: &str, bytes: u64) {
        match self.accounts.iter_mut().find(|(name, _)| name == account) {
            Some((_, sum)) => *sum += bytes,
            None => self.accounts.push((account.to_owned(), bytes)),
        }
    }

    fn account(&self, name: &str) -> u64 {
        let found = self.accounts.iter().find(|(account, _)| account == name);
        found.map_or(0, |(_, bytes)| *bytes)
    }

    fn words(&self) -> String {
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        let accounts: Vec<String> = self
            .accounts
            .iter()
            .map(|(name, bytes)| format!("{name} {}", mib(*bytes)))
            .collect();
        format!(
            "resident {} MiB, accounts {} of {} MiB ({})",
            mib(self.resident),
            mib(self.granted),
            mib(self.budget),
            accounts.join(", ")
        )
    }
}

impl Round {
    fn idle_bytes(&self) -> f64 {
        let grown = self.idle.resident.saturating_sub(self.before.resident);
        grown as f64 / self.idle_connections.max(1) as f64
    }

    fn is_void(&self) -> bool {
        self.void_words().is_some()
    }

    fn void_words(&self) -> Option<&'static str> {
        let all = [&self.capacity, &self.alone, &self.abused];
        all.into_iter().find_map(Measurement::void_words)
    }

    fn memory_lines(&self) -> [String; 4] {
        [
            format!("memory before: {}", self.before.words()),
            format!(
                "with {} idle connections: {}",
                self.idle_connections,
                self.idle.words()
            ),
            format!("beside abusers: {}", self.during.words()),
            format!("after: {}", self.after.words()),
        ]
    }

    fn words(&self) -> String {
        let why = self.void_words();
        format!(
            "offered {}/s; alone p50 {} us, p99 {} us; beside abusers p50 {} us, p99 {} us: ratio {}; {} failures; {} bytes an idle connection; abuse: {}{}",
            number(self.abused.offered_per_second.unwrap_or(0.0)),
            number(self.alone.latency.p50_us),
            number(self.alone.latency.p99_us),
            number(self.abused.latency.p50_us),
            number(self.abused.latency.p99_us),
            number(self.abused.latency.p99_us / self.alone.latency.p99_us),
            self.abused.failures,
            number(self.idle_bytes()),
            self.abuse.words(),
            why.map_or(String::new(), |why| format!("  THROWN AWAY: {why}")),
        )
    }
}
