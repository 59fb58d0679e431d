//! Virtual time: what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use metastore_engine::Time;

/// Events in the order of their time; those of one time in the order in which they were put in.
///
/// The heap holds times and numbers alone: events are large, and lie still until they happen.
#[derive(Debug)]
pub struct Scheduler<E> {
    now: Time,
    sequence: u64,
    /// Time, order of arrival, and where the event lies.
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Vec<Option<E>>,
    /// Places in `events` that are empty.
    free: Vec<usize>,
}

impl<E> Default for Scheduler<E> {
    fn default() -> Self {
        Scheduler {
            now: Time(0),
            sequence: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
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
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        let time = time.max(self.now);
        self.queue.push(Reverse((time, self.sequence, place)));
    }

    /// Moves to the next event and takes it.
    pub fn next_event(&mut self) -> Option<E> {
        let Reverse((time, _, place)) = self.queue.pop()?;
        assert!(time >= self.now, "time does not go back");
        self.now = time;
        self.free.push(place);
        let event = self.events[place].take();
        Some(event.expect("an event happens once"))
    }

    /// Forgets everything that was to happen.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.events.clear();
        self.free.clear();
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
