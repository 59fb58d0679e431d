//! The history of one key.

use std::collections::BTreeMap;

use metastore_statemachine::{CommandKind, OutcomeCode, Revision};

use super::{Attempt, AttemptEnd, FoundRow, Moment, Sighting};
use crate::operation::{Condition, Mutation};

/// What clients did with one key since it was last read with nothing on its way.
#[derive(Debug, Default)]
pub(super) struct KeyHistory {
    pub(super) attempts: Vec<Attempt>,
    pub(super) sightings: Vec<Sighting>,
    base: Option<FoundRow>,
    /// The newest revision that the key is known to have had before.
    base_revision: Revision,
}

/// An answered change with its place in the order.
#[derive(Clone, Copy)]
struct Change<'a> {
    mutation: &'a Mutation,
    revision: Revision,
    number: Option<i64>,
    sent: Moment,
    answered: Moment,
}

impl Change<'_> {
    /// Whether it may have left a counter as it was; then its revision is that of an earlier change, and it is no
    /// more than a read.
    fn may_be_none(&self) -> bool {
        matches!(
            self.mutation.kind,
            CommandKind::MaxI64 | CommandKind::MinI64
        )
    }
}

impl KeyHistory {
    /// The next part of the history begins with what was found.
    pub(super) fn begin_at(&mut self, found: Option<FoundRow>) {
        let found_revision = found.as_ref().map(|row| row.mod_revision);
        let newest = self.newest_seen().max(found_revision);
        self.base_revision = self.base_revision.max(newest.unwrap_or_default());
        self.base = found;
        self.attempts.clear();
        self.sightings.clear();
    }

    /// Says what contradicts what.
    pub(super) fn check(&self, found: Option<&FoundRow>) -> Result<(), String> {
        let changes = self.changes();
        self.check_revisions(&changes)?;
        self.check_time(&changes)?;
        self.check_conditions(&changes)?;
        self.check_numbers(&changes)?;
        for sighting in &self.sightings {
            self.check_sighting(&changes, sighting)?;
        }
        self.check_end(&changes, found)?;
        self.check_sum(&changes, found)
    }

    /// The answered changes by revision. Of two with the same one, which [`Self::check_revisions`] finds, one is left.
    fn changes(&self) -> BTreeMap<Revision, Change<'_>> {
        let changes = self.answered().filter(|change| !change.may_be_none());
        changes.map(|change| (change.revision, change)).collect()
    }

    /// The answered mutations that changed something or only saw what was there: nobody can tell.
    fn possible_changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.answered().filter(Change::may_be_none)
    }

    /// The newest revision that anybody was told of, and that the key cannot go back behind.
    fn newest_seen(&self) -> Option<Revision> {
        let sighted = self
            .sightings
            .iter()
            .filter_map(|sighting| Some(sighting.row.as_ref()?.mod_revision));
        let answered = self.answered().map(|change| change.revision);
        let base = self.base.as_ref().map(|row| row.mod_revision);
        sighted.chain(answered).chain(base).max()
    }

    /// Every mutation that was answered with success.
    fn answered(&self) -> impl Iterator<Item = Change<'_>> {
        self.attempts.iter().filter_map(|attempt| {
            let AttemptEnd::Answered {
                code: OutcomeCode::Done,
                revision,
                number,
                at,
            } = attempt.end
            else {
                return None;
            };
            Some(Change {
                mutation: &attempt.mutation,
                revision,
                number,
                sent: attempt.sent,
                answered: at,
            })
        })
    }

    fn unknown(&self) -> impl Iterator<Item = &Attempt> {
        let is_unknown = |attempt: &&Attempt| attempt.end == AttemptEnd::Unknown;
        self.attempts.iter().filter(is_unknown)
    }

    fn has_unknown_delete(&self) -> bool {
        self.unknown()
            .any(|attempt| attempt.mutation.kind == CommandKind::Delete)
    }

    /// Each change has a revision of its own, above all that were there before.
    fn check_revisions(&self, changes: &BTreeMap<Revision, Change<'_>>) -> Result<(), String> {
        if let Some((first, _)) = changes.first_key_value()
            && *first <= self.base_revision
        {
            return Err(format!(
                "a change took revision {first}, the key had {} before",
                self.base_revision
            ));
        }
        for answered in self.answered().filter(|change| !change.may_be_none()) {
            let revision = answered.revision;
            let is_only = changes
                .get(&revision)
                .is_some_and(|change| std::ptr::eq(change.mutation, answered.mutation));
            if !is_only {
                return Err(format!("two changes took revision {revision}"));
            }
        }
        Ok(())
    }

    /// What was answered before something else was sent has the lower revision.
    fn check_time(&self, changes: &BTreeMap<Revision, Change<'_>>) -> Result<(), String> {
        let mut seen: Vec<(Revision, Moment, Moment)> = changes
            .values()
            .map(|change| (change.revision, change.sent, change.answered))
            .collect();
        seen.extend(self.sightings.iter().filter_map(|sighting| {
            let revision = sighting.row.as_ref()?.mod_revision;
            Some((revision, sighting.sent, sighting.answered))
        }));
        seen.extend(
            self.possible_changes()
                .map(|change| (change.revision, change.sent, change.answered)),
        );
        seen.sort_unstable();
        // From the newest revision down: nothing may be sent after a newer revision was answered.
        let mut newer: Option<(Moment, Revision)> = None;
        let mut rest = seen.as_slice();
        while let Some(&(revision, ..)) = rest.last() {
            let start = rest.partition_point(|&(other, ..)| other < revision);
            let group = &rest[start..];
            for &(_, sent, _) in group {
                if let Some((answered, newer)) = newer
                    && answered < sent
                {
                    return Err(format!(
                        "revision {revision} was seen or made by a request that was sent after revision {newer} \
                         had been seen"
                    ));
                }
            }
            let first_answer = group.iter().map(|&(_, _, answered)| answered).min();
            if let Some(answered) = first_answer {
                if changes
                    .get(&revision)
                    .is_some_and(|change| answered < change.sent)
                {
                    return Err(format!("revision {revision} was seen before it was sent"));
                }
                let earliest = newer.map_or((answered, revision), |newer| {
                    newer.min((answered, revision))
                });
                newer = Some(earliest);
            }
            rest = &rest[..start];
        }
        Ok(())
    }

    /// A conditional change found what it asked for.
    fn check_conditions(&self, changes: &BTreeMap<Revision, Change<'_>>) -> Result<(), String> {
        for change in changes.values() {
            let before = changes.range(..change.revision).next_back();
            let newest_before = before.map_or(
                self.base.as_ref().map(|row| row.mod_revision),
                |(&revision, before)| {
                    (before.mutation.kind != CommandKind::Delete).then_some(revision)
                },
            );
            match change.mutation.condition {
                Condition::Always => {}
                Condition::IfAbsent | Condition::IfRevision(Revision(0)) => {
                    if let Some(there) = newest_before
                        && !self.has_unknown_delete()
                    {
                        return Err(format!(
                            "change {} wanted the key absent, and change {there} had made it",
                            change.revision
                        ));
                    }
                }
                Condition::IfRevision(expected) => {
                    let newest = before.map_or(self.base_revision, |(&revision, _)| revision);
                    if newest > expected {
                        return Err(format!(
                            "change {} wanted revision {expected}, and change {newest} came between",
                            change.revision
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Additions alone: each answer counts everything that came before it.
    fn check_numbers(&self, changes: &BTreeMap<Revision, Change<'_>>) -> Result<(), String> {
        if !self.is_sum() {
            return Ok(());
        }
        let mut before = self.base.as_ref().and_then(|row| number(&row.value));
        for change in changes.values() {
            let added = operand(change.mutation).unwrap_or_default();
            let least = before.unwrap_or_default() + added;
            if change.number.is_none_or(|number| number < least) {
                return Err(format!(
                    "addition {} was answered {:?}, {least} had been added by then",
                    change.revision, change.number
                ));
            }
            before = change.number;
        }
        Ok(())
    }

    /// A read found what some change left.
    fn check_sighting(
        &self,
        changes: &BTreeMap<Revision, Change<'_>>,
        sighting: &Sighting,
    ) -> Result<(), String> {
        match &sighting.row {
            Some(row) => self.explain_row(changes, row),
            None => {
                let may_be_deleted = self.has_unknown_delete()
                    || changes.values().any(|change| {
                        change.mutation.kind == CommandKind::Delete
                            && change.sent < sighting.answered
                    });
                let was_there = self.base.is_some()
                    || changes.values().any(|change| {
                        change.mutation.kind != CommandKind::Delete
                            && change.answered < sighting.sent
                    });
                if was_there && !may_be_deleted {
                    return Err(String::from("a read did not find what nobody had deleted"));
                }
                Ok(())
            }
        }
    }

    /// What is there in the end is what the newest change left, or a newer one of which nobody knows.
    fn check_end(
        &self,
        changes: &BTreeMap<Revision, Change<'_>>,
        found: Option<&FoundRow>,
    ) -> Result<(), String> {
        let newest_change = changes.last_key_value();
        let newest_seen = self.newest_seen();
        match found {
            Some(row) if newest_seen.is_some_and(|seen| row.mod_revision < seen) => Err(format!(
                "revision {} is lost: the key is at {}",
                newest_seen.unwrap_or_default(),
                row.mod_revision
            )),
            Some(row) => self.explain_row(changes, row),
            None => {
                let is_deleted = newest_change.is_some_and(|(&revision, change)| {
                    change.mutation.kind == CommandKind::Delete
                        && newest_seen.is_none_or(|seen| seen <= revision)
                });
                if newest_seen.is_none() || is_deleted || self.has_unknown_delete() {
                    return Ok(());
                }
                Err(format!(
                    "revision {} is lost: the key is not there, and nobody deleted it",
                    newest_seen.unwrap_or_default()
                ))
            }
        }
    }

    /// Some change left this row.
    fn explain_row(
        &self,
        changes: &BTreeMap<Revision, Change<'_>>,
        row: &FoundRow,
    ) -> Result<(), String> {
        if let Some(base) = &self.base
            && base.mod_revision == row.mod_revision
        {
            return if base == row {
                Ok(())
            } else {
                Err(format!("{base:?} became {row:?} without a change"))
            };
        }
        if row.mod_revision <= self.base_revision {
            return Err(format!("{row:?} is older than what was there before"));
        }
        if let Some(change) = changes.get(&row.mod_revision) {
            let is_left = change.mutation.kind != CommandKind::Delete
                && leaves(change.mutation, row)
                && change
                    .number
                    .is_none_or(|number_then| number(&row.value) == Some(number_then));
            if is_left {
                return Ok(());
            }
            return Err(format!("{:?} did not leave {row:?}", change.mutation));
        }
        let is_possible = self
            .possible_changes()
            .any(|change| change.revision == row.mod_revision && leaves(change.mutation, row));
        let is_unknown = self.unknown().any(|attempt| leaves(&attempt.mutation, row));
        if is_possible || is_unknown {
            return Ok(());
        }
        Err(format!("nobody wrote {row:?}"))
    }

    /// Whether only unconditional additions were tried.
    fn is_sum(&self) -> bool {
        !self.attempts.is_empty()
            && self.attempts.iter().all(|attempt| {
                attempt.mutation.kind == CommandKind::AddI64
                    && attempt.mutation.condition == Condition::Always
                    && operand(&attempt.mutation).is_some_and(|operand| operand > 0)
            })
    }

    /// Additions alone: the sum has every one that was acknowledged and none but those that were tried.
    fn check_sum(
        &self,
        changes: &BTreeMap<Revision, Change<'_>>,
        found: Option<&FoundRow>,
    ) -> Result<(), String> {
        if !self.is_sum() {
            return Ok(());
        }
        let of = |row: Option<&FoundRow>| row.and_then(|row| number(&row.value)).unwrap_or(0);
        let versions = |row: Option<&FoundRow>| row.map_or(0, |row| row.version);
        let added = of(found) - of(self.base.as_ref());
        let times = versions(found) - versions(self.base.as_ref());
        let sum = |mutations: &mut dyn Iterator<Item = &Mutation>| -> (i64, u64) {
            mutations.fold((0, 0), |(sum, count), mutation| {
                (sum + operand(mutation).unwrap_or(0), count + 1)
            })
        };
        let (known, known_count) = sum(&mut changes.values().map(|change| change.mutation));
        let (open, open_count) = sum(&mut self.unknown().map(|attempt| &attempt.mutation));
        let is_right = (known..=known + open).contains(&added)
            && (known_count..=known_count + open_count).contains(&times);
        if is_right {
            return Ok(());
        }
        Err(format!(
            "{added} was added in {times} changes; {known} in {known_count} is known, {open} in {open_count} unknown"
        ))
    }
}

/// Whether a row may be what the mutation left, by itself.
fn leaves(mutation: &Mutation, row: &FoundRow) -> bool {
    match mutation.kind {
        CommandKind::Put => row.value == mutation.value,
        CommandKind::Append => row.value.ends_with(&mutation.value),
        CommandKind::Delete => false,
        CommandKind::AddI64 => number(&row.value).is_some(),
        // When they change something, they leave their operand.
        CommandKind::MaxI64 | CommandKind::MinI64 => row.value == mutation.value,
        CommandKind::DeleteRange
        | CommandKind::Txn
        | CommandKind::Commit
        | CommandKind::Compact => {
            unreachable!("the workload has only commands on single keys")
        }
    }
}

fn operand(mutation: &Mutation) -> Option<i64> {
    number(&mutation.value)
}

fn number(value: &[u8]) -> Option<i64> {
    Some(i64::from_le_bytes(value.try_into().ok()?))
}
