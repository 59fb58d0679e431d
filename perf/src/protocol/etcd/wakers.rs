//! Wakers that only note who is to be polled: there is no runtime that would do it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Whether the connection is to be polled.
#[derive(Debug, Default)]
pub(super) struct Note(AtomicBool);

/// Which calls are to be polled.
#[derive(Debug, Default)]
pub(super) struct Woken(Mutex<Vec<usize>>);

/// Notes one call, once until it is polled.
#[derive(Debug)]
struct CallWaker {
    call: usize,
    is_noted: AtomicBool,
    woken: Arc<Woken>,
}

/// A call's waker, and the way to arm it again.
#[derive(Debug)]
pub(super) struct CallNote {
    shared: Arc<CallWaker>,
    pub(super) waker: Waker,
}

impl Note {
    /// Whether something was noted since the last time.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Note {
    fn wake(self: Arc<Note>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Note>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Woken {
    /// Moves the calls that were noted since the last time into an empty list.
    pub(super) fn take(&self, calls: &mut Vec<usize>) {
        assert!(calls.is_empty(), "no call is forgotten");
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(calls, &mut noted);
    }

    /// A waker for a call.
    pub(super) fn note(self: &Arc<Woken>, call: usize) -> CallNote {
        let shared = Arc::new(CallWaker {
            call,
            is_noted: AtomicBool::new(false),
            woken: Arc::clone(self),
        });
        CallNote {
            waker: Waker::from(Arc::clone(&shared)),
            shared,
        }
    }
}

impl CallNote {
    /// The call is polled now: what comes from now on is noted anew.
    pub(super) fn rearm(&self) {
        self.shared.is_noted.store(false, Ordering::Relaxed);
    }
}

impl Wake for CallWaker {
    fn wake(self: Arc<CallWaker>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<CallWaker>) {
        if !self.is_noted.swap(true, Ordering::Relaxed) {
            let noted = self.woken.0.lock();
            noted
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.call);
        }
    }
}
