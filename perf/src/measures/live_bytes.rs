//! How much memory the store takes for each key beyond the key and the value themselves, by its own allocator's count.
//!
//! Keys of 8 and values of 256 bytes are put once each. The difference is over a store that has none, so that buffers,
//! connections and the log's segments are not counted, but what the tree of keys leaves empty is. The history is
//! compacted before; what is left of it counts.

use std::thread;
use std::time::{Duration, Instant};

use metastore_statemachine::{NamespaceId, Revision};
use serde::Serialize;

use super::{Bench, Findings, PLAIN};
use crate::arguments::LiveBytesArguments;
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::keys::KeySpace;
use crate::latency::Spread;
use crate::operation::RequestMaker;
use crate::output::number;
use crate::preload::ensure_loaded;
use crate::store::{Store, StoreError};

/// What a key may take beyond itself and its value.
const OVERHEAD_BYTES_MAX: f64 = 160.0;

/// A compacted history may keep that much.
const HISTORY_BYTES_LEFT: u64 = 1 << 20;

/// How long freeing it may take.
const FREEING_MAX: Duration = Duration::from_secs(10);
const FREEING_PAUSE: Duration = Duration::from_millis(100);

const MIB: f64 = (1_u64 << 20) as f64;

/// Memory at one time.
#[derive(Debug, Clone, Copy, Serialize)]
struct Memory {
    live_bytes: u64,
    resident_bytes: Option<u64>,
    /// By the store's own accounts.
    state_bytes: u64,
    history_bytes: u64,
    keys: u64,
}

/// Measures on a new store of the bench in each round.
pub(super) fn measure_live_bytes(
    bench: &mut Bench<'_>,
    arguments: &LiveBytesArguments,
) -> Result<Findings, PerfError> {
    let keys = bench.effort.keys;
    let space = KeySpace::MEDIUM.within(arguments.directories);
    let content_bytes = (space.key_bytes + space.value_bytes) as f64;
    let each = |bytes: u64| bytes as f64 / keys as f64;
    let mut overheads = Vec::new();
    let mut resident = Vec::new();
    let mut details = Vec::new();
    // The count is the same each time but for timing: one store tells it, a second one that it does.
    let rounds = bench.effort.rounds.min(2);
    for number_of_round in 1..=rounds {
        let mut own = bench.start(PLAIN)?;
        own.store.settle()?;
        let before = Memory::of(&mut own.store)?;
        let mut requests = RequestMaker::new(keys);
        let loaded = ensure_loaded(&mut own.store, space, &mut requests)?;
        own.store.settle()?;
        let with_history = Memory::of(&mut own.store)?;
        compact(&mut own.store, space)?;
        let after = Memory::of(&mut own.store)?;
        let grown = after.live_bytes.saturating_sub(before.live_bytes);
        let overhead = each(grown) - content_bytes;
        bench.output.line(&format!(
            "round {number_of_round}: {keys} keys in {} s: {} MiB live, {} of them without keys, RSS {} MiB; {} bytes a \
             key beyond key and value, history of {} bytes a key included; {} before it was compacted",
            number(loaded.seconds),
            number(after.live_bytes as f64 / MIB),
            number(before.live_bytes as f64 / MIB),
            number(after.resident_bytes.unwrap_or(0) as f64 / MIB),
            number(overhead),
            number(each(after.history_bytes)),
            number(each(with_history.history_bytes)),
        ))?;
        overheads.push(overhead);
        let rss = after.resident_bytes.zip(before.resident_bytes);
        resident.extend(rss.map(|(now, then)| each(now.saturating_sub(then)) - content_bytes));
        details.push(serde_json::json!({
            "loaded": loaded,
            "before": before,
            "with_history": with_history,
            "after": after,
        }));
    }
    Ok(Findings {
        figures: vec![
            Figure::new(
                "live bytes a key beyond key and value",
                Target::AtMost(OVERHEAD_BYTES_MAX),
                Spread::of(overheads),
            ),
            Figure::new(
                "RSS bytes a key beyond key and value",
                Target::None,
                Spread::of(resident),
            ),
        ],
        rounds: details.len(),
        rounds_thrown_away: 0,
        details: serde_json::json!({ "directories": arguments.directories, "rounds": details }),
    })
}

/// Gives up the history of the only shard, and waits until its memory is free.
fn compact(store: &mut Store, space: KeySpace) -> Result<(), PerfError> {
    let revision = {
        let observation = store.observe()?;
        let mut replicas = observation
            .statuses()
            .iter()
            .flat_map(|status| &status.replicas);
        replicas.next().map_or(0, |replica| replica.revision)
    };
    let key = space.key(0);
    store
        .core_for(&key)
        .compact(NamespaceId::DEFAULT, &key, Revision(revision))
        .map_err(StoreError::from)?;
    let started = Instant::now();
    while Memory::of(store)?.history_bytes > HISTORY_BYTES_LEFT && started.elapsed() < FREEING_MAX {
        thread::sleep(FREEING_PAUSE);
    }
    Ok(())
}

impl Memory {
    fn of(store: &mut Store) -> Result<Memory, PerfError> {
        let observation = store.observe()?;
        let sum = |of: fn(&metastore_net::ReplicaStatus) -> u64| -> u64 {
            let replicas = observation
                .statuses()
                .iter()
                .flat_map(|status| &status.replicas);
            replicas.map(of).sum()
        };
        Ok(Memory {
            live_bytes: observation.live_bytes().ok_or(PerfError::NotCounting)?,
            resident_bytes: store.resident_bytes(),
            state_bytes: sum(|replica| replica.state_bytes),
            history_bytes: sum(|replica| replica.history_bytes),
            keys: sum(|replica| replica.keys),
        })
    }
}
