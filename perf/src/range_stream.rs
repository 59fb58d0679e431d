//! `metastore-perf range-stream`: one directory is read at one revision while writers change all of its keys.
//!
//! It checks every row against what was written, and tells what the store's memory and its slices of background work
//! made of it. The store holds the directory afterwards; a second run changes it further.

mod model;
mod watch;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use metastore_net::blocking::{Client, ClientError};
use metastore_net::{RangeRequest, Response};
use metastore_statemachine::{NamespaceId, RangeQuery, Revision, Scope};
use serde::Serialize;

use crate::arguments::{RangeStreamArguments, Reader};
use crate::error::{PerfError, Verdict};
use crate::output::{Output, Table};
use crate::process::{ProcessError, ProcessId};
use crate::store::{Store, StoreError};
use model::{Digest, Writer};
use watch::{Memory, SliceTimes};

/// The directory; the marker is the key behind all others.
const DIRECTORY: &[u8] = b"/range-stream/";
const MARKER: &[u8] = b"/range-stream/~";

/// Changes made before the measurement, more than the store remembers, so that its history has its full length.
const WARM_UP_WRITES: u64 = 200_000;
/// How long an answer may take while the store is under load.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a stream cannot be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RangeStreamError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the kernel does not tell how much memory the store has")]
    Resident,
    #[error("a write was refused: {0}")]
    Write(String),
    #[error("the range was refused: {0}")]
    Range(String),
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    keys: u64,
    rows: u64,
    is_right: bool,
    seconds: f64,
    row_bytes: u64,
    writes_meanwhile: u64,
    before: Memory,
    /// The most of each that was seen.
    highest: Memory,
    slices: Vec<SliceTimes>,
}

/// What the threads tell each other.
#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    writes: AtomicU64,
}

/// Loads the directory, streams it, and reports. Says whether the stream was right.
pub(crate) fn run(arguments: &RangeStreamArguments) -> Result<Verdict, PerfError> {
    let mut output = Output::new(arguments.json.clone());
    let report = measure(arguments, &mut output)?;
    report.print(&mut output)?;
    output.json(&report)?;
    Ok(match report.is_right {
        true => Verdict::Valid,
        false => Verdict::Invalid,
    })
}

fn measure(arguments: &RangeStreamArguments, output: &mut Output) -> Result<Report, PerfError> {
    let store = Store::connect(&arguments.connect)?;
    let addresses = store.addresses().to_vec();
    let process = match arguments.server_pid {
        Some(process) => process,
        None => ProcessId::listening_at(addresses[0]).map_err(RangeStreamError::from)?,
    };
    let mut writer = Writer::new(connect(&addresses)?, arguments.keys);
    writer.load()?;
    writer.change(WARM_UP_WRITES)?;
    output.line(&format!(
        "{} keys loaded, {WARM_UP_WRITES} changes made to fill the history",
        arguments.keys
    ))?;
    let mut client = connect(&addresses)?;
    let outcome = client
        .put(NamespaceId::DEFAULT, MARKER, b"")
        .map_err(RangeStreamError::from)?;
    let expected = writer.digest();
    let before = Memory::of(process, &addresses)?;

    let shared = Shared::default();
    let started = Instant::now();
    let (read, watched, written) = thread::scope(|scope| {
        let writing = scope.spawn(|| writer.change_until(&shared.is_over, &shared.writes));
        let watching = scope.spawn(|| watch::highest(process, &addresses, &shared.is_over));
        let read = stream(&mut client, outcome.revision, arguments, &shared);
        let read = (read, started.elapsed());
        shared.is_over.store(true, Ordering::Relaxed);
        (read, join(watching), join(writing))
    });
    let (digest, elapsed) = (read.0?, read.1);
    written?;
    Ok(Report {
        keys: arguments.keys,
        rows: digest.rows,
        is_right: digest == expected,
        seconds: elapsed.as_secs_f64(),
        row_bytes: digest.bytes,
        writes_meanwhile: shared.writes.load(Ordering::Relaxed),
        before,
        highest: watched?,
        slices: SliceTimes::of(&addresses)?,
    })
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    match handle.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn connect(addresses: &[SocketAddr]) -> Result<Client, RangeStreamError> {
    Ok(Client::connect(addresses[0], ANSWER_TIMEOUT)?)
}

/// Reads the directory at a revision, as fast as it comes or no faster than its keys are changed.
fn stream(
    client: &mut Client,
    at: Revision,
    arguments: &RangeStreamArguments,
    shared: &Shared,
) -> Result<Digest, RangeStreamError> {
    let subtree = RangeRequest::subtree(NamespaceId::DEFAULT, DIRECTORY);
    let range = RangeRequest {
        query: RangeQuery {
            scope: Scope::Children { separator: b'/' },
            end: MARKER,
            at: Some(at),
            ..subtree.query
        },
        ..subtree
    };
    let mut digest = Digest::default();
    let mut refused = None;
    client.submit(|connection| connection.range(&range));
    while client.pending_count() > 0 {
        client.next_responses(|_, response| {
            if let Response::Range(chunk) = &response {
                chunk.rows().for_each(|row| digest.add(row.key, row.value));
            } else {
                refused = Some(format!("{response:?}"));
            }
        })?;
        while arguments.reader == Reader::WithWriters
            && digest.rows > shared.writes.load(Ordering::Relaxed).min(arguments.keys)
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
    match refused {
        Some(what) => Err(RangeStreamError::Range(what)),
        None => Ok(digest),
    }
}

impl Report {
    fn print(&self, output: &mut Output) -> Result<(), PerfError> {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        output.line(&format!(
            "{} rows, {:.0} MiB in {:.1} s: {}; {} changes meanwhile",
            self.rows,
            mib(self.row_bytes),
            self.seconds,
            if self.is_right {
                "all as they were at the revision"
            } else {
                "NOT what was written"
            },
            self.writes_meanwhile
        ))?;
        let mut table = Table::new(&["memory", "before", "highest", "more"]);
        for (name, before, highest) in [
            (
                "resident",
                self.before.resident_bytes,
                self.highest.resident_bytes,
            ),
            (
                "history",
                self.before.history_bytes,
                self.highest.history_bytes,
            ),
        ] {
            let more = highest.saturating_sub(before);
            let cells = [before, highest, more].map(|bytes| format!("{:.1} MiB", mib(bytes)));
            let [before, highest, more] = cells;
            table.row(vec![name.to_owned(), before, highest, more]);
        }
        output.table(&table)?;
        let mut table = Table::new(&["core", "slices", "p50", "p99", "p99.9", "max"]);
        for slices in &self.slices {
            let us = |ns: u64| format!("{:.0} us", ns as f64 / 1_000.0);
            table.row(vec![
                slices.core.to_string(),
                slices.count.to_string(),
                us(slices.p50_ns),
                us(slices.p99_ns),
                us(slices.p999_ns),
                us(slices.max_ns),
            ]);
        }
        output.table(&table)
    }
}
