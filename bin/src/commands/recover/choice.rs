//! Which copy of each shard is the best, and what is lost with the others.
//!
//! A pure function of the reports.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{CopyEntry, GroupEntry, Report};

/// Why reports do not lead to a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChoiceError {
    /// Reports of different clusters, or of different pasts of one.
    #[error(
        "the reports of nodes {node} and {other} do not belong together: they are of different clusters, or one of the nodes was left out when the cluster was recovered before"
    )]
    Apart {
        /// A node.
        node: u32,
        /// Another.
        other: u32,
    },
    /// Two reports of one node.
    #[error("there are two reports of node {node}")]
    Twice {
        /// The node.
        node: u32,
    },
    /// A node that is lost has a report.
    #[error("node {node} has a report and is said to be lost")]
    LostReports {
        /// The node.
        node: u32,
    },
    /// A node that is lost is none of the cluster's.
    #[error("node {node} is said to be lost, and the cluster knows of no such node")]
    NoSuchNode {
        /// The node.
        node: u32,
    },
    /// Nobody has said what became of a node on the list.
    #[error(
        "node {node} is one of the cluster's, there is no report of it and it is not said to be lost: bring its report, or name it with --lost if it never comes back"
    )]
    Unheard {
        /// The node.
        node: u32,
    },
    /// Nobody has said what became of a node that is on no list, but has a replica.
    #[error(
        "shard {shard} has a replica on node {node}, of which there is no report and which is not said to be lost: bring its report, or name it with --lost if it never comes back"
    )]
    Unaccounted {
        /// A shard.
        shard: u32,
        /// The node.
        node: u32,
    },
    /// No shard needs it.
    #[error(
        "every shard has a quorum on the nodes that are left: start them, and replace the lost ones with `metastore member replace`"
    )]
    NothingToDo,
    /// Nobody has a copy of some shards.
    #[error(
        "no node that is left has a copy of shards {shards:?} that can be used: what they held is lost. --leave-gone-shards goes on without them, and they stay unavailable"
    )]
    Gone {
        /// The shards.
        shards: Vec<u32>,
    },
}

/// What becomes of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A quorum is left, which needs no help.
    Kept,
    /// It goes on with one copy.
    Forced(Forced),
    /// There is no copy.
    Gone,
}

/// The copy with which a shard goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forced {
    pub(super) shard: u32,
    pub(super) node: u32,
    pub(super) core: u16,
    pub(super) replica: u64,
    pub(super) last_term: u64,
    pub(super) last_index: u64,
    pub(super) committed: u64,
    /// The last entry that no lost copy can have had otherwise.
    pub(super) passed_behind: u64,
    /// The term of what is written: newer than all that is known of.
    pub(super) term: u64,
    pub(super) newest_replica: u64,
    /// Other copies that could have been used. They go.
    pub(super) others: usize,
    pub(super) loss: Loss,
}

/// What may have been acknowledged and is on no node that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing: so few are lost that whatever was acknowledged is on somebody who is left.
    Nothing,
    /// Whatever was acknowledged behind the last entry of the copy.
    Perhaps,
}

/// A copy, and the node that has it.
struct Candidate<'a> {
    node: u32,
    copy: &'a CopyEntry,
}

/// Looks at all shards.
///
/// # Errors
/// Reports that do not belong together, or do not account for every node.
pub(super) fn choose(
    reports: &[Report],
    lost: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, Verdict>, ChoiceError> {
    check(reports, lost)?;
    let shards = reports.iter().map(|report| report.shards).max();
    let mut verdicts = BTreeMap::new();
    // How many shards go on with a copy of each node.
    let mut burden: BTreeMap<u32, usize> = BTreeMap::new();
    for shard in 0..shards.unwrap_or(0) {
        let verdict = judge(shard, reports, lost, &burden)?;
        if let Verdict::Forced(forced) = &verdict {
            *burden.entry(forced.node).or_default() += 1;
        }
        verdicts.insert(shard, verdict);
    }
    let is_forced = |verdict: &Verdict| !matches!(verdict, Verdict::Kept);
    match verdicts.values().any(is_forced) {
        true => Ok(verdicts),
        false => Err(ChoiceError::NothingToDo),
    }
}

fn check(reports: &[Report], lost: &BTreeSet<u32>) -> Result<(), ChoiceError> {
    let mut seen = BTreeSet::new();
    for report in reports {
        let node = report.node;
        let first = &reports[0];
        let is_same = report.cluster == first.cluster
            && report.map == first.map
            && report.recoveries == first.recoveries
            && report.shards == first.shards;
        if !is_same {
            let other = first.node;
            return Err(ChoiceError::Apart { node, other });
        }
        if !seen.insert(node) {
            return Err(ChoiceError::Twice { node });
        }
        if lost.contains(&node) {
            return Err(ChoiceError::LostReports { node });
        }
    }
    // A node may be on the list of some only: a copy elsewhere may be the newest of its shard, and its group be well.
    let listed: BTreeSet<u32> = reports
        .iter()
        .flat_map(|report| report.nodes.iter().copied())
        .collect();
    let is_accounted = |node: &u32| seen.contains(node) || lost.contains(node);
    if let Some(&node) = listed.iter().find(|&node| !is_accounted(node)) {
        return Err(ChoiceError::Unheard { node });
    }
    let copies = || reports.iter().flat_map(|report| &report.copies);
    let is_home = |node: u32| copies().any(|copy| homes_of(copy).any(|home| home == node));
    match lost
        .iter()
        .find(|&&node| !listed.contains(&node) && !is_home(node))
    {
        Some(&node) => Err(ChoiceError::NoSuchNode { node }),
        None => Ok(()),
    }
}

/// The nodes where a copy knows members.
fn homes_of(copy: &CopyEntry) -> impl Iterator<Item = u32> {
    let members = copy.groups.iter().flat_map(|group| &group.members);
    members.map(|member| member.node)
}

fn judge(
    shard: u32,
    reports: &[Report],
    lost: &BTreeSet<u32>,
    burden: &BTreeMap<u32, usize>,
) -> Result<Verdict, ChoiceError> {
    let all = || {
        reports.iter().flat_map(move |report| {
            let copies = report.copies.iter().filter(move |copy| copy.shard == shard);
            copies.map(|copy| Candidate {
                node: report.node,
                copy,
            })
        })
    };
    let usable: Vec<Candidate<'_>> = all()
        .filter(|candidate| candidate.copy.fault.is_none())
        .collect();
    let reporting: BTreeSet<u32> = reports.iter().map(|report| report.node).collect();
    for node in all().flat_map(|one| homes_of(one.copy)) {
        if !reporting.contains(&node) && !lost.contains(&node) {
            return Err(ChoiceError::Unaccounted { shard, node });
        }
    }
    // One always does: the one that knows most to be committed.
    let complete = usable.iter().filter(|one| {
        let mut others = usable.iter();
        others.all(|other| holds_committed_of(one.copy, other.copy))
    });
    let Some(best) = complete.max_by_key(|one| rank(one, burden)) else {
        return Ok(Verdict::Gone);
    };
    let groups = &best.copy.groups;
    let left: BTreeSet<u64> = usable.iter().map(|one| one.copy.replica).collect();
    // A change of members that is not known to be committed may be, so each of them must be able to decide.
    if groups.iter().all(|group| can_decide(group, &left)) {
        return Ok(Verdict::Kept);
    }
    let is_covered = |group: &GroupEntry| meets_every_quorum(group, &left);
    let loss = match groups.iter().all(is_covered) {
        true => Loss::Nothing,
        false => Loss::Perhaps,
    };
    let newest = all().map(|one| one.copy.newest_replica.max(one.copy.replica));
    let term = all().map(|one| one.copy.term).max();
    Ok(Verdict::Forced(Forced {
        shard,
        node: best.node,
        core: best.copy.core,
        replica: best.copy.replica,
        last_term: best.copy.last_term,
        last_index: best.copy.last_index,
        committed: best.copy.committed,
        // Where nothing can be lost, clients keep the revisions that they were told.
        passed_behind: match loss {
            Loss::Nothing => best.copy.last_index,
            Loss::Perhaps => best.copy.committed,
        },
        term: term.unwrap_or(0) + 1,
        newest_replica: newest.max().unwrap_or(0),
        others: usable.len() - 1,
        loss,
    }))
}

/// Whether a copy holds all that another knows to be committed. A log may end with a newer term and yet lack some of it:
/// its leader was elected before that was committed, by voters that are lost.
fn holds_committed_of(one: &CopyEntry, other: &CopyEntry) -> bool {
    // What is committed is the same in all.
    if other.committed <= one.committed {
        return true;
    }
    let term = term_at(other, other.committed);
    other.committed <= one.last_index && term.is_some() && term == term_at(one, other.committed)
}

/// The term of an entry that is not below the last that is known to be committed.
fn term_at(copy: &CopyEntry, index: u64) -> Option<u64> {
    let mut runs = copy.runs.iter().rev();
    runs.find(|run| run.first_index <= index)
        .map(|run| run.term)
}

/// Of those that hold what anybody knows to be committed, the newest log by the rule of elections: where every quorum has
/// somebody who is left, it holds all that was acknowledged. Of equals one that votes is taken, then one whose node has
/// few shards so far, then the first.
fn rank(
    one: &Candidate<'_>,
    burden: &BTreeMap<u32, usize>,
) -> (
    (u64, u64),
    bool,
    std::cmp::Reverse<usize>,
    std::cmp::Reverse<u32>,
) {
    let votes = |group: &GroupEntry| group.voters.contains(&one.copy.replica);
    (
        (one.copy.last_term, one.copy.last_index),
        one.copy.groups.first().is_some_and(votes),
        std::cmp::Reverse(burden.get(&one.node).copied().unwrap_or(0)),
        std::cmp::Reverse(one.node),
    )
}

fn quorum(voters: &[u64]) -> usize {
    voters.len() / 2 + 1
}

fn left_of(voters: &[u64], left: &BTreeSet<u64>) -> usize {
    voters.iter().filter(|voter| left.contains(voter)).count()
}

/// Whether those who are left can elect and commit; in a joint state, in both halves.
fn can_decide(group: &GroupEntry, left: &BTreeSet<u64>) -> bool {
    let halves = [&group.voters, &group.outgoing];
    let mut halves = halves.into_iter().filter(|half| !half.is_empty());
    halves.all(|half| left_of(half, left) >= quorum(half))
}

/// Whether every quorum has somebody who is left, so that whatever was committed is there; in a joint state one half is
/// enough, because both must agree.
fn meets_every_quorum(group: &GroupEntry, left: &BTreeSet<u64>) -> bool {
    let halves = [&group.voters, &group.outgoing];
    let mut halves = halves.into_iter().filter(|half| !half.is_empty());
    halves.any(|half| half.len() - left_of(half, left) < quorum(half))
}

#[cfg(test)]
mod tests;
