//! The systems of one comparison, running side by side: this store on one processor, its peers wherever the system puts
//! them, each with new data.
//!
//! All are started together and idle unless they are measured. They end with this value, and their data goes.

use std::ffi::OsString;
use std::path::PathBuf;

use super::document::{MissingSystem, Role, SystemConditions};
use super::plan::name_of;
use crate::conditions::Conditions;
use crate::error::PerfError;
use crate::keys::KeySpace;
use crate::measurement::Subject;
use crate::node::{Launch, Node};
use crate::operation::RequestMaker;
use crate::peer::{Peer, PeerError};
use crate::pinning::Pinning;
use crate::preload::{let_forget_writes, preload, preload_store};
use crate::store::Store;
use crate::system::{System, Target};

/// How systems are started.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// Their data lies in directories within this one.
    pub(super) data: PathBuf,
    /// This store's program.
    pub(super) program: PathBuf,
    /// How many nodes the systems have that are replicated.
    pub(super) nodes: u16,
    /// More arguments for it.
    pub(super) store_arguments: Vec<OsString>,
    pub(super) pinning: Pinning,
    /// How many processors this process may use before it keeps to one, and so may the peers.
    pub(super) cpus: usize,
}

/// Running systems.
#[derive(Debug)]
pub(super) struct Contestants {
    store: Store,
    peers: Vec<Peer>,
    /// Who holds which keys.
    loaded: Vec<(System, KeySpace)>,
    /// Whether this store has come to rest since.
    is_settled: bool,
    /// Ends when nothing asks it any more.
    _node: Node,
}

/// A system that cannot be measured this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unready {
    pub(super) system: System,
    /// In words.
    pub(super) why: String,
}

impl Stage {
    /// Starts this store and these peers.
    pub(super) fn start(&self, peers: &[System]) -> Result<Contestants, PerfError> {
        let (contestants, missing) = self.start_those_there(peers)?;
        match missing.into_iter().next() {
            None => Ok(contestants),
            Some(MissingSystem { name, why }) => Err(PerfError::Preparation {
                failure: format!("{name} is gone: {why}"),
            }),
        }
    }

    /// Starts this store and those of the peers whose programs are there.
    pub(super) fn start_those_there(
        &self,
        peers: &[System],
    ) -> Result<(Contestants, Vec<MissingSystem>), PerfError> {
        self.pinning.free_client();
        let started = self.start_freely(peers);
        self.pinning.restrict_client();
        let (node, peers, missing) = started?;
        let mut store = node.connect()?;
        // Not every file system lies on one disk that counts; the store's own count is still there.
        let _watched = store.watch_disk(&self.data);
        let contestants = Contestants {
            store,
            peers,
            loaded: Vec::new(),
            is_settled: false,
            _node: node,
        };
        Ok((contestants, missing))
    }

    /// While this process may use all processors: what it starts inherits that.
    fn start_freely(
        &self,
        peers: &[System],
    ) -> Result<(Node, Vec<Peer>, Vec<MissingSystem>), PerfError> {
        let node = Launch {
            program: self.program.clone(),
            parent: self.data.clone(),
            nodes: self.nodes,
            cpu: self.pinning.store_cpu(),
            more: self.store_arguments.clone(),
        }
        .start()?;
        let mut running = Vec::new();
        let mut missing = Vec::new();
        for &system in peers {
            match Peer::start(system, self.members(system), &self.data) {
                Ok(peer) => running.push(peer),
                Err(error @ PeerError::Missing { .. }) => missing.push(MissingSystem {
                    name: name_of(system),
                    why: error.to_string(),
                }),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((node, running, missing))
    }

    /// How many processors the nodes of this store share.
    fn cpus_of_own(&self, cores: usize) -> usize {
        match self.nodes {
            1 => cores,
            _ => cores.min(self.cpus),
        }
    }

    /// How many members a peer has: redis has one in any case.
    fn members(&self, peer: System) -> usize {
        match peer {
            System::MetaStore | System::Etcd => usize::from(self.nodes),
            System::Redis => 1,
        }
    }
}

impl Contestants {
    /// The conditions under which this store runs.
    pub(super) fn conditions(&mut self, stage: &Stage) -> Result<Conditions, PerfError> {
        let observation = self.store.observe()?;
        let mut conditions = Conditions::of(&self.store, &observation, Some(&stage.data));
        // This process has kept to the client's processor since.
        conditions.machine.cpus_allowed = stage.cpus;
        Ok(conditions)
    }

    /// The peers that run.
    pub(super) fn peers(&self) -> Vec<System> {
        self.peers.iter().map(Peer::system).collect()
    }

    /// What is known of each system, this store first.
    pub(super) fn system_conditions(
        &self,
        stage: &Stage,
        conditions: &Conditions,
    ) -> Vec<SystemConditions> {
        let words = |words: &[OsString]| -> Vec<String> {
            let words = words.iter().map(|word| word.to_string_lossy().into_owned());
            words.collect()
        };
        let mut own_arguments = vec!["dev".to_owned(), "--cores".to_owned(), "1".to_owned()];
        if stage.nodes > 1 {
            own_arguments.extend(["--nodes".to_owned(), stage.nodes.to_string()]);
        }
        own_arguments.extend(words(&stage.store_arguments));
        let own = SystemConditions {
            name: name_of(System::MetaStore),
            role: Role::Ours,
            version: conditions.store.version.clone(),
            arguments: own_arguments,
            durability: match stage.nodes {
                1 => format!("flushed by {}", conditions.store.flush_method),
                _ => format!(
                    "flushed by {} on most replicas",
                    conditions.store.flush_method
                ),
            },
            cpus: stage.cpus_of_own(conditions.store.cores),
            replicas: conditions.store.replicas_per_shard,
        };
        let peers = self.peers.iter().map(|peer| SystemConditions {
            name: name_of(peer.system()),
            role: Role::Peer,
            version: peer.version().to_owned(),
            arguments: peer.arguments().to_vec(),
            durability: durability_of(peer.system(), peer.members()),
            cpus: stage.cpus,
            replicas: u32::try_from(peer.members()).expect("members are few"),
        });
        std::iter::once(own).chain(peers).collect()
    }

    /// Makes sure that systems hold the keys of a space, and are at rest when they have just been given them. Tells who
    /// could not be given theirs, or does not come to rest.
    pub(super) fn load(
        &mut self,
        space: Option<KeySpace>,
        systems: &[System],
        requests: &mut RequestMaker,
    ) -> Vec<Unready> {
        let mut unready = Vec::new();
        for &system in systems {
            if let Err(error) = self.load_one(space, system, requests) {
                let why = error.to_string();
                unready.push(Unready { system, why });
            }
        }
        unready
    }

    fn load_one(
        &mut self,
        space: Option<KeySpace>,
        system: System,
        requests: &mut RequestMaker,
    ) -> Result<(), PerfError> {
        if let Some(space) = space.filter(|&space| !self.loaded.contains(&(system, space))) {
            self.is_settled &= system != System::MetaStore;
            match system {
                System::MetaStore => preload_store(&mut self.store, space, requests)?,
                System::Etcd | System::Redis => preload(self.target(system), space, requests)?,
            };
            self.loaded.push((system, space));
        }
        match system {
            System::MetaStore => self.settle(),
            System::Etcd | System::Redis => Ok(()),
        }
    }

    /// Lets systems forget what they were given before, for the sake of the reads that follow.
    pub(super) fn let_forget_writes(&self, systems: &[System]) {
        for &system in systems {
            // What fails here fails when it is measured too, and is told there.
            let _result = let_forget_writes(self.target(system));
        }
    }

    /// Waits until this store writes nothing on its own, unless it has done so since it was given its last keys.
    fn settle(&mut self) -> Result<(), PerfError> {
        if !self.is_settled {
            self.store.settle()?;
        }
        self.is_settled = true;
        Ok(())
    }

    /// A system, to be measured.
    pub(super) fn subject(&mut self, system: System) -> Subject<'_> {
        match system {
            System::MetaStore => Subject::Store(&mut self.store),
            System::Etcd | System::Redis => Subject::Peer(self.peer_mut(system)),
        }
    }

    fn target(&self, system: System) -> Target<'_> {
        match system {
            System::MetaStore => self.store.target(),
            System::Etcd | System::Redis => self.peer(system).target(),
        }
    }

    fn peer_mut(&mut self, system: System) -> &mut Peer {
        let mut peers = self.peers.iter_mut();
        let peer = peers.find(|peer| peer.system() == system);
        peer.expect("only systems that run are measured")
    }

    fn peer(&self, system: System) -> &Peer {
        let mut peers = self.peers.iter();
        let peer = peers.find(|peer| peer.system() == system);
        peer.expect("only systems that run are measured")
    }
}

/// What a peer has done before it answers a write.
fn durability_of(system: System, members: usize) -> String {
    match system {
        System::MetaStore => unreachable!("this store tells it itself"),
        System::Etcd if members > 1 => {
            "fsync of its log by most members; load goes to the one that leads, its best case"
        }
        System::Etcd => "fsync of its log",
        System::Redis => "appendfsync always",
    }
    .to_owned()
}
