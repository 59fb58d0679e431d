//! Under which conditions a number was measured: what is printed beside every number.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::store::{DiskCache, Observation, Store};

/// The conditions of a run. What cannot be found out is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conditions {
    pub(crate) machine: Machine,
    /// File system of the data with its mount options.
    pub(crate) file_system: Option<String>,
    pub(crate) disk_cache: Option<DiskCache>,
    pub(crate) store: StoreConditions,
    /// Commit of the source tree that this program was built from.
    pub(crate) commit: Option<String>,
}

/// The machine that client and store share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) kernel: Option<String>,
    pub(crate) cpu_model: Option<String>,
    pub(crate) cpus: usize,
    /// How many of them this process may use.
    pub(crate) cpus_allowed: usize,
}

/// What the store says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreConditions {
    pub(crate) version: String,
    pub(crate) cores: usize,
    pub(crate) shards: u32,
    pub(crate) replicas_per_shard: u32,
    /// Of a cluster, and then all of them on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<u32>,
    pub(crate) flush_method: String,
}

impl Conditions {
    /// The conditions of load against `store`, whose data lies in `data` if that is known.
    pub(crate) fn of(store: &Store, observation: &Observation, data: Option<&Path>) -> Conditions {
        Conditions {
            machine: Machine::this(),
            file_system: data.and_then(file_system),
            disk_cache: store.write_cache(),
            store: StoreConditions::of(observation),
            commit: commit(),
        }
    }

    /// The conditions for people, one a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".to_owned());
        let store = &self.store;
        let cache = self.disk_cache.map_or("unknown", DiskCache::words);
        vec![
            self.machine.words(),
            format!(
                "disk: file system {}, cache {cache}",
                known(&self.file_system)
            ),
            store.words(),
            format!("commit: {}", known(&self.commit)),
        ]
    }
}

impl Machine {
    /// The machine that this program runs on.
    pub(crate) fn this() -> Machine {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpus = cpu_info
            .lines()
            .filter(|line| line.starts_with("processor"));
        Machine {
            kernel: first_line("/proc/sys/kernel/osrelease"),
            cpu_model: cpu_model(&cpu_info),
            cpus: cpus.count(),
            cpus_allowed: thread::available_parallelism().map_or(0, usize::from),
        }
    }

    /// The machine in a line.
    pub(crate) fn words(&self) -> String {
        format!(
            "machine: {} CPUs ({}), {} of them for this process, Linux {}",
            self.cpus,
            self.cpu_model.as_deref().unwrap_or("unknown"),
            self.cpus_allowed,
            self.kernel.as_deref().unwrap_or("unknown"),
        )
    }
}

impl StoreConditions {
    fn of(observation: &Observation) -> StoreConditions {
        let statuses = observation.statuses();
        let first = statuses.first();
        let nodes = observation.nodes();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        StoreConditions {
            version: first.map_or_else(String::new, |status| status.version.clone()),
            cores: statuses.len(),
            shards: match nodes {
                0 | 1 => statuses.iter().map(|status| status.shards).sum(),
                _ => count(observation.shards()),
            },
            replicas_per_shard: count(observation.replicas_per_shard()),
            nodes: (nodes > 1).then(|| count(nodes)),
            flush_method: observation.flush_method(),
        }
    }

    fn words(&self) -> String {
        let StoreConditions {
            version,
            cores,
            shards,
            replicas_per_shard,
            flush_method,
            ..
        } = self;
        match self.nodes {
            None => format!(
                "store: {version}, {cores} cores, {shards} shards, {replicas_per_shard} replica a shard, flush method \
                 {flush_method}; every put is durable before its answer"
            ),
            Some(nodes) => format!(
                "store: {version}, {nodes} nodes with {cores} cores in all, {shards} shards, {replicas_per_shard} \
                 replicas a shard, flush method {flush_method}; every put is durable on most replicas before its \
                 answer; the nodes, the client and their disk are those of this one machine"
            ),
        }
    }
}

/// The file system that holds a path: type, device and mount options.
pub(crate) fn file_system(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    mount_of(&fs::read_to_string("/proc/self/mountinfo").ok()?, &path)
}

/// The mount with the longest mount point above `path` in a table such as `/proc/self/mountinfo`. Of two mounts over
/// each other the later one is seen.
fn mount_of(table: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split_ascii_whitespace();
        let mount_point = front.nth(4)?.to_owned();
        let options = front.next()?;
        let mut back = back.split_ascii_whitespace();
        let words = format!("{} on {} ({options})", back.next()?, back.next()?);
        path.starts_with(&mount_point)
            .then_some((mount_point.len(), words))
    };
    let mounts = table.lines().filter_map(mount);
    mounts
        .max_by_key(|(length, _)| *length)
        .map(|(_, words)| words)
}

fn cpu_model(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, model) = line.split_once(':')?;
    Some(model.trim().to_owned())
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(str::to_owned)
}

/// The commit of the source tree that this program was built from, marked when files differ from it. Unknown where the
/// tree is gone.
pub(crate) fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let commit = text.trim();
    (output.status.success() && !commit.is_empty()).then(|| commit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let table = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                     30 22 0:25 / /data rw,noatime - xfs /dev/nvme0n1 rw\n\
                     31 22 0:26 / /data/tmp rw - tmpfs tmpfs rw\n";
        let of = |path: &str| mount_of(table, Path::new(path));
        assert_eq!(
            of("/home").as_deref(),
            Some("ext4 on /dev/vda (rw,relatime)")
        );
        assert_eq!(
            of("/data/x").as_deref(),
            Some("xfs on /dev/nvme0n1 (rw,noatime)")
        );
        assert_eq!(of("/data/tmp/x").as_deref(), Some("tmpfs on tmpfs (rw)"));
        assert_eq!(
            of("/database").as_deref(),
            Some("ext4 on /dev/vda (rw,relatime)")
        );
    }

    #[test]
    fn the_model_stands_behind_the_colon() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n";
        assert_eq!(cpu_model(text).as_deref(), Some("Some CPU @ 3 GHz"));
    }
}
