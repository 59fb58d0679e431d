//! The clock of an open loop: it sleeps until the next request is due, to the microsecond.
//!
//! A poll's own timeout counts milliseconds. Asking without sleep in between would take the processor from whoever else
//! needs it, and that includes the kernel's worker which ends a durable write where the disk interrupts that processor:
//! the store would wait for its own load. `sched_yield` is no way out. Linux 6.18 does not let that worker run for
//! seconds when a thread that yields shares the processor with one that is busy.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Ends a poll at a time.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: OwnedFd,
}

impl Alarm {
    /// Events of the alarm have this token.
    pub(super) const TOKEN: Token = Token(usize::MAX);

    /// An alarm that is not set.
    pub(super) fn new(registry: &Registry) -> io::Result<Alarm> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let mut source = SourceFd(&timer.as_raw_fd());
        registry.register(&mut source, Alarm::TOKEN, Interest::READABLE)?;
        Ok(Alarm { timer })
    }

    /// Rings once, after this time and not at any that was set before.
    pub(super) fn set(&self, after: Duration) -> io::Result<()> {
        // Zero would turn it off.
        let after = after.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: after.try_into().expect("a pause is shorter than centuries"),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn it_ends_a_poll_within_a_millisecond_each_time_it_is_set() {
        let mut poll = Poll::new().unwrap();
        let alarm = Alarm::new(poll.registry()).unwrap();
        let mut events = Events::with_capacity(4);
        let after = Duration::from_micros(300);
        let mut took = Vec::new();
        for _ in 0..20 {
            let began = Instant::now();
            alarm.set(after).unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(5)))
                .unwrap();
            took.push(began.elapsed());
            let tokens: Vec<Token> = events.iter().map(|event| event.token()).collect();
            assert_eq!(tokens, [Alarm::TOKEN]);
        }
        // Other programs may hold up some of them.
        took.sort_unstable();
        assert!(took[0] >= after, "{took:?}");
        assert!(took[5] < Duration::from_millis(1), "{took:?}");
    }

    #[test]
    fn what_is_set_again_does_not_ring_for_what_was_set_before() {
        let mut poll = Poll::new().unwrap();
        let alarm = Alarm::new(poll.registry()).unwrap();
        let mut events = Events::with_capacity(4);
        alarm.set(Duration::ZERO).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        let began = Instant::now();
        alarm.set(Duration::from_millis(20)).unwrap();
        poll.poll(&mut events, Some(Duration::from_secs(5)))
            .unwrap();
        assert!(began.elapsed() >= Duration::from_millis(20));
    }
}
