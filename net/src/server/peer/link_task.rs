//! The task of one connection to another core.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};

use crate::peer::{
    BackoffAttempt, OutgoingLink, OutgoingState, PEER_ANSWER_BYTES, PeerHello, choose_backoff,
};
use crate::server::peer::alarm::Alarm;
use crate::server::peer::links::{LinkBooks, LinkSlot, Phase};
use crate::server::peer::{LinkEnd, LinkWait, PeerOptions, PeerService};
use crate::server::readiness::Readiness;
use crate::server::socket::Socket;

/// Makes one connection after the other, each when there is something to send.
pub(super) struct LinkTask<S: PeerService> {
    pub(super) slot: Rc<LinkSlot>,
    pub(super) service: Rc<S>,
    pub(super) readiness: Readiness,
    pub(super) options: PeerOptions,
    pub(super) books: Rc<LinkBooks>,
}

impl<S: PeerService> LinkTask<S> {
    pub(super) async fn run(self) {
        let slot = &self.slot;
        let mut attempt = BackoffAttempt::default();
        let mut was_told = false;
        loop {
            slot.phase.set(Phase::Idle);
            std::future::poll_fn(|context| self.poll_work(context)).await;
            slot.phase.set(Phase::Connecting);
            self.books.note(|counts| counts.attempts += 1);
            let (end, open_for) = self.connect_and_send().await;
            self.books.on_end(slot);
            was_told &= open_for.is_none();
            if !was_told {
                was_told = true;
                self.service.on_unreachable(slot.peer, slot.lane, &end);
            }
            attempt = attempt.after_end(open_for);
            glommio::timer::sleep(choose_backoff(attempt, self.books.random())).await;
        }
    }

    /// Ready when there is something to send.
    fn poll_work(&self, context: &mut Context<'_>) -> Poll<()> {
        self.slot.waker.remember(context);
        if self.slot.queue.borrow().is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Runs one connection to its end, and tells how long it could be used, if at all.
    async fn connect_and_send(&self) -> (LinkEnd, Option<Duration>) {
        let connected = Socket::connect(
            self.slot.address.get(),
            self.readiness.clone(),
            self.options.unsent_timeout,
        );
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => return (unconnected(&error), None),
        };
        let hello = PeerHello::new(self.service.local(), self.slot.peer, self.slot.lane);
        let mut connection = Connection {
            slot: &self.slot,
            books: &self.books,
            options: &self.options,
            stream,
            link: OutgoingLink::new(hello),
            unsent_hello: hello.encode().to_vec(),
            is_connected: false,
            opened: None,
            alarm: Alarm::default(),
            deadline: Some(Instant::now() + self.options.connect_timeout),
        };
        let end = std::future::poll_fn(|context| match connection.poll(context) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        });
        let end = end.await;
        (end, connection.opened.map(|opened| opened.elapsed()))
    }
}

fn unconnected(error: &std::io::Error) -> LinkEnd {
    LinkEnd::Unconnected { kind: error.kind() }
}

fn broken(error: &std::io::Error) -> LinkEnd {
    LinkEnd::Broken { kind: error.kind() }
}

/// One connection.
struct Connection<'a> {
    slot: &'a LinkSlot,
    books: &'a LinkBooks,
    options: &'a PeerOptions,
    stream: Socket,
    link: OutgoingLink,
    unsent_hello: Vec<u8>,
    is_connected: bool,
    /// Since when it can be used.
    opened: Option<Instant>,
    alarm: Alarm,
    deadline: Option<Instant>,
}

impl Connection<'_> {
    /// Does what can be done now.
    fn poll(&mut self, context: &mut Context<'_>) -> Result<(), LinkEnd> {
        self.slot.waker.remember(context);
        self.poll_connected(context)?;
        if self.is_connected {
            self.poll_hello(context)?;
            self.poll_read(context)?;
        }
        if self.opened.is_some() {
            self.poll_batches(context)?;
        }
        if self.alarm.poll(self.deadline, context).is_ready() {
            let waited_for = match self.opened {
                Some(_) => LinkWait::Room,
                None => LinkWait::Answer,
            };
            return Err(LinkEnd::TimedOut { waited_for });
        }
        Ok(())
    }

    fn poll_connected(&mut self, context: &mut Context<'_>) -> Result<(), LinkEnd> {
        if !self.is_connected
            && let Poll::Ready(connected) = self.stream.poll_connected(context)
        {
            connected.map_err(|error| unconnected(&error))?;
            self.is_connected = true;
        }
        Ok(())
    }

    fn poll_hello(&mut self, context: &mut Context<'_>) -> Result<(), LinkEnd> {
        while !self.unsent_hello.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.unsent_hello) {
                Poll::Ready(Ok(count)) => drop(self.unsent_hello.drain(..count)),
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// The answer comes, or the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<(), LinkEnd> {
        let mut buffer = [0; PEER_ANSWER_BYTES + 1];
        loop {
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(LinkEnd::Closed),
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Ready(Ok(count)) => {
                    let state = self.link.on_bytes(&buffer[..count])?;
                    if matches!(state, OutgoingState::Open { .. }) && self.opened.is_none() {
                        self.opened = Some(Instant::now());
                        self.deadline = None;
                        self.slot.phase.set(Phase::Open);
                        self.books.note(|counts| counts.opened += 1);
                    }
                }
            }
        }
    }

    /// Sends what waits: one write, unless the socket takes only a part.
    fn poll_batches(&mut self, context: &mut Context<'_>) -> Result<(), LinkEnd> {
        loop {
            let mut queue = self.slot.queue.borrow_mut();
            if queue.is_empty() {
                self.deadline = None;
                return Ok(());
            }
            match Pin::new(&mut self.stream).poll_write(context, queue.unsent()) {
                Poll::Ready(Ok(count)) => {
                    let completed = queue.on_sent(count) as u64;
                    self.books.note(|counts| {
                        counts.writes += 1;
                        counts.sent += completed;
                    });
                    self.slot.stalled_since.set(None);
                    self.deadline = None;
                }
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Pending => {
                    let now = Instant::now();
                    let since = self.slot.stalled_since.get().unwrap_or(now);
                    self.slot.stalled_since.set(Some(since));
                    self.deadline
                        .get_or_insert(now + self.options.unsent_timeout);
                    return Ok(());
                }
            }
        }
    }
}
