//! What a store shall look like, and whether that can work: decided before anything is written.

use std::net::SocketAddr;

use metastore_engine::{ClusterId, CoreId, Identity, NodeId, SLOT_COUNT};
use metastore_wal::{LogOptions, SealKey};

use super::node_file::HistoryBounds;
use super::{ListenOptions, NodeOptions, Oversubscription, StartError};

const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
const RECORD_BYTES_MAX: usize = 4 << 20;
/// The kernel takes a table of 2^20 files for a ring, which has a few others besides segments.
const SEGMENTS_MAX: usize = 1_000_000;
/// More cores than any machine has.
const CORES_MAX: usize = 1_024;

/// What is fixed when a data directory is formatted, from options that fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) cores: usize,
    pub(super) shards: usize,
    pub(super) segment_bytes: u64,
    pub(super) record_bytes_max: usize,
    pub(super) history: HistoryBounds,
}

impl Layout {
    /// What new data would look like on `cpus` processors. A format that the next step refuses could never be
    /// corrected, because later starts are held to it: so everything that depends on it is checked here.
    pub(super) fn choose(options: &NodeOptions, cpus: usize) -> Result<Layout, StartError> {
        let cores = options.cores.unwrap_or(cpus);
        let layout = Layout {
            cores,
            shards: options.shards.unwrap_or(cores),
            segment_bytes: options.wal.segment_bytes.unwrap_or(SEGMENT_BYTES_DEFAULT),
            record_bytes_max: options.wal.record_bytes_max.unwrap_or(RECORD_BYTES_MAX),
            history: options.history.bounds(),
        };
        for (name, actual, max) in [
            ("cores", layout.cores, CORES_MAX),
            ("shards", layout.shards, SLOT_COUNT),
        ] {
            if actual == 0 || actual > max {
                return Err(StartError::Count { name, actual, max });
            }
        }
        addresses(&options.listen, layout.cores)?;
        check_cpus(options, layout.cores, cpus)?;
        // The limits do not depend on whose log it is, and that is not known yet.
        let nobody = Identity {
            cluster: ClusterId(0),
            node: NodeId(0),
            core: CoreId(0),
        };
        log_options(
            options,
            layout.segment_bytes,
            layout.record_bytes_max,
            (nobody, SealKey(0)),
        )?;
        Ok(layout)
    }
}

/// Refuses more cores than processors unless they may take turns.
pub(super) fn check_cpus(
    options: &NodeOptions,
    cores: usize,
    cpus: usize,
) -> Result<(), StartError> {
    match options.oversubscription {
        Oversubscription::Refuse if cores > cpus => Err(StartError::TooFewCpus { cores, cpus }),
        Oversubscription::Refuse | Oversubscription::Warn => Ok(()),
    }
}

/// The limits of a core's log.
pub(super) fn log_options(
    options: &NodeOptions,
    segment_bytes: u64,
    record_bytes_max: usize,
    (identity, seal): (Identity, SealKey),
) -> Result<LogOptions, StartError> {
    let log = LogOptions {
        segment_bytes,
        record_bytes_max,
        budget_bytes: options.wal.budget_bytes,
        spare_segments: options.wal.spare_segments,
        writes_in_flight_max: options.wal.writes_in_flight_max,
        ..LogOptions::new(identity, seal)
    };
    log.validate()?;
    let segments = log.segments_max();
    if segments > SEGMENTS_MAX {
        return Err(StartError::SegmentCount {
            segments,
            max: SEGMENTS_MAX,
        });
    }
    Ok(log)
}

/// Where the cores listen.
pub(super) fn addresses(
    listen: &ListenOptions,
    cores: usize,
) -> Result<Vec<SocketAddr>, StartError> {
    let port = listen.port;
    (0..cores)
        .map(|core| {
            let port = u16::try_from(core)
                .ok()
                .and_then(|core| port.checked_add(core));
            port.map(|port| SocketAddr::new(listen.address, port))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(StartError::Ports { port, cores })
}
