//! `metastore-perf log`: how much of what the disk can do is left when the log has put its records together.
//!
//! The log and its ring, as a server has them, write one record after the other; fio writes blocks of the same size into
//! a file beside it, made durable in the same way. Both run on the same processor, in turns: fio, log, fio. A point does
//! not count when fio has moved meanwhile.
//!
//! It does not measure a server: nobody sends anything, and nothing else is done while a write is under way.

mod bare_log;
mod baseline;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use metastore_wal::device::{DeviceError, FlushMethod, probe_flush_method};
use serde::Serialize;

use crate::arguments::{BaselineChoice, BaselineUse, LogArguments};
use crate::baseline_file::{self, BaselineError};
use crate::conditions::{Machine, commit, file_system};
use crate::error::{PerfError, Verdict};
use crate::figure::{Figure, Target};
use crate::floor::{
    DRIFT_MAX, FloorError, FloorTool, Scratch, ScratchError, WriteShape, floor_tool, measure_writes,
};
use crate::latency::Spread;
use crate::machine_use::OTHERS_SHARE_MAX;
use crate::output::{Output, Table, number};
use crate::pinning::Pinning;
use crate::process::ProcessError;
use bare_log::{BareLog, COMMAND_BYTES};
use baseline::Baseline;

/// Bytes of the file that fio writes into: a segment.
const FIO_FILE_BYTES: u64 = 64 << 20;

/// What the log should leave of the disk at the smallest and at the largest batch.
const RATIO_MIN: f64 = 0.7;
const JUDGED_BATCHES: [usize; 2] = [1, 1_024];

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogAloneError {
    #[error("cannot create {path}: {source}")]
    Create { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Floor(#[from] FloorError),
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Baseline(#[from] BaselineError),
}

/// One batch size in one round.
#[derive(Debug, Clone, Serialize)]
struct Point {
    batch: usize,
    /// Bytes of a write of both.
    write_bytes: u64,
    log_writes_per_second: f64,
    log_mb_per_second: f64,
    fio_before_mb_per_second: f64,
    fio_after_mb_per_second: f64,
    cpu_us_per_write: f64,
    /// Segments that were filled while the log was measured.
    prepared: u64,
    /// CPUs that went to other processes while the log was measured.
    others_cpu_share: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    file_system: Option<String>,
    flush_method: String,
    tool: FloorTool,
    commit: Option<String>,
    pinning: Pinning,
    point_seconds: f64,
    points: &'a [Point],
    figures: &'a [Figure],
}

impl Point {
    fn ratio(&self) -> f64 {
        let fio = f64::midpoint(self.fio_before_mb_per_second, self.fio_after_mb_per_second);
        self.log_mb_per_second / fio
    }

    /// Why it does not count.
    fn void_words(&self) -> Option<String> {
        let (before, after) = (self.fio_before_mb_per_second, self.fio_after_mb_per_second);
        let drift = before.max(after) / before.min(after) - 1.0;
        if drift > DRIFT_MAX {
            return Some(format!("fio moved by {:.0} %", drift * 100.0));
        }
        (self.prepared > 0).then(|| format!("{} segments were filled meanwhile", self.prepared))
    }
}

/// Measures and reports.
pub(crate) fn run(arguments: &LogArguments) -> Result<Verdict, PerfError> {
    let mut output = Output::new(arguments.json.clone());
    let machine = Machine::this();
    let pinning = Pinning::choose();
    pinning.restrict_to_store();
    let method = match arguments.flush.method() {
        Some(method) => method,
        None => {
            let probe = probe_flush_method(&arguments.data).map_err(LogAloneError::from)?;
            probe.method
        }
    };
    let file_system = file_system(&arguments.data);
    let tool = floor_tool();
    output.line(&machine.words())?;
    output.line(&format!(
        "disk: file system {}; one write at a time, {}; commands of {COMMAND_BYTES} bytes, a batch is one entry; beside \
         it writes {}",
        file_system.as_deref().unwrap_or("unknown"),
        method_words(method),
        tool.words(),
    ))?;
    let baseline = read_baseline(arguments, &mut output)?;
    announce(arguments, &mut output)?;
    let points = measure(arguments, method, &mut output)?;
    let figures = figures_of(&points, &arguments.batches);
    output.line("")?;
    output.table(&points_table(&points, &arguments.batches))?;
    output.line("")?;
    output.table(&Figure::table(&figures))?;
    let counting = points.iter().filter(|point| point.void_words().is_none());
    let counting = counting.count();
    output.line(&format!(
        "{counting} points count, {} were thrown away",
        points.len() - counting
    ))?;
    let others = points.iter().filter_map(|point| point.others_cpu_share);
    let others = others.fold(0.0, f64::max);
    if others > OTHERS_SHARE_MAX {
        output.line(&format!(
            "WARNING: other processes took up to {others:.2} CPUs meanwhile; ratios are worth little on a machine that \
             is not quiet"
        ))?;
    }
    let fallen = settle_baseline(
        arguments,
        baseline.as_ref(),
        (&points, method_words(method)),
        &mut output,
    )?;
    output.json(&Report {
        machine,
        file_system,
        flush_method: method_words(method).to_owned(),
        tool,
        commit: commit(),
        pinning,
        point_seconds: arguments.measured().as_secs_f64(),
        points: &points,
        figures: &figures,
    })?;
    let verdict = Verdict::of(&figures, counting, arguments.strictness());
    let of_baseline = baseline::verdict(&fallen, arguments.strictness());
    Ok(verdict.max(of_baseline))
}

fn method_words(method: FlushMethod) -> &'static str {
    match method {
        FlushMethod::Dsync => "RWF_DSYNC on each",
        FlushMethod::WriteThenSync => "fdatasync after each",
    }
}

/// Says beforehand how long it will take.
fn announce(arguments: &LogArguments, output: &mut Output) -> Result<(), PerfError> {
    let points = 3 * arguments.batches.len() as u64 * u64::from(arguments.rounds());
    output.line(&format!(
        "{} rounds of {} batches, fio, log and fio of {} s each: about {} s",
        arguments.rounds(),
        arguments.batches.len(),
        arguments.measured().as_secs(),
        points * arguments.measured().as_secs(),
    ))
}

fn measure(
    arguments: &LogArguments,
    method: FlushMethod,
    output: &mut Output,
) -> Result<Vec<Point>, PerfError> {
    let scratch = Scratch::create(&arguments.data, FIO_FILE_BYTES).map_err(LogAloneError::from)?;
    let batch_max = arguments.batches.iter().copied().max().unwrap_or(1);
    let mut bare = BareLog::new(&arguments.data, method, batch_max)?;
    let mut points = Vec::new();
    for round in 1..=arguments.rounds() {
        for &batch in &arguments.batches {
            let point = measure_point(&mut bare, &scratch, (batch, method), arguments.measured())?;
            let why = point.void_words();
            output.line(&format!(
                "round {round}, batch {batch}: log {} MB/s, fio {} and {} MB/s: {}{}",
                number(point.log_mb_per_second),
                number(point.fio_before_mb_per_second),
                number(point.fio_after_mb_per_second),
                number(point.ratio()),
                why.map_or(String::new(), |why| format!("  THROWN AWAY: {why}")),
            ))?;
            points.push(point);
        }
    }
    Ok(points)
}

fn measure_point(
    bare: &mut BareLog,
    scratch: &Scratch,
    (batch, method): (usize, FlushMethod),
    measured: Duration,
) -> Result<Point, LogAloneError> {
    let write_bytes = bare.record_bytes(batch)?;
    let shape = WriteShape {
        bytes: write_bytes,
        method,
    };
    let fio = || -> Result<f64, LogAloneError> {
        let floor = measure_writes(scratch, shape, measured)?;
        Ok(floor.writes_per_second * write_bytes as f64 / 1e6)
    };
    let fio_before_mb_per_second = fio()?;
    let written = bare.run(batch, measured)?;
    let fio_after_mb_per_second = fio()?;
    let seconds = written.elapsed.as_secs_f64();
    Ok(Point {
        batch,
        write_bytes,
        log_writes_per_second: written.writes as f64 / seconds,
        log_mb_per_second: written.bytes as f64 / 1e6 / seconds,
        fio_before_mb_per_second,
        fio_after_mb_per_second,
        cpu_us_per_write: written.cpu.as_secs_f64() * 1e6 / written.writes as f64,
        prepared: written.prepared,
        others_cpu_share: written.others_cpu_share,
    })
}

/// The points of a batch that count.
fn counting(points: &[Point], batch: usize) -> impl Iterator<Item = &Point> {
    points
        .iter()
        .filter(move |point| point.batch == batch && point.void_words().is_none())
}

/// The ratio to fio of each batch that was measured.
fn ratio_of(points: &[Point], batch: usize) -> Option<Spread> {
    Spread::of(counting(points, batch).map(Point::ratio))
}

fn figures_of(points: &[Point], batches: &[usize]) -> Vec<Figure> {
    let names = [
        "log bandwidth / fio, batch 1",
        "log bandwidth / fio, batch 1,024",
    ];
    let judged = JUDGED_BATCHES.into_iter().zip(names);
    judged
        .filter(|(batch, _)| batches.contains(batch))
        .map(|(batch, name)| {
            let ratio = ratio_of(points, batch);
            Figure::new(name, Target::AtLeast(RATIO_MIN), ratio)
        })
        .collect()
}

fn points_table(points: &[Point], batches: &[usize]) -> Table {
    let mut table = Table::new(&[
        "batch",
        "bytes a write",
        "log writes/s",
        "log MB/s",
        "fio MB/s",
        "log / fio",
        "CPU us a write",
    ]);
    let words = |spread: Option<Spread>| spread.map_or("-".to_owned(), |spread| spread.words());
    for &batch in batches {
        let spread = |of: fn(&Point) -> f64| words(Spread::of(counting(points, batch).map(of)));
        table.row(vec![
            batch.to_string(),
            spread(|point| point.write_bytes as f64),
            spread(|point| point.log_writes_per_second),
            spread(|point| point.log_mb_per_second),
            spread(|point| {
                f64::midpoint(
                    point.fio_before_mb_per_second,
                    point.fio_after_mb_per_second,
                )
            }),
            words(ratio_of(points, batch)),
            spread(|point| point.cpu_us_per_write),
        ]);
    }
    table
}

/// The baseline to compare with, if there is one. One that was asked for by name must be there.
fn read_baseline(
    arguments: &LogArguments,
    output: &mut Output,
) -> Result<Option<Baseline>, PerfError> {
    let (path, choice) = arguments.baseline();
    if arguments.baseline_use() == BaselineUse::Write {
        return Ok(None);
    }
    if choice == BaselineChoice::Usual && !path.exists() {
        output.line(&format!("there is no baseline {}", path.display()))?;
        return Ok(None);
    }
    let baseline: Baseline = baseline_file::read(&path).map_err(LogAloneError::from)?;
    output.line(&baseline.words(&path))?;
    Ok(Some(baseline))
}

/// Compares with the baseline, or writes it. Returns the batches that have fallen.
fn settle_baseline(
    arguments: &LogArguments,
    baseline: Option<&Baseline>,
    (points, flush_method): (&[Point], &str),
    output: &mut Output,
) -> Result<Vec<usize>, PerfError> {
    let ratios = arguments.batches.iter();
    let ratios = ratios.filter_map(|&batch| Some((batch, ratio_of(points, batch)?)));
    let now = Baseline::of(ratios, (file_system(&arguments.data), flush_method));
    if arguments.baseline_use() == BaselineUse::Write {
        let (path, _) = arguments.baseline();
        baseline_file::write(&path, &now).map_err(LogAloneError::from)?;
        output.line(&format!("baseline {} is written", path.display()))?;
    }
    let fallen = baseline.map_or_else(Vec::new, |baseline| baseline.fallen(&now));
    for &batch in &fallen {
        output.line(&format!(
            "batch {batch}: FALLEN, no round came within {:.0} % of the baseline's ratio",
            baseline::FALL_MAX * 100.0
        ))?;
    }
    Ok(fallen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(log: f64, before: f64, after: f64) -> Point {
        Point {
            batch: 1,
            write_bytes: 4_096,
            log_writes_per_second: 1.0,
            log_mb_per_second: log,
            fio_before_mb_per_second: before,
            fio_after_mb_per_second: after,
            cpu_us_per_write: 1.0,
            prepared: 0,
            others_cpu_share: None,
        }
    }

    #[test]
    fn the_ratio_is_to_the_middle_of_what_lies_around() {
        assert!((point(40.0, 48.0, 52.0).ratio() - 0.8).abs() < 1e-9);
    }

    #[test]
    fn a_point_does_not_count_when_fio_moved_or_files_were_filled() {
        assert_eq!(point(40.0, 50.0, 57.0).void_words(), None);
        assert!(point(40.0, 50.0, 58.0).void_words().is_some());
        assert!(point(40.0, 58.0, 50.0).void_words().is_some());
        let filled = Point {
            prepared: 1,
            ..point(40.0, 50.0, 50.0)
        };
        assert!(filled.void_words().is_some());
    }

    #[test]
    fn a_figure_is_the_median_of_the_ratios_that_count() {
        let points = [
            point(35.0, 50.0, 50.0),
            point(45.0, 50.0, 50.0),
            point(40.0, 50.0, 50.0),
            point(5.0, 50.0, 80.0),
        ];
        let ratio = ratio_of(&points, 1).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (0.7, 0.8, 0.9));
        assert_eq!(ratio_of(&points, 16), None);
        let figures = figures_of(&points, &[1, 16]);
        assert_eq!(figures.len(), 1);
        assert!(!figures[0].is_missed());
        assert!(figures_of(&points[..1], &[1])[0].is_missed() == (35.0 / 50.0 < RATIO_MIN));
        assert!(figures_of(&points, &[1_024])[0].is_missed(), "not measured");
    }
}
