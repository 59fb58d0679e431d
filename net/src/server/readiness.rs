//! Which sockets of a core can be used: one epoll instance for all of them, edge by edge.
//!
//! The executor's own streams ask its ring anew for every read, and the kernel interrupts the running core for each
//! socket that became readable. Here sockets are registered once, and a core that is busy looks once for whatever has
//! come meanwhile. One that has nothing to do first waits for its sockets in place, for as long as its service lets it:
//! going to sleep in the executor and being woken costs ten system calls, and an answer is often near. Only then it asks
//! the ring to be woken.

use crate::server::descriptor::adopt_descriptor;
use glommio::net::UnixStream;
use mio::event::{Event, Source};
use mio::{Events, Interest, Poll, Token};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll as TaskPoll, Waker};
use std::time::{Duration, Instant};

use futures_io::AsyncRead;

/// Sockets that one look may name; the others are named by the next.
const EVENTS_MAX: usize = 256;

/// How long to wait between looks while there is no descriptor to wait with.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Looks in a row that must find nothing before a core is taken to have nothing to do: tasks that were woken run before
/// the second, and those that they have woken before the third.
const EMPTY_LOOKS: u32 = 3;

/// Timers, messages of other threads and the ends of blocking work are seen when the executor asks its ring, which it does
/// not while the core waits in place.
const RING_INTERVAL: Duration = Duration::from_millis(2);

/// The sockets of one core; clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Readiness {
    shared: Rc<Shared>,
}

/// The receiving end of a pair whose other end says that something has happened.
#[derive(Debug)]
pub struct Bell {
    socket: mio::net::UnixStream,
    mark: Rc<Mark>,
    readiness: Readiness,
}

#[derive(Debug)]
struct Shared {
    poll: RefCell<Poll>,
    events: RefCell<Events>,
    /// By the number that the kernel tells with an event.
    marks: RefCell<Vec<Option<Rc<Mark>>>>,
    free: RefCell<Vec<usize>>,
    /// Whether a task has let others go first and has more to read, of which the kernel tells nothing.
    has_more: Cell<bool>,
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
    /// No sockets.
    ///
    /// # Errors
    /// When the kernel has no descriptor or memory left.
    pub fn new() -> io::Result<Readiness> {
        Ok(Readiness {
            shared: Rc::new(Shared {
                poll: RefCell::new(Poll::new()?),
                events: RefCell::new(Events::with_capacity(EVENTS_MAX)),
                marks: RefCell::default(),
                free: RefCell::default(),
                has_more: Cell::new(false),
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

    /// From now on bytes that come on this socket are heard.
    ///
    /// # Errors
    /// What the kernel says when it has no memory left.
    pub fn add_bell(&self, socket: std::os::unix::net::UnixStream) -> io::Result<Bell> {
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::UnixStream::from_std(socket);
        let mark = self.add(&mut socket, Interest::READABLE)?;
        Ok(Bell {
            socket,
            mark,
            readiness: self.clone(),
        })
    }

    /// Wakes tasks whose sockets can be used, as long as the executor runs. One task of a core does, in the queue in
    /// which the others run.
    ///
    /// When nothing is to be done, `idle` says how long the core may wait for its sockets in place, where nothing else
    /// wakes it. It must say zero when any task has still something to do.
    pub async fn watch(self, idle: impl Fn() -> Duration) {
        let mut empty_looks = 0;
        let mut ring_asked = Instant::now();
        loop {
            if self.look() {
                empty_looks = 0;
            } else {
                empty_looks += 1;
            }
            if empty_looks < EMPTY_LOOKS {
                glommio::executor().yield_now().await;
                continue;
            }
            empty_looks = 0;
            let until_ring_due = RING_INTERVAL.saturating_sub(ring_asked.elapsed());
            if !self.wait_in_place(idle().min(until_ring_due)) {
                self.wait().await;
                ring_asked = Instant::now();
            }
        }
    }

    /// Waits until a socket changes, and says whether one has in time.
    fn wait_in_place(&self, time: Duration) -> bool {
        if time.is_zero() {
            return false;
        }
        let poll = self.shared.poll.borrow();
        let registry = poll.registry();
        let epoll = registry.as_fd();
        let mut wanted = [PollFd::new(&epoll, PollFlags::IN)];
        let time = Timespec::try_from(time).expect("a core waits for less than a second");
        match rustix::event::poll(&mut wanted, Some(&time)) {
            Ok(ready) => ready > 0,
            // The log's ring tells so of something that has ended.
            Err(error) => error == rustix::io::Errno::INTR,
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
        self.shared.has_more.take() || !events.is_empty()
    }

    /// The task that calls lets others go first, and has more to read.
    pub(super) fn on_yield(&self) {
        self.shared.has_more.set(true);
    }

    /// Waits until a socket changes.
    async fn wait(&self) {
        let Ok(mut end) = self.ring_end() else {
            // There are no descriptors left; then a core has other sorrows than a look too many.
            glommio::timer::sleep(LOOK_INTERVAL).await;
            return;
        };
        // That it is no socket shows only when it is looked at, which is after the ring has said that it is readable.
        let mut nothing = [0];
        let rung = poll_fn(|context| Pin::new(&mut end).poll_read(context, &mut nothing)).await;
        assert!(rung.is_err(), "an epoll instance cannot be received from");
    }

    /// What the executor can wait for. It has no wait for descriptors of others, but a stream that is made over one
    /// asks the ring at once when it becomes readable. A stream closes its descriptor and asks only once, so that each
    /// wait needs its own.
    fn ring_end(&self) -> io::Result<UnixStream> {
        let poll = self.shared.poll.borrow();
        let descriptor = poll.registry().as_fd().try_clone_to_owned()?;
        Ok(adopt_descriptor(descriptor))
    }
}

impl Bell {
    /// Waits for bytes and takes those that are there. `false` when the other end is closed.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn ring(&mut self) -> io::Result<bool> {
        poll_fn(|context| self.poll_ring(context)).await
    }

    fn poll_ring(&mut self, context: &mut Context<'_>) -> TaskPoll<io::Result<bool>> {
        let mut bytes = [0; 64];
        if !self.mark.may_read(context) {
            return TaskPoll::Pending;
        }
        match self.socket.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.mark.on_empty();
                self.mark.wake_later(context);
                TaskPoll::Pending
            }
            Err(error) => TaskPoll::Ready(Err(error)),
            Ok(taken) => {
                if taken < bytes.len() {
                    self.mark.on_short_read();
                }
                TaskPoll::Ready(Ok(taken > 0))
            }
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.readiness.remove(&self.mark);
    }
}
