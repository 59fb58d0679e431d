//! A full disk under a server that runs: it is filled, held full while every answer is judged, and freed.

use std::time::Duration;

use metastore_sim::random::Random;
use metastore_wal::device::FileSystemSpace;

use crate::failure::Cause;
use crate::promise::{Answer, Asked, Broken, Shown, is_of_the_disk, judge};
use crate::report::FullDiskReport;
use crate::small_disk::SmallDisk;
use crate::stopwatch::Stopwatch;
use crate::store::{Life, WAIT_MAX};

/// The disk, what is known of its room, and what was seen meanwhile.
pub(crate) struct Siege<'a> {
    disk: &'a mut SmallDisk,
    random: Random,
    report: &'a mut FullDiskReport,
    room: RecentRoom,
}

/// What was free in the last [`RECENT`].
#[derive(Debug, Default)]
struct RecentRoom(Vec<(Stopwatch, u64)>);

/// How long a server may take to see that the disk is full, and that it is not any more.
const NOTICE_MAX: Duration = Duration::from_secs(10);
/// How long an answer may be put off.
const PUT_OFF_MAX: Duration = Duration::from_secs(10);
/// How long to wait between two requests, at most.
const PAUSE_US: u64 = 20_000;
/// How long the disk is held full under load, at most.
const HOLD_US: u64 = 600_000;
/// Room that was there so long ago may be the reason why a put is taken now: a store looks five times a second, and
/// the machine is busy.
const RECENT: Duration = Duration::from_secs(1);
/// `disk.low` where nobody sets it, as a share of the disk.
const LOW_SHARE: u64 = 20;

impl<'a> Siege<'a> {
    pub(crate) fn new(
        disk: &'a mut SmallDisk,
        random: Random,
        report: &'a mut FullDiskReport,
    ) -> Siege<'a> {
        Siege {
            disk,
            random,
            report,
            room: RecentRoom::default(),
        }
    }

    /// Takes the last free byte.
    pub(crate) fn fill(&mut self) -> Result<(), Cause> {
        self.disk.fill()?;
        self.report.fills += 1;
        Ok(())
    }

    /// Asks for a while, and judges every answer.
    pub(crate) fn hold(&mut self, life: &mut Life<'_>) -> Result<(), Cause> {
        self.wait_for_refusal(life)?;
        let hold = Duration::from_micros(self.random.below(HOLD_US));
        let held = Stopwatch::start();
        while held.passed() < hold {
            let choices = [(2, Asked::Put), (1, Asked::Delete), (1, Asked::Read)];
            let asked = self.random.weighted(&choices);
            self.ask(life, asked)?;
            self.sleep_up_to_us(PAUSE_US);
        }
        Ok(())
    }

    /// Makes room under a server that serves, which must take writes again.
    pub(crate) fn lift(&mut self, life: &mut Life<'_>) -> Result<(), Cause> {
        self.disk.free()?;
        let after = self.expect_writes(life)?;
        self.report.resumed += 1;
        let after_ms = after.as_millis();
        self.report.resumed_after_ms_max = self.report.resumed_after_ms_max.max(after_ms);
        Ok(())
    }

    /// There is room: a put must be taken, and this says how long that took.
    pub(crate) fn expect_writes(&mut self, life: &mut Life<'_>) -> Result<Duration, Cause> {
        let asked = Asked::Put;
        let waiting = Stopwatch::start();
        loop {
            let error = match life.ask(asked) {
                Answer::Refused(error) => error,
                Answer::Lost(error) => return Err(Broken::NotAnswered { asked, error }.into()),
                Answer::Outcome(_) | Answer::Found => return Ok(waiting.passed()),
            };
            if waiting.passed() > NOTICE_MAX {
                let seconds = NOTICE_MAX.as_secs();
                return Err(Broken::StillRefused { seconds, error }.into());
            }
            self.sleep_up_to_us(PAUSE_US);
        }
    }

    /// Waits until clients have been answered often enough.
    pub(crate) fn wait_for_load(&mut self, life: &mut Life<'_>, wanted: u64) -> Result<(), Cause> {
        if life.wait_for_acknowledged(wanted)? {
            return Ok(());
        }
        Err(Cause::Idle {
            acknowledged: life.acknowledged(),
            seconds: WAIT_MAX.as_secs(),
        })
    }

    /// The disk has just been filled, and the server may take puts until it has seen that.
    fn wait_for_refusal(&mut self, life: &mut Life<'_>) -> Result<(), Cause> {
        let asked = Asked::Put;
        let waiting = Stopwatch::start();
        loop {
            self.look()?;
            match life.ask(asked) {
                Answer::Refused(error) if is_of_the_disk(&error) => return Ok(()),
                Answer::Lost(error) => return Err(Broken::NotAnswered { asked, error }.into()),
                Answer::Refused(_) | Answer::Outcome(_) | Answer::Found => {}
            }
            if waiting.passed() > NOTICE_MAX {
                let space = self.look()?;
                if self.room.max_bytes() >= low_bytes(space) {
                    // The store has given so much back that it need not refuse anything.
                    return Ok(());
                }
                let seconds = NOTICE_MAX.as_secs();
                return Err(Broken::NotNoticed { seconds }.into());
            }
            self.sleep_up_to_us(PAUSE_US);
        }
    }

    /// Asks until the answer is more than that somebody should ask again, and judges it.
    fn ask(&mut self, life: &mut Life<'_>, asked: Asked) -> Result<(), Cause> {
        let waiting = Stopwatch::start();
        loop {
            self.look()?;
            match judge(asked, life.ask(asked))? {
                Shown::Refusal => self.report.puts_refused += 1,
                Shown::Passed if asked == Asked::Delete => self.report.deletes += 1,
                Shown::Passed => self.report.reads += 1,
                Shown::Taken => {
                    let space = self.look()?;
                    self.room.excuse(space)?;
                    self.report.puts_taken += 1;
                }
                Shown::PutOff if waiting.passed() > PUT_OFF_MAX => {
                    let seconds = PUT_OFF_MAX.as_secs();
                    return Err(Broken::PutOff { asked, seconds }.into());
                }
                Shown::PutOff => {
                    self.report.put_off += 1;
                    self.sleep_up_to_us(PAUSE_US);
                    continue;
                }
            }
            let after_ms = waiting.passed().as_millis();
            self.report.answered_after_ms_max = self.report.answered_after_ms_max.max(after_ms);
            return Ok(());
        }
    }

    fn look(&mut self) -> Result<FileSystemSpace, Cause> {
        let space = self.disk.space()?;
        self.room.note(space.free_bytes);
        Ok(space)
    }

    pub(crate) fn sleep_up_to_us(&mut self, microseconds: u64) {
        std::thread::sleep(Duration::from_micros(self.random.below(microseconds)));
    }
}

impl RecentRoom {
    fn note(&mut self, free_bytes: u64) {
        self.0.retain(|(since, _)| since.passed() <= RECENT);
        self.0.push((Stopwatch::start(), free_bytes));
    }

    fn max_bytes(&self) -> u64 {
        self.0.iter().map(|&(_, bytes)| bytes).max().unwrap_or(0)
    }

    /// A put was taken. That is right where the store itself had made enough room.
    fn excuse(&self, now: FileSystemSpace) -> Result<(), Broken> {
        let recent_bytes = self.max_bytes();
        if recent_bytes >= low_bytes(now) {
            return Ok(());
        }
        Err(Broken::Taken {
            free_bytes: now.free_bytes,
            recent_bytes,
        })
    }
}

fn low_bytes(space: FileSystemSpace) -> u64 {
    space.total_bytes / LOW_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_that_is_taken_without_room_is_reported() {
        let space = |free_bytes| FileSystemSpace {
            free_bytes,
            total_bytes: 2000,
        };
        let mut room = RecentRoom::default();
        room.note(99);
        room.note(0);
        let taken = room.excuse(space(0));
        assert!(
            matches!(
                taken,
                Err(Broken::Taken {
                    recent_bytes: 99,
                    ..
                })
            ),
            "{taken:?}"
        );
        room.note(100);
        room.note(0);
        room.excuse(space(0)).expect("there was room a moment ago");
    }
}
