//! Virtual time: what happens next.

use std::collections::BTreeMap;

use metastore_engine::Time;

/// Events in the order of their time; those of one time in the order in which they were put in.
#[derive(Debug)]
pub struct Scheduler<E> {
    now: Time,
    sequence: u64,
    queue: BTreeMap<(Time, u64), E>,
}

impl<E> Default for Scheduler<E> {
    fn default() -> Self {
        Scheduler {
            now: Time(0),
            sequence: 0,
            queue: BTreeMap::new(),
        }
    }
}

impl<E> Scheduler<E> {
    /// The time of the newest event taken.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Lets `event` happen `delay_ns` from now.
    pub fn after(&mut self, delay_ns: u64, event: E) {
        self.at(Time(self.now.0 + delay_ns), event);
    }

    /// Lets `event` happen at `time`, or now when that has passed.
    pub fn at(&mut self, time: Time, event: E) {
        self.sequence += 1;
        self.queue
            .insert((time.max(self.now), self.sequence), event);
    }

    /// Moves to the next event and takes it.
    pub fn next_event(&mut self) -> Option<E> {
        let ((time, _), event) = self.queue.pop_first()?;
        assert!(time >= self.now, "time does not go back");
        self.now = time;
        Some(event)
    }

    /// Forgets everything that was to happen.
    pub fn clear(&mut self) {
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_arrival() {
        let mut scheduler = Scheduler::default();
        for (delay_ns, event) in [(20, 'c'), (10, 'a'), (20, 'd'), (10, 'b')] {
            scheduler.after(delay_ns, event);
        }
        let order: String = std::iter::from_fn(|| scheduler.next_event()).collect();
        assert_eq!((order.as_str(), scheduler.now()), ("abcd", Time(20)));
    }
}
