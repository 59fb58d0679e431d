//! Snapshots between nodes: a follower that lags too far fetches the file of its leader's snapshot, chunk by chunk.
//!
//! ```text
//!   leader                                 follower
//!     offer (index, term, members, length) ─────>
//!     <───── request for a chunk                        asked again when it does not come
//!     chunk ─────>                                      checked, loaded, written
//!        ...
//!                                           file durable, with its name; then raft hears of the offer
//! ```
//!
//! A core fetches one snapshot at a time; offers that come meanwhile wait, and so does one whose file could not be written
//! here, because the leader would make it again only after it has waited for word of the first. The old replica answers
//! meanwhile; both states are in memory. After a start the file is fetched anew.

use metastore_wal::LogIndex;

use super::moves::Move;
use super::snapshots::Deed;
use super::{Core, SnapshotLoad};
use crate::effect::{Effect, Effects};
use crate::ids::{SnapshotId, SnapshotTicket, Time};
use crate::input::SnapshotFailed;
use crate::membership::Member;
use crate::peer::{ChunkContent, ChunkMessage, PeerCore, SnapshotOffer};
use crate::settings::SNAPSHOT_WRITE_ALIGN_BYTES;
use crate::snapshot::SnapshotIdentity;

/// Bytes of one chunk, the last of a file excepted.
const CHUNK_BYTES: u64 = 256 << 10;
const _: () = assert!(CHUNK_BYTES.is_multiple_of(SNAPSHOT_WRITE_ALIGN_BYTES as u64));
/// Chunks that are written at a time at most; the next is asked for when there is room.
const WRITES_MAX: usize = 2;
/// Chunks that are read for others at a time at most; requests beyond that are dropped and come again.
const READS_MAX: usize = 8;
/// How often a chunk is asked for before the snapshot is given up.
const ATTEMPTS_MAX: u32 = 8;

/// How far a snapshot that is fetched has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Chunks come in and are written.
    Fetching,
    /// Everything is written; the file is made durable and gets its name.
    Naming,
    /// The replica takes it.
    Installing,
    /// It failed, or is of no use any more: what is under way comes to its end.
    GivingUp,
    /// What was written of it is removed.
    Removing,
}

/// A snapshot that is being fetched.
#[derive(Debug)]
struct Pull {
    replica: usize,
    /// Who has it.
    source: Member,
    offer: SnapshotOffer,
    step: Step,
    /// `None` when all of it is loaded.
    load: Option<SnapshotLoad>,
    state: Option<metastore_statemachine::StateMachine>,
    /// Bytes that have come.
    taken: u64,
    /// Writes under way, or whatever else was asked for its file.
    in_flight: usize,
    /// When the next chunk was asked for; `None` while nothing is.
    asked_at: Option<Time>,
    attempts: u32,
    /// How often in a row its file could not be written here.
    failures: u32,
}

/// An offer that has to wait. A replica has one at most, its newest.
#[derive(Debug)]
struct WaitingOffer {
    replica: usize,
    source: Member,
    offer: SnapshotOffer,
    failures: u32,
    not_before: Time,
}

/// The snapshot that this core is fetching, and those that it is to fetch.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    pull: Option<Pull>,
    waiting: Vec<WaitingOffer>,
}

impl Transfers {
    /// Whether nothing is being fetched.
    pub(super) fn is_quiet(&self) -> bool {
        self.pull.is_none()
    }

    /// Whether a snapshot is being fetched for a replica.
    pub(super) fn works_for(&self, replica: usize) -> bool {
        self.pull
            .as_ref()
            .is_some_and(|pull| pull.replica == replica)
    }

    /// Whether the snapshot of this entry is being fetched for a replica. One that it took itself would have the same name.
    pub(super) fn fetches(&self, replica: usize, index: LogIndex) -> bool {
        let is_it = |pull: &Pull| (pull.replica, pull.offer.snapshot.index) == (replica, index);
        self.pull.as_ref().is_some_and(is_it)
    }

    /// A replica has no use for a snapshot any more.
    pub(super) fn give_up(&mut self, replica: usize) {
        self.forget(replica);
        if let Some(pull) = &mut self.pull
            && pull.replica == replica
            && pull.step == Step::Fetching
        {
            pull.step = Step::GivingUp;
        }
    }

    pub(super) fn follow(&mut self, moved: Move) {
        if let Some(pull) = &mut self.pull {
            let follows = moved.of(pull.replica);
            pull.replica = follows.expect("whose snapshot is fetched is not removed");
        }
        // An offer that is on its way to a replica may come after everything was given up for it.
        self.waiting.retain_mut(|waiting| {
            let follows = moved.of(waiting.replica);
            waiting.replica = follows.unwrap_or(waiting.replica);
            follows.is_some()
        });
    }

    fn put_aside(&mut self, offer: WaitingOffer) {
        self.forget(offer.replica);
        self.waiting.push(offer);
    }

    fn forget(&mut self, replica: usize) {
        self.waiting.retain(|waiting| waiting.replica != replica);
    }

    /// The first offer whose time has come.
    fn take_waiting(&mut self, now: Time) -> Option<WaitingOffer> {
        let is_due = |waiting: &WaitingOffer| waiting.not_before <= now;
        let position = self.waiting.iter().position(is_due)?;
        Some(self.waiting.remove(position))
    }
}

impl Pull {
    fn chunk_bytes(&self) -> u64 {
        CHUNK_BYTES.min(self.offer.file_bytes - self.taken)
    }
}

impl Core {
    // ---- Fetching ----

    /// A leader offers a snapshot to a follower of this core.
    pub(super) fn on_offer(&mut self, replica: usize, source: Member, offer: SnapshotOffer) {
        self.transfers.forget(replica);
        let target = &mut self.replicas[replica];
        if target.is_installing() || !target.may_install(&offer) {
            return;
        }
        if target.is_quarantined() {
            if !target.is_repaired_by(&source, &offer) {
                return;
            }
        } else if target.is_outdated(&offer) {
            return;
        } else if target.needs_no_file(&offer) {
            target.answer_offer(&offer, source.replica);
            return;
        }
        if let Some(pull) = &mut self.transfers.pull {
            let is_same = pull.replica == replica && pull.offer.snapshot == offer.snapshot;
            if is_same && pull.step == Step::Fetching {
                // It goes on where it is, with whoever leads now.
                pull.source = source;
                pull.offer.term = offer.term;
                pull.attempts = 0;
                return;
            }
            if pull.replica == replica && pull.step == Step::Fetching {
                // Whoever offered the other one may not have it any more.
                pull.step = Step::GivingUp;
            }
            self.transfers.put_aside(WaitingOffer {
                replica,
                source,
                offer,
                failures: 0,
                not_before: Time(0),
            });
            return;
        }
        if self.is_draining || !self.log.is_ready() {
            return;
        }
        let expected = SnapshotIdentity {
            cluster: self.config.identity.cluster,
            node: source.home.node,
            shard: offer.snapshot.shard,
            replica: source.replica,
            index: offer.snapshot.index,
            term: offer.snapshot.term,
            members: offer.members.encode().to_vec(),
        };
        let load = SnapshotLoad::new(expected, self.config.parameters);
        self.transfers.pull = Some(Pull {
            replica,
            source,
            offer,
            step: Step::Fetching,
            load: Some(load),
            state: None,
            taken: 0,
            in_flight: 0,
            asked_at: None,
            attempts: 0,
            failures: 0,
        });
    }

    /// Brings the fetching forward.
    pub(super) fn drive_transfers(&mut self, now: Time, out: &mut Effects) {
        if self.is_draining
            && let Some(pull) = &mut self.transfers.pull
        {
            self.replicas[pull.replica].abandon_install();
            if pull.step == Step::Fetching {
                pull.step = Step::GivingUp;
            }
        }
        if self.transfers.pull.is_none()
            && let Some(waiting) = self.transfers.take_waiting(now)
        {
            self.on_offer(waiting.replica, waiting.source, waiting.offer);
            if let Some(pull) = &mut self.transfers.pull {
                pull.failures = waiting.failures;
            }
        }
        let Some(pull) = &self.transfers.pull else {
            return;
        };
        let is_idle = pull.in_flight == 0;
        match pull.step {
            Step::Fetching if pull.load.is_none() && is_idle => self.name_file(out),
            Step::Fetching => self.ask_for_chunk(now, out),
            Step::Installing if !self.replicas[pull.replica].is_installing() => self.end_install(),
            Step::GivingUp if is_idle => self.remove_pulled(out),
            Step::Naming | Step::Installing | Step::GivingUp | Step::Removing => {}
        }
    }

    fn ask_for_chunk(&mut self, now: Time, out: &mut Effects) {
        let raft = &self.config.settings.raft;
        let patience_ms = raft.tick_interval_ms * raft.election_ticks as u64;
        let Some(pull) = &mut self.transfers.pull else {
            return;
        };
        let is_waiting = pull
            .asked_at
            .is_some_and(|asked_at| now.millis_since(asked_at) < patience_ms);
        if is_waiting || pull.load.is_none() || pull.in_flight >= WRITES_MAX {
            return;
        }
        if pull.attempts >= ATTEMPTS_MAX {
            pull.step = Step::GivingUp;
            return;
        }
        pull.attempts += 1;
        pull.asked_at = Some(now);
        let message = ChunkMessage {
            from: self.replicas[pull.replica].id(),
            to: pull.source.replica,
            term: pull.offer.term,
            snapshot: pull.offer.snapshot,
            offset: pull.taken,
            content: ChunkContent::Wanted(pull.chunk_bytes()),
        };
        self.peers.push_chunk(pull.source.home, &message, out);
    }

    /// A chunk came, or the word that there is none.
    pub(super) fn on_chunk(&mut self, replica: usize, chunk: &ChunkMessage<'_>, out: &mut Effects) {
        let Some(pull) = &mut self.transfers.pull else {
            return;
        };
        let is_asked_for = pull.replica == replica
            && pull.source.replica == chunk.from
            && pull.offer.snapshot == chunk.snapshot
            && pull.taken == chunk.offset
            && pull.step == Step::Fetching;
        let (true, Some(load)) = (is_asked_for, &mut pull.load) else {
            return;
        };
        let bytes = match chunk.content {
            ChunkContent::Bytes(bytes) => bytes,
            ChunkContent::Gone => {
                pull.step = Step::GivingUp;
                return;
            }
            ChunkContent::Wanted(_) => return,
        };
        let expected = CHUNK_BYTES.min(pull.offer.file_bytes - pull.taken);
        if bytes.len() as u64 != expected || load.push(bytes).is_err() {
            pull.step = Step::GivingUp;
            return;
        }
        let offset = pull.taken;
        pull.taken += expected;
        (pull.asked_at, pull.attempts) = (None, 0);
        if pull.taken == pull.offer.file_bytes {
            let load = pull.load.take().expect("it was there a moment ago");
            match load.finish() {
                Ok(state) => pull.state = Some(state),
                Err(_incomplete) => pull.step = Step::GivingUp,
            }
        }
        pull.in_flight += 1;
        let ticket = self.snapshots.ticket(Deed::OfPull);
        out.queue.push(Effect::WriteSnapshot {
            ticket,
            snapshot: pull.offer.snapshot,
            offset,
            bytes: bytes.to_vec(),
        });
    }

    fn name_file(&mut self, out: &mut Effects) {
        let Some(pull) = &mut self.transfers.pull else {
            return;
        };
        pull.step = Step::Naming;
        pull.in_flight += 1;
        let ticket = self.snapshots.ticket(Deed::OfPull);
        out.queue.push(Effect::FinishSnapshot {
            ticket,
            snapshot: pull.offer.snapshot,
            bytes: pull.offer.file_bytes,
        });
    }

    /// Something that was asked for the file that is fetched is done, or failed.
    pub(super) fn on_pull_done(&mut self, now: Time, result: Result<(), SnapshotFailed>) {
        let pull = self.transfers.pull.as_mut();
        let pull = pull.expect("a snapshot is being fetched");
        pull.in_flight -= 1;
        match (pull.step, result) {
            (Step::Fetching | Step::GivingUp, Ok(())) => {}
            (Step::Naming, Ok(())) if !self.replicas[pull.replica].takes_snapshots() => {
                pull.step = Step::GivingUp;
            }
            (Step::Naming, Ok(())) => {
                pull.step = Step::Installing;
                let state = pull.state.take().expect("all of it was loaded");
                let (replica, offer) = (pull.replica, pull.offer.clone());
                self.replicas[replica].begin_install(now, offer, state);
                self.dirty.mark(replica);
            }
            (Step::GivingUp, Err(SnapshotFailed)) => {}
            (Step::Fetching | Step::Naming, Err(SnapshotFailed)) => {
                pull.step = Step::GivingUp;
                let failures = pull.failures + 1;
                let pause_ms = self.config.settings.snapshots.pause_ms(failures);
                let again = WaitingOffer {
                    replica: pull.replica,
                    source: pull.source,
                    offer: pull.offer.clone(),
                    failures,
                    not_before: now.plus_ms(pause_ms),
                };
                self.transfers.put_aside(again);
            }
            (Step::Removing, _) => self.transfers.pull = None,
            (Step::Installing, _) => unreachable!("nothing is under way while it is installed"),
        }
    }

    /// The replica has taken the snapshot, or had no use for it.
    fn end_install(&mut self) {
        let Some(pull) = &mut self.transfers.pull else {
            return;
        };
        let newest = self.replicas[pull.replica].last_snapshot_id();
        if newest != Some(pull.offer.snapshot) {
            pull.step = Step::GivingUp;
            return;
        }
        if let Some(replaced) = self.replicas[pull.replica].take_replaced() {
            let position = self.log.durable_position();
            self.snapshots.supersede(position, replaced);
        }
        self.transfers.pull = None;
        self.counters.snapshots_fetched += 1;
    }

    fn remove_pulled(&mut self, out: &mut Effects) {
        let Some(pull) = &mut self.transfers.pull else {
            return;
        };
        pull.step = Step::Removing;
        pull.in_flight += 1;
        let ticket = self.snapshots.ticket(Deed::OfPull);
        out.queue.push(Effect::RemoveSnapshot {
            ticket,
            snapshot: pull.offer.snapshot,
        });
    }

    // ---- Serving ----

    /// A replica on another node asks for a chunk.
    pub(super) fn on_chunk_request(
        &mut self,
        now: Time,
        (replica, home): (usize, PeerCore),
        request: &ChunkMessage<'_>,
        out: &mut Effects,
    ) {
        let ChunkContent::Wanted(bytes) = request.content else {
            return;
        };
        let to = Member {
            replica: request.from,
            home,
        };
        let target = &mut self.replicas[replica];
        target.on_chunk_request(now, request.from, request.snapshot);
        let has_file = !target.is_quarantined()
            && target.last_snapshot_id() == Some(request.snapshot)
            || self.snapshots.still_has(request.snapshot);
        let is_possible = bytes > 0
            && bytes <= CHUNK_BYTES
            && request
                .offset
                .is_multiple_of(SNAPSHOT_WRITE_ALIGN_BYTES as u64);
        if !has_file || !is_possible {
            let (snapshot, offset) = (request.snapshot, request.offset);
            self.send_chunk(replica, to, snapshot, offset, ChunkContent::Gone, out);
            return;
        }
        if self.snapshots.serving() >= READS_MAX {
            return;
        }
        let deed = Deed::Serve {
            replica,
            to,
            snapshot: request.snapshot,
            offset: request.offset,
        };
        let ticket = self.snapshots.ticket(deed);
        out.queue.push(Effect::ReadSnapshot {
            ticket,
            snapshot: request.snapshot,
            offset: request.offset,
            bytes: usize::try_from(bytes).expect("a chunk is short"),
        });
    }

    /// A chunk was read, or could not be.
    pub(super) fn on_snapshot_read(
        &mut self,
        ticket: SnapshotTicket,
        result: Result<&[u8], SnapshotFailed>,
        out: &mut Effects,
    ) {
        let Deed::Serve {
            replica,
            to,
            snapshot,
            offset,
        } = self.snapshots.take(ticket)
        else {
            unreachable!("the ticket is of something that is read");
        };
        let content = match result {
            Ok(bytes) => ChunkContent::Bytes(bytes),
            Err(SnapshotFailed) => ChunkContent::Gone,
        };
        self.send_chunk(replica, to, snapshot, offset, content, out);
    }

    fn send_chunk(
        &mut self,
        replica: usize,
        to: Member,
        snapshot: SnapshotId,
        offset: u64,
        content: ChunkContent<'_>,
        out: &mut Effects,
    ) {
        let sender = &self.replicas[replica];
        let message = ChunkMessage {
            from: sender.id(),
            to: to.replica,
            term: sender.term(),
            snapshot,
            offset,
            content,
        };
        self.peers.push_chunk(to.home, &message, out);
    }
}
