//! The store under load, seen from outside: its cores, its own counters, its process and its disk.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use metastore_net::StatusReply;
use metastore_net::blocking::{Client, ClientError, ConnectOptions};
use metastore_wal::device::{BlockDeviceFlushes, DeviceError, WriteCache};
use serde::{Deserialize, Serialize};

use crate::process::{ProcessError, ProcessId, ProcessUse};

/// How long an answer of the store may take while it is under load.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a store is given to prepare its segments.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// Looks at a store that must show the same segments one after the other.
const SETTLED_LOOKS: u32 = 3;

/// Time between these looks.
const SETTLE_PAUSE: Duration = Duration::from_millis(250);

/// Why a store cannot be observed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the store names the address {address:?}, which cannot be used")]
    Address { address: String },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Connections to every core of a store, for questions and not for load.
#[derive(Debug)]
pub(crate) struct Store {
    /// One a core, in the order of the shard map.
    cores: Vec<Client>,
    addresses: Vec<SocketAddr>,
    process: Option<ProcessId>,
    disk: Option<BlockDeviceFlushes>,
}

/// A look at every counter.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    statuses: Vec<StatusReply>,
    process: Option<ProcessUse>,
    device_flushes: Option<u64>,
}

/// What a store has spent on a number of operations. What could not be observed is absent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct Costs {
    pub(crate) operations: u64,
    #[serde(skip)]
    pub(crate) server_cpu: Option<Duration>,
    pub(crate) server_cpu_us_per_operation: Option<f64>,
    /// By the kernel's account of the process.
    pub(crate) written_bytes_per_operation: Option<f64>,
    /// Durable writes of the logs of all cores, by the store's own count.
    pub(crate) durable_writes: u64,
    /// Writes of the logs' watermarks alone, by the store's own count; each is flushed too.
    pub(crate) mark_writes: u64,
    pub(crate) durable_writes_per_operation: f64,
    /// Of a store that counts them: heap allocations of the whole process.
    pub(crate) allocations_per_operation: Option<f64>,
    /// Flushes of the disk, by the kernel's count; those that others caused included.
    pub(crate) device_flushes: Option<u64>,
}

impl Store {
    /// Connects to the store at an address and to all cores that it names.
    pub(crate) fn connect(address: &str) -> Result<Store, StoreError> {
        let mut first = connect(address)?;
        let map = first.shard_map()?;
        let mut names: Vec<String> = Vec::new();
        for shard in map.shards {
            if !names.contains(&shard.address) {
                names.push(shard.address);
            }
        }
        let mut store = Store {
            cores: Vec::with_capacity(names.len()),
            addresses: Vec::with_capacity(names.len()),
            process: None,
            disk: None,
        };
        for name in names {
            store.addresses.push(resolve(&name)?);
            store.cores.push(connect(&name)?);
        }
        Ok(store)
    }

    /// Observes this process as the store's, or the one that listens at its address.
    pub(crate) fn watch_process(&mut self, process: Option<ProcessId>) -> Result<(), StoreError> {
        let process = match process {
            Some(process) => process,
            None => ProcessId::listening_at(self.addresses[0])?,
        };
        process.usage()?;
        self.process = Some(process);
        Ok(())
    }

    /// Observes the disk that holds the store's data.
    pub(crate) fn watch_disk(&mut self, data: &Path) -> Result<(), StoreError> {
        let disk = BlockDeviceFlushes::of(data)?;
        disk.completed()?;
        self.disk = Some(disk);
        Ok(())
    }

    /// Where load is sent: one address a core.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The first core's client.
    pub(crate) fn first(&mut self) -> &mut Client {
        &mut self.cores[0]
    }

    /// Looks at every counter.
    pub(crate) fn observe(&mut self) -> Result<Observation, StoreError> {
        let statuses = self.cores.iter_mut().map(Client::status);
        let statuses = statuses.collect::<Result<Vec<StatusReply>, ClientError>>()?;
        let process = self.process.map(ProcessId::usage).transpose()?;
        let flushes = self.disk.as_ref().map(BlockDeviceFlushes::completed);
        Ok(Observation {
            statuses,
            process,
            device_flushes: flushes.transpose()?,
        })
    }

    /// Waits until the store writes nothing on its own: segments that are filled with zeros meanwhile would disturb
    /// what is measured.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        let started = Instant::now();
        let mut last = None;
        let mut same = 0;
        while same < SETTLED_LOOKS && started.elapsed() < SETTLE_MAX {
            let observation = self.observe()?;
            let logs = observation.statuses().iter().map(|status| &status.log);
            let segments: Vec<(u32, u32)> = logs.map(|log| (log.segments, log.spares)).collect();
            same = if last.as_ref() == Some(&segments) {
                same + 1
            } else {
                0
            };
            last = Some(segments);
            thread::sleep(SETTLE_PAUSE);
        }
        Ok(())
    }

    /// Memory that the store's process has, if that is observed.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        self.process?.resident_bytes()
    }

    /// How the disk makes writes durable, if it is observed.
    pub(crate) fn write_cache(&self) -> Option<DiskCache> {
        self.disk.as_ref().and_then(DiskCache::of)
    }
}

/// What a disk does with a durable write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskCache {
    /// It flushes its volatile cache, which is counted.
    Volatile,
    /// It can write past its volatile cache, which is not counted.
    Bypassed,
    /// It has no volatile cache: there is nothing to flush and nothing to count.
    Absent,
}

/// Whether the disk bears out the store's own count of durable writes, the best news first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FlushCheck {
    /// The disk has flushed at least as often as the store says.
    Confirmed,
    /// The disk has no volatile cache.
    NoVolatileCache,
    /// The disk may write past its cache without counting.
    NotCounted,
    /// The disk is not observed.
    NotObserved,
    /// The disk has flushed less often than the store says.
    Contradicted,
}

impl DiskCache {
    /// What the kernel knows of a disk, if it does.
    pub(crate) fn of(disk: &BlockDeviceFlushes) -> Option<DiskCache> {
        Some(
            match (disk.write_cache().ok()?, disk.has_forced_writes().ok()?) {
                (WriteCache::WriteThrough, _) => DiskCache::Absent,
                (WriteCache::WriteBack, true) => DiskCache::Bypassed,
                (WriteCache::WriteBack, false) => DiskCache::Volatile,
            },
        )
    }

    /// The kind in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            DiskCache::Volatile => "write back, flushed",
            DiskCache::Bypassed => "write back, forced writes possible",
            DiskCache::Absent => "write through (no volatile cache)",
        }
    }
}

impl FlushCheck {
    /// Judges one count of durable writes.
    pub(crate) fn of(costs: &Costs, cache: Option<DiskCache>) -> FlushCheck {
        match (cache, costs.device_flushes) {
            (None, _) | (_, None) => FlushCheck::NotObserved,
            (Some(DiskCache::Absent), _) => FlushCheck::NoVolatileCache,
            (Some(_), Some(flushes)) if flushes >= costs.durable_writes => FlushCheck::Confirmed,
            (Some(DiskCache::Bypassed), _) => FlushCheck::NotCounted,
            (Some(DiskCache::Volatile), _) => FlushCheck::Contradicted,
        }
    }

    /// The judgement in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            FlushCheck::Confirmed => "confirmed by the disk's own count",
            FlushCheck::Contradicted => "CONTRADICTED: the disk has flushed less often",
            FlushCheck::NoVolatileCache => "the disk has no volatile cache",
            FlushCheck::NotCounted => "the disk writes past its cache, which it does not count",
            FlushCheck::NotObserved => "the disk was not observed",
        }
    }
}

impl Costs {
    /// What a process has used for `operations`, where nothing else is known of a system.
    pub(crate) fn of_process(used: &ProcessUse, operations: u64) -> Costs {
        let each = |amount: f64| amount / operations.max(1) as f64;
        Costs {
            operations,
            server_cpu: Some(used.cpu),
            server_cpu_us_per_operation: Some(each(used.cpu.as_secs_f64() * 1e6)),
            written_bytes_per_operation: used.written_bytes.map(|bytes| each(bytes as f64)),
            ..Costs::default()
        }
    }
}

impl Observation {
    /// The status of each core.
    pub(crate) fn statuses(&self) -> &[StatusReply] {
        &self.statuses
    }

    /// How the store makes writes durable, in its own word.
    pub(crate) fn flush_method(&self) -> String {
        let first = self.statuses.first();
        first.map_or_else(String::new, |status| status.log.flush_method.clone())
    }

    /// A counter of the whole process, which every core tells alike.
    fn process_counter(&self, name: &str) -> Option<u64> {
        let counters = &self.statuses.first()?.counters;
        let counter = counters.iter().find(|counter| counter.name == name)?;
        Some(counter.value)
    }

    /// A counter that each core has for itself, over all of them.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let counters = self.statuses.iter().flat_map(|status| &status.counters);
        let named = counters.filter(|counter| counter.name == name);
        named.map(|counter| counter.value).sum()
    }

    /// Bytes that the store's process has caused to be written since its start.
    pub(crate) fn written_bytes(&self) -> Option<u64> {
        self.process?.written_bytes
    }

    /// Heap allocations since the start, if the store counts them.
    pub(crate) fn allocations(&self) -> Option<u64> {
        self.process_counter("process_allocations")
    }

    /// Bytes that are allocated at present, if the store counts them.
    pub(crate) fn live_bytes(&self) -> Option<u64> {
        let allocated = self.process_counter("process_allocated_bytes")?;
        Some(allocated.saturating_sub(self.process_counter("process_freed_bytes")?))
    }

    /// CPU time of the store's process since its start.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.process.map(|process| process.cpu)
    }

    /// What was spent between two looks on `operations`.
    pub(crate) fn costs_since(&self, earlier: &Observation, operations: u64) -> Costs {
        let sum = |observation: &Observation, count: fn(&StatusReply) -> u64| -> u64 {
            observation.statuses.iter().map(count).sum()
        };
        let grown = |count| sum(self, count).saturating_sub(sum(earlier, count));
        let durable_writes = grown(|status| status.log.durable_writes);
        let each = |amount: f64| amount / operations.max(1) as f64;
        let process = self.process.zip(earlier.process);
        let used = process.map(|(now, then)| now.since(&then));
        let flushes = self.device_flushes.zip(earlier.device_flushes);
        let allocations = self.allocations().zip(earlier.allocations());
        Costs {
            operations,
            server_cpu: used.map(|used| used.cpu),
            server_cpu_us_per_operation: used.map(|used| each(used.cpu.as_secs_f64() * 1e6)),
            written_bytes_per_operation: used
                .and_then(|used| used.written_bytes)
                .map(|bytes| each(bytes as f64)),
            durable_writes,
            mark_writes: grown(|status| status.log.marks),
            durable_writes_per_operation: each(durable_writes as f64),
            allocations_per_operation: allocations
                .map(|(now, then)| each(now.saturating_sub(then) as f64)),
            device_flushes: flushes.map(|(now, then)| now.saturating_sub(then)),
        }
    }
}

fn connect(address: &str) -> Result<Client, ClientError> {
    let options = ConnectOptions {
        timeout: ANSWER_TIMEOUT,
        client_name: "metastore-perf",
        ..ConnectOptions::default()
    };
    Client::connect_with(address, &options)
}

fn resolve(address: &str) -> Result<SocketAddr, StoreError> {
    let unusable = || StoreError::Address {
        address: address.to_owned(),
    };
    let mut found = address.to_socket_addrs().map_err(|_| unusable())?;
    found.next().ok_or_else(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(durable_writes: u64, cpu_ms: u64, flushes: u64) -> Observation {
        let mut status = StatusReply::default();
        status.log.durable_writes = durable_writes;
        status.log.marks = 3;
        Observation {
            statuses: vec![status.clone(), status],
            process: Some(ProcessUse {
                cpu: Duration::from_millis(cpu_ms),
                written_bytes: Some(4_096 * durable_writes),
            }),
            device_flushes: Some(flushes),
        }
    }

    #[test]
    fn costs_are_differences_over_all_cores_per_operation() {
        let before = observation(10, 100, 1_000);
        let after = observation(60, 600, 1_200);
        let costs = after.costs_since(&before, 1_000);
        assert_eq!(costs.durable_writes, 100);
        assert_eq!(costs.mark_writes, 0);
        assert!((costs.durable_writes_per_operation - 0.1).abs() < 1e-9);
        assert!((costs.server_cpu_us_per_operation.unwrap() - 500.0).abs() < 1e-6);
        assert!((costs.written_bytes_per_operation.unwrap() - 204.8).abs() < 1e-6);
        assert_eq!(costs.device_flushes, Some(200));
    }

    #[test]
    fn the_disk_is_asked_only_where_it_counts() {
        let of = |durable_writes, device_flushes, cache| {
            let costs = Costs {
                durable_writes,
                device_flushes,
                ..Costs::default()
            };
            FlushCheck::of(&costs, cache)
        };
        let back = Some(DiskCache::Volatile);
        assert_eq!(of(100, Some(100), back), FlushCheck::Confirmed);
        assert_eq!(of(100, Some(99), back), FlushCheck::Contradicted);
        let forced = Some(DiskCache::Bypassed);
        assert_eq!(of(100, Some(99), forced), FlushCheck::NotCounted);
        let through = Some(DiskCache::Absent);
        assert_eq!(of(100, Some(0), through), FlushCheck::NoVolatileCache);
        assert_eq!(of(100, None, back), FlushCheck::NotObserved);
        assert_eq!(of(100, Some(100), None), FlushCheck::NotObserved);
    }
}
