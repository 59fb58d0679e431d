//! The connection of a command to a server.

use std::thread;
use std::time::{Duration, Instant};

use metastore_net::blocking::{Client, ClientError, ConnectOptions};
use metastore_net::{ClientOptions, ErrorCode, Happened};

use crate::arguments::ClientArguments;

/// How long to wait before a shard that cannot answer now is asked again.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Connects as the arguments say: to the first of the addresses that answers.
pub(super) fn connect(arguments: &ClientArguments) -> Result<Client, ClientError> {
    connect_first(&arguments.connect, arguments.timeout)
}

/// Connects to the first of several addresses, with commas between them, that answers.
pub(super) fn connect_first(connect: &str, timeout: Duration) -> Result<Client, ClientError> {
    let mut addresses = connect.split(',').map(str::trim);
    let first = addresses.next().expect("a split has a first part");
    let mut connected = connect_to(first, timeout);
    for address in addresses {
        if connected.is_ok() {
            break;
        }
        // What the first one said is what is told if nobody answers.
        connected = connect_to(address, timeout).or(connected);
    }
    connected
}

/// Asks until there is an answer or the time is up: where another node leads, there; and while nobody does, again. What
/// may have happened is not asked twice.
pub(super) fn ask<T>(
    arguments: &ClientArguments,
    mut ask: impl FnMut(&mut Client) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let began = Instant::now();
    let mut client = connect(arguments)?;
    let mut hints = 0;
    loop {
        let error = match ask(&mut client) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some(hint) = find_again(&error) else {
            return Err(error);
        };
        if began.elapsed() + PAUSE >= arguments.timeout {
            return Err(error);
        }
        let led = (!hint.is_empty()).then(|| connect_to(hint, arguments.timeout));
        if let Some(Ok(other)) = led {
            client = other;
            // Two that name each other are about to learn who leads.
            if hints > 0 {
                thread::sleep(PAUSE);
            }
            hints += 1;
        } else {
            thread::sleep(PAUSE);
            client = connect(arguments)?;
        }
    }
}

/// Where to ask again what was not done, empty for anywhere; `None` where asking again is of no use.
pub(super) fn find_again(error: &ClientError) -> Option<&str> {
    let ClientError::Server(error) = error else {
        return None;
    };
    let may_pass = matches!(error.code, ErrorCode::NotLeader | ErrorCode::Unavailable);
    (may_pass && error.happened == Happened::NotDone).then_some(error.hint.as_str())
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
    use metastore_net::WireError;

    use super::*;

    #[test]
    fn what_certainly_did_not_happen_is_asked_where_it_is_led() {
        let error = |code, happened| {
            ClientError::Server(WireError {
                happened,
                hint: "b:2".to_owned(),
                ..WireError::new(code)
            })
        };
        let not_done = error(ErrorCode::NotLeader, Happened::NotDone);
        assert_eq!(find_again(&not_done), Some("b:2"));
        let unknown = error(ErrorCode::Unavailable, Happened::Unknown);
        assert_eq!(find_again(&unknown), None);
        let refused = error(ErrorCode::BadRequest, Happened::NotDone);
        assert_eq!(find_again(&refused), None);
    }

    #[test]
    fn the_server_gives_up_before_we_do() {
        assert_eq!(deadline_ms(Duration::from_secs(5)), 4500);
        // 0 would mean the server's default.
        assert_eq!(deadline_ms(Duration::from_millis(1)), 1);
        assert!(deadline_ms(Duration::from_secs(u64::MAX / 1000)) > 3_000_000_000);
    }
}
