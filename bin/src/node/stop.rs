//! How a core stops: what the node accepted is answered, then everybody goes.
//!
//! ```text
//!   accept nobody, refuse requests ──> close connections as they fall quiet
//!     ──> all cores have finished ──> clients have closed ──> over
//! ```
//!
//! A core with nothing to do is needed as long as any other has a client that waits: what that one forwarded is in no
//! table here until it arrives.

use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::Task;
use glommio::timer::Timer;

use super::driver::Driver;
use super::phase::{NodePhase, PHASE_POLL};

/// For this long new requests are refused before connections are closed. A client that hears the refusal knows that
/// nothing happened; one whose request meets a closed connection does not.
const REFUSAL_TIME: Duration = Duration::from_millis(100);
/// How long requests that were accepted may take once the node is to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(4);
/// How long clients that have all their answers may take to close their side: what they have not read yet would be lost
/// with a connection that is reset.
const FAREWELL_LIMIT: Duration = Duration::from_millis(400);

/// How a core stopped, or a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopOutcome {
    /// Everything accepted was answered.
    Finished,
    /// Time ran out before.
    Unfinished,
}

/// Finishes what was accepted, leaves a mark behind the last record, and lets the connections go.
///
/// `accepting` is the task that takes new connections; those that are open live on without it.
pub(super) async fn stop(
    driver: &Rc<Driver>,
    phase: &NodePhase,
    accepting: Task<()>,
) -> StopOutcome {
    let began = Instant::now();
    let connections = driver.connections();
    driver.drain();
    accepting.cancel().await;
    while began.elapsed() < REFUSAL_TIME && connections.count() > 0 {
        Timer::new(PHASE_POLL).await;
    }
    connections.begin_drain();
    let outcome = finish(driver, phase, began + DRAIN_LIMIT).await;
    let answered = Instant::now();
    while answered.elapsed() < FAREWELL_LIMIT && connections.count() > 0 {
        Timer::new(PHASE_POLL).await;
    }
    connections.close_all();
    outcome
}

/// Waits until all cores have finished, or this one gives up.
async fn finish(driver: &Rc<Driver>, phase: &NodePhase, limit: Instant) -> StopOutcome {
    while !driver.has_finished() {
        if Instant::now() >= limit {
            return StopOutcome::Unfinished;
        }
        Timer::new(PHASE_POLL).await;
    }
    phase.add_finished_core();
    while !phase.have_all_finished() && Instant::now() < limit {
        Timer::new(PHASE_POLL).await;
    }
    StopOutcome::Finished
}
