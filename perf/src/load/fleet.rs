//! The connections of a run against a cluster: a lane of them to every core that leads something, and what has come back
//! because another one leads by now.
//!
//! All lanes share the requests that may be in flight, as clients do that do not know who leads what: where one leader
//! is slow, more of them wait for it.

use std::net::SocketAddr;

use super::Mark;
use super::link::Link;
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
}

/// Connections to one core.
#[derive(Debug)]
struct Lane {
    address: SocketAddr,
    /// Their places among all connections; none before something is sent there.
    links: Vec<usize>,
    /// The one that takes the next request.
    next: usize,
}

/// A request that came to a core that does not lead its shard.
#[derive(Debug, Clone)]
pub(super) struct Redirected {
    pub(super) asked: Asked,
    pub(super) start_ns: u64,
    pub(super) mark: Mark,
    /// Who leads, as far as that core knows.
    pub(super) hint: Option<SocketAddr>,
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

    /// The lanes that have no connections yet: their numbers, where they lead, and how many they should have.
    pub(super) fn unopened(&self) -> Vec<(usize, SocketAddr, usize)> {
        let lanes = self.lanes.iter().enumerate();
        let closed = lanes.filter(|(_, lane)| lane.links.is_empty());
        closed
            .map(|(number, lane)| (number, lane.address, self.connections_per_lane))
            .collect()
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

    /// When an answer last ended a time without room, 0 if there never was such a time.
    pub(super) fn room_since_ns(&self) -> u64 {
        self.room_since_ns
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
        assert_eq!(fleet.unopened(), [(0, at(7_001), 3), (1, at(7_002), 3)]);
        fleet.add_link(0, 0);
        fleet.add_link(1, 1);
        assert_eq!(fleet.unopened(), []);
        assert!(fleet.routes.lead_from(0, at(7_003)));
        assert_eq!(fleet.lanes_of_shards(), [2, 1]);
        assert_eq!(fleet.unopened(), [(2, at(7_003), 3)]);
        let lone = Fleet::new(&routes([7_001, 7_001]), 1, 1);
        assert_eq!(lone.unopened(), [(0, at(7_001), 1)]);
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
    }
}
