//! Making the listening socket.

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: i32 = 1024;

/// A peer that vanished without a word is noticed after this long idle, plus `KEEPALIVE_PROBES` intervals.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("the address {address} is in use")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address is not one of this machine, or a port that needs privileges.
    #[error("the address {address} cannot be used: {source}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Listens on `address`, before any thread is started, so that a taken port is found early;
/// [`Listener::new`](crate::server::Listener::new) brings the socket to its core.
///
/// # Errors
/// Why not, with the address.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    listen(address).map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::InUse { address }
        } else {
            BindError::Refused { address, source }
        }
    })
}

/// `SO_REUSEADDR` lets a restarted server listen at once although old connections linger. `SO_REUSEPORT` is left
/// alone: it would let two stores listen on one port and each see half of the clients. Accepted sockets inherit the
/// options.
fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How a peer that vanished is noticed.
pub(super) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::TcpStream;

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        let accepted = SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
    }

    #[test]
    fn an_address_of_another_machine_is_refused_by_name() {
        // Set aside for documents: no machine has it.
        let address = SocketAddr::from(([192, 0, 2, 1], 7400));
        let refused = bind(address).unwrap_err();
        assert!(matches!(refused, BindError::Refused { address: named, .. } if named == address));
        assert!(refused.to_string().contains("192.0.2.1:7400"));
    }
}
