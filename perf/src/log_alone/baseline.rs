//! The log's ratio to fio when the baseline was written.
//!
//! It is a ratio of times on a disk, so the tolerance is wide, and the best round counts: a fall is told when not a
//! single round came near the baseline. On another disk a baseline says little; its words name the disk that it is of.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::arguments::Strictness;
use crate::conditions::{Machine, commit};
use crate::error::Verdict;
use crate::latency::Spread;
use crate::output::number;

/// The best round may be lower than the baseline's median by this share of it.
pub(super) const FALL_MAX: f64 = 0.15;

/// Ratios that are kept with the sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    commit: Option<String>,
    cpu_model: Option<String>,
    file_system: Option<String>,
    flush_method: String,
    batches: Vec<Kept>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    batch: usize,
    ratio: Spread,
}

impl Baseline {
    /// A baseline of what was measured now.
    pub(super) fn of(
        ratios: impl Iterator<Item = (usize, Spread)>,
        (file_system, flush_method): (Option<String>, &str),
    ) -> Baseline {
        Baseline {
            commit: commit(),
            cpu_model: Machine::this().cpu_model,
            file_system,
            flush_method: flush_method.to_owned(),
            batches: ratios.map(|(batch, ratio)| Kept { batch, ratio }).collect(),
        }
    }

    /// What it says and where it is from, in a line.
    pub(super) fn words(&self, path: &Path) -> String {
        let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".to_owned());
        let ratios = self.batches.iter().map(|kept| {
            let Kept { batch, ratio } = kept;
            format!("{batch}: {}", number(ratio.median))
        });
        format!(
            "baseline {} (commit {}, {}, {}, {}): {}",
            path.display(),
            known(&self.commit),
            known(&self.cpu_model),
            known(&self.file_system),
            self.flush_method,
            ratios.collect::<Vec<_>>().join(", ")
        )
    }

    /// The batches of which no round came near this baseline. What is made durable in another way is another thing.
    pub(super) fn fallen(&self, now: &Baseline) -> Vec<usize> {
        if self.flush_method != now.flush_method {
            return Vec::new();
        }
        let has_fallen = |measured: &&Kept| {
            let mut kept = self.batches.iter();
            kept.find(|kept| kept.batch == measured.batch)
                .is_some_and(|kept| measured.ratio.max < kept.ratio.median * (1.0 - FALL_MAX))
        };
        let fallen = now.batches.iter().filter(has_fallen);
        fallen.map(|measured| measured.batch).collect()
    }
}

/// A fall is a failure only where a missed target is one.
pub(super) fn verdict(fallen: &[usize], strictness: Strictness) -> Verdict {
    match strictness {
        Strictness::Strict if !fallen.is_empty() => Verdict::Missed,
        Strictness::Strict | Strictness::Lenient => Verdict::Valid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(ratios: &[(usize, [f64; 3])]) -> Baseline {
        let spread = |&(batch, values): &(usize, [f64; 3])| (batch, Spread::of(values).unwrap());
        Baseline::of(ratios.iter().map(spread), (None, "dsync"))
    }

    #[test]
    fn a_fall_is_told_when_no_round_came_near() {
        let kept = baseline(&[(1, [0.8, 0.8, 0.8]), (1_024, [0.9, 0.9, 0.9])]);
        let near = baseline(&[(1, [0.1, 0.3, 0.69]), (1_024, [0.8, 0.8, 0.8])]);
        assert!(kept.fallen(&near).is_empty());
        let below = baseline(&[(1, [0.6, 0.65, 0.67]), (1_024, [0.8, 0.8, 0.8])]);
        assert_eq!(kept.fallen(&below), [1]);
        let unknown = baseline(&[(16, [0.1, 0.1, 0.1])]);
        assert!(kept.fallen(&unknown).is_empty());
        let otherwise = Baseline {
            flush_method: "write-then-sync".to_owned(),
            ..below
        };
        assert!(kept.fallen(&otherwise).is_empty());
        assert_eq!(verdict(&[1], Strictness::Strict), Verdict::Missed);
        assert_eq!(verdict(&[1], Strictness::Lenient), Verdict::Valid);
        assert_eq!(verdict(&[], Strictness::Strict), Verdict::Valid);
    }
}
