//! Which records survive: the one place that decides between a torn tail and damage.

use std::collections::BTreeMap;

use super::DamageKind;
use super::replay::Replayed;
use super::rules::Rules;
use super::scan::{FoundRecord, Scan};
use crate::format::{BodyFault, MarkSlot, MarkState, RecordKind};
use crate::ids::{FileNumber, RecordSequence, RecoveryEpoch, SegmentSequence};
use crate::log::{LogStart, MarksStart, Segment, SegmentFile, SegmentsStart};

/// How many findings are worth naming.
const FINDINGS_MAX: usize = 64;

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
/// * **D** A mark says that records were durable, and none is left.
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
    last: (RecordSequence, u64),
    /// The newest oldest-live segment that any record or mark names.
    oldest_live: SegmentSequence,
}

impl Plan {
    pub(super) fn new(scan: &Scan, rules: Rules) -> Self {
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
        Walk::new(scan, oldest_live, watermark, epoch).into_plan(rules)
    }

    /// The last record that survives.
    pub(super) fn last_sequence(&self) -> RecordSequence {
        self.last.0
    }

    /// Where the log continues.
    pub(super) fn log_start(&self, scan: &Scan, replayed: Replayed) -> LogStart {
        let surviving = self.surviving.iter().map(|&index| &scan.records[index]);
        let live: Vec<Segment> = surviving
            .clone()
            .filter(|record| record.header.kind == RecordKind::Checkpoint)
            .map(|record| segment_of(scan, record))
            .collect();
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

/// Goes through the records in the order in which they were written.
struct Walk<'a> {
    scan: &'a Scan,
    oldest_live: SegmentSequence,
    watermark: RecordSequence,
    epoch: RecoveryEpoch,
    /// What is neither stale nor void, by sequence.
    candidates: Vec<usize>,
    surviving: Vec<usize>,
    gaps: Vec<Gap>,
    has_contradiction: bool,
}

impl<'a> Walk<'a> {
    fn new(
        scan: &'a Scan,
        oldest_live: SegmentSequence,
        watermark: RecordSequence,
        epoch: RecoveryEpoch,
    ) -> Self {
        let void = VoidRule::new(scan);
        let mut candidates: Vec<usize> = (0..scan.records.len())
            .filter(|&index| {
                let record = &scan.records[index];
                record.header.segment >= oldest_live && !void.applies_to(record)
            })
            .collect();
        candidates.sort_by_key(|&index| {
            let record = &scan.records[index];
            (record.header.sequence, record.file, record.offset)
        });
        Self {
            scan,
            oldest_live,
            watermark,
            epoch,
            candidates,
            surviving: Vec::new(),
            gaps: Vec::new(),
            has_contradiction: false,
        }
    }

    fn into_plan(mut self, rules: Rules) -> Plan {
        let beyond_gap = self.walk();
        if rules.follows_stale() {
            self.follow_stale();
        }
        let last = self
            .surviving
            .last()
            .map(|&index| &self.scan.records[index]);
        let first_bad = match self.gaps.first() {
            _ if self.has_contradiction => FirstBad::Contradiction,
            None => FirstBad::None,
            Some(_) if rules.cuts_damage() => FirstBad::AboveWatermark,
            // Whoever named the oldest live segment knew that its checkpoint was durable.
            Some(_) if last.is_none() && self.oldest_live.0 > 0 => FirstBad::AtOrBelowWatermark,
            Some(gap) if gap.first <= self.watermark => FirstBad::AtOrBelowWatermark,
            Some(_) => FirstBad::AboveWatermark,
        };
        let remains = self.remains_beyond(last);
        let beyond = if remains.is_some() {
            Beyond::Remains
        } else {
            Beyond::Nothing
        };
        let intact = if last.is_some() {
            Intact::Some
        } else {
            Intact::None
        };
        let decision = choose(intact, first_bad, beyond);
        let last = last.map_or((RecordSequence(0), 0), |record| {
            (record.header.sequence, record.digest)
        });
        if decision == Decision::TornTail && self.gaps.is_empty() {
            self.gaps.extend(remains);
        }
        Plan {
            decision,
            watermark: self.watermark,
            epoch: self.epoch,
            surviving: self.surviving,
            gaps: self.gaps,
            beyond_gap,
            last,
            oldest_live: self.oldest_live,
        }
    }

    /// Takes whatever intact record lies where the last one ends, as a reader would that trusts checksums alone.
    fn follow_stale(&mut self) {
        let at_end = |last: &FoundRecord| {
            let is_there =
                |record: &FoundRecord| (record.file, record.offset) == (last.file, last.end());
            self.scan
                .records
                .iter()
                .position(|record| is_there(record) && record.is_valid())
        };
        let last = self.surviving.last();
        if let Some(stale) = last.and_then(|&index| at_end(&self.scan.records[index])) {
            self.surviving.push(stale);
        }
    }

    /// Fills `surviving` and `gaps`, and returns the records after the first gap.
    fn walk(&mut self) -> Vec<usize> {
        let mut previous: Option<usize> = None;
        let mut expected = self.first_sequence();
        let mut rest = 0;
        let mut beyond_gap = Vec::new();
        while let Some(&candidate) = self.candidates.get(rest) {
            let sequence = self.scan.records[candidate].header.sequence;
            if sequence < expected {
                // A second copy of a record that was found where it belongs.
                self.contradict(candidate, DamageKind::Misplaced { sequence });
                rest += 1;
                continue;
            }
            let group = self.candidates[rest..]
                .iter()
                .take_while(|&&index| self.scan.records[index].header.sequence == sequence)
                .count();
            let found = self.candidates[rest..rest + group].to_vec();
            rest += group;
            if sequence > expected {
                self.miss(
                    previous,
                    expected,
                    RecordSequence(sequence.0 - 1),
                    Some(candidate),
                );
            }
            previous = self
                .place(previous, sequence, expected, &found)
                .or(previous);
            if !self.gaps.is_empty() {
                beyond_gap.extend(found);
            }
            expected = sequence.next();
        }
        if expected <= self.watermark {
            self.miss(previous, expected, self.watermark, None);
        }
        beyond_gap
    }

    /// Takes the record of this sequence that is intact and where it belongs, or notes what is wrong.
    fn place(
        &mut self,
        previous: Option<usize>,
        sequence: RecordSequence,
        expected: RecordSequence,
        found: &[usize],
    ) -> Option<usize> {
        let is_next = sequence == expected && self.gaps.is_empty();
        let fitting = found
            .iter()
            .copied()
            .find(|&index| self.scan.records[index].is_valid() && self.fits(previous, index));
        if let Some(index) = fitting {
            for &other in found.iter().filter(|&&other| other != index) {
                self.contradict(other, DamageKind::Misplaced { sequence });
            }
            if is_next {
                let expected_digest = previous.map(|index| self.scan.records[index].digest);
                let record = &self.scan.records[index];
                if expected_digest.is_some_and(|digest| digest != record.header.previous_digest) {
                    self.contradict(index, DamageKind::ChainBroken { sequence });
                } else {
                    self.surviving.push(index);
                }
            }
            return Some(index);
        }
        let index = found[0];
        match self.scan.records[index].fault {
            // The checksums are right: no crash made it so, wherever the watermark is.
            Some(fault @ BodyFault::Malformed) => {
                self.contradict(index, DamageKind::Body { sequence, fault });
                Some(index)
            }
            Some(fault) => {
                self.push_gap(index, DamageKind::Body { sequence, fault });
                Some(index)
            }
            None => {
                self.push_gap(index, DamageKind::Misplaced { sequence });
                None
            }
        }
    }

    /// Whether the record begins where the one before it says, or begins a later segment.
    fn fits(&self, previous: Option<usize>, index: usize) -> bool {
        let record = &self.scan.records[index];
        let begins_segment = record.offset == 0 && record.header.kind == RecordKind::Checkpoint;
        let Some(previous) = previous.map(|index| &self.scan.records[index]) else {
            // When the first checkpoint itself is lost, whatever else there is comes after a gap.
            return begins_segment && record.header.segment == self.oldest_live
                || !self.gaps.is_empty();
        };
        let is_adjacent = previous.file == record.file && previous.end() == record.offset;
        let is_consecutive = previous.header.sequence.next() == record.header.sequence;
        if record.header.segment == previous.header.segment {
            // After a gap only the file is known to be right.
            previous.file == record.file
                && (is_adjacent || !is_consecutive)
                && record.header.kind == RecordKind::Parts
        } else {
            record.header.segment > previous.header.segment && (begins_segment || !is_consecutive)
        }
    }

    /// The sequence the log must begin with: that of the checkpoint of the oldest live segment.
    fn first_sequence(&self) -> RecordSequence {
        let mut in_oldest = self
            .candidates
            .iter()
            .map(|&index| &self.scan.records[index]);
        let first = in_oldest.find(|record| record.header.segment == self.oldest_live);
        match first {
            Some(record) if record.offset == 0 => record.header.sequence,
            // The checkpoint came before the first record that can still be read.
            Some(record) => RecordSequence(record.header.sequence.0 - 1),
            None => {
                // The segment is lost, and with it the number of its first record. Whatever else there is came later.
                let next = self
                    .candidates
                    .first()
                    .map(|&index| self.scan.records[index].header.sequence);
                RecordSequence(next.map_or(1, |next| (next.0 - 1).max(1)))
            }
        }
    }

    /// Notes that the records from `first` to `last` are not there.
    fn miss(
        &mut self,
        previous: Option<usize>,
        first: RecordSequence,
        last: RecordSequence,
        next: Option<usize>,
    ) {
        let (file, offset) = self.locate(previous, first, next);
        let has_remains = file.is_some_and(|file| self.scan.has_remains_at(file, offset).is_some());
        let what = if has_remains {
            DamageKind::HeaderUnreadable { sequence: first }
        } else {
            DamageKind::RecordsMissing { first, last }
        };
        if self.gaps.len() < FINDINGS_MAX {
            self.gaps.push(Gap {
                first,
                last,
                file,
                offset,
                what,
                found: None,
            });
        }
    }

    /// Where the record `first` should begin: after the one before it, or at the start of a later segment.
    fn locate(
        &self,
        previous: Option<usize>,
        first: RecordSequence,
        next: Option<usize>,
    ) -> (Option<FileNumber>, u64) {
        let next = next.map(|index| &self.scan.records[index]);
        let Some(previous) = previous.map(|index| &self.scan.records[index]) else {
            let file = next
                .filter(|next| next.header.segment == self.oldest_live)
                .map(|next| next.file);
            return (
                file.or_else(|| self.lost_segment_file(first, SegmentSequence(0))),
                0,
            );
        };
        let after_previous = (Some(previous.file), previous.end());
        let begins_epoch =
            |epoch, cut| epoch > previous.header.epoch && cut == previous.header.sequence;
        match next {
            Some(next) if next.header.segment == previous.header.segment => return after_previous,
            Some(next) if begins_epoch(next.header.epoch, next.header.cut) => {
                return (Some(next.file), 0);
            }
            Some(_) | None => {}
        }
        let is_epoch_lost = next.is_none()
            && self
                .scan
                .valid_marks()
                .any(|mark| mark.epoch > previous.header.epoch);
        let has_remains = self.scan.has_remains_at(previous.file, previous.end());
        if has_remains.is_some_and(|remains| {
            remains.segment == previous.header.segment || remains.sequence == first
        }) && !is_epoch_lost
        {
            return after_previous;
        }
        let of_next = next.map(|next| next.file);
        match of_next.or_else(|| self.lost_segment_file(first, previous.header.segment)) {
            Some(file) => (Some(file), 0),
            None => after_previous,
        }
    }

    /// A file that seems to begin with the unreadable checkpoint `first` of a segment after `segment`.
    fn lost_segment_file(
        &self,
        first: RecordSequence,
        segment: SegmentSequence,
    ) -> Option<FileNumber> {
        let begins = |found: &&super::scan::FoundRemains| {
            found.offset == 0
                && (found.remains.sequence == first || found.remains.segment > segment)
        };
        self.scan
            .remains
            .iter()
            .find(begins)
            .map(|found| found.file)
    }

    /// Remains of a record at the place after the last one, or of the checkpoint of the segment after it.
    fn remains_beyond(&self, last: Option<&FoundRecord>) -> Option<Gap> {
        let sequence = last.map_or(RecordSequence(1), |record| record.header.sequence.next());
        let place = match last {
            None => self.scan.remains.iter().find(|found| found.offset == 0),
            Some(last) => self.scan.remains.iter().find(|found| {
                let is_after_last = found.file == last.file && found.offset == last.end();
                let continues_segment = found.remains.segment == last.header.segment
                    || found.remains.sequence == sequence;
                let begins_segment = found.offset == 0
                    && found.remains.sequence == sequence
                    && found.remains.segment > last.header.segment;
                is_after_last && continues_segment || begins_segment
            }),
        }?;
        Some(Gap {
            first: sequence,
            last: sequence,
            file: Some(place.file),
            offset: place.offset,
            what: DamageKind::HeaderUnreadable { sequence },
            found: None,
        })
    }

    fn contradict(&mut self, index: usize, what: DamageKind) {
        self.has_contradiction = true;
        self.push_gap(index, what);
    }

    fn push_gap(&mut self, index: usize, what: DamageKind) {
        if self.gaps.len() < FINDINGS_MAX {
            let record = &self.scan.records[index];
            let sequence = record.header.sequence;
            self.gaps.push(Gap {
                first: sequence,
                last: sequence,
                file: Some(record.file),
                offset: record.offset,
                what,
                found: Some(index),
            });
        }
    }
}

/// What recoveries cut away stays void: a record of an older epoch above the cut of a newer one.
struct VoidRule {
    /// For each epoch the lowest cut among it and the epochs after it.
    cuts: BTreeMap<RecoveryEpoch, RecordSequence>,
}

impl VoidRule {
    fn new(scan: &Scan) -> Self {
        let mut cuts: BTreeMap<RecoveryEpoch, RecordSequence> = BTreeMap::new();
        for record in scan.records.iter().filter(|record| record.is_valid()) {
            let cut = cuts.entry(record.header.epoch).or_insert(record.header.cut);
            *cut = record.header.cut.min(*cut);
        }
        let mut lowest = None;
        for cut in cuts.values_mut().rev() {
            let lower = lowest.map_or(*cut, |lowest: RecordSequence| lowest.min(*cut));
            *cut = lower;
            lowest = Some(lower);
        }
        Self { cuts }
    }

    fn applies_to(&self, record: &FoundRecord) -> bool {
        let later = RecoveryEpoch(record.header.epoch.0 + 1);
        self.cuts
            .range(later..)
            .next()
            .is_some_and(|(_, &cut)| record.header.sequence > cut)
    }
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
