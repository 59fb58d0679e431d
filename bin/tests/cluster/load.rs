//! Writers that note what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metastore_net::async_client::{Client, Error};
use tokio::task::JoinHandle;

/// Directories that the writers use, so that every shard has some.
pub(crate) const DIRECTORIES: u32 = 24;

/// Writers that run until they are stopped, each in a directory of its own, one write after the other.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Written>>,
}

/// What a writer was told.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The last value of each key that was acknowledged.
    pub(crate) acknowledged: BTreeMap<String, String>,
    /// Keys of which nobody said what became of them.
    pub(crate) unknown: Vec<String>,
    /// Writes that certainly failed, in words.
    pub(crate) failed: Vec<String>,
    /// The longest time between two acknowledgements.
    pub(crate) longest_gap: Duration,
}

impl Writers {
    pub(crate) fn start(client: &Client) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..DIRECTORIES)
            .map(|directory| tokio::spawn(write(client.clone(), directory, Arc::clone(&stop))));
        let tasks = tasks.collect();
        Writers { stop, tasks }
    }

    /// Has all of them end, and tells what they were told.
    pub(crate) async fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for task in self.tasks {
            let one = task.await.expect("a writer does not panic");
            all.acknowledged.extend(one.acknowledged);
            all.unknown.extend(one.unknown);
            all.failed.extend(one.failed);
            all.longest_gap = all.longest_gap.max(one.longest_gap);
        }
        all
    }
}

async fn write(client: Client, directory: u32, stop: Arc<AtomicBool>) -> Written {
    let mut written = Written::default();
    let mut last = Instant::now();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (format!("/d{directory}/k{number}"), format!("v{number}"));
        match client.put(&key, &value).await {
            Ok(_) => {
                written.acknowledged.insert(key, value);
                written.longest_gap = written.longest_gap.max(last.elapsed());
                last = Instant::now();
            }
            Err(Error::OutcomeUnknown { .. }) => written.unknown.push(key),
            Err(error) => written.failed.push(format!("{key}: {error}")),
        }
        // The machine has a few processors for all of them.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    written
}

impl Written {
    /// Every key that was acknowledged must be there, as `client` sees it.
    pub(crate) async fn check(&self, client: &Client) {
        assert!(!self.acknowledged.is_empty(), "nothing was written");
        for (key, value) in &self.acknowledged {
            let answer = client
                .get(key)
                .await
                .expect("a read of a cluster that is well");
            let row = answer
                .row
                .unwrap_or_else(|| panic!("{key} was acknowledged and is lost"));
            assert_eq!(row.value, value.as_bytes(), "{key}");
        }
    }
}
