//! The floor by the store's own ring, for machines without fio.

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use metastore_wal::device::{FileRef, Ring, RingOptions};
use metastore_wal::{LogBuffer, Ticket};

use super::scratch::{FILE, Scratch};
use super::{Floor, FloorError, FloorTool, WriteShape};
use crate::latency::{Latency, new_histogram};
use crate::random::Random;

/// Writes block after block into each file, each when the one before is durable, and begins again at the end of the file.
/// Several files have a thread each.
pub(super) fn measure(
    files: &[Scratch],
    shape: WriteShape,
    measured: Duration,
) -> Result<Floor, FloorError> {
    let writers: Vec<Result<Writes, FloorError>> = thread::scope(|scope| {
        let start = |file| scope.spawn(move || write(file, shape, measured));
        let writers: Vec<_> = files.iter().map(start).collect();
        let ended = writers.into_iter();
        ended
            .map(|writer| writer.join().expect("writing does not panic"))
            .collect()
    });
    let mut histogram = new_histogram();
    let mut writes_per_second = 0.0;
    for writer in writers {
        let writes = writer?;
        let merged = histogram.add(&writes.histogram);
        merged.expect("all histograms have the same bounds");
        writes_per_second += writes.histogram.len() as f64 / writes.elapsed.as_secs_f64();
    }
    let latency = Latency::of(&histogram);
    Ok(Floor {
        tool: FloorTool::OwnRing,
        writes: latency.count,
        writes_per_second,
        p50_us: latency.p50_us,
        p99_us: latency.p99_us,
        max_us: latency.max_us,
    })
}

/// What was written into one file.
struct Writes {
    /// Nanoseconds.
    histogram: Histogram<u64>,
    elapsed: Duration,
}

fn write(scratch: &Scratch, shape: WriteShape, measured: Duration) -> Result<Writes, FloorError> {
    let write_bytes = usize::try_from(shape.bytes).expect("a write is small");
    let mut content = LogBuffer::new(0, write_bytes);
    let mut random = Random::new(1);
    for _ in 0..write_bytes / 8 {
        content.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    let buffers = [content];
    let mut ring = Ring::new(RingOptions::new(shape.method), &buffers)?;
    let name = FileRef::Segment(FILE);
    ring.add_file(name, scratch.open()?)?;
    let [mut buffer] = buffers;

    let mut histogram = new_histogram();
    let mut completions = Vec::new();
    let mut offset = 0;
    let mut ticket = 0;
    let started = Instant::now();
    while started.elapsed() < measured {
        let submitted = Instant::now();
        ring.submit_write(Ticket(ticket), name, offset, buffer);
        ring.submit()?;
        ring.wait(&mut completions)?;
        let latency_ns = u64::try_from(submitted.elapsed().as_nanos()).unwrap_or(u64::MAX);
        histogram.saturating_record(latency_ns);
        let completion = completions.pop().expect("wait ends with a durable write");
        buffer = completion.buffer;
        ticket += 1;
        offset += shape.bytes;
        if offset + shape.bytes > scratch.bytes() {
            offset = 0;
        }
    }
    Ok(Writes {
        histogram,
        elapsed: started.elapsed(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::{FLOOR_SHAPE, WRITE_BYTES};
    use crate::test_directory::TestDirectory;

    #[test]
    fn the_ring_goes_round_a_file_that_is_shorter_than_the_run() {
        let parent = TestDirectory::new("the_ring_goes_round");
        let scratch = Scratch::create(parent.path(), 4 * WRITE_BYTES).unwrap();
        let files = [scratch];
        let floor = measure(&files, FLOOR_SHAPE, Duration::from_millis(300)).unwrap();
        let [scratch] = files;
        assert!(floor.writes > 4, "{floor:?}");
        let written = std::fs::read(scratch.path()).unwrap();
        let (first, rest) = written.split_at(WRITE_BYTES as usize);
        assert!(first.iter().any(|&byte| byte != 0));
        assert!(
            rest.chunks(WRITE_BYTES as usize)
                .all(|block| block == first)
        );
    }
}
