//! When a replica's state goes to a file, and what the log gives up for it.
//!
//! It does **not** write files: it says what is to be written, and what has become durable decides what comes next.

use std::collections::BTreeMap;

use metastore_bugs::{Mutant, is_planted};
use metastore_wal::{Position, ShardId};

use super::Core;
use super::moves::Move;
use crate::effect::{Effect, Effects};
use crate::ids::{SnapshotId, SnapshotTicket, Time};
use crate::input::SnapshotFailed;
use crate::membership::Member;
use crate::replica::{BegunSnapshot, ExportOutput};

/// Entries that are written again take at most one part in so many of the log's budget, all replicas together.
const REWRITE_BUDGET_PART: u64 = 16;

/// How far a snapshot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The state is exported, and written as it comes.
    Writing,
    /// Everything is written; the file is made durable and gets its name.
    Naming,
    /// The file is there for good; the log is told.
    Recording(Position),
    /// It failed, or is not wanted any more: what is under way comes to its end.
    GivingUp,
    /// What was written of it is removed.
    Removing,
}

/// A snapshot that is being taken.
///
/// ```text
///   Writing ──> Naming ──> Recording ──> durable: the log before it is released
///      │           │           (a crash up to here leaves a file that no record names: the next start removes it)
///      └─────> GivingUp ──> Removing ──> tried again later
/// ```
#[derive(Debug)]
struct Taking {
    replica: usize,
    begun: BegunSnapshot,
    step: Step,
    /// Bytes handed out to be written.
    bytes: u64,
    /// What of it is under way.
    in_flight: usize,
}

/// What a replica's failures mean for its next snapshot.
#[derive(Debug, Clone, Copy, Default)]
struct Patience {
    failures: u32,
    not_before: Time,
}

/// The snapshots of a core: one at a time, so that they cost no more than a share of core and disk.
#[derive(Debug)]
pub(super) struct Snapshots {
    taking: Option<Taking>,
    next_ticket: u64,
    /// What is under way; whether it belongs to the snapshot being taken.
    tickets: BTreeMap<SnapshotTicket, Deed>,
    spare_buffers: Vec<Vec<u8>>,
    /// Files that a newer snapshot replaced, and the position from which on no damage to the newest record of the log can
    /// make a start want them again.
    superseded: Vec<(Position, SnapshotId)>,
    /// Entries of the oldest segment that are being written again.
    rewriting: Option<Position>,
    patience: Vec<Patience>,
    /// The replica that is asked first whether its snapshot is due.
    replica_next: usize,
    is_check_due: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// With the memory that was handed out.
    OfTaking {
        writing_bytes: usize,
    },
    RemoveSuperseded(SnapshotId),
    /// Of the snapshot that is being fetched from another node.
    OfPull,
    /// A chunk is read for another node.
    Serve {
        replica: usize,
        to: Member,
        snapshot: SnapshotId,
        offset: u64,
    },
}

impl Snapshots {
    pub(super) fn new(replicas: usize) -> Snapshots {
        Snapshots {
            taking: None,
            next_ticket: 1,
            tickets: BTreeMap::new(),
            spare_buffers: Vec::new(),
            superseded: Vec::new(),
            rewriting: None,
            patience: vec![Patience::default(); replicas],
            replica_next: 0,
            is_check_due: false,
        }
    }

    /// Time has passed: a snapshot may be due.
    pub(super) fn on_tick(&mut self) {
        self.is_check_due = true;
    }

    /// Takes the ticket of something that came back.
    pub(super) fn take(&mut self, ticket: SnapshotTicket) -> Deed {
        let deed = self.tickets.remove(&ticket);
        deed.expect("a ticket comes back exactly once")
    }

    /// Chunks that are being read for other nodes.
    pub(super) fn serving(&self) -> usize {
        let deeds = self.tickets.values();
        deeds
            .filter(|deed| matches!(deed, Deed::Serve { .. }))
            .count()
    }

    /// A file that is replaced by one that the log names durably at `position`.
    pub(super) fn supersede(&mut self, position: Position, snapshot: SnapshotId) {
        self.superseded.push((position, snapshot));
    }

    /// Whether a file that was replaced is still there.
    pub(super) fn still_has(&self, snapshot: SnapshotId) -> bool {
        self.superseded.iter().any(|(_, kept)| *kept == snapshot)
    }

    /// Whether a file of a shard waits to be removed, or is being.
    pub(super) fn has_files_of(&self, shard: ShardId) -> bool {
        let is_removed = |deed: &Deed| match deed {
            Deed::RemoveSuperseded(snapshot) => snapshot.shard == shard,
            Deed::OfTaking { .. } | Deed::OfPull | Deed::Serve { .. } => false,
        };
        self.superseded.iter().any(|(_, kept)| kept.shard == shard)
            || self.tickets.values().any(is_removed)
    }

    /// Whether a snapshot of a replica is being taken, or read for others.
    pub(super) fn works_for(&self, replica: usize) -> bool {
        let taking = self.taking.as_ref();
        let serves = |deed: &Deed| match deed {
            Deed::Serve { replica: of, .. } => *of == replica,
            Deed::OfTaking { .. } | Deed::RemoveSuperseded(_) | Deed::OfPull => false,
        };
        taking.is_some_and(|taking| taking.replica == replica) || self.tickets.values().any(serves)
    }

    /// A replica has no use for a snapshot any more.
    pub(super) fn give_up(&mut self, replica: usize) {
        if let Some(taking) = &mut self.taking
            && taking.replica == replica
            && taking.step == Step::Writing
        {
            taking.step = Step::GivingUp;
        }
    }

    pub(super) fn follow(&mut self, moved: Move, replicas: usize) {
        moved.apply(&mut self.patience);
        self.replica_next = moved.of_turn(self.replica_next, replicas);
        let follow = |place: &mut usize| {
            let follows = moved.of(*place);
            *place = follows.expect("a replica is removed when nothing is under way for it");
        };
        if let Some(taking) = &mut self.taking {
            follow(&mut taking.replica);
        }
        for deed in self.tickets.values_mut() {
            if let Deed::Serve { replica, .. } = deed {
                follow(replica);
            }
        }
    }

    /// Whether no file is being written or removed.
    pub(super) fn is_quiet(&self) -> bool {
        self.taking.is_none() && self.tickets.is_empty()
    }

    /// Memory of what is being written, and of buffers that wait to be used again.
    pub(super) fn bytes(&self) -> u64 {
        let writing = self.tickets.values().map(|deed| match deed {
            Deed::OfTaking { writing_bytes } => *writing_bytes,
            Deed::RemoveSuperseded(_) | Deed::OfPull | Deed::Serve { .. } => 0,
        });
        let spare = self.spare_buffers.iter().map(Vec::capacity);
        (writing.sum::<usize>() + spare.sum::<usize>()) as u64
    }

    pub(super) fn ticket(&mut self, deed: Deed) -> SnapshotTicket {
        let ticket = SnapshotTicket(self.next_ticket);
        self.next_ticket += 1;
        self.tickets.insert(ticket, deed);
        if let (Deed::OfTaking { .. }, Some(taking)) = (deed, &mut self.taking) {
            taking.in_flight += 1;
        }
        ticket
    }
}

impl Core {
    /// Something that was asked for a file is done or has failed. What follows comes with the end of the turn.
    pub(super) fn on_snapshot_done(
        &mut self,
        now: Time,
        ticket: SnapshotTicket,
        result: Result<(), SnapshotFailed>,
        buffer: Vec<u8>,
    ) {
        let snapshots = &mut self.snapshots;
        let deed = snapshots.take(ticket);
        if buffer.capacity() > 0
            && snapshots.spare_buffers.len() < self.config.settings.snapshots.writes_max
        {
            snapshots.spare_buffers.push(buffer);
        }
        match deed {
            // A file that could not be removed is removed at the next start.
            Deed::RemoveSuperseded(_) => return,
            Deed::OfPull => {
                self.on_pull_done(now, result);
                return;
            }
            Deed::Serve { .. } => unreachable!("what was read comes back with its bytes"),
            Deed::OfTaking { .. } => {}
        }
        let taking = snapshots.taking.as_mut().expect("its snapshot is taken");
        taking.in_flight -= 1;
        match (taking.step, result) {
            (Step::Writing | Step::GivingUp, Ok(())) => {}
            (Step::Naming, Ok(())) => {
                let replica = taking.replica;
                let target = &self.replicas[replica];
                if target.is_quarantined() || target.is_beyond(taking.begun.id) {
                    taking.step = Step::GivingUp;
                    return;
                }
                let staged = self.replicas[replica].stage_snapshot(&mut self.log, &taking.begun);
                taking.step = Step::Recording(staged);
                if is_planted(Mutant::OldSnapshotRemovedFirst) {
                    let replaced = self.replicas[replica].last_snapshot_id();
                    snapshots
                        .superseded
                        .extend(replaced.map(|replaced| (Position(0), replaced)));
                }
            }
            (Step::Writing | Step::Naming | Step::GivingUp, Err(SnapshotFailed)) => {
                taking.step = Step::GivingUp;
            }
            (Step::Removing, _) => snapshots.taking = None,
            (Step::Recording(_), _) => unreachable!("nothing is under way while the log is told"),
        }
    }

    /// Brings the snapshot that is being taken forward, and begins the next one that is due.
    pub(super) fn drive_snapshots(&mut self, now: Time, out: &mut Effects) {
        self.remove_superseded(out);
        if self.is_draining {
            self.give_up_writing();
        }
        self.drive_taking(now, out);
        let is_rewritten = self
            .snapshots
            .rewriting
            .is_none_or(|position| position <= self.log.durable_position());
        if is_rewritten {
            self.snapshots.rewriting = None;
        }
        if self.snapshots.taking.is_some()
            || !is_rewritten
            || self.is_draining
            || !self.log.is_ready()
        {
            return;
        }
        if let Some(replica) = self.choose_snapshot(now) {
            self.begin_snapshot(now, replica);
            self.drive_taking(now, out);
        }
    }

    /// Files that were replaced are removed once nothing can want them back.
    fn remove_superseded(&mut self, out: &mut Effects) {
        if self.snapshots.superseded.is_empty() {
            return;
        }
        let covered = self.log.covered_position();
        let replicas = &self.replicas;
        let is_over = |(position, snapshot): &(Position, SnapshotId)| {
            let is_served = replicas.iter().any(|replica| replica.serves(*snapshot));
            *position <= covered && !is_served
        };
        let superseded = std::mem::take(&mut self.snapshots.superseded);
        let (over, kept) = superseded.into_iter().partition(is_over);
        self.snapshots.superseded = kept;
        let over: Vec<(Position, SnapshotId)> = over;
        for (_, snapshot) in over {
            let ticket = self.snapshots.ticket(Deed::RemoveSuperseded(snapshot));
            out.queue.push(Effect::RemoveSnapshot { ticket, snapshot });
        }
    }

    /// Which replica takes the next snapshot, if one is due. Those that hold up the log come first.
    fn choose_snapshot(&mut self, now: Time) -> Option<usize> {
        if self.wants_relief()
            && let Some(replica) = self.relieve_log(now)
        {
            return Some(replica);
        }
        if !std::mem::take(&mut self.snapshots.is_check_due) {
            return None;
        }
        let count = self.replicas.len();
        let first = self.snapshots.replica_next;
        let settings = &self.config.settings.snapshots;
        (first..count).chain(0..first).find(|&replica| {
            self.snapshots.patience[replica].not_before <= now
                && !self.is_fetching_its_next(replica)
                && !self.replicas[replica].is_fenced()
                && self.replicas[replica].is_snapshot_due(now, settings)
        })
    }

    /// The oldest segment is to be released. Its holders write their entries again where that is cheaper; the first
    /// for which it is not takes a snapshot.
    fn relieve_log(&mut self, now: Time) -> Option<usize> {
        // A core may have no replicas, and its log still has segments.
        let replicas = self.replicas.len().max(1) as u64;
        let share = self.config.log.budget_bytes / REWRITE_BUDGET_PART / replicas;
        let bytes_max = usize::try_from(share)
            .unwrap_or(usize::MAX)
            .min(self.config.settings.snapshots.rewrite_bytes_max);
        let mut chosen = None;
        for holder in self.log.oldest_holders() {
            let Some(replica) = self
                .replicas
                .iter()
                .position(|replica| replica.id() == holder.replica && !replica.is_fenced())
            else {
                continue;
            };
            if let Some(position) =
                self.replicas[replica].rewrite(&mut self.log, &holder, bytes_max)
            {
                self.snapshots.rewriting = Some(position);
                self.counters.rewrites += 1;
                continue;
            }
            let may_begin = !self.is_fetching_its_next(replica)
                && !self.replicas[replica].is_quarantined()
                && self.snapshots.patience[replica].not_before <= now
                && self.replicas[replica].uncovered_entries() > 0;
            if may_begin {
                chosen = chosen.or(Some(replica));
            }
        }
        chosen
    }

    /// Whether the snapshot that a replica would take now is being fetched for it.
    fn is_fetching_its_next(&self, replica: usize) -> bool {
        let state_index = self.replicas[replica].state_index();
        self.transfers.fetches(replica, state_index)
    }

    fn begin_snapshot(&mut self, now: Time, replica: usize) {
        assert!(
            !self.is_fetching_its_next(replica),
            "two snapshots of a replica would have one name"
        );
        let settings = &self.config.settings.snapshots;
        let begun = self.replicas[replica].begin_snapshot(now, settings, self.config.identity);
        self.snapshots.replica_next = (replica + 1) % self.replicas.len();
        self.snapshots.taking = Some(Taking {
            replica,
            begun,
            step: Step::Writing,
            bytes: 0,
            in_flight: 0,
        });
    }

    /// A snapshot whose file has no name yet is not worth the wait of whoever stops the process.
    fn give_up_writing(&mut self) {
        if let Some(taking) = &mut self.snapshots.taking
            && taking.step == Step::Writing
        {
            taking.step = Step::GivingUp;
        }
    }

    fn drive_taking(&mut self, now: Time, out: &mut Effects) {
        let Some(Taking {
            step, in_flight, ..
        }) = self.snapshots.taking
        else {
            return;
        };
        match step {
            Step::Writing => self.drive_writing(out),
            Step::Recording(position) if self.may_complete(position) => {
                self.complete_snapshot(position)
            }
            Step::GivingUp if in_flight == 0 => self.remove_failed(now, out),
            Step::Naming | Step::Recording(_) | Step::GivingUp | Step::Removing => {}
        }
    }

    /// Hands out what was exported, and asks for the file's name when all of it is written.
    fn drive_writing(&mut self, out: &mut Effects) {
        while let Some(taking) = &mut self.snapshots.taking
            && taking.in_flight < self.config.settings.snapshots.writes_max
        {
            let (id, offset) = (taking.begun.id, taking.bytes);
            let mut spare = self.snapshots.spare_buffers.pop().unwrap_or_default();
            let output = self.replicas[taking.replica].take_snapshot_output(&mut spare);
            match output {
                ExportOutput::Bytes(bytes) => {
                    taking.bytes += bytes.len() as u64;
                    let ticket = self.snapshots.ticket(Deed::OfTaking {
                        writing_bytes: bytes.capacity(),
                    });
                    out.queue.push(Effect::WriteSnapshot {
                        ticket,
                        snapshot: id,
                        offset,
                        bytes,
                    });
                }
                ExportOutput::Complete if taking.in_flight == 0 => {
                    let replica = &mut self.replicas[taking.replica];
                    replica.end_export();
                    let deed = if is_planted(Mutant::SnapshotRecordedBeforeNamed) {
                        taking.step =
                            Step::Recording(replica.stage_snapshot(&mut self.log, &taking.begun));
                        // Whatever becomes of it.
                        Deed::RemoveSuperseded(id)
                    } else {
                        taking.step = Step::Naming;
                        Deed::OfTaking { writing_bytes: 0 }
                    };
                    let ticket = self.snapshots.ticket(deed);
                    out.queue.push(Effect::FinishSnapshot {
                        ticket,
                        snapshot: id,
                        bytes: offset,
                    });
                    return;
                }
                ExportOutput::Lost => {
                    taking.step = Step::GivingUp;
                    return;
                }
                ExportOutput::Nothing | ExportOutput::Complete => return,
            }
        }
    }

    /// Whether the log names the snapshot durably. What was applied ahead is durable with it, and raft must have heard of
    /// that before its log begins behind it.
    fn may_complete(&self, position: Position) -> bool {
        let taking = self.snapshots.taking.as_ref();
        let is_known = taking.is_some_and(|taking| {
            let replica = &self.replicas[taking.replica];
            replica.is_known_as_applied(taking.begun.id.index)
        });
        position <= self.log.durable_position() && is_known
    }

    /// The log names the snapshot, durably: what it covers is not needed any more.
    fn complete_snapshot(&mut self, position: Position) {
        let taking = self
            .snapshots
            .taking
            .take()
            .expect("a snapshot is being taken");
        let replica = &mut self.replicas[taking.replica];
        // A newer one may have come from another replica meanwhile.
        let replaced = match replica.is_beyond(taking.begun.id) {
            true => Some(taking.begun.id),
            false => replica.on_snapshot_durable(&mut self.log, &taking.begun, taking.bytes),
        };
        if let Some(replaced) = replaced
            && !is_planted(Mutant::OldSnapshotRemovedFirst)
        {
            self.snapshots.superseded.push((position, replaced));
        }
        self.snapshots.patience[taking.replica] = Patience::default();
        self.counters.snapshots += 1;
        self.counters.snapshot_bytes += taking.bytes;
        // Another may be due at once.
        self.snapshots.is_check_due = true;
    }

    /// Everything that was under way for a failed snapshot has come back: what there is of it is removed.
    fn remove_failed(&mut self, now: Time, out: &mut Effects) {
        let taking = self
            .snapshots
            .taking
            .as_mut()
            .expect("a snapshot is being taken");
        let (replica, snapshot) = (taking.replica, taking.begun.id);
        taking.step = Step::Removing;
        self.replicas[replica].end_export();
        let patience = &mut self.snapshots.patience[replica];
        patience.failures = patience.failures.saturating_add(1);
        patience.not_before =
            now.plus_ms(self.config.settings.snapshots.pause_ms(patience.failures));
        if !self.is_draining {
            self.counters.snapshots_failed += 1;
        }
        let ticket = self.snapshots.ticket(Deed::OfTaking { writing_bytes: 0 });
        out.queue.push(Effect::RemoveSnapshot { ticket, snapshot });
    }
}
