//! What raft hands over: entries and promises for the log, messages, confirmed reads, what is committed, a new role.

use metastore_bugs::{Mutant, is_planted};
use metastore_wal::{Entry as LogEntry, LogIndex, Part, PartBody, Position};
use raft::StateRole;
use raft::eraftpb::Entry;

use super::{
    Committed, Replica, Turn, Unpersisted, WriteTimes, fail_commands, to_log_entry,
    to_log_hard_state,
};
use crate::core::Admission;
use crate::ids::Time;
use crate::request::{Happened, RequestError};
use crate::stages::{Stage, Stages};
use crate::status::Role;

impl Replica {
    pub(super) fn handle_ready(&mut self, turn: &mut Turn<'_>) {
        let mut ready = self.node.ready();
        let before = self.node.store().hard_state();
        let promises_changed = ready
            .hs()
            .is_some_and(|after| after.term != before.term || after.vote != before.vote);
        if let Some(hard_state) = ready.hs() {
            let hard_state = hard_state.clone();
            self.node.mut_store().set_hard_state(hard_state);
        }
        let entries = ready.take_entries();
        // A commit index alone starts no write: it rides in the next record.
        let number = ready.number();
        let is_install = !ready.snapshot().is_empty();
        let is_staged = promises_changed || !entries.is_empty() || is_install;
        if is_staged {
            let position = if is_install {
                assert!(entries.is_empty(), "raft was given nothing else since");
                self.stage_install(turn, ready.snapshot(), number)
            } else {
                self.stage(turn, entries, number)
            };
            if promises_changed {
                self.outbox.on_promise(position);
            }
        }
        // A leader's messages and a follower's wait for different things, and each says itself for what.
        self.send_all(turn, ready.take_messages());
        self.send_all(turn, ready.take_persisted_messages());
        for state in ready.take_read_states() {
            self.reads.on_confirmed(&state.request_ctx, state.index);
        }
        self.take_committed(turn.now, ready.take_committed_entries());
        if let Some(soft_state) = ready.ss() {
            let role = soft_state.raft_state;
            self.on_role(turn, role);
        }
        self.check_reign(turn);
        self.node.advance_append_async(ready);
        if is_planted(Mutant::StagedIsPersisted) {
            self.persisted(number);
        }
        if !is_staged {
            // raft keeps a record of every Ready until it is told that it is persisted. This one had nothing to
            // persist, so it is as durable as the one before it.
            match self.unpersisted.back_mut() {
                Some(last) => last.ready_number = number,
                None => self.persisted(number),
            }
        }
        self.ready_last = number;
        self.seed_election_timeout();
    }

    /// Makes new entries readable for raft and stages them, with term and vote, for the next record.
    fn stage(&mut self, turn: &mut Turn<'_>, entries: Vec<Entry>, ready_number: u64) -> Position {
        let last_before = self.node.store().last();
        let first = entries.first().map(|entry| entry.index);
        let first_index = LogIndex(first.unwrap_or(last_before + 1));
        assert!(
            first_index > self.state_index,
            "what was applied is committed and never replaced"
        );
        if first_index.0 <= last_before {
            self.fail_replaced(turn, first_index);
        }
        let log_entries: Vec<LogEntry> = entries.iter().map(to_log_entry).collect();
        let stored_bytes = log_entries
            .iter()
            .map(LogEntry::stored_bytes)
            .sum::<usize>();
        self.last_snapshot.log_bytes += stored_bytes as u64;
        for entry in entries {
            self.node.mut_store().append(entry);
        }
        let store = self.node.store();
        let position = turn.log.stage(Part {
            replica: self.id,
            shard: self.shard,
            hard_state: to_log_hard_state(store.hard_state()),
            body: PartBody::Append {
                first_index,
                entries: log_entries,
            },
        });
        let last_index = store.last();
        self.unpersisted.push_back(Unpersisted {
            position,
            ready_number,
            first_index: first_index.0,
            last_index,
        });
        position
    }

    /// Another leader's entries take the place of those from `first_index` on. Ours may still be committed by a leader
    /// that has them, so nobody can say what became of them.
    fn fail_replaced(&mut self, turn: &mut Turn<'_>, first_index: LogIndex) {
        let error = RequestError::Unavailable {
            shard: self.shard,
            happened: Happened::Unknown,
        };
        for lost in self.proposals.take_from(first_index.0) {
            fail_commands(lost.pending, &error, turn);
        }
    }

    fn take_committed(&mut self, now: Time, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        if self.committed.entries.is_empty() {
            self.committed = Committed { entries, at: now };
        } else {
            self.committed.entries.extend(entries);
        }
    }

    fn on_role(&mut self, turn: &mut Turn<'_>, role: StateRole) {
        let role = match role {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower => Role::Follower,
        };
        if role == self.role {
            return;
        }
        self.role = role;
        if role == Role::Leader {
            self.begin_reign(turn.now);
            self.on_lead_won();
        } else {
            self.serving_term = None;
            self.on_lead_lost(turn);
            let error = self.not_leader();
            let pending = self.open.abandon();
            fail_commands(pending, &error, turn);
        }
    }

    /// Reads that wait for a leader's word fail when another leads, or the same one in another term: raft forgets them
    /// without a word.
    fn check_reign(&mut self, turn: &mut Turn<'_>) {
        let raft = &self.node.raft;
        let reign = (raft.leader_id, raft.term);
        if std::mem::replace(&mut self.reign, reign) == reign {
            return;
        }
        self.on_new_reign();
        if !self.reads.is_empty() && !is_planted(Mutant::LostReadBlocks) {
            let error = self.not_leader();
            self.reads.fail_all(&error, turn.answers, turn.out);
        }
    }

    /// Tells raft that everything staged up to `position` is durable. Returns whether that was news.
    pub(crate) fn on_durable(
        &mut self,
        stages: &mut Stages,
        admission: &mut Admission,
        position: Position,
        times: WriteTimes,
    ) -> bool {
        let mut newest: Option<Unpersisted> = None;
        while self
            .unpersisted
            .front()
            .is_some_and(|front| front.position <= position)
        {
            newest = self.unpersisted.pop_front();
        }
        let Some(newest) = newest else {
            return false;
        };
        for batch in self.proposals.on_durable(newest.last_index, times.ended) {
            let commands = batch.commands;
            let queued = times.started.nanos_since(batch.opened_at);
            // A command always waits for the write that is under way when it comes; only more than that is a queue.
            admission.on_written(queued.saturating_sub(times.previous_ns), commands);
            let waited = times.started.nanos_since(batch.proposed_at);
            stages.record(Stage::Propose, waited, commands);
            stages.record(
                Stage::Flush,
                times.ended.nanos_since(times.started),
                commands,
            );
        }
        self.persisted(newest.ready_number);
        self.seed_election_timeout();
        true
    }
}
