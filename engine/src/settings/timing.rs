//! How long ticks are, when groups sleep, and when leaders move.

/// How the length of a tick is found. An election timeout is so many ticks, and there is at least one heartbeat in a
/// tick, so that all of raft's times follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickTiming {
    /// It is what the settings say.
    Fixed,
    /// It is measured: a round trip to the slowest node, and a write of the log, both with their spread.
    Adaptive {
        /// The shortest election timeout, in milliseconds.
        election_ms_min: u64,
        /// The longest.
        election_ms_max: u64,
    },
}

impl Default for TickTiming {
    fn default() -> Self {
        TickTiming::Adaptive {
            election_ms_min: 150,
            election_ms_max: 2_000,
        }
    }
}

/// What groups do that have nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleSettings {
    /// Ticks in a row without anything to do after which a group falls asleep; `None` for never.
    pub sleep_ticks: Option<u32>,
    /// Ticks after which a core asks for the lead of one more shard that it should lead; `None` for never.
    pub lead_ticks: Option<u32>,
}

impl Default for IdleSettings {
    fn default() -> Self {
        IdleSettings {
            sleep_ticks: Some(20),
            lead_ticks: Some(4),
        }
    }
}

impl TickTiming {
    /// The bounds of a tick in nanoseconds, where it is not fixed.
    pub(crate) fn tick_bounds_ns(self, election_ticks: usize) -> Option<(u64, u64)> {
        match self {
            TickTiming::Fixed => None,
            TickTiming::Adaptive {
                election_ms_min,
                election_ms_max,
            } => {
                let tick_ns = |election_ms: u64| election_ms * 1_000_000 / election_ticks as u64;
                Some((tick_ns(election_ms_min).max(1), tick_ns(election_ms_max)))
            }
        }
    }

    /// Each number with its bounds.
    pub(super) fn bounds(self) -> [(&'static str, u64, u64, u64); 2] {
        let (min, max) = match self {
            TickTiming::Fixed => (150, 2_000),
            TickTiming::Adaptive {
                election_ms_min,
                election_ms_max,
            } => (election_ms_min, election_ms_max),
        };
        [
            ("raft.election_timeout_min", min, 10, max),
            ("raft.election_timeout_max", max, min, 60_000),
        ]
    }
}

impl IdleSettings {
    /// Each number with its bounds.
    pub(super) fn bounds(self) -> [(&'static str, u64, u64, u64); 2] {
        let sleep = u64::from(self.sleep_ticks.unwrap_or(1));
        let lead = u64::from(self.lead_ticks.unwrap_or(1));
        [
            ("raft.sleep_ticks", sleep, 1, 100_000),
            ("raft.lead_ticks", lead, 1, 100_000),
        ]
    }
}
