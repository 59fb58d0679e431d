//! A deadline of a task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use glommio::timer::Timer;

/// Wakes its task at a deadline that may move. A timer is set anew only when it has rung too early, so that a deadline
/// that moves with every batch costs nothing.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// When it rings, and the timer.
    set: Option<(Instant, Timer)>,
}

impl Alarm {
    /// Ready once the deadline is over; without one, never.
    pub(super) fn poll(
        &mut self,
        deadline: Option<Instant>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        loop {
            let now = Instant::now();
            if now >= deadline {
                self.set = None;
                return Poll::Ready(());
            }
            match &mut self.set {
                Some((rings, timer)) if *rings <= deadline => {
                    if Pin::new(timer).poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.set = None;
                }
                Some(_) | None => self.set = Some((deadline, Timer::new(deadline - now))),
            }
        }
    }
}
