//! The store under load, seen from outside: its cores, its own counters, its processes and its disk.
//!
//! A cluster is seen as one store: all cores of all nodes, all processes, and who leads which keys.

mod flush_check;
mod observation;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use metastore_net::blocking::{Client, ClientError, ConnectOptions};
use metastore_net::{ShardMapReply, StatusReply};
use metastore_wal::device::{BlockDeviceFlushes, DeviceError};

use crate::process::{ProcessError, ProcessId, ProcessUse};
use crate::routes::{RouteError, Routes, resolve};
use crate::system::Target;
pub(crate) use flush_check::{DiskCache, FlushCheck};
pub(crate) use observation::{Costs, Observation};

/// How long an answer of the store may take while it is under load.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a store is given to prepare its segments, and a cluster to find its leaders.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// Looks at a store that must show the same segments and leaders one after the other.
const SETTLED_LOOKS: u32 = 3;

/// Time between these looks.
const SETTLE_PAUSE: Duration = Duration::from_millis(250);

/// Why a store cannot be observed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("{found} of {wanted} nodes are there")]
    NodesMissing { found: usize, wanted: usize },
    #[error("a shard has no leader")]
    NoLeader,
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Connections to every core of a store, for questions and not for load.
#[derive(Debug)]
pub(crate) struct Store {
    /// One a core: those that lead first, in the order of the shard map.
    cores: Vec<Client>,
    /// One a core, in the same order.
    addresses: Vec<SocketAddr>,
    /// Of a cluster.
    routes: Option<Routes>,
    /// A core that is known not to run, and is left alone.
    away: Option<SocketAddr>,
    /// Those that are observed.
    processes: Vec<ProcessId>,
    disk: Option<BlockDeviceFlushes>,
}

impl Store {
    /// Connects to the store at an address and to all cores that it names.
    pub(crate) fn connect(address: &str) -> Result<Store, StoreError> {
        Store::connect_to(address, None)
    }

    /// As [`Store::connect`], leaving one core alone that does not run.
    pub(crate) fn connect_without(address: &str, away: SocketAddr) -> Result<Store, StoreError> {
        Store::connect_to(address, Some(away))
    }

    fn connect_to(address: &str, away: Option<SocketAddr>) -> Result<Store, StoreError> {
        let mut first = connect(address)?;
        let map = first.shard_map()?;
        let mut store = Store {
            cores: Vec::new(),
            addresses: Vec::new(),
            routes: Routes::of(&map)?,
            away,
            processes: Vec::new(),
            disk: None,
        };
        for name in names_of(&map) {
            store.add_core(&name)?;
        }
        if store.routes.is_some() {
            store.add_unnamed_cores()?;
        }
        Ok(store)
    }

    fn add_core(&mut self, name: &str) -> Result<(), StoreError> {
        let address = resolve(name)?;
        if self.away != Some(address) && !self.addresses.contains(&address) {
            self.cores.push(connect(name)?);
            self.addresses.push(address);
        }
        Ok(())
    }

    /// A map names no core that has no replica; its node does.
    fn add_unnamed_cores(&mut self) -> Result<(), StoreError> {
        let named = self.addresses.iter().zip(&self.cores);
        let all: BTreeSet<SocketAddr> = named
            .flat_map(|(address, core)| {
                let info = &core.server().info;
                let ports =
                    (0..info.core_count).filter_map(|core| info.first_port.checked_add(core));
                ports.map(|port| SocketAddr::new(address.ip(), port))
            })
            .collect();
        all.iter()
            .try_for_each(|core| self.add_core(&core.to_string()))
    }

    /// Observes this process as the store's, or all that listen at its addresses.
    pub(crate) fn watch_process(&mut self, process: Option<ProcessId>) -> Result<(), StoreError> {
        let mut processes = Vec::new();
        match (process, &self.routes) {
            (Some(process), _) => processes.push(process),
            (None, None) => processes.push(ProcessId::listening_at(self.addresses[0])?),
            (None, Some(_)) => {
                for &address in &self.addresses {
                    let process = ProcessId::listening_at(address)?;
                    if !processes.contains(&process) {
                        processes.push(process);
                    }
                }
            }
        }
        ProcessUse::of_all(&processes)?;
        self.processes = processes;
        Ok(())
    }

    /// Observes the disk that holds the store's data.
    pub(crate) fn watch_disk(&mut self, data: &Path) -> Result<(), StoreError> {
        let disk = BlockDeviceFlushes::of(data)?;
        disk.completed()?;
        self.disk = Some(disk);
        Ok(())
    }

    /// One address a core.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where load is sent.
    pub(crate) fn target(&self) -> Target<'_> {
        Target {
            routes: self.routes.as_ref(),
            ..Target::metastore(&self.addresses)
        }
    }

    /// The processes that are observed.
    pub(crate) fn processes(&self) -> &[ProcessId] {
        &self.processes
    }

    /// The client of the core that leads a key, or of the first one where every core takes everything.
    pub(crate) fn core_for(&mut self, key: &[u8]) -> &mut Client {
        let place = self.routes.as_ref().and_then(|routes| {
            let leader = routes.leader(routes.shard_of(key));
            self.addresses.iter().position(|&core| core == leader)
        });
        &mut self.cores[place.unwrap_or(0)]
    }

    /// Asks a cluster anew who leads what.
    pub(crate) fn refresh_routes(&mut self) -> Result<(), StoreError> {
        if self.routes.is_some() {
            let map = self.cores[0].shard_map()?;
            for name in names_of(&map) {
                self.add_core(&name)?;
            }
            self.routes = Routes::of(&map)?;
        }
        Ok(())
    }

    /// Whether so many nodes are there and every shard is led.
    pub(crate) fn check_complete(&mut self, nodes: usize) -> Result<(), StoreError> {
        let observation = self.observe()?;
        let found = observation.nodes();
        if found < nodes {
            return Err(StoreError::NodesMissing {
                found,
                wanted: nodes,
            });
        }
        match observation.is_led() {
            true => Ok(()),
            false => Err(StoreError::NoLeader),
        }
    }

    /// Looks at every counter.
    pub(crate) fn observe(&mut self) -> Result<Observation, StoreError> {
        let statuses = self.cores.iter_mut().map(Client::status);
        let statuses = statuses.collect::<Result<Vec<StatusReply>, ClientError>>()?;
        let is_watched = !self.processes.is_empty();
        let process = is_watched.then(|| ProcessUse::of_all(&self.processes));
        let flushes = self.disk.as_ref().map(BlockDeviceFlushes::completed);
        Ok(Observation {
            statuses,
            process: process.transpose()?,
            device_flushes: flushes.transpose()?,
        })
    }

    /// Waits until the store writes nothing on its own, and leaders stay where they are: segments that are filled with
    /// zeros meanwhile would disturb what is measured, and so would an election.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        let started = Instant::now();
        let mut last = None;
        let mut same = 0;
        while same < SETTLED_LOOKS && started.elapsed() < SETTLE_MAX {
            let observation = self.observe()?;
            let logs = observation.statuses().iter().map(|status| &status.log);
            let segments: Vec<(u32, u32)> = logs.map(|log| (log.segments, log.spares)).collect();
            let found = (segments, observation.leads());
            let is_same = last.as_ref() == Some(&found) && observation.is_led();
            same = if is_same { same + 1 } else { 0 };
            last = Some(found);
            thread::sleep(SETTLE_PAUSE);
        }
        self.refresh_routes()
    }

    /// Memory that the store's processes have, if they are observed.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let processes = self.processes.iter();
        let all: Option<Vec<u64>> = processes.map(|process| process.resident_bytes()).collect();
        all.filter(|all| !all.is_empty())
            .map(|all| all.iter().sum())
    }

    /// How the disk makes writes durable, if it is observed.
    pub(crate) fn write_cache(&self) -> Option<DiskCache> {
        self.disk.as_ref().and_then(DiskCache::of)
    }
}

/// The cores that a map names, each once: those that lead first, in the order of the shards.
fn names_of(map: &ShardMapReply) -> Vec<String> {
    let leaders = map.shards.iter().map(|shard| &shard.address);
    let followers = map.shards.iter().flat_map(|shard| &shard.followers);
    let mut names: Vec<String> = Vec::new();
    for name in leaders.chain(followers) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn connect(address: &str) -> Result<Client, ClientError> {
    let options = ConnectOptions {
        timeout: ANSWER_TIMEOUT,
        client_name: "metastore-perf",
        ..ConnectOptions::default()
    };
    Client::connect_with(address, &options)
}
