//! `metastore wal inspect`: everything that a log holds.

use std::collections::BTreeMap;
use std::io::{self, Write};

use metastore_engine::CoreId;
use metastore_wal::format::MarkState;
use metastore_wal::recovery::Survey;
use metastore_wal::{FileNumber, SegmentSequence};
use serde_json::{Value, json};

use super::judgement::Judgement;
use super::records::{FileContent, Records};
use super::verify::cores;
use super::{Data, WalError, describe};
use crate::arguments::{Format, InspectArguments};
use crate::commands::table::{Table, size};
use crate::commands::{CommandError, Exit, json};

/// Prints the records of each core, then its segments, marks, replicas and what recovery would decide.
pub(super) fn run(arguments: &InspectArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let data = Data::open(&arguments.wal.data)?;
    if let Some(asked) = arguments.core
        && usize::from(asked) >= data.node.cores
    {
        let cores = data.node.cores;
        return Err(WalError::NoCore { asked, cores }.into());
    }
    let format = arguments.wal.format();
    let mut would_start = true;
    for core in cores(&data).filter(|core| arguments.core.is_none_or(|asked| asked == core.0)) {
        would_start &= show(&data, core, format, arguments.limit, out)?;
    }
    Ok(if would_start {
        Exit::Done
    } else {
        Exit::Negative
    })
}

/// Prints the last `limit` records of a core, all without one, then its segments, marks, replicas and what recovery
/// would decide. Returns whether the core would start.
pub(super) fn show(
    data: &Data,
    core: CoreId,
    format: Format,
    limit: Option<usize>,
    out: &mut dyn Write,
) -> Result<bool, CommandError> {
    let mut records = Records::new(out, core, format, limit);
    let judgement = Judgement::new(data, core, &mut |item| records.on_item(&item));
    let files = records.finish().map_err(CommandError::Output)?;
    let segments = segments(data, &judgement, &files);
    match format {
        Format::Json => json::print(out, &document(data, core, &judgement, &segments))?,
        Format::People => {
            print(data, core, &judgement, &segments, out).map_err(CommandError::Output)?;
        }
    }
    Ok(judgement.verdict.is_start())
}

/// A segment's file and what it is good for.
struct SegmentLine {
    number: FileNumber,
    bytes: u64,
    state: SegmentState,
    content: FileContent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SegmentState {
    /// Its records are needed.
    Live,
    /// It holds records that are not needed any more, and may be used again.
    Released,
    /// It holds nothing, and may be used.
    Spare,
    /// It was being filled with zeros.
    Unprepared,
}

impl SegmentState {
    fn name(self) -> &'static str {
        match self {
            SegmentState::Live => "live",
            SegmentState::Released => "released",
            SegmentState::Spare => "spare",
            SegmentState::Unprepared => "unprepared",
        }
    }
}

fn segments(
    data: &Data,
    judgement: &Judgement,
    files: &BTreeMap<FileNumber, FileContent>,
) -> Vec<SegmentLine> {
    let Some(survey) = &judgement.survey else {
        return Vec::new();
    };
    let oldest_live = oldest_live_segment(survey, files);
    let line = |file: &metastore_wal::SegmentFile| {
        let content = files.get(&file.number).cloned().unwrap_or_default();
        SegmentLine {
            number: file.number,
            bytes: file.bytes,
            state: if file.bytes < data.node.segment_bytes {
                SegmentState::Unprepared
            } else if content.records + content.faults == 0 {
                SegmentState::Spare
            } else if content.segment < oldest_live {
                SegmentState::Released
            } else {
                SegmentState::Live
            },
            content,
        }
    };
    survey.files.iter().map(line).collect()
}

/// The newest that any record or mark says: it only grows.
fn oldest_live_segment(
    survey: &Survey,
    files: &BTreeMap<FileNumber, FileContent>,
) -> SegmentSequence {
    let of_records = files.values().map(|content| content.oldest_live_segment);
    let of_marks = survey.marks.iter().filter_map(|mark| match mark {
        MarkState::Valid(mark) => Some(mark.oldest_live_segment),
        MarkState::Unwritten | MarkState::Unreadable => None,
    });
    of_records.chain(of_marks).max().unwrap_or_default()
}

fn print(
    data: &Data,
    core: CoreId,
    judgement: &Judgement,
    segments: &[SegmentLine],
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut files = Table::new(["file", "segment", "state", "bytes", "records", "faults"]);
    for line in segments {
        files.row([
            format!("log-{}.seg", line.number),
            line.content.segment.to_string(),
            line.state.name().to_owned(),
            size(line.bytes),
            line.content.records.to_string(),
            line.content.faults.to_string(),
        ]);
    }
    let mut replicas = Table::new([
        "replica", "shard", "term", "vote", "commit", "first", "last", "snapshot",
    ]);
    for replica in &judgement.replicas {
        replicas.row([
            replica.replica.to_string(),
            replica.shard.to_string(),
            replica.hard_state.term.to_string(),
            replica.hard_state.vote.to_string(),
            replica.hard_state.commit.to_string(),
            replica.first_index.to_string(),
            replica.last_index.to_string(),
            replica.snapshot.index.to_string(),
        ]);
    }
    for table in [files, marks(judgement), replicas] {
        if !table.is_empty() {
            writeln!(out)?;
            table.print(out)?;
        }
    }
    writeln!(out)?;
    if let Some(survey) = &judgement.survey {
        writeln!(
            out,
            "core {core}: {} records up to {} survive, watermark {}, epoch {}, decision {:?}",
            survey.surviving_records,
            survey.last_record,
            survey.watermark,
            survey.epoch,
            survey.decision,
        )?;
    }
    for line in describe::lines(data, core, judgement) {
        writeln!(out, "{line}")?;
    }
    writeln!(out)
}

fn marks(judgement: &Judgement) -> Table {
    let mut table = Table::new([
        "mark",
        "state",
        "generation",
        "watermark",
        "segment",
        "oldest live",
        "epoch",
    ]);
    let marks = judgement.survey.iter().flat_map(|survey| &survey.marks);
    for (slot, mark) in marks.enumerate() {
        let numbers = match mark {
            MarkState::Unwritten | MarkState::Unreadable => [const { String::new() }; 5],
            MarkState::Valid(mark) => [
                mark.generation.to_string(),
                mark.watermark.to_string(),
                mark.segment.to_string(),
                mark.oldest_live_segment.to_string(),
                mark.epoch.to_string(),
            ],
        };
        let [generation, watermark, segment, oldest_live, epoch] = numbers;
        let state = mark_name(mark).to_owned();
        table.row([
            slot.to_string(),
            state,
            generation,
            watermark,
            segment,
            oldest_live,
            epoch,
        ]);
    }
    table
}

fn mark_name(mark: &MarkState) -> &'static str {
    match mark {
        MarkState::Unwritten => "unwritten",
        MarkState::Unreadable => "unreadable",
        MarkState::Valid(_) => "valid",
    }
}

fn document(data: &Data, core: CoreId, judgement: &Judgement, segments: &[SegmentLine]) -> Value {
    let mut document = describe::document(data, core, judgement);
    let segment = |line: &SegmentLine| {
        json!({
            "file": line.number.0,
            "bytes": line.bytes,
            "state": line.state.name(),
            "segment": line.content.segment.0,
            "records": line.content.records,
            "faults": line.content.faults,
        })
    };
    document["segments"] = segments.iter().map(segment).collect();
    let mark = |mark: &MarkState| match mark {
        MarkState::Unwritten | MarkState::Unreadable => json!({ "state": mark_name(mark) }),
        MarkState::Valid(valid) => json!({
            "state": mark_name(mark),
            "generation": valid.generation,
            "watermark": valid.watermark.0,
            "segment": valid.segment.0,
            "oldest_live_segment": valid.oldest_live_segment.0,
            "epoch": valid.epoch.0,
        }),
    };
    let marks = judgement.survey.iter().flat_map(|survey| &survey.marks);
    document["marks"] = marks.map(mark).collect();
    let replica = |replica: &metastore_wal::recovery::RecoveredReplica| {
        json!({
            "replica": replica.replica.0,
            "shard": replica.shard.0,
            "term": replica.hard_state.term.0,
            "vote": replica.hard_state.vote.0,
            "commit": replica.hard_state.commit.0,
            "first_index": replica.first_index.0,
            "last_index": replica.last_index.0,
            "snapshot_index": replica.snapshot.index.0,
        })
    };
    document["replicas"] = judgement.replicas.iter().map(replica).collect();
    document
}
