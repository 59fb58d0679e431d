//! Start, load, kill, start again, check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use metastore_sim::random::Random;

use crate::failure::{Cause, Failure};
use crate::full_disk::FullDiskRound;
use crate::load::Clock;
use crate::report::{Kill, Report};
use crate::server::{SEGMENT_BYTES, ServerError};
use crate::small_disk::SmallDisk;
use crate::store::{Life, Place, Store, WAIT_MAX};

/// What to do.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) rounds: u64,
    pub(crate) server: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) connections: u64,
    pub(crate) acknowledged_min: u64,
    pub(crate) full_disk_per_mille: u64,
}

/// A test through all its rounds.
pub(crate) struct CrashTest {
    options: Options,
    random: Random,
    clock: Clock,
    report: Report,
    /// The disk that others fill, if there can be one.
    disk: Option<SmallDisk>,
}

/// Rounds over one directory: the log of a server grows with each, and so does the time that a start takes.
const ROUNDS_PER_DIRECTORY: u64 = 20;

impl CrashTest {
    /// `disk` is the one that others fill, or why there is none.
    pub(crate) fn new(options: Options, disk: Result<SmallDisk, String>) -> CrashTest {
        let mut report = Report::default();
        let disk = disk
            .map_err(|why| report.full_disk.skipped_because = why)
            .ok();
        CrashTest {
            random: Random::new(options.seed),
            options,
            clock: Clock::default(),
            report,
            disk,
        }
    }

    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// Runs all rounds.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        let mut round = 0;
        while round < self.options.rounds {
            let (mut ordinary, mut small) = self.begin_stores(round)?;
            let end = (round + ROUNDS_PER_DIRECTORY).min(self.options.rounds);
            while round < end {
                if !self.random.chance(self.options.full_disk_per_mille) {
                    self.run_round(round, &mut ordinary)
                        .map_err(|cause| fail(round, cause, &ordinary.place().data))?;
                } else if let Some(small) = &mut small {
                    self.run_full_disk_round(round, small)?;
                } else {
                    self.report.full_disk.skipped += 1;
                }
                round += 1;
            }
            for store in [Some(ordinary), small].into_iter().flatten() {
                let place = store.place();
                remove(&place.data)
                    .and_then(|()| remove(&place.output))
                    .map_err(|cause| fail(round, cause, &place.data))?;
            }
        }
        Ok(())
    }

    /// Other data is another store: nobody knows anything of it.
    fn begin_stores(&mut self, round: u64) -> Result<(Store, Option<Store>), Failure> {
        let connections = self.options.connections;
        let mut begin = |name: &str, data: Option<PathBuf>| {
            let directory = &self.options.directory;
            let place = Place {
                data: data.unwrap_or_else(|| directory.join(format!("{name}-{round}"))),
                output: directory.join(format!("{name}-{round}.output")),
            };
            fs::create_dir_all(directory)
                .map_err(|source| Cause::Directory {
                    directory: directory.display().to_string(),
                    source,
                })
                .and_then(|()| remove(&place.data))
                .map_err(|cause| fail(round, cause, &place.data))?;
            Ok(Store::new(place, connections, &mut self.random))
        };
        let ordinary = begin("from", None)?;
        let small = match &mut self.disk {
            Some(disk) => {
                disk.free()
                    .map_err(|error| fail(round, error.into(), &disk.data()))?;
                Some(begin("full-disk-from", Some(disk.data()))?)
            }
            None => None,
        };
        Ok((ordinary, small))
    }

    /// Every fifth kill comes at a delicate moment.
    fn choose_kill(round: u64) -> Kill {
        match (round % 5, round / 5 % 3) {
            (4, 0) => Kill::Preparation,
            (4, 1) => Kill::Rotation,
            (4, _) => Kill::Recovery,
            _ => Kill::Load,
        }
    }

    fn run_round(&mut self, round: u64, store: &mut Store) -> Result<(), Cause> {
        let kill = Self::choose_kill(round);
        let repetitions = if kill == Kill::Recovery { 3 } else { 1 };
        for _ in 0..repetitions {
            let server = store.start(&self.options.server)?;
            *self.report.kills.entry(kill).or_default() += 1;
            let mut moment = Moment {
                random: self.random.fork(),
                acknowledged_min: self.options.acknowledged_min,
            };
            let load = &mut self.report.load;
            let ended = store.live(&self.clock, load, server, |life| moment.wait(kill, life));
            ended.into_result()?;
        }
        let mut server = store.start(&self.options.server)?;
        let mut client = server.connect()?;
        store.audit(&mut client, &mut self.report.load)?;
        self.report.kills_after_check += 1;
        Ok(server.kill()?)
    }

    fn run_full_disk_round(&mut self, round: u64, store: &mut Store) -> Result<(), Failure> {
        let disk = self.disk.as_mut().expect("its store is on it");
        let ran = FullDiskRound::new(
            &self.options.server,
            store,
            disk,
            (&self.clock, &mut self.report),
            self.random.fork(),
            self.options.acknowledged_min,
        )
        .run();
        ran.map_err(|cause| {
            // The disk goes with this process, and takes with it what would show why.
            let kept = self
                .options
                .directory
                .join(format!("full-disk-kept-{round}"));
            let copied = Command::new("cp")
                .args(["-r", "--sparse=always"])
                .args([&store.place().data, &kept])
                .status();
            match copied {
                Ok(status) if status.success() => fail(round, cause, &kept),
                Ok(_) | Err(_) => fail(round, cause, Path::new("nothing: copying it failed")),
            }
        })
    }
}

fn fail(round: u64, cause: Cause, kept: &Path) -> Failure {
    Failure {
        round,
        cause,
        kept: kept.display().to_string(),
    }
}

/// Removes a file, or a directory with what is in it, if it is there.
fn remove(path: &Path) -> Result<(), Cause> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Cause::Directory {
            directory: path.display().to_string(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Waits for the moment of a kill.
struct Moment {
    random: Random,
    acknowledged_min: u64,
}

impl Moment {
    fn wait(&mut self, kill: Kill, life: &mut Life<'_>) -> Result<(), Cause> {
        let came = match kill {
            Kill::Load => {
                let wanted = self.acknowledged_min + self.random.below(self.acknowledged_min + 1);
                let is_enough = life.wait_for_acknowledged(wanted)?;
                self.sleep_up_to_us(3_000);
                is_enough
            }
            Kill::Preparation => {
                self.sleep_up_to_us(150_000);
                true
            }
            Kill::Recovery => {
                self.sleep_up_to_us(20_000);
                true
            }
            Kill::Rotation => self.wait_for_rotation(life)?,
            Kill::FullDisk => unreachable!("rounds with a full disk choose their own moments"),
        };
        if came {
            return Ok(());
        }
        Err(Cause::Idle {
            acknowledged: life.acknowledged(),
            seconds: WAIT_MAX.as_secs(),
        })
    }

    fn wait_for_rotation(&mut self, life: &mut Life<'_>) -> Result<bool, ServerError> {
        let mut client = life.server.connect()?;
        // A start begins a segment, so what was written since is where the log stands in it.
        let margin_bytes = self.random.below(256 << 10);
        let is_near = life.wait_until(|| {
            let written_bytes = client.status().map(|status| status.log.record_bytes);
            written_bytes.is_ok_and(|bytes| bytes + margin_bytes >= SEGMENT_BYTES)
        })?;
        self.sleep_up_to_us(5_000);
        Ok(is_near)
    }

    fn sleep_up_to_us(&mut self, microseconds: u64) {
        std::thread::sleep(Duration::from_micros(self.random.below(microseconds)));
    }
}
