//! Entries for a follower that lags behind what is in memory: they are read back from the log, one read at a time.

use metastore_wal::{EntryPlace, LogIndex, ReadEnd};
use raft::eraftpb::Entry;
use raft::{GetEntriesContext, Storage};

use super::tail::MissingEntries;
use super::{Replica, Turn};
use crate::effect::Effect;
use crate::ids::LogReadTicket;
use crate::input::LogReadFailed;
use crate::peer::to_raft_entry;

/// What one read takes from the log: several appends, so that a follower is not fed one device access at a time.
const READ_BYTES: usize = 1 << 20;
/// Reads after which an entry counts as lost: as many as a segment has, with the largest records.
const READS_MAX: u32 = 256;
/// The unit of reads.
const ALIGN_BYTES: u64 = 4096;

/// Entries that are being read back.
#[derive(Debug)]
pub(super) struct Reading {
    number: u64,
    /// The entry that is read next.
    next_index: u64,
    place: EntryPlace,
    reads: u32,
    /// Who is told: raft, for each follower that needs them.
    contexts: Vec<GetEntriesContext>,
}

impl Replica {
    /// Asks for what raft misses, unless something is being read.
    pub(super) fn read_missing(&mut self, turn: &mut Turn<'_>) {
        if self.reading.is_some() || !self.node.store().has_missing() {
            return;
        }
        let missing = self.node.mut_store().take_missing();
        let Some(first_index) = missing.first().map(|missing| missing.first_index) else {
            return;
        };
        // Whoever needs others asks again when these are there, or at its next heartbeat.
        let contexts = missing
            .into_iter()
            .filter(|missing: &MissingEntries| missing.first_index == first_index)
            .map(|missing| missing.context)
            .collect();
        let Some(place) = turn.log.place_of(self.id, LogIndex(first_index)) else {
            self.give_up_reading(first_index, contexts);
            return;
        };
        self.log_reads += 1;
        let reading = Reading {
            number: self.log_reads,
            next_index: first_index,
            place,
            reads: 0,
            contexts,
        };
        self.read_on(turn, reading, READ_BYTES);
    }

    fn read_on(&mut self, turn: &mut Turn<'_>, mut reading: Reading, bytes_min: usize) {
        reading.reads += 1;
        let place = &reading.place;
        let left = place.file_bytes - place.offset;
        let bytes = (bytes_min as u64)
            .max(READ_BYTES as u64)
            .next_multiple_of(ALIGN_BYTES)
            .min(left);
        turn.out.queue.push(Effect::ReadLog {
            ticket: LogReadTicket {
                replica: self.id,
                number: reading.number,
            },
            file: place.file,
            offset: place.offset,
            bytes: usize::try_from(bytes).expect("one read is short"),
        });
        self.reading = Some(reading);
    }

    /// A part of the log was read, or could not be.
    pub(crate) fn on_log_read(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: LogReadTicket,
        result: Result<&[u8], LogReadFailed>,
    ) {
        let reading = self.reading.take();
        let mut reading = reading.expect("a ticket comes back exactly once");
        assert_eq!(reading.number, ticket.number, "one read at a time");
        let mut found = Vec::new();
        let end = match result {
            Ok(bytes) => self.pick_entries(turn, &reading, bytes, &mut found),
            Err(LogReadFailed) => ReadEnd::NoMore,
        };
        if !found.is_empty() {
            self.node.mut_store().keep_read_back(found);
            self.tell_raft(reading.contexts);
            return;
        }
        match end {
            ReadEnd::More { offset, bytes_min } if reading.reads < READS_MAX => {
                reading.place.offset = offset;
                self.read_on(turn, reading, bytes_min);
            }
            ReadEnd::More { .. } | ReadEnd::NoMore => {
                self.give_up_reading(reading.next_index, reading.contexts);
            }
        }
    }

    /// Picks the entries that were asked for out of records. An index may have been written more than once: the one that
    /// counts has the term that this log has there.
    fn pick_entries(
        &self,
        turn: &Turn<'_>,
        reading: &Reading,
        bytes: &[u8],
        found: &mut Vec<Entry>,
    ) -> ReadEnd {
        let store = self.node.store();
        let mut next_index = reading.next_index;
        let end_index = store.first_in_memory();
        turn.log
            .read_entries(&reading.place, bytes, self.id, &mut |index, entry| {
                let is_next = index.0 == next_index && index.0 < end_index;
                if is_next && store.term(index.0) == Ok(entry.term.0) {
                    found.push(to_raft_entry(index.0, &entry));
                    next_index += 1;
                }
            })
    }

    /// The log does not give an entry back: followers that need it get a snapshot.
    fn give_up_reading(&mut self, index: u64, contexts: Vec<GetEntriesContext>) {
        slog::warn!(self.logger, "an entry cannot be read back from the log"; "index" => index);
        self.node.mut_store().give_up_reading(index);
        self.tell_raft(contexts);
    }

    /// raft asks anew, and finds what was read or that it cannot be.
    fn tell_raft(&mut self, contexts: Vec<GetEntriesContext>) {
        for context in contexts {
            self.node.on_entries_fetched(context);
        }
    }
}
