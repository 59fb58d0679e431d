//! From segments and marks back to replicas.
//!
//! It reads through a [`SegmentSource`] and changes nothing. It does **not** repair: what is torn is cut, which the
//! checkpoint of the next segment makes durable; what is damaged is named and refused.
//!
//! 1. [`scan`](self): every block boundary of every file is tried for a record, valid or not, needed or not.
//! 2. Decide: which records survive, by the lettered table on [`Decision`].
//! 3. Replay: the newest snapshot of each replica is told first; then the surviving records are read again, in order,
//!    and handed out as [`ReplayEvent`]s.
//!
//! The bytes are read twice so that no more than one segment is ever in memory.

mod attribution;
mod decision;
mod replay;
mod salvage;
mod scan;
mod snapshots;
mod survey;
#[cfg(test)]
mod tests;
mod walk;

use thiserror::Error;

use crate::format::{BLOCK_BYTES, BodyFault};
pub use crate::format::{Entries, EntryRef, MarkState, Standing};
use crate::ids::{
    CoreId, FileNumber, Identity, LogIndex, NodeId, RecordSequence, RecoveryEpoch, ReplicaId,
    SealKey, SegmentSequence, ShardId, Term,
};
use crate::log::{LogStart, SegmentFile};
use crate::part::HardState;
use crate::replica::SnapshotPoint;
pub use decision::Decision;
pub use survey::{Survey, SurveyItem, survey};
use walk::Damages;

/// The two blocks of the mark file, `None` for one that does not exist.
pub type MarkBlocks = [Option<Box<[u8]>>; 2];

/// Where the bytes of a log come from. Everything it hands out has been flushed to the device before: after a killed
/// process, what can be read may sit in a cache only.
pub trait SegmentSource {
    /// What can go wrong when reading.
    type Error;

    /// All segment files, in any order.
    ///
    /// # Errors
    /// Whatever the source meets.
    fn files(&mut self) -> Result<Vec<SegmentFile>, Self::Error>;

    /// Fills `into` from `offset` of a file. The range lies within the file.
    ///
    /// # Errors
    /// Whatever the source meets. A block that cannot be read is not skipped.
    fn read(&mut self, file: FileNumber, offset: u64, into: &mut [u8]) -> Result<(), Self::Error>;

    /// The two mark blocks; `None` for a block that does not exist.
    ///
    /// # Errors
    /// Whatever the source meets.
    fn marks(&mut self) -> Result<MarkBlocks, Self::Error>;
}

/// One replica as recovery left it, or as a checkpoint records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredReplica {
    /// The replica.
    pub replica: ReplicaId,
    /// Its shard.
    pub shard: ShardId,
    /// Its hard state.
    pub hard_state: HardState,
    /// The first entry it holds; `last_index + 1` when it holds none.
    pub first_index: LogIndex,
    /// The last entry it holds, or the index of its snapshot when it holds none.
    pub last_index: LogIndex,
    /// Its newest snapshot; index 0 when there is none.
    pub snapshot: SnapshotPoint,
    /// Whether all of that can be relied on.
    pub standing: Standing,
}

/// Where the log says that a replica's newest snapshot stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredSnapshot {
    /// The replica.
    pub replica: ReplicaId,
    /// Its shard.
    pub shard: ShardId,
    /// The snapshot.
    pub snapshot: SnapshotPoint,
}

/// What a surviving record holds, in the order of the log.
///
/// [`ReplayEvent::Snapshots`] comes first, once. A reader loads those snapshots and passes over every entry that one of
/// them covers: such entries may come, because the log keeps what is in a segment as long as anything in it is needed.
/// What comes above a snapshot is complete in the end, yet not in order: what stood in a released segment comes with
/// the [`ReplayEvent::Rewrite`] that took it out of there.
#[derive(Debug)]
pub enum ReplayEvent<'a> {
    /// The newest snapshot of each replica that has one, lowest replica first.
    Snapshots {
        /// The snapshots.
        snapshots: &'a [RecoveredSnapshot],
    },
    /// The first record of a segment. That of the oldest segment tells of replicas whose records are gone.
    Checkpoint {
        /// The segment that it begins.
        segment: SegmentSequence,
        /// Every replica of the core.
        replicas: &'a [RecoveredReplica],
    },
    /// Entries that replace whatever the replica held at `first_index` and above. There may be none.
    ///
    /// The entries before `first_index` may not have been seen: they were in released segments, and either a
    /// snapshot covers them or a [`ReplayEvent::Rewrite`] that follows holds them.
    Append {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
        /// Its hard state after this.
        hard_state: HardState,
        /// The index of the first entry.
        first_index: LogIndex,
        /// The entries.
        entries: Entries<'a>,
    },
    /// Entries that replace nothing: what is known of them already is the same.
    Rewrite {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
        /// Its hard state after this.
        hard_state: HardState,
        /// The index of the first entry.
        first_index: LogIndex,
        /// The entries.
        entries: Entries<'a>,
    },
    /// A snapshot. Entries outside `first_index..=last_index` are void.
    Snapshot {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
        /// Its hard state after this.
        hard_state: HardState,
        /// The last index that the snapshot covers.
        index: LogIndex,
        /// The term at that index.
        term: Term,
        /// The membership at that index.
        members: &'a [u8],
        /// The first entry still needed.
        first_index: LogIndex,
        /// The last entry; the index of the snapshot when it replaced the log.
        last_index: LogIndex,
    },
    /// The replica is gone.
    Tombstone {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
    },
}

/// A part of a record that was cut away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornPart {
    /// The replica.
    pub replica: ReplicaId,
    /// Its shard.
    pub shard: ShardId,
    /// The first and last index of the entries, if it had any.
    pub indexes: Option<(LogIndex, LogIndex)>,
}

/// What was cut off at the end: written, but never known to be durable, and so never acknowledged.
///
/// Known limit: damage to the one record that no watermark covers yet looks the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file of the first record that was cut.
    pub file: FileNumber,
    /// Where it begins.
    pub offset: u64,
    /// Its place in the log.
    pub sequence: RecordSequence,
    /// What could still be read of it and of the records after it.
    pub parts: Vec<TornPart>,
}

impl TornTail {
    /// The shards concerned, as far as they could be read, lowest first.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        let mut shards: Vec<ShardId> = self.parts.iter().map(|part| part.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }
}

/// What recovery found, with everything needed to go on.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// From here the log continues.
    pub start: LogStart,
    /// The replicas, lowest id first.
    pub replicas: Vec<RecoveredReplica>,
    /// What was cut off; worth one warning.
    pub torn: Option<TornTail>,
    /// Which case it was.
    pub decision: Decision,
    /// The highest watermark found.
    pub watermark: RecordSequence,
    /// The last record that survives.
    pub last_record: RecordSequence,
    /// The epoch that ends here.
    pub epoch: RecoveryEpoch,
    /// The two mark blocks.
    pub marks: [MarkState; 2],
    /// What is damaged, where that does not refuse the log.
    pub findings: Vec<Damage>,
}

/// Which shards a damage may concern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concerned {
    /// Exactly these; none when what is lost stands elsewhere too.
    Shards(Vec<ShardId>),
    /// Every shard of the core but these, of which later records prove that they lost nothing.
    WholeCore {
        /// The shards that lost nothing.
        proven_intact: Vec<ShardId>,
    },
}

/// What is wrong at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The header of a record that must be here cannot be read.
    HeaderUnreadable {
        /// The record.
        sequence: RecordSequence,
    },
    /// The checksum of a header is right and its fields contradict each other: written by a faulty program.
    HeaderMalformed,
    /// Neither of the two marks can be read.
    MarksUnreadable,
    /// Records that must exist are nowhere.
    RecordsMissing {
        /// The first of them.
        first: RecordSequence,
        /// The last of them.
        last: RecordSequence,
    },
    /// The header is intact, the rest is not.
    Body {
        /// The record.
        sequence: RecordSequence,
        /// What is wrong with it.
        fault: BodyFault,
    },
    /// The record is intact, but the record before it is not the one it was written after.
    ChainBroken {
        /// The record.
        sequence: RecordSequence,
    },
    /// The record is intact, but not where it belongs.
    Misplaced {
        /// The record.
        sequence: RecordSequence,
    },
    /// A part does not follow from the replica's part before it.
    HoleInReplica {
        /// The record.
        sequence: RecordSequence,
        /// The replica.
        replica: ReplicaId,
    },
    /// A checkpoint contradicts the records before it.
    CheckpointContradicts {
        /// The record.
        sequence: RecordSequence,
        /// The replica.
        replica: ReplicaId,
    },
    /// An earlier start found the replica damaged, and nothing has taken its place.
    WasDamaged {
        /// The last record.
        sequence: RecordSequence,
        /// The replica.
        replica: ReplicaId,
    },
    /// Entries above the replica's snapshot are in no record.
    EntriesMissing {
        /// The replica.
        replica: ReplicaId,
        /// The last entry that is missing.
        last: LogIndex,
    },
}

/// One finding: something durable was lost or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, unless no file is left that could have held it.
    pub file: Option<FileNumber>,
    /// Where in the file.
    pub offset: u64,
    /// What is wrong.
    pub what: DamageKind,
    /// Whose data it is.
    pub concerned: Concerned,
}

/// Why a log was not recovered. Nothing has been changed.
#[derive(Debug, Error)]
pub enum RecoveryError<E> {
    /// The source failed.
    #[error("the log cannot be read")]
    Source(E),
    /// Something that was durable is damaged or lost. The findings come in the order of the log.
    #[error("the log is damaged in {} place(s)", findings.len())]
    Corrupt {
        /// What was found, at most 64 of them.
        findings: Vec<Damage>,
    },
    /// The files belong to another cluster or node.
    #[error("the log belongs to {found}")]
    OtherCluster {
        /// Whose they are.
        found: Identity,
    },
    /// The files belong to another core of this node.
    #[error("the log belongs to core {found}")]
    OtherCore {
        /// Whose they are.
        found: CoreId,
    },
    /// The files belong to another node of this cluster.
    #[error("the log belongs to node {found}")]
    OtherNode {
        /// Whose they are.
        found: NodeId,
    },
    /// A newer version wrote it.
    #[error("the log needs a reader of format version {found}, this one reads up to {supported}")]
    NewerFormat {
        /// The lowest reader it asks for.
        found: u16,
        /// What this program reads.
        supported: u16,
    },
    /// A replica knows entries to be committed that its log does not hold. Going on would hide that they are lost.
    #[error("replica {replica} has committed up to {commit}, but its log ends at {last_index}")]
    CommitAboveLast {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
        /// What it knows to be committed.
        commit: LogIndex,
        /// Where its log ends.
        last_index: LogIndex,
    },
}

/// Reads a log: decides what survives, then hands it out in order through `on_event`.
///
/// Whether an empty directory is a new log or a lost one is for the caller to know: see [`Decision::Empty`].
///
/// # Errors
/// Says why the log must not be used. After an error from the replay itself some events have been handed out.
pub fn recover<S: SegmentSource>(
    source: &mut S,
    identity: &Identity,
    seal: SealKey,
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<Recovered, RecoveryError<S::Error>> {
    recover_by(source, (identity, seal), Damages::AreRefused, on_event)
}

/// As [`recover`], for a log whose replicas have peers that may hold what is damaged here.
///
/// What is damaged at or below the watermark is left out instead of refusing the log, and [`RecoveredReplica::standing`]
/// says of each replica whether anything of it is missing. Of a replica that is not whole no event tells anything. Who
/// calls this must not let such a replica vote, acknowledge or answer, and must refuse the log if it has no peers. The
/// standing is durable with the first record that is written: only a snapshot that takes the place of everything makes
/// the replica whole again.
///
/// # Errors
/// As [`recover`], where a damage cannot be attributed: both marks, contents that contradict each other, nothing intact.
pub fn recover_among_peers<S: SegmentSource>(
    source: &mut S,
    identity: &Identity,
    seal: SealKey,
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<Recovered, RecoveryError<S::Error>> {
    recover_by(source, (identity, seal), Damages::AreLeftOut, on_event)
}

fn recover_by<S: SegmentSource>(
    source: &mut S,
    (identity, seal): (&Identity, SealKey),
    damages: Damages,
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<Recovered, RecoveryError<S::Error>> {
    let scan = scan::scan(source, (identity, seal), damages, &mut |_| {})?;
    let is_unreadable = |mark: &MarkState| *mark == MarkState::Unreadable;
    if scan.marks.iter().all(is_unreadable) {
        // A crash can tear the one that is being written. Both tell of damage, and what they said is lost.
        return Err(RecoveryError::Corrupt {
            findings: vec![Damage {
                file: None,
                offset: 0,
                what: DamageKind::MarksUnreadable,
                concerned: Concerned::WholeCore {
                    proven_intact: Vec::new(),
                },
            }],
        });
    }
    let mut plan = decision::Plan::new(&scan, damages);
    let mut findings = Vec::new();
    if plan.decision == Decision::Corrupt {
        findings = attribution::attribute(source, &scan, &plan).map_err(RecoveryError::Source)?;
        if damages == Damages::AreRefused || !plan.is_usable(&scan) {
            return Err(RecoveryError::Corrupt { findings });
        }
    }
    let torn = attribution::torn_tail(source, &scan, &plan).map_err(RecoveryError::Source)?;
    let names_damage = scan.records.iter().any(|record| record.names_damage);
    let replayed = if damages == Damages::AreLeftOut
        && (plan.decision == Decision::Corrupt || names_damage)
    {
        plan.leave_out_damages(&scan);
        salvage::salvage(source, &scan, &plan, on_event)?
    } else {
        let snapshots = snapshots::newest(source, &scan, &plan).map_err(RecoveryError::Source)?;
        on_event(ReplayEvent::Snapshots {
            snapshots: &snapshots,
        });
        replay::replay(source, &scan, &plan, on_event)?
    };
    let replicas = replayed.recovered_replicas();
    Ok(Recovered {
        start: plan.log_start(&scan, replayed),
        replicas,
        torn,
        decision: plan.decision,
        watermark: plan.watermark,
        last_record: plan.last_sequence(),
        epoch: plan.epoch,
        marks: scan.marks,
        findings,
    })
}

const _: () = assert!(
    BLOCK_BYTES == 4096,
    "the layout of the files is drawn for this length"
);
