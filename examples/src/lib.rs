//! What the examples share: the address of a store, and how they fail.
//!
//! Each program in `src/bin` shows one task, from connecting to the answer, and checks what it says. Run a store with
//! `cargo run -- dev`, then an example with `cargo run -p metastore-examples --bin put_get`; another address goes behind
//! it: `-- 127.0.0.1:7400`.
//!
//! It does **not** hold anything that a program needs from the library: everything that matters is in the programs.

use metastore_net::async_client::{Client, ClientSettings, Error};

/// Connects to the address given on the command line, or to the one that `metastore dev` listens on.
///
/// # Errors
/// When there is no store.
pub async fn connect() -> Result<Client, Error> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7400".to_owned());
    Client::connect([address], ClientSettings::default()).await
}

/// A directory that no other run of this example uses, so that it may run any number of times.
#[must_use]
pub fn fresh_directory(name: &str) -> String {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let nanos = since.map_or(0, |time| time.as_nanos());
    format!("/examples/{name}/{}-{nanos}/", std::process::id())
}
