//! The connection of a command to a server.

use std::time::Duration;

use metastore_net::ClientOptions;
use metastore_net::blocking::{Client, ClientError, ConnectOptions};

use crate::arguments::ClientArguments;

/// Connects as the arguments say.
pub(super) fn connect(arguments: &ClientArguments) -> Result<Client, ClientError> {
    connect_to(&arguments.connect, arguments.timeout)
}

/// Connects to one address.
pub(super) fn connect_to(address: &str, timeout: Duration) -> Result<Client, ClientError> {
    let options = ConnectOptions {
        timeout,
        client_name: concat!("metastore ", env!("CARGO_PKG_VERSION")),
        connection: ClientOptions {
            deadline_ms: deadline_ms(timeout),
            ..ClientOptions::default()
        },
        ..ConnectOptions::default()
    };
    Client::connect_with(address, &options)
}

/// The deadline that requests carry: a little less than we listen, so that a server that gives up can still say so, and
/// say whether it happened.
fn deadline_ms(timeout: Duration) -> u32 {
    let listening = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    (listening - listening / 10).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_gives_up_before_we_do() {
        assert_eq!(deadline_ms(Duration::from_secs(5)), 4500);
        // 0 would mean the server's default.
        assert_eq!(deadline_ms(Duration::from_millis(1)), 1);
        assert!(deadline_ms(Duration::from_secs(u64::MAX / 1000)) > 3_000_000_000);
    }
}
