//! What a put took when the baseline was written, and whether it takes more now.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::callgrind;
use super::{Counted, Scenario};
use crate::conditions::{Machine, commit};
use crate::error::Verdict;
use crate::output::{Table, number};

/// A rise above this is a failure. Two runs of one program differ by less than a thousandth; what is left is for other
/// compilers, C libraries and processors.
const RISE_MAX: f64 = 0.05;

/// Counts that are kept with the sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// Under which circumstances it was written: for whoever wonders about a difference.
    commit: Option<String>,
    rustc: Option<String>,
    valgrind: Option<String>,
    cpu_model: Option<String>,
    scenarios: Vec<Kept>,
}

/// Instructions a put in one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    scenario: Scenario,
    puts: u64,
    instructions_per_put: f64,
    packages: BTreeMap<String, f64>,
}

/// One scenario beside its baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Change {
    #[serde(flatten)]
    scenario: Scenario,
    instructions_per_put: f64,
    /// `None` where the baseline has no such scenario.
    baseline: Option<f64>,
    /// By how much each package costs more, in instructions a put, the most first.
    packages: Vec<(String, f64)>,
}

/// How a scenario stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Same,
    /// It costs more than is allowed.
    Risen,
    /// It costs so much less that the baseline would let it rise again unnoticed.
    Fallen,
    Unknown,
}

impl Baseline {
    /// A baseline of what was counted now.
    pub(super) fn of(counted: &[Counted]) -> Baseline {
        Baseline {
            commit: commit(),
            rustc: compiler(),
            valgrind: callgrind::version().ok(),
            cpu_model: Machine::this().cpu_model,
            scenarios: counted.iter().map(Kept::of).collect(),
        }
    }

    /// Where it is from, in a line.
    pub(super) fn words(&self) -> String {
        let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".to_owned());
        format!(
            "commit {}, {}, {}, {}",
            known(&self.commit),
            known(&self.rustc),
            known(&self.valgrind),
            known(&self.cpu_model)
        )
    }

    /// What was counted now, beside the baseline.
    pub(super) fn changes(&self, counted: &[Counted]) -> Vec<Change> {
        let change = |count: &Counted| {
            let now = Kept::of(count);
            let mut kept = self.scenarios.iter();
            Change::between(&now, kept.find(|kept| kept.scenario == now.scenario))
        };
        counted.iter().map(change).collect()
    }
}

impl Kept {
    fn of(count: &Counted) -> Kept {
        let each = |instructions: u64| round(instructions as f64 / count.puts as f64);
        let packages = count.profile.packages().into_iter();
        Kept {
            scenario: count.scenario,
            puts: count.puts,
            instructions_per_put: each(count.profile.total),
            packages: packages.map(|(name, cost)| (name, each(cost))).collect(),
        }
    }
}

impl Change {
    fn between(now: &Kept, kept: Option<&Kept>) -> Change {
        let mut packages: Vec<(String, f64)> = Vec::new();
        if let Some(kept) = kept {
            let names = now.packages.keys().chain(kept.packages.keys());
            let of =
                |packages: &BTreeMap<String, f64>, name| packages.get(name).copied().unwrap_or(0.0);
            packages = names
                .map(|name| {
                    (
                        name.clone(),
                        round(of(&now.packages, name) - of(&kept.packages, name)),
                    )
                })
                .collect();
            packages.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            packages.dedup();
        }
        Change {
            scenario: now.scenario,
            instructions_per_put: now.instructions_per_put,
            baseline: kept.map(|kept| kept.instructions_per_put),
            packages,
        }
    }

    /// The rise as a share of the baseline.
    fn rise(&self) -> Option<f64> {
        self.baseline
            .map(|baseline| self.instructions_per_put / baseline - 1.0)
    }

    fn standing(&self) -> Standing {
        let now = self.instructions_per_put;
        match self.baseline {
            None => Standing::Unknown,
            Some(baseline) if now > baseline * (1.0 + RISE_MAX) => Standing::Risen,
            Some(baseline) if now < baseline * (1.0 - RISE_MAX) => Standing::Fallen,
            Some(_) => Standing::Same,
        }
    }

    /// The verdict over all scenarios. What the baseline does not know cannot be judged.
    pub(super) fn verdict(changes: &[Change]) -> Verdict {
        let verdict = |change: &Change| match change.standing() {
            Standing::Risen => Verdict::Missed,
            Standing::Unknown => Verdict::Invalid,
            Standing::Same | Standing::Fallen => Verdict::Valid,
        };
        changes
            .iter()
            .map(verdict)
            .max()
            .unwrap_or(Verdict::Invalid)
    }

    pub(super) fn table(changes: &[Change]) -> Table {
        let mut table = Table::new(&["scenario", "instructions a put", "baseline", "change", ""]);
        for change in changes {
            let standing = match change.standing() {
                Standing::Same => "",
                Standing::Risen => "RISEN",
                Standing::Fallen => "fallen",
                Standing::Unknown => "NOT IN THE BASELINE",
            };
            table.row(vec![
                change.scenario.words(),
                number(change.instructions_per_put),
                change.baseline.map_or("-".to_owned(), number),
                change
                    .rise()
                    .map_or("-".to_owned(), |rise| format!("{:+.2} %", rise * 100.0)),
                standing.to_owned(),
            ]);
        }
        table
    }

    /// What is to be done about it, if anything is.
    pub(super) fn remark(&self) -> Option<String> {
        let scenario = self.scenario.words();
        match self.standing() {
            Standing::Same => None,
            Standing::Risen => {
                let risen = self
                    .packages
                    .iter()
                    .filter(|(_, more)| *more >= 1.0)
                    .take(5);
                let words: Vec<String> = risen
                    .map(|(package, more)| format!("{package} {:+}", more.round()))
                    .collect();
                Some(format!(
                    "{scenario}: a put may take {:.0} % more instructions than the baseline, and takes more: {}",
                    RISE_MAX * 100.0,
                    words.join(", ")
                ))
            }
            Standing::Fallen => Some(format!(
                "{scenario}: write the baseline anew (--write-baseline), so that this is not lost again unnoticed"
            )),
            Standing::Unknown => Some(format!(
                "{scenario}: the baseline does not have it; --write-baseline writes one that does"
            )),
        }
    }
}

/// A tenth of an instruction is as much as anybody wants to know, and keeps the file readable.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn compiler() -> Option<String> {
    let output = Command::new("rustc")
        .arg("--version")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline_file;
    use crate::core_alone::profile::Profile;
    use crate::test_directory::TestDirectory;
    use std::fs;

    const PUTS: u64 = 1_000;

    /// A scenario in which the engine takes `engine` instructions a put, and the log 1,000.
    fn counted(batch: usize, engine: u64) -> Counted {
        let (wal, engine) = (1_000 * PUTS, engine * PUTS);
        let text = format!(
            "ob=/build/x\nfn=metastore_wal::Log::stage\n1 {wal}\nfn=metastore_engine::Core::step\n1 {engine}\n\
             totals: {}\n",
            wal + engine
        );
        Counted {
            scenario: Scenario { replicas: 1, batch },
            puts: PUTS,
            profile: Profile::parse(&text).unwrap(),
        }
    }

    fn verdict(baseline: &Baseline, now: &[Counted]) -> Verdict {
        Change::verdict(&baseline.changes(now))
    }

    #[test]
    fn a_rise_of_more_than_five_percent_in_any_scenario_fails() {
        let baseline = Baseline::of(&[counted(1, 9_000), counted(256, 3_000)]);
        let at = |lone, many| verdict(&baseline, &[counted(1, lone), counted(256, many)]);
        assert_eq!(at(9_000, 3_000), Verdict::Valid);
        assert_eq!(at(9_500, 3_200), Verdict::Valid, "five percent is allowed");
        assert_eq!(at(9_501, 3_200), Verdict::Missed);
        assert_eq!(at(9_000, 3_201), Verdict::Missed);
        assert_eq!(
            at(4_000, 3_201),
            Verdict::Missed,
            "one does not make up for another"
        );
        assert_eq!(at(4_000, 1_000), Verdict::Valid);
    }

    #[test]
    fn a_scenario_without_baseline_cannot_be_judged() {
        let baseline = Baseline::of(&[counted(1, 9_000)]);
        assert_eq!(verdict(&baseline, &[counted(16, 9_000)]), Verdict::Invalid);
        assert_eq!(verdict(&baseline, &[]), Verdict::Invalid);
        let mut three = counted(1, 9_000);
        three.scenario.replicas = 3;
        assert_eq!(verdict(&baseline, &[three]), Verdict::Invalid);
    }

    #[test]
    fn a_baseline_comes_back_from_its_file_and_a_planted_one_fails() {
        let directory = TestDirectory::new("a_baseline_comes_back");
        let path = directory.path().join("core.json");
        let now = [counted(1, 9_000)];
        let written = Baseline::of(&now);
        baseline_file::write(&path, &written).unwrap();
        let read: Baseline = baseline_file::read(&path).unwrap();
        assert_eq!(read, written);
        assert_eq!(verdict(&read, &now), Verdict::Valid);

        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"instructions_per_put\": 10000.0"), "{text}");
        let planted = text.replace("10000.0", "9500.0");
        fs::write(&path, planted).unwrap();
        let planted: Baseline = baseline_file::read(&path).unwrap();
        assert_eq!(verdict(&planted, &now), Verdict::Missed);
    }

    #[test]
    fn a_rise_names_the_packages_that_cost_more() {
        let baseline = Baseline::of(&[counted(1, 9_000)]);
        let changes = baseline.changes(&[counted(1, 10_000)]);
        let remark = changes[0].remark().unwrap();
        assert!(remark.contains("engine +1000"), "{remark}");
        assert!(!remark.contains("wal"), "{remark}");
        let fallen = baseline.changes(&[counted(1, 8_000)]);
        assert!(fallen[0].remark().unwrap().contains("--write-baseline"));
        assert_eq!(baseline.changes(&[counted(1, 9_000)])[0].remark(), None);
    }
}
