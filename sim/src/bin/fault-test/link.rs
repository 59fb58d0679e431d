//! A client's connection to a core: frames over a socket.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use metastore_net::{
    ClientConnection, ClientOptions, HelloRequest, ProtocolError, RequestId, Response,
};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

/// Why a connection is of no further use.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    /// It broke, or could not be made.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// Nothing came in time.
    #[error("no answer in time")]
    Timeout,
    /// What came makes no sense.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
}

/// A connection that has said hello.
pub(crate) struct Link {
    stream: TcpStream,
    pub(crate) connection: ClientConnection,
    buffer: Vec<u8>,
}

/// How long it takes to connect at most.
const CONNECT: Duration = Duration::from_millis(400);
const READ_BYTES: usize = 64 << 10;

impl Link {
    /// Connects from an address of the client's own. The hello is answered with the first request.
    pub(crate) async fn open(from: SocketAddrV4, to: SocketAddrV4) -> Result<Link, LinkError> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(from.into())?;
        let connecting = tokio::time::timeout(CONNECT, socket.connect(to.into()));
        let stream = connecting.await.map_err(|_| LinkError::Timeout)??;
        stream.set_nodelay(true)?;
        let mut connection = ClientConnection::new(&ClientOptions::default());
        connection.hello(&HelloRequest::new("fault-test", None));
        Ok(Link {
            stream,
            connection,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Sends what the connection has to say.
    pub(crate) async fn send(&mut self, by: Instant) -> Result<(), LinkError> {
        let bytes = std::mem::take(self.connection.outbound());
        let sent = timeout_at(by, self.stream.write_all(&bytes)).await;
        Ok(sent.map_err(|_| LinkError::Timeout)??)
    }

    /// Waits for bytes, and hands out each answer that is complete with them.
    pub(crate) async fn receive(
        &mut self,
        by: Instant,
        on_response: impl FnMut(RequestId, Response<'_>),
    ) -> Result<(), LinkError> {
        let read = timeout_at(by, self.stream.read(&mut self.buffer)).await;
        let length = read.map_err(|_| LinkError::Timeout)??;
        if length == 0 {
            return Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(self
            .connection
            .on_bytes(&self.buffer[..length], on_response)?)
    }
}
