//! One socket with the connection's state: sending, receiving, and the memory that it failed.

use crate::blocking::{ConnectOptions, ConnectionFault};
use crate::client::ClientConnection;
use crate::frame::RequestId;
use crate::response::Response;
use crate::wire_error::WireError;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Bytes read from the socket at once.
const READ_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    pub(super) connection: ClientConnection,
    read_buffer: Vec<u8>,
    /// Set by the first fault: where the next frame begins, or what has been sent, is not known any more.
    is_broken: bool,
}

impl Link {
    /// Connects to the first of the address's meanings that answers.
    pub(super) fn open(
        address: &impl ToSocketAddrs,
        options: &ConnectOptions<'_>,
    ) -> io::Result<Link> {
        let mut result = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for candidate in address.to_socket_addrs()? {
            result = TcpStream::connect_timeout(&candidate, options.timeout);
            if result.is_ok() {
                break;
            }
        }
        let stream = result?;
        stream.set_nodelay(true)?;
        let mut link = Link {
            stream,
            connection: ClientConnection::new(&options.connection),
            read_buffer: vec![0; READ_BYTES],
            is_broken: false,
        };
        link.apply_timeout(options.timeout)?;
        Ok(link)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) -> Result<(), ConnectionFault> {
        Ok(self.apply_timeout(timeout)?)
    }

    fn apply_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))?;
        self.stream.set_write_timeout(Some(timeout))
    }

    /// One request and all of its answers. `read` gives the content of a response of the right kind; the last one
    /// counts.
    ///
    /// # Panics
    /// When other requests are under way.
    pub(super) fn call<T>(
        &mut self,
        send: impl FnOnce(&mut ClientConnection) -> RequestId,
        mut read: impl FnMut(Response<'_>) -> Option<T>,
    ) -> Result<Result<T, WireError>, ConnectionFault> {
        assert_eq!(
            self.connection.pending_count(),
            0,
            "a call while requests are under way"
        );
        let id = send(&mut self.connection);
        self.send()?;
        let mut answer = None;
        while self.connection.pending_count() > 0 {
            self.receive(|answered, response| {
                assert_eq!(answered, id, "there is no other request");
                answer = if let Response::Error(error) = response {
                    Some(Err(error))
                } else {
                    read(response).map(Ok)
                };
            })?;
        }
        Ok(answer.expect("the connection matches the kind of each answer to its request"))
    }

    /// Sends everything that is waiting.
    pub(super) fn send(&mut self) -> Result<(), ConnectionFault> {
        if self.is_broken {
            return Err(ConnectionFault::Closed);
        }
        let outbound = self.connection.outbound();
        let result = self.stream.write_all(outbound);
        outbound.clear();
        self.check(result.map_err(ConnectionFault::from))
    }

    /// Reads once and hands out the answers that are complete with it.
    pub(super) fn receive(
        &mut self,
        on_response: impl FnMut(RequestId, Response<'_>),
    ) -> Result<(), ConnectionFault> {
        if self.is_broken {
            return Err(ConnectionFault::Closed);
        }
        let result = self.read_once(on_response);
        self.check(result)
    }

    fn read_once(
        &mut self,
        on_response: impl FnMut(RequestId, Response<'_>),
    ) -> Result<(), ConnectionFault> {
        let count = loop {
            match self.stream.read(&mut self.read_buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if count == 0 {
            return Err(ConnectionFault::Closed);
        }
        let bytes = &self.read_buffer[..count];
        Ok(self.connection.on_bytes(bytes, on_response)?)
    }

    fn check(&mut self, result: Result<(), ConnectionFault>) -> Result<(), ConnectionFault> {
        self.is_broken |= result.is_err();
        result
    }
}
