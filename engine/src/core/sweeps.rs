//! Ranges that are deleted: the core where the request arrived has each shard delete its part slice by slice.

use std::collections::BTreeMap;

use metastore_statemachine::{
    Command, CommandKind, Detail, KeyRange, NamespaceId, Outcome, OutcomeCode, Revision, Scope,
    ShardList, ShardRevision, ShardRevisions, Structured,
};
use metastore_wal::ShardId;

use super::Core;
use crate::CoreId;
use crate::answers::SweepAnswer;
use crate::effect::Effects;
use crate::ids::{ConnectionId, Time};
use crate::mesh::{ReplyTo, Token};
use crate::request::{Happened, OVERLOADED_RETRY_MS, RequestError};

/// One shard's part.
#[derive(Debug)]
struct SweepPart {
    shard: ShardId,
    core: CoreId,
    /// Of the shard, after its last slice.
    revision: Revision,
    /// Where its last slice ended; `None` before the first.
    resume_after: Option<Vec<u8>>,
    state: PartState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartState {
    /// A slice is under way.
    Waiting,
    /// The shard had too much to do; the slice is sent again at a tick after that time.
    Retry { at: Time },
    /// It is done, or the sweep ends before.
    Over,
}

/// A range that is being deleted. One slice of each shard is under way, as a command of its own; the next one is sent
/// when the answer to it is here. So a large range does not fill anybody's log faster than the log writes, and
/// whatever else the shard is asked for comes in between.
#[derive(Debug)]
struct Sweep {
    reply_to: ReplyTo,
    deadline: Time,
    namespace: NamespaceId,
    /// Nobody looks at it: the range says where to go.
    key: Vec<u8>,
    prefix: Vec<u8>,
    start: Vec<u8>,
    end: Vec<u8>,
    scope: Scope,
    parts: Vec<SweepPart>,
    deleted: u64,
    /// Why it ends before it is done, when the slices under way are answered.
    ended_by: Option<RequestError>,
}

/// Whether the core still begins new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Draining {
    No,
    Yes,
}

/// The ranges that are being deleted for requests of this core.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    sweeps: BTreeMap<u64, Sweep>,
    next: u64,
}

impl Sweeps {
    pub(super) fn len(&self) -> usize {
        self.sweeps.len()
    }

    /// The connection is gone: nobody wants the rest of its ranges to go.
    pub(super) fn on_closed(&mut self, closed: ConnectionId) {
        for sweep in self.sweeps.values_mut() {
            if let Token::Request { connection, .. } | Token::BatchItem { connection, .. } =
                sweep.reply_to.token
                && connection == closed
            {
                sweep.ended_by = Some(RequestError::Cancelled);
            }
        }
    }
}

impl Sweep {
    /// The command of a part's next slice. It begins where the one before ended; keys that were put there since then
    /// are not of this request.
    fn slice(&self, part: usize) -> Vec<u8> {
        let mut start = self.start.clone();
        if let Some(last) = &self.parts[part].resume_after {
            start.clone_from(last);
            start.push(0);
        }
        let value = Structured::DeleteRange(KeyRange {
            prefix: &self.prefix,
            start: &start,
            end: &self.end,
            scope: self.scope,
        })
        .encode();
        let kind = CommandKind::DeleteRange;
        let command = Command::structured(kind, self.namespace, &self.key, &value);
        let mut bytes = Vec::with_capacity(command.encoded_len());
        command.encode_into(&mut bytes);
        bytes
    }

    fn is_over(&self) -> bool {
        self.parts.iter().all(|part| part.state == PartState::Over)
    }

    /// Why it cannot go on, if so.
    fn choose_end(&mut self, now: Time, draining: Draining) -> Option<&RequestError> {
        if self.ended_by.is_none() && draining == Draining::Yes {
            self.ended_by = Some(RequestError::ShuttingDown);
        }
        if self.ended_by.is_none() && now >= self.deadline {
            let happened = Happened::NotDone;
            self.ended_by = Some(RequestError::Deadline { happened });
        }
        self.ended_by.as_ref()
    }

    /// The answer, once it is over.
    fn answer<'a>(&self, scratch: &'a mut Vec<u8>) -> Result<Outcome<'a>, RequestError> {
        if let Some(cause) = &self.ended_by {
            let is_untouched = self.deleted == 0 && cause.happened() == Happened::NotDone;
            return Err(if is_untouched {
                cause.clone()
            } else {
                RequestError::DeletedInPart {
                    deleted: self.deleted,
                    cause: Box::new(cause.clone()),
                }
            });
        }
        let revisions = self.parts.iter().map(|part| ShardRevision {
            shard: part.shard.0,
            revision: part.revision,
        });
        let revision = match self.parts.as_slice() {
            [only] => only.revision,
            _ => Revision(0),
        };
        Ok(Outcome {
            code: OutcomeCode::Done,
            revision,
            number: Some(i64::try_from(self.deleted).expect("fewer keys than that")),
            previous: None,
            detail: Some(Detail::ShardRevisions(ShardRevisions::encode(
                revisions, scratch,
            ))),
        })
    }
}

impl Core {
    /// Begins to delete the keys of a range.
    pub(super) fn open_sweep(
        &mut self,
        now: Time,
        command: &Command<'_>,
        reply_to: ReplyTo,
        deadline: Time,
        out: &mut Effects,
    ) {
        let structured = Structured::of(command).expect("the edge checked the command");
        let Some(Structured::DeleteRange(range)) = structured else {
            unreachable!("only ranges to delete come here");
        };
        let among = ShardList::of_delete(command);
        let shards = self.shards_of_range(command.namespace, range.prefix, range.scope, among);
        let Some(shards) = shards else {
            let error = RequestError::UnknownNamespace(command.namespace);
            self.refuse(out, reply_to, error);
            return;
        };
        if self.sweeps.len() >= self.config.settings.sweeps_max {
            let retry_after_ms = OVERLOADED_RETRY_MS;
            self.refuse(out, reply_to, RequestError::Overloaded { retry_after_ms });
            return;
        }
        let parts = shards.iter().map(|&(shard, core)| SweepPart {
            shard,
            core,
            revision: Revision(0),
            resume_after: None,
            state: PartState::Waiting,
        });
        let sweep = Sweep {
            reply_to,
            deadline,
            namespace: command.namespace,
            key: command.key.to_vec(),
            prefix: range.prefix.to_vec(),
            start: range.start.to_vec(),
            end: range.end.to_vec(),
            scope: range.scope,
            parts: parts.collect(),
            deleted: 0,
            ended_by: None,
        };
        let id = self.sweeps.next;
        self.sweeps.next += 1;
        let parts = sweep.parts.len();
        self.sweeps.sweeps.insert(id, sweep);
        for part in 0..parts {
            self.send_slice(now, (id, part), out);
        }
        if parts == 0 {
            self.finish_sweep(id, out);
        }
    }

    fn send_slice(&mut self, now: Time, (id, part): (u64, usize), out: &mut Effects) {
        let sweep = &self.sweeps.sweeps[&id];
        let slice = sweep.slice(part);
        let place = (sweep.parts[part].core, sweep.parts[part].shard);
        let deadline = sweep.deadline;
        let reply_to = ReplyTo {
            core: self.id(),
            token: Token::Sweep { sweep: id, part },
        };
        self.send_command(now, place, &slice, reply_to, deadline, out);
    }

    /// Goes on where a slice was answered.
    pub(super) fn drive_sweeps(&mut self, now: Time, out: &mut Effects) {
        for answer in std::mem::take(&mut self.answers.slices) {
            self.on_slice_answered(now, answer, out);
        }
    }

    /// Sends slices again whose shard had too much to do.
    pub(super) fn retry_sweeps(&mut self, now: Time, out: &mut Effects) {
        let mut due = Vec::new();
        for (&id, sweep) in &self.sweeps.sweeps {
            for (part, state) in sweep.parts.iter().map(|part| part.state).enumerate() {
                if matches!(state, PartState::Retry { at } if at <= now) {
                    due.push((id, part));
                }
            }
        }
        for (id, part) in due {
            self.go_on(now, (id, part), out);
        }
    }

    fn on_slice_answered(&mut self, now: Time, answer: SweepAnswer, out: &mut Effects) {
        let id = answer.sweep;
        let sweep = self.sweeps.sweeps.get_mut(&id);
        let sweep = sweep.expect("a sweep waits for its slices");
        let part = &mut sweep.parts[answer.part];
        assert_eq!(
            part.state,
            PartState::Waiting,
            "one slice of a part is under way"
        );
        part.state = PartState::Over;
        match answer.result {
            Ok(slice) => {
                part.revision = slice.revision;
                sweep.deleted += slice.deleted;
                if slice.resume_after.is_some() {
                    part.resume_after = slice.resume_after;
                    self.go_on(now, (id, answer.part), out);
                    return;
                }
            }
            Err(RequestError::Overloaded { retry_after_ms }) => {
                let at = now.plus_ms(u64::from(retry_after_ms));
                part.state = PartState::Retry { at };
                return;
            }
            // What may have happened counts for more than what certainly did not.
            Err(error) => {
                if sweep.ended_by.is_none() || error.happened() == Happened::Unknown {
                    sweep.ended_by = Some(error);
                }
            }
        }
        self.finish_sweep(id, out);
    }

    /// Sends the next slice of a part, unless the sweep has to end.
    fn go_on(&mut self, now: Time, (id, part): (u64, usize), out: &mut Effects) {
        let draining = if self.is_draining {
            Draining::Yes
        } else {
            Draining::No
        };
        let sweep = self.sweeps.sweeps.get_mut(&id);
        let sweep = sweep.expect("it is not over");
        if sweep.choose_end(now, draining).is_some() {
            sweep.parts[part].state = PartState::Over;
            self.finish_sweep(id, out);
        } else {
            sweep.parts[part].state = PartState::Waiting;
            self.send_slice(now, (id, part), out);
        }
    }

    /// Answers a sweep if nothing of it is under way.
    fn finish_sweep(&mut self, id: u64, out: &mut Effects) {
        if !self.sweeps.sweeps[&id].is_over() {
            return;
        }
        let sweep = self.sweeps.sweeps.remove(&id).expect("it is there");
        let mut scratch = Vec::new();
        match sweep.answer(&mut scratch) {
            Ok(outcome) => self.answers.outcome(out, sweep.reply_to, &outcome),
            Err(error) => self.refuse(out, sweep.reply_to, error),
        }
    }
}
