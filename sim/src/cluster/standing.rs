//! How a replica stands, in one line.

use metastore_engine::{Feed, MemberStatus, NodeId, ReplicaStatus};

/// The line of a replica on `node`; a leader's says how it sends to the others.
pub(super) fn standing_of(
    node: NodeId,
    status: &ReplicaStatus,
    members: &[MemberStatus],
) -> String {
    let asleep = if status.is_asleep { ", asleep" } else { "" };
    let quarantine = status
        .quarantine
        .map(|why| format!(", in quarantine: {why}"));
    let leader = status
        .leader
        .map_or(String::new(), |leader| format!(" of {leader}"));
    let others = members
        .iter()
        .filter(|other| other.member.replica != status.replica);
    let others: String = others.filter_map(feed_to).collect();
    format!(
        "shard {} replica {} on node {node}: {:?}{leader} in term {}, applied {}, committed {}, last {}{asleep}{}{others}",
        status.shard,
        status.replica,
        status.role,
        status.term,
        status.applied,
        status.committed,
        status.last,
        quarantine.unwrap_or_default(),
    )
}

fn feed_to(other: &MemberStatus) -> Option<String> {
    let feed = match other.feed? {
        Feed::Probe => "probes".to_owned(),
        Feed::Replicate => "streams to".to_owned(),
        Feed::Snapshot { index } => format!("waits for the snapshot {index} at"),
    };
    let silent = if other.is_healthy == Some(false) {
        ", silent"
    } else {
        ""
    };
    let matched = other.matched.unwrap_or_default();
    let (replica, node) = (other.member.replica, other.member.home.node);
    Some(format!(
        "; {feed} {replica} on node {node}, matched {matched}{silent}"
    ))
}
