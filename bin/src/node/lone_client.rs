//! Whether a core has one client that asks one thing at a time.
//!
//! While such a client's write is on its way to the device the core has nothing else to do. It then waits for the
//! log's ring itself: going to sleep in the executor and being woken through a socket takes several system calls more,
//! a good part of what a lone write costs beside the device. It does not wait so for anybody else: what others
//! send meanwhile would stay unread.

use std::cell::Cell;

use metastore_engine::ConnectionId;

/// After so many requests in a row a client is taken to be alone.
const REQUESTS_ALONE: u32 = 4;

/// Who has sent the last requests.
#[derive(Debug, Default)]
pub(super) struct LoneClient {
    last: Cell<Option<ConnectionId>>,
    /// Requests in a row that this one has sent, each in a turn of its own.
    in_a_row: Cell<u32>,
    /// Requests since the last turn.
    in_this_turn: Cell<u32>,
}

impl LoneClient {
    /// A request has come.
    pub(super) fn on_request(&self, connection: ConnectionId) {
        self.in_this_turn.set(self.in_this_turn.get() + 1);
        if self.last.replace(Some(connection)) != Some(connection) {
            self.in_a_row.set(0);
        }
    }

    /// Something came that no client of this core has sent.
    pub(super) fn on_other_work(&self) {
        self.in_a_row.set(0);
    }

    /// A turn ends: the client whose one request it had, if that client has been alone for a while.
    pub(super) fn take_turn(&self) -> Option<ConnectionId> {
        match self.in_this_turn.replace(0) {
            // A completion, or the time: neither speaks for or against it.
            0 => return None,
            1 => self.in_a_row.set(self.in_a_row.get().saturating_add(1)),
            2.. => self.in_a_row.set(0),
        }
        self.last
            .get()
            .filter(|_| self.in_a_row.get() > REQUESTS_ALONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets each connection send one request in a turn of its own, and returns what the last turn said.
    fn after(client: &LoneClient, connections: &[u64]) -> Option<ConnectionId> {
        let turns = connections.iter().map(|&connection| {
            client.on_request(ConnectionId(connection));
            client.take_turn()
        });
        turns.last().expect("there are turns")
    }

    #[test]
    fn a_client_is_alone_after_some_requests_of_its_own() {
        let client = LoneClient::default();
        assert_eq!(after(&client, &[7, 7, 7, 7]), None);
        assert_eq!(after(&client, &[7]), Some(ConnectionId(7)));
        assert_eq!(client.take_turn(), None, "a turn without a request");
        assert_eq!(after(&client, &[7]), Some(ConnectionId(7)));
    }

    #[test]
    fn whoever_shares_the_core_is_not_alone() {
        let client = LoneClient::default();
        assert_eq!(after(&client, &[7, 8, 7, 8, 7, 8, 7, 8, 7, 8]), None);
        assert_eq!(after(&client, &[7, 7, 7, 7, 7]), Some(ConnectionId(7)));
        client.on_other_work();
        assert_eq!(after(&client, &[7]), None);
    }

    #[test]
    fn whoever_sends_several_at_a_time_is_not_alone() {
        let client = LoneClient::default();
        assert_eq!(after(&client, &[7, 7, 7, 7, 7]), Some(ConnectionId(7)));
        client.on_request(ConnectionId(7));
        client.on_request(ConnectionId(7));
        assert_eq!(client.take_turn(), None);
        assert_eq!(after(&client, &[7]), None);
    }
}
