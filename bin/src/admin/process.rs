//! What the kernel tells of this process.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Numbers under the names that every exporter has for them. What cannot be read is left out.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct ProcessNumbers {
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) open_files: Option<u64>,
    pub(super) open_files_max: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) start_seconds: Option<f64>,
}

impl ProcessNumbers {
    /// Reads them; `uptime` is ours, the kernel's would need the time at which the machine was started.
    pub(super) fn read(uptime: Duration) -> ProcessNumbers {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |name| status_number(&status, name).map(|kib| kib << 10);
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        ProcessNumbers {
            resident_bytes: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            threads: status_number(&status, "Threads:"),
            cpu_seconds: cpu_seconds(&fs::read_to_string("/proc/self/stat").unwrap_or_default()),
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| entries.count() as u64),
            open_files_max: open_files_max(&limits),
            start_seconds: start_seconds(uptime),
        }
    }
}

/// When the process began, as it was found out first: two clocks never agree to the last digit, and whoever counts how
/// often this number changes counts starts.
fn start_seconds(uptime: Duration) -> Option<f64> {
    static FOUND: OnceLock<Option<f64>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let started = SystemTime::now().checked_sub(uptime)?;
        let since = started.duration_since(UNIX_EPOCH).ok()?;
        Some(since.as_secs_f64())
    })
}

fn status_number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_files_max(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the kernel counts for user space is in hundredths of a second, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Of all threads, in user space and in the kernel.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The program's name comes second, in parentheses, and may hold anything.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_everything_of_this_process() {
        let numbers = ProcessNumbers::read(Duration::from_secs(1));
        assert!(numbers.resident_bytes > Some(0) && numbers.virtual_bytes > numbers.resident_bytes);
        assert!(numbers.threads > Some(0) && numbers.cpu_seconds.is_some());
        assert!(numbers.open_files > Some(0) && numbers.open_files_max >= numbers.open_files);
        assert!(numbers.start_seconds > Some(1e9));
    }

    /// Prometheus takes every change for a start.
    #[test]
    fn a_process_begins_once() {
        let first = ProcessNumbers::read(Duration::from_secs(5));
        let second = ProcessNumbers::read(Duration::from_secs(9));
        assert_eq!(first.start_seconds, second.start_seconds);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7"), None);
    }
}
