//! `node.toml`: what a data directory is, fixed when it is formatted.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use metastore_engine::{ClusterId, CoreId, Member, NodeId, PeerCore, ReplicaId, ShardId};
use metastore_statemachine::Parameters;
use metastore_wal::SealKey;
use metastore_wal::device::FlushMethod;
use serde::{Deserialize, Serialize};

use super::StartError;
use super::cluster::{Cluster, ClusterError, ClusterNode, HostPort, RECOVERIES_MAX};
use super::cluster_file::parse_digits;

/// Versions of the directory's layout that this program reads. A node that is alone has the first, so that programs that
/// know nothing of clusters read it; a node of a cluster has the second, until that was recovered without its quorum: who
/// knows nothing of that would talk to nodes that were left out.
const FORMAT_ALONE: u32 = 2;
const FORMAT_CLUSTERED: u32 = 3;
const FORMAT_RECOVERED: u32 = 4;
/// The file's name in the data directory.
pub(crate) const FILE_NAME: &str = "node.toml";
/// Beside it: the newest recovery of the cluster, begun or done.
pub(crate) const RECOVERY_PLAN_NAME: &str = "recovery.json";

/// What a data directory is.
///
/// After a crash the file is either the old or the new one: it is written beside, synced and renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeFile {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// The secret that seals the records of its logs. Never told to clients.
    pub(crate) seal: SealKey,
    pub(crate) state: NodeState,
    pub(crate) flush_method: FlushMethod,
    pub(crate) cores: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) record_bytes_max: usize,
    pub(crate) history: HistoryBounds,
    /// Those of this node, ascending by shard. A node of a cluster may have none of some shards.
    pub(crate) replicas: Vec<ReplicaPlace>,
    /// How the cluster began; `None` for a node that is alone.
    pub(crate) cluster_plan: Option<Cluster>,
    /// Which data each node of the cluster had when it was first heard of, this one's own included: a number that was
    /// drawn when it was formatted.
    pub(crate) data_ids: BTreeMap<NodeId, u64>,
}

/// How far back reads can go: part of the replicated state. The log is replayed with the bounds it was written under, and
/// every replica of a shard has the same; otherwise they could decide differently about a change that reads history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryBounds {
    pub(crate) revisions_max: u64,
    pub(crate) age_ms_max: u64,
    pub(crate) bytes_max: u64,
}

impl Default for HistoryBounds {
    fn default() -> HistoryBounds {
        let parameters = Parameters::default();
        HistoryBounds {
            revisions_max: parameters.history_revisions_max,
            age_ms_max: parameters.history_age_ms_max,
            bytes_max: parameters.history_bytes_max,
        }
    }
}

impl HistoryBounds {
    /// The parameters of every shard.
    pub(crate) fn parameters(self) -> Parameters {
        Parameters {
            history_revisions_max: self.revisions_max,
            history_age_ms_max: self.age_ms_max,
            history_bytes_max: self.bytes_max,
            ..Parameters::default()
        }
    }
}

/// Whether the data may be incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeState {
    /// Formatted; no client was ever answered, so logs may lack anything.
    Formatted,
    /// It has served: every log must be there.
    Serving,
    /// `metastore recover` was begun here and is not finished: some shards may have been made to go on with one copy, and
    /// others not. Nothing may be served.
    Recovering,
}

/// Where a replica lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplicaPlace {
    pub(crate) replica: ReplicaId,
    pub(crate) shard: ShardId,
    pub(crate) core: CoreId,
}

/// The file as it is written, so that the types of other crates need not know about TOML.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    cluster: String,
    node: u32,
    seal: String,
    state: NodeState,
    flush_method: FlushMethodName,
    cores: usize,
    segment_bytes: u64,
    record_bytes_max: usize,
    /// Data that was formatted before there was a choice has the defaults.
    #[serde(default)]
    history: HistoryBounds,
    /// A node that joins has none yet.
    #[serde(default)]
    replica: Vec<ReplicaEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cluster_node: Vec<NodeEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cluster_member: Vec<MemberEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cluster_data: Vec<DataEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cluster_recovery: Vec<RecoveryEntry>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FlushMethodName {
    Dsync,
    WriteThenSync,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicaEntry {
    replica: u64,
    shard: u32,
    core: u16,
}

/// A node of the cluster, this one among them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    id: u32,
    clients: String,
    peers: String,
    cores: usize,
    /// It was taken off the list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
}

/// Which data a node had when it was first heard of: drawn when it was formatted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataEntry {
    node: u32,
    id: String,
}

/// The cluster was recovered without its quorum.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoveryEntry {
    id: String,
}

/// A voter with which a shard began.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberEntry {
    shard: u32,
    replica: u64,
    node: u32,
    core: u16,
}

/// Only the version, for files that a newer program wrote.
#[derive(Debug, Deserialize)]
struct FormatOnly {
    format: u32,
}

impl NodeFile {
    /// Reads the file, `None` when there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<NodeFile>, StartError> {
        let path = directory.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StartError::File { path, source }),
        };
        NodeFile::parse(path, &text).map(Some)
    }

    /// Reads the text of the file at `path`.
    pub(crate) fn parse(path: PathBuf, text: &str) -> Result<NodeFile, StartError> {
        match parse(text) {
            Ok(node) => Ok(node),
            Err(Fault::Cause(cause)) => Err(StartError::NodeFile { path, cause }),
            Err(Fault::Format(found)) => Err(StartError::NodeFileFormat {
                path,
                found,
                oldest: FORMAT_ALONE,
                newest: FORMAT_RECOVERED,
            }),
        }
    }

    /// A replica is gone: the next start does not look for it.
    pub(crate) fn unlist(&mut self, replica: ReplicaId) {
        self.replicas.retain(|place| place.replica != replica);
    }

    /// This node's entry in the cluster; `None` when it is alone.
    pub(crate) fn entry(&self) -> Option<&ClusterNode> {
        let plan = self.cluster_plan.as_ref()?;
        let entry = plan.node(self.node);
        Some(entry.expect("a clustered node is one of its cluster's"))
    }

    /// Shards of the whole store.
    pub(crate) fn shards(&self) -> usize {
        let plan = self.cluster_plan.as_ref();
        plan.map_or(self.replicas.len(), |plan| plan.members.len())
    }

    /// Replaces the file atomically; it is durable when this returns.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), StartError> {
        // It holds the secret of the logs.
        write_whole(directory, FILE_NAME, &self.to_text())
    }

    /// The text of the file.
    pub(crate) fn to_text(&self) -> String {
        let document = Document {
            format: match &self.cluster_plan {
                None => FORMAT_ALONE,
                Some(plan) if plan.recoveries.is_empty() => FORMAT_CLUSTERED,
                Some(_) => FORMAT_RECOVERED,
            },
            cluster: format!("{:032x}", self.cluster.0),
            node: self.node.0,
            seal: format!("{:016x}", self.seal.0),
            state: self.state,
            flush_method: match self.flush_method {
                FlushMethod::Dsync => FlushMethodName::Dsync,
                FlushMethod::WriteThenSync => FlushMethodName::WriteThenSync,
            },
            cores: self.cores,
            segment_bytes: self.segment_bytes,
            record_bytes_max: self.record_bytes_max,
            history: self.history,
            replica: self
                .replicas
                .iter()
                .map(|place| ReplicaEntry {
                    replica: place.replica.0,
                    shard: place.shard.0,
                    core: place.core.0,
                })
                .collect(),
            cluster_node: self.node_entries(),
            cluster_member: self.member_entries(),
            cluster_data: self
                .data_ids
                .iter()
                .map(|(node, id)| DataEntry {
                    node: node.0,
                    id: format!("{id:016x}"),
                })
                .collect(),
            cluster_recovery: self.recovery_entries(),
        };
        toml::to_string(&document).expect("plain data can be written as TOML")
    }

    fn node_entries(&self) -> Vec<NodeEntry> {
        let plan = self.cluster_plan.as_ref();
        let gone = plan.map(|plan| plan.gone.clone()).unwrap_or_default();
        let nodes = plan.into_iter().flat_map(|plan| &plan.nodes);
        let entries = nodes.map(|node| NodeEntry {
            id: node.node.0,
            clients: node.clients.to_string(),
            peers: node.peers.to_string(),
            cores: node.cores,
            gone: gone.contains(&node.node),
        });
        entries.collect()
    }

    fn recovery_entries(&self) -> Vec<RecoveryEntry> {
        let recoveries = self.cluster_plan.iter().flat_map(|plan| &plan.recoveries);
        let entries = recoveries.map(|id| RecoveryEntry {
            id: format!("{id:032x}"),
        });
        entries.collect()
    }

    fn member_entries(&self) -> Vec<MemberEntry> {
        let shards = self.cluster_plan.iter().flat_map(|plan| &plan.members);
        let entries = shards.flat_map(|(shard, voters)| {
            voters.iter().map(|member| MemberEntry {
                shard: shard.0,
                replica: member.replica.0,
                node: member.home.node.0,
                core: member.home.core.0,
            })
        });
        entries.collect()
    }
}

/// What is wrong with a text.
enum Fault {
    Cause(String),
    Format(u32),
}

impl From<toml::de::Error> for Fault {
    fn from(error: toml::de::Error) -> Fault {
        Fault::Cause(error.message().to_owned())
    }
}

impl From<ClusterError> for Fault {
    fn from(error: ClusterError) -> Fault {
        Fault::Cause(error.to_string())
    }
}

fn parse(text: &str) -> Result<NodeFile, Fault> {
    let format = toml::from_str::<FormatOnly>(text)?.format;
    if !(FORMAT_ALONE..=FORMAT_RECOVERED).contains(&format) {
        return Err(Fault::Format(format));
    }
    let document: Document = toml::from_str(text)?;
    let cluster = u128::from_str_radix(&document.cluster, 16).map_err(|_| {
        Fault::Cause(format!(
            "cluster \"{}\" is not a hexadecimal number",
            document.cluster
        ))
    })?;
    // The value is a secret, and this goes to a terminal.
    let seal = u64::from_str_radix(&document.seal, 16)
        .map_err(|_| Fault::Cause("seal is not a hexadecimal number of 64 bits".to_owned()))?;
    let node = NodeFile {
        cluster: ClusterId(cluster),
        node: NodeId(document.node),
        seal: SealKey(seal),
        state: document.state,
        flush_method: match document.flush_method {
            FlushMethodName::Dsync => FlushMethod::Dsync,
            FlushMethodName::WriteThenSync => FlushMethod::WriteThenSync,
        },
        cores: document.cores,
        segment_bytes: document.segment_bytes,
        record_bytes_max: document.record_bytes_max,
        history: document.history,
        replicas: parse_replicas(&document)?,
        cluster_plan: match format {
            FORMAT_CLUSTERED | FORMAT_RECOVERED => Some(parse_plan(&document, ClusterId(cluster))?),
            _ => None,
        },
        data_ids: parse_data_ids(&document)?,
    };
    match &node.cluster_plan {
        Some(plan) => check_clustered(&node, plan)?,
        None => check_alone(&node, &document)?,
    }
    Ok(node)
}

/// The replicas of this node in the order of their shards, of which each has one at most.
fn parse_replicas(document: &Document) -> Result<Vec<ReplicaPlace>, Fault> {
    let mut replicas: Vec<ReplicaPlace> = document
        .replica
        .iter()
        .map(|entry| ReplicaPlace {
            replica: ReplicaId(entry.replica),
            shard: ShardId(entry.shard),
            core: CoreId(entry.core),
        })
        .collect();
    replicas.sort_by_key(|place| place.shard);
    let stray = replicas
        .iter()
        .find(|place| usize::from(place.core.0) >= document.cores);
    if let Some(place) = stray {
        return Err(Fault::Cause(format!(
            "shard {} is on core {}, of {}",
            place.shard, place.core, document.cores
        )));
    }
    let mut pairs = replicas.windows(2);
    if let Some(pair) = pairs.find(|pair| pair[0].shard == pair[1].shard) {
        return Err(Fault::Cause(format!(
            "shard {} has two replicas here: every shard has one replica on a node",
            pair[0].shard
        )));
    }
    Ok(replicas)
}

fn parse_plan(document: &Document, id: ClusterId) -> Result<Cluster, Fault> {
    let parse_node = |entry: &NodeEntry| {
        let endpoint = |key, text: &str| {
            text.parse::<HostPort>()
                .map_err(|error| Fault::Cause(format!("node {}: {key}: {error}", entry.id)))
        };
        Ok(ClusterNode {
            node: NodeId(entry.id),
            clients: endpoint("clients", &entry.clients)?,
            peers: endpoint("peers", &entry.peers)?,
            cores: entry.cores,
        })
    };
    let nodes = document.cluster_node.iter().map(parse_node);
    let nodes = nodes.collect::<Result<Vec<_>, Fault>>()?;
    let gone = document.cluster_node.iter().filter(|entry| entry.gone);
    let gone = gone.map(|entry| NodeId(entry.id)).collect();
    let mut members: BTreeMap<ShardId, Vec<Member>> = BTreeMap::new();
    for entry in &document.cluster_member {
        members
            .entry(ShardId(entry.shard))
            .or_default()
            .push(Member {
                replica: ReplicaId(entry.replica),
                home: PeerCore {
                    node: NodeId(entry.node),
                    core: CoreId(entry.core),
                },
            });
    }
    let recoveries = document.cluster_recovery.iter().map(|entry| {
        parse_digits(&entry.id).ok_or_else(|| {
            Fault::Cause(format!(
                "cluster_recovery: id \"{}\" is not a hexadecimal number of 128 bits",
                entry.id
            ))
        })
    });
    let recoveries = recoveries.collect::<Result<Vec<_>, Fault>>()?;
    let is_recovered = document.format == FORMAT_RECOVERED;
    if recoveries.len() > RECOVERIES_MAX || recoveries.is_empty() == is_recovered {
        return Err(Fault::Cause(format!(
            "format {} does not go with {} cluster_recovery entries",
            document.format,
            recoveries.len()
        )));
    }
    if document.state == NodeState::Recovering && !is_recovered {
        return Err(Fault::Cause(format!(
            "the state \"recovering\" belongs to format {FORMAT_RECOVERED}, and this is format {}",
            document.format
        )));
    }
    let cluster = Cluster::from_parts((id, document.history), (nodes, gone), members)?;
    Ok(cluster.with_recoveries(recoveries))
}

fn check_alone(node: &NodeFile, document: &Document) -> Result<(), Fault> {
    if node.replicas.is_empty() {
        let cause = "every shard has one replica, and there is at least one".to_owned();
        return Err(Fault::Cause(cause));
    }
    let is_clustered = !document.cluster_node.is_empty()
        || !document.cluster_member.is_empty()
        || !document.cluster_data.is_empty()
        || !document.cluster_recovery.is_empty()
        || document.state == NodeState::Recovering;
    if is_clustered {
        return Err(Fault::Cause(format!(
            "cluster_node, cluster_member and cluster_data belong to format {FORMAT_CLUSTERED}, cluster_recovery and the state \"recovering\" to format {FORMAT_RECOVERED}, and this is format {FORMAT_ALONE}"
        )));
    }
    Ok(())
}

fn parse_data_ids(document: &Document) -> Result<BTreeMap<NodeId, u64>, Fault> {
    let entries = document.cluster_data.iter().map(|entry| {
        let id = u64::from_str_radix(&entry.id, 16).map_err(|_| {
            Fault::Cause(format!(
                "cluster_data of node {}: id \"{}\" is not a hexadecimal number of 64 bits",
                entry.node, entry.id
            ))
        })?;
        Ok((NodeId(entry.node), id))
    });
    entries.collect()
}

/// Checks that what the cluster says of this node is what this node says of itself.
fn check_clustered(node: &NodeFile, plan: &Cluster) -> Result<(), Fault> {
    let here = node.node;
    let Some(entry) = plan.node(here) else {
        return Err(Fault::Cause(format!(
            "this is node {here}, and no cluster_node has id = {here}"
        )));
    };
    if entry.cores != node.cores {
        return Err(Fault::Cause(format!(
            "this node has {} cores, and the cluster_node with id = {here} has {}",
            node.cores, entry.cores
        )));
    }
    if !node.data_ids.contains_key(&here) {
        return Err(Fault::Cause(format!(
            "there is no cluster_data of node {here}, which is this one"
        )));
    }
    let members = plan.replicas_of(here);
    if let Some(place) = node.replicas.iter().find(|place| !members.contains(place)) {
        return Err(Fault::Cause(format!(
            "replica {} of shard {} is here on core {}, and no cluster_member says so",
            place.replica, place.shard, place.core
        )));
    }
    // Members of the beginning that are not here any more were removed.
    Ok(())
}

/// Writes a file of a directory so that it is found whole or not at all; only its owner may read it.
///
/// # Errors
/// What the kernel says.
pub(crate) fn write_whole(directory: &Path, name: &str, text: &str) -> Result<(), StartError> {
    replace(directory, name, text.as_bytes()).map_err(|source| StartError::File {
        path: directory.join(name),
        source,
    })
}

/// Write beside, sync, rename, sync the directory: whatever crashes in between, one whole file is found.
fn replace(directory: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    let beside = directory.join(format!("{name}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// A node of two cores, for tests and fuzzers.
#[cfg(test)]
pub(crate) fn sample() -> NodeFile {
    let place = |shard: u32| ReplicaPlace {
        replica: ReplicaId(u64::from(shard) + 1),
        shard: ShardId(shard),
        core: CoreId(u16::try_from(shard % 2).expect("small")),
    };
    NodeFile {
        cluster: ClusterId(0xABCD),
        node: NodeId(1),
        seal: SealKey(0xFEED),
        state: NodeState::Formatted,
        flush_method: FlushMethod::WriteThenSync,
        cores: 2,
        segment_bytes: 64 << 20,
        record_bytes_max: 4 << 20,
        history: HistoryBounds {
            age_ms_max: 60_000,
            ..HistoryBounds::default()
        },
        replicas: (0..3).map(place).collect(),
        cluster_plan: None,
        data_ids: BTreeMap::new(),
    }
}

/// A node of a cluster, for tests and fuzzers. It has no replica of the first shard.
#[cfg(test)]
pub(crate) fn clustered_sample() -> NodeFile {
    let mut new = super::cluster::tests::new_cluster(&[1, 2, 1]);
    new.replicas = Some(2);
    let plan = new.place().expect("it can be");
    let node = NodeId(3);
    NodeFile {
        cluster: plan.id,
        node,
        cores: 1,
        history: plan.history,
        replicas: plan.replicas_of(node),
        cluster_plan: Some(plan),
        data_ids: BTreeMap::from([(NodeId(2), 0xDA7A), (NodeId(3), 7)]),
        ..sample()
    }
}

/// The same node while its cluster is recovered for the second time, for tests and fuzzers.
#[cfg(test)]
pub(crate) fn recovering_sample() -> NodeFile {
    let mut file = clustered_sample();
    let plan = file.cluster_plan.take();
    file.cluster_plan = plan.map(|plan| plan.with_recoveries(vec![0xAB, 0xCD]));
    file.state = NodeState::Recovering;
    file
}

#[cfg(test)]
mod tests;
