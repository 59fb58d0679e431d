//! The one conversion that needs `unsafe`: a listening socket becomes glommio's.

#![allow(
    unsafe_code,
    reason = "glommio takes a socket that it did not bind itself only as a raw descriptor"
)]

use glommio::net::TcpListener;
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
