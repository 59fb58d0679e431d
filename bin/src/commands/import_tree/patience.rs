//! How long to go on with a server that has no room or no leader at the moment.

use std::thread;
use std::time::{Duration, Instant};

use metastore_net::{ErrorCode, WireError};

/// How long to leave a busy server alone, when it does not say.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Waits between attempts, and gives up when nothing has succeeded for a time.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    failing_since: Option<Instant>,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Patience {
        Patience {
            limit,
            failing_since: None,
        }
    }

    /// Something succeeded.
    pub(super) fn on_success(&mut self) {
        self.failing_since = None;
    }

    /// Waits as long as the server asks for and says whether another attempt makes sense.
    pub(super) fn wait(&mut self, error: &WireError) -> bool {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if !is_passing(error) || since.elapsed() > self.limit {
            return false;
        }
        let asked = Duration::from_millis(u64::from(error.retry_after_ms));
        thread::sleep(asked.clamp(PAUSE, PAUSE_MAX));
        true
    }
}

/// Whether the same request may succeed a little later.
pub(super) fn is_passing(error: &WireError) -> bool {
    let passing = [
        ErrorCode::Overloaded,
        ErrorCode::Unavailable,
        ErrorCode::NotLeader,
        ErrorCode::Deadline,
        ErrorCode::PinLost,
    ];
    passing.contains(&error.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_is_waited_for_and_not_for_ever() {
        let overloaded = WireError::new(ErrorCode::Overloaded);
        let mut patience = Patience::new(Duration::from_secs(60));
        assert!(patience.wait(&overloaded));
        assert!(!patience.wait(&WireError::new(ErrorCode::TooLarge)));
        let mut patience = Patience::new(Duration::ZERO);
        patience.failing_since = Some(Instant::now() - Duration::from_secs(1));
        assert!(!patience.wait(&overloaded));
        patience.on_success();
        assert_eq!(patience.failing_since, None);
    }
}
