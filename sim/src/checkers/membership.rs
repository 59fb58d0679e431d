//! Who votes in a shard: read from the changes in its log, by the format's description, with no code of those who write
//! them.

use std::collections::{BTreeMap, BTreeSet};

use metastore_engine::{LogIndex, ReplicaId, Term};

/// What a change of members says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ChangeSeen {
    step: StepSeen,
    promoted: Vec<ReplicaId>,
    removed: Vec<ReplicaId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepSeen {
    AtOnce,
    EnterJoint,
    LeaveJoint,
}

/// Who decides at one point of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deciders {
    /// Those who vote; in a joint state those who will.
    pub voters: BTreeSet<ReplicaId>,
    /// In a joint state those who voted before.
    pub outgoing: BTreeSet<ReplicaId>,
}

/// The changes of a shard's members that were ever written.
#[derive(Clone, Debug)]
pub struct MembershipView {
    initial: BTreeSet<ReplicaId>,
    changes: BTreeMap<(LogIndex, Term), ChangeSeen>,
}

const HEAD_BYTES: usize = 8;
const REPLICA_BYTES: usize = 16;
const ENTER_JOINT: u8 = 2;
const LEAVE_JOINT: u8 = 3;
const VOTE: u8 = 1;
const REMOVE: u8 = 3;

impl Deciders {
    /// Whether those for whom `holds` is true can decide: more than half of the voters, in a joint state of both halves.
    pub fn is_quorum(&self, holds: impl Fn(ReplicaId) -> bool) -> bool {
        let halves = [&self.voters, &self.outgoing].into_iter();
        let mut halves = halves.filter(|half| !half.is_empty());
        halves.all(|half| {
            let holders = half.iter().filter(|&&replica| holds(replica));
            2 * holders.count() > half.len()
        })
    }

    fn apply(&mut self, change: &ChangeSeen) {
        match change.step {
            StepSeen::AtOnce => {}
            StepSeen::EnterJoint => {
                self.outgoing = self.voters.clone();
                self.voters.extend(&change.promoted);
                let is_removed = |replica: &ReplicaId| change.removed.contains(replica);
                self.voters.retain(|replica| !is_removed(replica));
            }
            StepSeen::LeaveJoint => self.outgoing.clear(),
        }
    }
}

impl MembershipView {
    /// A shard that begins with these voters.
    #[must_use]
    pub fn new(initial: BTreeSet<ReplicaId>) -> MembershipView {
        MembershipView {
            initial,
            changes: BTreeMap::new(),
        }
    }

    /// A change is written somewhere.
    pub fn on_written(&mut self, place: (LogIndex, Term), data: &[u8]) {
        // What is none no replica can apply.
        if let Some(change) = ChangeSeen::parse(data) {
            self.changes.insert(place, change);
        }
    }

    /// How many of the voters of the beginning are a quorum.
    #[must_use]
    pub fn first_quorum(&self) -> usize {
        self.initial.len() / 2 + 1
    }

    /// Whether a replica votes, or may have, in any log.
    #[must_use]
    pub fn may_vote(&self, replica: ReplicaId) -> bool {
        let mut changes = self.changes.values();
        self.initial.contains(&replica) || changes.any(|change| change.promoted.contains(&replica))
    }

    /// Everybody who may vote.
    pub fn everybody(&self) -> BTreeSet<ReplicaId> {
        let promoted = self.changes.values().flat_map(|change| &change.promoted);
        self.initial.iter().chain(promoted).copied().collect()
    }

    /// Who may have decided on the entry at `index`. A change takes effect where it is applied, so that those before the
    /// last one in front of the entry may have decided too. `term_at` tells which of several changes at an index is the
    /// one in front of the entry, where that is known.
    pub fn deciders_of(
        &self,
        index: LogIndex,
        term_at: impl Fn(LogIndex) -> Option<Term>,
    ) -> [Deciders; 2] {
        let first = Deciders {
            voters: self.initial.clone(),
            outgoing: BTreeSet::new(),
        };
        let mut last_two = [first.clone(), first];
        let before = self.changes.range(..(index, Term(0)));
        let mut of_index: BTreeMap<LogIndex, Vec<(Term, &ChangeSeen)>> = BTreeMap::new();
        for (&(at, term), change) in before {
            of_index.entry(at).or_default().push((term, change));
        }
        for (at, changes) in of_index {
            let known = term_at(at);
            let chosen = match known {
                Some(term) => changes.iter().find(|(of, _)| *of == term),
                None => changes.last(),
            };
            // Another entry stands there.
            let Some((_, change)) = chosen else {
                continue;
            };
            let mut next = last_two[1].clone();
            next.apply(change);
            last_two = [std::mem::replace(&mut last_two[1], next.clone()), next];
        }
        last_two
    }
}

impl ChangeSeen {
    fn parse(data: &[u8]) -> Option<ChangeSeen> {
        let replicas = data.get(HEAD_BYTES..)?.chunks_exact(REPLICA_BYTES);
        let with_fate = |fate: u8| {
            let these = replicas.clone().filter(move |bytes| bytes[14] == fate);
            let id = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("eight"));
            these.map(|bytes| ReplicaId(id(bytes))).collect()
        };
        Some(ChangeSeen {
            step: match data[2] {
                ENTER_JOINT => StepSeen::EnterJoint,
                LEAVE_JOINT => StepSeen::LeaveJoint,
                _ => StepSeen::AtOnce,
            },
            promoted: with_fate(VOTE),
            removed: with_fate(REMOVE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().map(|&id| ReplicaId(id)).collect()
    }

    fn change(step: u8, fates: &[(u64, u8)]) -> Vec<u8> {
        let mut bytes = vec![1, 0, step, 0, 0, 0, 0, 0];
        bytes[4] = u8::try_from(fates.len()).expect("few");
        for &(id, fate) in fates {
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&[9, 0, 0, 0, 0, 0, fate, 0]);
        }
        bytes
    }

    /// 4 learns, takes the place of 3, and the joint state is left; at index 20 another leader wrote another change.
    fn view() -> MembershipView {
        let mut view = MembershipView::new(ids(&[1, 2, 3]));
        view.on_written((LogIndex(10), Term(2)), &change(1, &[(4, 2)]));
        view.on_written((LogIndex(20), Term(2)), &change(2, &[(4, 1), (3, 3)]));
        view.on_written((LogIndex(20), Term(3)), &change(2, &[(2, 3)]));
        view.on_written((LogIndex(30), Term(4)), &change(3, &[]));
        view
    }

    fn deciders(voters: &[u64], outgoing: &[u64]) -> Deciders {
        Deciders {
            voters: ids(voters),
            outgoing: ids(outgoing),
        }
    }

    #[test]
    fn an_entry_is_decided_by_those_before_or_behind_the_last_change() {
        let of = |index| view().deciders_of(LogIndex(index), |_| Some(Term(2)));
        let three = deciders(&[1, 2, 3], &[]);
        let joint = deciders(&[1, 2, 4], &[1, 2, 3]);
        assert_eq!(of(5), [three.clone(), three.clone()]);
        assert_eq!(of(20), [three.clone(), three.clone()]);
        assert_eq!(of(21), [three, joint.clone()]);
        let in_term_4 = |at: LogIndex| Some(Term(if at == LogIndex(30) { 4 } else { 2 }));
        let later = view().deciders_of(LogIndex(31), in_term_4);
        assert_eq!(later, [joint, deciders(&[1, 2, 4], &[])]);
    }

    #[test]
    fn a_joint_state_needs_a_quorum_of_both_halves() {
        let joint = deciders(&[1, 4, 5], &[1, 2, 3]);
        let is_quorum = |holders: &[u64]| joint.is_quorum(|id| holders.contains(&id.0));
        assert!(is_quorum(&[1, 4, 2]));
        assert!(!is_quorum(&[1, 4, 5]));
        assert!(!is_quorum(&[1, 2, 3]));
        assert!(
            !deciders(&[1, 2, 4], &[]).is_quorum(|id| id.0 >= 3),
            "3 is gone"
        );
    }

    #[test]
    fn who_only_learns_does_not_vote() {
        let mut view = MembershipView::new(ids(&[1]));
        view.on_written((LogIndex(10), Term(2)), &change(1, &[(4, 2)]));
        assert!(!view.may_vote(ReplicaId(4)));
        view.on_written((LogIndex(20), Term(2)), &change(2, &[(4, 1)]));
        assert!(view.may_vote(ReplicaId(4)));
        assert_eq!(view.everybody(), ids(&[1, 4]));
    }
}
