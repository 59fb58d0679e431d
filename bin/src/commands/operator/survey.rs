//! What lives where, as the nodes themselves say.

use std::collections::{BTreeMap, BTreeSet};

use metastore_net::{AdminRequest, ReplicaHome, ReplicaRole, ReplicaStatus};

use super::{AskFailed, Operator, OperatorError};

/// A core of a node.
pub(in crate::commands) fn home(node_id: u32, core_index: u16) -> ReplicaHome {
    ReplicaHome {
        node_id,
        core_index,
    }
}

/// What a node says of itself, or why it does not.
#[derive(Debug)]
pub(in crate::commands) enum NodeAnswer {
    /// The replicas that live there, with the core of each.
    Answers(Vec<(u16, ReplicaStatus)>),
    /// In words.
    Silent(String),
}

/// What lives on each node, by its id.
#[derive(Debug, Default)]
pub(in crate::commands) struct Survey {
    nodes: BTreeMap<u32, NodeAnswer>,
}

impl Survey {
    /// Asks all nodes, also those that only others of them know.
    pub(super) fn take(operator: &mut Operator) -> Survey {
        let mut survey = Survey::default();
        loop {
            let known: BTreeSet<u32> = operator.nodes.keys().copied().collect();
            let next = known.into_iter().find(|id| !survey.nodes.contains_key(id));
            let Some(node) = next else {
                return survey;
            };
            let answer = ask_node(operator, node);
            survey.nodes.insert(node, answer);
        }
    }

    /// What a node says.
    pub(in crate::commands) fn node(&self, node: u32) -> &NodeAnswer {
        &self.nodes[&node]
    }

    /// Whether a node answers that must.
    ///
    /// # Errors
    /// [`OperatorError::Silent`], with what is known of why.
    pub(in crate::commands) fn expect_answer(&self, node: u32) -> Result<(), OperatorError> {
        match self.node(node) {
            NodeAnswer::Answers(_) => Ok(()),
            NodeAnswer::Silent(why) => Err(OperatorError::Silent {
                node,
                why: why.clone(),
            }),
        }
    }

    /// Where each shard has replicas, whoever says to lead it first.
    pub(super) fn homes(&self) -> BTreeMap<u32, Vec<ReplicaHome>> {
        let mut homes: BTreeMap<u32, Vec<ReplicaHome>> = BTreeMap::new();
        for (&node, answer) in &self.nodes {
            let NodeAnswer::Answers(replicas) = answer else {
                continue;
            };
            for (core, status) in replicas {
                let of_shard = homes.entry(status.shard).or_default();
                match status.role {
                    ReplicaRole::Leader => of_shard.insert(0, home(node, *core)),
                    ReplicaRole::Follower
                    | ReplicaRole::Candidate
                    | ReplicaRole::Learner
                    | ReplicaRole::Quarantined => of_shard.push(home(node, *core)),
                }
            }
        }
        homes
    }
}

impl Operator {
    /// The replica of a shard that lives on a node, and its core.
    ///
    /// # Errors
    /// Which core does not answer.
    pub(in crate::commands) fn resident(
        &mut self,
        node: u32,
        shard: u32,
    ) -> Result<Option<(u16, u64)>, AskFailed> {
        let cores = self.nodes.get(&node).map_or(0, |node| node.entry.cores);
        for core in 0..cores {
            let status = self.ask(home(node, core), |client| client.status())?;
            let found = status.replicas.iter().find(|one| one.shard == shard);
            if let Some(found) = found {
                return Ok(Some((core, found.replica)));
            }
        }
        Ok(None)
    }
}

/// A node answers when all of its cores do: they live and die together.
fn ask_node(operator: &mut Operator, node: u32) -> NodeAnswer {
    let cores = operator.nodes[&node].entry.cores;
    let mut replicas = Vec::new();
    for core in 0..cores {
        match operator.ask(home(node, core), |client| client.status()) {
            Ok(status) => {
                let here = status.replicas.into_iter();
                replicas.extend(here.map(|replica| (core, replica)));
            }
            Err(failed) => return NodeAnswer::Silent(failed.to_string()),
        }
    }
    // It may know of nodes that whoever was asked before has not heard of.
    let known = operator.ask(home(node, 0), |client| client.admin(&AdminRequest::Nodes));
    for entry in known.map(|reply| reply.nodes).unwrap_or_default() {
        if !operator.nodes.contains_key(&entry.node_id) {
            operator.know(entry);
        }
    }
    NodeAnswer::Answers(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_leads_is_looked_for_first() {
        let replica = |shard, role| ReplicaStatus {
            shard,
            role,
            replica: 40 + u64::from(shard),
            ..ReplicaStatus::default()
        };
        let mut survey = Survey::default();
        let follows = vec![(0, replica(0, ReplicaRole::Follower))];
        survey.nodes.insert(1, NodeAnswer::Answers(follows));
        let leads = vec![(1, replica(0, ReplicaRole::Leader))];
        survey.nodes.insert(2, NodeAnswer::Answers(leads));
        survey
            .nodes
            .insert(3, NodeAnswer::Silent("gone".to_owned()));
        assert_eq!(survey.homes()[&0], [home(2, 1), home(1, 0)]);
    }
}
