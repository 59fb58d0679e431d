//! A process outside of the room that thaws what others froze and left so.
//!
//! It lives in the room's namespace of mounts, and not in that of its processes: it goes on when the room is being taken down,
//! which would wait for processes that wait for a frozen file system. It ends, after it has thawed everything, when its
//! standard input does, whose other end the process outside holds.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::disks::run_fsfreeze;

/// What the program is told when it is the guard.
pub(crate) const GUARD: &str = "--guard";

/// Nobody means to freeze anything for longer.
const FROZEN_MAX: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the process that holds a room may take to make it.
const ROOM_MAX: Duration = Duration::from_secs(5);
/// How long the guard may take to be there. Where there is none, nothing is frozen.
const READY_MAX: Duration = Duration::from_secs(2);

/// Holds the guard. Dropped, the guard thaws what is frozen and ends.
pub(crate) struct Guard {
    child: Child,
}

/// A file that says what is frozen, as long as this lives.
pub(crate) struct Noted(PathBuf);

/// Where notes of frozen file systems are, in the directory of the test, which both sides see.
pub(crate) fn notes(directory: &Path) -> PathBuf {
    directory.join("frozen")
}

/// A file that is there when the guard is.
pub(crate) fn ready(directory: &Path) -> PathBuf {
    notes(directory).join("ready")
}

/// Waits a moment for the guard, which is started beside this process.
pub(crate) fn await_ready(directory: &Path) {
    let waiting = crate::stopwatch::Stopwatch::start();
    while waiting.passed() < READY_MAX && fs::metadata(ready(directory)).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Notes, in their directory, that a file system is about to be frozen.
pub(crate) fn note(notes: &Path, at: &Path) -> Noted {
    let name = at
        .as_os_str()
        .as_bytes()
        .escape_ascii()
        .to_string()
        .replace('/', "_");
    let path = notes.join(format!("at{name}"));
    // Without a note nothing is lost but the guard.
    let _written = fs::write(&path, at.as_os_str().as_bytes());
    Noted(path)
}

impl Drop for Noted {
    fn drop(&mut self) {
        let _removed = fs::remove_file(&self.0);
    }
}

impl Guard {
    /// Starts the guard of the room that a process holds; `None` where that is not possible.
    pub(crate) fn start(holder: u32, directory: &Path) -> Option<Guard> {
        let children = format!("/proc/{holder}/task/{holder}/children");
        let waiting = crate::stopwatch::Stopwatch::start();
        let first = loop {
            let text = fs::read_to_string(&children).ok()?;
            if let Some(first) = text.split_whitespace().next() {
                break first.to_owned();
            }
            if waiting.passed() > ROOM_MAX {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let program = std::env::current_exe().ok()?;
        // Who enters a namespace of mounts begins at its root.
        let directory = std::path::absolute(directory).ok()?;
        let mut guard = Command::new("nsenter");
        guard.args(["--target", &first, "--mount", "--"]);
        guard
            .arg(program)
            .arg(GUARD)
            .arg("--directory")
            .arg(directory);
        guard.stdin(Stdio::piped());
        let child = guard.spawn().ok()?;
        Some(Guard { child })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

/// Is the guard, until nobody is left to guard.
#[expect(
    clippy::disallowed_methods,
    reason = "real file systems are watched in real time, and nothing here is decided by a seed"
)]
pub(crate) fn watch(directory: &Path) -> ExitCode {
    let notes = notes(directory);
    if fs::create_dir_all(&notes)
        .and_then(|()| File::create(ready(directory)).map(drop))
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    std::thread::spawn(move || {
        // Nobody writes to it: it is over, however reading ends.
        let _ended = io::stdin().read(&mut [0; 1]);
        over.store(true, Ordering::Relaxed);
    });
    loop {
        let over = is_over.load(Ordering::Relaxed);
        for (note, at) in frozen(&notes, over) {
            run_fsfreeze("--unfreeze", &at);
            let _removed = fs::remove_file(note);
        }
        if over {
            let _removed = fs::remove_dir_all(&notes);
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What has been frozen for too long, or all of it, each with its note.
fn frozen(notes: &Path, all: bool) -> Vec<(PathBuf, PathBuf)> {
    let mut frozen = Vec::new();
    for entry in fs::read_dir(notes).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|facts| facts.modified());
        let age = age.ok().and_then(|at| at.elapsed().ok());
        let is_too_long = all || age.is_some_and(|age| age > FROZEN_MAX);
        let is_note = entry.file_name().as_bytes().starts_with(b"at");
        if is_note
            && is_too_long
            && let Ok(at) = fs::read(entry.path())
        {
            let at = std::ffi::OsStr::from_bytes(&at);
            frozen.push((entry.path(), PathBuf::from(at)));
        }
    }
    frozen
}
