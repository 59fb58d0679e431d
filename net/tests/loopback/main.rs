//! A real server and real clients over the loopback device.

mod harness;
mod limits;
mod requests;
mod timeouts;
