//! What reaches the disk for each put over the bytes of its key and value: log, padding, marks, snapshots and all.
//!
//! Puts of 8 + 256 bytes run, 1,000 in flight, while a second connection looks at the store's counters, the kernel's
//! account of its process and the files. What counts begins with the end of a snapshot after every segment of the log
//! was written once, so that none is filled with zeros any more, and ends with the end of a snapshot at least two later.
//! A cluster applies each put once a replica, so that what is told of it is for each replica.
//! Without snapshots there is no such time; then what was written is told for all of it, without a target.

mod watch;

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Bench, Findings, OwnStore};
use crate::arguments::{Effort, LogBytesArguments};
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::keys::KeySpace;
use crate::latency::Spread;
use crate::load::Pace;
use crate::measurement::measure;
use crate::operation::RequestMaker;
use crate::output::number;
use crate::workload::{Case, Workload};
use watch::{Sample, Watch};

/// What may be written over what is put.
const WRITTEN_RATIO_MAX: f64 = 1.6;

/// How long puts run before the watch is asked whether that was enough.
const STEP: Duration = Duration::from_secs(2);

/// Lines that are printed over the whole time, about.
const LINES: u32 = 30;

const MIB: f64 = (1_u64 << 20) as f64;

/// What happened between two looks.
#[derive(Debug, Clone, Copy, Serialize)]
struct Span {
    seconds: f64,
    puts: u64,
    snapshots: u64,
    /// By the kernel's account of the process.
    written_bytes: u64,
    /// Records of the log, by the store's count.
    record_bytes: u64,
}

/// Measures on a store of the bench.
pub(super) fn measure_log_bytes(
    bench: &mut Bench<'_>,
    arguments: &LogBytesArguments,
) -> Result<Findings, PerfError> {
    let mut own = bench.start(&arguments.small_log())?;
    let watch = Watch::start(&own)?;
    let refused = put_until_enough(bench, arguments, &mut own, &watch)?;
    let samples = watch.end()?;
    let space = KeySpace::MEDIUM;
    let content_bytes = (space.key_bytes + space.value_bytes) as f64;
    let counted = Span::between_snapshots(&samples);
    let whole = samples
        .first()
        .zip(samples.last())
        .map(|(first, last)| Span::of(first, last));
    if counted.is_none() {
        let happened = samples.last().map_or(0, |sample| sample.snapshots_seen);
        let why = match happened {
            0 => "NO SNAPSHOT HAPPENED".to_owned(),
            some => format!(
                "ONLY {some} SNAPSHOTS HAPPENED, not three behind the first use of every segment"
            ),
        };
        bench
            .output
            .line(&format!("{why}: the target cannot be judged"))?;
    }
    if let Some(refused) = &refused {
        bench
            .output
            .line(&format!("the store refused a put: {refused}"))?;
    }
    let ratio = |span: Span, bytes: u64| bytes as f64 / (span.puts.max(1) as f64 * content_bytes);
    let budget_share = samples.iter().map(Sample::budget_share);
    let is_alone = bench.arguments.nodes == 1;
    Ok(Findings {
        figures: vec![
            Figure::new(
                match is_alone {
                    true => "bytes written a put / (key + value), over two snapshots",
                    false => "bytes written a put and replica / (key + value), over two snapshots",
                },
                Target::AtMost(WRITTEN_RATIO_MAX),
                Spread::of(counted.map(|span| ratio(span, span.written_bytes))),
            ),
            Figure::new(
                "of these, records of the log",
                Target::None,
                Spread::of(counted.map(|span| ratio(span, span.record_bytes))),
            ),
            Figure::new(
                "bytes written a put / (key + value), first filling of segments included",
                Target::None,
                Spread::of(whole.map(|span| ratio(span, span.written_bytes))),
            ),
            Figure::new(
                "size of the log / its budget, at most",
                Target::AtMost(1.0),
                Spread::of(budget_share.reduce(f64::max)),
            ),
        ],
        rounds: usize::from(counted.is_some()),
        rounds_thrown_away: usize::from(counted.is_none()),
        details: serde_json::json!({
            "counted": counted,
            "whole": whole,
            "refused": refused,
            "samples": thin_out(&samples),
        }),
    })
}

/// Puts until the watch has seen enough, or the time is over, or a put is refused: then the refusal is told.
fn put_until_enough(
    bench: &mut Bench<'_>,
    arguments: &LogBytesArguments,
    own: &mut OwnStore,
    watch: &Watch,
) -> Result<Option<String>, PerfError> {
    let mut requests = RequestMaker::new(bench.effort.keys);
    let effort = Effort {
        warm_up: Duration::ZERO,
        measured: STEP,
        ..bench.effort
    };
    let limit = arguments.time_limit();
    let line_pause = limit / LINES;
    let started = Instant::now();
    let mut next_line = Duration::ZERO;
    let case = Case::deepest(Workload::W2);
    while started.elapsed() < limit {
        let measurement = measure(&case, Pace::Closed, &effort, &mut own.store, &mut requests)?;
        let samples = watch.samples();
        if started.elapsed() >= next_line
            && let Some(sample) = samples.last()
        {
            bench
                .output
                .line(&sample.words(measurement.achieved_per_second))?;
            next_line = started.elapsed() + line_pause;
        }
        if measurement.first_failure.is_some() {
            return Ok(measurement.first_failure);
        }
        if !arguments.runs_on() && Span::between_snapshots(&samples).is_some() {
            break;
        }
    }
    Ok(None)
}

/// One look in so many that a report stays readable.
fn thin_out(samples: &[Sample]) -> Vec<Sample> {
    let every = samples.len().div_ceil(10 * LINES as usize).max(1);
    samples.iter().copied().step_by(every).collect()
}

impl Span {
    fn of(first: &Sample, last: &Sample) -> Span {
        Span {
            seconds: last.seconds - first.seconds,
            puts: last.puts.saturating_sub(first.puts),
            snapshots: last.snapshots_seen - first.snapshots_seen,
            written_bytes: last.written_bytes.saturating_sub(first.written_bytes),
            record_bytes: last.record_bytes.saturating_sub(first.record_bytes),
        }
    }

    /// From the end of the first snapshot after every segment was used to the end of the last, if two lie between.
    fn between_snapshots(samples: &[Sample]) -> Option<Span> {
        let used = samples.iter().position(Sample::has_used_every_segment)?;
        let ends_snapshot = |pair: &[Sample]| pair[1].snapshots_seen > pair[0].snapshots_seen;
        let mut ends = samples[used..]
            .windows(2)
            .filter(|pair| ends_snapshot(pair))
            .map(|pair| pair[1]);
        let first = ends.next()?;
        let span = Span::of(&first, &ends.next_back()?);
        (span.snapshots >= 2).then_some(span)
    }
}

impl Sample {
    fn words(&self, puts_per_second: f64) -> String {
        format!(
            "{:.0} s: {} puts/s; log {} of {} MiB; {} snapshots so far, {} MiB of them there, {} MiB unfinished",
            self.seconds,
            number(puts_per_second),
            number(self.log_bytes as f64 / MIB),
            number(self.budget_bytes as f64 / MIB),
            self.snapshots_seen,
            number(self.snapshot_bytes as f64 / MIB),
            number(self.unfinished_bytes as f64 / MIB),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(snapshots_seen: &[u64]) -> Vec<Sample> {
        let sample = |(position, &snapshots_seen): (usize, &u64)| Sample {
            seconds: position as f64,
            puts: 100 * position as u64,
            written_bytes: 40_000 * position as u64,
            record_bytes: 30_000 * position as u64,
            log_bytes: 90_000,
            budget_bytes: 100_000,
            snapshots_seen,
            ..Sample::default()
        };
        snapshots_seen.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn what_counts_lies_between_snapshots_behind_the_first_use_of_every_segment() {
        // Every segment is used at the fourth look; the first snapshot behind it ends at the sixth.
        let span = Span::between_snapshots(&samples(&[0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4])).unwrap();
        assert_eq!(span.snapshots, 2);
        assert_eq!(span.puts, 400);
        assert_eq!((span.written_bytes, span.record_bytes), (160_000, 120_000));
        for too_few in [
            &[0, 1, 2, 3, 3, 3, 3][..],
            &[0, 0, 0, 0, 1, 1, 2],
            &[0; 7],
            &[],
        ] {
            assert!(Span::between_snapshots(&samples(too_few)).is_none());
        }
    }

    #[test]
    fn reports_stay_readable() {
        assert_eq!(thin_out(&samples(&[0; 7])).len(), 7);
        let thinned = thin_out(&samples(&[0; 10_000])).len();
        assert!((200..=300).contains(&thinned), "{thinned}");
    }
}
