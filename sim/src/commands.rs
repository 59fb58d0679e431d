//! The commands of `metastore-sim` that run clusters.

use std::fs::OpenOptions;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Args;
use metastore_sim::campaign::{Campaign, Done, Pace, next_seed, run_seed};
use metastore_sim::cluster::event_log::EventLog;
use metastore_sim::oracle::Checkers;

/// Which bug to plant: none where none can be.
#[derive(Debug, Args)]
pub(crate) struct PlantedMutant {
    /// A bug to plant; the run must find it and fail.
    #[cfg(feature = "bug-bank")]
    #[arg(long)]
    mutant: Option<metastore_bugs::Mutant>,
}

impl PlantedMutant {
    /// Plants it for as long as what is returned lives.
    #[cfg(feature = "bug-bank")]
    pub(crate) fn plant(&self) -> Option<metastore_bugs::Planted> {
        self.mutant.map(metastore_bugs::plant)
    }

    /// There is none.
    #[cfg(not(feature = "bug-bank"))]
    pub(crate) fn plant(&self) -> NothingPlanted {
        NothingPlanted
    }
}

/// What a program holds in which no bug can be planted.
#[cfg(not(feature = "bug-bank"))]
pub(crate) struct NothingPlanted;

/// Which seeds to run.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// How many seeds at most; without it 100, or as many as `--minutes` allow.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed; without it the one behind the last in `--out`, or one that is drawn and printed.
    #[arg(long)]
    from: Option<u64>,
    /// Begins no further seed after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    #[command(flatten)]
    mutant: PlantedMutant,
    /// A file that gets a line of JSON for every range of seeds that is done, and from which the next run goes on.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Which seed to run once more.
#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The seed.
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    mutant: PlantedMutant,
    /// Prints one line an event: time in milliseconds, place, what happened, details.
    #[arg(long)]
    trace: bool,
}

/// Seeds of a run that says neither how many nor how long.
const SEEDS_DEFAULT: u64 = 100;
/// Seeds between two lines of the file.
const SEEDS_PER_LINE: u64 = 50;

/// The clocks of a person who waits.
struct Watch {
    until: Option<Instant>,
}

impl Pace for Watch {
    fn cpu(&self) -> Duration {
        cpu()
    }

    fn has_time(&self) -> bool {
        self.until.is_none_or(|until| now() < until)
    }
}

/// How much time of the processor the process has taken so far.
pub(crate) fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a person who waits has a clock; no world sees it"
)]
fn now() -> Instant {
    Instant::now()
}

/// Runs seeds.
pub(crate) fn run(arguments: &RunArguments) -> ExitCode {
    match try_run(arguments) {
        Ok(code) => code,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A seed that nobody has chosen, with room for many behind it.
#[expect(
    clippy::disallowed_types,
    reason = "where a run begins is drawn once and printed; no world sees it"
)]
fn draw_seed() -> u64 {
    let chance = std::hash::RandomState::new().build_hasher().finish();
    1 + chance % (1 << 40)
}

fn try_run(arguments: &RunArguments) -> Result<ExitCode, String> {
    let _planted = arguments.mutant.plant();
    let out = arguments.out.as_deref();
    let done_before = out.map_or(Ok(None), next_seed_of)?;
    let from = arguments.from.or(done_before).unwrap_or_else(draw_seed);
    let minutes = arguments
        .minutes
        .map(|minutes| Duration::from_secs(60 * minutes));
    let watch = Watch {
        until: minutes.map(|minutes| now() + minutes),
    };
    let commit = commit();
    println!("run, from seed {from}, commit {commit}");
    let seeds = arguments.seeds.unwrap_or(match minutes {
        Some(_) => u64::MAX,
        None => SEEDS_DEFAULT,
    });
    let mut all = Done::begin_at(from);
    while all.seeds < seeds && watch.has_time() {
        let campaign = Campaign {
            from: from + all.seeds,
            seeds: SEEDS_PER_LINE.min(seeds - all.seeds),
        };
        let (done, broken) = campaign.run(&watch);
        if let (Some(out), true) = (out, done.seeds > 0) {
            append(out, &done.to_json(&commit))?;
        }
        all.add(&done);
        if let Some(broken) = broken {
            println!("{all}\n\nin the world that broke:\n{broken}\ncommit: {commit}");
            return Ok(ExitCode::FAILURE);
        }
    }
    println!("{all}\nno promise was broken");
    Ok(ExitCode::SUCCESS)
}

/// Runs one seed once more.
pub(crate) fn replay(arguments: &ReplayArguments) -> ExitCode {
    let _planted = arguments.mutant.plant();
    let event_log = arguments.trace.then(|| EventLog::new(Box::new(print_line)));
    match run_seed(arguments.seed, Checkers::All, event_log) {
        Ok(report) => {
            println!("{report}\nno promise was broken");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{broken}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. Whoever has read enough closes the pipe, and that is no failure of the world.
fn print_line(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

fn next_seed_of(path: &Path) -> Result<Option<u64>, String> {
    let lines = match std::fs::read_to_string(path) {
        Ok(lines) => lines,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    next_seed(&lines)
        .map_err(|line| format!("{}: line {line} is not one of a campaign", path.display()))
}

fn append(path: &Path, line: &str) -> Result<(), String> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| writeln!(file, "{line}"))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The commit of the working directory, because a seed means something only together with the program.
fn commit() -> String {
    let described = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .output();
    match described {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        Ok(_) | Err(_) => String::from("unknown"),
    }
}
