//! The way through the records, from the oldest live segment to the first that is bad, and beyond.

use std::collections::BTreeMap;

use metastore_bugs::{Mutant, is_planted};

use super::DamageKind;
use super::decision::{Beyond, Decision, FirstBad, Gap, Intact, Plan, choose};
use super::scan::{FoundRecord, FoundRemains, Scan};
use crate::format::{BodyFault, RecordKind};
use crate::ids::{FileNumber, RecordSequence, RecoveryEpoch, SegmentSequence};

/// How many findings are worth naming.
const FINDINGS_MAX: usize = 64;

/// What becomes of a log that is damaged where it was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damages {
    /// It is refused.
    AreRefused,
    /// What is damaged is left out, and the replicas whose it is are named: others may have what they lost.
    AreLeftOut,
}

/// Goes through the records in the order in which they were written.
pub(super) struct Walk<'a> {
    scan: &'a Scan,
    oldest_live: SegmentSequence,
    watermark: RecordSequence,
    epoch: RecoveryEpoch,
    /// What is neither stale nor void, by sequence.
    candidates: Vec<usize>,
    surviving: Vec<usize>,
    gaps: Vec<Gap>,
    has_contradiction: bool,
    damages: Damages,
    salvage: SalvagePlan,
    /// Whether a record above the watermark is missing or bad: what comes after it is void.
    is_torn: bool,
}

/// What can be used of a log in spite of its damages.
#[derive(Debug, Default)]
pub(super) struct SalvagePlan {
    /// Records whose headers are intact, in order, as places in the scan; their bodies may be damaged.
    pub(super) records: Vec<usize>,
    /// Records of which nothing is known, first and last.
    pub(super) unknown: Vec<(RecordSequence, RecordSequence)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        scan: &'a Scan,
        oldest_live: SegmentSequence,
        watermark: RecordSequence,
        epoch: RecoveryEpoch,
        damages: Damages,
    ) -> Self {
        let void = VoidRule::new(scan);
        let mut candidates: Vec<usize> = (0..scan.records.len())
            .filter(|&index| {
                let record = &scan.records[index];
                let is_void = !is_planted(Mutant::CutTailComesBack) && void.applies_to(record);
                record.header.segment >= oldest_live && !is_void
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
            damages,
            salvage: SalvagePlan::default(),
            is_torn: false,
        }
    }

    pub(super) fn into_plan(mut self) -> Plan {
        let beyond_gap = self.walk();
        if is_planted(Mutant::StaleRecordOfReusedSegment) {
            self.follow_stale();
        }
        self.refuse_malformed();
        let last = self
            .surviving
            .last()
            .map(|&index| &self.scan.records[index]);
        let remains = self.remains_beyond(last);
        if is_planted(Mutant::TornSegmentStartRefused) && self.gaps.is_empty() {
            self.gaps.extend(remains.clone());
        }
        let first_bad = match self.gaps.first() {
            _ if self.has_contradiction => FirstBad::Contradiction,
            None => FirstBad::None,
            Some(_) if is_planted(Mutant::TruncateAtOrBelowWatermark) => FirstBad::AboveWatermark,
            Some(gap) if is_planted(Mutant::TornSegmentStartRefused) && gap.offset == 0 => {
                FirstBad::AtOrBelowWatermark
            }
            Some(gap)
                if is_planted(Mutant::TornRecordRefused)
                    && matches!(gap.what, DamageKind::Body { .. }) =>
            {
                FirstBad::AtOrBelowWatermark
            }
            // Whoever named the oldest live segment knew that its checkpoint was durable.
            Some(_) if last.is_none() && self.oldest_live.0 > 0 => FirstBad::AtOrBelowWatermark,
            Some(gap) if gap.first <= self.watermark => FirstBad::AtOrBelowWatermark,
            // Whatever the record behind the gap says of its place: what survives must reach the watermark.
            Some(_)
                if last.map_or(RecordSequence(0), |record| record.header.sequence)
                    < self.watermark =>
            {
                FirstBad::AtOrBelowWatermark
            }
            Some(_) => FirstBad::AboveWatermark,
        };
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
            salvage: self.salvage,
            has_contradiction: self.has_contradiction,
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

    /// The bug of a reader that trusts checksums and places: what a device wrote to the place of a record is that record.
    fn take_misplaced(
        &mut self,
        previous: &mut Option<usize>,
        expected: &mut RecordSequence,
        until: RecordSequence,
    ) {
        while *expected < until && self.gaps.is_empty() {
            let last = previous.map(|index| &self.scan.records[index]);
            let is_there = |record: &FoundRecord| {
                let is_next =
                    |last: &FoundRecord| (record.file, record.offset) == (last.file, last.end());
                last.is_some_and(is_next) && record.header.kind == RecordKind::Parts
            };
            let mut records = self.scan.records.iter();
            let Some(taken) = records.position(|record| record.is_valid() && is_there(record))
            else {
                return;
            };
            self.surviving.push(taken);
            *previous = Some(taken);
            *expected = expected.next();
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
                self.note_copy(candidate, sequence);
                rest += 1;
                continue;
            }
            let group = self.candidates[rest..]
                .iter()
                .take_while(|&&index| self.scan.records[index].header.sequence == sequence)
                .count();
            let found = self.candidates[rest..rest + group].to_vec();
            rest += group;
            if sequence > expected && is_planted(Mutant::MisplacedRecordTaken) {
                self.take_misplaced(&mut previous, &mut expected, sequence);
            }
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
                self.note_copy(other, sequence);
            }
            if !self.is_torn {
                self.salvage.records.push(index);
            }
            if is_next {
                let expected_digest = previous.map(|index| self.scan.records[index].digest);
                let record = &self.scan.records[index];
                let is_chained = !is_planted(Mutant::MisplacedRecordTaken);
                if expected_digest
                    .is_some_and(|digest| is_chained && digest != record.header.previous_digest)
                {
                    self.contradict(index, DamageKind::ChainBroken { sequence });
                } else {
                    self.surviving.push(index);
                }
            }
            return Some(index);
        }
        let damaged = found
            .iter()
            .find_map(|&index| self.scan.records[index].fault.map(|fault| (index, fault)));
        let Some((index, fault)) = damaged else {
            let what = DamageKind::Misplaced { sequence };
            if self.scan.records[found[0]].header.epoch < self.epoch {
                // A start of a later epoch cut this record away, and was interrupted before its cut was durable.
                self.push_gap(found[0], what);
            } else {
                self.contradict(found[0], what);
            }
            self.give_up(sequence, sequence);
            return None;
        };
        let what = DamageKind::Body { sequence, fault };
        match fault {
            BodyFault::Checksum | BodyFault::Padding => self.push_gap(index, what),
            // The checksums are right: no crash made it so, wherever the watermark is.
            BodyFault::Malformed => self.contradict(index, what),
        }
        self.is_torn |= sequence > self.watermark;
        if !self.is_torn {
            self.salvage.records.push(index);
        }
        Some(index)
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
                // What was durable by then is missing with it, however far the next record lies above.
                let durable_max = match self.watermark.0 {
                    0 => u64::MAX,
                    watermark => watermark,
                };
                RecordSequence(next.map_or(1, |next| (next.0 - 1).min(durable_max).max(1)))
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
        self.give_up(first, last);
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
        let begins = |found: &&FoundRemains| {
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

    /// No crash makes a checksum right: wherever it lies, nobody knows what it should have been.
    fn refuse_malformed(&mut self) {
        for &(file, offset) in self.scan.malformed.iter().take(FINDINGS_MAX) {
            self.has_contradiction = true;
            self.gaps.push(Gap {
                first: RecordSequence(0),
                last: RecordSequence(u64::MAX),
                file: Some(file),
                offset,
                what: DamageKind::HeaderMalformed,
                found: None,
            });
        }
    }

    fn contradict(&mut self, index: usize, what: DamageKind) {
        let is_misplaced = matches!(what, DamageKind::Misplaced { .. });
        // A device that writes to a wrong place damages two: what it wrote, and what it wrote over.
        self.has_contradiction |= !(is_misplaced && self.damages == Damages::AreLeftOut);
        self.push_gap(index, what);
    }

    /// A second copy of a record that is where it belongs. What it was written over is missed by itself.
    fn note_copy(&mut self, index: usize, sequence: RecordSequence) {
        if self.damages == Damages::AreRefused {
            self.contradict(index, DamageKind::Misplaced { sequence });
        }
    }

    /// Nothing is known of the records from `first` to `last`.
    fn give_up(&mut self, first: RecordSequence, last: RecordSequence) {
        self.is_torn |= last > self.watermark;
        if !self.is_torn {
            self.salvage.unknown.push((first, last));
        }
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
