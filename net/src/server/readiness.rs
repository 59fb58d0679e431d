//! Which sockets of a listener can be used: one epoll instance for all of them, edge by edge.
//!
//! The executor's own streams ask its ring anew for every read, and the kernel interrupts the running core for each
//! socket that became readable. Here sockets are registered once, a core that is busy looks once for whatever has come
//! meanwhile, and only one that has nothing to do asks the ring to be woken.

use crate::server::descriptor::adopt_descriptor;
use glommio::net::UnixStream;
use mio::event::{Event, Source};
use mio::{Events, Interest, Poll, Token};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_io::AsyncRead;

/// Sockets that one look may name; the others are named by the next.
const EVENTS_MAX: usize = 256;

/// How long to wait between looks while there is no descriptor to wait with.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// The sockets of one core; clones are handles to the same.
#[derive(Debug, Clone)]
pub(super) struct Readiness {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    poll: RefCell<Poll>,
    events: RefCell<Events>,
    /// By the number that the kernel tells with an event.
    marks: RefCell<Vec<Option<Rc<Mark>>>>,
    free: RefCell<Vec<usize>>,
}

/// What is known of one socket, and who waits for it.
#[derive(Debug)]
pub(super) struct Mark {
    number: usize,
    /// Whether reading may yield something.
    is_readable: Cell<bool>,
    /// The other side has sent its last: only reading up to the end tells where that is.
    has_end: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Mark {
    /// Whether reading may yield something. If not, the task is woken when it may.
    pub(super) fn may_read(&self, context: &mut Context<'_>) -> bool {
        let may_read = self.is_readable.get();
        if !may_read {
            self.wake_later(context);
        }
        may_read
    }

    /// Nothing is left to read until the kernel says so.
    pub(super) fn on_empty(&self) {
        self.is_readable.set(false);
    }

    /// A read got less than it could take: nothing is left, unless it is the end. (Behind a byte sent out of band there
    /// may be more; such a client waits for its own next byte.)
    pub(super) fn on_short_read(&self) {
        self.is_readable.set(self.has_end.get());
    }

    /// Wakes the task at the next change of the socket.
    pub(super) fn wake_later(&self, context: &mut Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
    }

    fn on_event(&self, event: &Event) {
        if event.is_read_closed() || event.is_error() {
            self.has_end.set(true);
        }
        if event.is_readable() || self.has_end.get() {
            self.is_readable.set(true);
        }
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

impl Readiness {
    pub(super) fn new() -> io::Result<Readiness> {
        Ok(Readiness {
            shared: Rc::new(Shared {
                poll: RefCell::new(Poll::new()?),
                events: RefCell::new(Events::with_capacity(EVENTS_MAX)),
                marks: RefCell::default(),
                free: RefCell::default(),
            }),
        })
    }

    /// From now on the mark tells when the socket can be used.
    pub(super) fn add(&self, socket: &mut impl Source, interest: Interest) -> io::Result<Rc<Mark>> {
        let shared = &self.shared;
        let mut marks = shared.marks.borrow_mut();
        let mut free = shared.free.borrow_mut();
        let number = free.last().copied().unwrap_or(marks.len());
        let poll = shared.poll.borrow();
        poll.registry().register(socket, Token(number), interest)?;
        let mark = Rc::new(Mark {
            number,
            // Something may have come before.
            is_readable: Cell::new(true),
            has_end: Cell::new(false),
            waker: RefCell::new(None),
        });
        match free.pop() {
            Some(_) => marks[number] = Some(Rc::clone(&mark)),
            None => marks.push(Some(Rc::clone(&mark))),
        }
        Ok(mark)
    }

    /// Forgets a socket that is about to be closed, which takes it from the kernel's books as well.
    pub(super) fn remove(&self, mark: &Mark) {
        let removed = self.shared.marks.borrow_mut()[mark.number].take();
        assert!(removed.is_some(), "a socket is removed once");
        // It holds the task, which holds the socket.
        mark.waker.borrow_mut().take();
        self.shared.free.borrow_mut().push(mark.number);
    }

    /// Wakes tasks whose sockets can be used, as long as the executor runs.
    pub(super) async fn watch(self) {
        loop {
            if self.look() {
                // Those that were woken come first.
                glommio::executor().yield_now().await;
            } else {
                self.wait().await;
            }
        }
    }

    /// Wakes the tasks of all sockets that have changed, and says whether any has.
    fn look(&self) -> bool {
        let mut poll = self.shared.poll.borrow_mut();
        let mut events = self.shared.events.borrow_mut();
        match poll.poll(&mut events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            result => result.expect("the kernel refuses only what is no epoll instance"),
        }
        let marks = self.shared.marks.borrow();
        for event in events.iter() {
            if let Some(Some(mark)) = marks.get(event.token().0) {
                mark.on_event(event);
            }
        }
        !events.is_empty()
    }

    /// Waits until a socket changes.
    async fn wait(&self) {
        let Ok(mut bell) = self.bell() else {
            // There are no descriptors left; then a core has other sorrows than a look too many.
            glommio::timer::sleep(LOOK_INTERVAL).await;
            return;
        };
        // That it is no socket shows only when it is looked at, which is after the ring has said that it is readable.
        let mut nothing = [0];
        let rung = poll_fn(|context| Pin::new(&mut bell).poll_read(context, &mut nothing)).await;
        assert!(rung.is_err(), "an epoll instance cannot be received from");
    }

    /// What the executor can wait for. It has no wait for descriptors of others, but a stream that is made over one
    /// asks the ring at once when it becomes readable. A stream closes its descriptor and asks only once, so that each
    /// wait needs its own.
    fn bell(&self) -> io::Result<UnixStream> {
        let poll = self.shared.poll.borrow();
        let descriptor = poll.registry().as_fd().try_clone_to_owned()?;
        Ok(adopt_descriptor(descriptor))
    }
}
