//! How much memory and how many descriptors a node may use: what was asked for, or what the machine has.

use std::fs;
use std::path::Path;

use metastore_engine::MemoryBudget;
use metastore_net::server::ServerOptions;
use metastore_wal::device::raise_open_files_limit;

use super::node_file::NodeFile;
use super::{NodeOptions, StartError};

/// Of the machine's memory, a node takes half when nobody says otherwise: the page cache and others need the rest.
const MEMORY_DIVISOR: u64 = 2;

/// Connections of a core when nobody says otherwise.
const CONNECTIONS_DEFAULT: usize = 16_384;
/// With fewer a core is of no use: operators and peers need some.
const CONNECTIONS_MIN: usize = 16;
/// A connection is one descriptor.
const DESCRIPTORS_PER_CONNECTION: u64 = 1;
/// Rings, listeners, event descriptors, signal pipes and refused connections that linger, of a core.
const DESCRIPTORS_PER_CORE: u64 = 300;
/// What the process has open besides.
const DESCRIPTORS_OF_PROCESS: u64 = 64;

/// What a node may use.
#[derive(Debug, Clone)]
pub(super) struct NodeLimits {
    pub(super) budget: MemoryBudget,
    pub(super) server: ServerOptions,
    pub(super) warnings: Vec<String>,
}

/// What the node is, as far as limits follow from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeSize {
    pub(super) cores: usize,
    /// What the shards may keep as history, in all.
    pub(super) history_bytes_max: u64,
    /// Files of all logs.
    pub(super) log_files: u64,
}

impl NodeLimits {
    /// Chooses limits that fit each other and the machine.
    pub(super) fn choose(options: &NodeOptions, size: NodeSize) -> Result<NodeLimits, StartError> {
        let mut warnings = Vec::new();
        let budget = choose_budget(options, size, &mut warnings)?;
        let files_max = raise_open_files_limit().map_err(StartError::OpenFiles)?;
        let connections_max =
            choose_connections(options.connections_max, size, files_max, &mut warnings)?;
        let buffer_bytes_max = budget.connection_bytes_max(size.cores);
        let server = ServerOptions {
            connections_max,
            buffer_bytes_max: usize::try_from(buffer_bytes_max).unwrap_or(usize::MAX),
            ..options.server
        };
        Ok(NodeLimits {
            budget,
            server,
            warnings,
        })
    }
}

/// The memory budget of one of several nodes that share this machine.
pub(crate) fn budget_bytes_beside(nodes: usize, node: &NodeFile) -> u64 {
    let history_bytes_max = node.history.bytes_max * node.replicas.len() as u64;
    let min_bytes = MemoryBudget::bytes_min(node.cores, history_bytes_max);
    let share_bytes =
        machine_memory_bytes().map_or(min_bytes, |bytes| bytes / MEMORY_DIVISOR / nodes as u64);
    share_bytes.max(min_bytes)
}

fn choose_budget(
    options: &NodeOptions,
    size: NodeSize,
    warnings: &mut Vec<String>,
) -> Result<MemoryBudget, StartError> {
    let machine_bytes = machine_memory_bytes();
    let min_bytes = MemoryBudget::bytes_min(size.cores, size.history_bytes_max);
    let share_bytes = machine_bytes.map_or(min_bytes, |bytes| bytes / MEMORY_DIVISOR);
    let total_bytes = options
        .memory_budget_bytes
        .unwrap_or(share_bytes.max(min_bytes));
    if let Some(machine_bytes) = machine_bytes.filter(|&bytes| bytes < total_bytes) {
        warnings.push(format!(
            "the memory budget is {total_bytes} bytes, and this machine has only {machine_bytes}: a node that uses its budget will be killed"
        ));
    }
    Ok(MemoryBudget::new(
        total_bytes,
        size.cores,
        size.history_bytes_max,
    )?)
}

/// How many connections a core may have: as many as asked for, or else as the descriptors allow.
fn choose_connections(
    asked: Option<usize>,
    size: NodeSize,
    files_max: u64,
    warnings: &mut Vec<String>,
) -> Result<usize, StartError> {
    let cores = size.cores as u64;
    let others = size.log_files + cores * DESCRIPTORS_PER_CORE + DESCRIPTORS_OF_PROCESS;
    let needed_for =
        |connections: usize| others + cores * connections as u64 * DESCRIPTORS_PER_CONNECTION;
    if let Some(connections) = asked {
        return match needed_for(connections) {
            needed if needed > files_max => Err(StartError::Descriptors {
                connections,
                needed,
                limit: files_max,
            }),
            _ => Ok(connections),
        };
    }
    if needed_for(CONNECTIONS_DEFAULT) <= files_max {
        return Ok(CONNECTIONS_DEFAULT);
    }
    let left = files_max.saturating_sub(others) / cores / DESCRIPTORS_PER_CONNECTION;
    let connections = usize::try_from(left)
        .unwrap_or(CONNECTIONS_DEFAULT)
        .max(CONNECTIONS_MIN);
    warnings.push(format!(
        "RLIMIT_NOFILE allows {files_max} open files, enough for {connections} connections to each core instead of {CONNECTIONS_DEFAULT}: raise it to {} (ulimit -n, LimitNOFILE=)",
        needed_for(CONNECTIONS_DEFAULT)
    ));
    Ok(connections)
}

/// The memory that this process may use: the machine's, or less where a control group says so.
fn machine_memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total_memory_bytes);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let allowed = control_group(&groups).and_then(|group| {
        let group = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
        // A group is bound by those above it too.
        group
            .ancestors()
            .filter_map(|group| fs::read_to_string(group.join("memory.max")).ok())
            .filter_map(|limit| limit.trim().parse().ok())
            .min()
    });
    machine.into_iter().chain(allowed).min()
}

/// The total in `/proc/meminfo`.
fn total_memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The path of the process's group in `/proc/self/cgroup`, of the second version of groups.
fn control_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: NodeSize = NodeSize {
        cores: 2,
        history_bytes_max: 128 << 20,
        log_files: 40,
    };

    #[test]
    fn connections_follow_from_what_may_be_open() {
        let mut warnings = Vec::new();
        let choose = |asked, files_max, warnings: &mut Vec<String>| {
            choose_connections(asked, SIZE, files_max, warnings)
        };
        assert_eq!(choose(None, 100_000, &mut warnings).unwrap(), 16_384);
        assert_eq!(choose(Some(50), 1_024, &mut warnings).unwrap(), 50);
        assert!(warnings.is_empty());
        assert_eq!(choose(None, 1_024, &mut warnings).unwrap(), 160);
        assert!(warnings[0].contains("33472"), "{warnings:?}");
        let refused = choose(Some(1_000), 1_024, &mut warnings).unwrap_err();
        assert!(refused.to_string().contains("2704"), "{refused}");
    }

    #[test]
    fn the_machine_says_how_much_memory_it_has() {
        let meminfo = "MemFree: 5 kB\nMemTotal:       16316412 kB\n";
        assert_eq!(total_memory_bytes(meminfo), Some(16_316_412 * 1024));
        assert_eq!(total_memory_bytes("MemTotal: much"), None);
        assert_eq!(control_group("1:cpu:/a\n0::/b/c\n"), Some("/b/c"));
        assert!(machine_memory_bytes().unwrap() > 1 << 20);
    }
}
