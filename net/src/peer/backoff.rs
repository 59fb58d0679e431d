//! When to connect again.

use std::time::Duration;

/// The longest wait after a first failure.
pub const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// The longest wait of all. A node that is away for long is found within this time of its return.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A connection that was open for this long was a good one: the next failure is a first one again. Without it, who
/// accepts and closes would be asked again at once for ever.
pub const BACKOFF_STEADY: Duration = Duration::from_secs(1);

const _: () = assert!(BACKOFF_MIN.as_nanos() < BACKOFF_MAX.as_nanos());

/// How many attempts have failed, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackoffAttempt(pub u32);

impl BackoffAttempt {
    /// A connection has ended that was open for `open_for`, or never.
    #[must_use]
    pub fn after_end(self, open_for: Option<Duration>) -> BackoffAttempt {
        match open_for {
            Some(open_for) if open_for >= BACKOFF_STEADY => BackoffAttempt(1),
            Some(_) | None => BackoffAttempt(self.0.saturating_add(1)),
        }
    }
}

/// How long to wait before the next attempt: the time doubles with each failure up to [`BACKOFF_MAX`], and `random`, which
/// may be any number, takes up to half of it away, so that those who lost one node at one time do not come back to it at
/// one time.
#[must_use]
pub fn choose_backoff(attempt: BackoffAttempt, random: u64) -> Duration {
    let doublings = attempt.0.saturating_sub(1).min(31);
    let ceiling = BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    let half_ns = u64::try_from(ceiling.as_nanos() / 2).unwrap_or(u64::MAX);
    Duration::from_nanos(half_ns + random % (half_ns + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound() {
        let longest = |attempt: u32| {
            let half = (BACKOFF_MIN.as_nanos() / 2) << attempt;
            let random = u64::try_from(half).unwrap();
            choose_backoff(BackoffAttempt(attempt + 1), random)
        };
        assert_eq!(longest(0), BACKOFF_MIN);
        assert_eq!(longest(1), BACKOFF_MIN * 2);
        assert_eq!(longest(6), BACKOFF_MIN * 64);
    }

    #[test]
    fn no_wait_is_outside_its_bounds() {
        for attempt in [0, 1, 2, 7, 8, 31, 32, 33, u32::MAX] {
            for random in [0, 1, 4_999_999, 5_000_000, u64::MAX / 2, u64::MAX] {
                let wait = choose_backoff(BackoffAttempt(attempt), random);
                assert!(wait >= BACKOFF_MIN / 2, "{attempt} {random}: {wait:?}");
                assert!(wait <= BACKOFF_MAX, "{attempt} {random}: {wait:?}");
                if attempt > 8 {
                    assert!(wait >= BACKOFF_MAX / 2, "{attempt} {random}: {wait:?}");
                }
            }
        }
    }

    #[test]
    fn only_a_connection_that_lasted_forgives_earlier_failures() {
        let tired = BackoffAttempt(9);
        assert_eq!(tired.after_end(None), BackoffAttempt(10));
        assert_eq!(
            tired.after_end(Some(BACKOFF_STEADY / 2)),
            BackoffAttempt(10)
        );
        assert_eq!(tired.after_end(Some(BACKOFF_STEADY)), BackoffAttempt(1));
        let last = BackoffAttempt(u32::MAX);
        assert_eq!(last.after_end(None), last);
    }
}
