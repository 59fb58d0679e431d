//! Writers that never stop, a few for each shard, as programs that use the client library are: what becomes of a write
//! while its shard has no leader is up to the library.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metastore_net::async_client::{Client, ClientSettings, Error};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::error::PerfError;
use crate::routes::Routes;
use crate::store::Store;

/// Writers of each shard, each with one put under way.
const WRITERS_A_SHARD: usize = 4;

/// Keys of each writer.
const KEYS_A_WRITER: usize = 64;

/// Names that are tried for a key of each shard, at most: a shard of few slots has few of them.
const NAMES_MAX: u32 = 10_000_000;

const VALUE: [u8; 256] = [0x5a; 256];

/// Writers that run until this value ends.
#[derive(Debug)]
pub(super) struct Writers {
    progress: Arc<Mutex<Progress>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    runtime: Runtime,
}

/// What the writers were told since a mark.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    since: Instant,
    /// One a shard, in the order of the map.
    pub(super) shards: Vec<ShardProgress>,
    pub(super) outcomes: Outcomes,
    /// One of the writes that failed, in words.
    pub(super) failure: Option<String>,
}

/// What was acknowledged in one shard since the mark.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShardProgress {
    /// When the first write was acknowledged that began behind the mark.
    pub(super) first: Option<Duration>,
    /// The longest time without an acknowledgement.
    pub(super) longest_gap: Duration,
    last: Instant,
}

/// Writes since the mark by what became of them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Outcomes {
    pub(super) acknowledged: u64,
    /// It was sent, and its leader died.
    pub(super) unknown: u64,
    /// It certainly did not happen within its deadline.
    pub(super) failed: u64,
}

impl Writers {
    /// Lets the writers loose on all shards of a cluster.
    pub(super) fn start(store: &Store) -> Result<Writers, PerfError> {
        let routes = store.target().routes.cloned();
        let routes = routes.expect("a cluster has routes");
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.map_err(PerfError::Connections)?;
        let settings = ClientSettings {
            client_name: "metastore-perf".to_owned(),
            ..ClientSettings::default()
        };
        let addresses = store.addresses().iter().map(ToString::to_string);
        let client = runtime.block_on(Client::connect(addresses, settings));
        let client = client.map_err(|error| PerfError::Preparation {
            failure: error.to_string(),
        })?;
        let progress = Arc::new(Mutex::new(Progress::new(routes.shard_count())));
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = keys_of_shards(&routes).into_iter().enumerate();
        let tasks = tasks.flat_map(|(shard, keys)| {
            let writers = keys.chunks(KEYS_A_WRITER).map(<[Vec<u8>]>::to_vec);
            let writers: Vec<Vec<Vec<u8>>> = writers.collect();
            writers.into_iter().map(move |keys| (shard, keys))
        });
        let tasks = tasks.map(|(shard, keys)| {
            let (client, progress) = (client.clone(), Arc::clone(&progress));
            let stop = Arc::clone(&stop);
            runtime.spawn(async move { write(&client, shard, &keys, &progress, &stop).await })
        });
        Ok(Writers {
            tasks: tasks.collect(),
            progress,
            stop,
            runtime,
        })
    }

    /// What is told from now on counts.
    pub(super) fn mark(&self) -> Instant {
        let mut progress = lock(&self.progress);
        *progress = Progress::new(progress.shards.len());
        progress.since
    }

    /// What was told since the mark. A shard that waits for an acknowledgement now has waited for it until now.
    pub(super) fn progress(&self) -> Progress {
        let mut progress = lock(&self.progress).clone();
        for shard in &mut progress.shards {
            shard.longest_gap = shard.longest_gap.max(shard.last.elapsed());
        }
        progress
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            // Each ends with the write that is under way, which has a deadline.
            let _ended = self.runtime.block_on(task);
        }
    }
}

impl Progress {
    fn new(shards: usize) -> Progress {
        let since = Instant::now();
        let nothing = ShardProgress {
            first: None,
            longest_gap: Duration::ZERO,
            last: since,
        };
        Progress {
            since,
            shards: vec![nothing; shards],
            outcomes: Outcomes::default(),
            failure: None,
        }
    }

    /// Whether every shard has acknowledged something that began behind the mark.
    pub(super) fn is_everywhere(&self) -> bool {
        self.shards.iter().all(|shard| shard.first.is_some())
    }

    /// The longest time to the first acknowledgement of a shard, if all have one.
    pub(super) fn slowest_first(&self) -> Option<Duration> {
        let first = self.shards.iter().map(|shard| shard.first);
        first.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    fn acknowledge(&mut self, shard: usize, began: Instant, now: Instant) {
        self.outcomes.acknowledged += 1;
        let since = self.since;
        let shard = &mut self.shards[shard];
        shard.longest_gap = shard.longest_gap.max(now.duration_since(shard.last));
        shard.last = now;
        if began >= since {
            shard.first.get_or_insert(now.duration_since(since));
        }
    }
}

async fn write(
    client: &Client,
    shard: usize,
    keys: &[Vec<u8>],
    progress: &Mutex<Progress>,
    stop: &AtomicBool,
) {
    for key in keys.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let written = client.put(key, &VALUE).await;
        let now = Instant::now();
        let mut progress = lock(progress);
        match written {
            Ok(_) => progress.acknowledge(shard, began, now),
            Err(Error::OutcomeUnknown { .. }) => progress.outcomes.unknown += 1,
            Err(error) => {
                progress.outcomes.failed += 1;
                progress.failure.get_or_insert(error.to_string());
            }
        }
    }
}

/// Keys of each shard, in directories of their own, as many as its writers need.
fn keys_of_shards(routes: &Routes) -> Vec<Vec<Vec<u8>>> {
    let wanted = WRITERS_A_SHARD * KEYS_A_WRITER;
    let mut keys = vec![Vec::with_capacity(wanted); routes.shard_count()];
    for number in 0..NAMES_MAX {
        let key = format!("/failover-{number}/key").into_bytes();
        let of_shard = &mut keys[routes.shard_of(&key)];
        if of_shard.len() < wanted {
            of_shard.push(key);
        } else if keys.iter().all(|of_shard| of_shard.len() == wanted) {
            break;
        }
    }
    keys
}

/// A thread that panicked while it held the lock has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_began_behind_the_mark_is_the_first() {
        let mut progress = Progress::new(2);
        let at = |ms| progress.since + Duration::from_millis(ms);
        let (before, marks) = (
            progress.since - Duration::from_millis(1),
            [at(5), at(30), at(31)],
        );
        progress.acknowledge(0, before, marks[0]);
        assert_eq!(progress.shards[0].first, None);
        progress.acknowledge(0, marks[0], marks[1]);
        progress.acknowledge(0, marks[1], marks[2]);
        assert_eq!(progress.shards[0].first, Some(Duration::from_millis(30)));
        assert_eq!(progress.shards[0].longest_gap, Duration::from_millis(25));
        assert!(!progress.is_everywhere());
        assert_eq!(progress.slowest_first(), None);
        progress.acknowledge(1, marks[0], marks[2]);
        assert_eq!(progress.slowest_first(), Some(Duration::from_millis(31)));
        assert_eq!(progress.outcomes.acknowledged, 4);
    }
}
