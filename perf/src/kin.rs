//! Processes that a process of ours has started, so that none of them outlives a measurement.

use std::fs;
use std::process::{Command, Stdio};

use crate::process::ProcessId;

/// A process with the time of its start: another one that is given its number later is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kin {
    process: ProcessId,
    /// Ticks since the machine's start.
    started: u64,
}

/// What a line of `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Descent {
    is_zombie: bool,
    parent: u32,
    started: u64,
}

impl Kin {
    /// The running children of a process.
    pub(crate) fn children_of(parent: ProcessId) -> Vec<Kin> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let child = |entry: fs::DirEntry| {
            let process = ProcessId(entry.file_name().to_str()?.parse().ok()?);
            let descent = Descent::of(process)?;
            (descent.parent == parent.0 && !descent.is_zombie).then_some(Kin {
                process,
                started: descent.started,
            })
        };
        entries.flatten().filter_map(child).collect()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&self) -> bool {
        Descent::of(self.process)
            .is_some_and(|descent| descent.started == self.started && !descent.is_zombie)
    }

    /// Kills it, if it still runs.
    pub(crate) fn kill(&self) {
        if self.is_running() {
            send_signal(self.process, "KILL");
        }
    }
}

/// Sends a signal by its name. Says whether it was sent.
pub(crate) fn send_signal(process: ProcessId, signal: &str) -> bool {
    // Every shell has `kill`, while the program of that name is in a package of its own.
    let sent = Command::new("sh")
        .args(["-c", "kill -\"$0\" \"$1\"", signal, &process.0.to_string()])
        .stderr(Stdio::null())
        .status();
    sent.is_ok_and(|status| status.success())
}

impl Descent {
    fn of(process: ProcessId) -> Option<Descent> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.0)).ok()?;
        Descent::parse(&stat)
    }

    /// The name of the program stands in parentheses and may itself contain anything, so fields are counted from the
    /// last parenthesis: the state is field 3, the parent field 4, the start field 22.
    fn parse(stat: &str) -> Option<Descent> {
        let (_, behind_name) = stat.rsplit_once(')')?;
        let mut fields = behind_name.split_ascii_whitespace();
        let is_zombie = fields.next()? == "Z";
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(22 - 5)?.parse().ok()?;
        Some(Descent {
            is_zombie,
            parent,
            started,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_is_found_behind_any_name() {
        let stat =
            "4711 (a) b (c)) S 17 4711 4711 0 -1 4194304 900 0 12 0 250 125 7 8 20 0 3 0 99 1 2";
        let expected = Descent {
            is_zombie: false,
            parent: 17,
            started: 99,
        };
        assert_eq!(Descent::parse(stat), Some(expected));
        let zombie = Descent::parse(&stat.replace(") S", ") Z")).unwrap();
        assert!(zombie.is_zombie);
        assert_eq!(Descent::parse("4711 (short) S 1 2"), None);
    }

    #[test]
    fn a_child_is_known_until_it_has_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let own = ProcessId(child.id());
        let children = Kin::children_of(ProcessId::own());
        let kin = *children.iter().find(|kin| kin.process == own).unwrap();
        assert!(kin.is_running());
        let other = Kin {
            started: kin.started + 1,
            ..kin
        };
        assert!(!other.is_running(), "the number was given to another one");
        other.kill();
        assert!(kin.is_running());
        kin.kill();
        child.wait().unwrap();
        assert!(!kin.is_running());
    }
}
