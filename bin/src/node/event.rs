//! Waking one task of a core from another.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A flag that one task waits for. Setting it twice before it is seen counts once.
#[derive(Debug, Default)]
pub(crate) struct Event {
    is_set: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Event {
    /// Sets the flag and wakes whoever waits.
    pub(crate) fn set(&self) {
        if !self.is_set.replace(true)
            && let Some(waiter) = self.waiter.borrow_mut().take()
        {
            waiter.wake();
        }
    }

    /// Whether the flag is set.
    pub(crate) fn is_set(&self) -> bool {
        self.is_set.get()
    }

    /// Waits for the flag and clears it. One task waits at a time.
    pub(crate) async fn wait(&self) {
        poll_fn(|context| {
            if self.is_set.replace(false) {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
