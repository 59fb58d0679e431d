//! `node.toml` while the node runs: whoever changes it does so here, one after the other.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use metastore_engine::{NodeId, ReplicaId};

use super::StartError;
use super::cluster::{Cluster, ClusterError, ClusterNode};
use super::node_file::{NodeFile, NodeState};

/// The file of a node; clones are handles to the same. Everything here blocks.
#[derive(Debug, Clone)]
pub(crate) struct NodeKeeper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// Held by whoever writes the file.
    writing: Mutex<()>,
    /// Held for as long as it takes to look: cores do.
    node: Mutex<NodeFile>,
}

/// Whether a node is the one that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It is.
    Same,
    /// It was formatted anew.
    Other,
    /// It was never heard of. It is known from now on, which is to be written down.
    New,
    /// Nobody has said yet that there is such a node.
    Stranger,
    /// It was taken off the list.
    Gone,
}

/// What became of what another node says of a node's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is known, or there is no such node.
    NothingNew,
    /// It was written down: from now on the node is refused with any other.
    Learned,
    /// Something else is known.
    Contradicts,
}

impl NodeKeeper {
    /// Keeps the file that was read from a directory.
    pub(super) fn new(directory: PathBuf, node: NodeFile) -> NodeKeeper {
        let node = Mutex::new(node);
        let writing = Mutex::new(());
        NodeKeeper(Arc::new(Shared {
            directory,
            writing,
            node,
        }))
    }

    /// What it says.
    pub(super) fn node(&self) -> NodeFile {
        self.0
            .node
            .lock()
            .expect("a panic ends the process")
            .clone()
    }

    /// Writes down that others may have been answered, durably.
    pub(super) fn note_serving(&self) -> Result<(), StartError> {
        self.change(|node| node.state = NodeState::Serving)
    }

    /// The next start does not look for this replica any more, which is durable.
    pub(super) fn unlist(&self, replica: ReplicaId) -> Result<(), StartError> {
        self.change(|node| node.unlist(replica))
    }

    /// A node is one of the cluster from now on, or is to be found elsewhere, which is durable.
    ///
    /// # Errors
    /// [`StartError::Cluster`] for what cannot be, and what the file system says.
    pub(super) fn add_node(&self, entry: ClusterNode) -> Result<(), StartError> {
        self.change_plan(|plan| plan.with_node(entry))
    }

    /// A node is none of the cluster's any more, which is durable. Its id stays used.
    ///
    /// # Errors
    /// [`StartError::Cluster`] for a node that nobody knows, and what the file system says.
    pub(super) fn forget_node(&self, node: NodeId) -> Result<(), StartError> {
        self.change_plan(|plan| plan.without_node(node))
    }

    /// Takes over which data a node has, as others say, where nothing is known of it here. What is learned is durable.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn hear_of_data(&self, node: NodeId, data_id: u64) -> Result<Heard, StartError> {
        match self.knows_data(node, data_id) {
            Known::Same | Known::Stranger | Known::Gone => Ok(Heard::NothingNew),
            Known::Other => Ok(Heard::Contradicts),
            Known::New => self.write_data_of(node).map(|()| Heard::Learned),
        }
    }

    fn change_plan(
        &self,
        change: impl FnOnce(&Cluster) -> Result<Cluster, ClusterError>,
    ) -> Result<(), StartError> {
        let alone = self.0.directory.clone();
        self.try_change(|node| {
            let plan = node.cluster_plan.as_mut();
            let plan = plan.ok_or(StartError::Alone { path: alone })?;
            *plan = change(plan)?;
            Ok(())
        })
    }

    /// Whether a node has the data that it had when it was first heard of, which is now if it never was.
    pub(super) fn knows_data(&self, node: NodeId, data_id: u64) -> Known {
        let mut file = self.0.node.lock().expect("a panic ends the process");
        let plan = file.cluster_plan.as_ref();
        if plan.is_some_and(|plan| plan.gone.contains(&node)) {
            return Known::Gone;
        }
        let is_listed = |plan: &Cluster| plan.node(node).is_some();
        match file.data_ids.get(&node) {
            Some(&known) if known == data_id => Known::Same,
            Some(_) => Known::Other,
            None if !file.cluster_plan.as_ref().is_some_and(is_listed) => Known::Stranger,
            None => {
                file.data_ids.insert(node, data_id);
                Known::New
            }
        }
    }

    /// Writes down which data a node has, durably. Where that fails it was never heard of.
    pub(super) fn write_data_of(&self, node: NodeId) -> Result<(), StartError> {
        let _writing = self.0.writing.lock().expect("a panic ends the process");
        let written = self.node().write(&self.0.directory);
        if written.is_err() {
            let mut file = self.0.node.lock().expect("a panic ends the process");
            file.data_ids.remove(&node);
        }
        written
    }

    fn change(&self, change: impl FnOnce(&mut NodeFile)) -> Result<(), StartError> {
        self.try_change(|node| {
            change(node);
            Ok(())
        })
    }

    fn try_change(
        &self,
        change: impl FnOnce(&mut NodeFile) -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        let _writing = self.0.writing.lock().expect("a panic ends the process");
        let before = self.node();
        let mut changed = before.clone();
        change(&mut changed)?;
        if changed != before {
            changed.write(&self.0.directory)?;
            let mut node = self.0.node.lock().expect("a panic ends the process");
            // What was learned meanwhile is written down by whoever learned it.
            changed.data_ids.append(&mut node.data_ids);
            *node = changed;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::node_file::{clustered_sample, sample};
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn what_is_changed_is_in_the_file() {
        let directory = TestDirectory::new("keeper");
        let keeper = NodeKeeper::new(directory.path().to_owned(), sample());
        let listed = keeper.node().replicas.len();
        keeper.note_serving().expect("it can be written");
        let gone = keeper.node().replicas[0].replica;
        keeper.unlist(gone).expect("it can be written");
        keeper.unlist(gone).expect("it is gone already");
        let read = NodeFile::read(directory.path()).expect("it can be read");
        let read = read.expect("it is there");
        assert_eq!(read, keeper.node());
        assert_eq!(read.state, NodeState::Serving);
        assert_eq!(read.replicas.len(), listed - 1);
    }

    #[test]
    fn what_is_known_of_other_nodes_is_known_after_a_start() {
        let directory = TestDirectory::new("keeper-others");
        let read = || {
            let read = NodeFile::read(directory.path()).expect("it can be read");
            NodeKeeper::new(directory.path().to_owned(), read.expect("it is there"))
        };
        let sample = clustered_sample();
        sample.write(directory.path()).expect("it can be written");
        let keeper = read();
        let (first, second) = (NodeId(1), NodeId(2));
        assert_eq!(keeper.knows_data(first, 5), Known::New);
        keeper.write_data_of(first).expect("it can be written");
        let mut fourth = sample.entry().expect("it is one of them").clone();
        fourth.node = NodeId(4);
        assert_eq!(keeper.knows_data(fourth.node, 6), Known::Stranger);
        assert!(
            keeper.add_node(fourth.clone()).is_err(),
            "it has its endpoints"
        );
        fourth.clients.port += 100;
        fourth.peers.port += 100;
        keeper.add_node(fourth.clone()).expect("it can be written");

        let keeper = read();
        assert_eq!(keeper.knows_data(first, 5), Known::Same);
        assert_eq!(keeper.knows_data(first, 6), Known::Other);
        assert_eq!(keeper.knows_data(second, 0xDA7A), Known::Same);
        assert_eq!(keeper.knows_data(fourth.node, 6), Known::New);
        // Others say which data a node has before it comes itself.
        assert_eq!(
            keeper
                .hear_of_data(fourth.node, 7)
                .expect("it can be written"),
            Heard::Contradicts,
            "it was asked for with 6 a moment ago"
        );
        let mut fifth = fourth.clone();
        fifth.node = NodeId(5);
        fifth.clients.port += 100;
        fifth.peers.port += 100;
        let heard = |id| {
            keeper
                .hear_of_data(fifth.node, id)
                .expect("it can be written")
        };
        assert_eq!(heard(8), Heard::NothingNew, "nobody knows it");
        keeper.add_node(fifth.clone()).expect("it can be written");
        assert_eq!(heard(8), Heard::Learned);
        assert_eq!(heard(8), Heard::NothingNew);
        let keeper = read();
        assert_eq!(keeper.knows_data(fifth.node, 9), Known::Other);
        // Who is gone stays gone.
        keeper.forget_node(fifth.node).expect("it can be written");
        let keeper = read();
        assert_eq!(keeper.knows_data(fifth.node, 8), Known::Gone);
        assert!(keeper.add_node(fifth).is_err());
        // Where it cannot be written the next contact is the first again.
        let gone = directory.path().join("gone");
        let nowhere = NodeKeeper::new(gone.clone(), clustered_sample());
        assert!(fs::metadata(&gone).is_err());
        assert_eq!(nowhere.knows_data(first, 5), Known::New);
        nowhere
            .write_data_of(first)
            .expect_err("there is no such directory");
        assert_eq!(nowhere.knows_data(first, 7), Known::New);
    }
}
