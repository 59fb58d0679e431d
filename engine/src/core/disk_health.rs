//! Whether the disk of a core is so slow, or hangs so long, that others should lead.
//!
//! It judges by the log's own writes, each from its submission to its completion, against what is usual for this disk; who
//! leads on a slow one leaves to those who are clearly faster. It does **not** probe: a log that writes nothing harms nobody.

use super::Core;
use super::pace::Pace;
use crate::effect::{Effect, Effects, HaltReason};
use crate::ids::Time;

/// A write is slow that takes longer than this, and than so many times what is usual.
pub(super) const SLOW_MS: u64 = 200;
const SLOW_TIMES_USUAL: u64 = 8;
/// How long writes must be slow before others are asked to lead.
const SLOW_FOR_MS: u64 = 1_000;
/// A write that takes so long hangs: this core leads nothing meanwhile.
const HUNG_MS: u64 = 5_000;
/// A process whose disk hangs so long stops, so that whoever waits for it goes elsewhere.
const DEAD_MS: u64 = 10_000;
/// A process that was not awake for longer than this between two judgements does not blame the disk for the rest.
const AWAKE_MS: u64 = 1_000;
/// The share of a new write in what is usual, as a power of two.
const USUAL_SHIFT: u32 = 4;
/// By how much of itself a slow write raises what is usual, as a power of two: one of 300 ms is usual after a hundred,
/// one of a second after four hundred.
const SLOW_SHIFT: u32 = 8;
/// What is usual makes no difference below this.
const USUAL_NS_MIN: u64 = SLOW_MS * 1_000_000 / SLOW_TIMES_USUAL;

/// How the disk is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// As usual.
    Well,
    /// For a while now writes have taken far longer than is usual.
    Slow,
    /// A write does not come back.
    Hung,
    /// It has not come back for so long that there is no hope.
    Dead {
        /// For how long.
        waited_ms: u64,
    },
}

/// What is known of a core's disk.
#[derive(Debug, Default)]
pub(super) struct DiskHealth {
    /// What a write takes usually, in nanoseconds. Slow writes count for little, or they would soon be usual.
    usual_ns: u64,
    /// When the oldest write was submitted that has not come back, one after the other.
    in_flight: Vec<Time>,
    /// Since when every write is slow, and until when that was seen: a log that has nothing to write says nothing.
    slow: Option<(Time, Time)>,
    /// What the last write took that came back.
    last_ns: u64,
    judged_at: Option<Time>,
}

impl DiskHealth {
    /// A write leaves.
    pub(super) fn on_submitted(&mut self, now: Time) {
        // A process may be stopped before its first tick.
        self.judged_at.get_or_insert(now);
        self.in_flight.push(now);
    }

    /// The oldest write is durable.
    pub(super) fn on_completed(&mut self, now: Time) {
        let Some(submitted) = self.in_flight.first().copied() else {
            return;
        };
        self.in_flight.remove(0);
        let took_ns = now.nanos_since(submitted);
        self.last_ns = took_ns;
        if self.is_slow(took_ns) {
            self.see_slow(submitted, now);
            let usual_ns = self.usual_ns.max(USUAL_NS_MIN);
            self.usual_ns = usual_ns + (usual_ns >> SLOW_SHIFT);
            return;
        }
        self.slow = None;
        self.usual_ns = match self.usual_ns {
            0 => took_ns,
            usual_ns => usual_ns - (usual_ns >> USUAL_SHIFT) + (took_ns >> USUAL_SHIFT),
        };
    }

    /// A write that was submitted then is slow, as is seen now.
    fn see_slow(&mut self, submitted: Time, now: Time) {
        let (_, seen) = self.slow.get_or_insert((submitted, now));
        *seen = now;
    }

    /// How long the oldest write under way takes already, or how long the last one took if that is longer.
    fn write_ns(&self, now: Time) -> u64 {
        let oldest = self.in_flight.first();
        let waited_ns = oldest.map_or(0, |oldest| now.nanos_since(*oldest));
        self.last_ns.max(waited_ns)
    }

    /// The process may have been stopped, and its machine too: what was under way then may be done since.
    fn forgive_sleep(&mut self, now: Time) {
        let before = self.judged_at.replace(now).unwrap_or(now);
        let asleep_ms = now.millis_since(before).saturating_sub(AWAKE_MS);
        let slow = self.slow.iter_mut().flat_map(|(since, seen)| [since, seen]);
        for time in self.in_flight.iter_mut().chain(slow) {
            *time = time.plus_ms(asleep_ms).min(now);
        }
    }

    fn is_slow(&self, took_ns: u64) -> bool {
        took_ns > SLOW_MS * 1_000_000 && took_ns > self.usual_ns.saturating_mul(SLOW_TIMES_USUAL)
    }

    /// How it is doing now.
    pub(super) fn judge(&mut self, now: Time) -> Health {
        self.forgive_sleep(now);
        let oldest = self.in_flight.first().copied();
        let waited_ms = oldest.map_or(0, |oldest| now.millis_since(oldest));
        if let Some(oldest) = oldest
            && self.is_slow(now.nanos_since(oldest))
        {
            self.see_slow(oldest, now);
        }
        let is_slow_long = self
            .slow
            .is_some_and(|(since, seen)| seen.millis_since(since) >= SLOW_FOR_MS);
        match waited_ms {
            DEAD_MS.. => Health::Dead { waited_ms },
            HUNG_MS.. => Health::Hung,
            _ if is_slow_long => Health::Slow,
            _ => Health::Well,
        }
    }
}

impl Core {
    /// At a tick: who leads on a disk that is slow or hangs lets others lead.
    pub(super) fn watch_disk_health(&mut self, now: Time, out: &mut Effects) {
        let health = self.disk_health.judge(now);
        match health {
            Health::Well => {}
            Health::Slow => {
                let write_ns = self.disk_health.write_ns(now);
                let needed_ns = self.timing.comparable_ns(write_ns);
                let pace = Pace::new(&self.neighbours, needed_ns);
                for replica in 0..self.replicas.len() {
                    // Where nobody is close behind it leads on: a slow leader is better than none.
                    if self.replicas[replica].leave_slow_disk(now, &pace) {
                        self.counters.slow_disk_hand_overs += 1;
                        self.dirty.mark(replica);
                    }
                }
            }
            Health::Hung => {}
            Health::Dead { waited_ms } => {
                out.queue
                    .push(Effect::Halt(HaltReason::DiskHangs { waited_ms }));
            }
        }
        let is_hung = health >= Health::Hung;
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].set_disk_hung(is_hung) {
                self.dirty.mark(replica);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at_ms(milliseconds: u64) -> Time {
        Time(0).plus_ms(milliseconds)
    }

    /// A disk on which 100 writes took 2 ms each, the last of which ended at 1000 ms.
    fn usual() -> DiskHealth {
        let mut health = DiskHealth::default();
        for write in 0..100 {
            health.on_submitted(at_ms(10 * write));
            health.on_completed(at_ms(10 * write + 2));
            assert_eq!(health.judge(at_ms(10 * write + 3)), Health::Well);
        }
        assert!((MS..3 * MS).contains(&health.usual_ns), "{health:?}");
        health
    }

    #[test]
    fn a_process_that_was_stopped_before_its_first_tick_does_not_blame_the_disk() {
        let mut health = DiskHealth::default();
        health.on_submitted(at_ms(0));
        let judged = health.judge(at_ms(13_366));
        assert!(judged < Health::Hung, "{judged:?}");
        // From then on it is awake, and the disk is to blame.
        for now in (13_400..22_000).step_by(100) {
            health.judge(at_ms(now));
        }
        let judged = health.judge(at_ms(22_400));
        assert!(matches!(judged, Health::Dead { .. }), "{judged:?}");
    }

    #[test]
    fn a_write_that_hangs_is_slow_then_hung_then_dead() {
        let mut health = usual();
        health.on_submitted(at_ms(1_000));
        for now in (1_000..11_000).step_by(100) {
            let expected = match now - 1_000 {
                5_000.. => Health::Hung,
                1_000.. => Health::Slow,
                _ => Health::Well,
            };
            assert_eq!(health.judge(at_ms(now)), expected, "{now}");
        }
        let dead = Health::Dead { waited_ms: 10_000 };
        assert_eq!(health.judge(at_ms(11_000)), dead);
        // It comes back, and the next one is as usual.
        health.on_completed(at_ms(11_000));
        assert_eq!(health.judge(at_ms(11_000)), Health::Slow);
        health.on_submitted(at_ms(11_001));
        health.on_completed(at_ms(11_003));
        assert_eq!(health.judge(at_ms(11_004)), Health::Well);
    }

    /// Writes of so many milliseconds, one after the other from 1000 ms on; says when the last one ended.
    fn write_slowly(health: &mut DiskHealth, writes: u64, took_ms: u64) -> u64 {
        for write in 0..writes {
            health.on_submitted(at_ms(1_000 + took_ms * write));
            health.on_completed(at_ms(1_000 + took_ms * (write + 1)));
            health.judge(at_ms(1_000 + took_ms * (write + 1)));
        }
        1_000 + took_ms * writes
    }

    #[test]
    fn slow_writes_one_after_the_other_are_slow_until_they_are_usual() {
        let mut health = usual();
        let now = write_slowly(&mut health, 20, 300);
        assert_eq!(health.judge(at_ms(now)), Health::Slow);
        // After half a minute it has always been so.
        let mut health = usual();
        let now = write_slowly(&mut health, 110, 300);
        assert_eq!(health.judge(at_ms(now)), Health::Well);
        let mut health = DiskHealth::default();
        let now = write_slowly(&mut health, 20, 300);
        assert_eq!(health.judge(at_ms(now)), Health::Slow);
        let now = write_slowly(&mut health, 110, 300);
        assert_eq!(health.judge(at_ms(now)), Health::Well);
    }

    #[test]
    fn a_slow_write_alone_is_none_however_long_nothing_is_written_after_it() {
        let mut health = usual();
        let now = write_slowly(&mut health, 1, 300);
        for later in (0..60_000).step_by(50) {
            assert_eq!(health.judge(at_ms(now + later)), Health::Well, "{later}");
        }
        // Nor are two of them, unless they take long enough together.
        let mut health = usual();
        let now = write_slowly(&mut health, 2, 300);
        assert_eq!(health.judge(at_ms(now + 60_000)), Health::Well);
        let mut health = usual();
        let now = write_slowly(&mut health, 4, 300);
        assert_eq!(health.judge(at_ms(now)), Health::Slow);
    }

    #[test]
    fn what_a_write_takes_is_the_longer_of_the_last_one_and_the_one_under_way() {
        let mut health = usual();
        assert_eq!(health.write_ns(at_ms(1_000)), 2 * MS);
        health.on_submitted(at_ms(1_000));
        assert_eq!(health.write_ns(at_ms(1_700)), 700 * MS);
        health.on_completed(at_ms(1_800));
        assert_eq!(health.write_ns(at_ms(9_000)), 800 * MS);
    }

    #[test]
    fn a_disk_that_is_always_slow_is_not_slow_for_itself() {
        let mut health = DiskHealth::default();
        for write in 0..50 {
            health.on_submitted(at_ms(150 * write));
            health.on_completed(at_ms(150 * write + 100));
        }
        health.on_submitted(at_ms(8_000));
        // Half a second is much, and less than eight times what it usually takes.
        assert_eq!(health.judge(at_ms(8_700)), Health::Well);
        health.on_completed(at_ms(8_700));
        assert_eq!(health.judge(at_ms(9_900)), Health::Well);
    }

    /// The process was stopped for a minute while a write was under way.
    #[test]
    fn a_process_that_slept_does_not_blame_its_disk() {
        let mut health = usual();
        health.judge(at_ms(1_000));
        health.on_submitted(at_ms(1_000));
        assert_eq!(health.judge(at_ms(61_000)), Health::Slow);
        assert_eq!(health.judge(at_ms(61_050)), Health::Slow);
        health.on_completed(at_ms(61_060));
        health.on_submitted(at_ms(61_070));
        health.on_completed(at_ms(61_072));
        assert_eq!(health.judge(at_ms(61_080)), Health::Well);
    }

    #[test]
    fn an_idle_log_says_nothing_of_its_disk() {
        let mut health = usual();
        assert_eq!(health.judge(at_ms(1_000_000)), Health::Well);
    }
}
