//! The client library against servers that misbehave.

mod fake;
mod faults;
mod limits;
mod operations;
mod placement;
