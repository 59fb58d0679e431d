//! The task of one connection from another core.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_io::{AsyncRead, AsyncWrite};

use crate::peer::{IncomingFault, IncomingLink, IncomingState, PEER_ANSWER_BYTES, RefusalCode};
use crate::server::peer::alarm::Alarm;
use crate::server::peer::held::Progress;
use crate::server::peer::incoming::{IncomingLinks, IncomingSlot};
use crate::server::peer::{PeerOptions, PeerService};
use crate::server::socket::Socket;
use crate::server::task::ReadBuffer;

/// One connection from another core.
pub(super) struct IncomingTask<S: PeerService> {
    stream: Socket,
    slot: Rc<IncomingSlot>,
    link: IncomingLink,
    service: Rc<S>,
    links: IncomingLinks,
    options: PeerOptions,
    read_buffer: ReadBuffer,
    /// What is left of the answer.
    unsent: Vec<u8>,
    use_of_socket: UseOfSocket,
    alarm: Alarm,
    deadline: Option<Instant>,
}

/// What the socket is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UseOfSocket {
    /// To take in a hello and batches.
    Receiving,
    /// To send what is left of a refusal.
    Refusing,
    /// Our side is shut down. What still comes in is thrown away until the sender closes, because closing a socket
    /// with unread bytes resets the connection and can take our last word with it.
    Lingering,
}

/// The connection is over.
struct Over;

/// What comes after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Nothing to do until the task is woken.
    Wait,
    /// So many bytes were read, and there may be more.
    Read(usize),
}

impl<S: PeerService> IncomingTask<S> {
    pub(super) fn new(
        stream: Socket,
        slot: Rc<IncomingSlot>,
        service: Rc<S>,
        links: IncomingLinks,
        options: PeerOptions,
        read_buffer: ReadBuffer,
    ) -> IncomingTask<S> {
        IncomingTask {
            stream,
            slot,
            link: IncomingLink::new(options.batch_bytes_max),
            service,
            links,
            options,
            read_buffer,
            unsent: Vec::new(),
            use_of_socket: UseOfSocket::Receiving,
            alarm: Alarm::default(),
            deadline: Some(Instant::now() + options.hello_timeout),
        }
    }

    /// Runs until the connection is over, and takes it off the books.
    pub(super) async fn run(mut self) {
        std::future::poll_fn(|context| self.poll(context)).await;
        self.links.remove(&self.slot);
        self.slot.waker.forget();
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.slot.waker.remember(context);
        let mut turn_bytes = 0;
        while turn_bytes < self.options.turn_bytes_max {
            match self.poll_round(context) {
                Err(Over) => return Poll::Ready(()),
                Ok(Round::Read(count)) => turn_bytes += count,
                Ok(Round::Wait) => return self.poll_deadline(context),
            }
        }
        // Others come first. What is here of a batch in time was in time, however long our own turn took; but bytes
        // that are thrown away excuse nobody.
        self.stream.on_yield();
        context.waker().wake_by_ref();
        match self.use_of_socket {
            UseOfSocket::Receiving => Poll::Pending,
            UseOfSocket::Refusing | UseOfSocket::Lingering => self.poll_deadline(context),
        }
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let expired = self.alarm.poll(self.deadline, context);
        if expired.is_ready() {
            self.links.note(|counts| counts.timed_out += 1);
        }
        expired
    }

    /// Sends what is left of the answer, then reads once.
    fn poll_round(&mut self, context: &mut Context<'_>) -> Result<Round, Over> {
        if self.slot.is_cut() {
            return Err(Over);
        }
        self.poll_answer(context)?;
        match self.use_of_socket {
            UseOfSocket::Receiving => self.poll_receive(context),
            UseOfSocket::Refusing if !self.unsent.is_empty() => Ok(Round::Wait),
            UseOfSocket::Refusing => {
                self.use_of_socket = UseOfSocket::Lingering;
                let _shut_down = Pin::new(&mut self.stream).poll_close(context);
                self.poll_linger(context)
            }
            UseOfSocket::Lingering => self.poll_linger(context),
        }
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Result<(), Over> {
        assert!(self.unsent.len() <= PEER_ANSWER_BYTES, "one answer");
        while !self.unsent.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.unsent) {
                Poll::Ready(Ok(count)) => drop(self.unsent.drain(..count)),
                Poll::Ready(Err(_)) => return Err(Over),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Result<Round, Over> {
        if !self.links.may_read(&self.slot) {
            // Nobody can finish a batch that is not read.
            self.deadline = None;
            return Ok(Round::Wait);
        }
        let buffer = Rc::clone(&self.read_buffer);
        let mut buffer = buffer.borrow_mut();
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Ready(read) => {
                let count = self.bytes_of(read)?;
                self.take_in(&buffer[..count])?;
                Ok(Round::Read(count))
            }
            Poll::Pending => {
                // It is the sender's turn from now on, if its time did not run already.
                if self.link.awaits_rest() && self.deadline.is_none() {
                    self.deadline = Some(Instant::now() + self.options.batch_timeout);
                }
                Ok(Round::Wait)
            }
        }
    }

    /// Whatever the socket says but bytes, the connection is over; the sender sees it from its own side.
    fn bytes_of(&self, read: io::Result<usize>) -> Result<usize, Over> {
        match read {
            Ok(count) if count > 0 => Ok(count),
            Ok(_) | Err(_) => {
                if self.link.awaits_rest() {
                    self.links.note(|counts| counts.cut_short += 1);
                }
                Err(Over)
            }
        }
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<(), Over> {
        let (links, slot, service) = (&self.links, &self.slot, &self.service);
        let was_greeting = self.link.state() == IncomingState::Greeting;
        let mut batches = 0;
        let result = self.link.on_bytes(
            bytes,
            links.room(slot),
            || service.local(),
            |hello| {
                let sender = &hello.sender;
                if !service.has_known_data(sender.core.node, sender.data_id) {
                    links.note(|counts| counts.other_data += 1);
                    return Err(RefusalCode::OtherData);
                }
                links.admit(slot, hello, self.options.links_max)
            },
            |from, lane, batch| {
                batches += 1;
                service.on_batch(from, lane, batch);
            },
        );
        if batches > 0 {
            links.note(|counts| counts.batches += batches);
            service.on_read_end();
        }
        let progress = match batches {
            0 => Progress::Same,
            _ => Progress::Completed,
        };
        links.book(slot, self.link.buffer_bytes(), progress);
        self.unsent.extend_from_slice(&self.link.take_answer());
        if let Err(fault) = result {
            self.on_fault(&fault);
        }
        match self.link.state() {
            IncomingState::Greeting => Ok(()),
            IncomingState::Open(_) => {
                if was_greeting || batches > 0 {
                    self.deadline = None;
                }
                Ok(())
            }
            // Who would not understand an answer gets none.
            IncomingState::Over if self.unsent.is_empty() => Err(Over),
            IncomingState::Over => {
                self.use_of_socket = UseOfSocket::Refusing;
                self.deadline = Some(Instant::now() + self.options.hello_timeout);
                Ok(())
            }
        }
    }

    fn on_fault(&self, fault: &IncomingFault) {
        self.links.note(|counts| counts.note_fault(fault));
        self.service.on_refused(self.stream.peer_addr(), fault);
    }

    fn poll_linger(&mut self, context: &mut Context<'_>) -> Result<Round, Over> {
        let mut buffer = self.read_buffer.borrow_mut();
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(count)) if count > 0 => Ok(Round::Read(count)),
            Poll::Ready(_) => Err(Over),
            Poll::Pending => Ok(Round::Wait),
        }
    }
}
