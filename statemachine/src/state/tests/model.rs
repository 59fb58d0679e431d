//! The state machine against a plain model that keeps everything: random batches, reads in the past, scans that go
//! on between batches, and a history so short that it is compacted all the time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelRow {
    key: Vec<u8>,
    value: Vec<u8>,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
}

#[derive(Clone, Debug)]
struct ModelCommand {
    kind: CommandKind,
    namespace: u32,
    key: Vec<u8>,
    value: Vec<u8>,
    condition: Condition,
    is_previous_wanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Condition {
    None,
    Absent,
    /// The mod revision that the key has, give or take.
    RevisionOff(u64),
}

struct ModelChange {
    namespace: u32,
    revision: u64,
    time: u64,
    held_bytes: u64,
}

/// What a key became, at which revisions.
type Versions = Vec<(u64, Option<ModelRow>)>;

/// Every version of every key, for good.
#[derive(Default)]
struct Model {
    revisions: BTreeMap<u32, u64>,
    versions: BTreeMap<(u32, Vec<u8>), Versions>,
    changes: Vec<ModelChange>,
    /// Index of the first change that answers reads.
    floor: usize,
}

impl Model {
    fn revision(&self, namespace: u32) -> u64 {
        self.revisions.get(&namespace).copied().unwrap_or(0)
    }

    fn oldest(&self, namespace: u32) -> u64 {
        let below = self.changes[..self.floor].iter().rev();
        below
            .filter(|change| change.namespace == namespace)
            .map(|change| change.revision)
            .next()
            .unwrap_or(0)
    }

    fn row_at(&self, namespace: u32, key: &[u8], revision: u64) -> Option<ModelRow> {
        let versions = self.versions.get(&(namespace, key.to_vec()))?;
        versions
            .iter()
            .rev()
            .find(|(at, _)| *at <= revision)?
            .1
            .clone()
    }

    fn row(&self, namespace: u32, key: &[u8]) -> Option<ModelRow> {
        self.row_at(namespace, key, u64::MAX)
    }

    fn expected_revision(&self, command: &ModelCommand, off: u64) -> u64 {
        self.row(command.namespace, &command.key)
            .map_or(0, |row| row.mod_revision)
            + off
    }

    fn apply(&mut self, command: &ModelCommand, parameters: &Parameters, time: u64) -> Seen {
        let current = self.row(command.namespace, &command.key);
        let seen = self.decide(command, current.clone(), parameters, time);
        self.raise_floor(parameters, time);
        let previous = current
            .filter(|_| command.is_previous_wanted)
            .map(|row| row.value);
        (seen.0, seen.1, seen.2, previous)
    }

    fn decide(
        &mut self,
        command: &ModelCommand,
        current: Option<ModelRow>,
        parameters: &Parameters,
        time: u64,
    ) -> (OutcomeCode, u64, Option<i64>) {
        let now = self.revision(command.namespace);
        let mod_revision = current.as_ref().map_or(0, |row| row.mod_revision);
        let holds = match command.condition {
            Condition::None => true,
            Condition::Absent => current.is_none(),
            Condition::RevisionOff(off) => off == 0,
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
            (kind, Some(old)) => {
                let Ok(old) = old.try_into().map(i64::from_le_bytes) else {
                    return (OutcomeCode::NotANumber, now, None);
                };
                let number = match kind {
                    CommandKind::MaxI64 => old.max(operand()),
                    CommandKind::MinI64 => old.min(operand()),
                    CommandKind::AddI64
                    | CommandKind::Put
                    | CommandKind::Delete
                    | CommandKind::Append => match old.checked_add(operand()) {
                        Some(sum) => sum,
                        None => return (OutcomeCode::Overflow, now, None),
                    },
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
        let replaced_bytes = current.map_or(0, |row| 40 + row.key.len() + row.value.len() + 24);
        self.revisions.insert(command.namespace, revision);
        self.versions
            .entry((command.namespace, command.key.clone()))
            .or_default()
            .push((revision, row));
        self.changes.push(ModelChange {
            namespace: command.namespace,
            revision,
            time,
            held_bytes: 64 + replaced_bytes as u64,
        });
        (OutcomeCode::Done, revision, number)
    }

    fn raise_floor(&mut self, parameters: &Parameters, time: u64) {
        let is_over = |changes: &[ModelChange]| {
            let bytes: u64 = changes.iter().map(|change| change.held_bytes).sum();
            changes.len() as u64 > parameters.history_revisions_max
                || bytes > parameters.history_bytes_max
        };
        while is_over(&self.changes[self.floor..]) {
            self.floor += 1;
        }
        // No run here has as many changes as one command may let age.
        let is_aged = |change: &ModelChange| time - change.time > parameters.history_age_ms_max;
        while self.changes.get(self.floor).is_some_and(is_aged) {
            self.floor += 1;
        }
    }

    /// All that a range should find.
    fn range(&self, query: &ModelQuery, revision: u64) -> Vec<ModelRow> {
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
        if query.limit > 0 {
            rows.truncate(query.limit as usize);
        }
        rows
    }
}

#[derive(Clone, Debug)]
struct ModelQuery {
    namespace: u32,
    prefix: Vec<u8>,
    start: Vec<u8>,
    end: Vec<u8>,
    scope: Scope,
    direction: Direction,
    projection: Projection,
    limit: u64,
    slice: SliceLimit,
}

/// A range that is read slice by slice while batches are applied.
struct Scan {
    query: ModelQuery,
    pin: Pin,
    expected: Vec<ModelRow>,
    found: Vec<ModelRow>,
    resume_after: Option<Vec<u8>>,
    slices: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Apply {
        commands: Vec<ModelCommand>,
        elapsed_ms: u64,
    },
    Get {
        namespace: u32,
        key: Vec<u8>,
        back: u64,
    },
    /// A range at some revisions back, sliced, in one go.
    Range {
        query: ModelQuery,
        back: u64,
    },
    /// Begins a scan at a pin of now, or of some revisions back.
    Scan {
        query: ModelQuery,
        back: Option<u64>,
    },
    /// One slice of one of the scans.
    Continue {
        scan: usize,
    },
    Reclaim {
        entries: usize,
    },
}

struct Run {
    shard: Shard,
    parameters: Parameters,
    model: Model,
    scans: Vec<Scan>,
}

impl Run {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Apply {
                commands,
                elapsed_ms,
            } => self.apply(commands, *elapsed_ms),
            Step::Get {
                namespace,
                key,
                back,
            } => self.get(*namespace, key, *back),
            Step::Range { query, back } => self.range(query, *back),
            Step::Scan { query, back } => self.begin_scan(query, *back),
            Step::Continue { scan } => {
                if !self.scans.is_empty() {
                    self.continue_scan(scan % self.scans.len());
                }
            }
            Step::Reclaim { entries } => {
                self.shard.machine.reclaim(*entries);
            }
        }
    }

    fn apply(&mut self, commands: &[ModelCommand], elapsed_ms: u64) {
        self.shard.time.0 += elapsed_ms;
        let mut expected = Vec::new();
        let mut builder = BatchBuilder::new();
        for model_command in commands {
            let mut bytes = Vec::new();
            self.command(model_command).encode_into(&mut bytes);
            builder.push(&bytes);
            expected.push(
                self.model
                    .apply(model_command, &self.parameters, self.shard.time.0),
            );
        }
        let sealed = builder.seal(self.shard.time, 1);
        let mut seen = Vec::new();
        let batch = Batch::decode(&sealed).unwrap();
        self.shard
            .machine
            .apply(&batch, &mut |outcome| seen.push(seen_of(&outcome)))
            .unwrap();
        assert_eq!(seen, expected);
        self.check_numbers();
    }

    fn command<'a>(&self, command: &'a ModelCommand) -> Command<'a> {
        let namespace = NamespaceId(command.namespace);
        let put = Command::put(namespace, &command.key, &command.value);
        let mut encoded = Command {
            kind: command.kind,
            ..put
        };
        match command.condition {
            Condition::None => {}
            Condition::Absent => encoded = encoded.with_if_absent(),
            Condition::RevisionOff(off) => {
                let expected = self.model.expected_revision(command, off);
                encoded = encoded.with_expected_revision(Revision(expected));
            }
        }
        if command.is_previous_wanted {
            encoded.with_return_previous()
        } else {
            encoded
        }
    }

    fn check_numbers(&self) {
        for namespace in [1, 2] {
            let id = NamespaceId(namespace);
            assert_eq!(
                self.shard.machine.revision(id).0,
                self.model.revision(namespace)
            );
            assert_eq!(
                self.shard.machine.oldest_revision(id).0,
                self.model.oldest(namespace)
            );
        }
        let heads = self
            .model
            .versions
            .values()
            .filter_map(|versions| versions.last());
        let live: Vec<_> = heads.filter_map(|(_, row)| row.as_ref()).collect();
        assert_eq!(self.shard.machine.key_count(), live.len() as u64);
        let live_bytes: usize = live
            .iter()
            .map(|row| 40 + row.key.len() + row.value.len())
            .sum();
        assert_eq!(self.shard.machine.live_bytes, live_bytes as u64);
        let answering = &self.model.changes[self.model.floor..];
        let answering_bytes: u64 = answering.iter().map(|change| change.held_bytes).sum();
        let memory = self.shard.machine.memory();
        assert_eq!(
            memory.history_bytes - memory.unanswering_bytes,
            answering_bytes
        );
    }

    /// What a read at a revision must be refused with, if it must.
    fn refusal(&self, namespace: u32, at: u64) -> Option<ReadError> {
        let current = self.model.revision(namespace);
        let oldest = self.model.oldest(namespace);
        if at > current {
            Some(ReadError::Future {
                current: Revision(current),
            })
        } else if at < oldest {
            Some(ReadError::Compacted {
                oldest: Revision(oldest),
            })
        } else {
            None
        }
    }

    fn get(&self, namespace: u32, key: &[u8], back: u64) {
        let get = |at| {
            self.shard.machine.get(&GetQuery {
                namespace: NamespaceId(namespace),
                key,
                at,
            })
        };
        let newest = get(None).map(|row| row.map(|row| model_row(&row)));
        assert_eq!(newest, Ok(self.model.row(namespace, key)));
        let at = (self.model.revision(namespace) + 1).saturating_sub(back);
        let found = get(Some(Revision(at))).map(|row| row.map(|row| model_row(&row)));
        let expected = match self.refusal(namespace, at) {
            Some(refusal) => Err(refusal),
            None => Ok(self.model.row_at(namespace, key, at)),
        };
        assert_eq!(found, expected);
    }

    fn range(&self, query: &ModelQuery, back: u64) {
        let at = (self.model.revision(query.namespace) + 1).saturating_sub(back);
        let mut found = Vec::new();
        let mut from = None;
        loop {
            let range = range_query(
                query,
                Some(Revision(at)),
                query.limit - found.len().min(query.limit as usize) as u64,
            );
            let end =
                self.shard
                    .machine
                    .range(&range, None, from.as_deref(), query.slice, &mut |row| {
                        found.push(model_row(&row));
                    });
            match (end, self.refusal(query.namespace, at)) {
                (Err(error), refusal) => return assert_eq!(Some(error), refusal),
                (Ok(_), Some(refusal)) => panic!("answered instead of {refusal}"),
                (Ok(SliceEnd::Finished), None) => break,
                (Ok(SliceEnd::More { resume_after }), None) => from = Some(resume_after),
            }
        }
        assert_eq!(found, self.model.range(query, at));
    }

    fn begin_scan(&mut self, query: &ModelQuery, back: Option<u64>) {
        let current = self.model.revision(query.namespace);
        let (pin, at) = match back {
            None => (self.shard.machine.pin(), current),
            Some(back) => {
                let at = (current + 1).saturating_sub(back);
                let pinned = self
                    .shard
                    .machine
                    .pin_at(NamespaceId(query.namespace), Revision(at));
                match (pinned, self.refusal(query.namespace, at)) {
                    (Ok(pin), None) => (pin, at),
                    (Err(error), refusal) => return assert_eq!(Some(error), refusal),
                    (Ok(_), Some(refusal)) => panic!("pinned instead of {refusal}"),
                }
            }
        };
        let expected = self.model.range(query, at);
        let query = query.clone();
        self.scans.push(Scan {
            query,
            pin,
            expected,
            found: Vec::new(),
            resume_after: None,
            slices: 0,
        });
    }

    fn continue_scan(&mut self, index: usize) {
        let Scan {
            query,
            pin,
            found,
            resume_after,
            slices,
            ..
        } = &mut self.scans[index];
        let left = query.limit - found.len().min(query.limit as usize) as u64;
        let range = range_query(query, None, left);
        let mut rows = Vec::new();
        let machine = &self.shard.machine;
        let end = machine.range(
            &range,
            Some(pin),
            resume_after.as_deref(),
            query.slice,
            &mut |row| {
                rows.push(model_row(&row));
            },
        );
        assert!(rows.len() as u64 <= query.slice.rows);
        found.append(&mut rows);
        *slices += 1;
        assert!(*slices < 1000, "a scan that does not get on");
        match end.unwrap() {
            SliceEnd::More {
                resume_after: after,
            } => *resume_after = Some(after),
            SliceEnd::Finished => {
                let scan = self.scans.swap_remove(index);
                assert_eq!(scan.found, scan.expected);
                self.shard.machine.unpin(scan.pin);
            }
        }
    }

    /// Finishes the scans; then only what the history must answer is held.
    fn finish(&mut self) {
        while !self.scans.is_empty() {
            self.continue_scan(0);
        }
        self.shard.machine.reclaim(usize::MAX);
        assert_eq!(self.shard.machine.memory().unanswering_bytes, 0);
        let heads: usize = self
            .shard
            .machine
            .namespaces
            .values()
            .map(|namespace| namespace.keys.forward_from(b"").count())
            .sum();
        let answering = &self.model.changes[self.model.floor..];
        let remembered = |namespace: u32, revision: u64| {
            answering
                .iter()
                .any(|change| (change.namespace, change.revision) == (namespace, revision))
        };
        let expected = self
            .model
            .versions
            .iter()
            .filter(|((namespace, _), versions)| {
                versions.last().is_some_and(|(revision, row)| {
                    row.is_some() || remembered(*namespace, *revision)
                })
            });
        assert_eq!(
            heads,
            expected.count(),
            "live keys and the tombstones that the history remembers"
        );
    }
}

fn model_row(row: &Row<'_>) -> ModelRow {
    assert_eq!(row.lease, 0);
    ModelRow {
        key: row.key.to_vec(),
        value: row.value.to_vec(),
        create_revision: row.create_revision.0,
        mod_revision: row.mod_revision.0,
        version: row.version,
    }
}

fn range_query(query: &ModelQuery, at: Option<Revision>, limit: u64) -> RangeQuery<'_> {
    RangeQuery {
        namespace: NamespaceId(query.namespace),
        prefix: &query.prefix,
        start: &query.start,
        end: &query.end,
        scope: query.scope,
        direction: query.direction,
        projection: query.projection,
        at,
        limit,
    }
}

/// Few enough that keys meet, and with the bytes at which orders and ends go wrong.
fn key(lengths: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&[b'a', b'/', 0, 0xff][..]), lengths)
}

fn command() -> impl Strategy<Value = ModelCommand> {
    let kind = prop_oneof![
        4 => Just(CommandKind::Put),
        3 => Just(CommandKind::Delete),
        1 => Just(CommandKind::AddI64),
        1 => Just(CommandKind::MaxI64),
        1 => Just(CommandKind::MinI64),
        1 => Just(CommandKind::Append),
    ];
    let number = prop::sample::select(&[0, 1, -1, 5, i64::MAX, i64::MIN][..]);
    let condition = prop_oneof![
        4 => Just(Condition::None),
        1 => Just(Condition::Absent),
        1 => (0_u64..2).prop_map(Condition::RevisionOff),
    ];
    (
        kind,
        1_u32..3,
        key(1..4),
        number,
        0_usize..20,
        condition,
        any::<bool>(),
    )
        .prop_map(
            |(kind, namespace, key, number, length, condition, is_previous_wanted)| {
                let number = i64::to_le_bytes(number).to_vec();
                let value = match kind {
                    CommandKind::Delete => Vec::new(),
                    CommandKind::Put if length % 2 == 0 => number,
                    CommandKind::Put | CommandKind::Append => vec![b'v'; length],
                    CommandKind::AddI64 | CommandKind::MaxI64 | CommandKind::MinI64 => number,
                };
                let condition = match (kind, condition) {
                    (CommandKind::Delete, Condition::Absent) => Condition::None,
                    (_, condition) => condition,
                };
                ModelCommand {
                    kind,
                    namespace,
                    key,
                    value,
                    condition,
                    is_previous_wanted,
                }
            },
        )
}

fn query() -> impl Strategy<Value = ModelQuery> {
    let scope = prop_oneof![
        Just(Scope::Subtree),
        Just(Scope::Children { separator: b'/' }),
        Just(Scope::Children { separator: 0xff }),
    ];
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Reverse)];
    let projection = prop_oneof![Just(Projection::KeysAndValues), Just(Projection::KeysOnly)];
    let limit = prop_oneof![2 => Just(0_u64), 1 => 1_u64..6];
    let slice = (1_u64..4, 1_u64..200, 1_u64..6).prop_map(|(rows, bytes, visits)| SliceLimit {
        rows,
        bytes,
        visits,
    });
    (
        1_u32..3,
        key(0..3),
        key(0..3),
        key(0..3),
        scope,
        direction,
        projection,
        limit,
        slice,
    )
        .prop_map(
            |(namespace, prefix, start, end, scope, direction, projection, limit, slice)| {
                ModelQuery {
                    namespace,
                    prefix,
                    start,
                    end,
                    scope,
                    direction,
                    projection,
                    limit,
                    slice,
                }
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::collection::vec(command(), 1..12), 0_u64..50)
            .prop_map(|(commands, elapsed_ms)| Step::Apply { commands, elapsed_ms }),
        2 => (1_u32..3, key(1..4), 0_u64..20).prop_map(|(namespace, key, back)| Step::Get { namespace, key, back }),
        2 => (query(), 0_u64..20).prop_map(|(query, back)| Step::Range { query, back }),
        2 => (query(), prop::option::of(0_u64..10)).prop_map(|(query, back)| Step::Scan { query, back }),
        4 => any::<usize>().prop_map(|scan| Step::Continue { scan }),
        1 => (0_usize..30).prop_map(|entries| Step::Reclaim { entries }),
    ]
}

fn parameters() -> impl Strategy<Value = Parameters> {
    (1_u64..30, 1_u64..300, 64_u64..3000, 8_usize..40).prop_map(
        |(history_revisions_max, history_age_ms_max, history_bytes_max, value_bytes_max)| {
            Parameters {
                history_revisions_max,
                history_age_ms_max,
                history_bytes_max,
                value_bytes_max,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_state_machine_is_the_model(
        parameters in parameters(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let shard = Shard::with(parameters);
        let mut run = Run { shard, parameters, model: Model::default(), scans: Vec::new() };
        for step in &steps {
            run.step(step);
        }
        run.finish();
    }
}
