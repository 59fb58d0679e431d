//! Which CPU runs the store and which one the client, so that neither takes from the other.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// Who runs where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Pinning {
    /// Store and floor on one CPU, the client on another.
    Apart { store_cpu: u32, client_cpu: u32 },
    /// The store on one CPU, the client wherever the system puts it: there is only one CPU, or no `taskset`.
    StoreOnly { store_cpu: u32 },
}

impl Pinning {
    /// The first two CPUs that this process may use.
    pub(super) fn choose() -> Pinning {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let allowed = allowed_cpus(&status);
        let store_cpu = allowed.first().copied().unwrap_or(0);
        let has_taskset = Command::new("taskset").arg("--version").output().is_ok();
        match allowed.get(1) {
            Some(&client_cpu) if has_taskset => Pinning::Apart {
                store_cpu,
                client_cpu,
            },
            _ => Pinning::StoreOnly { store_cpu },
        }
    }

    /// Where the store runs.
    pub(super) fn store_cpu(&self) -> u32 {
        match *self {
            Pinning::Apart { store_cpu, .. } | Pinning::StoreOnly { store_cpu } => store_cpu,
        }
    }

    /// Keeps this process to the client's CPU from now on. If that fails, the client's share of its CPU shows it.
    pub(super) fn restrict_client(&self) {
        if let Pinning::Apart { client_cpu, .. } = self {
            let own = std::process::id().to_string();
            let cpu = client_cpu.to_string();
            let _output = Command::new("taskset").args(["-cp", &cpu, &own]).output();
        }
    }

    /// A command that runs where the store runs.
    pub(super) fn beside_store(&self, program: &std::ffi::OsStr) -> Command {
        match self {
            Pinning::Apart { store_cpu, .. } => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(store_cpu.to_string()).arg(program);
                command
            }
            Pinning::StoreOnly { .. } => Command::new(program),
        }
    }

    /// Who runs where, in words.
    pub(super) fn words(&self) -> String {
        match self {
            Pinning::Apart {
                store_cpu,
                client_cpu,
            } => format!("store and floor on CPU {store_cpu}, client on CPU {client_cpu}"),
            Pinning::StoreOnly { store_cpu } => {
                format!("store on CPU {store_cpu}; the client is NOT pinned and may share it")
            }
        }
    }
}

/// The CPUs in the line `Cpus_allowed_list` of `/proc/<pid>/status`, such as `0-3,8`.
fn allowed_cpus(status: &str) -> Vec<u32> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_ranges_and_single_cpus() {
        let of = |list: &str| allowed_cpus(&format!("Name:\tx\nCpus_allowed_list:\t{list}\n"));
        assert_eq!(of("0-2,8"), [0, 1, 2, 8]);
        assert_eq!(of("5"), [5]);
        assert!(allowed_cpus("Name:\tx\n").is_empty());
    }
}
