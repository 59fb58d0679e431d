//! Load against a cluster: each request goes to whoever leads its key, and once more to somebody else where that has
//! changed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use metastore_net::blocking::{Client, ConnectOptions};
use mio::Token;

use super::fleet::{Fleet, Redirected};
use super::link::{Answer, Link};
use super::{Arrivals, Books, Driver, LoadError, nanoseconds, sleep_within};
use crate::routes::{Routes, resolve};
use crate::system::System;

/// How long it takes at least from one question for leaders to the next.
const REFRESH_PAUSE: Duration = Duration::from_millis(5);

/// How long a node may take to say who leads.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

impl Driver<'_> {
    /// Opens what is missing, and tells whoever makes requests which lane leads to which shard.
    pub(super) fn open_lanes(&mut self) -> Result<(), LoadError> {
        let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
        self.requests.set_lanes(&fleet.lanes_of_shards());
        for (lane, address, connections) in fleet.unopened() {
            for _ in 0..connections {
                let place = self.links.len();
                let link = Link::open(
                    System::MetaStore,
                    address,
                    self.poll.registry(),
                    Token(place),
                    self.plan.in_flight_per_connection,
                )?;
                self.links.push(link);
                fleet.add_link(lane, place);
            }
        }
        let commands = self.plan.mix.commands_per_request();
        if commands > 1 {
            let fewest = self.requests.batch_keys_max();
            if (fewest as u64) < commands {
                return Err(LoadError::FewKeys { fewest, commands });
            }
        }
        Ok(())
    }

    pub(super) fn drive_closed_routed(&mut self) -> Result<(), LoadError> {
        let give_up_ns = self.give_up_ns();
        loop {
            let now_ns = self.now_ns();
            if now_ns < self.window.end {
                while self.fleet().has_room() {
                    self.submit_routed(now_ns);
                }
            } else if self.fleet().under_way() == 0 {
                return Ok(());
            }
            self.send_again(now_ns)?;
            self.send_all()?;
            let timeout = self.routed_timeout(Duration::from_millis(100));
            self.poll_once(Some(timeout))?;
            self.receive_routed()?;
            self.check_patience(give_up_ns)?;
        }
    }

    pub(super) fn drive_open_routed(
        &mut self,
        operations_per_second: f64,
    ) -> Result<(), LoadError> {
        let mut arrivals = Arrivals::new(operations_per_second);
        let mut waiting: VecDeque<u64> = VecDeque::new();
        let give_up_ns = self.give_up_ns();
        loop {
            let now_ns = self.now_ns();
            self.take_arrivals(&mut arrivals, now_ns, &mut waiting);
            while self.fleet().has_room()
                && let Some(intended_ns) = waiting.pop_front()
            {
                let room_since_ns = self.fleet().room_since_ns();
                self.note_delay(intended_ns, room_since_ns, now_ns);
                self.submit_routed(intended_ns);
            }
            if now_ns >= self.window.end {
                self.give_up_waiting(&mut waiting);
                if self.fleet().under_way() == 0 {
                    return Ok(());
                }
            }
            self.send_again(now_ns)?;
            self.send_all()?;
            let idle_ns = arrivals.next_ns().saturating_sub(self.now_ns());
            std::thread::yield_now();
            let timeout = self.routed_timeout(sleep_within(idle_ns));
            self.poll_once(Some(timeout))?;
            self.receive_routed()?;
            self.check_patience(give_up_ns)?;
        }
    }

    fn fleet(&self) -> &Fleet {
        self.fleet.as_ref().expect("the load goes to a cluster")
    }

    /// Gives the next request to the lane of its key.
    fn submit_routed(&mut self, start_ns: u64) {
        let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
        let mark = self.plan.current_mark();
        let (request, asked) = self.requests.next_request(self.plan.mix);
        let link = fleet.link_for(asked.lane, &self.links);
        self.links[link].submit_request(&request, asked, start_ns, mark);
        fleet.note_sent();
    }

    fn send_all(&mut self) -> Result<(), LoadError> {
        for link in &mut self.links {
            link.send()?;
        }
        Ok(())
    }

    /// What has come back does not wait for long.
    fn routed_timeout(&self, usual: Duration) -> Duration {
        match self.fleet().redirected.is_empty() {
            true => usual,
            false => usual.min(Duration::from_millis(1)),
        }
    }

    /// Takes every answer that has arrived, except those that name another leader: their requests come back.
    fn receive_routed(&mut self) -> Result<(), LoadError> {
        for position in 0..self.ready.len() {
            let link = self.ready[position];
            let Driver {
                plan,
                requests,
                links,
                receive_buffer,
                epoch,
                window,
                result,
                fleet,
                ..
            } = self;
            let fleet = fleet.as_mut().expect("the load goes to a cluster");
            let mut books = Books::new(plan, window, requests, result);
            let before = links[link].in_flight();
            let had_redirected = fleet.redirected.len();
            links[link].receive(receive_buffer, *epoch, |answer: Answer<'_>| {
                match answer.redirect() {
                    Some(hint) => fleet.redirected.push(Redirected {
                        asked: *answer.asked,
                        start_ns: answer.start_ns,
                        mark: answer.mark,
                        hint: resolve(hint).ok(),
                    }),
                    None => books.take(answer),
                }
            })?;
            let came_back = fleet.redirected.len() - had_redirected;
            result.redirected += came_back as u64;
            let answered = before - links[link].in_flight() - came_back;
            fleet.note_answered(answered, nanoseconds(epoch.elapsed()));
        }
        debug_assert_eq!(
            self.fleet().under_way(),
            self.in_flight() + self.fleet().redirected.len(),
            "every request is on a connection or has come back"
        );
        Ok(())
    }

    /// Sends what has come back to whoever leads by now, after asking who that is.
    fn send_again(&mut self, now_ns: u64) -> Result<(), LoadError> {
        let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
        let pause_ns = nanoseconds(REFRESH_PAUSE);
        let is_too_soon = fleet
            .refreshed_ns
            .is_some_and(|refreshed_ns| now_ns < refreshed_ns + pause_ns);
        if fleet.redirected.is_empty() || is_too_soon {
            return Ok(());
        }
        let redirected = std::mem::take(&mut fleet.redirected);
        let mut found = Vec::new();
        for again in &redirected {
            let wanted = (self.requests.shard_of(&again.asked), again.hint);
            if !found.contains(&wanted) {
                found.push(wanted);
            }
        }
        follow(&mut fleet.routes, &found, ask_for_routes);
        fleet.refreshed_ns = Some(nanoseconds(self.epoch.elapsed()));
        self.open_lanes()?;
        let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
        for Redirected {
            asked,
            start_ns,
            mark,
            ..
        } in redirected
        {
            let (request, asked) = self.requests.again(&asked);
            let link = fleet.link_for(asked.lane, &self.links);
            self.links[link].submit_request(&request, asked, start_ns, mark);
        }
        Ok(())
    }
}

/// Finds out who leads the shards of which requests came back, each with the hint that came with it: whoever is said to
/// lead knows it best, then anybody.
fn follow(
    routes: &mut Routes,
    wanted: &[(usize, Option<SocketAddr>)],
    ask: impl Fn(SocketAddr) -> Option<Routes>,
) {
    for &(shard, hint) in wanted {
        let others = routes.addresses().into_iter();
        let told = hint.into_iter().chain(others).find_map(&ask);
        let same = told.filter(|told| told.has_slots_of(routes));
        let leader = same.map(|told| told.leader(shard)).or(hint);
        if let Some(leader) = leader {
            routes.lead_from(shard, leader);
        }
    }
}

/// The leaders as one node knows them; nothing where it does not say.
fn ask_for_routes(address: SocketAddr) -> Option<Routes> {
    let options = ConnectOptions {
        timeout: REFRESH_TIMEOUT,
        client_name: "metastore-perf",
        ..ConnectOptions::default()
    };
    let mut client = Client::connect_with(address, &options).ok()?;
    Routes::of(&client.shard_map().ok()?).ok()?
}

#[cfg(test)]
mod tests;
