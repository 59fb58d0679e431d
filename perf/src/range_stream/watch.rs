//! The store's memory and slices, while it is under load.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use metastore_net::StatusReply;
use metastore_net::blocking::{Client, ClientError};
use serde::Serialize;

use super::{ANSWER_TIMEOUT, RangeStreamError};
use crate::process::ProcessId;

/// How often the store is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Memory of a store.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Memory {
    /// What the process has in memory, by the kernel's account.
    pub(super) resident_bytes: u64,
    /// Old versions, by the store's own account.
    pub(super) history_bytes: u64,
}

/// How long slices of ranges took on one core, since it started.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct SliceTimes {
    pub(super) core: u16,
    pub(super) count: u64,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p999_ns: u64,
    pub(super) max_ns: u64,
}

impl Memory {
    pub(super) fn of(
        process: ProcessId,
        addresses: &[SocketAddr],
    ) -> Result<Memory, RangeStreamError> {
        Memory::look(process, &mut connect(addresses)?)
    }

    fn look(process: ProcessId, cores: &mut [Client]) -> Result<Memory, RangeStreamError> {
        let statuses = cores.iter_mut().map(Client::status);
        let statuses = statuses.collect::<Result<Vec<StatusReply>, ClientError>>()?;
        let replicas = statuses.iter().flat_map(|status| &status.replicas);
        Ok(Memory {
            resident_bytes: process.resident_bytes().ok_or(RangeStreamError::Resident)?,
            history_bytes: replicas.map(|replica| replica.history_bytes).sum(),
        })
    }
}

impl SliceTimes {
    pub(super) fn of(addresses: &[SocketAddr]) -> Result<Vec<SliceTimes>, RangeStreamError> {
        let mut found = Vec::new();
        for client in &mut connect(addresses)? {
            let status = client.status()?;
            let slices = status
                .stages
                .iter()
                .find(|stage| stage.name == "slice range");
            found.extend(slices.map(|slices| SliceTimes {
                core: status.core_index,
                count: slices.count,
                p50_ns: slices.p50_ns,
                p99_ns: slices.p99_ns,
                p999_ns: slices.p999_ns,
                max_ns: slices.max_ns,
            }));
        }
        Ok(found)
    }
}

/// Looks again and again until it is over, and keeps the most of each.
pub(super) fn highest(
    process: ProcessId,
    addresses: &[SocketAddr],
    is_over: &AtomicBool,
) -> Result<Memory, RangeStreamError> {
    let mut cores = connect(addresses)?;
    let mut highest = Memory::default();
    while !is_over.load(Ordering::Relaxed) {
        let now = Memory::look(process, &mut cores)?;
        highest.resident_bytes = highest.resident_bytes.max(now.resident_bytes);
        highest.history_bytes = highest.history_bytes.max(now.history_bytes);
        thread::sleep(INTERVAL);
    }
    Ok(highest)
}

fn connect(addresses: &[SocketAddr]) -> Result<Vec<Client>, ClientError> {
    addresses
        .iter()
        .map(|address| Client::connect(*address, ANSWER_TIMEOUT))
        .collect()
}
