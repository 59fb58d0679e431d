//! Runs this program under callgrind and reads what it has counted.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use serde::Deserialize;

use super::load::counted;
use super::profile::{Profile, ProfileError};
use super::{Counted, Scenario, Timed};

/// Why nothing was counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallgrindError {
    #[error(
        "cannot run valgrind: {0}; it counts the instructions, and systems have a package of that name"
    )]
    Run(io::Error),
    #[error("cannot read what callgrind has written: {0}")]
    Read(io::Error),
    #[error("valgrind failed with {status}: {complaint}")]
    Failed {
        status: ExitStatus,
        complaint: String,
    },
    #[error("the report of the run under valgrind cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the report of the run under valgrind has no scenario")]
    NoScenario,
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(
        "the core was called {called} times and callgrind saw {collected} calls: what was counted is not the core"
    )]
    Calls { called: u64, collected: u64 },
}

/// The C library fills and copies memory with what the processor does best, some of which callgrind counts byte by byte.
/// With these features left aside it does the same on every x86-64; where it does not know one it passes over it.
const C_LIBRARY: &str =
    "glibc.cpu.hwcaps=-ERMS,-FSRM,-AVX_Fast_Unaligned_Load,-AVX2,-AVX512F,-AVX512VL";

/// The part of the report that this program writes under valgrind.
#[derive(Deserialize)]
struct Report {
    timed: Vec<Timed>,
}

/// Callgrind's output, removed with this value.
struct OutputFile(PathBuf);

impl OutputFile {
    fn new(scenario: Scenario) -> OutputFile {
        let name = format!(
            "metastore-perf-{}-{}-{}.callgrind",
            std::process::id(),
            scenario.replicas,
            scenario.batch
        );
        OutputFile(std::env::temp_dir().join(name))
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        // It may never have been written.
        let _removed = fs::remove_file(&self.0);
    }
}

/// The installed version, such as `valgrind-3.19.0`.
pub(super) fn version() -> Result<String, CallgrindError> {
    let output = Command::new("valgrind").arg("--version").output();
    let output = output.map_err(CallgrindError::Run)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a scenario under callgrind, which collects in the core alone.
pub(super) fn count(scenario: Scenario, puts: u64) -> Result<Counted, CallgrindError> {
    let file = OutputFile::new(scenario);
    let program = std::env::current_exe().map_err(CallgrindError::Run)?;
    let mut out_file = std::ffi::OsString::from("--callgrind-out-file=");
    out_file.push(&file.0);
    let output = Command::new("valgrind")
        // The environment lies on the stack and moves it: the same in every run.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GLIBC_TUNABLES", C_LIBRARY)
        .arg("--tool=callgrind")
        .arg(out_file)
        .arg(format!("--toggle-collect={}", counted::FUNCTIONS))
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(program)
        .args(["core", "--json", "-"])
        .args(["--replicas", &scenario.replicas.to_string()])
        .args(["--batch", &scenario.batch.to_string()])
        .args(["--puts", &puts.to_string()])
        .output()
        .map_err(CallgrindError::Run)?;
    if !output.status.success() {
        return Err(CallgrindError::Failed {
            status: output.status,
            complaint: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    let report: Report = serde_json::from_slice(&output.stdout)?;
    let [timed] = &report.timed[..] else {
        return Err(CallgrindError::NoScenario);
    };
    // The file is ASCII but for names, of which none of ours is anything else.
    let text = fs::read(&file.0).map_err(CallgrindError::Read)?;
    let profile = Profile::parse(&String::from_utf8_lossy(&text))?;
    let collected = profile.calls_from(counted::MODULE);
    // Each entry calls the core once, or a few times where a turn ends.
    if collected < timed.calls {
        return Err(CallgrindError::Calls {
            called: timed.calls,
            collected,
        });
    }
    Ok(Counted {
        scenario,
        puts: timed.puts,
        profile,
    })
}
