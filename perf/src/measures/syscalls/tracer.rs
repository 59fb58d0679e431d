//! Counts the system calls of processes while they work.

use std::fs;
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::process::ProcessId;

/// How long a tool may take until it watches, and to report when it is told to end.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// perf gives no sign when it has begun.
const PERF_START: Duration = Duration::from_millis(300);

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tool {
    /// The kernel's trace point, read by `perf stat`.
    Kernel,
    Strace,
}

/// System calls by name, most first; without names where the tool knows none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct SystemCalls {
    pub(super) by_name: Vec<(String, u64)>,
    unnamed: u64,
}

/// Why nothing was counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TracerError {
    #[error("neither strace nor perf can count system calls here: install strace")]
    NoTool,
    #[error("cannot run {tool}: {source}")]
    Run {
        tool: &'static str,
        source: io::Error,
    },
    #[error("{tool} does not watch the process: {complaint}")]
    NotWatching {
        tool: &'static str,
        complaint: String,
    },
    #[error("{tool}'s report cannot be read: {report}")]
    Report { tool: &'static str, report: String },
}

/// A tool that watches processes. It ends with this value.
pub(super) struct Tracer {
    tool: Tool,
    child: Child,
}

impl Tool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Tool::Kernel => "perf stat",
            Tool::Strace => "strace",
        }
    }

    /// Those that can be used here, the one that disturbs least first.
    pub(super) fn available() -> Result<Vec<Tool>, TracerError> {
        let mut tools = Vec::new();
        if counts_in_kernel() {
            tools.push(Tool::Kernel);
        }
        if Command::new("strace").arg("--version").output().is_ok() {
            tools.push(Tool::Strace);
        }
        match tools.is_empty() {
            true => Err(TracerError::NoTool),
            false => Ok(tools),
        }
    }

    fn command(self, processes: &[ProcessId]) -> Command {
        let numbers = processes.iter().map(|process| process.0.to_string());
        match self {
            Tool::Kernel => {
                let list = numbers.collect::<Vec<_>>().join(",");
                let mut command = Command::new("perf");
                command.args(["stat", "-x,", "-e", TRACE_POINT, "-p", &list]);
                command
            }
            Tool::Strace => {
                let mut command = Command::new("strace");
                command.args(["-c", "-f", "-q"]);
                for number in numbers {
                    command.args(["-p", &number]);
                }
                command
            }
        }
    }
}

const TRACE_POINT: &str = "raw_syscalls:sys_enter";

/// Whether perf may read the trace point: it counts a program that makes some calls.
fn counts_in_kernel() -> bool {
    let output = Command::new("perf")
        .args(["stat", "-x,", "-e", TRACE_POINT, "--", "true"])
        .output();
    output.is_ok_and(|output| kernel_count(&String::from_utf8_lossy(&output.stderr)).is_some())
}

impl Tracer {
    /// Begins to count.
    pub(super) fn attach(tool: Tool, processes: &[ProcessId]) -> Result<Tracer, TracerError> {
        let child = tool
            .command(processes)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| TracerError::Run {
                tool: tool.name(),
                source,
            })?;
        let mut tracer = Tracer { tool, child };
        match tool {
            Tool::Kernel => thread::sleep(PERF_START),
            Tool::Strace => tracer.wait_for_trace(processes)?,
        }
        Ok(tracer)
    }

    /// Every thread of a process that is traced names its tracer.
    fn wait_for_trace(&mut self, processes: &[ProcessId]) -> Result<(), TracerError> {
        let started = Instant::now();
        while !processes.iter().copied().all(is_traced) {
            let has_ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if has_ended || started.elapsed() > PATIENCE {
                let _killed = self.child.kill();
                return Err(TracerError::NotWatching {
                    tool: self.tool.name(),
                    complaint: self.complaint(),
                });
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Ends the count.
    pub(super) fn detach(mut self) -> Result<SystemCalls, TracerError> {
        let tool = self.tool.name();
        let failed = |source| TracerError::Run { tool, source };
        // Both report when they are interrupted.
        Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status()
            .map_err(failed)?;
        let report = self.complaint();
        self.child.wait().map_err(failed)?;
        let calls = match self.tool {
            Tool::Kernel => kernel_count(&report).map(|unnamed| SystemCalls {
                by_name: Vec::new(),
                unnamed,
            }),
            Tool::Strace => strace_counts(&report),
        };
        calls.ok_or(TracerError::Report { tool, report })
    }

    /// What it says until it ends.
    fn complaint(&mut self) -> String {
        let mut text = Vec::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What was read before an error is all that there is to tell.
            let _read = stderr.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It has ended already unless something went wrong.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

impl SystemCalls {
    /// All of them.
    pub(super) fn total(&self) -> u64 {
        let named = self.by_name.iter().map(|(_, calls)| calls);
        named.sum::<u64>() + self.unnamed
    }
}

fn is_traced(process: ProcessId) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", process.0)) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let mut lines = status.lines();
        let tracer = lines.find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|tracer| tracer.trim() != "0")
    })
}

/// The number before the trace point's name, such as `1234,,raw_syscalls:sys_enter,1000,100.00,,`.
fn kernel_count(report: &str) -> Option<u64> {
    let line = report.lines().find(|line| line.contains(TRACE_POINT))?;
    line.split(',').next()?.trim().parse().ok()
}

/// The rows of strace's table: share, seconds, microseconds a call, calls, perhaps errors, and the name.
fn strace_counts(report: &str) -> Option<SystemCalls> {
    let mut by_name = Vec::new();
    for line in report.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_row = matches!(words.len(), 5 | 6) && words[0].parse::<f64>().is_ok();
        if !is_row || words[words.len() - 1] == "total" {
            continue;
        }
        by_name.push((words[words.len() - 1].to_owned(), words[3].parse().ok()?));
    }
    by_name.sort_by(|a: &(String, u64), b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    (!by_name.is_empty()).then_some(SystemCalls {
        by_name,
        unnamed: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRACE: &str = "\
strace: Process 7 attached with 3 threads
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 70.45    0.001218         304       400       200 recvfrom
  9.66    0.000167           5       900           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.001729           8      1300       200 total
";

    #[test]
    fn the_rows_of_a_report_are_counted() {
        let calls = strace_counts(STRACE).unwrap();
        let expected = [("sendto".to_owned(), 900), ("recvfrom".to_owned(), 400)];
        assert_eq!(calls.by_name, expected);
        assert_eq!(calls.total(), 1_300);
        assert_eq!(
            strace_counts("strace: attach: Operation not permitted"),
            None
        );
        let unreadable = STRACE.replace(" 900 ", " many ");
        assert_eq!(strace_counts(&unreadable), None);
    }

    #[test]
    fn a_count_that_was_not_made_is_none() {
        let line = |count: &str| format!("\n{count},,raw_syscalls:sys_enter,1000,100.00,,\n");
        assert_eq!(kernel_count(&line("1234")), Some(1_234));
        assert_eq!(kernel_count(&line("<not counted>")), None);
        assert_eq!(kernel_count("Access denied"), None);
    }

    #[test]
    fn all_processes_are_watched_together() {
        let processes = [ProcessId(7), ProcessId(8)];
        let words = |tool: Tool| -> Vec<String> {
            let command = tool.command(&processes);
            let words = command.get_args().map(|word| word.to_string_lossy());
            words.map(|word| word.into_owned()).collect()
        };
        assert_eq!(words(Tool::Kernel)[4..], ["-p", "7,8"]);
        assert_eq!(words(Tool::Strace)[3..], ["-p", "7", "-p", "8"]);
    }

    #[test]
    fn a_process_that_is_not_there_cannot_be_watched() {
        // Where strace is not installed it cannot be run, which is an error too.
        let refused = Tracer::attach(Tool::Strace, &[ProcessId(0)]);
        assert!(matches!(
            refused,
            Err(TracerError::NotWatching { .. } | TracerError::Run { .. })
        ));
        assert!(!is_traced(ProcessId::own()));
    }
}
