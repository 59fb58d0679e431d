//! One round: a fresh cluster, clients, faults, calm, and the judgement of what clients were told.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metastore_engine::{NodeId, ShardId, ShardLocation, ShardMap};
use metastore_net::ReplicaStatus;
use metastore_sim::checkers::linearizability::ShardHistory;
use metastore_sim::cluster::shape::shard_of;
use metastore_sim::operation::{Operation, RangeOf};
use metastore_sim::workload::{ValueSizes, Workload};
use metastore_statemachine::Scope;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::addresses::Addresses;
use crate::agreement::{Agreement, Applied, compare};
use crate::clients::{Client, Field, Tally};
use crate::disks::Disks;
use crate::failure::{Cause, system};
use crate::formatted::Formatted;
use crate::judge::judge;
use crate::nemesis::{Done, Nemesis, formatted};
use crate::nodes::{Nodes, Settings};
use crate::plan::{Ending, FaultKind, Plan};
use crate::proxy::{Proxies, ProxyCounters};
use crate::report::{Recovery, RoundReport};
use crate::weather::Weather;
use crate::witness::Witness;

/// What is needed for a round.
pub(crate) struct Setting<'a> {
    pub(crate) program: &'a Path,
    /// A bug that the server is to have.
    pub(crate) mutant: Option<&'a str>,
    pub(crate) directory: PathBuf,
    /// Where the guard of frozen disks looks.
    pub(crate) notes: PathBuf,
    pub(crate) seed: u64,
    /// Tells this round's addresses apart from those of the round before.
    pub(crate) number: u64,
    pub(crate) possible: &'a [FaultKind],
}

/// How long after the last fault everybody must be answered, and again how long replicas may be apart after the last write.
/// The longest election takes two timeouts of 2 s; a client may lose one timeout more to a node that is gone.
const CALM: Duration = Duration::from_secs(10);
/// How long clients go on in the calm.
const BUSY_CALM: Duration = Duration::from_millis(300);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Directories, and so routing parts, of each shard.
const DIRECTORIES_PER_SHARD: usize = 2;
/// Values of each client begin at a multiple of this, so that no two are the same.
const VALUES_PER_CLIENT: u64 = 1 << 32;
/// How long values are.
const VALUES: ValueSizes = ValueSizes {
    long_per_mille: 100,
    long_bytes_max: 4_000,
};
/// How many operations of a round must succeed, in a hundred. Some plans have all nodes dead for most of their time; over
/// all rounds [more](crate::rounds) must.
const SUCCEEDED_PERCENT_MIN: u64 = 20;

/// A round while it runs.
struct Round<'a> {
    setting: &'a Setting<'a>,
    plan: Plan,
    runtime: Runtime,
    nodes: Nodes,
    field: Arc<Field>,
    weather: watch::Sender<Arc<Weather>>,
    counters: Arc<ProxyCounters>,
    _proxies: Proxies,
    witness: Witness,
    directories: Vec<Vec<Vec<u8>>>,
    histories: BTreeMap<ShardId, ShardHistory>,
    report: RoundReport,
    /// Behind the nodes, which must be gone before their disks.
    disks: Disks,
}

/// Runs a round in a directory of its own, which is left as it is.
pub(crate) fn run(setting: &Setting<'_>) -> Result<RoundReport, Cause> {
    let mut round = Round::begin(setting)?;
    let ran = round.run();
    if ran.is_err() {
        // What it was that failed says more than that it could not be written down.
        let _written = round.write_down();
        round.nodes.kill_all();
        round.disks.keep(&setting.directory);
    }
    ran.map(|()| round.report)
}

impl<'a> Round<'a> {
    /// Formats a cluster, starts it, and stands proxies in front of it.
    fn begin(setting: &'a Setting<'a>) -> Result<Round<'a>, Cause> {
        let mut plan = Plan::draw(setting.seed, setting.possible);
        let directory = &setting.directory;
        fs::create_dir_all(directory).map_err(system(directory.display().to_string()))?;
        let addresses = Addresses::of_round(setting.number);
        let settings = Settings {
            nodes: plan.nodes,
            cores: plan.cores,
            shards: plan.shards,
            keys: plan.keys.clone(),
            mutant: setting.mutant.map(str::to_owned),
        };
        let disks = Disks::mount(directory, setting.notes.clone(), &plan.disks)?;
        let elsewhere = disks.data();
        let mut nodes = Nodes::format(setting.program, directory, addresses, settings, elsewhere)?;
        let formatted = formatted(&nodes)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(system("a runtime"))?;
        let (weather, sky) = watch::channel(Arc::new(Weather::default()));
        let size = (plan.nodes, plan.cores);
        let proxies = Proxies::start(addresses, size, &sky, plan.random.fork());
        let proxies = runtime
            .block_on(proxies)
            .map_err(system("listening on loopback"))?;
        for node in nodes.numbers() {
            nodes.start(node)?;
        }
        nodes.await_leaders()?;
        let map = map_of(&formatted[&1]);
        let field = Field::new(
            &nodes,
            addresses,
            map,
            plan.clients,
            plan.timeout,
            plan.think_ms_max,
            plan.has(FaultKind::Corrupt),
        );
        let shards = field.map.shards().iter().map(|location| location.shard);
        let histories = shards.map(|shard| (shard, ShardHistory::new(shard)));
        Ok(Round {
            directories: directories_of(&field.map),
            histories: histories.collect(),
            field: Arc::new(field),
            counters: Arc::clone(&proxies.counters),
            _proxies: proxies,
            witness: Witness::new(&formatted),
            report: RoundReport::of(setting.seed, &plan),
            setting,
            plan,
            runtime,
            nodes,
            weather,
            disks,
        })
    }

    fn run(&mut self) -> Result<(), Cause> {
        let clients = self.start_clients();
        let done = self.go_wrong()?;
        let recovered = self.await_recovery();
        std::thread::sleep(BUSY_CALM);
        let joined = self.join_clients(clients);
        self.note_waits(&done);
        recovered?;
        joined?;
        self.read_everything()?;
        let applied = self.await_agreement()?;
        self.end_nodes()?;
        self.judge(&applied)
    }

    // ---- Clients ----

    fn client(&mut self, number: usize) -> Client {
        let random = &mut self.plan.random;
        let first = (number as u64 + 1) * VALUES_PER_CLIENT;
        let workload = Workload::new(random.fork(), VALUES)
            .with_directories(self.directories.concat())
            .with_first_value(first);
        Client::new(number, Arc::clone(&self.field), workload, random.fork())
    }

    fn start_clients(&mut self) -> JoinSet<Client> {
        let mut tasks = JoinSet::new();
        for number in 0..self.plan.clients {
            let client = self.client(number);
            tasks.spawn_on(client.run(), self.runtime.handle());
        }
        tasks
    }

    fn join_clients(&mut self, mut clients: JoinSet<Client>) -> Result<(), Cause> {
        self.field.end();
        let by = Instant::now() + CALM;
        while !clients.is_empty() {
            let joined = self
                .runtime
                .block_on(async { tokio::time::timeout_at(by, clients.join_next()).await });
            let Ok(Some(client)) = joined else {
                return Err(starved("a client"));
            };
            self.note_client(client.expect("a client does not panic"))?;
        }
        Ok(())
    }

    /// What a client was told becomes a part of the history.
    fn note_client(&mut self, client: Client) -> Result<(), Cause> {
        self.report.tally.add(&client.tally);
        for (shard, seen) in client.seen {
            let history = self.histories.get_mut(&shard);
            history.expect("the cluster has the shard").add(seen);
        }
        match client.bad {
            None => Ok(()),
            Some(what) => Err(Cause::BadAnswer(what)),
        }
    }

    // ---- Faults, and the calm behind them ----

    fn go_wrong(&mut self) -> Result<Done, Cause> {
        let mut nemesis = Nemesis::new(
            &mut self.nodes,
            &self.weather,
            (&mut self.witness, &mut self.disks),
            &self.plan,
        );
        let ran = nemesis.run().and_then(|()| nemesis.heal());
        let done = nemesis.done;
        self.report.faults.clone_from(&done.counts);
        self.report.lines.clone_from(&done.lines);
        ran.map(|()| done)
    }

    /// Everybody must be answered: every client something that it began to ask after the last fault, a write of every
    /// shard, and a read of every shard by every node.
    fn await_recovery(&mut self) -> Result<(), Cause> {
        let healed = Instant::now();
        let by = healed + CALM;
        let mut prober = self.client(self.plan.clients);
        let mut wanted: Vec<(Vec<u8>, Option<NodeId>)> = Vec::new();
        for directories in &self.directories {
            wanted.push((directories[0].clone(), None));
            let nodes = self.nodes.numbers().map(NodeId);
            wanted.extend(nodes.map(|node| (directories[0].clone(), Some(node))));
        }
        for (directory, node) in wanted {
            let what = match node {
                None => format!("a write to {}", String::from_utf8_lossy(&directory)),
                Some(node) => format!(
                    "a read of {} by node {node}",
                    String::from_utf8_lossy(&directory)
                ),
            };
            let asking = async {
                loop {
                    let is_answered = match node {
                        None => prober.probe(&directory).await,
                        Some(_) => prober.ask(range_of(&directory), node).await,
                    };
                    if is_answered || prober.bad.is_some() {
                        return;
                    }
                }
            };
            let asked = self
                .runtime
                .block_on(async { tokio::time::timeout_at(by, asking).await });
            self.nodes.check()?;
            if asked.is_err() {
                return Err(starved(&what));
            }
        }
        while let Some(client) = self.field.forgotten_since(healed) {
            if Instant::now() > by {
                return Err(starved(&format!("client {client}")));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.report.recovery = Recovery::After(healed.elapsed());
        // It asks aside of the others, and is as good a witness.
        self.note_client(prober)
    }

    /// How long writes stood still after a leader was killed.
    fn note_waits(&mut self, done: &Done) {
        for killed in &done.leaders_killed {
            for &shard in &killed.shards {
                let Some(wait) = self.field.wait_for_write(shard, killed.at) else {
                    continue;
                };
                self.report.waits.push(wait);
                if done.was_alone(killed, killed.at + wait) {
                    self.report.waits_alone.push(wait);
                }
            }
        }
    }

    /// Reads everything, from every node, so that what unknown outcomes left is seen.
    fn read_everything(&mut self) -> Result<(), Cause> {
        let by = Instant::now() + CALM;
        let mut reader = self.client(self.plan.clients + 1);
        let nodes: Vec<NodeId> = self.nodes.numbers().map(NodeId).collect();
        for directory in self.directories.concat() {
            for &node in &nodes {
                let reading = reader.ask(range_of(&directory), Some(node));
                let read = self
                    .runtime
                    .block_on(async { tokio::time::timeout_at(by, reading).await });
                if read != Ok(true) {
                    let directory = String::from_utf8_lossy(&directory);
                    let bad = reader.bad.take().map(Cause::BadAnswer);
                    return Err(bad.unwrap_or_else(|| {
                        starved(&format!("a read of {directory} by node {node}"))
                    }));
                }
            }
        }
        self.note_client(reader)
    }

    /// Waits until all replicas have applied the same; tells how far. Nobody asks for anything.
    fn await_agreement(&mut self) -> Result<Applied, Cause> {
        let by = Instant::now() + CALM;
        loop {
            self.nodes.check()?;
            let (shard, standing) = match self.standing().map(|standing| compare(&standing)) {
                Some(Ok(Agreement::Same(applied))) => return Ok(applied),
                Some(Ok(Agreement::Apart(shard, standing))) => (shard, standing),
                Some(Err(cause)) => return Err(cause),
                None => (ShardId(0), "a node does not answer".to_owned()),
            };
            if Instant::now() > by {
                return Err(Cause::Apart {
                    shard,
                    seconds: CALM.as_secs(),
                    standing,
                });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// How the replicas of all nodes stand; `None` while one of them does not answer.
    fn standing(&self) -> Option<BTreeMap<u32, Vec<ReplicaStatus>>> {
        let of_node = |node| {
            let statuses = self.nodes.statuses(node)?.into_iter();
            Some((node, statuses.flat_map(|status| status.replicas).collect()))
        };
        self.nodes.numbers().map(of_node).collect()
    }

    // ---- The end ----

    fn end_nodes(&mut self) -> Result<(), Cause> {
        for node in self.nodes.numbers() {
            match self.plan.ending {
                Ending::Asked => self.nodes.stop(node)?,
                Ending::Killed => self.nodes.kill(node)?,
            }
        }
        self.report.hurried_stops = self.nodes.hurried_stops;
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        self.report.connections = load(&self.counters.connections);
        self.report.corrupted = load(&self.counters.corrupted);
        self.report.broken = load(&self.counters.broken);
        self.report.half_closed = load(&self.counters.half_closed);
        self.report.reset = load(&self.counters.reset);
        self.report.swallowed_bytes = load(&self.counters.swallowed_bytes);
        Ok(())
    }

    /// Holds logs against each other, and what clients were told against them.
    fn judge(&mut self, applied: &Applied) -> Result<(), Cause> {
        for node in self.nodes.numbers() {
            self.nodes.verify(node)?;
            let data = self.nodes.data(node);
            self.witness.conclude(node, &data, &applied[&node])?;
        }
        self.report.judged = judge(&self.histories, &|shard| self.witness.log_of(shard))?;
        let Tally {
            succeeded,
            failed,
            unknown,
            ..
        } = self.report.tally;
        let all = succeeded + failed + unknown;
        if succeeded * 100 < all * SUCCEEDED_PERCENT_MIN {
            return Err(Cause::Idle { succeeded, all });
        }
        Ok(())
    }

    /// Writes down what was done and what clients were told.
    fn write_down(&self) -> std::io::Result<()> {
        let directory = &self.setting.directory;
        let mut text = format!("{:#?}\n", self.plan);
        for line in &self.report.lines {
            text += &format!("{line}\n");
        }
        fs::write(directory.join("faults.txt"), text)?;
        let mut text = String::new();
        for (shard, history) in &self.histories {
            for operation in history.operations() {
                text += &format!("{shard} {operation:?}\n");
            }
        }
        fs::write(directory.join("history.txt"), text)
    }
}

fn starved(who: &str) -> Cause {
    Cause::Starved {
        who: who.to_owned(),
        seconds: CALM.as_secs(),
    }
}

/// Everything in a directory.
fn range_of(directory: &[u8]) -> Operation {
    Operation::Range(RangeOf {
        prefix: directory.to_vec(),
        scope: Scope::Children { separator: b'/' },
        ..RangeOf::everything()
    })
}

/// Where every shard is, on the node that was formatted so.
fn map_of(formatted: &Formatted) -> ShardMap {
    let mut locations: Vec<ShardLocation> = formatted
        .replicas
        .iter()
        .map(|resident| ShardLocation {
            shard: resident.shard,
            core: resident.core,
        })
        .collect();
    locations.sort_by_key(|location| location.shard);
    ShardMap::split_evenly(locations).expect("a few shards")
}

/// Directories for each shard to have some.
fn directories_of(map: &ShardMap) -> Vec<Vec<Vec<u8>>> {
    let of_shard = |shard| {
        let names = (0..).map(|number: u64| format!("/d{number}/").into_bytes());
        let here = names.filter(|name| shard_of(map, name) == shard);
        here.take(DIRECTORIES_PER_SHARD).collect()
    };
    let shards = map.shards().iter();
    shards.map(|location| of_shard(location.shard)).collect()
}
