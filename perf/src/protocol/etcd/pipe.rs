//! The socket that HTTP/2 sees: two buffers in memory, filled and emptied by whoever has the real socket.
//!
//! What is written waits without a limit of its own; it is bounded by the requests in flight and by the windows that
//! the server gives.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The near end of the pipe. Both ends are of one thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Pipe(Rc<RefCell<Buffers>>);

/// The end that HTTP/2 reads and writes.
#[derive(Debug)]
pub(super) struct FarEnd(Rc<RefCell<Buffers>>);

#[derive(Debug, Default)]
struct Buffers {
    received: Vec<u8>,
    /// Bytes of these that were read.
    read_bytes: usize,
    written: Vec<u8>,
}

impl Pipe {
    /// The other end.
    pub(super) fn far_end(&self) -> FarEnd {
        FarEnd(Rc::clone(&self.0))
    }

    /// Bytes from the socket. The far end is told by being polled.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut buffers = self.0.borrow_mut();
        if buffers.read_bytes == buffers.received.len() {
            buffers.received.clear();
            buffers.read_bytes = 0;
        }
        buffers.received.extend_from_slice(bytes);
    }

    /// Moves what was written behind `out`.
    pub(super) fn take_written(&self, out: &mut Vec<u8>) {
        let written = &mut self.0.borrow_mut().written;
        if out.is_empty() {
            std::mem::swap(out, written);
        } else {
            out.append(written);
        }
    }
}

impl AsyncRead for FarEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffers = self.0.borrow_mut();
        let unread = &buffers.received[buffers.read_bytes..];
        if unread.is_empty() {
            return Poll::Pending;
        }
        let bytes = unread.len().min(buffer.remaining());
        buffer.put_slice(&unread[..bytes]);
        buffers.read_bytes += bytes;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FarEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut buffers = self.0.borrow_mut();
        for piece in pieces {
            buffers.written.extend_from_slice(piece);
        }
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
