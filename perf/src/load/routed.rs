//! Load against a cluster: each request goes to whoever leads its key, and once more to somebody else where that has
//! changed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use metastore_net::blocking::{Client, ConnectOptions};
use mio::Token;

use super::fleet::{Fleet, Redirected, Unopened, Wait};
use super::link::{Answer, Link};
use super::survival::Fate;
use super::{Arrivals, Books, Driver, LoadError, SLEEP_MAX, nanoseconds};
use crate::protocol::{Session, SessionError};
use crate::routes::Routes;
use crate::system::System;

/// How long it takes at least from one question for leaders to the next.
const REFRESH_PAUSE: Duration = Duration::from_millis(5);

/// How long a node may take to say who leads.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node may take to be connected to, or to say who leads, where nodes may be gone: all of the load waits
/// meanwhile, and there will be another attempt.
const SURVIVAL_TIMEOUT: Duration = Duration::from_millis(200);

impl Driver<'_> {
    /// Opens what is missing, and tells whoever makes requests which lane leads to which shard.
    pub(super) fn open_lanes(&mut self) -> Result<(), LoadError> {
        let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
        self.requests.set_lanes(&fleet.lanes_of_shards());
        let links = &self.links;
        for unopened in fleet.unopened(|link| links[link].is_lost()) {
            self.open_lane(unopened)?;
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

    /// Makes the connections that a lane lacks. Where a lost node is survived and one cannot be made, the lane stays
    /// closed until leaders are asked for again.
    fn open_lane(&mut self, unopened: Unopened) -> Result<(), LoadError> {
        let Unopened {
            lane,
            address,
            places,
        } = unopened;
        for place in places {
            let number = place.unwrap_or(self.links.len());
            let opened = self.open_link(address, number);
            let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
            match opened {
                Ok(link) if number < self.links.len() => self.links[number] = link,
                Ok(link) => {
                    self.links.push(link);
                    fleet.add_link(lane, number);
                }
                Err(error) if self.plan.survives_lost_nodes && error.is_loss() => {
                    fleet.note_gone(lane);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
        fleet.note_open(lane);
        Ok(())
    }

    fn open_link(&self, address: SocketAddr, number: usize) -> Result<Link, SessionError> {
        let session = match self.plan.survives_lost_nodes {
            true => Session::connect_within(System::MetaStore, address, SURVIVAL_TIMEOUT)?,
            false => Session::connect(System::MetaStore, address)?,
        };
        let depth = self.plan.in_flight_per_connection;
        Link::of(session, self.poll.registry(), Token(number), depth)
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
            let timeout = self.routed_timeout(SLEEP_MAX);
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
            let look_ns = now_ns + nanoseconds(self.routed_timeout(SLEEP_MAX));
            let due_ns = self.next_due_ns(&arrivals, now_ns);
            self.sleep_until(due_ns.min(look_ns))?;
            self.receive_routed()?;
            self.check_patience(give_up_ns)?;
        }
    }

    fn fleet(&self) -> &Fleet {
        self.fleet.as_ref().expect("the load goes to a cluster")
    }

    /// Gives the next request to the lane of its key. Where that is gone it waits until somebody leads.
    fn submit_routed(&mut self, start_ns: u64) {
        let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
        let mark = self.plan.current_mark();
        let (request, asked) = self.requests.next_request(self.plan.mix);
        fleet.note_sent();
        if fleet.is_gone(asked.lane) {
            fleet.redirected.push(Redirected {
                asked,
                start_ns,
                mark,
                wait: Wait::ForLeader { hint: None },
            });
            return;
        }
        let link = fleet.link_for(asked.lane, &self.links);
        self.links[link].submit_request(&request, asked, start_ns, mark);
    }

    fn send_all(&mut self) -> Result<(), LoadError> {
        for place in 0..self.links.len() {
            let sent = self.links[place].send();
            self.outlive(place, sent)?;
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

    /// Takes every answer that has arrived, except those after which a request must be sent once more.
    fn receive_routed(&mut self) -> Result<(), LoadError> {
        for position in 0..self.ready.len() {
            let place = self.ready[position];
            let received = self.receive_answers(place);
            self.outlive(place, received)?;
        }
        self.outlive_closing()?;
        debug_assert_eq!(
            self.fleet().under_way(),
            self.in_flight() + self.fleet().redirected.len(),
            "every request is on a connection or must be sent once more"
        );
        Ok(())
    }

    /// The same of one connection.
    pub(super) fn receive_answers(&mut self, place: usize) -> Result<(), SessionError> {
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
        let before = links[place].in_flight();
        let had_redirected = fleet.redirected.len();
        let received =
            links[place].receive(receive_buffer, *epoch, |answer: Answer<'_>| match Fate::of(
                &answer,
                plan.survives_lost_nodes,
            ) {
                Fate::Answered => books.take(answer),
                Fate::Elsewhere { hint } => {
                    books.result.redirected += 1;
                    let again = Redirected::of(answer.sent, Wait::ForLeader { hint });
                    fleet.redirected.push(again);
                }
                Fate::Later { pause_ns } => {
                    books.result.losses.put_off += 1;
                    let at_ns = answer.at_ns + pause_ns;
                    let again = Redirected::of(answer.sent, Wait::Until { at_ns });
                    fleet.redirected.push(again);
                }
                Fate::Unknown => books.note_unknown(answer.sent, answer.at_ns),
            });
        let came_back = fleet.redirected.len() - had_redirected;
        let answered = before - links[place].in_flight() - came_back;
        fleet.note_answered(answered, nanoseconds(epoch.elapsed()));
        received
    }

    /// Sends once more what must be and may be by now, to whoever leads, after asking who that is.
    fn send_again(&mut self, now_ns: u64) -> Result<(), LoadError> {
        let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
        if fleet.redirected.is_empty() {
            return Ok(());
        }
        let has_refreshed = fleet.must_refresh(now_ns, nanoseconds(REFRESH_PAUSE));
        if has_refreshed {
            self.refresh()?;
        }
        let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
        let mut is_waiting = false;
        for again in fleet.take_due(has_refreshed, now_ns) {
            let (request, asked) = self.requests.again(&again.asked);
            if fleet.is_gone(asked.lane) {
                is_waiting = true;
                fleet.redirected.push(Redirected {
                    wait: Wait::ForLeader { hint: None },
                    ..again
                });
            } else {
                let link = fleet.link_for(asked.lane, &self.links);
                self.links[link].submit_request(&request, asked, again.start_ns, again.mark);
            }
        }
        if has_refreshed {
            let leaderless_ns = fleet.note_leaderless(is_waiting, now_ns);
            if leaderless_ns > nanoseconds(self.plan.patience) {
                return Err(LoadError::NoLeader {
                    waited: Duration::from_nanos(leaderless_ns),
                });
            }
        }
        Ok(())
    }

    /// Asks who leads the shards for whose leaders something waits.
    fn refresh(&mut self) -> Result<(), LoadError> {
        let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
        let mut wanted = Vec::new();
        for again in &fleet.redirected {
            if let Wait::ForLeader { hint } = again.wait {
                let shard = self.requests.shard_of(&again.asked);
                if !wanted.contains(&(shard, hint)) {
                    wanted.push((shard, hint));
                }
            }
        }
        let timeout = match self.plan.survives_lost_nodes {
            true => SURVIVAL_TIMEOUT,
            false => REFRESH_TIMEOUT,
        };
        let gone = fleet.gone();
        let ask = |address| ask_for_routes(address, timeout);
        follow(&mut fleet.routes, &wanted, &gone, ask);
        fleet.refreshed_ns = Some(nanoseconds(self.epoch.elapsed()));
        self.open_lanes()?;
        if self.plan.survives_lost_nodes {
            let now_ns = self.now_ns();
            let fleet = self.fleet.as_mut().expect("the load goes to a cluster");
            fleet.note_interruption(now_ns);
        }
        Ok(())
    }
}

/// Finds out who leads the shards of which requests wait for a leader, each with the hint that came with it: whoever is
/// said to lead knows it best, then anybody. Those who are gone are asked when nobody else says anything, and believed to
/// lead when nobody names another.
fn follow(
    routes: &mut Routes,
    wanted: &[(usize, Option<SocketAddr>)],
    gone: &[SocketAddr],
    ask: impl Fn(SocketAddr) -> Option<Routes>,
) {
    for &(shard, hint) in wanted {
        let candidates: Vec<SocketAddr> = hint.into_iter().chain(routes.addresses()).collect();
        let (absent, present): (Vec<SocketAddr>, Vec<SocketAddr>) = candidates
            .into_iter()
            .partition(|candidate| gone.contains(candidate));
        let told_by = |address: SocketAddr| {
            let told = ask(address)?;
            told.has_slots_of(routes).then(|| told.leader(shard))
        };
        let mut leader = None;
        for told in present.into_iter().filter_map(told_by) {
            leader.get_or_insert(told);
            if !gone.contains(&told) {
                leader = Some(told);
                break;
            }
        }
        let leader = leader
            .or_else(|| absent.into_iter().find_map(told_by))
            .or(hint);
        if let Some(leader) = leader {
            routes.lead_from(shard, leader);
        }
    }
}

/// The leaders as one node knows them; nothing where it does not say.
fn ask_for_routes(address: SocketAddr, timeout: Duration) -> Option<Routes> {
    let options = ConnectOptions {
        timeout,
        client_name: "metastore-perf",
        ..ConnectOptions::default()
    };
    let mut client = Client::connect_with(address, &options).ok()?;
    Routes::of(&client.shard_map().ok()?).ok()?
}

#[cfg(test)]
mod tests;
