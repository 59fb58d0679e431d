//! Ids of replicas that were never used before.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::CommandError;
use crate::node::random_u128;

/// Bits of an id that are drawn, so that two operators do not draw the same in one millisecond.
const DRAWN_BITS: u32 = 12;

/// Gives ids: the milliseconds since 1970 above twelve random bits, and never less than the last.
#[derive(Debug, Default)]
pub(in crate::commands) struct ReplicaIds {
    last: Mutex<u64>,
}

impl ReplicaIds {
    /// One that is newer than `newest`, the newest replica that its shard ever had.
    pub(in crate::commands) fn draw(&self, newest: u64) -> Result<u64, CommandError> {
        let drawn = random_u128()? as u64;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = since_1970.map_or(0, |since| since.as_millis() as u64);
        let mut last = self.last.lock().expect("nobody panics with it");
        *last = next_id(now_ms, drawn, newest.max(*last));
        Ok(*last)
    }
}

/// An id above `above`. Where the clock is behind, what was drawn keeps those apart who are at the same number.
fn next_id(now_ms: u64, drawn: u64, above: u64) -> u64 {
    let drawn = drawn & ((1 << DRAWN_BITS) - 1);
    let by_clock = (now_ms << DRAWN_BITS) | drawn;
    match by_clock > above {
        true => by_clock,
        false => above + 1 + drawn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_time_above_what_was_drawn() {
        assert_eq!(next_id(3, 0xF_0FF, 9), (3 << 12) | 0x0FF);
    }

    #[test]
    fn an_id_is_newer_than_all_before_it_whatever_the_clock_says() {
        let newest = 1 << 60;
        assert_eq!(next_id(3, 5, newest), newest + 6);
        let ids = ReplicaIds::default();
        let first = ids.draw(newest).expect("the system has randomness");
        let second = ids.draw(7).expect("the system has randomness");
        assert!(newest < first && first < second);
    }
}
