//! What Linux tells of a process under `/proc`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Ticks a second of the times in `/proc/<pid>/stat`: a constant of the interface to programs, whatever the kernel's
/// own timer does.
const TICKS_PER_SECOND: u64 = 100;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId(pub(crate) u32);

/// What a process has used since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ProcessUse {
    /// Time on a CPU, in the program and in the kernel, of all threads.
    pub(crate) cpu: Duration,
    /// Bytes that it caused to be written to storage. `None` when that may not be read.
    pub(crate) written_bytes: Option<u64>,
}

/// Why a process cannot be observed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not laid out as expected")]
    Layout { path: PathBuf },
    #[error("no process of this machine that may be inspected listens on port {port}")]
    NoListener { port: u16 },
}

impl ProcessId {
    /// This process.
    pub(crate) fn own() -> ProcessId {
        ProcessId(std::process::id())
    }

    /// The process that listens at an address of this machine.
    pub(crate) fn listening_at(address: SocketAddr) -> Result<ProcessId, ProcessError> {
        let port = address.port();
        let inodes: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .into_iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .flat_map(|table| listening_inodes(&table, port))
            .collect();
        holder_of(&inodes).ok_or(ProcessError::NoListener { port })
    }

    /// What the process has used up to now.
    pub(crate) fn usage(self) -> Result<ProcessUse, ProcessError> {
        let stat_path = PathBuf::from(format!("/proc/{}/stat", self.0));
        let stat = fs::read_to_string(&stat_path).map_err(|source| ProcessError::Read {
            path: stat_path.clone(),
            source,
        })?;
        let cpu = cpu_time(&stat).ok_or(ProcessError::Layout { path: stat_path })?;
        let io = fs::read_to_string(format!("/proc/{}/io", self.0)).ok();
        Ok(ProcessUse {
            cpu,
            written_bytes: io.as_deref().and_then(written_bytes),
        })
    }

    /// What it was started as, the path of its program first.
    pub(crate) fn command_line(self) -> Result<Vec<OsString>, ProcessError> {
        let read = |name: &str| PathBuf::from(format!("/proc/{}/{name}", self.0));
        let unreadable = |path: PathBuf| |source| ProcessError::Read { path, source };
        let program = read("exe");
        let program = fs::read_link(&program).map_err(unreadable(program))?;
        let line = read("cmdline");
        let line = fs::read(&line).map_err(unreadable(line))?;
        // Each argument ends with a zero. The first is the name by which the program was called.
        let arguments = line.split(|&byte| byte == 0).skip(1);
        let mut words: Vec<OsString> = arguments
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect();
        words.pop();
        words.insert(0, program.into());
        Ok(words)
    }

    /// Memory that the process has at present.
    pub(crate) fn resident_bytes(self) -> Option<u64> {
        resident_bytes(&fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?)
    }
}

impl ProcessUse {
    /// What several processes have used together. Bytes are known only where all of them are.
    pub(crate) fn sum(all: impl IntoIterator<Item = ProcessUse>) -> ProcessUse {
        let nothing = ProcessUse {
            cpu: Duration::ZERO,
            written_bytes: Some(0),
        };
        all.into_iter().fold(nothing, |sum, one| {
            let written_bytes = sum.written_bytes.zip(one.written_bytes);
            ProcessUse {
                cpu: sum.cpu + one.cpu,
                written_bytes: written_bytes.map(|(all, own)| all + own),
            }
        })
    }

    /// The same of processes that are looked at now.
    pub(crate) fn of_all(processes: &[ProcessId]) -> Result<ProcessUse, ProcessError> {
        let all = processes.iter().map(|process| process.usage());
        Ok(ProcessUse::sum(all.collect::<Result<Vec<_>, _>>()?))
    }

    /// What was used between two looks.
    pub(crate) fn since(&self, earlier: &ProcessUse) -> ProcessUse {
        let written_bytes = self.written_bytes.zip(earlier.written_bytes);
        ProcessUse {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written_bytes: written_bytes.map(|(now, then)| now.saturating_sub(then)),
        }
    }
}

/// Time that this thread has been on a CPU, to the nanosecond.
pub(crate) fn own_thread_cpu() -> Result<Duration, ProcessError> {
    let path = PathBuf::from("/proc/thread-self/schedstat");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(ProcessError::Read { path, source }),
    };
    let first = text.split(' ').next().and_then(|time| time.parse().ok());
    let nanoseconds = first.ok_or(ProcessError::Layout { path })?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// User and system time in a line of `/proc/<pid>/stat`. The name of the program stands in parentheses before them and
/// may itself contain anything, so fields are counted from the last parenthesis.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    // The state is field 3, user time field 14, system time field 15.
    let mut times = behind_name.split_ascii_whitespace().skip(14 - 3);
    let user_ticks: u64 = times.next()?.parse().ok()?;
    let system_ticks: u64 = times.next()?.parse().ok()?;
    let ticks = user_ticks + system_ticks;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// The bytes written in `/proc/<pid>/io`.
fn written_bytes(io: &str) -> Option<u64> {
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
}

/// The resident memory in `/proc/<pid>/status`, which counts in units of 1,024 bytes.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The inodes of sockets that listen on `port`, in a table such as `/proc/net/tcp`.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode_of = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let (_, local_port) = local.rsplit_once(':')?;
        let is_wanted = state == LISTEN && u16::from_str_radix(local_port, 16).ok()? == port;
        let inode = fields.nth(5)?.parse().ok()?;
        is_wanted.then_some(inode)
    };
    table.lines().skip(1).filter_map(inode_of).collect()
}

/// A process with one of these sockets among its open files.
fn holder_of(inodes: &[u64]) -> Option<ProcessId> {
    let wanted: Vec<PathBuf> = inodes
        .iter()
        .map(|inode| PathBuf::from(format!("socket:[{inode}]")))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            holds(&entry.path().join("fd"), &wanted).then_some(ProcessId(number))
        })
        .next()
}

/// Whether a directory of open files leads to one of the `wanted`. Processes of others cannot be read and do not count.
fn holds(open_files: &Path, wanted: &[PathBuf]) -> bool {
    let Ok(entries) = fs::read_dir(open_files) else {
        return false;
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| wanted.contains(&target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat =
            "4711 (a) b (c)) S 1 4711 4711 0 -1 4194304 900 0 12 0 250 125 7 8 20 0 3 0 99 1 2";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(3_750)));
        assert_eq!(cpu_time("4711 (short) S 1 2"), None);
        assert_eq!(cpu_time(""), None);
    }

    #[test]
    fn written_bytes_are_not_the_written_characters() {
        let io = "rchar: 10\nwchar: 20\nsyscr: 1\nsyscw: 2\nread_bytes: 30\nwrite_bytes: 40960\n\
                  cancelled_write_bytes: 5\n";
        assert_eq!(written_bytes(io), Some(40_960));
        assert_eq!(written_bytes("rchar: 10\n"), None);
    }

    #[test]
    fn processes_are_summed_and_unknown_bytes_make_the_sum_unknown() {
        let one = |cpu_ms, written_bytes| ProcessUse {
            cpu: Duration::from_millis(cpu_ms),
            written_bytes,
        };
        let sum = ProcessUse::sum([one(10, Some(100)), one(20, Some(50))]);
        assert_eq!(sum, one(30, Some(150)));
        let sum = ProcessUse::sum([one(10, Some(100)), one(20, None)]);
        assert_eq!(sum, one(30, None));
        assert_eq!(ProcessUse::sum([]), one(0, Some(0)));
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        let status = "Name:\tstore\nVmHWM:\t    9000 kB\nVmRSS:\t    2048 kB\n";
        assert_eq!(resident_bytes(status), Some(2 << 20));
        assert_eq!(resident_bytes("Name:\tkernel\n"), None);
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20501 1 0 100 0\n\
             1: 0100007F:1CE8 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 20777 1 0 20 4\n\
             2: 0100007F:1CE9 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20999 1 0 100 0\n";
        assert_eq!(listening_inodes(table, 7400), [20_501]);
        assert_eq!(listening_inodes(table, 7401), [20_999]);
        assert!(listening_inodes(table, 7402).is_empty());
    }

    #[test]
    fn our_own_listener_is_found_and_our_use_grows() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let process = ProcessId::listening_at(address).unwrap();
        assert_eq!(process, ProcessId::own());
        drop(listener);
        let missing = ProcessId::listening_at(address);
        assert!(matches!(missing, Err(ProcessError::NoListener { .. })));

        let before = process.usage().unwrap();
        let mut random = crate::random::Random::new(1);
        let mut after = before;
        let mut sum = 0;
        while after.since(&before).cpu < Duration::from_millis(20) {
            sum ^= (0..1_000_000).fold(0, |mixed, _| mixed ^ random.next_u64());
            after = process.usage().unwrap();
        }
        assert!(after.cpu > before.cpu, "{sum}");
    }
}
