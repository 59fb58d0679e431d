//! A real server and real clients over the loopback device.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod harness;
mod hostile;
mod limits;
mod requests;
mod timeouts;
