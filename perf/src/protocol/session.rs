//! A connection on a socket that waits: for greetings, for loading keys, and for asking a system a few things in turn.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{CallId, Connection, Reply, Request, TalkError};
use crate::operation::Failure;
use crate::system::System;

/// How long connecting and the greeting may take.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take, under a load of batches too.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes taken from the socket at a time.
const RECEIVE_BYTES: usize = 64 * 1024;

/// A connection that has been greeted. Requests may be in flight side by side; the caller bounds them.
#[derive(Debug)]
pub(crate) struct Session {
    stream: TcpStream,
    connection: Connection,
    in_flight: usize,
    buffer: Vec<u8>,
}

/// Why there is no conversation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("cannot connect to {address}: {source}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the system at {address} does not greet: {failure}")]
    Greeting {
        address: SocketAddr,
        failure: Failure,
    },
    #[error("a connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("a connection was closed by the other end")]
    Closed,
    #[error(transparent)]
    Protocol(#[from] TalkError),
}

impl Session {
    /// Connects and waits for the greeting.
    pub(crate) fn connect(system: System, address: SocketAddr) -> Result<Session, SessionError> {
        Session::connect_within(system, address, GREETING_TIMEOUT)
    }

    /// As [`Session::connect`], where connecting and each wait for a part of the greeting may take so long.
    pub(crate) fn connect_within(
        system: System,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<Session, SessionError> {
        let connect = |source| SessionError::Connect { address, source };
        let stream = TcpStream::connect_timeout(&address, timeout).map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        stream.set_read_timeout(Some(timeout)).map_err(connect)?;
        stream
            .set_write_timeout(Some(ANSWER_TIMEOUT))
            .map_err(connect)?;
        let mut session = Session {
            stream,
            connection: Connection::new(system),
            in_flight: 0,
            buffer: vec![0; RECEIVE_BYTES],
        };
        session.greet(address)?;
        session.stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(session)
    }

    fn greet(&mut self, address: SocketAddr) -> Result<(), SessionError> {
        self.send()?;
        while !self.connection.is_ready() {
            let received = self.receive(|_, _| ());
            received.map_err(|error| error.while_greeted(address))?;
            self.send()?;
        }
        Ok(())
    }

    /// The socket, which still waits, and the connection.
    pub(crate) fn into_parts(self) -> (TcpStream, Connection) {
        (self.stream, self.connection)
    }

    /// How many requests await an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Prepares a request, which leaves with the next wait for replies.
    pub(crate) fn submit(&mut self, request: &Request<'_>) -> CallId {
        self.in_flight += 1;
        self.connection.submit(request)
    }

    /// Sends what was submitted and waits for bytes. Hands out the replies that are complete with them: perhaps none.
    pub(crate) fn next_replies(
        &mut self,
        on_reply: impl FnMut(CallId, &Reply<'_>),
    ) -> Result<(), SessionError> {
        self.send()?;
        self.receive(on_reply)?;
        // What the protocol says by itself leaves now, not with the next request.
        self.send()
    }

    /// Asks one thing, and waits for the last part of its answer.
    pub(crate) fn ask<T>(
        &mut self,
        request: &Request<'_>,
        mut read: impl FnMut(&Reply<'_>) -> T,
    ) -> Result<T, SessionError> {
        assert_eq!(self.in_flight, 0, "what was submitted is answered first");
        self.submit(request);
        let mut answer = None;
        while self.in_flight > 0 {
            self.next_replies(|_, reply| answer = Some(read(reply)))?;
        }
        Ok(answer.expect("a request ends with an answer"))
    }

    fn send(&mut self) -> Result<(), SessionError> {
        let outbound = self.connection.outbound();
        self.stream.write_all(outbound)?;
        outbound.clear();
        Ok(())
    }

    fn receive(
        &mut self,
        mut on_reply: impl FnMut(CallId, &Reply<'_>),
    ) -> Result<(), SessionError> {
        let bytes = self.stream.read(&mut self.buffer)?;
        if bytes == 0 {
            return Err(SessionError::Closed);
        }
        let in_flight = &mut self.in_flight;
        self.connection
            .on_bytes(&self.buffer[..bytes], |id, reply| {
                *in_flight -= usize::from(reply.is_last());
                on_reply(id, reply);
            })?;
        Ok(())
    }
}

impl SessionError {
    /// Whether the other end is gone, or is not ready to talk: others may be, and it may be later.
    pub(crate) fn is_loss(&self) -> bool {
        match self {
            SessionError::Connect { .. }
            | SessionError::Greeting { .. }
            | SessionError::Io(_)
            | SessionError::Closed => true,
            SessionError::Protocol(_) => false,
        }
    }

    /// The error as it is told of a greeting.
    fn while_greeted(self, address: SocketAddr) -> SessionError {
        if let SessionError::Protocol(TalkError::Greeting(failure)) = self {
            return SessionError::Greeting { address, failure };
        }
        self
    }
}
