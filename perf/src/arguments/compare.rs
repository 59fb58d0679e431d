//! The command line of the comparison with other systems.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::own_measurement::StrictArguments;
use super::{Effort, EffortArguments, parse_nodes};

/// The fewest keys: those of the largest batch are all different.
const KEYS_MIN: u64 = 1_024;

/// The most: what the shortest keys can tell apart.
const KEYS_MAX: u64 = 1 << 24;

/// Load before the load that is measured, of a first impression. Systems have just been loaded and are warm.
const QUICK_WARM_UP: Duration = Duration::from_millis(200);

/// Entries of the tree, unless the command line says otherwise.
const TREE_ENTRIES: u64 = 100_000;
const TREE_ENTRIES_QUICK: u64 = 10_000;

#[derive(Debug, Clone, Args)]
pub(crate) struct CompareArguments {
    /// What is measured, one section after the other [default: all].
    #[arg(long, value_name = "WORKLOADS", value_enum, value_delimiter = ',')]
    workloads: Vec<ComparedWorkload>,
    /// With which systems; one whose program is missing is named and skipped.
    #[arg(
        long,
        value_name = "PEERS",
        value_enum,
        value_delimiter = ',',
        default_values_t = [PeerName::Etcd, PeerName::Redis]
    )]
    peers: Vec<PeerName>,
    /// How many nodes this store and etcd have: 1, or 3 with a replica of everything on each, all on this machine.
    /// redis has one in any case.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_nodes)]
    pub(crate) nodes: u16,
    /// A directory on the disk in question; it is made if it is missing. The systems' data lies in it while they are
    /// measured.
    #[arg(long, value_name = "DIR", default_value = "metastore-compare")]
    pub(crate) data: PathBuf,
    /// The store's program [default: `metastore` beside this program].
    #[arg(long, value_name = "PATH")]
    pub(crate) metastore: Option<PathBuf>,
    #[command(flatten)]
    effort: EffortArguments,
    #[command(flatten)]
    pub(crate) strict: StrictArguments,
    /// Rounds are added to this file as they end, and a comparison that was stopped goes on from it
    /// [default: `compare.jsonl` in the data directory].
    #[arg(long, visible_alias = "resume", value_name = "FILE")]
    results: Option<PathBuf>,
    /// Write everything as JSON to this file; `-` is the standard output, and the tables then go to standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write everything as a page to look at to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Keys that each system holds before it is measured.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(KEYS_MIN..=KEYS_MAX)
    )]
    keys: u64,
    /// The tree whose metadata is stored by w12.
    #[arg(long, value_name = "DIR", default_value = "/usr")]
    pub(crate) tree: PathBuf,
    /// The most entries of the tree [default: 100000; 10000 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    tree_entries: Option<u64>,
    /// More arguments for `metastore dev`, such as `-- --flush dsync`.
    #[arg(last = true, value_name = "STORE_ARGUMENTS")]
    pub(crate) store_arguments: Vec<OsString>,
}

/// A workload that systems are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ComparedWorkload {
    /// Puts of 8 + 256 bytes, one in flight.
    W1,
    /// Puts of 8 + 256 bytes, 1,000 in flight.
    W2,
    /// Puts of 256 + 1,024 bytes, 1,000 in flight.
    W3,
    /// Puts of 8 + 16 bytes on deep pipelines.
    W4,
    /// Batches of 64 and 1,024 puts of 8 + 64 bytes.
    W5,
    /// Linearizable gets of 8 + 256 bytes.
    W6,
    /// A mix of gets, puts, compare-and-swaps and lists in an open loop, at shares of each system's own capacity.
    W8,
    /// The metadata of a real file tree: create all, stat all, list every directory.
    W12,
}

/// A system to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeerName {
    Etcd,
    Redis,
}

/// Whether a first impression is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thoroughness {
    /// One point of each workload, servers for several workloads, no round twice.
    Quick,
    /// Every point, servers for each round of a workload, a round thrown away is tried again.
    Full,
}

impl CompareArguments {
    /// What is measured, each once, in the order of the workloads.
    pub(crate) fn workloads(&self) -> Vec<ComparedWorkload> {
        let is_wanted = |workload: &&ComparedWorkload| {
            self.workloads.is_empty() || self.workloads.contains(workload)
        };
        let all = ComparedWorkload::value_variants();
        all.iter().filter(is_wanted).copied().collect()
    }

    /// With whom, each once, in the order of the command line.
    pub(crate) fn peers(&self) -> Vec<PeerName> {
        let mut peers = Vec::new();
        for &peer in &self.peers {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        peers
    }

    /// How much time it takes.
    pub(crate) fn effort(&self) -> Effort {
        let usual = self.effort.effort();
        Effort {
            keys: self.keys,
            warm_up: match self.thoroughness() {
                Thoroughness::Quick => QUICK_WARM_UP,
                Thoroughness::Full => usual.warm_up,
            },
            ..usual
        }
    }

    /// Whether a first impression is enough.
    pub(crate) fn thoroughness(&self) -> Thoroughness {
        if self.effort.is_quick() {
            Thoroughness::Quick
        } else {
            Thoroughness::Full
        }
    }

    /// Where rounds are kept.
    pub(crate) fn results(&self) -> PathBuf {
        self.results
            .clone()
            .unwrap_or_else(|| self.data.join("compare.jsonl"))
    }

    /// The most entries of the tree.
    pub(crate) fn tree_entries(&self) -> u64 {
        self.tree_entries.unwrap_or(match self.thoroughness() {
            Thoroughness::Quick => TREE_ENTRIES_QUICK,
            Thoroughness::Full => TREE_ENTRIES,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;
    use crate::arguments::Command;

    fn compare(line: &str) -> CompareArguments {
        let Command::Compare(arguments) = parse(line).unwrap().command else {
            panic!("{line} is a comparison");
        };
        *arguments
    }

    #[test]
    fn everything_has_a_default() {
        let arguments = compare("compare");
        assert_eq!(arguments.workloads().len(), 8);
        assert_eq!(arguments.peers(), [PeerName::Etcd, PeerName::Redis]);
        assert_eq!(arguments.effort().rounds, 5);
        assert_eq!(arguments.effort().measured, Duration::from_secs(10));
        assert_eq!(arguments.effort().keys, 100_000);
        let results = arguments.results();
        assert_eq!(results, arguments.data.join("compare.jsonl"));
        let quick = compare("compare --quick --resume here.jsonl");
        assert_eq!(quick.effort().rounds, 3);
        assert_eq!(quick.effort().measured, Duration::from_secs(2));
        assert_eq!(quick.tree_entries(), TREE_ENTRIES_QUICK);
        assert_eq!(quick.results(), PathBuf::from("here.jsonl"));
    }

    #[test]
    fn a_cluster_has_three_nodes() {
        let arguments = compare("compare --quick --nodes 3");
        assert_eq!(arguments.nodes, 3);
        assert_eq!(arguments.workloads(), compare("compare").workloads());
        assert_eq!(compare("compare").nodes, 1);
        for line in ["compare --nodes 2", "compare --nodes many"] {
            let refused = parse(line).unwrap_err().to_string();
            assert!(refused.contains("1 node, or 3"), "{refused}");
        }
    }

    #[test]
    fn workloads_and_peers_are_taken_once() {
        let line = "compare --workloads w12,w1,w1 --peers redis,redis --rounds 2";
        let arguments = compare(line);
        let expected = [ComparedWorkload::W1, ComparedWorkload::W12];
        assert_eq!(arguments.workloads(), expected);
        assert_eq!(arguments.peers(), [PeerName::Redis]);
        for line in [
            "compare --peers mysql",
            "compare --workloads w7",
            "compare --keys 1000",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
