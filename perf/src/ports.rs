//! Ports of the loopback interface for servers of our own.

use std::io;
use std::net::TcpListener;
use std::ops::Range;

use crate::random::Random;

/// Where several ports in a row are looked for: below those that the kernel gives to connections, which could take one
/// before a server does.
const ROWS: Range<u16> = 20_000..32_000;

/// How many rows are tried.
const TRIES_MAX: usize = 200;

/// So many different ports that were free a moment ago.
pub(crate) fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    // All are held until the last is found.
    let listeners = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)));
    let listeners: Vec<TcpListener> = listeners.collect::<io::Result<_>>()?;
    let ports = listeners.iter().map(|one| Ok(one.local_addr()?.port()));
    ports.collect()
}

/// The first of so many ports in a row, all of which were free a moment ago, and so were as many so far above.
pub(crate) fn free_rows(count: u16, above: u16) -> io::Result<u16> {
    // Two of these programs that run at one time look in different places.
    let mut random = Random::new(u64::from(std::process::id()));
    let places = f64::from(ROWS.end - ROWS.start - above - count);
    for _ in 0..TRIES_MAX {
        let first = ROWS.start + (random.next_unit() * places) as u16;
        let ports = (first..first + count).flat_map(|port| [port, port + above]);
        let listeners = ports.map(|port| TcpListener::bind(("127.0.0.1", port)));
        if listeners.collect::<io::Result<Vec<_>>>().is_ok() {
            return Ok(first);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no {count} ports in a row within {ROWS:?}, and {above} above"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ports_are_different_and_free() {
        let ports = free_ports(20).unwrap();
        let distinct: BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), 20);
        assert!(!distinct.contains(&0));
    }

    #[test]
    fn rows_leave_out_what_is_taken() {
        let first = free_rows(6, 1_000).unwrap();
        assert!(ROWS.contains(&first) && first + 1_006 <= ROWS.end);
        // The same process begins at the same place, and finds the upper row taken.
        let taken = TcpListener::bind(("127.0.0.1", first + 1_003));
        let other = free_rows(6, 1_000).unwrap();
        assert!(taken.is_err() || other != first, "{first}");
    }
}
