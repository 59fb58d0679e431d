//! What happens to durable bytes in the course of time, and what devices do wrong without saying so.
//!
//! Nothing can be claimed for what only one place knew. So damage keeps to what the log promises to survive: records that
//! something else durable covers, and of whole records only those behind which a later checkpoint says how every replica
//! stands. How many nodes may be damaged at a time is for the owner to know.

use std::collections::BTreeSet;

use metastore_engine::Identity;
use metastore_wal::format::{RECORD_HEADER_BYTES, RecordKind, SUB_HEADER_BYTES};
use metastore_wal::recovery::{SurveyItem, survey};
use metastore_wal::{RecordSequence, SealKey, SegmentSequence};

use super::{Disk, FileName, SECTOR_BYTES};

/// What happens to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decay {
    /// Bits of a record flip, behind its sub-headers.
    Body,
    /// A record is not there: it was confirmed and never written, or is nothing but noise.
    Lost,
    /// A record lies where another belongs.
    Misdirected,
    /// A block cannot be read any more.
    Unreadable,
    /// Bits of the files of snapshots flip.
    Snapshots,
}

impl Decay {
    /// All of them.
    pub const ALL: [Decay; 5] = [
        Decay::Body,
        Decay::Lost,
        Decay::Misdirected,
        Decay::Unreadable,
        Decay::Snapshots,
    ];
}

/// A live record as it lies on the disk.
#[derive(Clone, Debug)]
struct Laid {
    sequence: RecordSequence,
    segment: SegmentSequence,
    file: FileName,
    offset: u64,
    bytes: usize,
    /// Where its payload begins.
    payload_at: usize,
    is_checkpoint: bool,
}

impl Disk {
    /// Damages something; `false` when there is nothing that may be damaged in this way.
    pub fn decay(&mut self, decay: Decay, identity: &Identity, seal: SealKey) -> bool {
        if decay == Decay::Snapshots {
            let (at, noise) = (self.random.index(1_000), 1 << self.random.below(8));
            return !self.damage_snapshots(at, noise).is_empty();
        }
        let (records, watermark) = self.live_records(identity, seal);
        let proven = records.iter().filter(|laid| laid.is_checkpoint);
        let proven = proven
            .filter(|laid| laid.sequence <= watermark)
            .map(|laid| laid.segment)
            .max()
            .unwrap_or_default();
        let may_be_lost = |laid: &&Laid| laid.sequence <= watermark && laid.segment < proven;
        let has_body = |laid: &&Laid| {
            laid.sequence <= watermark && !laid.is_checkpoint && laid.payload_at < laid.bytes
        };
        let eligible: Vec<Laid> = match decay {
            Decay::Body => records.iter().filter(has_body).cloned().collect(),
            Decay::Lost | Decay::Misdirected | Decay::Unreadable | Decay::Snapshots => {
                records.iter().filter(may_be_lost).cloned().collect()
            }
        };
        if eligible.is_empty() {
            return false;
        }
        let victim = eligible[self.random.index(eligible.len())].clone();
        match decay {
            Decay::Body => self.flip(&victim),
            Decay::Lost => self.lose(&victim),
            Decay::Misdirected => {
                let others: Vec<&Laid> = eligible
                    .iter()
                    .filter(|other| {
                        other.bytes == victim.bytes && other.sequence != victim.sequence
                    })
                    .collect();
                if others.is_empty() {
                    return false;
                }
                let other = others[self.random.index(others.len())].clone();
                let bytes = self.durable_bytes(&other);
                self.replace_durable(victim.file, victim.offset, &bytes);
                if self.random.chance(500) {
                    self.lose(&other);
                }
            }
            Decay::Unreadable => {
                let sectors = victim.bytes / SECTOR_BYTES;
                let first = usize::try_from(victim.offset).expect("a small file") / SECTOR_BYTES;
                let sector = first + self.random.index(sectors);
                self.unreadable.insert((victim.file, sector));
            }
            Decay::Snapshots => unreachable!("it was done above"),
        }
        true
    }

    fn flip(&mut self, victim: &Laid) {
        let at = self.random.index(victim.bytes - victim.payload_at) + victim.payload_at;
        let mut bytes = self.durable_bytes(victim);
        bytes[at] ^= 1 << self.random.below(8);
        self.replace_durable(victim.file, victim.offset, &bytes);
    }

    fn lose(&mut self, victim: &Laid) {
        let mut bytes = vec![0; victim.bytes];
        if self.random.chance(300) {
            self.random.fill(&mut bytes);
        }
        self.replace_durable(victim.file, victim.offset, &bytes);
    }

    fn durable_bytes(&self, laid: &Laid) -> Vec<u8> {
        let offset = usize::try_from(laid.offset).expect("a small file");
        self.files[&laid.file].durable[offset..offset + laid.bytes].to_vec()
    }

    /// The records from the oldest live segment on, and the highest watermark, as a loss of power would leave them.
    fn live_records(&self, identity: &Identity, seal: SealKey) -> (Vec<Laid>, RecordSequence) {
        let mut records = Vec::new();
        let mut oldest_live = SegmentSequence(0);
        let seen = survey(&mut self.durable_reader(), identity, seal, &mut |item| {
            if let SurveyItem::Record {
                file,
                offset,
                header,
                fault: None,
                ..
            } = item
            {
                oldest_live = oldest_live.max(header.oldest_live_segment);
                let sub_headers = header.sub_header_count as usize * SUB_HEADER_BYTES;
                records.push(Laid {
                    sequence: header.sequence,
                    segment: header.segment,
                    file: FileName::Segment(file),
                    offset,
                    bytes: header.record_bytes as usize,
                    payload_at: RECORD_HEADER_BYTES + sub_headers,
                    is_checkpoint: header.kind == RecordKind::Checkpoint,
                });
            }
        });
        records.retain(|laid| laid.segment >= oldest_live);
        let watermark = seen.map_or(RecordSequence(0), |seen| seen.watermark);
        (records, watermark)
    }

    /// Whether a range can be read.
    pub(super) fn is_readable(&self, file: FileName, offset: usize, bytes: usize) -> bool {
        let sectors = offset / SECTOR_BYTES..(offset + bytes).div_ceil(SECTOR_BYTES);
        let unreadable: &BTreeSet<(FileName, usize)> = &self.unreadable;
        unreadable
            .range((file, sectors.start)..(file, sectors.end))
            .next()
            .is_none()
    }
}
