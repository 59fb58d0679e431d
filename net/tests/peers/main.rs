//! Cores of different nodes that talk over the loopback device.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod endings;
mod exchange;
mod harness;
mod hostile;
mod limits;
mod raw;
