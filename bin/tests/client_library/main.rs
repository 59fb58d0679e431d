//! The client library against a store in a process of its own.

#[path = "../harness/mod.rs"]
mod harness;
mod history;
mod operations;
mod transactions;
