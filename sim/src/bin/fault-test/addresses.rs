//! Where everything of a round listens: a block of loopback addresses that nobody else has.
//!
//! ```text
//!   127.a.b.1..      nodes, where they really listen
//!   127.a.b.101..    the proxies in front of them: what stands in the cluster's file
//!   127.a.b.201..    clients, so that a proxy knows who connects
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};

/// The addresses of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    process: u8,
    round: u8,
}

const CLIENTS_PORT: u16 = 7400;
const PEERS_PORT: u16 = 7500;
const NODES: u8 = 0;
const FRONTS: u8 = 100;
const CLIENTS: u8 = 200;
/// Most clients that a block has room for.
pub(crate) const CLIENTS_MAX: usize = 50;

impl Addresses {
    /// The block of a round of this process. A process of another number has another one.
    pub(crate) fn of_round(round: u64) -> Addresses {
        // In a namespace of processes the number of this one says little.
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let digits = namespace.to_string_lossy();
        let digits = digits.chars().filter_map(|digit| digit.to_digit(10));
        let namespace = digits.fold(0_u32, |number, digit| {
            number.wrapping_mul(10).wrapping_add(digit)
        });
        let process = namespace.wrapping_add(std::process::id()) % 250;
        // 127.0.*.* is what everybody else uses.
        let process = 1 + u8::try_from(process).expect("small");
        let round = u8::try_from(round % 250).expect("small");
        Addresses { process, round }
    }

    fn host(self, group: u8, number: u32) -> Ipv4Addr {
        let number = u8::try_from(number).expect("a round is small");
        Ipv4Addr::new(127, self.process, self.round, group + number)
    }

    /// Where a core of a node really listens for clients.
    pub(crate) fn node_clients(self, node: u32, core: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.host(NODES, node), CLIENTS_PORT + core)
    }

    /// Where a core of a node really listens for other nodes.
    pub(crate) fn node_peers(self, node: u32, core: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.host(NODES, node), PEERS_PORT + core)
    }

    /// Where clients are told that a core of a node is.
    pub(crate) fn front_clients(self, node: u32, core: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.host(FRONTS, node), CLIENTS_PORT + core)
    }

    /// Where other nodes are told that a core of a node is.
    pub(crate) fn front_peers(self, node: u32, core: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.host(FRONTS, node), PEERS_PORT + core)
    }

    /// The address of a client, which connects from any port.
    pub(crate) fn client(self, client: usize) -> SocketAddrV4 {
        let number = u32::try_from(client).expect("a round is small") + 1;
        SocketAddrV4::new(self.host(CLIENTS, number), 0)
    }

    /// Which client has an address.
    pub(crate) fn client_at(self, address: Ipv4Addr) -> Option<usize> {
        let clients = (0..CLIENTS_MAX).find(|&client| *self.client(client).ip() == address);
        clients.filter(|_| address.octets()[..3] == self.client(0).ip().octets()[..3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_its_address_and_nobody_else_is() {
        let (one, other) = (Addresses::of_round(7), Addresses::of_round(8));
        for client in 0..CLIENTS_MAX {
            assert_eq!(one.client_at(*one.client(client).ip()), Some(client));
            assert_eq!(other.client_at(*one.client(client).ip()), None);
        }
        assert_eq!(one.client_at(*one.node_clients(1, 0).ip()), None);
        assert_eq!(one.client_at(*one.front_peers(3, 1).ip()), None);
    }
}
