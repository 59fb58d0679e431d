//! What was done, in numbers.

use std::collections::BTreeMap;
use std::fmt;

/// When a server is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kill {
    /// Under load, when enough has been acknowledged.
    Load,
    /// While it starts: before or after it answers, while segments are being prepared.
    Preparation,
    /// About when its log begins another segment.
    Rotation,
    /// While it recovers, three times in a row.
    Recovery,
    /// In a round with a full disk, at any time.
    FullDisk,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) kills: BTreeMap<Kill, u64>,
    /// Servers that were killed after a check, with nothing else on its way.
    pub(crate) kills_after_check: u64,
    pub(crate) load: LoadReport,
    pub(crate) full_disk: FullDiskReport,
}

/// What clients asked for, and what was checked.
#[derive(Debug, Default)]
pub(crate) struct LoadReport {
    pub(crate) acknowledged: u64,
    pub(crate) compounds_done: u64,
    pub(crate) unknown: u64,
    pub(crate) refused: u64,
    pub(crate) sightings: u64,
    pub(crate) rows: u64,
    pub(crate) checks: u64,
}

/// What was done on a full disk.
#[derive(Debug, Default)]
pub(crate) struct FullDiskReport {
    pub(crate) rounds: u64,
    /// Rounds that could not be run, and why.
    pub(crate) skipped: u64,
    pub(crate) skipped_because: String,
    /// How often the last free byte was taken.
    pub(crate) fills: u64,
    /// Starts on the full disk that served.
    pub(crate) starts: u64,
    /// Starts that had no segment left, and served once there was room.
    pub(crate) starts_waited: u64,
    pub(crate) puts_refused: u64,
    /// Puts that were taken because the store had made room.
    pub(crate) puts_taken: u64,
    /// Answers that said to ask again.
    pub(crate) put_off: u64,
    /// After how long an answer was there that did not, at most.
    pub(crate) answered_after_ms_max: u128,
    pub(crate) deletes: u64,
    pub(crate) reads: u64,
    /// How often writes went on without a restart, and after how long at most.
    pub(crate) resumed: u64,
    pub(crate) resumed_after_ms_max: u128,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kills: u64 = self.kills.values().sum();
        let load = &self.load;
        let of = |kill| self.kills.get(&kill).copied().unwrap_or(0);
        writeln!(
            formatter,
            "{} kills: {} under load, {} while preparing, {} about a rotation, {} while recovering, {} in rounds with a full disk; {} after a check",
            kills + self.kills_after_check,
            of(Kill::Load),
            of(Kill::Preparation),
            of(Kill::Rotation),
            of(Kill::Recovery),
            of(Kill::FullDisk),
            self.kills_after_check
        )?;
        writeln!(
            formatter,
            "{} commands acknowledged, {} of them with structure and done; {} unknown, {} refused; {} reads; {} checks over {} rows",
            load.acknowledged,
            load.compounds_done,
            load.unknown,
            load.refused,
            load.sightings,
            load.checks,
            load.rows
        )?;
        self.full_disk.fmt(formatter)
    }
}

impl fmt::Display for FullDiskReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "full disk: {} rounds", self.rounds)?;
        if self.skipped > 0 {
            write!(
                formatter,
                ", {} skipped: {}",
                self.skipped, self.skipped_because
            )?;
        }
        if self.rounds == 0 {
            return Ok(());
        }
        write!(
            formatter,
            "; filled {} times; {} starts served without room, {} waited for room; {} puts refused, {} taken in room that the store had made, {} deletes and {} reads passed, after {} ms at most, {} answers said to ask again; writes went on {} times without a restart, after {} ms at most",
            self.fills,
            self.starts,
            self.starts_waited,
            self.puts_refused,
            self.puts_taken,
            self.deletes,
            self.reads,
            self.answered_after_ms_max,
            self.put_off,
            self.resumed,
            self.resumed_after_ms_max
        )
    }
}
