//! How a node loads snapshots and writes them.

use std::collections::VecDeque;

use metastore_engine::{CoreBuilder, Input, SnapshotFailed, SnapshotId, SnapshotTicket, Time};
use metastore_wal::recovery::ReplayEvent;

use super::{Machine, Node, NodeEvent};
use crate::disk::{Disk, SnapshotDeed};
use crate::violation::Violation;

/// Something that the core asked for.
pub(super) type SnapshotJob = (SnapshotTicket, SnapshotDeed);

/// How much of a file is loaded at a time.
const READ_BYTES: usize = 10_000;

/// Passes the events of a recovery on, and loads the snapshots that the builder asks for before the rest.
pub(super) struct Loader<'a> {
    pub(super) disk: &'a Disk,
    pub(super) builder: CoreBuilder,
    pub(super) named: Vec<SnapshotId>,
    pub(super) failed: Option<Violation>,
}

impl Loader<'_> {
    pub(super) fn on_event(&mut self, event: ReplayEvent<'_>) {
        if self.failed.is_some() {
            return;
        }
        let is_first = matches!(event, ReplayEvent::Snapshots { .. });
        self.builder.on_event(event);
        if is_first {
            self.named = self.builder.snapshots_to_load();
            let loaded = self.named.iter().try_for_each(|&snapshot| {
                let Err(cause) = load(self.disk, &mut self.builder, snapshot) else {
                    return Ok(());
                };
                // Others may have what is lost here.
                let set_aside = self.builder.on_snapshot_damaged(snapshot);
                set_aside.map_err(|_alone| Violation::SnapshotRefused { cause })
            });
            self.failed = loaded.err();
        }
    }
}

fn load(disk: &Disk, builder: &mut CoreBuilder, snapshot: SnapshotId) -> Result<(), String> {
    let content = disk.snapshot(snapshot);
    let content = content.ok_or_else(|| format!("{snapshot} is not there"))?;
    let damaged = |error| format!("{snapshot}: {error}");
    let mut load = builder.begin_load(snapshot);
    for piece in content.chunks(READ_BYTES) {
        load.push(piece).map_err(damaged)?;
    }
    builder.finish_load(load).map_err(damaged)
}

impl Node {
    pub(super) fn add_snapshot_job(&mut self, job: SnapshotJob, machine: &mut Machine<'_>) {
        self.snapshot_jobs.push_back(job);
        if self.snapshot_jobs.len() == 1 {
            begin_first(&self.snapshot_jobs, machine);
        }
    }

    /// The oldest job is done, or has failed; the next begins.
    pub(super) fn on_snapshot_done(&mut self, now: Time, machine: &mut Machine<'_>) {
        let job = self.snapshot_jobs.pop_front();
        let (ticket, deed) = job.expect("a job was begun");
        let result = machine.disk.complete_snapshot_deed();
        let (is_named, buffer) = match deed {
            SnapshotDeed::Write { bytes, .. } => (false, bytes),
            SnapshotDeed::Finish { .. } => (result.is_ok(), Vec::new()),
            SnapshotDeed::Remove { .. } => (false, Vec::new()),
        };
        self.counters.snapshots += u64::from(is_named);
        let result = result.map_err(|_failed| SnapshotFailed);
        let done = Input::SnapshotDone {
            ticket,
            result,
            buffer,
        };
        self.step(now, done, machine);
        begin_first(&self.snapshot_jobs, machine);
    }
}

fn begin_first(jobs: &VecDeque<SnapshotJob>, machine: &mut Machine<'_>) {
    if let Some((_, deed)) = jobs.front() {
        machine.disk.begin_snapshot_deed(deed.clone());
        let delay_ns = machine.disk.draw_latency_ns(2);
        machine.schedule(delay_ns, NodeEvent::SnapshotDone);
    }
}
