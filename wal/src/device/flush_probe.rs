//! Which way of making a write durable is faster here: found out once, when a directory is formatted.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::directory::open_unnamed;
use super::error::{Deed, DeviceError};
use super::file_ref::FileRef;
use super::ring::{FlushMethod, Ring, RingOptions};
use super::system;
use crate::buffer::LogBuffer;
use crate::format::BLOCK_BYTES;
use crate::ids::Ticket;

/// Writes of each kind that are measured.
const ROUNDS: usize = 64;

/// The probe stops early on a disk that is this slow.
const TIME_MAX: Duration = Duration::from_secs(3);

/// The length of the probe's file.
const FILE_BYTES: usize = 1024 * 1024;

/// How long durable writes of one block took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushTimings {
    /// How many were measured.
    pub count: usize,
    /// Half of them were faster.
    pub median: Duration,
    /// The slowest.
    pub max: Duration,
}

/// What [`probe_flush_method`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushProbe {
    /// The method to use.
    pub method: FlushMethod,
    /// With [`FlushMethod::Dsync`].
    pub dsync: FlushTimings,
    /// With [`FlushMethod::WriteThenSync`].
    pub write_then_sync: FlushTimings,
}

/// Measures both methods in `directory` on a file filled with zeros, which is gone afterwards. Takes up to a few
/// seconds. The rounds of the two methods alternate, so that a disturbance meets both.
///
/// # Errors
/// As for any write of the log.
pub fn probe_flush_method(directory: &Path) -> Result<FlushProbe, DeviceError> {
    let file = open_unnamed(directory)?;
    let fill = |error| DeviceError::file(Deed::Fill, directory, &error);
    system::reserve(&file, FILE_BYTES as u64).map_err(fill)?;
    let mut zeros = LogBuffer::new(0, FILE_BYTES);
    zeros.extend_with_zeros(FILE_BYTES);
    file.write_all_at(zeros.as_slice(), 0)
        .and_then(|()| file.sync_all())
        .map_err(fill)?;

    let mut benches = Vec::new();
    for method in [FlushMethod::Dsync, FlushMethod::WriteThenSync] {
        let mut block = LogBuffer::new(0, BLOCK_BYTES);
        block.extend_with_zeros(BLOCK_BYTES);
        let mut ring = Ring::new(
            RingOptions {
                files_max: 1,
                ..RingOptions::new(method)
            },
            std::slice::from_ref(&block),
        )?;
        let file = file
            .try_clone()
            .map_err(|error| DeviceError::file(Deed::Open, directory, &error))?;
        ring.add_file(FileRef::Mark, file)?;
        benches.push((ring, vec![block], Vec::with_capacity(ROUNDS)));
    }
    let began = Instant::now();
    for round in 0..ROUNDS {
        for (ring, blocks, times) in &mut benches {
            times.push(measure(ring, blocks, round)?);
        }
        if began.elapsed() > TIME_MAX {
            break;
        }
    }
    let [dsync, write_then_sync] = [0, 1].map(|bench| timings(&mut benches[bench].2));
    Ok(FlushProbe::of(dsync, write_then_sync))
}

impl FlushProbe {
    /// One request is simpler than two: two must be faster by a tenth.
    fn of(dsync: FlushTimings, write_then_sync: FlushTimings) -> Self {
        let is_clearly_faster = write_then_sync.median * 10 < dsync.median * 9;
        let method = if is_clearly_faster {
            FlushMethod::WriteThenSync
        } else {
            FlushMethod::Dsync
        };
        Self {
            method,
            dsync,
            write_then_sync,
        }
    }
}

/// One durable write of the only block in `blocks`.
fn measure(
    ring: &mut Ring,
    blocks: &mut Vec<LogBuffer>,
    round: usize,
) -> Result<Duration, DeviceError> {
    let block = blocks.pop().expect("the block came back");
    let offset = (round * BLOCK_BYTES % FILE_BYTES) as u64;
    let mut completions = Vec::new();
    let began = Instant::now();
    ring.submit_write(Ticket(round as u64), FileRef::Mark, offset, block);
    ring.wait(&mut completions)?;
    let elapsed = began.elapsed();
    blocks.extend(completions.into_iter().map(|completion| completion.buffer));
    Ok(elapsed)
}

fn timings(times: &mut [Duration]) -> FlushTimings {
    times.sort_unstable();
    FlushTimings {
        count: times.len(),
        median: times[times.len() / 2],
        max: times[times.len() - 1],
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::test_directory::TestDirectory;
    use super::*;

    #[test]
    fn two_requests_must_be_clearly_faster_than_one() {
        let choice = |[dsync_us, write_then_sync_us]: [u64; 2]| {
            let [dsync, write_then_sync] =
                [dsync_us, write_then_sync_us].map(|us| timings(&mut [Duration::from_micros(us)]));
            FlushProbe::of(dsync, write_then_sync).method
        };
        assert_eq!(choice([100, 89]), FlushMethod::WriteThenSync);
        assert_eq!(choice([100, 90]), FlushMethod::Dsync);
        assert_eq!(choice([100, 400]), FlushMethod::Dsync);
    }

    #[test]
    fn both_methods_are_measured_and_the_file_is_gone() {
        let directory = TestDirectory::new("both_methods_are_measured");
        let probe = probe_flush_method(directory.path()).expect("the disk can be measured");
        assert_eq!(probe.dsync.count, probe.write_then_sync.count);
        assert!(
            probe.dsync.count > 0
                && !probe.dsync.median.is_zero()
                && !probe.write_then_sync.median.is_zero()
        );
        assert_eq!(probe, FlushProbe::of(probe.dsync, probe.write_then_sync));
        assert_eq!(
            fs::read_dir(directory.path()).expect("it exists").count(),
            0
        );
    }
}
