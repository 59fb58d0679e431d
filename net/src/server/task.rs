//! The task of one connection: it sends, takes in, and knows when to end.

use crate::server::connections::{Connections, Slot};
use crate::server::socket::Socket;
use crate::server::{ServerOptions, Service};
use crate::server_connection::{Intake, ServerConnection};
use futures_io::{AsyncRead, AsyncWrite};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 * 1024;

/// A task that could go on for ever lets the others run after this many reads or emptied outboxes.
const ROUNDS_MAX: usize = 8;

/// Where the connections of a core read into: one for all of them, because what is read is handed out or put aside
/// before any other connection reads. An idle connection holds no buffer.
pub(super) type ReadBuffer = Rc<RefCell<Vec<u8>>>;

pub(super) fn new_read_buffer() -> ReadBuffer {
    Rc::new(RefCell::new(vec![0; READ_BYTES]))
}

/// One connection.
pub(super) struct ConnectionTask<S: Service> {
    stream: Socket,
    slot: Rc<Slot>,
    intake: ServerConnection,
    service: Rc<S>,
    connections: Connections,
    read_buffer: ReadBuffer,
    /// Requests handed out since the others had their turn, and how many these may be.
    turn_requests: u32,
    turn_requests_max: u32,
    state: State,
}

/// What the socket is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Both ways.
    Serving,
    /// Only to send what is left.
    Closing,
    /// Our side is shut down. What still comes in is thrown away until the client closes, because closing a socket
    /// with unread bytes resets the connection and can take our last word with it.
    Lingering,
}

/// The connection is over.
struct Over;

impl From<io::Error> for Over {
    /// Whatever the socket says, the connection is over; the client sees it from its own side.
    fn from(_: io::Error) -> Over {
        Over
    }
}

impl<S: Service> ConnectionTask<S> {
    pub(super) fn new(
        stream: Socket,
        slot: Rc<Slot>,
        service: Rc<S>,
        connections: Connections,
        options: &ServerOptions,
        read_buffer: ReadBuffer,
    ) -> ConnectionTask<S> {
        ConnectionTask {
            stream,
            slot,
            intake: ServerConnection::new(&options.connection),
            service,
            connections,
            read_buffer,
            turn_requests: 0,
            turn_requests_max: options.connection.commands_per_turn,
            state: State::Serving,
        }
    }

    /// Runs until the connection is over, and takes it off the books.
    pub(super) async fn run(mut self) {
        std::future::poll_fn(|context| self.poll(context)).await;
        let was_greeted = self.slot.outbox.borrow().was_greeted();
        self.connections.remove(self.slot.id);
        // The waker refers to this task, and the slot may live on in a list: they must not keep each other.
        self.slot.waker.borrow_mut().take();
        if was_greeted {
            self.service.on_closed(self.slot.id);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.remember_waker(context.waker());
        self.turn_requests = 0;
        for _ in 0..ROUNDS_MAX {
            match self.poll_round(context) {
                Err(Over) => return Poll::Ready(()),
                Ok(Round::Wait) => return Poll::Pending,
                Ok(Round::Again) => {}
                Ok(Round::Yield) => break,
            }
        }
        self.stream.on_yield();
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn remember_waker(&self, waker: &Waker) {
        let mut known = self.slot.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// Sends what there is, then reads once.
    fn poll_round(&mut self, context: &mut Context<'_>) -> Result<Round, Over> {
        if self.slot.is_cut.get() {
            return Err(Over);
        }
        self.begin_closing();
        let sent = self.poll_send(context)?;
        if self.slot.outbox.borrow().is_overfull() {
            self.connections.note(|counts| counts.unread += 1);
            return Err(Over);
        }
        self.shut_down_when_sent(context)?;
        match self.state {
            State::Serving => {}
            State::Closing => return Ok(Round::Wait),
            State::Lingering => return self.poll_linger(context),
        }
        if sent == Sent::Drained {
            self.service.on_drained(self.slot.id);
        }
        // Reading comes in every round: a stream whose client keeps up would otherwise never let a cancel in.
        let is_paused = self.slot.outbox.borrow().is_paused();
        let taken_in = if is_paused || !self.connections.may_read(&self.slot) {
            // Nobody can finish a frame that is not read.
            self.slot.frame_since_ms.set(None);
            Round::Wait
        } else {
            self.poll_take_in(context)?
        };
        let has_unsent = !self.slot.outbox.borrow().unsent().is_empty();
        let may_send = has_unsent && sent != Sent::Blocked;
        Ok(match taken_in {
            Round::Wait if may_send => Round::Again,
            Round::Wait | Round::Again | Round::Yield => taken_in,
        })
    }

    /// Stops serving when the outbox says so.
    fn begin_closing(&mut self) {
        let mut outbox = self.slot.outbox.borrow_mut();
        if self.state != State::Serving || !outbox.is_closing() {
            return;
        }
        outbox.finish_drain();
        drop(outbox);
        self.slot.last_activity_ms.set(self.connections.now_ms());
        self.state = State::Closing;
        // What has arrived will not be looked at, and others may need the memory.
        self.intake.discard();
        self.slot.frame_since_ms.set(None);
        self.connections.book(&self.slot, 0);
    }

    /// Shuts our side down when the last of it is sent.
    fn shut_down_when_sent(&mut self, context: &mut Context<'_>) -> Result<(), Over> {
        if self.state == State::Closing && self.slot.outbox.borrow().unsent().is_empty() {
            let _shut_down = Pin::new(&mut self.stream).poll_close(context)?;
            self.state = State::Lingering;
        }
        Ok(())
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Result<Sent, Over> {
        let mut sent = Sent::Nothing;
        loop {
            let mut outbox = self.slot.outbox.borrow_mut();
            let unsent = outbox.unsent();
            if unsent.is_empty() {
                self.slot.unsent_since_ms.set(0);
                return Ok(sent);
            }
            match Pin::new(&mut self.stream).poll_write(context, unsent) {
                Poll::Pending => {
                    if self.slot.unsent_since_ms.get() == 0 {
                        self.slot.unsent_since_ms.set(self.connections.now_ms());
                    }
                    return Ok(Sent::Blocked);
                }
                Poll::Ready(result) => outbox.on_sent(result?),
            }
            self.slot.last_activity_ms.set(self.connections.now_ms());
            self.slot.last_sent_ms.set(self.connections.now_ms());
            sent = Sent::Drained;
        }
    }

    /// Hands out what is waiting from before, or reads once and hands that out.
    fn poll_take_in(&mut self, context: &mut Context<'_>) -> Result<Round, Over> {
        if self.intake.is_holding() {
            return Ok(self.hand_out(&[]));
        }
        let buffer = Rc::clone(&self.read_buffer);
        let mut buffer = buffer.borrow_mut();
        let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(context, &mut buffer) else {
            // It is the client's turn from now on, if its time did not run already.
            if self.intake.awaits_rest() && self.slot.frame_since_ms.get().is_none() {
                let now_ms = self.connections.now_ms();
                self.slot.frame_since_ms.set(Some(now_ms));
            }
            return Ok(Round::Wait);
        };
        let count = result?;
        if count == 0 {
            return Err(Over);
        }
        self.slot.last_activity_ms.set(self.connections.now_ms());
        Ok(self.hand_out(&buffer[..count]))
    }

    fn hand_out(&mut self, bytes: &[u8]) -> Round {
        let id = self.slot.id;
        let service = &self.service;
        let mut handed_out = 0;
        let frames_before = self.intake.frames_taken();
        let intake = self.intake.on_bytes(
            bytes,
            &self.slot.outbox,
            || service.hello(),
            |request_id, deadline_ms, request| {
                handed_out += 1;
                service.on_request(id, request_id, deadline_ms, request);
            },
        );
        if handed_out > 0 {
            self.service.on_read_end();
        }
        self.connections
            .book(&self.slot, self.intake.buffer_bytes());
        let began_ms = self.slot.frame_since_ms.get();
        let is_new = began_ms.is_none() || self.intake.frames_taken() > frames_before;
        self.slot
            .frame_since_ms
            .set(match self.intake.awaits_rest() {
                true if is_new => Some(self.connections.now_ms()),
                true => began_ms,
                false => None,
            });
        self.turn_requests += handed_out;
        match intake {
            Intake::Reading if self.turn_requests >= self.turn_requests_max => Round::Yield,
            Intake::Yield => Round::Yield,
            Intake::Reading | Intake::Paused | Intake::Closing => Round::Again,
        }
    }

    fn poll_linger(&mut self, context: &mut Context<'_>) -> Result<Round, Over> {
        let mut buffer = self.read_buffer.borrow_mut();
        let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(context, &mut buffer) else {
            return Ok(Round::Wait);
        };
        if result? == 0 {
            Err(Over)
        } else {
            Ok(Round::Again)
        }
    }
}

/// What a round of sending came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// There was nothing to send.
    Nothing,
    /// The socket does not take all of it yet, and wakes the task when it does.
    Blocked,
    /// The outbox held bytes and is empty now.
    Drained,
}

/// What comes after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Nothing to do until the task is woken.
    Wait,
    /// There may be more to do.
    Again,
    /// There may be more to do, and others come first.
    Yield,
}
