//! Waking the task of a connection from outside.

use std::cell::RefCell;
use std::task::{Context, Waker};

/// Wakes the task that was here last.
#[derive(Debug, Default)]
pub(super) struct TaskWaker {
    waker: RefCell<Option<Waker>>,
}

impl TaskWaker {
    /// From now on this task is woken.
    pub(super) fn remember(&self, context: &Context<'_>) {
        let mut known = self.waker.borrow_mut();
        if !known
            .as_ref()
            .is_some_and(|known| known.will_wake(context.waker()))
        {
            *known = Some(context.waker().clone());
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The task ends. A waker refers to its task, and where this one lives on they must not keep each other.
    pub(super) fn forget(&self) {
        self.waker.borrow_mut().take();
    }
}
