//! Several stores for tests that are one cluster: they share what was put, and each shard is led by one of them. Any other
//! answers that it does not lead, and names the one that does. A member may lose its connections, or die, in the middle.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use metastore_net::{ErrorCode, StatusReply};
use metastore_net::{ReplicaRole, ReplicaStatus, ShardMapReply, ShardPlace, SlotRange, WireError};
use metastore_statemachine::{NamespaceId, NamespaceRule, SLOT_COUNT, slot_of};

use crate::fake_store::{FakeStore, Manner};

/// A cluster on the loopback interface. It serves until the process ends.
pub(crate) struct FakeCluster {
    shared: Arc<Shared>,
    stores: Vec<FakeStore>,
}

/// One store's view of it.
#[derive(Clone)]
pub(crate) struct Member {
    number: usize,
    shared: Arc<Shared>,
}

struct Shared {
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    /// Of the members.
    addresses: Vec<SocketAddr>,
    /// Per shard the number of the member that leads, and the term.
    leads: Vec<(usize, u64)>,
    /// Keys that somebody has asked for.
    asked: u64,
    /// From so many of them on another member leads a shard.
    moves: Vec<(u64, usize, usize)>,
    /// Times that somebody was sent elsewhere.
    redirects: u64,
    /// Whether hints are given.
    is_mute: bool,
    /// From so many of them on, so many are answered with an error instead.
    errors: Option<(u64, u64, WireError)>,
    losses: Vec<Loss>,
    /// Open connections, with the member that serves them.
    streams: Vec<(usize, TcpStream)>,
    dead: Vec<usize>,
    /// Who takes the place of the dead when the map was asked for so many times more.
    successor: Option<(usize, u64)>,
    /// Times that somebody asked for the map.
    maps: u64,
}

/// A member that loses all of its connections.
struct Loss {
    /// When so many keys were asked for.
    at: u64,
    member: usize,
    then: Then,
}

/// What becomes of a member that has lost its connections.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// It takes new ones.
    Returns,
    /// It is dead, and another one leads what it led once the map was asked for so many times.
    Dies { successor: usize, after_maps: u64 },
}

impl FakeCluster {
    /// Begins to serve. Shards are led by the members in turn.
    pub(crate) fn start(members: usize, shards: usize) -> FakeCluster {
        let shared = Arc::new(Shared {
            places: Mutex::new(Places {
                leads: (0..shards).map(|shard| (shard % members, 1)).collect(),
                ..Places::default()
            }),
        });
        let mut stores: Vec<FakeStore> = Vec::new();
        for number in 0..members {
            let member = Member {
                number,
                shared: Arc::clone(&shared),
            };
            let first = stores.first();
            let store = FakeStore::start_member(Manner::Reversed, member, first);
            shared.places().addresses.push(store.address());
            stores.push(store);
        }
        FakeCluster { shared, stores }
    }

    /// Where the members listen.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.shared.places().addresses.clone()
    }

    /// The store with everything that was put.
    pub(crate) fn content(&self) -> &FakeStore {
        &self.stores[0]
    }

    /// When so many more keys were asked for, a shard is led by another member.
    pub(crate) fn move_after(&self, asked: u64, shard: usize, member: usize) {
        let mut places = self.shared.places();
        let at = places.asked + asked;
        places.moves.push((at, shard, member));
    }

    /// When so many more keys were asked for, a member loses its connections before it answers.
    pub(crate) fn lose_after(&self, asked: u64, member: usize, then: Then) {
        let mut places = self.shared.places();
        let at = places.asked + asked;
        places.losses.push(Loss { at, member, then });
    }

    /// When so many more keys were asked for, so many are answered with an error, whoever is asked.
    pub(crate) fn err_after(&self, asked: u64, times: u64, error: WireError) {
        let mut places = self.shared.places();
        places.errors = Some((places.asked + asked, times, error));
    }

    /// How often somebody asked for the map.
    pub(crate) fn maps(&self) -> u64 {
        self.shared.places().maps
    }

    /// Counts anew how often somebody asks for the map.
    pub(crate) fn forget_maps(&self) {
        self.shared.places().maps = 0;
    }

    /// From now on nobody says who leads instead.
    pub(crate) fn give_no_hints(&self) {
        self.shared.places().is_mute = true;
    }

    /// How often somebody was sent elsewhere.
    pub(crate) fn redirects(&self) -> u64 {
        self.shared.places().redirects
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places> {
        let mut places = self
            .places
            .lock()
            .expect("no thread of a store has panicked");
        let asked = places.asked;
        while let Some(due) = places.moves.iter().position(|(at, ..)| *at <= asked) {
            let (_, shard, member) = places.moves.remove(due);
            let (leader, term) = &mut places.leads[shard];
            *leader = member;
            *term += 1;
        }
        while let Some(due) = places.losses.iter().position(|loss| loss.at <= asked) {
            let loss = places.losses.remove(due);
            places.lose(&loss);
        }
        places
    }
}

impl Places {
    fn lose(&mut self, loss: &Loss) {
        for (member, stream) in &self.streams {
            if *member == loss.member {
                let _closed = stream.shutdown(Shutdown::Both);
            }
        }
        self.streams.retain(|(member, _)| *member != loss.member);
        if let Then::Dies {
            successor,
            after_maps,
        } = loss.then
        {
            self.dead.push(loss.member);
            self.successor = Some((successor, after_maps));
            // Whoever listens there wakes up, sees that, and listens no more.
            let _woken = TcpStream::connect(self.addresses[loss.member]);
        }
    }

    /// The map was asked for.
    fn note_map(&mut self) {
        self.maps += 1;
        if let Some((successor, maps)) = &mut self.successor {
            if *maps > 0 {
                *maps -= 1;
                return;
            }
            for (leader, term) in &mut self.leads {
                if self.dead.contains(leader) {
                    *leader = *successor;
                    *term += 1;
                }
            }
        }
    }
}

impl Member {
    /// Takes a new connection, or says that nobody is there any more.
    pub(crate) fn admits(&self, stream: &TcpStream) -> bool {
        let mut places = self.shared.places();
        if places.dead.contains(&self.number) {
            return false;
        }
        let stream = stream.try_clone().expect("there are descriptors left");
        places.streams.push((self.number, stream));
        true
    }

    /// Why this member does not do what is asked of a key, if it does not.
    pub(crate) fn refusal(&self, key: &[u8]) -> Option<WireError> {
        let mut places = self.shared.places();
        places.asked += 1;
        let asked = places.asked;
        if let Some((at, times, error)) = &mut places.errors
            && asked > *at
            && *times > 0
        {
            *times -= 1;
            return Some(error.clone());
        }
        let rule = NamespaceRule::Directory { separator: b'/' };
        let slot = slot_of(NamespaceId::DEFAULT, rule.routing_part(key));
        let shard = usize::from(slot.0) * places.leads.len() / SLOT_COUNT;
        let (leader, _) = places.leads[shard];
        if leader == self.number {
            return None;
        }
        places.redirects += 1;
        let mut error = WireError::new(ErrorCode::NotLeader);
        if !places.is_mute {
            error.hint = places.addresses[leader].to_string();
        }
        Some(error)
    }

    /// The map of shards.
    pub(crate) fn shard_map(&self) -> ShardMapReply {
        let mut places = self.shared.places();
        places.note_map();
        let count = places.leads.len();
        let first_slot = |shard: usize| (shard * SLOT_COUNT).div_ceil(count);
        let place = |(shard, &(leader, _)): (usize, &(usize, u64))| {
            let others = places.addresses.iter().enumerate();
            let others = others.filter(|(number, _)| *number != leader);
            ShardPlace {
                shard: shard as u32,
                slots: vec![SlotRange {
                    first: first_slot(shard) as u16,
                    last: (first_slot(shard + 1) - 1) as u16,
                }],
                node_id: leader as u32 + 1,
                core_index: 0,
                address: places.addresses[leader].to_string(),
                followers: others.map(|(_, address)| address.to_string()).collect(),
                follower_nodes: Vec::new(),
            }
        };
        ShardMapReply {
            epoch: 1,
            slot_count: SLOT_COUNT as u32,
            shards: places.leads.iter().enumerate().map(place).collect(),
        }
    }

    /// What its greeting says of it: the node's number and its port.
    pub(crate) fn node_id(&self) -> u32 {
        self.number as u32 + 1
    }

    /// Adds what is of the cluster to the status of one store.
    pub(crate) fn add_to_status(&self, status: &mut StatusReply) {
        let places = self.shared.places();
        let leads = places.leads.iter().enumerate();
        status.node_id = self.node_id();
        status.shards = places.leads.len() as u32;
        let replica = |(shard, &(leader, term)): (usize, &(usize, u64))| ReplicaStatus {
            shard: shard as u32,
            role: match leader == self.number {
                true => ReplicaRole::Leader,
                false => ReplicaRole::Follower,
            },
            term,
            ..ReplicaStatus::default()
        };
        status.replicas = leads.map(replica).collect();
    }
}
