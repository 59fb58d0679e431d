//! Connections for ranges. A range has a connection of its own while it runs: who reads slowly stops reading the socket,
//! which slows the server down and nobody else's requests. Afterwards the connection rests here for the next range.

use crate::async_client::error::{Failure, Fault};
use crate::async_client::wire::{Dialing, Wire};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Resting connections kept for one address.
const RESTING_MAX: usize = 4;

/// A connection that rested longer is closed: the server has one place less to look after.
const REST_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Streams {
    permits: Arc<Semaphore>,
    resting: Mutex<BTreeMap<String, Vec<Resting>>>,
}

#[derive(Debug)]
struct Resting {
    wire: Wire,
    since: Instant,
}

impl Streams {
    pub(super) fn new(ranges_max: usize) -> Streams {
        Streams {
            permits: Arc::new(Semaphore::new(ranges_max)),
            resting: Mutex::new(BTreeMap::new()),
        }
    }

    /// Waits until one more range may run. `None` when the deadline passes before.
    pub(super) async fn permit(&self, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        let permit = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await;
        Some(permit.ok()?.expect("the semaphore is never closed"))
    }

    /// A connection on which nothing is under way.
    pub(super) async fn take(
        &self,
        address: &str,
        dialing: &Dialing,
        deadline: Instant,
    ) -> Result<Wire, Failure> {
        while let Some(mut wire) = self.take_resting(address) {
            if wire.is_at_rest() {
                return Ok(wire);
            }
        }
        let opened = timeout_at(deadline, Wire::open(address, dialing)).await;
        opened
            .unwrap_or(Err(Fault::Late))
            .map_err(Failure::not_done)
    }

    fn take_resting(&self, address: &str) -> Option<Wire> {
        let mut resting = self.lock();
        let wires = resting.get_mut(address)?;
        wires.retain(|one| one.since.elapsed() < REST_MAX);
        wires.pop().map(|one| one.wire)
    }

    /// The range is complete; the connection may serve another.
    pub(super) fn give_back(&self, address: &str, wire: Wire) {
        let mut resting = self.lock();
        let wires = resting.entry(address.to_owned()).or_default();
        wires.retain(|one| one.since.elapsed() < REST_MAX);
        if wires.len() < RESTING_MAX {
            let since = Instant::now();
            wires.push(Resting { wire, since });
        }
    }

    /// Keeps connections to these addresses only.
    pub(super) fn retain(&self, addresses: &[String]) {
        self.lock().retain(|address, _| addresses.contains(address));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<Resting>>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
