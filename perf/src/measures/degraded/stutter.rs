//! A process that stands still for a moment, goes on for a moment, and stands still again.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::PerfError;
use crate::process::ProcessId;

/// How long the process stands still, and how long it then goes on.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// The shell sends what it is told. Its input ends with this process, however that ends, and the other one goes on then.
const SCRIPT: &str = r#"while read -r signal; do kill -"$signal" "$0"; done; kill -CONT "$0""#;

/// Stops a process with SIGSTOP and lets it go on with SIGCONT, in turns, until this value ends. It goes on then.
#[derive(Debug)]
pub(super) struct Stutter {
    /// One shell for all signals: a process for each of them would take the CPU that is measured.
    shell: Child,
    /// What ends the turns. `None` when they have ended.
    turns: Option<(Sender<()>, JoinHandle<u64>)>,
}

impl Stutter {
    /// Begins with a stop.
    pub(super) fn start(process: ProcessId) -> Result<Stutter, PerfError> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, &process.0.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(PerfError::NoShell)?;
        let signals = shell.stdin.take().expect("its input is a pipe");
        let (is_over, over) = mpsc::channel();
        let turns = thread::spawn(move || take_turns(signals, &over));
        Ok(Stutter {
            shell,
            turns: Some((is_over, turns)),
        })
    }

    /// Lets the process go on for good, and says how often it was stopped.
    pub(super) fn end(mut self) -> u64 {
        self.stop()
    }

    fn stop(&mut self) -> u64 {
        let Some((is_over, turns)) = self.turns.take() else {
            return 0;
        };
        drop(is_over);
        let stops = turns.join().unwrap_or(0);
        // The end of its input was all that it waited for.
        let _status = self.shell.wait();
        stops
    }
}

impl Drop for Stutter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends signals in turns until that is over. Says how many stops were sent.
fn take_turns(mut signals: ChildStdin, over: &Receiver<()>) -> u64 {
    let mut stops = 0;
    loop {
        for signal in ["STOP\n", "CONT\n"] {
            // Without the shell there is nobody who could stop the process either.
            if signals.write_all(signal.as_bytes()).is_err() {
                return stops;
            }
            stops += u64::from(signal == "STOP\n");
            if over.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                return stops;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Instant;

    /// Whether a process stands still by a signal.
    fn is_stopped(process: ProcessId) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.0)).unwrap();
        let (_, behind_name) = stat.rsplit_once(')').unwrap();
        behind_name.trim_start().starts_with('T')
    }

    fn await_stopped(process: ProcessId, wanted: bool) {
        let began = Instant::now();
        while is_stopped(process) != wanted {
            assert!(began.elapsed() < Duration::from_secs(20), "{wanted}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_process_is_stopped_again_and_again_and_goes_on_at_the_end() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = ProcessId(child.id());
        let stutter = Stutter::start(process).unwrap();
        for _ in 0..3 {
            await_stopped(process, true);
            await_stopped(process, false);
        }
        await_stopped(process, true);
        assert!(stutter.end() >= 4);
        assert!(!is_stopped(process));

        // So it does when nobody ends it in so many words, as after an error.
        let stutter = Stutter::start(process).unwrap();
        await_stopped(process, true);
        drop(stutter);
        assert!(!is_stopped(process));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_gone_is_no_trouble() {
        let mut child = Command::new("true").spawn().unwrap();
        let process = ProcessId(child.id());
        child.wait().unwrap();
        let stutter = Stutter::start(process).unwrap();
        thread::sleep(3 * PAUSE);
        stutter.end();
    }
}
