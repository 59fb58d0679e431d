//! Admission: which requests are taken while the log cannot keep up, or memory is short.
//!
//! A queue that never runs empty adds its length to every answer and helps nobody. So what is watched is not how long
//! the queue is but how long commands wait in it at the least: over an interval, the shortest wait of any batch from
//! its first command to the log write that carries it, beyond the one write that was under way when it came. In a
//! queue that runs empty now and then this is near zero, however long the longest wait; one that stays above the
//! target for two intervals is overload, and so are bytes that stay above half of what may wait. The idea is that of CoDel (Nichols and Jacobson, 2012).
//!
//! ```text
//!            late interval             late again                     calm
//!  Open ----------------> Counting ---------------> Refusing ---------------------> Open
//!    ^                       |                       |    ^   nobody was refused
//!    |         calm          |                       +----+
//!    +-----------------------+            late: less each, calm: more each
//! ```
//!
//! In overload each connection may have so many commands an interval that all together are what the log has written in
//! the last one. The
//! quota is the same for all: those that ask for less than that are not refused, so a client that asks little never
//! pays for one that asks much. Whatever frees memory passes always.

use std::collections::BTreeMap;

use metastore_statemachine::CommandKind;
use metastore_wal::CoreId;

use crate::ids::{ConnectionId, Time};
use crate::memory::{LoadRoom, MemoryRoom};
use crate::request::{OVERLOADED_RETRY_MS, RequestError};
use crate::settings::AdmissionSettings;

/// What a request does to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// It may make the state larger.
    Growing,
    /// It frees memory: load cannot block it.
    Freeing,
}

/// The lane of a command.
pub(crate) fn lane_of(kind: CommandKind) -> Lane {
    match kind {
        CommandKind::Put
        | CommandKind::AddI64
        | CommandKind::MaxI64
        | CommandKind::MinI64
        | CommandKind::Append
        | CommandKind::Txn
        | CommandKind::Commit => Lane::Growing,
        CommandKind::Delete | CommandKind::DeleteRange | CommandKind::Compact => Lane::Freeing,
    }
}

/// Who asks: a connection, on the core that holds it.
pub(crate) type Origin = (CoreId, ConnectionId);

/// Connections that are counted in an interval. More than that share what is left over.
const ORIGINS_MAX: usize = 65_536;
/// In overload this part of what the log can take is left for the queue that stands.
const DRAIN_DIVISOR: u64 = 8;
/// The rate of the log is kept this much finer than whole commands.
const RATE_UNIT: u64 = 64;
/// Each interval counts for this part of the average rate.
const RATE_DIVISOR: u64 = 8;
/// Each calm interval in a row lets this part more through than the log has written, and the next one twice it, and so on.
const GROWTH_DIVISOR: u64 = 4;
/// A log that has completed nothing for this long counts as late, though it gives no waits to measure.
const STALL_NS_MIN: u64 = 1_000_000_000;
/// However slow the log is, each connection may have this many commands an interval, or as many fewer as keep all of
/// them together below the second number: what is waiting is bounded in bytes anyway.
const FLOOR_OF_EACH: u64 = 8;
const FLOOR_OF_ALL: u64 = 1_024;
/// The most that refused clients are told to wait.
const RETRY_MS_MAX: u64 = 1_000;

#[derive(Debug)]
enum State {
    /// Everybody is taken and nobody is counted.
    Open,
    /// One interval was late: who asks is counted.
    Counting,
    /// Each connection has a quota for the interval.
    Refusing { quota: u64, calm_intervals: u64 },
}

/// What waits at the end of an interval.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backlog {
    /// How long the oldest command waits that is not durable.
    pub(crate) oldest_ns: u64,
    /// Whether commands take more than half of the bytes that may wait: beyond all of them everybody is refused, who
    /// asks little too.
    pub(crate) is_crowded: bool,
}

/// Decides on new requests of one core.
#[derive(Debug)]
pub(crate) struct Admission {
    settings: AdmissionSettings,
    state: State,
    interval_began: Time,
    /// The shortest wait of this interval, if anything was written.
    wait_ns_min: Option<u64>,
    /// Commands whose write was completed in this interval.
    written: u64,
    /// Commands that the log writes in an interval, times [`RATE_UNIT`]: an average over some intervals, because a
    /// single write may take longer than one.
    rate: u64,
    /// Commands that each connection has asked for in this interval, while anybody counts.
    asked: BTreeMap<Origin, u64>,
    /// The wait at the end of the last late interval.
    wait_ns_late: u64,
    memory: MemoryRoom,
    refused: u64,
}

impl Admission {
    pub(crate) fn new(settings: AdmissionSettings, now: Time) -> Admission {
        Admission {
            settings,
            state: State::Open,
            interval_began: now,
            wait_ns_min: None,
            written: 0,
            rate: 0,
            asked: BTreeMap::new(),
            wait_ns_late: 0,
            memory: MemoryRoom::UNLIMITED,
            refused: 0,
        }
    }

    // ---- Inputs ----

    /// Takes the memory that is left.
    pub(crate) fn on_memory(&mut self, room: MemoryRoom) {
        self.memory = room;
    }

    /// Takes how long a batch waited for its write, beyond the write that was under way when it came, and how many
    /// commands it held.
    pub(crate) fn on_written(&mut self, wait_ns: u64, commands: u64) {
        self.wait_ns_min = Some(self.wait_ns_min.map_or(wait_ns, |min| min.min(wait_ns)));
        self.written += commands;
    }

    /// Ends the interval when its time has come.
    pub(crate) fn on_time(&mut self, now: Time, backlog: Backlog) {
        if now.millis_since(self.interval_began) < self.settings.interval_ms {
            return;
        }
        self.interval_began = now;
        let stalled = (backlog.oldest_ns >= STALL_NS_MIN).then_some(backlog.oldest_ns);
        let wait_ns = self.wait_ns_min.take().or(stalled).unwrap_or(0);
        let target_ns = self.settings.target_ms * 1_000_000;
        self.average_rate(&backlog);
        if wait_ns > target_ns || backlog.is_crowded {
            self.wait_ns_late = wait_ns;
            self.end_late_interval();
        } else {
            self.end_calm_interval();
        }
        self.asked.clear();
    }

    /// Intervals in which nobody wanted anything say nothing about the log.
    fn average_rate(&mut self, backlog: &Backlog) {
        let written = std::mem::take(&mut self.written) * RATE_UNIT;
        if written > 0 || backlog.oldest_ns > 0 {
            self.rate = self.rate - self.rate / RATE_DIVISOR + written / RATE_DIVISOR;
        }
    }

    /// A queue that stands is a log that is always busy, so what it has written is all it can take. A little less than
    /// that lets the queue run down.
    fn end_late_interval(&mut self) {
        if matches!(self.state, State::Open) {
            self.state = State::Counting;
            return;
        }
        let written = self.rate / RATE_UNIT;
        let possible = written - written / DRAIN_DIVISOR;
        let quota = fair_quota(self.asked.values().copied(), possible);
        self.state = State::Refusing {
            quota,
            calm_intervals: 0,
        };
    }

    fn end_calm_interval(&mut self) {
        let State::Refusing {
            quota,
            calm_intervals,
        } = self.state
        else {
            self.state = State::Open;
            return;
        };
        if self.asked.values().all(|&asked| asked <= quota) {
            self.state = State::Open;
            return;
        }
        let calm_intervals = calm_intervals + 1;
        let written = self.rate / RATE_UNIT;
        let possible = written + written * calm_intervals / GROWTH_DIVISOR;
        let asked = self.asked.values().copied();
        self.state = State::Refusing {
            quota: fair_quota(asked, possible).max(quota + 1),
            calm_intervals,
        };
    }

    // ---- Decisions ----

    /// Whether memory leaves room for a request that is not a command: a read, or a range.
    pub(crate) fn admit_read(&mut self) -> Result<(), RequestError> {
        match self.memory.load {
            LoadRoom::Ample => Ok(()),
            LoadRoom::Short | LoadRoom::Spent => self.overloaded(OVERLOADED_RETRY_MS),
        }
    }

    /// Whether a command of this lane is taken; `waiting_bytes` is what this core's commands will add to the state
    /// once they are applied, this one included.
    pub(crate) fn admit_command(
        &mut self,
        lane: Lane,
        origin: Option<Origin>,
        waiting_bytes: u64,
    ) -> Result<(), RequestError> {
        match (lane, self.memory.load) {
            (_, LoadRoom::Spent) | (Lane::Growing, LoadRoom::Short) => {
                return self.overloaded(OVERLOADED_RETRY_MS);
            }
            (Lane::Freeing, LoadRoom::Short | LoadRoom::Ample) => return Ok(()),
            (Lane::Growing, LoadRoom::Ample) => {}
        }
        let MemoryRoom {
            state_bytes,
            state_bytes_max,
            ..
        } = self.memory;
        if state_bytes.saturating_add(waiting_bytes) > state_bytes_max {
            self.refused += 1;
            return Err(RequestError::QuotaExceeded {
                limit_bytes: state_bytes_max,
                used_bytes: state_bytes,
            });
        }
        self.count(origin)
    }

    /// Counts a command in overload, and refuses it above the quota.
    fn count(&mut self, origin: Option<Origin>) -> Result<(), RequestError> {
        let quota = match self.state {
            State::Open => return Ok(()),
            State::Counting => u64::MAX,
            State::Refusing { quota, .. } => quota,
        };
        let Some(origin) = origin else {
            return Ok(());
        };
        if self.asked.len() >= ORIGINS_MAX && !self.asked.contains_key(&origin) {
            return self.overloaded(OVERLOADED_RETRY_MS);
        }
        let asked = self.asked.entry(origin).or_default();
        *asked += 1;
        if *asked <= quota {
            return Ok(());
        }
        let wait_ms = self.wait_ns_late / 1_000_000;
        let retry_ms = wait_ms.clamp(
            self.settings.interval_ms,
            RETRY_MS_MAX.max(self.settings.interval_ms),
        );
        self.overloaded(u32::try_from(retry_ms).unwrap_or(u32::MAX))
    }

    fn overloaded(&mut self, retry_after_ms: u32) -> Result<(), RequestError> {
        self.refused += 1;
        Err(RequestError::Overloaded { retry_after_ms })
    }

    // ---- What it reports ----

    /// What it refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether connections have quotas at present.
    pub(crate) fn is_refusing(&self) -> bool {
        matches!(self.state, State::Refusing { .. })
    }

    /// The memory that is left.
    pub(crate) fn memory(&self) -> &MemoryRoom {
        &self.memory
    }
}

/// The largest quota with which all together have at most `possible`, and at least the floor, so that nobody is starved.
/// What those leave that ask for less than an equal share goes to the others, until an equal share of the rest is less
/// than anybody left asks for.
fn fair_quota(asked: impl Iterator<Item = u64>, possible: u64) -> u64 {
    let mut asked: Vec<u64> = asked.collect();
    asked.sort_unstable();
    let mut left = possible;
    let mut quota = 1;
    for (position, &count) in asked.iter().enumerate() {
        let others = (asked.len() - position) as u64;
        quota = left / others;
        if count > quota {
            break;
        }
        left -= count;
    }
    let floor = (FLOOR_OF_ALL / asked.len().max(1) as u64).clamp(1, FLOOR_OF_EACH);
    quota.max(floor)
}

#[cfg(test)]
mod tests;
