//! What the logs and replicas of a shard must agree on.
//!
//! Each promise is that of the Raft paper (Ongaro and Ousterhout, 2014, figure 3), in the words of what can be seen
//! from outside: the records that go to the disks, what the disks say is durable, and what replicas report.

use std::collections::BTreeMap;

use metastore_engine::{
    LogIndex, NodeId, Quarantine, ReplicaId, ReplicaStatus, Role, ShardId, Term,
};
use metastore_statemachine::Command;
use metastore_wal::{EntryKind, HardState};
use xxhash_rust::xxh3::xxh3_64;

use super::ClusterViolation;
use super::linearizability::ShardLog;
use super::log_view::{EntryMark, EntrySeen, LogView, PartBodySeen, PartSeen};
use super::membership::MembershipView;
use crate::oracle::decompress;

/// The members with which a shard begins, all of whom vote: each replica with its node.
pub type Voters = Vec<(ReplicaId, NodeId)>;

/// What is known of a shard.
#[derive(Debug)]
struct Shard {
    id: ShardId,
    members: MembershipView,
    /// Who leads in each term.
    leaders: BTreeMap<Term, ReplicaId>,
    /// Every entry that was ever written.
    entries: BTreeMap<(LogIndex, Term), EntryKnown>,
    /// Where each command was written, by a hash of its bytes.
    commands: BTreeMap<u64, Vec<(LogIndex, Term)>>,
    committed: BTreeMap<LogIndex, EntryMark>,
    /// The terms of entries at which snapshots end.
    covered: BTreeMap<LogIndex, Term>,
    /// The state after each entry, and who was first in it.
    states: BTreeMap<LogIndex, (u64, ReplicaId)>,
}

/// What is known of an entry.
#[derive(Debug)]
struct EntryKnown {
    hash: u64,
    /// The term of the one before it.
    before: Option<Term>,
    /// Its commands, back to back.
    commands: Vec<u8>,
}

/// What is known of a replica.
#[derive(Debug, Default)]
struct Replica {
    /// Its newest durable term, vote and commit.
    durable: HardState,
    /// What it said is committed, in this life.
    committed: LogIndex,
    /// What it said that it has applied, in this life.
    applied: LogIndex,
    /// Up to here its log has been compared with what is committed.
    compared: LogIndex,
    /// What it has written, durable or not: the term at each index.
    written: BTreeMap<LogIndex, EntryMark>,
}

/// Compares all logs and replicas with each other.
#[derive(Debug)]
pub struct Replication {
    shards: BTreeMap<ShardId, Shard>,
    replicas: BTreeMap<ReplicaId, Replica>,
    states_compared: u64,
}

impl Replication {
    /// Shards in which nothing has happened.
    #[must_use]
    pub fn new(voters: BTreeMap<ShardId, Voters>) -> Replication {
        let shards = voters
            .into_iter()
            .map(|(id, voters)| (id, Shard::new(id, voters)));
        Replication {
            shards: shards.collect(),
            replicas: BTreeMap::new(),
            states_compared: 0,
        }
    }

    /// How often a state was compared with one of another replica or another life.
    #[must_use]
    pub fn states_compared(&self) -> u64 {
        self.states_compared
    }

    /// In how many terms of any shard somebody led.
    #[must_use]
    pub fn reigns(&self) -> u64 {
        let shards = self.shards.values();
        shards.map(|shard| shard.leaders.len() as u64).sum()
    }

    // ---- Logs ----

    /// A replica writes this, which is not durable yet.
    ///
    /// # Errors
    /// It contradicts what another has written, or what is committed.
    pub fn on_written(&mut self, part: &PartSeen) -> Result<(), ClusterViolation> {
        let shard = shard_of(&mut self.shards, part.shard);
        let replica = self.replicas.entry(part.replica).or_default();
        match &part.body {
            PartBodySeen::Append(first, entries) => {
                if !entries.is_empty() {
                    replica.written.split_off(first);
                }
                write(shard, part, replica, (*first, entries))?;
            }
            PartBodySeen::Rewrite(first, entries) => {
                write(shard, part, replica, (*first, entries))?;
            }
            PartBodySeen::Snapshot {
                covered,
                term,
                first,
                last,
            } => {
                shard.covered.insert(*covered, *term);
                replica
                    .written
                    .retain(|index, _| (first..=last).contains(&index));
                replica.compared = replica.compared.max(*covered);
            }
            PartBodySeen::Checkpoint { .. } => return Ok(()),
            PartBodySeen::Tombstone => {
                self.replicas.remove(&part.replica);
                return Ok(());
            }
        }
        compare_committed(shard, part.replica, replica, part.hard_state.commit)
    }

    /// What a replica wrote has become durable.
    ///
    /// # Errors
    /// Its term, vote or commit went back.
    pub fn on_durable(&mut self, part: &PartSeen) -> Result<(), ClusterViolation> {
        let replica = self.replicas.entry(part.replica).or_default();
        replica.on_hard_state(part.replica, part.hard_state)
    }

    /// A log was recovered: what its replicas had in memory and on their way is forgotten.
    ///
    /// # Errors
    /// What was recovered contradicts what was durable, or what others have.
    pub fn on_recovered(&mut self, found: &LogView) -> Result<(), ClusterViolation> {
        for (&id, view) in found {
            let shard = shard_of(&mut self.shards, view.shard);
            let replica = self.replicas.entry(id).or_default();
            replica.on_hard_state(id, view.hard_state)?;
            replica.committed = LogIndex(0);
            replica.applied = LogIndex(0);
            replica.written = view.entries.clone();
            if view.hard_state.commit > view.last() {
                return Err(ClusterViolation::CommitBeyondLog {
                    replica: id,
                    last: view.last(),
                    commit: view.hard_state.commit,
                });
            }
            replica.compared = view.covered;
            compare_committed(shard, id, replica, view.hard_state.commit)?;
        }
        Ok(())
    }

    // ---- Replicas ----

    /// A replica does what only a leader does.
    ///
    /// # Errors
    /// Another one leads in this term.
    pub fn on_leader(
        &mut self,
        shard: ShardId,
        term: Term,
        replica: ReplicaId,
    ) -> Result<(), ClusterViolation> {
        shard_of(&mut self.shards, shard).on_leader(term, replica)
    }

    /// A replica reports how it stands.
    ///
    /// # Errors
    /// It contradicts itself or another.
    pub fn on_status(&mut self, status: &ReplicaStatus) -> Result<(), ClusterViolation> {
        let shard = shard_of(&mut self.shards, status.shard);
        let replica = self.replicas.entry(status.replica).or_default();
        match status.quarantine {
            None => {}
            Some(Quarantine::StateDiffers { index, .. }) => {
                return Err(ClusterViolation::StatesDiffer {
                    shard: status.shard,
                    applied: index,
                    one: status.leader.unwrap_or_default(),
                    other: status.replica,
                });
            }
            // It says nothing of itself until it is repaired.
            Some(_) => return Ok(()),
        }
        if status.role == Role::Leader {
            shard.on_leader(status.term, status.replica)?;
        }
        if status.committed < replica.committed {
            return Err(ClusterViolation::CommitWentBack {
                replica: status.replica,
                before: replica.committed,
                after: status.committed,
            });
        }
        // What it has in memory may be ahead of its records, also where it has replaced what they say: its log is compared
        // with what others have committed when a record says so.
        replica.committed = status.committed;
        replica.applied = status.applied;
        let (hash, first) = *shard
            .states
            .entry(status.applied)
            .or_insert((status.state_hash, status.replica));
        self.states_compared += u64::from(first != status.replica);
        if hash != status.state_hash {
            return Err(ClusterViolation::StatesDiffer {
                shard: status.shard,
                applied: status.applied,
                one: first,
                other: status.replica,
            });
        }
        Ok(())
    }

    /// A replica of which nothing but its log is left had applied up to here.
    pub fn on_applied(&mut self, replica: ReplicaId, applied: LogIndex) {
        self.replicas.entry(replica).or_default().applied = applied;
    }

    /// The commands of a shard that somebody has applied, in their order.
    ///
    /// # Errors
    /// Nobody wrote an entry that was applied.
    pub fn log_of(&self, shard: ShardId) -> Result<ShardLog, ClusterViolation> {
        let known = &self.shards[&shard];
        let everybody = known.members.everybody().into_iter();
        let replicas: Vec<&Replica> = everybody.filter_map(|id| self.replicas.get(&id)).collect();
        let furthest = replicas.iter().max_by_key(|replica| replica.applied);
        let Some(furthest) = furthest else {
            return Ok(ShardLog::default());
        };
        let mut backwards = Vec::new();
        let mut behind: Option<&EntryKnown> = None;
        // Every replica begins with a snapshot of nothing at index 1. What a snapshot has taken the place of is known by its
        // last entry, and each one before that by the entry behind it.
        for index in (2..=furthest.applied.0).rev().map(LogIndex) {
            let own = || furthest.written.get(&index);
            // A leader may have applied what only others have written. No later leader writes anything else where an entry
            // is committed, so that it is the newest of all that stand there.
            let of_others = || {
                let written = replicas
                    .iter()
                    .filter_map(|other| other.written.get(&index));
                written.max_by_key(|entry| entry.term)
            };
            let mark = known.committed.get(&index).or_else(own);
            let term = mark.or_else(of_others).map(|mark| mark.term);
            let term = term.or_else(|| known.covered.get(&index).copied());
            let term = term.or_else(|| behind.and_then(|behind| behind.before));
            let entry = term.and_then(|term| known.entries.get(&(index, term)));
            let Some(entry) = entry else {
                return Err(ClusterViolation::AppliedUnseen { shard, index });
            };
            backwards.push(entry);
            behind = Some(entry);
        }
        let commands = backwards.into_iter().rev();
        let commands = commands.flat_map(|entry| each_command(&entry.commands));
        Ok(ShardLog(commands.map(<[u8]>::to_vec).collect()))
    }

    // ---- Clients ----

    /// A command was answered with an outcome. `durable` are the logs of all nodes, and what decay has taken from one
    /// since: a replica whose log is damaged takes no part before it is repaired, so that what it confirmed stays.
    ///
    /// # Errors
    /// A quorum does not hold it durably.
    pub fn on_acknowledged<'a>(
        &self,
        shard: ShardId,
        command: &[u8],
        durable: impl Iterator<Item = &'a LogView> + Clone,
    ) -> Result<(), ClusterViolation> {
        let known = &self.shards[&shard];
        let places = known.commands.get(&xxh3_64(command));
        let (mut quorum, mut most) = (known.members.first_quorum(), 0);
        for &(index, term) in places.into_iter().flatten() {
            let holds = |replica| {
                let mut views = durable.clone().filter_map(|log| log.get(&replica));
                views.any(|view| view.holds(index, term))
            };
            let term_at = |at| self.term_before(known, (index, term), at);
            for deciders in known.members.deciders_of(index, term_at) {
                if deciders.is_quorum(holds) {
                    return Ok(());
                }
                quorum = deciders.voters.len() / 2 + 1;
                let holders = deciders.voters.iter().filter(|&&replica| holds(replica));
                most = most.max(holders.count());
            }
        }
        Err(ClusterViolation::NotOnQuorum {
            shard,
            quorum,
            holders: most,
        })
    }

    /// The term of the entry at an index before `place`, in the logs that hold that place: all of them agree.
    fn term_before(
        &self,
        shard: &Shard,
        (index, term): (LogIndex, Term),
        at: LogIndex,
    ) -> Option<Term> {
        if let Some(committed) = shard.committed.get(&at) {
            return Some(committed.term);
        }
        let everybody = shard.members.everybody().into_iter();
        let mut logs = everybody.filter_map(|replica| self.replicas.get(&replica));
        logs.find_map(|log| {
            let holds_place = log.written.get(&index)?.term == term;
            let before = log.written.get(&at).filter(|_| holds_place)?;
            Some(before.term)
        })
    }
}

fn shard_of(shards: &mut BTreeMap<ShardId, Shard>, shard: ShardId) -> &mut Shard {
    shards.get_mut(&shard).expect("the cluster has the shard")
}

impl Shard {
    fn new(id: ShardId, voters: Voters) -> Shard {
        Shard {
            id,
            members: MembershipView::new(voters.into_iter().map(|(replica, _)| replica).collect()),
            leaders: BTreeMap::new(),
            entries: BTreeMap::new(),
            commands: BTreeMap::new(),
            committed: BTreeMap::new(),
            covered: BTreeMap::new(),
            states: BTreeMap::new(),
        }
    }

    fn on_leader(&mut self, term: Term, replica: ReplicaId) -> Result<(), ClusterViolation> {
        if !self.members.may_vote(replica) {
            return Err(ClusterViolation::LeadsWithoutVote {
                shard: self.id,
                term,
                replica,
            });
        }
        let leader = *self.leaders.entry(term).or_insert(replica);
        if leader == replica {
            return Ok(());
        }
        Err(ClusterViolation::TwoLeaders {
            shard: self.id,
            term,
            one: leader,
            other: replica,
        })
    }
}

impl Replica {
    fn on_hard_state(&mut self, id: ReplicaId, now: HardState) -> Result<(), ClusterViolation> {
        let before = std::mem::replace(&mut self.durable, now);
        if now.term < before.term {
            return Err(ClusterViolation::TermWentBack {
                replica: id,
                before: before.term,
                after: now.term,
            });
        }
        let has_voted = before.vote != ReplicaId(0) && before.term == now.term;
        if has_voted && now.vote != before.vote {
            return Err(ClusterViolation::VotedTwice {
                replica: id,
                term: now.term,
                before: before.vote,
                after: now.vote,
            });
        }
        if now.commit < before.commit {
            return Err(ClusterViolation::CommitWentBack {
                replica: id,
                before: before.commit,
                after: now.commit,
            });
        }
        Ok(())
    }
}

/// A replica writes entries: the same index and term mean the same entry everywhere, and the same before it.
fn write(
    shard: &mut Shard,
    part: &PartSeen,
    replica: &mut Replica,
    (first, entries): (LogIndex, &[EntrySeen]),
) -> Result<(), ClusterViolation> {
    for (index, entry) in (first.0..).map(LogIndex).zip(entries) {
        let mark = entry.mark();
        let before = replica
            .written
            .range(..index)
            .next_back()
            .filter(|(before, _)| before.next() == index)
            .map(|(_, before)| before.term);
        let place = (index, entry.term);
        if let Some(known) = shard.entries.get_mut(&place) {
            let elsewhere = known.before;
            let is_same_before = before.is_none() || elsewhere.is_none() || before == elsewhere;
            if known.hash != mark.hash || !is_same_before {
                let what = match is_same_before {
                    true => format!("{} bytes that are others", entry.data.len()),
                    false => format!("behind term {before:?}, and {elsewhere:?} elsewhere"),
                };
                return Err(ClusterViolation::LogsDiffer {
                    shard: part.shard,
                    replica: part.replica,
                    what,
                    index,
                    term: entry.term,
                });
            }
            known.before = elsewhere.or(before);
        } else {
            let known = EntryKnown {
                hash: mark.hash,
                before,
                commands: commands_of(entry),
            };
            if entry.kind == EntryKind::ConfChange {
                shard.members.on_written(place, &entry.data);
            }
            for command in each_command(&known.commands) {
                let hash = xxh3_64(command);
                shard.commands.entry(hash).or_default().push(place);
            }
            shard.entries.insert(place, known);
        }
        if let Some(committed) = shard.committed.get(&index)
            && index <= replica.compared
            && *committed != mark
        {
            return Err(ClusterViolation::CommittedEntryChanged {
                shard: part.shard,
                replica: part.replica,
                index,
                before: committed.term,
                after: entry.term,
            });
        }
        replica.written.insert(index, mark);
    }
    Ok(())
}

/// Compares what a replica calls committed with what others do.
fn compare_committed(
    shard: &mut Shard,
    id: ReplicaId,
    replica: &mut Replica,
    commit: LogIndex,
) -> Result<(), ClusterViolation> {
    while replica.compared < commit {
        let index = replica.compared.next();
        // A leader may know of a commit before its own log has it; then it is compared later.
        let Some(&mark) = replica.written.get(&index) else {
            return Ok(());
        };
        let committed = *shard.committed.entry(index).or_insert(mark);
        if committed != mark {
            return Err(ClusterViolation::CommittedEntryChanged {
                shard: shard.id,
                replica: id,
                index,
                before: committed.term,
                after: mark.term,
            });
        }
        replica.compared = index;
    }
    Ok(())
}

/// The commands in an entry, back to back.
fn commands_of(entry: &EntrySeen) -> Vec<u8> {
    match entry.kind != EntryKind::Normal || entry.data.is_empty() {
        true => Vec::new(),
        false => decompress(&entry.data),
    }
}

/// The bytes of each command.
fn each_command(mut commands: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if commands.is_empty() {
            return None;
        }
        let (_, length) = Command::decode(commands).expect("a batch holds commands");
        let (command, rest) = commands.split_at(length);
        commands = rest;
        Some(command)
    })
}

#[cfg(test)]
mod tests;
