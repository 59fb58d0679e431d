//! The program as its users meet it: a store of its own for each test, on a loopback port, and the commands as separate
//! processes.

mod client;
mod fake_server;
#[path = "../harness/mod.rs"]
mod harness;
mod import_tree;
mod snapshot;
mod store;
mod structured;
mod wal;
