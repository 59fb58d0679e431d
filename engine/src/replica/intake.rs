//! What a replica takes from clients: commands into the open batch, reads into the next round, within its limits.

use crate::ids::Time;
use crate::mesh::ReadOp;
use crate::mesh::{RangePartKey, RangePlan, ReplyTo};
use crate::request::{OVERLOADED_RETRY_MS, RequestError};
use crate::settings::Settings;
use crate::span::Span;
use crate::status::Role;

use super::commands::PendingCommand;
use super::reads::{self, PendingRange, PendingRead};
use super::{Replica, Turn};

impl Replica {
    /// Takes a checked command into the open batch.
    pub(crate) fn submit_command(
        &mut self,
        turn: &mut Turn<'_>,
        command: &[u8],
        reply_to: ReplyTo,
        deadline: Time,
    ) {
        if let Err(error) = self.admit(turn.settings, command.len()) {
            turn.answers.error(turn.out, reply_to, error);
            return;
        }
        self.wake();
        if self.open.is_full_for(command.len(), &turn.settings.batch) && self.is_serving() {
            self.propose(turn);
        }
        self.open
            .push(turn.now, command, PendingCommand { reply_to, deadline });
    }

    fn admit(&self, settings: &Settings, command_bytes: usize) -> Result<(), RequestError> {
        if self.role != Role::Leader {
            return Err(self.not_leader());
        }
        if command_bytes > settings.command_bytes_max {
            return Err(RequestError::TooLarge {
                limit: settings.command_bytes_max as u64,
                actual: command_bytes as u64,
            });
        }
        let waiting = self.proposals.bytes() + self.open.bytes() + command_bytes;
        // A batch that cannot be proposed yet must not outgrow what one entry may hold.
        let batch_is_stuck =
            !self.is_serving() && self.open.is_full_for(command_bytes, &settings.batch);
        if waiting as u64 > settings.raft.uncommitted_bytes_max || batch_is_stuck {
            return Err(RequestError::Overloaded {
                retry_after_ms: OVERLOADED_RETRY_MS,
            });
        }
        Ok(())
    }

    /// Takes a read into the next round.
    pub(crate) fn submit_read(
        &mut self,
        turn: &mut Turn<'_>,
        op: ReadOp,
        keys: &[u8],
        reply_to: ReplyTo,
        deadline: Time,
    ) {
        if let Err(error) = self.admit_read(turn.settings, keys.len()) {
            turn.answers.error(turn.out, reply_to, error);
            return;
        }
        self.wake();
        let open = self.reads.open();
        let start = open.arena.len();
        open.arena.extend_from_slice(keys);
        let keys = Span::since(&open.arena, start);
        open.reads.push(PendingRead {
            reply_to,
            deadline,
            op,
            keys,
        });
    }

    /// Takes the opening of a part of a range into the next round.
    pub(crate) fn open_part(
        &mut self,
        turn: &mut Turn<'_>,
        part: RangePartKey,
        deadline: Time,
        plan: Box<RangePlan>,
    ) {
        match self.admit_read(turn.settings, plan.bytes()) {
            Ok(()) => {
                self.wake();
                self.reads.open().ranges.push(PendingRange {
                    part,
                    deadline,
                    plan,
                });
            }
            Err(error) => turn.answers.part_chunk(part, reads::failed_chunk(error)),
        }
    }

    fn admit_read(&self, settings: &Settings, bytes: usize) -> Result<(), RequestError> {
        if self.role != Role::Leader && !self.follows() {
            return Err(self.not_leader());
        }
        let (waiting, waiting_bytes) = self.reads.waiting();
        if waiting >= settings.reads_waiting_max
            || waiting_bytes + bytes > settings.reads_waiting_bytes_max
        {
            return Err(RequestError::Overloaded {
                retry_after_ms: OVERLOADED_RETRY_MS,
            });
        }
        Ok(())
    }

    /// Asks for the next chunk of a part of a range.
    pub(crate) fn next_part_chunk(&mut self, turn: &mut Turn<'_>, part: RangePartKey) {
        self.parts.request_chunk(part, turn.answers);
    }

    /// Ends a part of a range.
    pub(crate) fn close_part(&mut self, part: RangePartKey) {
        self.parts.close(&mut self.state, part);
        self.reads.forget_range(part);
    }
}
