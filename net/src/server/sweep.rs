//! Looking for connections whose time has run out, and giving back what idle ones hold.

use crate::server::ServerOptions;
use crate::server::connections::{Connections, SMALL_BYTES, Slot, Teardown};
use crate::wire_error::{ErrorCode, WireError};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bounds of the interval between two looks.
const INTERVAL_MIN: Duration = Duration::from_millis(5);
const INTERVAL_MAX: Duration = Duration::from_millis(500);

/// Looks at intervals, one task for all connections of the core: a timer for each read would cost more than the read.
pub(super) async fn sweep_until_closed(connections: Connections, options: ServerOptions) {
    let shortest = options
        .handshake_timeout
        .min(options.frame_timeout)
        .min(options.unread_timeout)
        .min(options.shortage_timeout);
    let interval = (shortest / 4).clamp(INTERVAL_MIN, INTERVAL_MAX);
    let started = Instant::now();
    while connections.teardown() == Teardown::Serving || connections.count() > 0 {
        connections.set_now_ms(1 + milliseconds(started.elapsed()));
        let sweep = Sweep {
            now_ms: connections.now_ms(),
            options: &options,
            interval,
            is_short: connections.is_short(),
        };
        for slot in connections.live() {
            sweep.look_at(&slot, &connections);
        }
        // Waiting for memory has no other alarm.
        connections.wake_stalled();
        glommio::timer::sleep(interval).await;
    }
}

/// One look at all connections.
struct Sweep<'a> {
    now_ms: u64,
    options: &'a ServerOptions,
    interval: Duration,
    is_short: bool,
}

/// Whose time has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expired {
    /// The client does not say hello, or does not close.
    Handshake,
    /// The client does not finish its frame.
    Frame,
    /// The client does not take its answers.
    Unread,
}

impl Sweep<'_> {
    fn look_at(&self, slot: &Rc<Slot>, connections: &Connections) {
        match self.expired(slot, connections) {
            Some(Expired::Frame) => {
                connections.note(|counts| counts.timed_out += 1);
                let error = WireError::new(ErrorCode::Deadline)
                    .with_message("a frame has to be complete in time");
                slot.outbox.borrow_mut().refuse(&error);
                slot.frame_since_ms.set(None);
                slot.wake();
            }
            Some(Expired::Handshake) => {
                connections.note(|counts| counts.timed_out += 1);
                cut(slot);
            }
            Some(Expired::Unread) => {
                connections.note(|counts| counts.unread += 1);
                cut(slot);
            }
            None => self.release_idle(slot, connections),
        }
    }

    /// Why a connection has used up its time, if it has.
    fn expired(&self, slot: &Slot, connections: &Connections) -> Option<Expired> {
        let outbox = slot.outbox.borrow();
        let (options, interval) = (self.options, self.interval);
        if outbox.is_closing() {
            let since_ms = slot.last_activity_ms.get();
            let is_over = self.has_passed(since_ms, options.handshake_timeout);
            return is_over.then_some(Expired::Handshake);
        }
        if !outbox.was_greeted() {
            let is_over = self.has_passed(slot.opened_ms, options.handshake_timeout);
            return is_over.then_some(Expired::Handshake);
        }
        if !outbox.unsent().is_empty() {
            // What a client sends does not excuse it from reading.
            if self.has_passed(slot.last_sent_ms.get(), options.unread_timeout) {
                return Some(Expired::Unread);
            }
            let is_in_the_way =
                slot.outbound_bytes() > SMALL_BYTES && connections.is_outbound_short();
            let since_ms = slot.unsent_since_ms.get();
            if is_in_the_way
                && since_ms > 0
                && self.has_passed(since_ms, options.shortage_timeout + interval)
            {
                return Some(Expired::Unread);
            }
        }
        let since_ms = slot.frame_since_ms.get()?;
        let is_in_the_way = self.is_short && slot.inbound_bytes() > SMALL_BYTES;
        let timeout = match is_in_the_way {
            true => options.shortage_timeout.min(options.frame_timeout),
            false => options.frame_timeout,
        };
        self.has_passed(since_ms, timeout).then_some(Expired::Frame)
    }

    /// Stamps are up to one interval old when they are made, which is given back here, so that nobody is cut early.
    fn has_passed(&self, since_ms: u64, timeout: Duration) -> bool {
        self.now_ms.saturating_sub(since_ms) > milliseconds(timeout + self.interval)
    }

    /// Gives the buffer back that a connection keeps for its next answer, once it has been quiet since the last look.
    fn release_idle(&self, slot: &Slot, connections: &Connections) {
        let quiet_ms = self.now_ms.saturating_sub(slot.last_activity_ms.get());
        if slot.outbound_bytes() > 0 && quiet_ms > milliseconds(self.interval) {
            slot.outbox.borrow_mut().release();
            connections.book(slot, slot.inbound_bytes());
        }
    }
}

fn cut(slot: &Slot) {
    slot.is_cut.set(true);
    slot.wake();
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
