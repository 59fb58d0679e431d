//! Applying commands with structure: transactions, commits, range deletes and compaction.

use super::apply::KeyChange;
use super::draft::{Draft, Refusal};
use super::key_map::Head;
use super::key_walk::{Found, KeyWalk, Overlay};
use super::{Namespace, StateMachine};
use crate::command::{Command, CommandError, CommandKind};
use crate::detail::{Detail, ResultsWriter};
use crate::ids::{NamespaceId, Revision};
use crate::outcome::{Outcome, OutcomeCode};
use crate::query::Direction;
use crate::structured::{Commit, KeyRange, Structured, Txn};

/// What a commit ran into.
enum Conflict<'a> {
    Key(&'a [u8], Revision),
    Range(KeyRange<'a>, Revision),
}

/// How a search for conflicts within a budget ended.
enum Search<T> {
    /// It is certain.
    Over(T),
    /// The budget was used up before.
    OutOfBudget,
}

impl StateMachine {
    /// Applies a command with structure.
    pub(super) fn apply_structured(
        &mut self,
        command: &Command<'_>,
        on_outcome: &mut impl FnMut(Outcome<'_>),
    ) -> Result<(), CommandError> {
        let Some(structured) = Structured::of(command)? else {
            panic!("only commands with structure come here");
        };
        self.namespaces
            .entry(command.namespace)
            .or_insert_with(Namespace::new);
        match structured {
            Structured::Txn(txn) => self.apply_txn(command, &txn, on_outcome),
            Structured::Commit(commit) => self.apply_commit(command, &commit, on_outcome),
            Structured::DeleteRange(range) => self.sweep(command, &range, on_outcome),
            Structured::Compact(revision) => self.compact(command, revision, on_outcome),
        }
        Ok(())
    }

    fn apply_txn(
        &mut self,
        command: &Command<'_>,
        txn: &Txn<'_>,
        on_outcome: &mut impl FnMut(Outcome<'_>),
    ) {
        let namespace = self.known(command.namespace);
        let mut draft = Draft::new(
            (&namespace.keys, self.history.floor()),
            &self.parameters,
            namespace.revision,
            self.parameters.txn_visits_max,
        );
        let decided = draft.decide_txn(txn).map(|()| draft.finish());
        self.carry_out(command, decided, on_outcome);
    }

    fn apply_commit(
        &mut self,
        command: &Command<'_>,
        commit: &Commit<'_>,
        on_outcome: &mut impl FnMut(Outcome<'_>),
    ) {
        let namespace = self.known(command.namespace);
        let (oldest, current) = (namespace.oldest, namespace.revision);
        let refused = if commit.read_revision > current {
            Some((OutcomeCode::FutureRevision, current, None))
        } else if commit.read_revision < oldest {
            Some((OutcomeCode::Compacted, oldest, None))
        } else {
            match self.find_conflict(namespace, command.namespace, commit) {
                Search::Over(None) => None,
                Search::Over(Some(Conflict::Key(key, revision))) => {
                    let detail = Detail::ConflictKey(key);
                    Some((OutcomeCode::Conflict, revision, Some(detail)))
                }
                Search::Over(Some(Conflict::Range(range, revision))) => {
                    let detail = Detail::ConflictPrefix(range.label());
                    Some((OutcomeCode::Conflict, revision, Some(detail)))
                }
                Search::OutOfBudget => Some((OutcomeCode::OverBudget, current, None)),
            }
        };
        if let Some((code, revision, detail)) = refused {
            let outcome = Outcome {
                code,
                revision,
                number: None,
                previous: None,
                detail,
            };
            self.hash_structured(command, &outcome);
            on_outcome(outcome);
            return;
        }
        let mut draft = Draft::new(
            (&namespace.keys, self.history.floor()),
            &self.parameters,
            current,
            self.parameters.txn_visits_max,
        );
        let decided = draft
            .decide_mutations(&commit.mutations)
            .map(|()| draft.finish());
        self.carry_out(command, decided, on_outcome);
    }

    /// Does what was decided, and answers.
    fn carry_out(
        &mut self,
        command: &Command<'_>,
        decided: Result<(Vec<KeyChange>, ResultsWriter), Refusal>,
        on_outcome: &mut impl FnMut(Outcome<'_>),
    ) {
        let current = self.revision(command.namespace);
        let (changes, results) = match decided {
            Ok(decided) => decided,
            Err(refusal) => {
                let (code, revision, detail) = match refusal {
                    Refusal::OverBudget => (OutcomeCode::OverBudget, current, None),
                    Refusal::Step {
                        step,
                        code,
                        revision,
                    } => (code, revision, Some(Detail::FailedStep(step))),
                };
                let outcome = Outcome {
                    code,
                    revision,
                    number: None,
                    previous: None,
                    detail,
                };
                self.hash_structured(command, &outcome);
                on_outcome(outcome);
                return;
            }
        };
        let revision = self.make_changes(command.namespace, changes);
        let outcome = Outcome {
            code: OutcomeCode::Done,
            revision,
            number: None,
            previous: None,
            detail: Some(Detail::Txn(results.results())),
        };
        self.hash_structured(command, &outcome);
        on_outcome(outcome);
    }

    /// Makes decided changes, all at the namespace's next revision, and returns its revision after them.
    fn make_changes(&mut self, id: NamespaceId, changes: Vec<KeyChange>) -> Revision {
        let Some(namespace) = self.namespaces.get_mut(&id) else {
            panic!("changes were decided in a namespace that does not exist");
        };
        if changes.is_empty() {
            return namespace.revision;
        }
        let revision = namespace.revision.next();
        namespace.revision = revision;
        for change in changes {
            self.change_key(id, revision, change);
        }
        revision
    }

    // ---- Commits ----

    /// The first of what a commit has read that has changed since.
    fn find_conflict<'c>(
        &self,
        namespace: &Namespace,
        id: NamespaceId,
        commit: &Commit<'c>,
    ) -> Search<Option<Conflict<'c>>> {
        if commit.read_keys.len() as u64 > self.parameters.txn_visits_max {
            return Search::OutOfBudget;
        }
        for key in &commit.read_keys {
            let head = namespace.keys.get(key);
            let changed = head.and_then(|head| self.change_after(head, commit.read_revision));
            if let Some(revision) = changed {
                return Search::Over(Some(Conflict::Key(key, revision)));
            }
        }
        if commit.read_ranges.is_empty() {
            return Search::Over(None);
        }
        // Few changes since then, or few keys in the ranges: either is enough, and the first is the usual.
        match self.search_changes(id, commit) {
            Search::Over(conflict) => Search::Over(conflict),
            Search::OutOfBudget => self.search_ranges(namespace, commit),
        }
    }

    /// The revision of a key's last change, if that is newer than `read`.
    fn change_after(&self, head: &Head, read: Revision) -> Option<Revision> {
        let revision = match head.live() {
            Some(record) => record.row().mod_revision,
            // What the history no longer answers is older than anything that a commit may have read.
            None if head.position() < self.history.floor() => return None,
            None => self.history.get(head.position())?.revision,
        };
        (revision > read).then_some(revision)
    }

    /// Looks at every change since the commit's reads, the newest first.
    fn search_changes<'c>(
        &self,
        id: NamespaceId,
        commit: &Commit<'c>,
    ) -> Search<Option<Conflict<'c>>> {
        let mut visits_left = self.parameters.txn_visits_max;
        let mut position = self.history.next();
        while let Some(before) = position.preceding()
            && before >= self.history.floor()
            && let Some(entry) = self.history.get(before)
        {
            position = before;
            let is_ours = entry.namespace == id;
            if is_ours && entry.revision <= commit.read_revision {
                break;
            }
            let visits = if is_ours {
                commit.read_ranges.len() as u64
            } else {
                1
            };
            match visits_left.checked_sub(visits) {
                Some(left) => visits_left = left,
                None => return Search::OutOfBudget,
            }
            let hit = commit
                .read_ranges
                .iter()
                .find(|range| is_ours && range.contains(entry.key()));
            if let Some(range) = hit {
                return Search::Over(Some(Conflict::Range(*range, entry.revision)));
            }
        }
        Search::Over(None)
    }

    /// Looks at every key of the commit's ranges.
    fn search_ranges<'c>(
        &self,
        namespace: &Namespace,
        commit: &Commit<'c>,
    ) -> Search<Option<Conflict<'c>>> {
        let mut visits_left = self.parameters.txn_visits_max;
        let overlay = Overlay::new();
        let place = (&namespace.keys, self.history.floor());
        if commit.read_ranges.len() as u64 > visits_left {
            return Search::OutOfBudget;
        }
        for range in &commit.read_ranges {
            for step in KeyWalk::begin(place, &overlay, range, Direction::Forward) {
                match visits_left.checked_sub(1) {
                    Some(left) => visits_left = left,
                    None => return Search::OutOfBudget,
                }
                let Found::Head(head) = step.found else {
                    continue;
                };
                if let Some(revision) = self.change_after(head, commit.read_revision) {
                    return Search::Over(Some(Conflict::Range(*range, revision)));
                }
            }
        }
        Search::Over(None)
    }

    // ---- Ranges and revisions ----

    /// Deletes the keys of a range, as many as one command may, and tells where to go on.
    fn sweep(
        &mut self,
        command: &Command<'_>,
        range: &KeyRange<'_>,
        on_outcome: &mut impl FnMut(Outcome<'_>),
    ) {
        let namespace = self.known(command.namespace);
        let overlay = Overlay::new();
        let place = (&namespace.keys, self.history.floor());
        let mut changes = Vec::new();
        let mut resume_after = None;
        let (mut visits, mut last) = (0, None);
        for step in KeyWalk::begin(place, &overlay, range, Direction::Forward) {
            let is_full = changes.len() as u64 >= self.parameters.sweep_keys_max.max(1)
                || visits >= self.parameters.sweep_visits_max.max(1);
            if is_full {
                resume_after = last.map(<[u8]>::to_vec);
                break;
            }
            visits += 1;
            last = Some(step.key);
            if step.live().is_some() {
                changes.push(KeyChange {
                    kind: CommandKind::DeleteRange,
                    key: step.key.to_vec(),
                    after: None,
                });
            }
        }
        let count = changes.len() as i64;
        let revision = self.make_changes(command.namespace, changes);
        let outcome = Outcome {
            code: OutcomeCode::Done,
            revision,
            number: Some(count),
            previous: None,
            detail: resume_after.as_deref().map(Detail::ResumeAfter),
        };
        self.hash_structured(command, &outcome);
        on_outcome(outcome);
    }

    /// Refuses reads below a revision from now on, and lets go of what only they needed.
    fn compact(
        &mut self,
        command: &Command<'_>,
        revision: Revision,
        on_outcome: &mut impl FnMut(Outcome<'_>),
    ) {
        let Some(namespace) = self.namespaces.get_mut(&command.namespace) else {
            panic!("the namespace was made before");
        };
        let current = namespace.revision;
        let code = if revision > current {
            OutcomeCode::FutureRevision
        } else {
            namespace.oldest = namespace.oldest.max(revision);
            // Where other namespaces' changes lie between, the floor follows with later commands, a few at a time.
            if namespace.answering_count == self.history.answering_count() {
                let floor = self
                    .history
                    .first_above(command.namespace, namespace.oldest);
                self.history.raise_floor_to(floor);
                namespace.answering_count = self.history.answering_count();
            }
            OutcomeCode::Done
        };
        self.hash.add(namespace.oldest.0);
        let outcome = Outcome {
            code,
            revision: current,
            number: None,
            previous: None,
            detail: None,
        };
        self.hash_structured(command, &outcome);
        on_outcome(outcome);
    }

    fn known(&self, id: NamespaceId) -> &Namespace {
        match self.namespaces.get(&id) {
            Some(namespace) => namespace,
            None => panic!("the namespace was made before"),
        }
    }

    fn hash_structured(&mut self, command: &Command<'_>, outcome: &Outcome<'_>) {
        self.hash.add_outcome(command, outcome);
        if let Some(detail) = outcome.detail {
            self.scratch.clear();
            detail.encode_into(&mut self.scratch);
            self.hash.add_bytes(&self.scratch);
        }
    }
}
