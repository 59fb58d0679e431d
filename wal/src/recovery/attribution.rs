//! Whose data a damage concerns, and what a torn tail held.

use std::collections::BTreeMap;

use super::decision::{Decision, Gap, Plan};
use super::scan::{FileReader, FoundRecord, Scan};
use super::{Concerned, Damage, SegmentSource, TornPart, TornTail};
use crate::format::{
    RECORD_HEADER_BYTES, RecordBody, RecordKind, SUB_HEADER_BYTES, SubHeader, SubHeaderKind,
};
use crate::ids::{RecordSequence, ReplicaId, ShardId};

/// Names the shards that each gap concerns.
///
/// A record whose header is intact names its replicas itself. Otherwise the first later record of a replica tells: it
/// says which record was the replica's previous one. Only a later checkpoint proves that no replica is unknown.
pub(super) fn attribute<S: SegmentSource>(
    source: &mut S,
    scan: &Scan,
    plan: &Plan,
) -> Result<Vec<Damage>, S::Error> {
    let mut witnesses: Vec<&FoundRecord> = scan
        .records
        .iter()
        .filter(|record| record.is_valid())
        .collect();
    witnesses.sort_by_key(|record| record.header.sequence);
    let mut shards: BTreeMap<ReplicaId, ShardId> = BTreeMap::new();
    let mut testimonies: Vec<Testimony> = plan.gaps.iter().map(Testimony::new).collect();
    for witness in witnesses {
        for sub_header in read_sub_headers(source, scan, witness)?
            .into_iter()
            .flatten()
        {
            shards.insert(sub_header.replica, sub_header.shard);
            for testimony in &mut testimonies {
                testimony.hear(witness, &sub_header);
            }
        }
        for testimony in &mut testimonies {
            testimony.has_later_checkpoint |= witness.header.kind == RecordKind::Checkpoint
                && witness.header.sequence > testimony.last;
        }
    }
    let mut findings = Vec::with_capacity(plan.gaps.len());
    for (gap, testimony) in plan.gaps.iter().zip(&testimonies) {
        let own = match gap.found {
            Some(index) => read_sub_headers(source, scan, &scan.records[index])?,
            None => vec![None],
        };
        let concerned = concerned(gap, &own, testimony, &shards);
        findings.push(Damage {
            file: gap.file,
            offset: gap.offset,
            what: gap.what,
            concerned,
        });
    }
    Ok(findings)
}

/// What the first gap and everything after it held, as far as it can be read.
pub(super) fn torn_tail<S: SegmentSource>(
    source: &mut S,
    scan: &Scan,
    plan: &Plan,
) -> Result<Option<TornTail>, S::Error> {
    let Some(gap) = plan
        .gaps
        .first()
        .filter(|_| plan.decision == Decision::TornTail)
    else {
        return Ok(None);
    };
    let Some(file) = gap.file else {
        return Ok(None);
    };
    let mut parts = Vec::new();
    for &index in &plan.beyond_gap {
        for sub_header in read_sub_headers(source, scan, &scan.records[index])?
            .into_iter()
            .flatten()
        {
            if sub_header.kind != SubHeaderKind::Checkpoint {
                let indexes = sub_header.entry_range();
                parts.push(TornPart {
                    replica: sub_header.replica,
                    shard: sub_header.shard,
                    indexes,
                });
            }
        }
    }
    Ok(Some(TornTail {
        file,
        offset: gap.offset,
        sequence: gap.first,
        parts,
    }))
}

/// What later records say about the replicas and one gap.
struct Testimony {
    first: RecordSequence,
    last: RecordSequence,
    /// For each replica with a later record, whether its previous record lies in the gap.
    is_concerned: BTreeMap<ReplicaId, bool>,
    has_later_checkpoint: bool,
}

impl Testimony {
    fn new(gap: &Gap) -> Self {
        Self {
            first: gap.first,
            last: gap.last,
            is_concerned: BTreeMap::new(),
            has_later_checkpoint: false,
        }
    }

    fn hear(&mut self, witness: &FoundRecord, sub_header: &SubHeader) {
        if witness.header.sequence <= self.last {
            return;
        }
        let previous = sub_header.previous_sequence;
        let lies_within = self.first <= previous && previous <= self.last;
        self.is_concerned
            .entry(sub_header.replica)
            .or_insert(lies_within);
    }
}

fn concerned(
    gap: &Gap,
    own: &[Option<SubHeader>],
    testimony: &Testimony,
    shards: &BTreeMap<ReplicaId, ShardId>,
) -> Concerned {
    let is_checkpoint = gap.offset == 0;
    let own_shards = own.iter().flatten().map(|sub_header| sub_header.shard);
    if own.iter().all(Option::is_some) && !is_checkpoint {
        return Concerned::Shards(sorted(own_shards.collect()));
    }
    let is_intact = |replica: &ReplicaId| testimony.is_concerned.get(replica) == Some(&false);
    if testimony.has_later_checkpoint && !is_checkpoint {
        let suspects = shards
            .iter()
            .filter(|(replica, _)| !is_intact(replica))
            .map(|(_, &shard)| shard);
        return Concerned::Shards(sorted(own_shards.chain(suspects).collect()));
    }
    let mut proven_intact: Vec<ShardId> = Vec::new();
    if !is_checkpoint {
        let own_shards: Vec<ShardId> = own_shards.collect();
        let intact = shards
            .iter()
            .filter(|(replica, _)| is_intact(replica))
            .map(|(_, &shard)| shard);
        proven_intact = sorted(intact.filter(|shard| !own_shards.contains(shard)).collect());
    }
    Concerned::WholeCore { proven_intact }
}

fn sorted(mut shards: Vec<ShardId>) -> Vec<ShardId> {
    shards.sort_unstable();
    shards.dedup();
    shards
}

/// The sub-headers of a record, `None` for those that cannot be read.
pub(super) fn read_sub_headers<S: SegmentSource>(
    source: &mut S,
    scan: &Scan,
    found: &FoundRecord,
) -> Result<Vec<Option<SubHeader>>, S::Error> {
    let file = scan
        .file(found.file)
        .expect("a record lies in a file of the scan");
    let wanted = RECORD_HEADER_BYTES + found.header.sub_header_count as usize * SUB_HEADER_BYTES;
    let bytes = FileReader::of_scanned(source, scan, file).bytes_exactly(found.offset, wanted)?;
    Ok(RecordBody::sub_headers_of(&found.header, &bytes))
}
