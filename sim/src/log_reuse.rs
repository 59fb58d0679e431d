//! The log alone, with snapshots and rewrites that release segments, so that files are used again and again.
//!
//! A core releases nothing yet; what happens to a log that does is driven here, without one: parts are staged in one
//! order, so whatever a recovery finds must be what the log was after some prefix of them that holds all that is
//! durable.

mod shadow;

use std::fmt;

use bytes::Bytes;
use metastore_bugs::{Mutant, is_planted};
use metastore_wal::recovery::{Decision, recover};
use metastore_wal::{
    Entry, EntryKind, HardState, Log, LogBuffer, LogEffect, LogIndex, LogOptions, LogStart, Part,
    PartBody, Position, ReplicaId, ShardId, Term, Ticket,
};

use self::shadow::{Shadow, ShadowReplica};
use crate::disk::{CrashKind, Disk, DiskFaults, FileName, IoTicket, Latency, WriteMode};
use crate::node::{IDENTITY, SEAL};
use crate::random::Random;
use crate::violation::Violation;

const BLOCK_BYTES: u64 = 4096;
const REPLICAS: u64 = 3;
const MARK: FileName = FileName::Mark;
/// Virtual time plays no part here.
const NO_LATENCY: Latency = Latency {
    min_ns: 1,
    usual_max_ns: 1,
    slow_per_mille: 0,
    slow_max_ns: 1,
};

/// What a run of the log went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReuseReport {
    /// Crashes.
    pub crashes: u64,
    /// Torn tails that were cut off.
    pub torn_tails: u64,
    /// Parts staged.
    pub parts: u64,
    /// Snapshots among them.
    pub snapshots: u64,
    /// Entries written again among them.
    pub rewrites: u64,
    /// Segments begun in a file that had held another.
    pub reused_files: u64,
}

/// A write on its way.
struct Pending {
    io: IoTicket,
    ticket: Ticket,
    buffer: LogBuffer,
    is_mark: bool,
}

/// A log, its disk, and what it should hold.
pub struct LogReuse {
    random: Random,
    options: LogOptions,
    disk: Disk,
    log: Log,
    pending: Vec<Pending>,
    preparing: Vec<FileName>,
    removing: Vec<FileName>,
    /// What the log was when it was opened.
    opened: Shadow,
    /// What the last recovery could have found too: what it cut away. Until the first record after it is durable, that
    /// cut is not, and nothing has been answered. A crash may then mend what was torn: a record that is written where
    /// a torn one lies has much in common with it.
    uncut: Vec<Shadow>,
    /// What it is with everything staged.
    newest: Shadow,
    staged: Vec<(Position, Part)>,
    durable: Position,
    /// Snapshots whose replicas may drop what they cover once the position is durable.
    snapshots: Vec<(Position, ReplicaId, LogIndex)>,
    used_files: Vec<FileName>,
    report: ReuseReport,
}

impl LogReuse {
    /// The log of a seed.
    #[must_use]
    pub fn new(seed: u64) -> LogReuse {
        // The same seed drives a world: here it is another stream.
        let mut random = Random::new(!seed);
        let options = LogOptions {
            segment_bytes: random.between(6, 16) * BLOCK_BYTES,
            record_bytes_max: 3 * 4096,
            budget_bytes: 4096 * BLOCK_BYTES,
            spare_segments: random.index(3) + 1,
            writes_in_flight_max: random.index(4) + 1,
            ..LogOptions::new(IDENTITY, SEAL)
        };
        let mut disk = Disk::new(random.fork(), NO_LATENCY);
        disk.faults = DiskFaults {
            lies_about_flushes: is_planted(Mutant::SkippedFlush),
            ..DiskFaults::default()
        };
        disk.format_file(MARK, 2 * 4096);
        let log = Log::new(options.clone(), LogStart::empty(), options.new_buffers());
        LogReuse {
            random,
            options,
            disk,
            log,
            pending: Vec::new(),
            preparing: Vec::new(),
            removing: Vec::new(),
            opened: Shadow::default(),
            uncut: Vec::new(),
            newest: Shadow::default(),
            staged: Vec::new(),
            durable: Position(0),
            snapshots: Vec::new(),
            used_files: Vec::new(),
            report: ReuseReport::default(),
        }
    }

    /// What it went through so far.
    #[must_use]
    pub fn report(&self) -> ReuseReport {
        self.report
    }

    /// Lives through so many crashes.
    ///
    /// # Errors
    /// A recovery finds something else than what was written.
    pub fn run(&mut self, crashes: u64) -> Result<(), Violation> {
        for _ in 0..crashes {
            let steps = self.random.weighted(&[(1, 20), (2, 150), (1, 600)]);
            for _ in 0..self.random.below(steps) {
                self.take_step();
            }
            self.crash()?;
        }
        Ok(())
    }

    fn take_step(&mut self) {
        match self.random.below(10) {
            0..=4 => self.stage(),
            5..=8 => self.complete_one(),
            _ => self.log.on_idle(),
        }
        self.collect();
    }

    // ---- What the log is asked for ----

    fn stage(&mut self) {
        let replica = ReplicaId(self.random.between(1, REPLICAS));
        let shadow = self.newest.replica(replica);
        let hard_state = self.draw_hard_state(&shadow);
        let first_held = shadow.snapshot.0.next();
        let body = match self.random.below(12) {
            0 if hard_state.commit > shadow.snapshot.0 => {
                self.report.snapshots += 1;
                PartBody::Snapshot {
                    index: hard_state.commit,
                    term: shadow.term_of(hard_state.commit),
                    members: Bytes::from(format!("members at {}", hard_state.commit)),
                }
            }
            1 if shadow.last_index() >= first_held => {
                self.report.rewrites += 1;
                PartBody::Rewrite {
                    first_index: first_held,
                    entries: shadow.entries_from(first_held, 3),
                }
            }
            2 => PartBody::Append {
                first_index: shadow.last_index().next(),
                entries: Vec::new(),
            },
            3 => self.append(hard_state, hard_state.commit.next()),
            _ => self.append(hard_state, shadow.last_index().next()),
        };
        let part = Part {
            replica,
            shard: ShardId(u32::try_from(replica.0).expect("few replicas")),
            hard_state,
            body,
        };
        self.newest.apply(&part);
        self.report.parts += 1;
        let position = self.log.stage(part.clone());
        if let PartBody::Snapshot { index, .. } = part.body {
            self.snapshots.push((position, replica, index));
        }
        self.staged.push((position, part));
    }

    fn append(&mut self, hard_state: HardState, first_index: LogIndex) -> PartBody {
        let count = self.random.between(1, 3);
        let entries = (0..count).map(|_| {
            let mut data = vec![0; self.random.index(1_200)];
            self.random.fill(&mut data);
            Entry {
                term: hard_state.term,
                kind: EntryKind::Normal,
                data: data.into(),
            }
        });
        PartBody::Append {
            first_index,
            entries: entries.collect(),
        }
    }

    /// The term grows now and then, and so does the commit index, up to what the replica holds.
    fn draw_hard_state(&mut self, shadow: &ShadowReplica) -> HardState {
        let HardState { term, vote, commit } = shadow.hard_state;
        let growth = u64::from(self.random.chance(100));
        let vote = if growth > 0 || vote == ReplicaId(0) {
            ReplicaId(self.random.between(1, 9))
        } else {
            vote
        };
        let ahead = shadow.last_index().0 - commit.0;
        HardState {
            term: Term(term.0.max(1) + growth),
            vote,
            commit: LogIndex(commit.0 + self.random.below(ahead + 1)),
        }
    }

    // ---- The driver ----

    fn collect(&mut self) {
        while let Some(effect) = self.log.next_effect() {
            match effect {
                LogEffect::Write {
                    ticket,
                    file,
                    offset,
                    buffer,
                } => {
                    let file = FileName::Segment(file);
                    if offset == 0 {
                        self.report.reused_files += u64::from(self.used_files.contains(&file));
                        self.used_files.push(file);
                    }
                    self.submit((file, offset), ticket, buffer);
                }
                LogEffect::WriteMark {
                    ticket,
                    slot,
                    buffer,
                } => self.submit((MARK, slot.offset()), ticket, buffer),
                LogEffect::PrepareSegment { file, bytes } => {
                    let file = FileName::Segment(file);
                    self.disk
                        .begin_prepare(file, bytes)
                        .expect("this disk is never full");
                    self.preparing.push(file);
                }
                LogEffect::RemoveSegment { file } => {
                    let file = FileName::Segment(file);
                    self.used_files.retain(|&used| used != file);
                    self.disk.begin_remove(file);
                    self.removing.push(file);
                }
            }
        }
    }

    fn submit(&mut self, (file, offset): (FileName, u64), ticket: Ticket, buffer: LogBuffer) {
        let io = self
            .disk
            .submit_write(file, offset, buffer.as_slice(), WriteMode::Durable);
        self.pending.push(Pending {
            io,
            ticket,
            buffer,
            is_mark: file == MARK,
        });
    }

    /// Something that is on its way completes, in any order.
    fn complete_one(&mut self) {
        let files = self.preparing.len() + self.removing.len();
        if files > 0 && self.random.chance(400) {
            if let Some(file) = self.preparing.pop() {
                self.disk.complete_prepare(file);
                self.log.on_segment_prepared(number_of(file));
            } else if let Some(file) = self.removing.pop() {
                self.disk.complete_remove(file);
                self.log.on_segment_removed(number_of(file));
            }
            return;
        }
        if self.pending.is_empty() {
            return;
        }
        let index = self.random.index(self.pending.len());
        let Pending {
            io,
            ticket,
            buffer,
            is_mark,
        } = self.pending.swap_remove(index);
        self.disk.complete(io).expect("this disk does not fail");
        if is_mark {
            self.log.on_mark_written(ticket, buffer);
        } else if let Some(position) = self.log.on_written(ticket, buffer) {
            self.on_durable(position);
        }
    }

    /// What a durable snapshot covers is not needed any more.
    fn on_durable(&mut self, position: Position) {
        self.durable = position;
        let log = &mut self.log;
        self.snapshots.retain(|&(snapshot, replica, index)| {
            let is_durable = snapshot <= position;
            if is_durable {
                log.set_first_index(replica, index.next());
            }
            !is_durable
        });
    }

    // ---- The crash ----

    fn crash(&mut self) -> Result<(), Violation> {
        let kind = self
            .random
            .weighted(&[(2, CrashKind::PowerLoss), (1, CrashKind::ProcessKilled)]);
        self.disk.crash(kind);
        self.report.crashes += 1;
        if !is_planted(Mutant::RecoveryFromCache) {
            self.disk.flush_all().expect("this disk does not fail");
        }
        let mut found = Shadow::default();
        let recovered = recover(&mut self.disk.reader(), &IDENTITY, SEAL, &mut |event| {
            found.on_event(&event);
        });
        let recovered = recovered.map_err(|error| Violation::RecoveryRefused {
            cause: format!("{error:?}"),
        })?;
        self.report.torn_tails += u64::from(recovered.decision == Decision::TornTail);
        let survived = self.find_survived(&found)?;
        let buffers = self.options.new_buffers();
        self.log = Log::new(self.options.clone(), recovered.start, buffers);
        self.pending.clear();
        self.preparing.clear();
        self.removing.clear();
        self.staged.clear();
        self.durable = Position(0);
        self.opened = survived.clone();
        self.newest = survived;
        self.snapshots.clear();
        Ok(())
    }

    /// What the log was after the prefix that survived. The longer ones have been cut.
    fn find_survived(&mut self, found: &Shadow) -> Result<Shadow, Violation> {
        let mut candidates = self.prefixes();
        if !self.log.is_ready() {
            candidates.append(&mut self.uncut);
        }
        let survived = candidates
            .iter()
            .position(|candidate| candidate.is_found_as(found));
        let Some(survived) = survived else {
            return Err(Violation::LogDiffers {
                durable: self.durable.0,
                staged: self.staged.last().map_or(0, |(position, _)| position.0),
            });
        };
        self.uncut = candidates.split_off(survived + 1);
        Ok(candidates.swap_remove(survived))
    }

    /// What the log was after each prefix that holds all that is durable, the shortest first.
    fn prefixes(&self) -> Vec<Shadow> {
        let mut shadow = self.opened.clone();
        let mut rest = self.staged.iter().peekable();
        while let Some((_, part)) = rest.next_if(|(position, _)| *position <= self.durable) {
            shadow.apply(part);
        }
        let mut prefixes = vec![shadow.clone()];
        for (_, part) in rest {
            shadow.apply(part);
            prefixes.push(shadow.clone());
        }
        prefixes
    }
}

fn number_of(file: FileName) -> metastore_wal::FileNumber {
    match file {
        FileName::Segment(number) => number,
        FileName::Mark => unreachable!("marks are not prepared"),
    }
}

impl ReuseReport {
    /// Adds another run.
    pub fn add(&mut self, other: &ReuseReport) {
        self.crashes += other.crashes;
        self.torn_tails += other.torn_tails;
        self.parts += other.parts;
        self.snapshots += other.snapshots;
        self.rewrites += other.rewrites;
        self.reused_files += other.reused_files;
    }
}

impl fmt::Display for ReuseReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "logs alone: {} crashes, {} torn tails cut, {} parts, {} snapshots, {} rewrites, {} files reused",
            self.crashes,
            self.torn_tails,
            self.parts,
            self.snapshots,
            self.rewrites,
            self.reused_files
        )
    }
}
