//! The load: one thread, many connections, closed or open loop.

mod alarm;
mod arrivals;
mod books;
mod fleet;
mod link;
mod routed;
mod survival;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use crate::latency::new_histogram;
use crate::operation::{Failure, Mix, OperationKind, RequestMaker};
use crate::protocol::SessionError;
use crate::system::Target;
use alarm::Alarm;
use arrivals::Arrivals;
use books::Books;
use fleet::Fleet;
use link::Link;
pub(crate) use survival::Losses;

/// Bytes taken from a socket at a time: more than the answers to the deepest pipeline.
const RECEIVE_BYTES: usize = 256 * 1024;

/// Time between two looks at whether a run is over or takes too long.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Each answer makes room for the next request: measures capacity.
    Closed,
    /// Requests come at random times of their own, whatever the store does: measures latency. A request that must
    /// wait for room has begun when it was meant to.
    Poisson {
        /// Mean rate.
        operations_per_second: f64,
    },
}

/// One run of load.
#[derive(Debug, Clone)]
pub(crate) struct LoadPlan<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) mix: Mix,
    pub(crate) connections: usize,
    pub(crate) in_flight_per_connection: usize,
    pub(crate) pace: Pace,
    /// Load that is not measured, before the load that is.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// How long answers are awaited after the last request.
    pub(crate) patience: Duration,
    /// While it is set, requests are marked as they are sent.
    pub(crate) mark: Option<&'a AtomicBool>,
    /// Of a cluster: whether the load goes on when a node is gone, with whoever leads then. Otherwise a lost connection
    /// ends the run. A shard may be without a leader as long as answers are awaited.
    pub(crate) survives_lost_nodes: bool,
}

/// Whether a request was sent while something was going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Plain,
    Marked,
}

impl LoadPlan<'_> {
    fn current_mark(&self) -> Mark {
        match self.mark {
            Some(mark) if mark.load(Ordering::Relaxed) => Mark::Marked,
            Some(_) | None => Mark::Plain,
        }
    }
}

/// What a run of load has shown.
#[derive(Debug)]
pub(crate) struct LoadResult {
    /// Nanoseconds. Closed loop: from sending, of what was answered in the measured time. Open loop: from the intended
    /// start, of what was meant to start in the measured time.
    pub(crate) latency: Histogram<u64>,
    /// The same for each operation that the mix has.
    pub(crate) latency_by_kind: Vec<(OperationKind, Histogram<u64>)>,
    /// The same for the requests that were marked.
    pub(crate) latency_marked: Histogram<u64>,
    /// Open loop: nanoseconds by which requests were sent later than intended though there was room for them. It is
    /// the client's own delay.
    pub(crate) client_delay: Histogram<u64>,
    /// Commands that were answered within the measured time: one a request, and all of a batch.
    pub(crate) answered: u64,
    /// Open loop: commands that were meant to start in the measured time.
    pub(crate) offered: u64,
    /// Open loop: commands that never found room. The latency of their requests counts up to the end of the run.
    pub(crate) unsent: u64,
    pub(crate) measured: Duration,
    /// All answered commands, of the warm-up and after the measured time too.
    pub(crate) answered_in_all: u64,
    /// Compare-and-swaps that came too late, among those whose latency counts.
    pub(crate) conflicts: u64,
    /// Requests that were sent once more because another node led their shard, or their connection was lost. Their
    /// latency is from the first time.
    pub(crate) redirected: u64,
    pub(crate) losses: Losses,
    pub(crate) failures: Failures,
}

/// Requests that did not do what they were measured for.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    pub(crate) first: Option<Failure>,
}

/// Why load cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("connections cannot be polled: {0}")]
    Poll(#[from] io::Error),
    #[error(
        "a batch has {commands} keys of one leader, and one of them leads {fewest} only: load more keys"
    )]
    FewKeys { fewest: usize, commands: u64 },
    #[error("{missing} requests have no answer after {waited:?}")]
    NoAnswer { missing: usize, waited: Duration },
    #[error("a shard has had no leader for {waited:?}")]
    NoLeader { waited: Duration },
}

/// Runs the load to its end.
pub(crate) fn drive(
    plan: &LoadPlan<'_>,
    requests: &mut RequestMaker,
) -> Result<LoadResult, LoadError> {
    let mut driver = Driver::connect(plan, requests)?;
    let is_routed = driver.fleet.is_some();
    match plan.pace {
        Pace::Closed if is_routed => driver.drive_closed_routed()?,
        Pace::Closed => driver.drive_closed()?,
        Pace::Poisson {
            operations_per_second,
        } if is_routed => driver.drive_open_routed(operations_per_second)?,
        Pace::Poisson {
            operations_per_second,
        } => driver.drive_open(operations_per_second)?,
    }
    Ok(driver.into_result())
}

struct Driver<'a> {
    plan: &'a LoadPlan<'a>,
    requests: &'a mut RequestMaker,
    poll: Poll,
    /// Of an open loop.
    alarm: Alarm,
    events: Events,
    /// The connections that the last poll named.
    ready: Vec<usize>,
    /// Those of them on which nothing more will come than is there.
    closing: Vec<usize>,
    links: Vec<Link>,
    /// Of a cluster: which of them lead where.
    fleet: Option<Fleet>,
    receive_buffer: Vec<u8>,
    epoch: Instant,
    /// The measured time, in nanoseconds since the epoch.
    window: std::ops::Range<u64>,
    result: LoadResult,
}

impl<'a> Driver<'a> {
    fn connect(
        plan: &'a LoadPlan<'a>,
        requests: &'a mut RequestMaker,
    ) -> Result<Driver<'a>, LoadError> {
        assert!(plan.connections > 0 && plan.in_flight_per_connection > 0);
        let poll = Poll::new()?;
        let Target {
            system,
            addresses,
            routes,
        } = plan.target;
        requests.follow(routes, plan.mix.key_space());
        requests.forget_reads();
        let links = match routes {
            // They are opened with their lanes.
            Some(_) => Vec::new(),
            None => (0..plan.connections)
                .map(|number| {
                    let address = addresses[number % addresses.len()];
                    let depth = plan.in_flight_per_connection;
                    Link::open(system, address, poll.registry(), Token(number), depth)
                })
                .collect::<Result<Vec<Link>, SessionError>>()?,
        };
        let in_flight = plan.connections * plan.in_flight_per_connection;
        let fleet = routes.map(|routes| Fleet::new(routes, plan.connections, in_flight));
        let warm_up_ns = nanoseconds(plan.warm_up);
        let mut driver = Driver {
            plan,
            requests,
            alarm: Alarm::new(poll.registry())?,
            poll,
            events: Events::with_capacity(plan.connections),
            ready: Vec::with_capacity(plan.connections),
            closing: Vec::new(),
            links,
            fleet,
            receive_buffer: vec![0; RECEIVE_BYTES],
            epoch: Instant::now(),
            window: warm_up_ns..warm_up_ns + nanoseconds(plan.measured),
            result: LoadResult {
                latency: new_histogram(),
                latency_by_kind: plan
                    .mix
                    .kinds()
                    .iter()
                    .map(|&kind| (kind, new_histogram()))
                    .collect(),
                latency_marked: new_histogram(),
                client_delay: new_histogram(),
                answered: 0,
                offered: 0,
                unsent: 0,
                measured: plan.measured,
                answered_in_all: 0,
                conflicts: 0,
                redirected: 0,
                losses: Losses::default(),
                failures: Failures::default(),
            },
        };
        if driver.fleet.is_some() {
            driver.open_lanes()?;
            driver.epoch = Instant::now();
        }
        Ok(driver)
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }

    fn in_flight(&self) -> usize {
        self.links.iter().map(Link::in_flight).sum()
    }

    // Closed loop.

    fn drive_closed(&mut self) -> Result<(), LoadError> {
        for link in 0..self.links.len() {
            self.refill(link)?;
        }
        let give_up_ns = self.give_up_ns();
        while self.in_flight_or_running() {
            self.poll_once(Some(SLEEP_MAX))?;
            for position in 0..self.ready.len() {
                let link = self.ready[position];
                self.receive(link)?;
                self.refill(link)?;
            }
            self.check_patience(give_up_ns)?;
        }
        Ok(())
    }

    /// Fills a connection up to its depth, as long as the run lasts.
    fn refill(&mut self, link: usize) -> Result<(), LoadError> {
        let now_ns = self.now_ns();
        let link = &mut self.links[link];
        if now_ns < self.window.end {
            while link.has_room() {
                link.submit(
                    self.plan.mix,
                    self.requests,
                    now_ns,
                    self.plan.current_mark(),
                );
            }
        }
        Ok(link.send()?)
    }

    fn in_flight_or_running(&self) -> bool {
        self.now_ns() < self.window.end || self.links.iter().any(|link| link.in_flight() > 0)
    }

    // Open loop.

    fn drive_open(&mut self, operations_per_second: f64) -> Result<(), LoadError> {
        let mut arrivals = Arrivals::new(operations_per_second);
        // Intended starts of operations for which there is no room yet.
        let mut waiting: VecDeque<u64> = VecDeque::new();
        let mut next_link = 0;
        let give_up_ns = self.give_up_ns();
        // The last pass begins after the end, so that what was due before it is sent however late this thread is.
        loop {
            let now_ns = self.now_ns();
            self.take_arrivals(&mut arrivals, now_ns, &mut waiting);
            self.submit_waiting(&mut waiting, &mut next_link, now_ns);
            if now_ns >= self.window.end {
                self.give_up_waiting(&mut waiting);
                if self.in_flight() == 0 {
                    return Ok(());
                }
            }
            for link in &mut self.links {
                link.send()?;
            }
            self.sleep_until(self.next_due_ns(&arrivals, now_ns))?;
            for position in 0..self.ready.len() {
                self.receive(self.ready[position])?;
            }
            self.check_patience(give_up_ns)?;
        }
    }

    /// Adds the operations to `waiting` that are meant to have started by now.
    fn take_arrivals(&mut self, arrivals: &mut Arrivals, now_ns: u64, waiting: &mut VecDeque<u64>) {
        while let Some(intended_ns) = arrivals.next_until(now_ns.min(self.window.end)) {
            if self.window.contains(&intended_ns) {
                self.result.offered += self.plan.mix.commands_per_request();
            }
            waiting.push_back(intended_ns);
        }
    }

    /// Gives what waits to connections that have room, in turn. What has become due together leaves together, on as
    /// few connections as have room for it: sending each by itself would make the client the bottleneck.
    fn submit_waiting(&mut self, waiting: &mut VecDeque<u64>, next_link: &mut usize, now_ns: u64) {
        for _ in 0..self.links.len() {
            if waiting.is_empty() {
                return;
            }
            let place = *next_link;
            *next_link = (place + 1) % self.plan.connections;
            while self.links[place].has_room()
                && let Some(intended_ns) = waiting.pop_front()
            {
                let room_since_ns = self.links[place].room_since_ns();
                self.note_delay(intended_ns, room_since_ns, now_ns);
                let link = &mut self.links[place];
                let mark = self.plan.current_mark();
                link.submit(self.plan.mix, self.requests, intended_ns, mark);
            }
        }
    }

    /// How late a request leaves for which there has been room since then.
    fn note_delay(&mut self, intended_ns: u64, room_since_ns: u64, now_ns: u64) {
        if self.window.contains(&intended_ns) {
            // What had to wait for room waited for the store, not for this client.
            let ready_ns = intended_ns.max(room_since_ns);
            let delay_ns = now_ns.saturating_sub(ready_ns);
            self.result.client_delay.saturating_record(delay_ns);
        }
    }

    /// The run is over: what has not been sent never will be.
    fn give_up_waiting(&mut self, waiting: &mut VecDeque<u64>) {
        for intended_ns in waiting.drain(..) {
            if self.window.contains(&intended_ns) {
                self.result.unsent += self.plan.mix.commands_per_request();
                let at_least_ns = self.window.end - intended_ns;
                self.result.latency.saturating_record(at_least_ns);
            }
        }
    }

    /// When the next request is due; never once the run is over.
    fn next_due_ns(&self, arrivals: &Arrivals, now_ns: u64) -> u64 {
        match now_ns < self.window.end {
            true => arrivals.next_ns(),
            false => u64::MAX,
        }
    }

    /// Polls until something has come, or the next request is due, at most for [`SLEEP_MAX`].
    fn sleep_until(&mut self, due_ns: u64) -> Result<(), LoadError> {
        let idle = Duration::from_nanos(due_ns.saturating_sub(self.now_ns()));
        if idle.is_zero() {
            return self.poll_once(Some(Duration::ZERO));
        }
        self.alarm.set(idle.min(SLEEP_MAX))?;
        self.poll_once(None)
    }

    // Both.

    fn poll_once(&mut self, timeout: Option<Duration>) -> Result<(), LoadError> {
        self.ready.clear();
        self.closing.clear();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            if event.token() == Alarm::TOKEN {
                continue;
            }
            let place = event.token().0;
            self.ready.push(place);
            if event.is_read_closed() || event.is_error() {
                self.closing.push(place);
            }
        }
        Ok(())
    }

    /// Takes every answer that a connection holds.
    fn receive(&mut self, link: usize) -> Result<(), LoadError> {
        let Driver {
            plan,
            requests,
            links,
            receive_buffer,
            epoch,
            window,
            result,
            ..
        } = self;
        let mut books = Books::new(plan, window, requests, result);
        links[link].receive(receive_buffer, *epoch, |answer| books.take(answer))?;
        Ok(())
    }

    fn give_up_ns(&self) -> u64 {
        self.window.end + nanoseconds(self.plan.patience)
    }

    fn check_patience(&self, give_up_ns: u64) -> Result<(), LoadError> {
        if self.now_ns() < give_up_ns {
            return Ok(());
        }
        Err(LoadError::NoAnswer {
            missing: self
                .fleet
                .as_ref()
                .map_or_else(|| self.in_flight(), Fleet::under_way),
            waited: self.plan.patience,
        })
    }

    fn into_result(self) -> LoadResult {
        let mut result = self.result;
        for (_, histogram) in &result.latency_by_kind {
            let merged = result.latency.add(histogram);
            merged.expect("all histograms have the same bounds");
        }
        result
    }
}

impl LoadResult {
    fn note_latency(&mut self, kind: OperationKind, mark: Mark, latency_ns: u64) {
        if mark == Mark::Marked {
            self.latency_marked.saturating_record(latency_ns);
        }
        let mut kinds = self.latency_by_kind.iter_mut();
        let (_, histogram) = kinds
            .find(|(found, _)| *found == kind)
            .expect("a mix names every operation that it has");
        histogram.saturating_record(latency_ns);
    }
}

impl Failures {
    fn note(&mut self, failure: Failure) {
        self.count += 1;
        self.first.get_or_insert(failure);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a run is shorter than centuries")
}

#[cfg(test)]
mod tests;
