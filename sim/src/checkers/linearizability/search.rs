//! Where changes of unknown outcome may stand when no log proposes it: every place is tried.

use std::collections::BTreeSet;

use metastore_engine::ShardId;
use metastore_statemachine::{OutcomeCode, Revision};

use super::NotLinearizable;
use super::operation::End;
use super::places::{Claims, Prepared};
use super::replay::{Replay, anchored, explain};
use super::time::{Anchored, Place, TimeOrder};
use crate::oracle::Moment;

/// Steps after which a search is given up.
pub const SEARCH_STEPS_MAX: usize = 20_000;
/// As many revisions as there may be in a gap for all of them to be tried.
const GAP_MAX: u64 = 16;

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Searched {
    /// Everything has an explanation.
    Explained,
    /// What cannot be explained however the unknown outcomes are placed.
    Unexplained(NotLinearizable),
    /// It took too long.
    GaveUp,
}

/// A search for the places of unknown outcomes.
pub(super) struct Search<'a> {
    shard: ShardId,
    prepared: &'a [Prepared<'a>],
    claims: Claims,
    /// What was answered at a known place, by place.
    anchored: Vec<(Place, usize)>,
    /// Each unknown outcome with the place that it stands behind.
    unknown: Vec<(Place, usize)>,
    /// Revisions that somebody was told of.
    named: BTreeSet<Revision>,
    steps: usize,
    /// How far it came, and why not further.
    furthest: (usize, Option<NotLinearizable>),
}

impl<'a> Search<'a> {
    /// A search; fails where the answered operations alone contradict time.
    pub(super) fn new(
        shard: ShardId,
        prepared: &'a [Prepared<'a>],
        claims: &Claims,
    ) -> Result<Search<'a>, NotLinearizable> {
        let anchored = anchored(prepared, claims);
        let order = TimeOrder::new(anchored.iter().map(|&(place, number)| {
            let operation = prepared[number].operation;
            Anchored {
                place,
                sent: operation.sent,
                answered: operation.answered().unwrap_or(Moment(u64::MAX)),
            }
        }));
        order.check()?;
        let unknown = prepared.iter().enumerate();
        let unknown = unknown.filter(|(_, operation)| operation.is_unknown());
        Ok(Search {
            shard,
            prepared,
            claims: claims.clone(),
            anchored,
            unknown: unknown
                .map(|(number, operation)| (order.newest_before(operation.operation.sent), number))
                .collect(),
            named: prepared.iter().flat_map(named_by).collect(),
            steps: 0,
            furthest: (0, None),
        })
    }

    pub(super) fn run(mut self) -> Searched {
        let replay = Replay::new(self.shard, self.prepared);
        let mut used = BTreeSet::new();
        if self.go_on(0, &replay, &mut used) {
            return Searched::Explained;
        }
        match self.furthest.1 {
            Some(why) if self.steps < SEARCH_STEPS_MAX => Searched::Unexplained(why),
            Some(_) | None => Searched::GaveUp,
        }
    }

    /// Whether everything from `next` on can be explained as things stand, or with an unknown outcome before it.
    fn go_on(&mut self, next: usize, replay: &Replay<'a>, used: &mut BTreeSet<usize>) -> bool {
        self.steps += 1;
        if self.steps >= SEARCH_STEPS_MAX {
            return false;
        }
        let explained = match self.anchored.get(next) {
            None => explain(self.shard, self.prepared, &self.claims).map(|()| None),
            Some(&(place, number)) => {
                let mut replay = replay.clone();
                let operation = &self.prepared[number];
                let stands = match place.is_look() {
                    true => replay.look(place.revision(), operation),
                    false => replay.change(place.revision(), operation),
                };
                stands.map(|()| Some(replay))
            }
        };
        match explained {
            Ok(None) => return true,
            Ok(Some(replay)) => {
                if self.go_on(next + 1, &replay, used) {
                    return true;
                }
            }
            Err(why) if next >= self.furthest.0 => self.furthest = (next, Some(why)),
            Err(_) => {}
        }
        self.insert(next, replay, used)
    }

    /// Lets some unknown outcome happen before `next`.
    fn insert(&mut self, next: usize, replay: &Replay<'a>, used: &mut BTreeSet<usize>) -> bool {
        let unknown = self.unknown.clone();
        for (behind, number) in unknown {
            if used.contains(&number) {
                continue;
            }
            let after = Place::after_change(replay.model.revision());
            for revision in self.free_revisions(after.max(behind), next) {
                let mut replay = replay.clone();
                if replay.change(revision, &self.prepared[number]).is_err() {
                    continue;
                }
                used.insert(number);
                self.claims.by_revision.insert(revision, number);
                if self.go_on(next, &replay, used) {
                    return true;
                }
                self.claims.by_revision.remove(&revision);
                used.remove(&number);
            }
        }
        false
    }

    /// The revisions that a change between `from` and what stands at `next` may take: all of them if they are few, else
    /// those that somebody was told of, and the lowest other one, which leaves the most room.
    fn free_revisions(&self, from: Place, next: usize) -> Vec<Revision> {
        let first = from.next_change();
        let last = match self.anchored.get(next) {
            Some((place, _)) => place.last_change(),
            None => self.named.last().copied().unwrap_or_default().max(first),
        };
        if first > last {
            return Vec::new();
        }
        let is_free = |revision: &Revision| !self.claims.by_revision.contains_key(revision);
        let all = (first.0..=last.0).map(Revision).filter(is_free);
        if last.0 - first.0 < GAP_MAX {
            return all.collect();
        }
        let named = self.named.range(first..=last).copied().filter(is_free);
        let lowest = all.clone().find(|revision| !self.named.contains(revision));
        named.chain(lowest).collect()
    }
}

/// The revisions that an answer names.
fn named_by(operation: &Prepared<'_>) -> Vec<Revision> {
    match &operation.operation.end {
        End::Outcome { outcome, .. } if outcome.code == OutcomeCode::Conflict => {
            vec![outcome.revision]
        }
        End::Rows { rows, .. } => {
            let rows = rows.iter().flatten();
            rows.flat_map(|row| [row.mod_revision, row.create_revision])
                .collect()
        }
        End::Listed { rows, .. } => {
            let rows = rows.iter();
            rows.flat_map(|row| [row.mod_revision, row.create_revision])
                .collect()
        }
        End::Outcome { .. }
        | End::Counted { .. }
        | End::Compacted { .. }
        | End::Future { .. }
        | End::Unknown => Vec::new(),
    }
}
