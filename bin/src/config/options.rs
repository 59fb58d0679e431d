//! From values to what the node, its log messages and its admin port are started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use metastore_engine::{
    AdmissionSettings, BatchSettings, RaftSettings, Settings, SnapshotSettings, TickTiming,
};
use metastore_net::server::ServerOptions;
use metastore_net::{ConnectionLimits, ServerLimits};
use metastore_wal::device::FlushMethod;

use super::{Configuration, Key, Value};
use crate::log::Level;
use crate::node::{
    FormatPolicy, HistoryOptions, ListenOptions, NodeOptions, Oversubscription, PeersOptions,
    WalOptions,
};

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What is written, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) level: Level,
    pub(crate) format: LogFormat,
}

impl Configuration {
    pub(super) fn value(&self, key: Key) -> &Value {
        &self.get(key).value
    }

    /// The number of a key that always has one.
    pub(super) fn number(&self, key: Key) -> u64 {
        self.optional_number(key)
            .unwrap_or_else(|| panic!("{} is always a number", key.name()))
    }

    /// The number of a key, `None` when it is `auto` or `off`.
    pub(super) fn optional_number(&self, key: Key) -> Option<u64> {
        match self.value(key) {
            Value::Bytes(number) | Value::Milliseconds(number) | Value::Number(number) => {
                Some(*number)
            }
            Value::Auto | Value::Off => None,
            Value::Text(_) => panic!("{} is a number", key.name()),
        }
    }

    fn size(&self, key: Key) -> usize {
        usize::try_from(self.number(key)).expect("a processor of 64 bits")
    }

    fn duration(&self, key: Key) -> Duration {
        Duration::from_millis(self.number(key))
    }

    fn text(&self, key: Key) -> Option<&str> {
        match self.value(key) {
            Value::Text(text) => Some(text),
            Value::Auto | Value::Off => None,
            Value::Bytes(_) | Value::Milliseconds(_) | Value::Number(_) => {
                panic!("{} is text", key.name())
            }
        }
    }

    /// The value of a key whose kind has checked that it can be read so.
    pub(super) fn parsed<T: FromStr>(&self, key: Key) -> T {
        let text = self.text(key).and_then(|text| text.parse().ok());
        text.unwrap_or_else(|| panic!("{} was checked", key.name()))
    }

    /// The number of a key that somebody set, which data that exists must then agree with.
    fn demanded(&self, key: Key) -> Option<u64> {
        self.is_given(key)
            .then(|| self.optional_number(key))
            .flatten()
    }

    /// How the node is started.
    pub(crate) fn node_options(&self, oversubscription: Oversubscription) -> NodeOptions {
        let demanded_size = |key| {
            self.demanded(key)
                .map(|number| usize::try_from(number).expect("a processor of 64 bits"))
        };
        NodeOptions {
            data: PathBuf::from(self.text(Key::Data).expect("a path is text")),
            format: match self.text(Key::Format) {
                Some("if-empty") => FormatPolicy::IfEmpty,
                _ => FormatPolicy::Never,
            },
            founding: None,
            listen: self.listen(),
            peers: self.peers(),
            cores: demanded_size(Key::Cores),
            shards: demanded_size(Key::Shards),
            cpus: self.text(Key::Cpus).map(str::to_owned),
            oversubscription,
            wal: WalOptions {
                segment_bytes: self.demanded(Key::WalSegmentBytes),
                record_bytes_max: demanded_size(Key::WalMaxRecordBytes),
                budget_bytes: self.number(Key::WalBudget),
                spare_segments: self.size(Key::WalSpareSegments),
                writes_in_flight_max: self.size(Key::WalMaxWritesInFlight),
                wait_max: Duration::from_micros(self.number(Key::WalPoll)),
                flush_method: self.text(Key::WalFlush).map(|name| match name {
                    "dsync" => FlushMethod::Dsync,
                    _ => FlushMethod::WriteThenSync,
                }),
            },
            disk_low_bytes: self.optional_number(Key::DiskLow),
            snapshot_bytes_per_second_max: self.number(Key::SnapshotRateLimit),
            history: HistoryOptions {
                revisions_max: self.demanded(Key::HistoryMaxRevisions),
                age_ms_max: self.demanded(Key::HistoryMaxAge),
                bytes_max: self.demanded(Key::HistoryMaxBytes),
            },
            settings: self.settings(),
            server: self.server(),
            memory_budget_bytes: self.optional_number(Key::MemoryBudget),
            connections_max: self
                .optional_number(Key::LimitsConnections)
                .map(|number| usize::try_from(number).expect("a processor of 64 bits")),
            admin: self.admin_listen(),
            fault: None,
        }
    }

    fn listen(&self) -> ListenOptions {
        let usual = SocketAddr::new(
            self.parsed(Key::ListenAddress),
            port_of(self.number(Key::ListenPort)),
        );
        ListenOptions {
            address: self.is_given(Key::ListenAddress).then_some(usual.ip()),
            port: self.demanded(Key::ListenPort).map(port_of),
            usual,
            advertise: self.text(Key::ListenAdvertise).map(str::to_owned),
        }
    }

    fn peers(&self) -> PeersOptions {
        let address = self.text(Key::PeersAddress);
        PeersOptions {
            address: address.map(|_| self.parsed(Key::PeersAddress)),
            port: self.optional_number(Key::PeersPort).map(port_of),
        }
    }

    fn settings(&self) -> Settings {
        let compress = *self.value(Key::CompressCodec) != Value::Off;
        Settings {
            batch: BatchSettings {
                commands_max: self.size(Key::BatchMaxCommands),
                bytes_max: self.size(Key::BatchMaxBytes),
                compress_bytes_min: compress.then(|| self.size(Key::CompressMinBytes)),
            },
            raft: RaftSettings {
                tick_interval_ms: self.number(Key::RaftTickInterval),
                election_ticks: self.size(Key::RaftElectionTick),
                heartbeat_ticks: self.size(Key::RaftHeartbeatTick),
                timing: match *self.value(Key::RaftAdaptiveTiming) == Value::Off {
                    true => TickTiming::Fixed,
                    false => TickTiming::default(),
                },
                inflight_messages_max: self.size(Key::RaftMaxInflightMsgs),
                message_bytes_max: self.number(Key::RaftMaxSizePerMsg),
                uncommitted_bytes_max: self.number(Key::RaftMaxUncommittedSize),
                committed_bytes_per_ready_max: self.number(Key::RaftMaxCommittedSizePerReady),
                apply_ahead_entries_max: self.optional_number(Key::RaftApplyAhead),
                ..RaftSettings::default()
            },
            admission: AdmissionSettings {
                target_ms: self.number(Key::AdmissionTarget),
                interval_ms: self.number(Key::AdmissionInterval),
            },
            snapshots: SnapshotSettings {
                log_bytes_min: self.number(Key::SnapshotLogBytes),
                entries: self.optional_number(Key::SnapshotCount),
                interval_ms: self.optional_number(Key::SnapshotInterval),
                ..SnapshotSettings::default()
            },
            deadline_default_ms: self.number(Key::LimitsDeadlineDefault),
            deadline_max_ms: self.number(Key::LimitsDeadlineMax),
            reads_waiting_max: self.size(Key::LimitsReadsWaiting),
            ranges_max: self.size(Key::LimitsRanges),
            ranges_per_connection_max: self.size(Key::LimitsRangesPerConnection),
            gathers_max: self.size(Key::LimitsBatchesWaiting),
            sweeps_max: self.size(Key::LimitsRangeDeletes),
            ..Settings::default()
        }
    }

    fn server(&self) -> ServerOptions {
        let commands = self.number(Key::LimitsCommandsInFlight);
        ServerOptions {
            connection: ConnectionLimits {
                announced: ServerLimits {
                    commands_in_flight: u32::try_from(commands).expect("it is bounded"),
                    ..ServerLimits::default()
                },
                outbound_bytes_max: self.size(Key::LimitsOutboundBytes),
                outbound_bytes_close: self.size(Key::LimitsOutboundBytesClose),
                ..ConnectionLimits::default()
            },
            handshake_timeout: self.duration(Key::LimitsHandshakeTimeout),
            frame_timeout: self.duration(Key::LimitsFrameTimeout),
            unread_timeout: self.duration(Key::LimitsUnreadTimeout),
            ..ServerOptions::default()
        }
    }

    /// Where the admin port listens, `None` when it is off.
    fn admin_listen(&self) -> Option<SocketAddr> {
        self.text(Key::AdminListen)?;
        Some(self.parsed(Key::AdminListen))
    }

    /// What is logged, and how.
    pub(crate) fn log_settings(&self) -> LogSettings {
        LogSettings {
            level: match self.text(Key::LogLevel) {
                Some("error") => Level::Error,
                Some("warn") => Level::Warn,
                Some("debug") => Level::Debug,
                _ => Level::Info,
            },
            format: match self.text(Key::LogFormat) {
                Some("json") => LogFormat::Json,
                _ => LogFormat::Text,
            },
        }
    }
}

fn port_of(number: u64) -> u16 {
    u16::try_from(number).expect("ports are bounded")
}
