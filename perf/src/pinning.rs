//! Which CPU runs the store and which one the client, so that neither takes from the other.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Who runs where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pinning {
    /// Store and floor on one CPU, the client on another.
    Apart {
        store_cpu: u32,
        client_cpu: u32,
        /// What a store of several nodes may use, as the system writes it: what this process may, or all of that but the
        /// client's.
        allowed: String,
    },
    /// The store on one CPU, the client wherever the system puts it: there is only one CPU, or no `taskset`.
    StoreOnly { store_cpu: u32 },
}

impl Pinning {
    /// The first two CPUs that this process may use.
    pub(crate) fn choose() -> Pinning {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let list = allowed_list(&status);
        let allowed = allowed_cpus(list);
        let store_cpu = allowed.first().copied().unwrap_or(0);
        let has_taskset = Command::new("taskset").arg("--version").output().is_ok();
        match allowed.get(1) {
            Some(&client_cpu) if has_taskset => Pinning::Apart {
                store_cpu,
                client_cpu,
                allowed: list.to_owned(),
            },
            _ => Pinning::StoreOnly { store_cpu },
        }
    }

    /// The same, with the nodes of a cluster kept off the client's CPU.
    pub(crate) fn with_client_alone(mut self) -> Pinning {
        if let Pinning::Apart {
            client_cpu,
            allowed,
            ..
        } = &mut self
        {
            let others = allowed_cpus(allowed).into_iter();
            let others = others.filter(|cpu| cpu != client_cpu);
            *allowed = others
                .map(|cpu| cpu.to_string())
                .collect::<Vec<_>>()
                .join(",");
        }
        self
    }

    /// Where the store runs.
    pub(crate) fn store_cpu(&self) -> u32 {
        match self {
            Pinning::Apart { store_cpu, .. } | Pinning::StoreOnly { store_cpu } => *store_cpu,
        }
    }

    /// Keeps this process to the client's CPU from now on. If that fails, the client's share of its CPU shows it.
    pub(crate) fn restrict_client(&self) {
        if let Pinning::Apart { client_cpu, .. } = self {
            restrict_this_process(&client_cpu.to_string());
        }
    }

    /// Keeps this process, and whatever it starts, to the store's CPU from now on: what is compared runs in one place.
    pub(crate) fn restrict_to_store(&self) {
        if let Pinning::Apart { store_cpu, .. } = self {
            restrict_this_process(&store_cpu.to_string());
        }
    }

    /// Leaves this process where a store may run: one that is started inherits it.
    pub(crate) fn free_client(&self) {
        if let Pinning::Apart { allowed, .. } = self {
            restrict_this_process(allowed);
        }
    }

    /// A command that runs where the store runs.
    pub(crate) fn beside_store(&self, program: &std::ffi::OsStr) -> Command {
        match self {
            Pinning::Apart { store_cpu, .. } => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(store_cpu.to_string()).arg(program);
                command
            }
            Pinning::StoreOnly { .. } => Command::new(program),
        }
    }

    /// A command that runs wherever this process might before it kept to one processor.
    pub(crate) fn anywhere(&self, program: &std::ffi::OsStr) -> Command {
        match self {
            Pinning::Apart { allowed, .. } => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(allowed).arg(program);
                command
            }
            Pinning::StoreOnly { .. } => Command::new(program),
        }
    }

    /// Who runs where, in words, where the store is one node or a cluster of several.
    pub(crate) fn words_for(&self, nodes: u32) -> String {
        match self {
            _ if nodes == 1 => self.words(),
            Pinning::Apart {
                client_cpu,
                allowed,
                ..
            } => {
                let shares = match allowed_cpus(allowed).contains(client_cpu) {
                    true => "which it shares with them",
                    false => "which it has to itself",
                };
                format!(
                    "all nodes and the floor on CPUs {allowed}, the client on CPU {client_cpu}, {shares}"
                )
            }
            Pinning::StoreOnly { .. } => {
                "all nodes, the floor and the client wherever the system puts them".to_owned()
            }
        }
    }

    /// Who runs where, in words.
    fn words(&self) -> String {
        match self {
            Pinning::Apart {
                store_cpu,
                client_cpu,
                ..
            } => format!("store and floor on CPU {store_cpu}, client on CPU {client_cpu}"),
            Pinning::StoreOnly { store_cpu } => {
                format!("store on CPU {store_cpu}; the client is NOT pinned and may share it")
            }
        }
    }
}

/// Keeps this thread, and whatever it starts from now on, to a list of CPUs.
fn restrict_this_process(cpus: &str) {
    let own = std::process::id().to_string();
    let _output = Command::new("taskset").args(["-cp", cpus, &own]).output();
}

/// The line `Cpus_allowed_list` of `/proc/<pid>/status`, such as `0-3,8`.
fn allowed_list(status: &str) -> &str {
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap_or_default().trim()
}

/// The CPUs in such a list.
fn allowed_cpus(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_not_where_a_lone_store_would_be() {
        let apart = Pinning::Apart {
            store_cpu: 0,
            client_cpu: 1,
            allowed: "0-1".to_owned(),
        };
        assert_eq!(
            apart.words_for(1),
            "store and floor on CPU 0, client on CPU 1"
        );
        assert!(
            apart
                .words_for(3)
                .contains("all nodes and the floor on CPUs 0-1")
        );
        let command = apart.anywhere(std::ffi::OsStr::new("program"));
        let words: Vec<_> = command.get_args().collect();
        assert_eq!(words, ["-c", "0-1", "program"]);
        let alone = apart.with_client_alone();
        assert_eq!(
            alone.words_for(3),
            "all nodes and the floor on CPUs 0, the client on CPU 1, which it has to itself"
        );
    }

    #[test]
    fn lists_hold_ranges_and_single_cpus() {
        assert_eq!(allowed_cpus("0-2,8"), [0, 1, 2, 8]);
        assert_eq!(allowed_cpus("5"), [5]);
        assert!(allowed_cpus("").is_empty());
        let status = "Name:\tx\nCpus_allowed_list:\t0-2,8\nMems_allowed_list:\t0\n";
        assert_eq!(allowed_list(status), "0-2,8");
        assert_eq!(allowed_list("Name:\tx\n"), "");
    }
}
