//! The clock of a simulated node: it runs too fast or too slow and jumps, as clocks do.

use metastore_engine::Time;

/// How fast a clock runs, in parts per million of true time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRate(pub u64);

impl ClockRate {
    /// As fast as time itself.
    pub const TRUE: ClockRate = ClockRate(1_000_000);
}

/// A monotonic clock: it may jump forward, as over a pause of the machine, and never back.
///
/// It starts at zero, so that clocks of different nodes have nothing to do with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When it was last set, in true time and in its own.
    set_at: Time,
    shown: Time,
    rate: ClockRate,
}

impl Clock {
    /// A clock that starts at zero now.
    #[must_use]
    pub fn starting(now: Time, rate: ClockRate) -> Clock {
        Clock {
            set_at: now,
            shown: Time(0),
            rate,
        }
    }

    /// What it shows.
    #[must_use]
    pub fn local(&self, now: Time) -> Time {
        let passed_ns = u128::from(now.nanos_since(self.set_at));
        let shown_ns = passed_ns * u128::from(self.rate.0) / u128::from(ClockRate::TRUE.0);
        Time(self.shown.0 + narrow(shown_ns))
    }

    /// When it will show at least `local`.
    #[must_use]
    pub fn when(&self, local: Time) -> Time {
        let left_ns = u128::from(local.nanos_since(self.shown));
        let true_ns = (left_ns * u128::from(ClockRate::TRUE.0)).div_ceil(u128::from(self.rate.0));
        Time(self.set_at.0 + narrow(true_ns))
    }

    /// From now on it runs at this rate.
    pub fn set_rate(&mut self, now: Time, rate: ClockRate) {
        self.jump(now, 0);
        self.rate = rate;
    }

    /// It jumps forward.
    pub fn jump(&mut self, now: Time, forward_ns: u64) {
        self.shown = Time(self.local(now).0 + forward_ns);
        self.set_at = now;
    }
}

fn narrow(nanoseconds: u128) -> u64 {
    u64::try_from(nanoseconds).expect("a run takes less than centuries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_true_clock_shows_what_has_passed() {
        let clock = Clock::starting(Time(1_000), ClockRate::TRUE);
        assert_eq!(clock.local(Time(1_750)), Time(750));
        assert_eq!(clock.when(Time(750)), Time(1_750));
    }

    #[test]
    fn a_clock_never_goes_back_whatever_happens_to_it() {
        let mut clock = Clock::starting(Time(0), ClockRate(900_000));
        let mut last = Time(0);
        for step in 1..100_u64 {
            let now = Time(step * 1_000_003);
            assert!(clock.local(now) > last);
            match step % 3 {
                0 => clock.jump(now, 17),
                1 => clock.set_rate(now, ClockRate(1_100_000 - step)),
                _ => {}
            }
            assert!(clock.local(now) > last);
            last = clock.local(now);
        }
    }

    #[test]
    fn it_has_shown_what_it_promised_when_it_promised() {
        for rate in [900_000, 999_999, 1_000_001, 1_100_000] {
            let mut clock = Clock::starting(Time(5), ClockRate(rate));
            clock.jump(Time(100), 1_000);
            for local in [0, 1_500, 77_777, 1_000_000_007] {
                let when = clock.when(Time(local));
                assert!(clock.local(when) >= Time(local), "{rate} {local}");
                let is_first = when <= Time(100) || clock.local(Time(when.0 - 2)) < Time(local);
                assert!(is_first, "{rate} {local}");
            }
        }
    }
}
