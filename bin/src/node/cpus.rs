//! Which processors the cores are pinned to.

use std::collections::BTreeSet;

use super::StartError;

/// The processors that this process may use, from the kernel's own list.
pub(crate) fn allowed() -> Result<Vec<usize>, StartError> {
    let path = "/proc/self/status";
    let status = std::fs::read_to_string(path).map_err(|source| StartError::File {
        path: path.into(),
        source,
    })?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .and_then(|list| parse_list(list.trim()))
        .ok_or_else(|| StartError::CpuList {
            list: format!("Cpus_allowed_list of {path}"),
        })
}

/// More processors than any machine has.
const CPUS_MAX: usize = 65_536;

/// Reads a list of processors, as in `0-3,8`; `None` when it is not one, or names one twice.
pub(crate) fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // A typing error must not fill the memory, in one part or in many.
        if last < first || last - first >= CPUS_MAX - cpus.len() {
            return None;
        }
        cpus.extend(first..=last);
    }
    let distinct: BTreeSet<_> = cpus.iter().collect();
    (distinct.len() == cpus.len()).then_some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0"), Some(vec![0]));
        assert_eq!(parse_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_list(""), None);
        assert_eq!(parse_list("2-1"), None);
        assert_eq!(parse_list("0-99999999999"), None);
        assert_eq!(parse_list("0-60000,60001-99999"), None);
        assert_eq!(parse_list("a"), None);
        // Two cores on one processor would take turns without anybody having said so.
        assert_eq!(parse_list("0-2,1"), None);
    }

    #[test]
    fn this_process_may_use_a_processor() {
        assert!(!allowed().expect("the kernel tells").is_empty());
    }
}
