//! An order of changes, held against time and replayed on a model.

use std::collections::BTreeSet;

use metastore_engine::ShardId;
use metastore_net::blocking::{OwnedOutcome, OwnedRow};
use metastore_statemachine::{Direction, OutcomeCode, Revision};

use super::NotLinearizable;
use super::operation::{Action, End};
use super::places::{Claims, Prepared};
use super::time::{Anchored, Floating, Place, TimeOrder};
use crate::operation::{Compound, RangeOf};
use crate::oracle::{FoundRow, Model, ModelRow, Moment};

/// Whether these changes, each at its revision, explain everything.
pub(super) fn explain(
    shard: ShardId,
    prepared: &[Prepared<'_>],
    changes: &Claims,
) -> Result<(), NotLinearizable> {
    let anchored = anchored(prepared, changes);
    let order = TimeOrder::new(anchored.iter().map(|&(place, number)| {
        let operation = prepared[number].operation;
        Anchored {
            place,
            sent: operation.sent,
            // What was never answered ended before nothing.
            answered: operation.answered().unwrap_or(Moment(u64::MAX)),
        }
    }));
    order.check()?;
    let mut floating = floating(prepared, changes, &order);
    let mut replay = Replay::new(shard, prepared);
    let mut rest = anchored.as_slice();
    loop {
        let end = next_change(rest);
        let (looked, behind) = rest.split_at(rest.partition_point(|&(place, _)| place < end));
        replay.pass_gap((looked, end), &mut floating)?;
        let Some((&(place, number), after)) = behind.split_first() else {
            break;
        };
        replay.change(place.revision(), &prepared[number])?;
        rest = after;
    }
    let told = |floating: &Floating| prepared[floating.number].describe();
    order.place_floating(floating, &told)
}

/// The place of the next change, behind everything if there is none.
fn next_change(rest: &[(Place, usize)]) -> Place {
    let change = rest.iter().find(|(place, _)| !place.is_look());
    change.map_or(Place(u64::MAX), |&(place, _)| place)
}

/// All operations whose place is known, by place.
pub(super) fn anchored(prepared: &[Prepared<'_>], changes: &Claims) -> Vec<(Place, usize)> {
    let taken = changes.by_revision.iter();
    let mut anchored: Vec<(Place, usize)> = taken
        .map(|(&revision, &number)| (Place::of_change(revision), number))
        .collect();
    let changed: BTreeSet<usize> = changes.by_revision.values().copied().collect();
    for (number, operation) in prepared.iter().enumerate() {
        if let Some(revision) = operation.looked_at().filter(|_| !changed.contains(&number)) {
            anchored.push((Place::after_change(revision), number));
        }
    }
    anchored.sort_unstable();
    anchored
}

/// All that were answered and whose place is not known, with where time lets them stand.
fn floating(prepared: &[Prepared<'_>], changes: &Claims, order: &TimeOrder) -> Vec<Floating> {
    let changed: BTreeSet<usize> = changes.by_revision.values().copied().collect();
    let mut floating = Vec::new();
    for (number, operation) in prepared.iter().enumerate() {
        let is_placed = changed.contains(&number) || operation.looked_at().is_some();
        if let Some(at) = operation.operation.answered().filter(|_| !is_placed) {
            let sent = operation.operation.sent;
            floating.push(Floating {
                number,
                sent,
                at,
                window: order.window(sent, at),
                intervals: Vec::new(),
            });
        }
    }
    floating
}

/// The replay of a shard.
#[derive(Clone)]
pub(super) struct Replay<'a> {
    shard: ShardId,
    prepared: &'a [Prepared<'a>],
    /// The revisions that somebody wanted to be the oldest, by the time of the request.
    compactions: BTreeSet<(Revision, Moment)>,
    pub(super) model: Model,
}

impl<'a> Replay<'a> {
    pub(super) fn new(shard: ShardId, prepared: &'a [Prepared<'a>]) -> Replay<'a> {
        let compactions = prepared.iter().filter_map(|operation| {
            let Action::Compound(Compound::Compact { revision, .. }) = operation.operation.action
            else {
                return None;
            };
            Some((revision, operation.operation.sent))
        });
        Replay {
            shard,
            prepared,
            compactions: compactions.collect(),
            model: Model::default(),
        }
    }

    /// Passes the time between two changes, with everybody who looked.
    fn pass_gap(
        &mut self,
        (looked, end): (&[(Place, usize)], Place),
        floating: &mut [Floating],
    ) -> Result<(), NotLinearizable> {
        let start = Place::after_change(self.model.revision());
        for &(place, number) in looked {
            self.look(place.revision(), &self.prepared[number])?;
        }
        // Revisions may skip: just before the next change the shard may be at any revision below that.
        self.model
            .skip_to(end.last_change().max(self.model.revision()));
        for floating in floating {
            let (earliest, latest) = floating.window;
            if end <= earliest || latest < start {
                continue;
            }
            if self.may_be_answered(&self.prepared[floating.number]) {
                floating.intervals.push((start, end));
            }
        }
        for &(_, number) in looked {
            self.compact(&self.prepared[number]);
        }
        Ok(())
    }

    /// A compaction that was done at some time in the gap has certainly been done behind it.
    fn compact(&mut self, operation: &Prepared<'_>) {
        let is_compaction = matches!(
            operation.operation.action,
            Action::Compound(Compound::Compact { .. })
        );
        if is_compaction {
            self.model.apply(&operation.command());
        }
    }

    /// A change takes a revision.
    pub(super) fn change(
        &mut self,
        revision: Revision,
        operation: &Prepared<'_>,
    ) -> Result<(), NotLinearizable> {
        self.model.skip_to(Revision(revision.0 - 1));
        let command = operation.command();
        let evaluated = self.model.evaluate(&command);
        let is_right = match &operation.operation.end {
            End::Outcome { outcome, .. } => evaluated.outcome.is(outcome, self.shard),
            // Nobody was told.
            End::Unknown => true,
            End::Rows { .. }
            | End::Listed { .. }
            | End::Counted { .. }
            | End::Compacted { .. }
            | End::Future { .. } => false,
        };
        if !is_right || !evaluated.is_change() {
            return Err(NotLinearizable::Unexplained {
                revision,
                what: format!(
                    "{} should have come to {:?}",
                    operation.describe(),
                    evaluated.outcome
                ),
            });
        }
        self.model.apply(&command);
        Ok(())
    }

    /// Somebody looked when the shard was at a revision.
    pub(super) fn look(
        &mut self,
        revision: Revision,
        operation: &Prepared<'_>,
    ) -> Result<(), NotLinearizable> {
        self.model.skip_to(revision);
        if self.may_be_answered(operation) {
            return Ok(());
        }
        let found = match &operation.operation.action {
            Action::Mutate(_) | Action::Compound(_) => {
                format!("{:?}", self.model.evaluate(&operation.command()).outcome)
            }
            Action::Read { keys, .. } => {
                let rows = keys.iter().map(|key| self.model.row_at(key, revision));
                format!("{:?}", rows.collect::<Vec<_>>())
            }
            Action::Range { range, .. } | Action::Count(range) => {
                format!("{:?}", self.model.range(range, revision))
            }
        };
        Err(NotLinearizable::Unexplained {
            revision,
            what: format!("{} should have found {found}", operation.describe()),
        })
    }

    /// Whether it could be answered like this now, without changing anything.
    fn may_be_answered(&self, operation: &Prepared<'_>) -> bool {
        let asked = operation.operation;
        let past = asked.past();
        let now = past.unwrap_or(self.model.revision());
        match (&asked.action, &asked.end) {
            (_, End::Compacted { at, oldest }) => {
                past.is_some_and(|past| self.may_be_forgotten(past, *oldest, *at))
            }
            (_, End::Future { current, .. }) => past.is_some_and(|past| past > *current),
            (Action::Mutate(_) | Action::Compound(_), End::Outcome { at, outcome }) => {
                self.may_come_to(operation, outcome, *at)
            }
            (Action::Read { keys, .. }, End::Rows { revision, rows, .. }) => {
                self.may_be_read(past, *revision)
                    && keys.len() == rows.len()
                    && keys
                        .iter()
                        .zip(rows)
                        .all(|(key, row)| is_same(self.model.row_at(key, now), row.as_ref()))
            }
            (Action::Range { range, until }, End::Listed { revision, rows, .. }) => {
                self.may_be_read(past, *revision)
                    && self.rows(range, until.as_deref(), now) == *rows
            }
            (
                Action::Count(range),
                End::Counted {
                    revision, count, ..
                },
            ) => {
                self.may_be_read(past, *revision)
                    && self.model.range(range, now).len() as u64 == *count
            }
            (
                Action::Mutate(_)
                | Action::Compound(_)
                | Action::Read { .. }
                | Action::Range { .. }
                | Action::Count(_),
                _,
            ) => false,
        }
    }

    /// Whether a read of `past`, or of the newest, may be answered with `revision` now.
    fn may_be_read(&self, past: Option<Revision>, revision: Revision) -> bool {
        past.is_none_or(|past| {
            revision == past && (self.model.oldest()..=self.model.revision()).contains(&past)
        })
    }

    fn may_come_to(&self, operation: &Prepared<'_>, outcome: &OwnedOutcome, at: Moment) -> bool {
        if let (OutcomeCode::Compacted, Action::Compound(Compound::Commit(commit))) =
            (outcome.code, &operation.operation.action)
        {
            return self.may_be_forgotten(commit.read_revision, outcome.revision, at);
        }
        let evaluated = self.model.evaluate(&operation.command());
        !evaluated.is_change() && evaluated.outcome.is(outcome, self.shard)
    }

    /// Whether `past` may be forgotten now because somebody wanted `oldest` to be the oldest revision, before `at`.
    fn may_be_forgotten(&self, past: Revision, oldest: Revision, at: Moment) -> bool {
        let mut wanted = self.compactions.range((oldest, Moment(0))..(oldest, at));
        past < oldest && oldest >= self.model.oldest() && wanted.next().is_some()
    }

    /// The rows of a range up to the last key that was wanted.
    fn rows(&self, range: &RangeOf, until: Option<&[u8]>, at: Revision) -> Vec<OwnedRow> {
        let all = RangeOf {
            limit: 0,
            ..range.clone()
        };
        let mut rows = self.model.range(&all, at);
        if let Some(until) = until {
            rows.retain(|row| match range.direction {
                Direction::Forward => row.key.as_slice() <= until,
                Direction::Reverse => row.key.as_slice() >= until,
            });
        }
        rows
    }
}

fn is_same(row: Option<&ModelRow>, found: Option<&FoundRow>) -> bool {
    match (row, found) {
        (Some(row), Some(found)) => {
            (
                &row.value,
                row.create_revision,
                row.mod_revision,
                row.version,
            ) == (
                &found.value,
                found.create_revision,
                found.mod_revision,
                found.version,
            )
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
