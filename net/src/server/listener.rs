//! The conversions that need `unsafe`: sockets made elsewhere become glommio's.

#![allow(
    unsafe_code,
    reason = "glommio takes a socket that it did not bind itself only as a raw descriptor"
)]

use glommio::net::{TcpListener, UnixStream};
use std::os::fd::{FromRawFd, IntoRawFd};

/// Brings a listening socket to the executor of the calling thread.
///
/// # Panics
/// Outside an executor.
pub fn adopt_listener(socket: std::net::TcpListener) -> TcpListener {
    let descriptor = socket.into_raw_fd();
    // SAFETY: `into_raw_fd` gives up the descriptor, which is open and a listening stream socket, so that the new
    // owner is the only one.
    unsafe { TcpListener::from_raw_fd(descriptor) }
}

/// Brings a connected socket to the executor of the calling thread.
///
/// # Panics
/// Outside an executor.
pub fn adopt_stream(socket: std::os::unix::net::UnixStream) -> UnixStream {
    let descriptor = socket.into_raw_fd();
    // SAFETY: `into_raw_fd` gives up the descriptor, which is open and a connected stream socket, so that the new
    // owner is the only one.
    unsafe { UnixStream::from_raw_fd(descriptor) }
}
