//! The model: every version of every key, and the rules once more, in their plainest form.

use std::collections::BTreeMap;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelRow {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) create_revision: u64,
    pub(super) mod_revision: u64,
    pub(super) version: u64,
}

impl ModelRow {
    /// The row that stands for it, and for all that begin like it, if the delimiter comes after `depth` bytes.
    fn rolled_up(self, depth: usize, delimiter: u8) -> ModelRow {
        let found = self.key[depth..].iter().position(|byte| *byte == delimiter);
        match found {
            Some(length) => ModelRow {
                key: self.key[..=depth + length].to_vec(),
                value: Vec::new(),
                create_revision: 0,
                mod_revision: 0,
                version: 0,
            },
            None => self,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct ModelQuery {
    pub(super) namespace: u32,
    pub(super) prefix: Vec<u8>,
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
    pub(super) scope: Scope,
    pub(super) delimiter: Option<u8>,
    pub(super) direction: Direction,
    pub(super) projection: Projection,
    pub(super) limit: u64,
    pub(super) slice: SliceLimit,
}

#[derive(Clone, Debug)]
pub(super) struct ModelCommand {
    pub(super) kind: CommandKind,
    pub(super) namespace: u32,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) condition: Condition,
    pub(super) is_previous_wanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Condition {
    None,
    Absent,
    /// The mod revision that the key has, give or take.
    RevisionOff(u64),
    /// This one.
    Revision(u64),
}

#[derive(Clone)]
pub(super) struct ModelChange {
    pub(super) namespace: u32,
    pub(super) key: Vec<u8>,
    pub(super) revision: u64,
    pub(super) time: u64,
    pub(super) held_bytes: u64,
}

/// What a key became, at which revisions.
pub(super) type Versions = Vec<(u64, Option<ModelRow>)>;

/// Every version of every key, for good.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) revisions: BTreeMap<u32, u64>,
    pub(super) versions: BTreeMap<(u32, Vec<u8>), Versions>,
    pub(super) changes: Vec<ModelChange>,
    /// Index of the first change that answers reads.
    pub(super) floor: usize,
    /// Up to which revision each namespace was compacted.
    pub(super) compacted: BTreeMap<u32, u64>,
}

impl Model {
    pub(super) fn revision(&self, namespace: u32) -> u64 {
        self.revisions.get(&namespace).copied().unwrap_or(0)
    }

    pub(super) fn oldest(&self, namespace: u32) -> u64 {
        let below = self.changes[..self.floor].iter().rev();
        below
            .filter(|change| change.namespace == namespace)
            .map(|change| change.revision)
            .next()
            .unwrap_or(0)
            .max(self.compacted.get(&namespace).copied().unwrap_or(0))
    }

    pub(super) fn row_at(&self, namespace: u32, key: &[u8], revision: u64) -> Option<ModelRow> {
        let versions = self.versions.get(&(namespace, key.to_vec()))?;
        versions
            .iter()
            .rev()
            .find(|(at, _)| *at <= revision)?
            .1
            .clone()
    }

    pub(super) fn row(&self, namespace: u32, key: &[u8]) -> Option<ModelRow> {
        self.row_at(namespace, key, u64::MAX)
    }

    pub(super) fn expected_revision(&self, command: &ModelCommand, off: u64) -> u64 {
        self.row(command.namespace, &command.key)
            .map_or(0, |row| row.mod_revision)
            + off
    }

    pub(super) fn apply(
        &mut self,
        command: &ModelCommand,
        parameters: &Parameters,
        time: u64,
    ) -> Seen {
        let current = self.row(command.namespace, &command.key);
        let now = self.revision(command.namespace);
        let seen = self.decide(command, current.clone(), now, (parameters, time));
        self.raise_floor(parameters, time);
        let previous = current
            .filter(|_| command.is_previous_wanted)
            .map(|row| row.value);
        (seen.0, seen.1, seen.2, previous)
    }

    pub(super) fn decide(
        &mut self,
        command: &ModelCommand,
        current: Option<ModelRow>,
        now: u64,
        (parameters, time): (&Parameters, u64),
    ) -> (OutcomeCode, u64, Option<i64>) {
        let mod_revision = current.as_ref().map_or(0, |row| row.mod_revision);
        let holds = match command.condition {
            Condition::None => true,
            Condition::Absent => current.is_none(),
            Condition::RevisionOff(off) => off == 0,
            Condition::Revision(expected) => mod_revision == expected,
        };
        if !holds {
            return (OutcomeCode::Conflict, mod_revision, None);
        }
        let old = current.as_ref().map(|row| row.value.clone());
        let operand = || i64::from_le_bytes(command.value.clone().try_into().unwrap());
        let (value, number) = match (command.kind, old) {
            (CommandKind::Delete, None) => return (OutcomeCode::Absent, now, None),
            (CommandKind::Delete, Some(_)) => (None, None),
            (CommandKind::Put, _) => (Some(command.value.clone()), None),
            (CommandKind::Append, old) => {
                let value = [old.unwrap_or_default(), command.value.clone()].concat();
                if value.len() > parameters.value_bytes_max {
                    return (OutcomeCode::TooLarge, now, None);
                }
                (Some(value), None)
            }
            (CommandKind::AddI64 | CommandKind::MaxI64 | CommandKind::MinI64, None) => {
                (Some(command.value.clone()), Some(operand()))
            }
            (kind, old) => {
                let old = old.expect("absent counters were seen to");
                let Ok(old) = old.try_into().map(i64::from_le_bytes) else {
                    return (OutcomeCode::NotANumber, now, None);
                };
                let number = match kind {
                    CommandKind::MaxI64 => old.max(operand()),
                    CommandKind::MinI64 => old.min(operand()),
                    CommandKind::AddI64 => match old.checked_add(operand()) {
                        Some(sum) => sum,
                        None => return (OutcomeCode::Overflow, now, None),
                    },
                    CommandKind::Put
                    | CommandKind::Delete
                    | CommandKind::Append
                    | CommandKind::DeleteRange
                    | CommandKind::Txn
                    | CommandKind::Commit
                    | CommandKind::Compact => unreachable!("it is not a counter"),
                };
                if number == old && kind != CommandKind::AddI64 {
                    return (OutcomeCode::Done, mod_revision, Some(number));
                }
                (Some(number.to_le_bytes().to_vec()), Some(number))
            }
        };
        let revision = now + 1;
        let row = value.map(|value| ModelRow {
            key: command.key.clone(),
            value,
            create_revision: current.as_ref().map_or(revision, |row| row.create_revision),
            mod_revision: revision,
            version: current.as_ref().map_or(1, |row| row.version + 1),
        });
        self.change((command.namespace, &command.key), revision, row, time);
        (OutcomeCode::Done, revision, number)
    }

    pub(super) fn change(
        &mut self,
        (namespace, key): (u32, &[u8]),
        revision: u64,
        row: Option<ModelRow>,
        time: u64,
    ) {
        let replaced_bytes = self
            .row(namespace, key)
            .map_or(0, |row| 40 + row.key.len() + row.value.len() + 24);
        self.revisions.insert(namespace, revision);
        self.versions
            .entry((namespace, key.to_vec()))
            .or_default()
            .push((revision, row));
        self.changes.push(ModelChange {
            namespace,
            key: key.to_vec(),
            revision,
            time,
            held_bytes: 80 + replaced_bytes as u64,
        });
    }

    pub(super) fn raise_floor(&mut self, parameters: &Parameters, time: u64) {
        let is_over = |changes: &[ModelChange]| {
            let bytes: u64 = changes.iter().map(|change| change.held_bytes).sum();
            changes.len() as u64 > parameters.history_revisions_max
                || bytes > parameters.history_bytes_max
        };
        // No run here has as many changes as one command may let age.
        while let Some(oldest) = self.changes.get(self.floor) {
            let is_aged = time - oldest.time > parameters.history_age_ms_max;
            let is_compacted = oldest.revision <= self.oldest(oldest.namespace);
            if !is_over(&self.changes[self.floor..]) && !is_aged && !is_compacted {
                return;
            }
            self.floor += 1;
        }
    }

    /// All that a range should find.
    pub(super) fn range(&self, query: &ModelQuery, revision: u64) -> Vec<ModelRow> {
        let is_wanted = |key: &[u8]| {
            let in_depth = match query.scope {
                Scope::Subtree => true,
                Scope::Children { separator } => {
                    key.starts_with(&query.prefix)
                        && !key[query.prefix.len()..].contains(&separator)
                }
            };
            key.starts_with(&query.prefix)
                && key >= query.start.as_slice()
                && (query.end.is_empty() || key < query.end.as_slice())
                && in_depth
        };
        let mut rows: Vec<_> = self
            .versions
            .keys()
            .filter(|(namespace, key)| *namespace == query.namespace && is_wanted(key))
            .filter_map(|(namespace, key)| self.row_at(*namespace, key, revision))
            .collect();
        if query.direction == Direction::Reverse {
            rows.reverse();
        }
        if query.projection == Projection::KeysOnly {
            rows.iter_mut().for_each(|row| row.value.clear());
        }
        if let Some(delimiter) = query.delimiter {
            let roll_up = |row: ModelRow| row.rolled_up(query.prefix.len(), delimiter);
            rows = rows.into_iter().map(roll_up).collect();
            rows.dedup();
        }
        if query.limit > 0 {
            rows.truncate(query.limit as usize);
        }
        rows
    }
}
