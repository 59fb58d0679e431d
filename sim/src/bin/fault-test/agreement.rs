//! Whether the replicas of each shard have come to the same.

use std::collections::BTreeMap;

use metastore_engine::{LogIndex, ReplicaId, ShardId};
use metastore_net::ReplicaStatus;

use crate::failure::Cause;

/// How far the replicas of each node have come.
pub(crate) type Applied = BTreeMap<u32, BTreeMap<ReplicaId, LogIndex>>;

/// How replicas stand to each other.
#[derive(Debug)]
pub(crate) enum Agreement {
    /// All have applied the same, and hold the same.
    Same(Applied),
    /// Those of this shard have not applied the same.
    Apart(ShardId, String),
}

/// Compares the replicas of all nodes, of which each shard has one on each.
///
/// # Errors
/// Two have applied as much and hold something else.
pub(crate) fn compare(standing: &BTreeMap<u32, Vec<ReplicaStatus>>) -> Result<Agreement, Cause> {
    let mut shards: BTreeMap<u32, Vec<&ReplicaStatus>> = BTreeMap::new();
    for replica in standing.values().flatten() {
        shards.entry(replica.shard).or_default().push(replica);
    }
    let mut apart = None;
    for (&shard, replicas) in &shards {
        for (number, one) in replicas.iter().enumerate() {
            let mut others = replicas[number + 1..].iter();
            let differs = |other: &&&ReplicaStatus| {
                other.applied == one.applied && other.state_hash != one.state_hash
            };
            if let Some(other) = others.find(differs) {
                return Err(Cause::StatesDiffer {
                    one: ReplicaId(one.replica),
                    other: ReplicaId(other.replica),
                    applied: one.applied,
                });
            }
        }
        let is_whole = replicas.len() == standing.len();
        let is_level = replicas
            .iter()
            .all(|one| one.applied == replicas[0].applied);
        if !is_whole || !is_level {
            apart = Some(Agreement::Apart(ShardId(shard), format!("{replicas:?}")));
        }
    }
    Ok(apart.unwrap_or_else(|| Agreement::Same(applied_of(standing))))
}

fn applied_of(standing: &BTreeMap<u32, Vec<ReplicaStatus>>) -> Applied {
    let of_node = |(&node, replicas): (&u32, &Vec<ReplicaStatus>)| {
        let applied = replicas.iter();
        let applied = applied.map(|one| (ReplicaId(one.replica), LogIndex(one.applied)));
        (node, applied.collect())
    };
    standing.iter().map(of_node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_net::ReplicaRole;

    fn replica(number: u64, applied: u64, state_hash: u64) -> ReplicaStatus {
        ReplicaStatus {
            shard: 0,
            replica: number,
            role: ReplicaRole::Follower,
            term: 1,
            commit: applied,
            applied,
            last: applied,
            keys: 0,
            state_bytes: 0,
            history_bytes: 0,
            revision: 0,
            leader: 1,
            state_hash,
            voters: 3,
            learners: 0,
        }
    }

    fn of_three(replicas: [ReplicaStatus; 3]) -> Result<Agreement, Cause> {
        let nodes = (1..).zip(replicas);
        compare(&nodes.map(|(node, one)| (node, vec![one])).collect())
    }

    #[test]
    fn replicas_agree_or_are_apart() {
        let same = of_three([replica(1, 9, 7), replica(2, 9, 7), replica(3, 9, 7)]);
        let Ok(Agreement::Same(applied)) = same else {
            panic!("{same:?}");
        };
        assert_eq!(applied[&2], BTreeMap::from([(ReplicaId(2), LogIndex(9))]));
        let behind = of_three([replica(1, 9, 7), replica(2, 8, 6), replica(3, 9, 7)]);
        assert!(matches!(behind, Ok(Agreement::Apart(ShardId(0), _))));
    }

    #[test]
    fn a_state_that_differs_is_found_also_while_another_is_behind() {
        let differs = of_three([replica(1, 9, 7), replica(2, 8, 6), replica(3, 9, 5)]);
        let (one, other) = (ReplicaId(1), ReplicaId(3));
        let Err(Cause::StatesDiffer { applied: 9, .. }) = differs else {
            panic!("{one} and {other} differ: {differs:?}");
        };
    }
}
