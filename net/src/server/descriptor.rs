//! The conversions that need `unsafe`: descriptors made elsewhere become streams of glommio.

#![allow(
    unsafe_code,
    reason = "glommio takes a descriptor that it did not open itself only as a raw one"
)]

use glommio::net::UnixStream;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// Brings a connected socket to the executor of the calling thread.
///
/// # Panics
/// Outside an executor.
pub fn adopt_stream(socket: std::os::unix::net::UnixStream) -> UnixStream {
    adopt_descriptor(socket.into())
}

/// Brings any descriptor to the executor of the calling thread. If it is no socket, the stream is good for waiting
/// until it is readable, and for nothing else.
///
/// # Panics
/// Outside an executor.
pub(super) fn adopt_descriptor(descriptor: OwnedFd) -> UnixStream {
    let descriptor = descriptor.into_raw_fd();
    // SAFETY: `into_raw_fd` gives up the descriptor, which is open, so that the new owner is the only one. A stream
    // does nothing with it but system calls that fail for descriptors of another kind.
    unsafe { UnixStream::from_raw_fd(descriptor) }
}
