//! The client library against servers that misbehave.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod fake;
mod faults;
mod limits;
mod operations;
mod placement;
