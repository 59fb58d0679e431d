//! How the members of a group stand, as its leader sees them.

use std::collections::BTreeMap;

use metastore_wal::{LogIndex, ReplicaId};
use raft::{Progress, ProgressState};

use super::{Replica, Turn};
use crate::ids::Time;
use crate::members::{ChangeRefused, Feed, MemberPart, MemberStatus, MembersStatus};
use crate::membership::Member;
use crate::status::Role;

/// A learner follows closely when it lacks no more than so many entries.
const LAG_ENTRIES_MAX: u64 = 1_000;

/// What a leader knows of a member.
#[derive(Debug, Clone, Copy)]
struct Watched {
    heard_at: Time,
    /// Since when it follows closely.
    close_since: Option<Time>,
}

fn feed_of(progress: &Progress) -> Feed {
    match progress.state {
        ProgressState::Probe => Feed::Probe,
        ProgressState::Replicate => Feed::Replicate,
        ProgressState::Snapshot => Feed::Snapshot {
            index: LogIndex(progress.pending_snapshot),
        },
    }
}

/// What a leader knows of the members of its group.
#[derive(Debug, Default)]
pub(super) struct Watching {
    watched: BTreeMap<ReplicaId, Watched>,
}

impl Watching {
    /// Another leads.
    pub(super) fn forget_all(&mut self) {
        self.watched.clear();
    }

    /// Forgets those who are no members any more.
    pub(super) fn keep(&mut self, is_member: impl Fn(ReplicaId) -> bool) {
        self.watched.retain(|&replica, _| is_member(replica));
    }
}

impl Replica {
    /// Looks, as the leader, how the others follow.
    pub(super) fn watch_members(&mut self, turn: &Turn<'_>) {
        if self.role != Role::Leader {
            return;
        }
        let now = turn.now;
        let election_ticks = turn.settings.raft.election_ticks as u64;
        self.election_ms = election_ticks * turn.tick_ns / 1_000_000;
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        let watched = &mut self.watching.watched;
        for &Member { replica, home } in self.node.store().members().members() {
            let Some(progress) = raft.prs().get(replica.0) else {
                continue;
            };
            // One that has everything is probed until there is more.
            let is_close = progress.state != ProgressState::Snapshot
                && progress.matched + LAG_ENTRIES_MAX >= last;
            // What raft says of a group that has slept may be old; its cores were heard all the while.
            let is_there = replica == self.id || turn.neighbours.is_alive(home);
            if progress.recent_active && is_there {
                let seen = watched.entry(replica).or_insert(Watched {
                    heard_at: now,
                    close_since: None,
                });
                seen.heard_at = now;
            }
            if let Some(seen) = watched.get_mut(&replica) {
                seen.close_since = is_close.then(|| seen.close_since.unwrap_or(now));
            }
        }
    }

    /// Why a learner may not vote yet: it must hold everything that is committed, and have followed closely for an
    /// election timeout.
    pub(super) fn why_behind(&self, now: Time, replica: ReplicaId) -> Option<ChangeRefused> {
        let raft_log = &self.node.raft.raft_log;
        let matched = self.node.raft.prs().get(replica.0)?.matched;
        let watched = self.watching.watched.get(&replica);
        let since = watched.and_then(|watched| watched.close_since);
        let is_settled = since.is_some_and(|since| now.millis_since(since) >= self.election_ms);
        let is_close = matched >= raft_log.committed && is_settled && self.is_healthy(now, replica);
        (!is_close).then_some(ChangeRefused::Behind {
            replica,
            matched: LogIndex(matched),
            last: LogIndex(raft_log.last_index()),
        })
    }

    /// Whether a member is this replica, or was heard of within an election timeout.
    pub(super) fn is_healthy(&self, now: Time, replica: ReplicaId) -> bool {
        let watched = self.watching.watched.get(&replica);
        replica == self.id
            || watched.is_some_and(|watched| now.millis_since(watched.heard_at) <= self.election_ms)
    }

    pub(super) fn members_status(&self) -> MembersStatus {
        let members = self.membership();
        let state = members.conf_state();
        let count = |ids: &[u64]| u32::try_from(ids.len()).expect("a shard has few members");
        MembersStatus {
            voters: count(state.get_voters()),
            outgoing: count(state.get_voters_outgoing()),
            learners: count(state.get_learners()),
            newest: members.newest(),
            is_settled: self.role == Role::Leader && self.is_change_settled(),
        }
    }

    /// How every member stands, as far as it knows.
    pub(crate) fn members(&self, now: Time) -> Vec<MemberStatus> {
        let members = self.membership();
        let is_outgoing = |replica: ReplicaId| {
            let outgoing = members.conf_state().get_voters_outgoing();
            outgoing.contains(&replica.0)
        };
        let status_of = |&member: &Member| {
            let replica = member.replica;
            let part = match (members.is_voter(replica), is_outgoing(replica)) {
                (true, false) if members.is_joint() => MemberPart::Incoming,
                (true, _) => MemberPart::Voter,
                (false, true) => MemberPart::Outgoing,
                (false, false) => MemberPart::Learner,
            };
            let leads = self.role == Role::Leader;
            let progress = self.node.raft.prs().get(replica.0).filter(|_| leads);
            MemberStatus {
                member,
                part,
                matched: progress.map(|progress| LogIndex(progress.matched)),
                is_healthy: leads.then(|| self.is_healthy(now, replica)),
                feed: progress.map(feed_of),
            }
        };
        members.members().iter().map(status_of).collect()
    }
}
