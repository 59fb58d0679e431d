//! Clusters of which a node was killed, and comes back.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::OwnStore;
use crate::error::PerfError;
use crate::node::NodeError;
use crate::store::{Observation, Store, StoreError};

/// How long a node that came back may take to catch up and lead again.
const RETURN_MAX: Duration = Duration::from_secs(60);

/// How long the others may take until somebody leads every shard.
const LEADERS_MAX: Duration = Duration::from_secs(30);

/// Between two looks at a cluster.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at one of which clients wait.
const SHORT_PAUSE: Duration = Duration::from_millis(5);

/// Waits until so many nodes are as they were.
pub(super) fn await_return(own: &mut OwnStore, nodes: usize) -> Result<(), PerfError> {
    await_state(own, |own| try_return(own, nodes))
}

/// Waits until so many nodes have applied of the only shard what any of them had applied at the beginning.
pub(super) fn await_caught_up(own: &mut OwnStore, nodes: usize) -> Result<(), PerfError> {
    let at_first = applied(&mut own.store)?;
    let newest = at_first.into_iter().max().unwrap_or(0);
    await_state(own, |own| {
        let applied = applied(&mut own.store)?.into_iter();
        let found = applied.filter(|&applied| applied >= newest).count();
        let missing = StoreError::NodesMissing {
            found,
            wanted: nodes,
        };
        (found >= nodes).then_some(()).ok_or(missing)
    })
}

fn await_state(
    own: &mut OwnStore,
    mut check: impl FnMut(&mut OwnStore) -> Result<(), StoreError>,
) -> Result<(), PerfError> {
    let began = Instant::now();
    loop {
        match check(own) {
            Ok(()) => return Ok(()),
            Err(last) if began.elapsed() > RETURN_MAX => {
                return Err(NodeError::NotServing { last }.into());
            }
            Err(_) => thread::sleep(LOOK_PAUSE),
        }
    }
}

/// Whether so many nodes are there, and each leads something where there is enough to lead.
fn try_return(own: &mut OwnStore, nodes: usize) -> Result<(), StoreError> {
    let address = own.store.addresses()[0].to_string();
    own.store = Store::connect(&address)?;
    own.store.check_complete(nodes)?;
    let observation = own.store.observe()?;
    let leaders = observation.leads();
    let is_leading = |node: &u32| leaders.values().any(|lead| lead.node_id == *node);
    let statuses = observation.statuses();
    let nodes_lead = statuses.iter().all(|status| is_leading(&status.node_id));
    match nodes_lead || leaders.len() < nodes {
        true => Ok(()),
        false => Err(StoreError::NoLeader),
    }
}

/// How far the replicas of the only shard are.
fn applied(store: &mut Store) -> Result<Vec<u64>, StoreError> {
    let observation = store.observe()?;
    let statuses = observation.statuses().iter();
    let replicas = statuses.flat_map(|status| &status.replicas);
    Ok(replicas.map(|replica| replica.applied).collect())
}

/// The cluster as soon as somebody leads every shard.
pub(super) fn await_leaders(store: &mut Store) -> Result<Observation, PerfError> {
    let began = Instant::now();
    loop {
        let observation = store.observe()?;
        if observation.is_led() {
            return Ok(observation);
        }
        if began.elapsed() > LEADERS_MAX {
            return Err(StoreError::NoLeader.into());
        }
        thread::sleep(SHORT_PAUSE);
    }
}

/// Where the only core of a node listens.
pub(super) fn address_of(store: &mut Store, node: u32) -> Result<SocketAddr, PerfError> {
    let observation = store.observe()?;
    let statuses = observation.statuses().iter().zip(store.addresses());
    let mut found = statuses.filter(|(status, _)| status.node_id == node);
    let (_, address) = found.next().expect("a node that leads has answered");
    Ok(*address)
}

/// The store without one of its nodes, as soon as the others lead everything.
pub(super) fn connect_without(witness: SocketAddr, away: SocketAddr) -> Result<Store, PerfError> {
    let began = Instant::now();
    loop {
        let found = Store::connect_without(&witness.to_string(), away);
        let found = found.and_then(|mut store| {
            let nodes = store.addresses().len();
            store.check_complete(nodes).map(|()| store)
        });
        match found {
            Ok(store) => return Ok(store),
            Err(error) if began.elapsed() > LEADERS_MAX => return Err(error.into()),
            Err(_) => thread::sleep(SHORT_PAUSE),
        }
    }
}
