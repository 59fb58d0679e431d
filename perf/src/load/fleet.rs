//! The connections of a run against a cluster: a lane of them to every core that leads something, and what must be sent
//! once more because another one leads by now, or because its connection is lost.
//!
//! All lanes share the requests that may be in flight, as clients do that do not know who leads what: where one leader
//! is slow, more of them wait for it.

use std::net::SocketAddr;

use super::Mark;
use super::link::{Link, Sent};
use crate::operation::Asked;
use crate::routes::Routes;

/// Lanes, and who leads what.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) routes: Routes,
    lanes: Vec<Lane>,
    /// Connections of a lane that is opened.
    connections_per_lane: usize,
    /// The most requests that may be in flight, on all connections together.
    capacity: usize,
    /// Requests that are in flight or must be sent once more.
    under_way: usize,
    room_since_ns: u64,
    /// What must be sent once more.
    pub(super) redirected: Vec<Redirected>,
    /// When leaders were last asked for.
    pub(super) refreshed_ns: Option<u64>,
    /// Since when something waits although leaders were asked for.
    leaderless_since_ns: Option<u64>,
}

/// Connections to one core.
#[derive(Debug)]
struct Lane {
    address: SocketAddr,
    /// Their places among all connections; none before something is sent there.
    links: Vec<usize>,
    /// The one that takes the next request.
    next: usize,
    /// Whether a connection of it was lost, or could not be made, and has not been replaced: then it takes no request.
    is_gone: bool,
}

/// A lane that lacks connections.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unopened {
    pub(super) lane: usize,
    pub(super) address: SocketAddr,
    /// One for each connection that is to be made: the place of the one that it takes the place of, if there is one.
    pub(super) places: Vec<Option<usize>>,
}

/// A request that must be sent once more, or that waits for a leader before it is sent at all.
#[derive(Debug, Clone)]
pub(super) struct Redirected {
    pub(super) asked: Asked,
    pub(super) start_ns: u64,
    pub(super) mark: Mark,
    pub(super) wait: Wait,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until leaders were asked for.
    ForLeader {
        /// Who leads, as far as the core knows that does not.
        hint: Option<SocketAddr>,
    },
    /// For a time, in nanoseconds since the run's epoch.
    Until { at_ns: u64 },
}

impl Redirected {
    /// A request that was sent and waits for this now.
    pub(super) fn of(sent: &Sent, wait: Wait) -> Redirected {
        Redirected {
            asked: sent.asked,
            start_ns: sent.start_ns,
            mark: sent.mark,
            wait,
        }
    }
}

impl Fleet {
    /// Lanes to all leaders, which share the connections and what may be in flight.
    pub(super) fn new(routes: &Routes, connections: usize, in_flight: usize) -> Fleet {
        let lanes = routes.leaders().into_iter().map(Lane::new);
        let lanes: Vec<Lane> = lanes.collect();
        Fleet {
            connections_per_lane: connections.div_ceil(lanes.len()),
            lanes,
            routes: routes.clone(),
            capacity: in_flight,
            under_way: 0,
            room_since_ns: 0,
            redirected: Vec::new(),
            refreshed_ns: None,
            leaderless_since_ns: None,
        }
    }

    /// Per shard the number of its lane. Lanes are made for leaders that are new.
    pub(super) fn lanes_of_shards(&mut self) -> Vec<u16> {
        let lane_to = |lanes: &mut Vec<Lane>, address| {
            let found = lanes.iter().position(|lane| lane.address == address);
            found.unwrap_or_else(|| {
                lanes.push(Lane::new(address));
                lanes.len() - 1
            })
        };
        (0..self.routes.shard_count())
            .map(|shard| lane_to(&mut self.lanes, self.routes.leader(shard)))
            .map(|lane| u16::try_from(lane).expect("a cluster has fewer cores"))
            .collect()
    }

    /// The lanes of those who lead that lack connections, because they have none yet or have lost some.
    pub(super) fn unopened(&self, is_lost: impl Fn(usize) -> bool) -> Vec<Unopened> {
        let leaders = self.routes.leaders();
        let lanes = self.lanes.iter().enumerate();
        let lanes = lanes.filter(|(_, lane)| leaders.contains(&lane.address));
        let unopened = lanes.map(|(number, lane)| {
            let lost = lane.links.iter().copied().filter(|&link| is_lost(link));
            let missing = self.connections_per_lane.saturating_sub(lane.links.len());
            let missing = std::iter::repeat_n(None, missing);
            Unopened {
                lane: number,
                address: lane.address,
                places: lost.map(Some).chain(missing).collect(),
            }
        });
        unopened.filter(|lane| !lane.places.is_empty()).collect()
    }

    /// All connections of a lane are there.
    pub(super) fn note_open(&mut self, lane: usize) {
        self.lanes[lane].is_gone = false;
    }

    /// A connection of a lane could not be made.
    pub(super) fn note_gone(&mut self, lane: usize) {
        self.lanes[lane].is_gone = true;
    }

    /// The connection at this place among all was lost.
    pub(super) fn note_lost(&mut self, link: usize) {
        let mut lanes = self.lanes.iter_mut();
        if let Some(lane) = lanes.find(|lane| lane.links.contains(&link)) {
            lane.is_gone = true;
        }
    }

    /// Whether a lane takes no requests at present.
    pub(super) fn is_gone(&self, lane: u16) -> bool {
        self.lanes[usize::from(lane)].is_gone
    }

    /// Where lanes lead that take no requests at present.
    pub(super) fn gone(&self) -> Vec<SocketAddr> {
        let gone = self.lanes.iter().filter(|lane| lane.is_gone);
        gone.map(|lane| lane.address).collect()
    }

    /// Whether leaders must be asked for, which is not done again before a pause has passed.
    pub(super) fn must_refresh(&self, now_ns: u64, pause_ns: u64) -> bool {
        let is_too_soon = self
            .refreshed_ns
            .is_some_and(|refreshed_ns| now_ns < refreshed_ns + pause_ns);
        let mut waiting = self.redirected.iter();
        !is_too_soon && waiting.any(|again| matches!(again.wait, Wait::ForLeader { .. }))
    }

    /// Takes what may be sent once more now: what has waited long enough, and, when leaders were just asked for, what
    /// waits for them.
    pub(super) fn take_due(&mut self, has_refreshed: bool, now_ns: u64) -> Vec<Redirected> {
        let is_due = |again: &Redirected| match again.wait {
            Wait::ForLeader { .. } => has_refreshed,
            Wait::Until { at_ns } => at_ns <= now_ns,
        };
        let waiting = std::mem::take(&mut self.redirected);
        let (due, rest) = waiting.into_iter().partition(is_due);
        self.redirected = rest;
        due
    }

    /// Leaders were asked for, and all is sent, or something still waits for one. Says for how long by now.
    pub(super) fn note_leaderless(&mut self, is_waiting: bool, now_ns: u64) -> u64 {
        if !is_waiting {
            self.leaderless_since_ns = None;
            return 0;
        }
        now_ns - *self.leaderless_since_ns.get_or_insert(now_ns)
    }

    /// A connection of a lane stands at this place among all.
    pub(super) fn add_link(&mut self, lane: usize, link: usize) {
        self.lanes[lane].links.push(link);
    }

    /// The connection of a lane that takes the next request: the same one until it has its share, so that what is sent
    /// at one time leaves on few connections; where all have theirs, one after the other.
    pub(super) fn link_for(&mut self, lane: u16, links: &[Link]) -> usize {
        self.lanes[usize::from(lane)].choose(|link| links[link].has_room())
    }

    /// Whether another request may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.under_way < self.capacity
    }

    /// Requests that are not answered.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// When an answer last ended a time without room, or the load last stood still, 0 if there never was such a time.
    pub(super) fn room_since_ns(&self) -> u64 {
        self.room_since_ns
    }

    /// The load stood still until now to find a leader and to connect to it: whatever came meanwhile waited for that, and
    /// not for a client that had too much to do.
    pub(super) fn note_interruption(&mut self, now_ns: u64) {
        self.room_since_ns = now_ns;
    }

    /// A new request is sent.
    pub(super) fn note_sent(&mut self) {
        self.under_way += 1;
    }

    /// So many requests are answered.
    pub(super) fn note_answered(&mut self, count: usize, now_ns: u64) {
        let had_room = self.has_room();
        self.under_way -= count;
        if !had_room && self.has_room() {
            self.room_since_ns = now_ns;
        }
    }
}

impl Lane {
    fn new(address: SocketAddr) -> Lane {
        Lane {
            address,
            links: Vec::new(),
            next: 0,
            is_gone: false,
        }
    }

    fn choose(&mut self, has_room: impl Fn(usize) -> bool) -> usize {
        let count = self.links.len();
        let places = (0..count).map(|step| (self.next + step) % count);
        let free = places
            .into_iter()
            .find(|&place| has_room(self.links[place]));
        if let Some(place) = free {
            self.next = place;
            return self.links[place];
        }
        self.next = (self.next + 1) % count;
        self.links[self.next]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Mix, Operation, RequestMaker};
    use metastore_net::{ShardMapReply, ShardPlace, SlotRange};

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Two shards with leaders at these ports, and a follower at 7,003.
    fn routes(leaders: [u16; 2]) -> Routes {
        let place = |(shard, port): (u32, u16)| ShardPlace {
            shard,
            slots: vec![SlotRange {
                first: if shard == 0 { 0 } else { 8_192 },
                last: if shard == 0 { 8_191 } else { 16_383 },
            }],
            node_id: u32::from(port),
            core_index: 0,
            address: at(port).to_string(),
            followers: vec![at(7_003).to_string()],
            follower_nodes: Vec::new(),
        };
        let map = ShardMapReply {
            epoch: 1,
            slot_count: 16_384,
            shards: (0..).zip(leaders).map(place).collect(),
        };
        Routes::of(&map).unwrap().unwrap()
    }

    #[test]
    fn leaders_share_the_connections_and_new_ones_get_lanes() {
        let mut fleet = Fleet::new(&routes([7_001, 7_002]), 5, 10);
        assert_eq!(fleet.lanes_of_shards(), [0, 1]);
        let fresh = |lane, port, count| Unopened {
            lane,
            address: at(port),
            places: vec![None; count],
        };
        let none_is_lost = |_| false;
        let both = [fresh(0, 7_001, 3), fresh(1, 7_002, 3)];
        assert_eq!(fleet.unopened(none_is_lost), both);
        for link in 0..3 {
            fleet.add_link(0, link);
            fleet.add_link(1, 3 + link);
        }
        assert_eq!(fleet.unopened(none_is_lost), []);
        assert!(fleet.routes.lead_from(0, at(7_003)));
        assert_eq!(fleet.lanes_of_shards(), [2, 1]);
        assert_eq!(fleet.unopened(none_is_lost), [fresh(2, 7_003, 3)]);
        let lone = Fleet::new(&routes([7_001, 7_001]), 1, 1);
        assert_eq!(lone.unopened(none_is_lost), [fresh(0, 7_001, 1)]);
    }

    #[test]
    fn a_lane_that_lost_a_connection_is_left_alone_until_it_leads_and_is_whole() {
        let mut fleet = Fleet::new(&routes([7_001, 7_002]), 4, 10);
        for link in 0..2 {
            fleet.add_link(0, link);
            fleet.add_link(1, 2 + link);
        }
        fleet.note_lost(1);
        assert!(fleet.is_gone(0) && !fleet.is_gone(1));
        assert_eq!(fleet.gone(), [at(7_001)]);
        let is_lost = |link| link == 1;
        let renewed = Unopened {
            lane: 0,
            address: at(7_001),
            places: vec![Some(1)],
        };
        assert_eq!(fleet.unopened(is_lost), [renewed]);
        // Another node leads: nobody connects to the one that is gone.
        fleet.routes.lead_from(0, at(7_002));
        assert_eq!(fleet.unopened(is_lost), []);
        fleet.note_open(0);
        assert_eq!(fleet.gone(), []);
    }

    #[test]
    fn what_waits_for_a_leader_goes_after_a_refresh_and_what_was_put_off_in_its_time() {
        let mut fleet = Fleet::new(&routes([7_001, 7_002]), 1, 10);
        let mut requests = RequestMaker::new(10);
        let (_, asked) = requests.next_request(Mix::Only(Operation::Ping));
        let again = |start_ns, wait| Redirected {
            asked,
            start_ns,
            mark: Mark::Plain,
            wait,
        };
        fleet.redirected.push(again(1, Wait::Until { at_ns: 50 }));
        assert!(!fleet.must_refresh(100, 5), "no leader is missing");
        let for_leader = Wait::ForLeader { hint: None };
        fleet.redirected.push(again(2, for_leader));
        assert!(fleet.must_refresh(100, 5));
        fleet.refreshed_ns = Some(98);
        assert!(!fleet.must_refresh(100, 5) && fleet.must_refresh(103, 5));
        let starts = |due: Vec<Redirected>| -> Vec<u64> {
            due.into_iter().map(|again| again.start_ns).collect()
        };
        assert!(starts(fleet.take_due(false, 49)).is_empty());
        assert_eq!(starts(fleet.take_due(false, 50)), [1]);
        assert_eq!(starts(fleet.take_due(true, 50)), [2]);

        assert_eq!(fleet.note_leaderless(true, 100), 0);
        assert_eq!(fleet.note_leaderless(true, 130), 30);
        assert_eq!(fleet.note_leaderless(false, 140), 0);
        assert_eq!(fleet.note_leaderless(true, 150), 0);
    }

    #[test]
    fn a_connection_is_filled_before_the_next_and_then_they_take_turns() {
        let mut lane = Lane::new(at(7_001));
        lane.links = vec![4, 7, 9];
        let mut load = [0; 10];
        let mut order = Vec::new();
        for _ in 0..9 {
            let link = lane.choose(|link| load[link] < 2);
            load[link] += 1;
            order.push(link);
        }
        assert_eq!(order, [4, 4, 7, 7, 9, 9, 4, 7, 9]);
    }

    #[test]
    fn room_is_shared_and_begins_when_an_answer_makes_it() {
        let mut fleet = Fleet::new(&routes([7_001, 7_002]), 2, 2);
        fleet.note_sent();
        fleet.note_answered(1, 50);
        assert_eq!(fleet.room_since_ns(), 0, "there was room all the time");
        fleet.note_sent();
        fleet.note_sent();
        assert!(!fleet.has_room());
        fleet.note_answered(2, 80);
        assert!(fleet.has_room());
        assert_eq!((fleet.room_since_ns(), fleet.under_way()), (80, 0));
        fleet.note_interruption(95);
        assert_eq!(fleet.room_since_ns(), 95);
    }
}
