//! The records of a log, as `metastore wal inspect` prints them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use metastore_engine::CoreId;
use metastore_wal::format::{BodyFault, RecordHeader, RecordKind, SubHeader, SubHeaderKind};
use metastore_wal::recovery::SurveyItem;
use metastore_wal::{FileNumber, RecordSequence, SegmentSequence};
use serde_json::{Value, json};

use super::describe::fault_text;
use crate::arguments::Format;

/// Prints records as they are met, or at the end the last few of them, and counts them by file.
pub(super) struct Records<'o> {
    out: &'o mut dyn Write,
    core: CoreId,
    format: Format,
    limit: Option<usize>,
    /// The last records up to the limit, by their place in the log.
    kept: BTreeMap<(SegmentSequence, RecordSequence, FileNumber, u64), FoundRecord>,
    /// What each file holds.
    pub(super) files: BTreeMap<FileNumber, FileContent>,
    written: io::Result<()>,
}

/// What a segment's file holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct FileContent {
    /// The newest segment that was written into it.
    pub(super) segment: SegmentSequence,
    /// The oldest segment that its newest record needs.
    pub(super) oldest_live_segment: SegmentSequence,
    /// Records of that segment.
    pub(super) records: u64,
    /// Records of it whose content is damaged, and places whose header is.
    pub(super) faults: u64,
}

struct FoundRecord {
    file: FileNumber,
    offset: u64,
    header: RecordHeader,
    fault: Option<BodyFault>,
    parts: Vec<Option<SubHeader>>,
}

impl<'o> Records<'o> {
    pub(super) fn new(
        out: &'o mut dyn Write,
        core: CoreId,
        format: Format,
        limit: Option<usize>,
    ) -> Records<'o> {
        Records {
            out,
            core,
            format,
            limit,
            kept: BTreeMap::new(),
            files: BTreeMap::new(),
            written: Ok(()),
        }
    }

    pub(super) fn on_item(&mut self, item: &SurveyItem<'_>) {
        match *item {
            SurveyItem::Record {
                file,
                offset,
                header,
                fault,
                parts,
            } => {
                self.files.entry(file).or_default().on_record(header, fault);
                self.on_record(FoundRecord {
                    file,
                    offset,
                    header: header.clone(),
                    fault,
                    parts: parts.to_vec(),
                });
            }
            SurveyItem::Remains { file, offset } => {
                self.files.entry(file).or_default().faults += 1;
                self.print_remains(file, offset);
            }
        }
    }

    fn on_record(&mut self, record: FoundRecord) {
        let Some(limit) = self.limit else {
            self.print(&record);
            return;
        };
        let header = &record.header;
        let place = (header.segment, header.sequence, record.file, record.offset);
        self.kept.insert(place, record);
        if self.kept.len() > limit {
            self.kept.pop_first();
        }
    }

    /// Prints what was kept, and tells whether all could be printed.
    pub(super) fn finish(mut self) -> io::Result<BTreeMap<FileNumber, FileContent>> {
        for record in std::mem::take(&mut self.kept).into_values() {
            self.print(&record);
        }
        self.written.map(|()| self.files)
    }

    fn print(&mut self, record: &FoundRecord) {
        if self.written.is_ok() {
            self.written = match self.format {
                Format::Json => writeln!(self.out, "{}", record.json(self.core)),
                Format::People => record.print(self.out),
            };
        }
    }

    fn print_remains(&mut self, file: FileNumber, offset: u64) {
        if self.written.is_err() {
            return;
        }
        self.written = match self.format {
            Format::Json => {
                let remains = json!({ "file": file.0, "offset": offset });
                let document = json!({ "core": self.core.0, "remains": remains });
                writeln!(self.out, "{document}")
            }
            Format::People => writeln!(
                self.out,
                "remains of a record in log-{file}.seg at {offset}: the header cannot be read"
            ),
        };
    }
}

impl FileContent {
    fn on_record(&mut self, header: &RecordHeader, fault: Option<BodyFault>) {
        // An older segment is what an earlier use of the file left behind.
        if header.segment < self.segment {
            return;
        }
        if header.segment > self.segment {
            *self = FileContent {
                segment: header.segment,
                ..FileContent::default()
            };
        }
        self.oldest_live_segment = self.oldest_live_segment.max(header.oldest_live_segment);
        self.records += 1;
        self.faults += u64::from(fault.is_some());
    }
}

impl FoundRecord {
    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let header = &self.header;
        let kind = match header.kind {
            RecordKind::Parts => "record",
            RecordKind::Checkpoint => "checkpoint",
        };
        let fault = self.fault.map_or("", fault_text);
        let separator = if self.fault.is_some() {
            ", DAMAGED: "
        } else {
            ""
        };
        writeln!(
            out,
            "{kind} {} in log-{}.seg at {}: segment {}, {} bytes, watermark {}, epoch {}{separator}{fault}",
            header.sequence,
            self.file,
            self.offset,
            header.segment,
            header.record_bytes,
            header.watermark,
            header.epoch,
        )?;
        for part in &self.parts {
            match part {
                None => writeln!(out, "    a part that cannot be read")?,
                Some(part) => print_part(part, out)?,
            }
        }
        Ok(())
    }

    fn json(&self, core: CoreId) -> Value {
        let header = &self.header;
        let parts: Vec<Value> = self
            .parts
            .iter()
            .map(|part| part.as_ref().map_or(Value::Null, part_json))
            .collect();
        json!({
            "core": core.0,
            "record": {
                "kind": match header.kind {
                    RecordKind::Parts => "record",
                    RecordKind::Checkpoint => "checkpoint",
                },
                "sequence": header.sequence.0,
                "file": self.file.0,
                "offset": self.offset,
                "bytes": header.record_bytes,
                "segment": header.segment.0,
                "watermark": header.watermark.0,
                "epoch": header.epoch.0,
                "oldest_live_segment": header.oldest_live_segment.0,
                "fault": self.fault.map(fault_text),
                "parts": parts,
            },
        })
    }
}

fn print_part(part: &SubHeader, out: &mut dyn Write) -> io::Result<()> {
    let state = &part.hard_state;
    write!(
        out,
        "    {} replica {} shard {} term {} vote {} commit {}",
        kind_name(part.kind),
        part.replica,
        part.shard,
        state.term,
        state.vote,
        state.commit,
    )?;
    match part.entry_range() {
        Some((first, last)) => write!(out, ", entries {first} to {last}")?,
        None => write!(out, ", no entries, last index {}", part.last_index)?,
    }
    if part.snapshot_index.0 > 0 {
        let (index, term) = (part.snapshot_index, part.snapshot_term);
        write!(out, ", snapshot at {index} of term {term}")?;
    }
    writeln!(out, ", {} bytes", part.payload_bytes)
}

fn part_json(part: &SubHeader) -> Value {
    let range = part.entry_range();
    json!({
        "kind": kind_name(part.kind),
        "replica": part.replica.0,
        "shard": part.shard.0,
        "term": part.hard_state.term.0,
        "vote": part.hard_state.vote.0,
        "commit": part.hard_state.commit.0,
        "first_entry": range.map(|(first, _)| first.0),
        "last_entry": range.map(|(_, last)| last.0),
        "last_index": part.last_index.0,
        "snapshot_index": part.snapshot_index.0,
        "snapshot_term": part.snapshot_term.0,
        "payload_bytes": part.payload_bytes,
        "previous_record": part.previous_sequence.0,
    })
}

fn kind_name(kind: SubHeaderKind) -> &'static str {
    match kind {
        SubHeaderKind::Append => "append",
        SubHeaderKind::Rewrite => "rewrite",
        SubHeaderKind::Snapshot => "snapshot",
        SubHeaderKind::Tombstone => "tombstone",
        SubHeaderKind::Checkpoint => "checkpoint",
    }
}
