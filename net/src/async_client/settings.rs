//! How a client behaves.

use metastore_statemachine::Namespaces;
use std::time::Duration;

/// How a client connects, waits, retries and limits itself. Every value has a default that suits a service on the same
/// network as the store.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// For the server's logs.
    pub client_name: String,
    /// Refuse to talk to any other cluster.
    pub cluster_id: Option<u128>,
    /// How long an operation may take, retries included, unless it says otherwise.
    pub deadline: Duration,
    /// How long connecting to one address may take, its hello included.
    pub connect_timeout: Duration,
    /// A connection on which nothing arrived for this long is asked for a sign of life, and given up when none comes
    /// for as long again.
    pub keepalive: Duration,
    /// The first pause before another attempt; each further one is twice as long.
    pub backoff_min: Duration,
    /// The longest pause before another attempt.
    pub backoff_max: Duration,
    /// What to do with a write whose outcome is not known, unless the write says otherwise.
    pub retry_unknown: RetryUnknown,
    /// Who is asked for reads.
    pub read_from: ReadFrom,
    /// When a read has waited so long for an address, that is asked for a sign of life; when none comes for as long again,
    /// the read goes elsewhere.
    pub read_patience: Duration,
    /// Requests that may wait for one connection; then operations wait before they queue.
    pub queue_requests_max: usize,
    /// Requests without an answer on one connection, if the server allows as many.
    pub in_flight_max: usize,
    /// Bytes of requests that all operations of this client together may hold; then operations wait.
    pub request_bytes_max: usize,
    /// Ranges open at a time. Each has a connection of its own, so that a slow reader delays nobody else.
    pub ranges_max: usize,
    /// The most bytes of rows that [`collect`](crate::async_client::Range::collect) gathers.
    pub collect_bytes_max: usize,
    /// Commands that a batch puts into one frame; the server announces what it takes.
    pub batch_commands_max: usize,
    /// Bytes of commands that a batch puts into one frame, unless a single one is longer.
    pub batch_bytes_max: usize,
    /// The longest frame taken from a server.
    pub frame_bytes_max: usize,
    /// How often an interactive transaction is tried before its conflict is reported.
    pub transaction_attempts_max: u32,
    /// The namespaces whose keys this client can place by itself. Operations on others go to any core, which takes one
    /// more hop inside the store.
    pub namespaces: Namespaces,
}

/// Who is asked for reads. Every replica answers with all that was acknowledged before it was asked; one that does not
/// lead asks the leader how far that is, which costs a round trip between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadFrom {
    /// Who leads: the fastest answer.
    #[default]
    Leader,
    /// All replicas in turn, so that the work is spread over the nodes.
    Any,
}

/// What to do with a write that was sent and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetryUnknown {
    /// Say so: [`Error::OutcomeUnknown`](crate::async_client::Error::OutcomeUnknown).
    #[default]
    No,
    /// Send it again. It may be applied twice, and the first sending may be applied later than the second, over what
    /// others wrote meanwhile.
    Yes,
}

impl Default for ClientSettings {
    fn default() -> ClientSettings {
        ClientSettings {
            client_name: concat!("metastore-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            cluster_id: None,
            deadline: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            keepalive: Duration::from_secs(5),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(500),
            retry_unknown: RetryUnknown::No,
            read_from: ReadFrom::Leader,
            read_patience: Duration::from_millis(250),
            queue_requests_max: 1024,
            in_flight_max: 1024,
            request_bytes_max: 64 * 1024 * 1024,
            ranges_max: 16,
            collect_bytes_max: 64 * 1024 * 1024,
            batch_commands_max: 1024,
            batch_bytes_max: 1024 * 1024,
            frame_bytes_max: crate::frame::FRAME_BYTES_MAX_DEFAULT,
            transaction_attempts_max: 64,
            namespaces: Namespaces::default(),
        }
    }
}

impl ClientSettings {
    /// The name of the first setting that cannot be, with what it must be.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        const POSITIVE: &str = "must be more than zero";
        let durations = [
            ("deadline", self.deadline),
            ("connect_timeout", self.connect_timeout),
            ("keepalive", self.keepalive),
            ("backoff_min", self.backoff_min),
            ("read_patience", self.read_patience),
        ];
        if let Some((name, _)) = durations.iter().find(|(_, value)| value.is_zero()) {
            return Some((name, POSITIVE));
        }
        let counts = [
            ("queue_requests_max", self.queue_requests_max),
            ("in_flight_max", self.in_flight_max),
            ("ranges_max", self.ranges_max),
            ("batch_commands_max", self.batch_commands_max),
            (
                "transaction_attempts_max",
                self.transaction_attempts_max as usize,
            ),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Some((name, POSITIVE));
        }
        if self.backoff_max < self.backoff_min {
            return Some(("backoff_max", "must not be below backoff_min"));
        }
        if self.frame_bytes_max < FRAME_BYTES_MIN {
            return Some(("frame_bytes_max", "must be at least 4096"));
        }
        if !(FRAME_BYTES_MIN..=PERMITS_MAX).contains(&self.request_bytes_max) {
            return Some(("request_bytes_max", "must be from 4096 to 536870911"));
        }
        if self.ranges_max > PERMITS_MAX || self.queue_requests_max > PERMITS_MAX {
            return Some(("ranges_max or queue_requests_max", "is too large"));
        }
        None
    }
}

/// Below this not even a hello fits.
const FRAME_BYTES_MIN: usize = 4096;

/// What a semaphore counts to on the smallest machine, which is why the limit is the same on all.
const PERMITS_MAX: usize = (u32::MAX >> 3) as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be() {
        assert_eq!(ClientSettings::default().fault(), None);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let mut settings = ClientSettings {
            backoff_max: Duration::from_millis(1),
            ..ClientSettings::default()
        };
        assert_eq!(settings.fault().map(|(name, _)| name), Some("backoff_max"));
        settings.deadline = Duration::ZERO;
        assert_eq!(settings.fault().map(|(name, _)| name), Some("deadline"));
        settings = ClientSettings {
            in_flight_max: 0,
            ..ClientSettings::default()
        };
        assert_eq!(
            settings.fault().map(|(name, _)| name),
            Some("in_flight_max")
        );
    }
}
