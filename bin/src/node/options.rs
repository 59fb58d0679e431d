//! How a node is started.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use metastore_engine::{CoreId, Settings};
use metastore_net::server::ServerOptions;
use metastore_wal::device::{Fault, FlushMethod};

use super::node_file::HistoryBounds;

/// How a node is started. What is fixed when data is formatted is `None` where nobody asks for anything: then the data
/// decides, and the defaults for new data.
#[derive(Debug, Clone)]
pub(crate) struct NodeOptions {
    pub(crate) data: PathBuf,
    pub(crate) format: FormatPolicy,
    pub(crate) listen: ListenOptions,
    pub(crate) cores: Option<usize>,
    pub(crate) shards: Option<usize>,
    pub(crate) cpus: Option<String>,
    pub(crate) oversubscription: Oversubscription,
    pub(crate) wal: WalOptions,
    /// What must be free on the disk for anything but deletes; `None` for a share of the disk.
    pub(crate) disk_low_bytes: Option<u64>,
    /// Bytes a second that the snapshots of a core take of the disk.
    pub(crate) snapshot_bytes_per_second_max: u64,
    pub(crate) history: HistoryOptions,
    pub(crate) settings: Settings,
    pub(crate) server: ServerOptions,
    /// What the node may use; half of the machine's memory when `None`.
    pub(crate) memory_budget_bytes: Option<u64>,
    /// Of each core; as many as the descriptors allow when `None`.
    pub(crate) connections_max: Option<usize>,
    /// Where metrics and health are answered.
    pub(crate) admin: Option<SocketAddr>,
    /// For tests: what the disk of each core's log does wrong.
    pub(crate) fault: Option<Fault>,
}

/// What happens to a directory that holds no store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormatPolicy {
    /// It is refused: the disk may not be mounted.
    Never,
    /// It is formatted if it is empty.
    IfEmpty,
    /// The same, and a directory that holds a store is refused.
    Anew,
}

/// What happens with more cores than processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oversubscription {
    Refuse,
    Warn,
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenOptions {
    pub(crate) address: IpAddr,
    /// Core `i` listens on `port + i`.
    pub(crate) port: u16,
    /// What clients are told instead of the address.
    pub(crate) advertise: Option<String>,
}

impl ListenOptions {
    /// Where clients are told to find a core.
    pub(crate) fn advertised(&self, core: CoreId) -> String {
        let port = u32::from(self.port) + u32::from(core.0);
        let port = u16::try_from(port).expect("the ports of all cores were checked");
        match &self.advertise {
            // An address of version 6 needs brackets, and a name none.
            Some(host) => match host.parse::<IpAddr>() {
                Ok(address) => SocketAddr::new(address, port).to_string(),
                Err(_) => format!("{host}:{port}"),
            },
            None => SocketAddr::new(self.address, port).to_string(),
        }
    }
}

/// The log of each core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WalOptions {
    /// Fixed when data is formatted.
    pub(crate) segment_bytes: Option<u64>,
    /// Fixed when data is formatted.
    pub(crate) record_bytes_max: Option<usize>,
    pub(crate) budget_bytes: u64,
    pub(crate) spare_segments: usize,
    pub(crate) writes_in_flight_max: usize,
    /// How long a core waits in place for the write of its only client; zero for never.
    pub(crate) wait_max: Duration,
    /// `None`: what was measured when the data was formatted.
    pub(crate) flush_method: Option<FlushMethod>,
}

/// How far back reads can go, fixed when data is formatted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HistoryOptions {
    pub(crate) revisions_max: Option<u64>,
    pub(crate) age_ms_max: Option<u64>,
    pub(crate) bytes_max: Option<u64>,
}

impl HistoryOptions {
    /// The bounds of new data.
    pub(super) fn bounds(&self) -> HistoryBounds {
        let default = HistoryBounds::default();
        HistoryBounds {
            revisions_max: self.revisions_max.unwrap_or(default.revisions_max),
            age_ms_max: self.age_ms_max.unwrap_or(default.age_ms_max),
            bytes_max: self.bytes_max.unwrap_or(default.bytes_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_where_each_core_is() {
        let listen = |address: &str, advertise: Option<&str>| ListenOptions {
            address: address.parse().expect("an address"),
            port: 7400,
            advertise: advertise.map(str::to_owned),
        };
        let told = |listen: ListenOptions| listen.advertised(CoreId(2));
        assert_eq!(told(listen("127.0.0.1", None)), "127.0.0.1:7402");
        assert_eq!(told(listen("::1", None)), "[::1]:7402");
        assert_eq!(told(listen("0.0.0.0", Some("db1"))), "db1:7402");
        assert_eq!(told(listen("::", Some("fe80::1"))), "[fe80::1]:7402");
    }
}
