//! How busy the whole machine is: numbers that were measured beside other work are worth little.

use std::fs;
use std::time::Duration;

/// Ticks a second of the times in `/proc/stat`, a constant of the interface to programs.
const TICKS_PER_SECOND: u64 = 100;

/// Other processes may take this much of a CPU before a report warns of them.
pub(crate) const OTHERS_SHARE_MAX: f64 = 0.1;

/// Time that all CPUs together have spent on anything at all, the time that the host took away included. `None` when
/// the kernel does not say.
pub(crate) fn busy_time() -> Option<Duration> {
    busy_time_in(&fs::read_to_string("/proc/stat").ok()?)
}

/// In the first line: user, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen.
fn busy_time_in(stat: &str) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields = line.split_ascii_whitespace().take(8);
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[
        user,
        nice,
        system,
        _idle,
        _waiting,
        interrupts,
        soft_interrupts,
        stolen,
    ] = ticks.as_slice()
    else {
        return None;
    };
    let busy_ticks = user + nice + system + interrupts + soft_interrupts + stolen;
    Some(Duration::from_millis(busy_ticks * 1_000 / TICKS_PER_SECOND))
}

/// What others took, in CPUs, while all CPUs were busy for `busy` and those that are measured for `measured`.
pub(crate) fn others_share(busy: Duration, measured: Duration, elapsed: Duration) -> f64 {
    busy.saturating_sub(measured).as_secs_f64() / elapsed.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idling_and_waiting_are_not_busy() {
        let stat = "cpu  100 10 50 9000 800 3 7 30 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(busy_time_in(stat), Some(Duration::from_secs(2)));
        assert_eq!(busy_time_in("cpu  1 2 3\n"), None);
        assert_eq!(busy_time_in("intr 1\n"), None);
    }

    #[test]
    fn what_is_measured_is_not_others() {
        let seconds = Duration::from_secs_f64;
        assert!((others_share(seconds(5.0), seconds(4.0), seconds(2.0)) - 0.5).abs() < 1e-9);
        assert_eq!(others_share(seconds(3.9), seconds(4.0), seconds(2.0)), 0.0);
    }
}
