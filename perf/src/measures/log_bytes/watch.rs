//! Looks at a store while it is loaded.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::PerfError;
use crate::measures::OwnStore;
use crate::measures::data_files::DataFiles;
use crate::store::Store;

/// Time between looks.
const PAUSE: Duration = Duration::from_millis(50);

/// One look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    /// Commands that were applied since the start.
    pub(super) puts: u64,
    /// By the kernel's account of the process since its start.
    pub(super) written_bytes: u64,
    /// By the store's count since the start.
    pub(super) record_bytes: u64,
    /// Size of the log as the store tells it.
    pub(super) log_bytes: u64,
    pub(super) budget_bytes: u64,
    /// Finished snapshots that were seen so far, those that are gone included.
    pub(super) snapshots_seen: u64,
    pub(super) snapshot_bytes: u64,
    /// Files that are being written.
    pub(super) unfinished_bytes: u64,
}

/// A thread that looks at a store until it is told to end.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), PerfError>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_ending: AtomicBool,
    samples: Mutex<Vec<Sample>>,
}

impl Sample {
    /// Whether more was written than the segments hold: each has been used.
    pub(super) fn has_used_every_segment(&self) -> bool {
        self.record_bytes >= self.log_bytes
    }

    /// Size of the log over its budget.
    pub(super) fn budget_share(&self) -> f64 {
        self.log_bytes as f64 / self.budget_bytes.max(1) as f64
    }
}

impl Watch {
    /// Begins to look.
    pub(super) fn start(own: &OwnStore) -> Result<Watch, PerfError> {
        let store = own.node.connect()?;
        let data = own.node.data();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || look(store, &data, &theirs));
        Ok(Watch { shared, thread })
    }

    /// What was seen so far.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.shared.samples().clone()
    }

    /// Looks no more.
    pub(super) fn end(self) -> Result<Vec<Sample>, PerfError> {
        self.shared.is_ending.store(true, Ordering::Release);
        self.thread.join().expect("looking does not panic")?;
        Ok(self.shared.samples().clone())
    }
}

impl Shared {
    fn samples(&self) -> std::sync::MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(mut store: Store, data: &std::path::Path, shared: &Shared) -> Result<(), PerfError> {
    let started = Instant::now();
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    while !shared.is_ending.load(Ordering::Acquire) {
        let files = DataFiles::of(data)?;
        seen.extend(files.snapshot_paths.iter().cloned());
        let observation = store.observe()?;
        let statuses = observation.statuses();
        let log = |of: fn(&metastore_net::LogStatus) -> u64| -> u64 {
            statuses.iter().map(|status| of(&status.log)).sum()
        };
        shared.samples().push(Sample {
            seconds: started.elapsed().as_secs_f64(),
            puts: observation.counter("commands_applied"),
            written_bytes: observation.written_bytes().unwrap_or(0),
            record_bytes: log(|log| log.record_bytes),
            log_bytes: log(|log| log.used_bytes),
            budget_bytes: log(|log| log.budget_bytes),
            snapshots_seen: seen.len() as u64,
            snapshot_bytes: files.snapshot_bytes,
            unfinished_bytes: files.unfinished_bytes,
        });
        thread::sleep(PAUSE);
    }
    Ok(())
}
