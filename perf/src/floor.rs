//! `metastore-perf floor`: what one durable write of 4 KiB costs where the store's data lies. No store can be faster
//! than that for a lone put.

mod beside_store;
mod fio;
mod own_ring;
mod scratch;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use metastore_wal::device::{BlockDeviceFlushes, DeviceError, FlushMethod};
use serde::{Deserialize, Serialize};

use crate::arguments::FloorArguments;
use crate::conditions::{Machine, file_system};
use crate::error::{PerfError, Verdict};
use crate::output::{Output, number};
use crate::store::DiskCache;
pub(crate) use beside_store::measure_beside_store;
use fio::FioError;
pub(crate) use scratch::{Scratch, ScratchError};

/// Bytes of a write.
pub(crate) const WRITE_BYTES: u64 = 4_096;

/// Bytes of the file that is written over and over.
const FILE_BYTES: u64 = 16 << 20;

/// What is written again and again, each write durable before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteShape {
    /// Whole blocks of 4 KiB.
    pub(crate) bytes: u64,
    pub(crate) method: FlushMethod,
}

/// The writes of the floor.
const FLOOR_SHAPE: WriteShape = WriteShape {
    bytes: WRITE_BYTES,
    method: FlushMethod::Dsync,
};

/// The floor may move by this much while something is measured upon it.
pub(crate) const DRIFT_MAX: f64 = 0.15;

/// What has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FloorTool {
    /// fio of this version.
    Fio(String),
    /// The store's own ring, where fio is not installed.
    OwnRing,
}

/// The most files that are written side by side.
pub(crate) const JOBS_MAX: u16 = 16;

/// Durable writes, one at a time into each file. Latency counts from the submission to the completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Floor {
    pub(crate) tool: FloorTool,
    pub(crate) writes: u64,
    pub(crate) writes_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

/// Why there is no floor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FloorError {
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Fio(#[from] FioError),
    #[error("not a single write was completed in {measured:?}")]
    Nothing { measured: Duration },
    #[error("cannot start a process for the floor: {0}")]
    Spawn(io::Error),
    #[error("the process for the floor failed with {status}: {complaint}")]
    Failed {
        status: ExitStatus,
        complaint: String,
    },
    #[error("the floor's report cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// A floor with its conditions.
#[derive(Debug, Serialize)]
struct FloorReport<'a> {
    machine: Machine,
    file_system: Option<String>,
    disk_cache: Option<DiskCache>,
    write_bytes: u64,
    file_bytes: u64,
    seconds: u64,
    /// Files that are written side by side.
    #[serde(skip_serializing_if = "is_one")]
    jobs: u16,
    floor: &'a Floor,
}

fn is_one(jobs: &u16) -> bool {
    *jobs == 1
}

/// Measures and reports.
pub(crate) fn run(arguments: &FloorArguments) -> Result<Verdict, PerfError> {
    let mut output = Output::new(arguments.json.clone());
    let jobs = arguments.jobs;
    let floor = measure_floor(
        &arguments.data,
        Duration::from_secs(arguments.seconds),
        jobs,
    )?;
    let disk = BlockDeviceFlushes::of(&arguments.data).ok();
    let report = FloorReport {
        machine: Machine::this(),
        file_system: file_system(&arguments.data),
        disk_cache: disk.as_ref().and_then(DiskCache::of),
        write_bytes: WRITE_BYTES,
        file_bytes: FILE_BYTES,
        seconds: arguments.seconds,
        jobs,
        floor: &floor,
    };
    output.line(&report.machine.words())?;
    output.line(&format!(
        "disk: file system {}, cache {}",
        report.file_system.as_deref().unwrap_or("unknown"),
        report.disk_cache.map_or("unknown", DiskCache::words)
    ))?;
    output.line(&floor.words(jobs))?;
    output.json(&report)?;
    Ok(Verdict::Valid)
}

/// Measures the floor in a directory, by so many writers side by side. Nothing is left there.
pub(crate) fn measure_floor(
    directory: &Path,
    measured: Duration,
    jobs: u16,
) -> Result<Floor, FloorError> {
    let files = (0..jobs).map(|_| Scratch::create(directory, FILE_BYTES));
    let files: Vec<Scratch> = files.collect::<Result<_, _>>()?;
    measure_side_by_side(&files, FLOOR_SHAPE, measured)
}

/// What writes the floor on this machine.
pub(crate) fn floor_tool() -> FloorTool {
    fio::version().map_or(FloorTool::OwnRing, FloorTool::Fio)
}

/// Measures durable writes of a shape, one at a time, into a file that is there. Of a write that is flushed after it,
/// fio's latencies count the write alone; the rate counts both.
pub(crate) fn measure_writes(
    scratch: &Scratch,
    shape: WriteShape,
    measured: Duration,
) -> Result<Floor, FloorError> {
    measure_side_by_side(std::slice::from_ref(scratch), shape, measured)
}

/// The same, one at a time into each of several files.
fn measure_side_by_side(
    files: &[Scratch],
    shape: WriteShape,
    measured: Duration,
) -> Result<Floor, FloorError> {
    let floor = match floor_tool() {
        FloorTool::Fio(version) => {
            let paths: Vec<PathBuf> = files.iter().map(Scratch::path).collect();
            fio::measure(&version, (&paths, shape), measured)?
        }
        FloorTool::OwnRing => own_ring::measure(files, shape, measured)?,
    };
    if floor.writes == 0 {
        return Err(FloorError::Nothing { measured });
    }
    Ok(floor)
}

impl FloorTool {
    /// What it is.
    pub(crate) fn words(&self) -> &str {
        match self {
            FloorTool::Fio(version) => version,
            FloorTool::OwnRing => "the store's own ring, fio is not installed",
        }
    }
}

impl Floor {
    /// By how much the floor has moved up to a later one, as a share of the lower of both, if that is too much for what
    /// was measured in between.
    pub(crate) fn drift_to(&self, later: &Floor) -> Option<f64> {
        let (before, after) = (self.p50_us, later.p50_us);
        let drift = before.max(after) / before.min(after) - 1.0;
        (drift > DRIFT_MAX).then_some(drift)
    }

    /// The floor in a line.
    pub(crate) fn words(&self, jobs: u16) -> String {
        format!(
            "floor: durable writes of {WRITE_BYTES} bytes, one at a time{beside}, RWF_DSYNC on a zero-filled file: {}/s, p50 \
             {} us, p99 {} us ({tool})",
            number(self.writes_per_second),
            number(self.p50_us),
            number(self.p99_us),
            tool = self.tool.words(),
            beside = match jobs {
                1 => String::new(),
                jobs => format!(" into each of {jobs} files"),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::fs;

    #[test]
    fn a_floor_is_measured_and_nothing_is_left() {
        let directory = TestDirectory::new("a_floor_is_measured");
        for jobs in [1, 3] {
            let floor = measure_floor(directory.path(), Duration::from_secs(1), jobs).unwrap();
            assert!(floor.writes > 0 && floor.p50_us > 0.0, "{floor:?}");
            // The percentiles of fio are those of ranges, which may end above the longest time.
            assert!(
                floor.p50_us <= floor.p99_us && floor.p99_us <= 1.05 * floor.max_us,
                "{floor:?}"
            );
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }
}
