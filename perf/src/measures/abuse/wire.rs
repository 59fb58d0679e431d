//! Connections that are opened by hand, because what is sent on them is not what a client library would send.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use metastore_net::{ClientConnection, ClientOptions, HelloRequest};

/// How long a socket may keep an abuser waiting before it looks whether it shall stop.
const SOCKET_PATIENCE: Duration = Duration::from_millis(200);
/// How long a hello may take while the store is busy.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// A socket whose reads and writes do not wait for long.
pub(super) fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, HELLO_PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SOCKET_PATIENCE))?;
    stream.set_write_timeout(Some(SOCKET_PATIENCE))?;
    Ok(stream)
}

/// A socket on which hello was said and answered.
pub(super) fn open_greeted(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = open(address)?;
    stream.set_read_timeout(Some(HELLO_PATIENCE))?;
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.hello(&HelloRequest::new("metastore-perf abuse", None));
    stream.write_all(connection.outbound())?;
    let mut buffer = [0; 4096];
    while connection.pending_count() > 0 {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        connection
            .on_bytes(&buffer[..count], |_, _| ())
            .map_err(io::Error::other)?;
    }
    stream.set_read_timeout(Some(SOCKET_PATIENCE))?;
    Ok(stream)
}

/// The bytes of requests.
pub(super) fn bytes_of(request: impl FnOnce(&mut ClientConnection)) -> Vec<u8> {
    let mut connection = ClientConnection::new(&ClientOptions::default());
    request(&mut connection);
    std::mem::take(connection.outbound())
}

/// Whether an error only says that nothing could be moved for now.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Connections that have said hello and nothing more.
#[derive(Debug)]
pub(super) struct IdleConnections {
    streams: Vec<TcpStream>,
}

impl IdleConnections {
    /// Opens so many.
    pub(super) fn open(address: SocketAddr, count: usize) -> io::Result<IdleConnections> {
        let streams = (0..count).map(|_| open_greeted(address));
        Ok(IdleConnections {
            streams: streams.collect::<io::Result<_>>()?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }
}
