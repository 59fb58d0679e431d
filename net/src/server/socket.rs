//! The listening socket of a core and those of its connections.

use crate::server::bind::keepalive;
use crate::server::readiness::{Mark, Readiness};
use futures_io::{AsyncRead, AsyncWrite};
use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use socket2::SockRef;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Where a core is connected to.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    mark: Rc<Mark>,
    readiness: Readiness,
}

impl Listener {
    /// Brings a listening socket to the core that is to serve it. Those of its connections are watched with its own.
    ///
    /// # Errors
    /// What the kernel says when it has no descriptor or memory left.
    pub fn new(socket: std::net::TcpListener, readiness: Readiness) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(socket);
        let mark = readiness.add(&mut listener, Interest::READABLE)?;
        Ok(Listener {
            listener,
            mark,
            readiness,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        let stream = poll_fn(|context| self.poll_accept(context)).await?;
        Socket::new(stream, self.readiness.clone())
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        if !self.mark.may_read(context) {
            return Poll::Pending;
        }
        match self.listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.mark.on_empty();
                self.mark.wake_later(context);
                Poll::Pending
            }
            accepted => Poll::Ready(accepted.map(|(stream, _)| stream)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.readiness.remove(&self.mark);
    }
}

/// The socket of one connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    mark: Rc<Mark>,
    readiness: Readiness,
}

impl Socket {
    fn new(mut stream: TcpStream, readiness: Readiness) -> io::Result<Socket> {
        let mark = readiness.add(&mut stream, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Socket {
            stream,
            mark,
            readiness,
        })
    }

    /// Begins to connect; [`Socket::poll_connected`] tells when that has come to an end. What is sent and not confirmed
    /// for `unconfirmed_timeout` ends the connection.
    pub(super) fn connect(
        address: SocketAddr,
        readiness: Readiness,
        unconfirmed_timeout: Duration,
    ) -> io::Result<Socket> {
        let stream = TcpStream::connect(address)?;
        let options = SockRef::from(&stream);
        options.set_tcp_nodelay(true)?;
        options.set_tcp_keepalive(&keepalive())?;
        options.set_tcp_user_timeout(Some(unconfirmed_timeout))?;
        Socket::new(stream, readiness)
    }

    /// Whether there is a connection, after [`Socket::connect`].
    pub(super) fn poll_connected(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.stream.take_error()? {
            return Poll::Ready(Err(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                self.mark.wake_later(context);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The task of this connection lets others go first, and has more to read.
    pub(super) fn on_yield(&self) {
        self.readiness.on_yield();
    }

    /// Who is at the other end, if there still is one.
    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// What a system call gave, if it is no reason to wait or to try again.
    fn settle<T>(&self, context: &mut Context<'_>, result: io::Result<T>) -> Poll<io::Result<T>> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.mark.wake_later(context);
                Poll::Pending
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.readiness.remove(&self.mark);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if !self.mark.may_read(context) {
            return Poll::Pending;
        }
        let result = self.stream.read(buffer);
        match &result {
            Ok(count) if *count < buffer.len() => self.mark.on_short_read(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.mark.on_empty(),
            Ok(_) | Err(_) => {}
        }
        self.settle(context, result)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.stream.write(bytes);
        self.settle(context, result)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Shuts our side down; what the other side still sends can be read.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}
