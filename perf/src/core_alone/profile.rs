//! Instructions by function and by package, as callgrind has counted them.
//!
//! Costs are those of functions as the compiler has left them: what is inlined belongs to whoever it is inlined into.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Counted;
use crate::output::{Table, number};

/// What a run has cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Profile {
    /// All instructions.
    pub(super) total: u64,
    /// Dearest first, by their own instructions.
    pub(super) functions: Vec<Function>,
}

/// One function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Function {
    pub(super) name: String,
    /// Whose it is: a package of ours, a library, or what many share.
    pub(super) package: String,
    /// Instructions of its own.
    pub(super) own: u64,
    /// With those of what it calls. A function that calls itself counts more than once.
    pub(super) inclusive: u64,
    /// Times that it calls others.
    calls: u64,
}

/// Why an output cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error("line {line} of callgrind's output cannot be read: {text}")]
    Line { line: usize, text: String },
    #[error("callgrind's output ends before its sum, or has none: nothing was collected")]
    NoSum,
    #[error("callgrind's sum is {sum}, its functions have {counted}")]
    Sum { sum: u64, counted: u64 },
}

#[derive(Default)]
struct Cost {
    object: String,
    own: u64,
    called: u64,
    calls: u64,
}

impl Profile {
    /// Reads an output with whole names and whole positions.
    ///
    /// ```text
    /// ob=/path/of/object           the functions that follow are in it
    /// fn=name                      the costs that follow are this function's
    /// 12 300                       at line 12: 300 instructions of its own
    /// cfn=other                    the calls that follow are calls of it
    /// calls=2 40                   two of them, to line 40
    /// 13 5000                      at line 13: what they cost with all that they called
    /// totals: 5300
    /// ```
    pub(super) fn parse(text: &str) -> Result<Profile, ProfileError> {
        let mut costs: BTreeMap<&str, Cost> = BTreeMap::new();
        let mut object = "";
        let mut function = "";
        let mut is_call = false;
        let mut sum = None;
        for (index, line) in text.lines().enumerate() {
            let unreadable = || ProfileError::Line {
                line: index + 1,
                text: line.to_owned(),
            };
            if let Some(name) = line.strip_prefix("ob=") {
                object = name;
            } else if let Some(name) = line.strip_prefix("fn=") {
                function = name;
                costs.entry(name).or_default().object = object.to_owned();
            } else if let Some(call) = line.strip_prefix("calls=") {
                let count = call.split(' ').next().and_then(|count| count.parse().ok());
                let count: u64 = count.ok_or_else(unreadable)?;
                costs.entry(function).or_default().calls += count;
                is_call = true;
            } else if let Some(total) = line.strip_prefix("totals: ") {
                sum = Some(total.trim().parse::<u64>().map_err(|_| unreadable())?);
            } else if line.starts_with(|first: char| first.is_ascii_digit()) {
                let cost = line.split(' ').nth(1).map_or(Ok(0), str::parse::<u64>);
                let cost = cost.map_err(|_| unreadable())?;
                let of_function = costs.entry(function).or_default();
                match std::mem::take(&mut is_call) {
                    true => of_function.called += cost,
                    false => of_function.own += cost,
                }
            }
        }
        let total = sum.filter(|&sum| sum > 0).ok_or(ProfileError::NoSum)?;
        Profile::of(costs, total)
    }

    fn of(costs: BTreeMap<&str, Cost>, total: u64) -> Result<Profile, ProfileError> {
        let mut functions: Vec<Function> = costs
            .into_iter()
            .map(|(name, cost)| Function {
                package: package_of(name, &cost.object),
                name: without_hash(name).to_owned(),
                own: cost.own,
                inclusive: cost.own + cost.called,
                calls: cost.calls,
            })
            .collect();
        functions.sort_by(|a, b| b.own.cmp(&a.own).then_with(|| a.name.cmp(&b.name)));
        let counted = functions.iter().map(|function| function.own).sum();
        if counted != total {
            return Err(ProfileError::Sum {
                sum: total,
                counted,
            });
        }
        Ok(Profile { total, functions })
    }

    /// How often functions whose name contains `module` have called others.
    pub(super) fn calls_from(&self, module: &str) -> u64 {
        let inside = |function: &&Function| function.name.contains(module);
        let functions = self.functions.iter().filter(inside);
        functions.map(|function| function.calls).sum()
    }

    /// Instructions by package.
    pub(super) fn packages(&self) -> BTreeMap<String, u64> {
        let mut packages = BTreeMap::new();
        for function in &self.functions {
            *packages.entry(function.package.clone()).or_default() += function.own;
        }
        packages
    }
}

/// What is in every program belongs to whoever uses it, where the name says who that is.
const SHARED: [&str; 4] = ["alloc", "core", "std", "hashbrown"];

/// Whose a function is.
fn package_of(name: &str, object: &str) -> String {
    if !name.contains("::") {
        // C has no packages. An allocation is one wherever it is done.
        let allocator = [
            "mi_", "_mi_", "malloc", "calloc", "realloc", "free", "_int_",
        ];
        return match allocator.iter().any(|prefix| name.starts_with(prefix)) {
            true => "allocator".to_owned(),
            false if object.contains("/libc") => "libc".to_owned(),
            false => "other".to_owned(),
        };
    }
    let mut crates = name
        .split(|character: char| {
            !character.is_alphanumeric() && character != '_' && character != ':'
        })
        .filter_map(|path| path.split_once("::").map(|(first, _)| first))
        .filter(|first| !first.is_empty());
    let first = crates.next().unwrap_or("other");
    let owner = match SHARED.contains(&first) {
        true => crates.find(|name| !SHARED.contains(name)).unwrap_or("std"),
        false => first,
    };
    let owner = owner.strip_prefix("metastore_").unwrap_or(owner);
    match owner {
        "raft_proto" | "protobuf" => "raft".to_owned(),
        // The compiler's way to the allocator.
        "__rustc" => "allocator".to_owned(),
        // Ours within the measurement is only the way into the core.
        "perf" => "load".to_owned(),
        other => other.to_owned(),
    }
}

/// A mangled name ends with a hash of the compiler's, `::h` and sixteen digits, which says nothing to people.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash))
            if hash.len() == 16 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()) =>
        {
            path
        }
        _ => name,
    }
}

// ---- Tables ----

/// Longest name in a table; the middle of a longer one is left out.
const NAME_CHARACTERS_MAX: usize = 90;

/// Packages of which nothing is a stage of the work: what leads to the core, and what is called from everywhere.
const OUTSIDE: [&str; 5] = ["load", "std", "libc", "allocator", "other"];

/// The dearest functions: first by what they do themselves, then by what they and those they call do.
pub(super) fn functions_table(count: &Counted, functions: usize) -> Table {
    let each = |instructions: u64| number(instructions as f64 / count.puts as f64);
    let mut table = Table::new(&["function", "package", "own a put", "with what it calls"]);
    let row = |function: &Function| {
        vec![
            short(&function.name),
            function.package.clone(),
            each(function.own),
            each(function.inclusive),
        ]
    };
    for function in count.profile.functions.iter().take(functions) {
        table.row(row(function));
    }
    let rule = || vec!["-".to_owned(), String::new(), String::new(), String::new()];
    table.row(rule());
    let mut stages: Vec<&Function> = count.profile.functions.iter().collect();
    stages.retain(|function| !OUTSIDE.contains(&function.package.as_str()));
    stages.sort_by_key(|function| std::cmp::Reverse(function.inclusive));
    for function in stages.into_iter().take(functions) {
        table.row(row(function));
    }
    table
}

/// Instructions a put by package, a column for each scenario.
pub(super) fn packages_table(counted: &[Counted]) -> Table {
    let scenarios = counted.iter().map(|count| count.scenario.words());
    let head: Vec<String> = std::iter::once("instructions a put".to_owned())
        .chain(scenarios)
        .collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut table = Table::new(&head);
    let by_scenario: Vec<BTreeMap<String, u64>> = counted
        .iter()
        .map(|count| count.profile.packages())
        .collect();
    let mut packages: Vec<&String> = by_scenario.iter().flat_map(BTreeMap::keys).collect();
    let dearness = |package: &str| {
        let costs = by_scenario.iter().filter_map(|costs| costs.get(package));
        costs.max().copied().unwrap_or(0)
    };
    packages.sort_by_key(|package| (std::cmp::Reverse(dearness(package)), (*package).clone()));
    packages.dedup();
    for package in packages {
        let cell = |(count, costs): (&Counted, &BTreeMap<String, u64>)| {
            let cost = costs.get(package).copied().unwrap_or(0);
            number(cost as f64 / count.puts as f64)
        };
        let cells = counted.iter().zip(&by_scenario).map(cell);
        table.row(std::iter::once(package.clone()).chain(cells).collect());
    }
    table
}

fn short(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    if characters.len() <= NAME_CHARACTERS_MAX {
        return name.to_owned();
    }
    let half = NAME_CHARACTERS_MAX / 2 - 2;
    let (front, back) = (&characters[..half], &characters[characters.len() - half..]);
    format!(
        "{}...{}",
        front.iter().collect::<String>(),
        back.iter().collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
version: 1
creator: callgrind-3.19.0
positions: line
events: Ir
summary: 6140

ob=/build/metastore-perf
fl=/src/perf/src/core_alone/load.rs
fn=metastore_perf::core_alone::load::counted::step
400 30
cfn=metastore_engine::core::Core::step
calls=3 310
401 6110

fl=/src/engine/src/core/mod.rs
fn=metastore_engine::core::Core::step
310 100
fi=/library/alloc/vec.rs
12 10
fe=/src/engine/src/core/mod.rs
cob=/lib/libc.so.6
cfn=__memcpy_avx_unaligned_erms
calls=2 0
311 6000

ob=/lib/libc.so.6
fn=__memcpy_avx_unaligned_erms
0 6000

totals: 6140
";

    #[test]
    fn own_and_called_instructions_are_told_apart() {
        let profile = Profile::parse(OUTPUT).unwrap();
        assert_eq!(profile.total, 6_140);
        let costs: Vec<(&str, u64, u64)> = profile
            .functions
            .iter()
            .map(|function| (function.package.as_str(), function.own, function.inclusive))
            .collect();
        assert_eq!(
            costs,
            [
                ("libc", 6_000, 6_000),
                ("engine", 110, 6_110),
                ("load", 30, 6_140)
            ]
        );
        assert_eq!(profile.calls_from("load::counted::"), 3);
    }

    #[test]
    fn an_output_that_does_not_add_up_is_refused() {
        let wrong = OUTPUT.replace("totals: 6140", "totals: 6141");
        assert_eq!(
            Profile::parse(&wrong),
            Err(ProfileError::Sum {
                sum: 6_141,
                counted: 6_140
            })
        );
        let nothing = "version: 1\nevents: Ir\ntotals: 0\n";
        assert_eq!(Profile::parse(nothing), Err(ProfileError::NoSum));
        let line = OUTPUT.replace("310 100", "310 many");
        assert!(matches!(
            Profile::parse(&line),
            Err(ProfileError::Line { line: 17, .. })
        ));
    }

    #[test]
    fn what_many_share_belongs_to_whom_it_is_made_for() {
        let of = |name| package_of(name, "/build/metastore-perf");
        assert_eq!(of("metastore_wal::log::Log::stage"), "wal");
        assert_eq!(
            of("<metastore_wal::log::Log as core::fmt::Debug>::fmt"),
            "wal"
        );
        assert_eq!(of("raft::raw_node::RawNode<T>::ready"), "raft");
        assert_eq!(
            of("raft::raft_log::RaftLog<metastore_engine::replica::Tail>::slice"),
            "raft"
        );
        assert_eq!(
            of("core::ptr::drop_in_place<metastore_engine::effect::Effect>"),
            "engine"
        );
        assert_eq!(of("alloc::vec::Vec<T,A>::reserve"), "std");
        assert_eq!(
            of("<alloc::vec::Vec<u8> as core::clone::Clone>::clone"),
            "std"
        );
        assert_eq!(of("raft_proto::protos::eraftpb::Entry::new"), "raft");
        assert_eq!(of("mi_malloc"), "allocator");
        assert_eq!(of("__rustc::__rust_alloc"), "allocator");
        assert_eq!(of("compress2"), "other");
        assert_eq!(package_of("memcpy", "/usr/lib/libc.so.6"), "libc");
    }

    #[test]
    fn names_are_for_people() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::hash"), "a::hash");
        let long = "x".repeat(200);
        assert!(short(&long).chars().count() <= NAME_CHARACTERS_MAX);
        assert_eq!(short("a::b"), "a::b");
    }
}
