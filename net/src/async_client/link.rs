//! The connection to one core: a task that all operations of a client share.
//!
//! ```text
//! operations --bounded queue--> task <--> socket        one task an address, connected on demand
//!      ^                         |
//!      +------- answers ---------+
//! ```
//!
//! It pipelines: requests leave as they come, answers are matched by id. It does not retry. When the connection dies it
//! tells of each request whether it may have happened, and connects again when the next one comes.

use crate::async_client::backoff::Backoff;
use crate::async_client::call::{Answer, Attempt};
use crate::async_client::error::{Failure, Fault};
use crate::async_client::settings::ClientSettings;
use crate::async_client::wire::{Dialing, Wire};
use crate::client::Lost;
use crate::frame::{FRAME_HEADER_BYTES, RequestId};
use crate::wire_error::Happened;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// With this much not yet taken by the socket no more requests are encoded.
const OUTBOUND_BYTES_MAX: usize = 1024 * 1024;

/// The way to one core.
#[derive(Debug, Clone)]
pub(super) struct Link {
    attempts: mpsc::Sender<Attempt>,
}

impl Link {
    /// Starts the task. It ends when the last copy of the link is gone.
    pub(super) fn start(address: String, dialing: Arc<Dialing>) -> Link {
        let (attempts, queue) = mpsc::channel(dialing.settings.queue_requests_max);
        tokio::spawn(run(address, dialing, queue));
        Link { attempts }
    }

    /// Whether the task has ended, because its runtime has.
    pub(super) fn is_closed(&self) -> bool {
        self.attempts.is_closed()
    }

    /// Waits for a place in the queue. `None` when the task has ended.
    pub(super) async fn reserve(&self) -> Option<mpsc::Permit<'_, Attempt>> {
        self.attempts.reserve().await.ok()
    }
}

async fn run(address: String, dialing: Arc<Dialing>, mut queue: mpsc::Receiver<Attempt>) {
    let settings = &dialing.settings;
    let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max);
    while let Some(first) = queue.recv().await {
        let fault = match Wire::open(&address, &dialing).await {
            Ok(wire) => {
                let mut serving = Serving::new(wire, settings);
                let ended = serving.run(first, &mut queue).await;
                if serving.has_answered {
                    backoff.reset();
                }
                let Err(fault) = ended else { return };
                serving.fail_all(&fault);
                if serving.has_answered {
                    continue;
                }
                fault
            }
            Err(fault) => {
                first.finish(Err(Failure::not_done(fault.clone())));
                fault
            }
        };
        refuse_for(backoff.next(), &fault, &mut queue).await;
    }
}

/// An address that just failed is not tried again at once: whoever comes meanwhile is told why, and may ask elsewhere.
async fn refuse_for(pause: Duration, fault: &Fault, queue: &mut mpsc::Receiver<Attempt>) {
    let end = Instant::now() + pause;
    loop {
        tokio::select! {
            () = sleep_until(end) => return,
            attempt = queue.recv() => match attempt {
                Some(attempt) => attempt.finish(Err(Failure::not_done(fault.clone()))),
                None => return,
            },
        }
    }
}

/// A request that was encoded and not answered.
#[derive(Debug)]
struct Waiting {
    /// `None` for the task's own pings.
    attempt: Option<Attempt>,
    /// Where its frame ends among all bytes ever sent on this connection.
    frame_end: u64,
}

/// A live connection.
struct Serving {
    wire: Wire,
    waiting: HashMap<RequestId, Waiting>,
    /// Bytes of all frames encoded since the beginning.
    encoded_bytes: u64,
    in_flight_max: usize,
    frame_bytes_max: usize,
    keepalive: Duration,
    /// When a sign of life was asked for, if none has come since.
    asked_at: Option<Instant>,
    /// When to look for requests that should have been answered long ago.
    overdue_check_at: Instant,
    has_answered: bool,
}

impl Serving {
    fn new(wire: Wire, settings: &ClientSettings) -> Serving {
        let limits = &wire.server.limits;
        Serving {
            // One less than the server takes: at its limit it reads nothing more, not even a ping.
            in_flight_max: settings
                .in_flight_max
                .min((limits.commands_in_flight as usize).saturating_sub(1))
                .max(1),
            frame_bytes_max: limits.frame_bytes as usize,
            waiting: HashMap::new(),
            encoded_bytes: 0,
            keepalive: settings.keepalive,
            asked_at: None,
            overdue_check_at: Instant::now() + settings.keepalive,
            has_answered: false,
            wire,
        }
    }

    /// Until the connection dies, or nobody needs it any more.
    async fn run(
        &mut self,
        first: Attempt,
        queue: &mut mpsc::Receiver<Attempt>,
    ) -> Result<(), Fault> {
        self.take(first);
        self.take_queued(queue)?;
        loop {
            let has_outbound = self.wire.has_outbound();
            let has_room = self.has_room();
            tokio::select! {
                ready = self.wire.stream.readable() => {
                    ready?;
                    self.receive()?;
                }
                ready = self.wire.stream.writable(), if has_outbound => {
                    ready?;
                    self.wire.send()?;
                }
                attempt = queue.recv(), if has_room => match attempt {
                    Some(attempt) => {
                        // What is sent on a connection that has ended meanwhile may have happened, for all we know.
                        if let Err(fault) = self.receive() {
                            attempt.finish(Err(Failure::not_done(fault.clone())));
                            return Err(fault);
                        }
                        self.take(attempt);
                        self.take_queued(queue)?;
                    }
                    None => return Ok(()),
                },
                () = sleep_until(self.next_check()) => self.check_life()?,
                () = sleep_until(self.overdue_check_at) => self.check_overdue()?,
            }
        }
    }

    fn has_room(&mut self) -> bool {
        self.waiting.len() < self.in_flight_max
            && self.wire.connection.outbound().len() < OUTBOUND_BYTES_MAX
    }

    /// What has gathered in the queue leaves in one write.
    fn take_queued(&mut self, queue: &mut mpsc::Receiver<Attempt>) -> Result<(), Fault> {
        while self.has_room() {
            let Ok(attempt) = queue.try_recv() else { break };
            self.take(attempt);
        }
        self.wire.send()
    }

    /// Encodes a request, unless nobody waits for it any more.
    fn take(&mut self, attempt: Attempt) {
        let frame_bytes = FRAME_HEADER_BYTES + attempt.call.body.len();
        if frame_bytes > self.frame_bytes_max {
            // The server would end the connection, and with it everybody else's requests.
            let fault = Fault::TooLarge {
                limit: self.frame_bytes_max,
                actual: frame_bytes,
            };
            attempt.finish(Err(Failure::not_done(fault)));
            return;
        }
        let left = attempt.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            attempt.finish(Err(Failure::not_done(Fault::Late)));
            return;
        }
        if attempt.answer.is_closed() || !attempt.claim.try_write() {
            return;
        }
        let connection = &mut self.wire.connection;
        connection.set_deadline_ms(deadline_ms(left));
        let id = connection.encoded(attempt.call.kind, &attempt.call.body);
        self.note(id, frame_bytes, Some(attempt));
    }

    fn note(&mut self, id: RequestId, frame_bytes: usize, attempt: Option<Attempt>) {
        self.encoded_bytes += frame_bytes as u64;
        let frame_end = self.encoded_bytes;
        let before = self.waiting.insert(id, Waiting { attempt, frame_end });
        assert!(before.is_none(), "an id in flight is not given again");
    }

    fn receive(&mut self) -> Result<(), Fault> {
        let (waiting, has_answered) = (&mut self.waiting, &mut self.has_answered);
        self.wire.receive(|id, response| {
            *has_answered = true;
            let request = waiting.remove(&id).expect("only what waits is answered");
            let Some(attempt) = request.attempt else {
                return;
            };
            let result = Answer::read(response).expect("hellos and ranges do not pass here");
            attempt.finish(result);
        })?;
        if self
            .asked_at
            .is_some_and(|asked| self.wire.heard_at > asked)
        {
            self.asked_at = None;
        }
        Ok(())
    }

    fn next_check(&self) -> Instant {
        self.asked_at.unwrap_or(self.wire.heard_at) + self.keepalive
    }

    /// Nothing came for a while: asks for a sign of life, or gives up when that was done before.
    fn check_life(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        if self.asked_at.is_some() {
            return Err(Fault::Silent {
                silence: now.saturating_duration_since(self.wire.heard_at),
            });
        }
        self.asked_at = Some(now);
        let id = self.wire.connection.ping();
        self.note(id, FRAME_HEADER_BYTES, None);
        self.wire.send()
    }

    /// Every request is answered by its deadline, if only to say that it has passed. One that is not would hold its place
    /// for ever, and a server that forgets one forgets others.
    fn check_overdue(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        self.overdue_check_at = now + self.keepalive;
        let grace = self.keepalive * 2;
        let is_overdue = |request: &Waiting| {
            let attempt = request.attempt.as_ref();
            attempt.is_some_and(|attempt| attempt.deadline + grace < now)
        };
        if self.waiting.values().any(is_overdue) {
            return Err(Fault::Silent { silence: grace });
        }
        Ok(())
    }

    /// The connection is dead: tells every request what is known of it. A frame of which the socket did not take all
    /// bytes never reached the server whole, and a frame that is not whole has no effect.
    fn fail_all(&mut self, fault: &Fault) {
        let sent_bytes = self.wire.sent_bytes;
        let lost: Vec<Lost> = self.wire.connection.on_closed().collect();
        for lost in lost {
            let request = self
                .waiting
                .remove(&lost.id)
                .expect("the connection and this task agree on what is in flight");
            let happened = if request.frame_end > sent_bytes {
                Happened::NotDone
            } else {
                lost.happened
            };
            if let Some(attempt) = request.attempt {
                let fault = fault.clone();
                attempt.finish(Err(Failure { fault, happened }));
            }
        }
    }
}

/// The deadline that a request carries: a little less than we wait, so that a server that gives up can still say so, and
/// say whether it happened. 0 would mean the server's default.
pub(super) fn deadline_ms(left: Duration) -> u32 {
    let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    (left_ms - left_ms / 10).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_gives_up_before_we_do() {
        assert_eq!(deadline_ms(Duration::from_secs(5)), 4500);
        assert_eq!(deadline_ms(Duration::from_micros(10)), 1);
        assert!(deadline_ms(Duration::from_secs(u64::MAX / 1000)) > 3_000_000_000);
    }
}
