//! One connection of the load.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::{Mark, nanoseconds};
use crate::operation::{Asked, Mix, RequestMaker};
use crate::protocol::{CallId, Connection, Reply, Request, Session, SessionError};
use crate::system::System;

/// A socket with its end of the protocol, and when each request in flight began.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    connection: Connection,
    /// In the order of sending, which is nearly the order of the answers.
    in_flight: VecDeque<Sent>,
    /// The most requests that may be in flight.
    depth: usize,
    room_since_ns: u64,
    /// Whether the other end is gone; then nothing is sent or received any more.
    is_lost: bool,
}

/// A request that awaits its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    id: CallId,
    /// Nanoseconds since the run's epoch.
    pub(super) start_ns: u64,
    pub(super) asked: Asked,
    pub(super) mark: Mark,
}

/// A reply, or one part of it, to a request of this connection.
pub(super) struct Answer<'a> {
    /// When it came, in nanoseconds since the run's epoch.
    pub(super) at_ns: u64,
    pub(super) sent: &'a mut Sent,
    pub(super) reply: &'a Reply<'a>,
}

impl Link {
    /// Connects, waits for the greeting, and joins the poll.
    pub(super) fn open(
        system: System,
        address: SocketAddr,
        registry: &Registry,
        token: Token,
        depth: usize,
    ) -> Result<Link, SessionError> {
        let session = Session::connect(system, address)?;
        Link::of(session, registry, token, depth)
    }

    /// Joins the poll with a session that is greeted.
    pub(super) fn of(
        session: Session,
        registry: &Registry,
        token: Token,
        depth: usize,
    ) -> Result<Link, SessionError> {
        let (blocking, connection) = session.into_parts();
        blocking.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(blocking);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Link {
            stream,
            connection,
            in_flight: VecDeque::with_capacity(depth),
            depth,
            room_since_ns: 0,
            is_lost: false,
        })
    }

    /// Leaves the poll for good, and hands out what will not be answered here.
    pub(super) fn abandon(&mut self, registry: &Registry) -> VecDeque<Sent> {
        self.is_lost = true;
        // Neither can matter to a connection that is not used again.
        let _left = registry.deregister(&mut self.stream);
        let _closed = self.stream.shutdown(Shutdown::Both);
        self.connection.outbound().clear();
        std::mem::take(&mut self.in_flight)
    }

    /// Whether it was abandoned.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// How many requests await an answer.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether another request may be sent.
    pub(super) fn has_room(&self) -> bool {
        !self.is_lost && self.in_flight.len() < self.depth
    }

    /// When an answer last ended a time without room, 0 if there never was such a time.
    pub(super) fn room_since_ns(&self) -> u64 {
        self.room_since_ns
    }

    /// Prepares one request; [`Link::send`] sends it.
    pub(super) fn submit(
        &mut self,
        mix: Mix,
        requests: &mut RequestMaker,
        start_ns: u64,
        mark: Mark,
    ) {
        let (request, asked) = requests.next_request(mix);
        self.submit_request(&request, asked, start_ns, mark);
    }

    /// The same for a request that is there.
    pub(super) fn submit_request(
        &mut self,
        request: &Request<'_>,
        asked: Asked,
        start_ns: u64,
        mark: Mark,
    ) {
        let id = self.connection.submit(request);
        self.in_flight.push_back(Sent {
            id,
            start_ns,
            asked,
            mark,
        });
    }

    /// Sends what the socket takes. The rest leaves when the poll says that there is room.
    pub(super) fn send(&mut self) -> Result<(), SessionError> {
        if self.is_lost {
            return Ok(());
        }
        let outbound = self.connection.outbound();
        let mut sent_bytes = 0;
        while sent_bytes < outbound.len() {
            match self.stream.write(&outbound[sent_bytes..]) {
                Ok(0) => return Err(SessionError::Closed),
                Ok(bytes) => sent_bytes += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        outbound.drain(..sent_bytes);
        Ok(())
    }

    /// Hands out every answer that has arrived.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        epoch: Instant,
        mut on_answer: impl FnMut(Answer<'_>),
    ) -> Result<(), SessionError> {
        while !self.is_lost {
            let bytes = match self.stream.read(buffer) {
                Ok(0) => return Err(SessionError::Closed),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let at_ns = nanoseconds(epoch.elapsed());
            let had_room = self.has_room();
            let in_flight = &mut self.in_flight;
            self.connection.on_bytes(&buffer[..bytes], |id, reply| {
                let position = position_of(in_flight, id);
                on_answer(Answer {
                    at_ns,
                    sent: &mut in_flight[position],
                    reply,
                });
                if reply.is_last() {
                    in_flight.swap_remove_front(position);
                }
            })?;
            if !had_room && self.has_room() {
                self.room_since_ns = at_ns;
            }
            // A short read has emptied the socket; the poll names it again when more arrives.
            if bytes < buffer.len() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Where a request that is answered stands.
fn position_of(in_flight: &VecDeque<Sent>, id: CallId) -> usize {
    // The next one in order, as a rule.
    if in_flight.front().is_some_and(|sent| sent.id == id) {
        return 0;
    }
    in_flight
        .iter()
        .position(|sent| sent.id == id)
        .expect("the connection answers only what was sent")
}
