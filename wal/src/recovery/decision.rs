//! Which records survive: the one place that decides between a torn tail and damage.

use std::collections::BTreeMap;

use super::DamageKind;
use super::replay::Replayed;
use super::scan::{FoundRecord, Scan};
use super::walk::{Damages, SalvagePlan, Walk};
use crate::format::{MarkSlot, MarkState};
use crate::ids::{FileNumber, RecordSequence, RecoveryEpoch, SegmentSequence};
use crate::log::{LogStart, MarksStart, Segment, SegmentFile, SegmentsStart};

/// What recovery makes of a log. `W` is the highest watermark in any valid record or mark: every record up to it was
/// durable once.
///
/// | | intact records | first bad or missing record | at the place after the last | decision |
/// |---|---|---|---|---|
/// | A | none | none | nothing | `Empty` |
/// | B | none | none | remains of a record | `TornTail` |
/// | C | none | above W | any | `TornTail` |
/// | D | none | at or below W | any | `Corrupt` |
/// | E | some | none | nothing | `Clean` |
/// | F | some | none | remains of a record | `TornTail` |
/// | G | some | above W | any | `TornTail` |
/// | H | some | at or below W | any | `Corrupt` |
/// | I | any | contradicts another record | any | `Corrupt` |
///
/// * **A** Nothing was ever durable. Whether that is right is for the caller to know: it formatted the directory, or it
///   expects a log.
/// * **B, C** The very first record was being written. Nothing was acknowledged, nothing is lost.
/// * **D** A mark, or the sealed header of a record that is not intact, says that records were durable, and none is left.
/// * **E** Everything that was written is there.
/// * **F, G** The last write did not complete. The bad record and everything after it are void, intact or not: what
///   was written later was never acknowledged either, because only a prefix without gaps counts.
/// * **H** Something that was durable is not there any more. It is never cut, because it may have been acknowledged.
/// * **I** Records are intact and yet not those that were written one after the other, or their contents make no
///   sense. No crash does that, wherever the watermark is.
///
/// An intact record is no evidence for the records before it beyond its own watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing was ever durable.
    Empty,
    /// Everything is there.
    Clean,
    /// The end is cut off.
    TornTail,
    /// Refused.
    Corrupt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intact {
    None,
    Some,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstBad {
    None,
    AboveWatermark,
    AtOrBelowWatermark,
    Contradiction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    Nothing,
    Remains,
}

/// The table above.
pub(super) fn choose(intact: Intact, first_bad: FirstBad, beyond: Beyond) -> Decision {
    match (intact, first_bad, beyond) {
        /* A */ (Intact::None, FirstBad::None, Beyond::Nothing) => Decision::Empty,
        /* B */ (Intact::None, FirstBad::None, Beyond::Remains) => Decision::TornTail,
        /* C */ (Intact::None, FirstBad::AboveWatermark, _) => Decision::TornTail,
        /* D */ (Intact::None, FirstBad::AtOrBelowWatermark, _) => Decision::Corrupt,
        /* E */ (Intact::Some, FirstBad::None, Beyond::Nothing) => Decision::Clean,
        /* F */ (Intact::Some, FirstBad::None, Beyond::Remains) => Decision::TornTail,
        /* G */ (Intact::Some, FirstBad::AboveWatermark, _) => Decision::TornTail,
        /* H */ (Intact::Some, FirstBad::AtOrBelowWatermark, _) => Decision::Corrupt,
        /* I */ (_, FirstBad::Contradiction, _) => Decision::Corrupt,
    }
}

/// Records that should be there and are not.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    pub(super) first: RecordSequence,
    pub(super) last: RecordSequence,
    pub(super) file: Option<FileNumber>,
    pub(super) offset: u64,
    pub(super) what: DamageKind,
    /// The record in the scan whose header is intact, if there is one.
    pub(super) found: Option<usize>,
}

/// What survives, and what does not.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) decision: Decision,
    pub(super) watermark: RecordSequence,
    pub(super) epoch: RecoveryEpoch,
    /// The records that survive, in order, as places in the scan.
    pub(super) surviving: Vec<usize>,
    /// For a torn tail the first gap; for damage all of them, as far as they are worth naming.
    pub(super) gaps: Vec<Gap>,
    /// Records of this epoch after the first gap, as places in the scan.
    pub(super) beyond_gap: Vec<usize>,
    /// The last of them, and its digest.
    pub(super) last: (RecordSequence, u64),
    /// The newest oldest-live segment that any record or mark names.
    pub(super) oldest_live: SegmentSequence,
    /// What can be used in spite of the damages.
    pub(super) salvage: SalvagePlan,
    /// Whether intact records contradict each other.
    pub(super) has_contradiction: bool,
}

impl Plan {
    pub(super) fn new(scan: &Scan, damages: Damages) -> Self {
        let oldest_in_records = scan.records.iter().filter(|record| record.is_valid());
        let oldest_live = oldest_in_records
            .map(|record| record.header.oldest_live_segment)
            .chain(scan.valid_marks().map(|mark| mark.oldest_live_segment))
            .max()
            .unwrap_or_default();
        let watermark = scan
            .records
            .iter()
            .map(|record| record.header.watermark)
            .chain(scan.valid_marks().map(|mark| mark.watermark))
            .max()
            .unwrap_or_default();
        let epoch = scan
            .records
            .iter()
            .map(|record| record.header.epoch)
            .chain(scan.valid_marks().map(|mark| mark.epoch))
            .max()
            .unwrap_or_default();
        Walk::new(scan, oldest_live, watermark, epoch, damages).into_plan()
    }

    /// Whether something is left to go on with: nothing contradicts itself, and a record is intact.
    pub(super) fn is_usable(&self, scan: &Scan) -> bool {
        let mut records = self.salvage.records.iter().map(|&at| &scan.records[at]);
        !self.has_contradiction && records.any(FoundRecord::is_valid)
    }

    /// What is damaged is passed over: everything else survives. The log goes on behind everything that was durable.
    pub(super) fn leave_out_damages(&mut self, scan: &Scan) {
        self.surviving.clone_from(&self.salvage.records);
        let newest = self.surviving.last().map(|&index| &scan.records[index]);
        self.last = match newest {
            Some(newest) if newest.header.sequence >= self.watermark => {
                (newest.header.sequence, newest.digest)
            }
            Some(_) | None => (self.watermark, 0),
        };
    }

    /// The last record that survives.
    pub(super) fn last_sequence(&self) -> RecordSequence {
        self.last.0
    }

    /// Where the log continues.
    pub(super) fn log_start(&self, scan: &Scan, replayed: Replayed) -> LogStart {
        let surviving = self.surviving.iter().map(|&index| &scan.records[index]);
        let mut live: BTreeMap<SegmentSequence, Segment> = BTreeMap::new();
        for record in surviving.clone() {
            // Where the checkpoint of a segment is lost, its number is that before the first record that is left.
            let segment = record.header.segment;
            live.entry(segment).or_insert_with(|| {
                let mut begun = segment_of(scan, record);
                if record.offset > 0 {
                    begun.first_record = RecordSequence(begun.first_record.0 - 1);
                }
                begun
            });
        }
        let live: Vec<Segment> = live.into_values().collect();
        let oldest_named = surviving
            .map(|record| record.header.oldest_live_segment)
            .chain(scan.valid_marks().map(|mark| mark.oldest_live_segment))
            .max()
            .unwrap_or_default();
        // Only a record that is cut away names what released these: until a record that stays says so, a crash
        // could bring back a log that still believes in them.
        let released: Vec<Segment> = scan
            .records
            .iter()
            .filter(|record| {
                let segment = record.header.segment;
                record.offset == 0 && oldest_named <= segment && segment < self.oldest_live
            })
            .map(|record| segment_of(scan, record))
            .collect();
        let is_used = |file: &SegmentFile| {
            live.iter()
                .chain(&released)
                .any(|segment| segment.file.number == file.number)
        };
        let unused: Vec<SegmentFile> = scan
            .files
            .iter()
            .copied()
            .filter(|file| !is_used(file))
            .collect();
        let newest_segment = scan
            .records
            .iter()
            .map(|record| record.header.segment)
            .chain(scan.valid_marks().map(|mark| mark.segment))
            .max()
            .unwrap_or_default();
        LogStart {
            epoch: self.epoch,
            last_sequence: self.last.0,
            last_digest: self.last.1,
            replicas: replayed.replicas,
            placements: replayed.placements,
            segments: SegmentsStart {
                live,
                released,
                unused,
                next_segment: SegmentSequence(newest_segment.0 + 1),
                oldest_named,
            },
            marks: marks_start(scan),
        }
    }
}

fn segment_of(scan: &Scan, record: &FoundRecord) -> Segment {
    let file = scan
        .file(record.file)
        .expect("a record lies in a file of the scan");
    Segment {
        sequence: record.header.segment,
        file,
        first_record: record.header.sequence,
    }
}

/// The newest mark stays; the next one goes to the other block.
fn marks_start(scan: &Scan) -> MarksStart {
    let newest = MarkSlot::BOTH
        .into_iter()
        .zip(&scan.marks)
        .filter_map(|(slot, state)| match state {
            MarkState::Valid(mark) => Some((mark.generation, slot, mark.watermark)),
            MarkState::Unwritten | MarkState::Unreadable => None,
        })
        .max_by_key(|&(generation, _, _)| generation);
    newest.map_or_else(MarksStart::default, |(generation, slot, watermark)| {
        MarksStart {
            generation,
            slot: slot.other(),
            watermark,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table again, by its effect rather than by its rows.
    #[test]
    fn every_combination_is_decided_as_the_rules_say() {
        let mut rows = 0;
        for intact in [Intact::None, Intact::Some] {
            for first_bad in [
                FirstBad::None,
                FirstBad::AboveWatermark,
                FirstBad::AtOrBelowWatermark,
                FirstBad::Contradiction,
            ] {
                for beyond in [Beyond::Nothing, Beyond::Remains] {
                    let loses_durable_data = matches!(
                        first_bad,
                        FirstBad::AtOrBelowWatermark | FirstBad::Contradiction
                    );
                    let cuts_something =
                        first_bad == FirstBad::AboveWatermark || beyond == Beyond::Remains;
                    let expected = if loses_durable_data {
                        Decision::Corrupt
                    } else if cuts_something {
                        Decision::TornTail
                    } else if intact == Intact::None {
                        Decision::Empty
                    } else {
                        Decision::Clean
                    };
                    assert_eq!(
                        choose(intact, first_bad, beyond),
                        expected,
                        "{intact:?} {first_bad:?} {beyond:?}"
                    );
                    rows += 1;
                }
            }
        }
        assert_eq!(rows, 16);
    }
}
