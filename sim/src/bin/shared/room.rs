//! Namespaces of mounts and processes, in which the rounds run that mount a disk of their own.
//!
//! The kernel takes a room down with its first process: every other process in it is killed, its mounts go, and with the
//! last mount the loop device. So nothing is left behind by any ending, not by a panic and not by `kill -9`. The first
//! process ends when its standard input does, whose other end only the process outside holds.
//!
//! It keeps nothing from anybody: the processes in it see all files and the whole network.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use thiserror::Error;

/// What the program is told when it runs inside, as its first argument.
pub(crate) const INSIDE: &str = "--inside";

const NAMESPACES: [&str; 5] = [
    "--mount",
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
];

/// Why there is no room.
#[derive(Debug, Error)]
pub(crate) enum NoRoom {
    /// Only root makes mounts.
    #[error("this is not root")]
    NotRoot,
    /// The tool is missing.
    #[error("unshare: {0}")]
    Tool(io::Error),
    /// The system does not let root do it.
    #[error("unshare: {0}")]
    Refused(String),
}

/// Runs this program inside, with the arguments it was given, and says how it ended. What `on_begun` makes, which is told
/// the process that holds the room, is dropped when the room is gone.
pub(crate) fn run_inside<T>(on_begun: impl FnOnce(u32) -> T) -> Result<ExitCode, NoRoom> {
    let effective_user = fs::metadata("/proc/self").map(|facts| facts.uid());
    if effective_user.is_ok_and(|user| user != 0) {
        return Err(NoRoom::NotRoot);
    }
    let tried = unshare(OsStr::new("true")).output().map_err(NoRoom::Tool)?;
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        return Err(NoRoom::Refused(said));
    }
    let program = std::env::current_exe().map_err(NoRoom::Tool)?;
    let mut inside = unshare(program.as_os_str())
        .arg(INSIDE)
        .args(std::env::args_os().skip(1))
        .stdin(Stdio::piped())
        .spawn()
        .map_err(NoRoom::Tool)?;
    // Waiting would close it, and end the process inside.
    let held = inside.stdin.take();
    let beside = on_begun(inside.id());
    let status = inside.wait().map_err(NoRoom::Tool)?;
    drop((held, beside));
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn unshare(program: &OsStr) -> Command {
    let mut command = Command::new("unshare");
    command.args(NAMESPACES).arg("--").arg(program);
    command.stdin(Stdio::null());
    command
}

/// Ends this process, and with it the room, as soon as nobody outside waits for it. `images` are what would be left behind
/// if that came while a disk is being made.
#[expect(
    clippy::disallowed_methods,
    reason = "real processes are watched in real time, and this thread touches nothing that is decided by the seed"
)]
pub(crate) fn end_with_outside(images: Vec<PathBuf>) {
    std::thread::spawn(move || {
        let mut nothing = [0; 1];
        // Nobody writes to it: it is over, however reading ends.
        let _ended = io::stdin().read(&mut nothing);
        for image in images {
            let _gone_already = fs::remove_file(image);
        }
        std::process::exit(1);
    });
}
