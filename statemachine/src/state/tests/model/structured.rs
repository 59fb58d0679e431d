//! Commands with structure in the model. A transaction is tried out on a copy of everything, which is thrown away when
//! a step cannot be done.

use super::run::{model_row, range_query};
use super::*;
use crate::detail::{Branch, Detail, TxnResult, TxnResults};
use crate::structured::{
    Commit, Compare, Existence, KeyRange, Operation, RangeOperation, Relation, Structured, Subject,
    Target, Txn,
};

#[derive(Clone, Debug)]
pub(in crate::state::tests) enum ModelStructured {
    Txn(u32, ModelTxn),
    Commit {
        namespace: u32,
        back: u64,
        keys: Vec<Vec<u8>>,
        ranges: Vec<ModelQuery>,
        mutations: Vec<ModelCommand>,
    },
    DeleteRange(ModelQuery),
    Compact {
        namespace: u32,
        back: u64,
    },
}

#[derive(Clone, Debug)]
pub(in crate::state::tests) struct ModelTxn {
    compares: Vec<ModelCompare>,
    then: Vec<ModelOperation>,
    otherwise: Vec<ModelOperation>,
}

#[derive(Clone, Debug)]
struct ModelCompare {
    key: Vec<u8>,
    range: Option<ModelQuery>,
    target: u8,
    number: u64,
    value: Vec<u8>,
    relation: Relation,
}

#[derive(Clone, Debug)]
enum ModelOperation {
    Mutation(ModelCommand),
    Get(Vec<u8>),
    Range(ModelQuery),
    DeleteRange(ModelQuery),
    Txn(ModelTxn),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ModelResult {
    Mutation(Seen),
    Get(Option<ModelRow>),
    Range(bool, Vec<ModelRow>),
    DeleteRange(u64),
    Txn(Branch, Vec<ModelResult>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ModelDetail {
    None,
    Results(Branch, Vec<ModelResult>),
    ResumeAfter(Vec<u8>),
    Conflict(Option<Vec<u8>>),
    FailedStep(u32),
}

type Answer = (OutcomeCode, u64, Option<i64>, ModelDetail);

// ---- At random ----

/// Common prefixes are for reading alone.
fn plain_query() -> impl Strategy<Value = ModelQuery> {
    input::query().prop_map(|query| ModelQuery {
        delimiter: None,
        ..query
    })
}

fn operation(namespace: u32) -> impl Strategy<Value = ModelOperation> {
    let single = prop_oneof![
        6 => input::command().prop_map(ModelOperation::Mutation),
        2 => input::key(1..4).prop_map(ModelOperation::Get),
        2 => plain_query().prop_map(ModelOperation::Range),
        1 => plain_query().prop_map(ModelOperation::DeleteRange),
    ];
    single.prop_map(move |operation| operation.in_namespace(namespace))
}

fn compare() -> impl Strategy<Value = ModelCompare> {
    let relation = prop::sample::select(
        &[
            Relation::Equal,
            Relation::NotEqual,
            Relation::Less,
            Relation::Greater,
        ][..],
    );
    (
        input::key(1..4),
        prop::option::weighted(0.3, plain_query()),
        0_u8..6,
        0_u64..6,
        0_usize..4,
        relation,
    )
        .prop_map(|(key, range, target, number, length, relation)| {
            let relation = match (target, relation) {
                (5, Relation::Less) => Relation::Equal,
                (5, Relation::Greater) => Relation::NotEqual,
                (_, relation) => relation,
            };
            let number = if target == 5 { number % 2 } else { number };
            let value = vec![b'v'; length];
            ModelCompare {
                key,
                range,
                target,
                number,
                value,
                relation,
            }
        })
}

fn txn(namespace: u32) -> impl Strategy<Value = ModelTxn> {
    let flat = |operations: BoxedStrategy<Vec<ModelOperation>>| {
        let compares = prop::collection::vec(compare(), 0..3);
        (compares, operations.clone(), operations).prop_map(|(compares, then, otherwise)| {
            ModelTxn {
                compares,
                then,
                otherwise,
            }
        })
    };
    let innermost = flat(prop::collection::vec(operation(namespace), 0..3).boxed());
    let nested = prop_oneof![
        5 => operation(namespace),
        1 => innermost.prop_map(ModelOperation::Txn),
    ];
    flat(prop::collection::vec(nested, 1..5).boxed())
}

pub(in crate::state::tests) fn structured() -> impl Strategy<Value = ModelStructured> {
    let commit = (
        1_u32..3,
        0_u64..8,
        prop::collection::vec(input::key(1..4), 0..3),
        prop::collection::vec(plain_query(), 0..2),
        prop::collection::vec(input::command(), 1..4),
    )
        .prop_map(|(namespace, back, keys, ranges, mut mutations)| {
            for mutation in &mut mutations {
                mutation.namespace = namespace;
            }
            ModelStructured::Commit {
                namespace,
                back,
                keys,
                ranges,
                mutations,
            }
        });
    prop_oneof![
        4 => (1_u32..3).prop_flat_map(|namespace| {
            txn(namespace).prop_map(move |txn| ModelStructured::Txn(namespace, txn))
        }),
        3 => commit,
        2 => plain_query().prop_map(ModelStructured::DeleteRange),
        1 => (1_u32..3, 0_u64..8).prop_map(|(namespace, back)| ModelStructured::Compact { namespace, back }),
    ]
}

impl ModelOperation {
    fn in_namespace(mut self, namespace: u32) -> ModelOperation {
        match &mut self {
            ModelOperation::Mutation(command) => command.namespace = namespace,
            ModelOperation::Range(query) | ModelOperation::DeleteRange(query) => {
                query.namespace = namespace;
            }
            ModelOperation::Get(_) | ModelOperation::Txn(_) => {}
        }
        self
    }
}

// ---- As commands ----

fn key_range(query: &ModelQuery) -> KeyRange<'_> {
    let query = range_query(query, None, 0);
    KeyRange {
        prefix: query.prefix,
        start: query.start,
        end: query.end,
        scope: query.scope,
    }
}

impl ModelTxn {
    /// Says of every condition on a revision which one it means, as things are.
    fn resolve(&mut self, model: &Model) {
        for operation in self.then.iter_mut().chain(&mut self.otherwise) {
            match operation {
                ModelOperation::Mutation(command) => resolve(command, model),
                ModelOperation::Txn(txn) => txn.resolve(model),
                ModelOperation::Get(_)
                | ModelOperation::Range(_)
                | ModelOperation::DeleteRange(_) => {}
            }
        }
    }

    fn txn<'a>(&'a self, run: &Run) -> Txn<'a> {
        let operations = |list: &'a [ModelOperation]| {
            list.iter()
                .map(|operation| operation.operation(run))
                .collect()
        };
        Txn {
            compares: self.compares.iter().map(ModelCompare::compare).collect(),
            then: operations(&self.then),
            otherwise: operations(&self.otherwise),
        }
    }
}

fn resolve(command: &mut ModelCommand, model: &Model) {
    if let Condition::RevisionOff(off) = command.condition {
        command.condition = Condition::Revision(model.expected_revision(command, off));
    }
}

impl ModelCompare {
    fn compare(&self) -> Compare<'_> {
        Compare {
            subject: match &self.range {
                Some(range) => Subject::Range(key_range(range)),
                None => Subject::Key(&self.key),
            },
            target: match self.target {
                0 => Target::Value(&self.value),
                1 => Target::ModRevision(Revision(self.number)),
                2 => Target::CreateRevision(Revision(self.number)),
                3 => Target::Version(self.number),
                4 => Target::Lease(self.number),
                _ if self.number == 0 => Target::Existence(Existence::Absent),
                _ => Target::Existence(Existence::Present),
            },
            relation: self.relation,
        }
    }

    fn holds(&self, model: &Model, namespace: u32) -> bool {
        let one = |row: Option<&ModelRow>| {
            let number = match (self.target, row) {
                (0, None) => return false,
                (0, Some(row)) => return self.is(row.value.cmp(&self.value)),
                (5, row) => u64::from(row.is_some()),
                (_, None) | (4, _) => 0,
                (1, Some(row)) => row.mod_revision,
                (2, Some(row)) => row.create_revision,
                (_, Some(row)) => row.version,
            };
            self.is(number.cmp(&self.number))
        };
        match &self.range {
            None => one(model.row(namespace, &self.key).as_ref()),
            Some(range) => model.all(namespace, range).iter().all(|row| one(Some(row))),
        }
    }

    fn is(&self, order: std::cmp::Ordering) -> bool {
        match self.relation {
            Relation::Equal => order.is_eq(),
            Relation::NotEqual => order.is_ne(),
            Relation::Less => order.is_lt(),
            Relation::Greater => order.is_gt(),
        }
    }
}

impl ModelOperation {
    fn operation<'a>(&'a self, run: &Run) -> Operation<'a> {
        match self {
            ModelOperation::Mutation(command) => Operation::Mutation(run.command(command)),
            ModelOperation::Get(key) => Operation::Get(key),
            ModelOperation::Range(query) => Operation::Range(RangeOperation {
                range: key_range(query),
                direction: query.direction,
                projection: query.projection,
                limit: query.limit,
            }),
            ModelOperation::DeleteRange(query) => Operation::DeleteRange(key_range(query)),
            ModelOperation::Txn(txn) => Operation::Txn(txn.txn(run)),
        }
    }
}

// ---- What should happen ----

/// Why a transaction does nothing: the step, and what it came to.
type Failed = (u32, OutcomeCode, u64);

impl Model {
    /// Every live row of a range, ascending, with its value.
    fn all(&self, namespace: u32, query: &ModelQuery) -> Vec<ModelRow> {
        let query = ModelQuery {
            namespace,
            direction: Direction::Forward,
            projection: Projection::KeysAndValues,
            limit: 0,
            ..query.clone()
        };
        self.range(&query, u64::MAX)
    }

    fn txn(
        &mut self,
        namespace: u32,
        txn: &ModelTxn,
        (now, steps): (u64, &mut u32),
        place: (&Parameters, u64),
    ) -> Result<(Branch, Vec<ModelResult>), Failed> {
        let holds = txn
            .compares
            .iter()
            .all(|compare| compare.holds(self, namespace));
        let (branch, operations) = if holds {
            (Branch::Then, &txn.then)
        } else {
            (Branch::Otherwise, &txn.otherwise)
        };
        let mut results = Vec::new();
        for operation in operations {
            *steps += 1;
            results.push(match operation {
                ModelOperation::Mutation(command) => {
                    ModelResult::Mutation(self.step(command, (now, *steps), place)?)
                }
                ModelOperation::Get(key) => ModelResult::Get(self.row(namespace, key)),
                ModelOperation::Range(query) => {
                    let unlimited = ModelQuery {
                        limit: 0,
                        ..query.clone()
                    };
                    let (all, rows) = (
                        self.range(&unlimited, u64::MAX),
                        self.range(query, u64::MAX),
                    );
                    ModelResult::Range(all.len() > rows.len(), rows)
                }
                ModelOperation::DeleteRange(query) => {
                    let rows = self.all(namespace, query);
                    for row in &rows {
                        self.change((namespace, &row.key), now + 1, None, place.1);
                    }
                    ModelResult::DeleteRange(rows.len() as u64)
                }
                ModelOperation::Txn(txn) => {
                    let (branch, results) = self.txn(namespace, txn, (now, &mut *steps), place)?;
                    ModelResult::Txn(branch, results)
                }
            });
        }
        Ok((branch, results))
    }

    fn step(
        &mut self,
        command: &ModelCommand,
        (now, steps): (u64, u32),
        place: (&Parameters, u64),
    ) -> Result<Seen, Failed> {
        let current = self.row(command.namespace, &command.key);
        let (code, revision, number) = self.decide(command, current.clone(), now, place);
        if !matches!(code, OutcomeCode::Done | OutcomeCode::Absent) {
            return Err((steps - 1, code, revision));
        }
        let previous = current
            .filter(|_| command.is_previous_wanted)
            .map(|row| row.value);
        Ok((code, revision, number, previous))
    }

    /// What a command with structure comes to.
    fn apply_structured(
        &mut self,
        structured: &ModelStructured,
        place: (&Parameters, u64),
    ) -> Answer {
        let answer = match structured {
            ModelStructured::Txn(namespace, txn) => {
                let now = self.revision(*namespace);
                let mut tried = self.clone();
                let decided = tried.txn(*namespace, txn, (now, &mut 0), place);
                self.take(*namespace, tried, decided)
            }
            ModelStructured::Commit {
                namespace,
                back,
                keys,
                ranges,
                mutations,
            } => self.commit((*namespace, *back), (keys, ranges), mutations, place),
            ModelStructured::DeleteRange(query) => self.sweep(query, place),
            ModelStructured::Compact { namespace, back } => {
                let now = self.revision(*namespace);
                let asked = (now + 1).saturating_sub(*back);
                if asked > now {
                    (OutcomeCode::FutureRevision, now, None, ModelDetail::None)
                } else {
                    let oldest = self.oldest(*namespace);
                    self.compacted.insert(*namespace, oldest.max(asked));
                    (OutcomeCode::Done, now, None, ModelDetail::None)
                }
            }
        };
        self.raise_floor(place.0, place.1);
        answer
    }

    fn take(
        &mut self,
        namespace: u32,
        tried: Model,
        decided: Result<(Branch, Vec<ModelResult>), Failed>,
    ) -> Answer {
        match decided {
            Err((step, code, revision)) => (code, revision, None, ModelDetail::FailedStep(step)),
            Ok((branch, results)) => {
                *self = tried;
                let detail = ModelDetail::Results(branch, results);
                (OutcomeCode::Done, self.revision(namespace), None, detail)
            }
        }
    }

    fn commit(
        &mut self,
        (namespace, back): (u32, u64),
        (keys, ranges): (&[Vec<u8>], &[ModelQuery]),
        mutations: &[ModelCommand],
        place: (&Parameters, u64),
    ) -> Answer {
        let (now, oldest) = (self.revision(namespace), self.oldest(namespace));
        let read = (now + 1).saturating_sub(back);
        if read > now {
            return (OutcomeCode::FutureRevision, now, None, ModelDetail::None);
        }
        if read < oldest {
            return (OutcomeCode::Compacted, oldest, None, ModelDetail::None);
        }
        let newer = |change: &&ModelChange| change.namespace == namespace && change.revision > read;
        for key in keys {
            let newest = self.changes.iter().rev().filter(newer);
            if let Some(change) = newest.clone().find(|change| change.key == *key) {
                let detail = ModelDetail::Conflict(Some(key.clone()));
                return (OutcomeCode::Conflict, change.revision, None, detail);
            }
        }
        for change in self.changes.iter().rev().filter(newer) {
            let mut ranges = ranges.iter();
            if let Some(range) = ranges.find(|range| key_range(range).contains(&change.key)) {
                let detail = ModelDetail::Conflict(Some(key_range(range).label().to_vec()));
                return (OutcomeCode::Conflict, change.revision, None, detail);
            }
        }
        let mut tried = self.clone();
        let mut results = Vec::new();
        for (steps, mutation) in (1..).zip(mutations) {
            match tried.step(mutation, (now, steps), place) {
                Ok(seen) => results.push(ModelResult::Mutation(seen)),
                Err(failed) => return self.take(namespace, tried, Err(failed)),
            }
        }
        self.take(namespace, tried, Ok((Branch::Then, results)))
    }

    fn sweep(&mut self, query: &ModelQuery, (parameters, time): (&Parameters, u64)) -> Answer {
        let namespace = query.namespace;
        let subtree_query = ModelQuery {
            scope: Scope::Subtree,
            ..query.clone()
        };
        let (range, wide) = (key_range(query), key_range(&subtree_query));
        let answering = |key: &[u8]| {
            let last = self
                .changes
                .iter()
                .rposition(|change| change.namespace == namespace && change.key == *key);
            last.is_some_and(|last| last >= self.floor)
        };
        let keys: Vec<Vec<u8>> = self
            .versions
            .keys()
            .filter(|(of, key)| *of == namespace && wide.contains(key))
            .map(|(_, key)| key.clone())
            .filter(|key| self.row(namespace, key).is_some() || answering(key))
            .collect();
        let (mut visits, mut count) = (0, 0);
        let (mut last, mut subtree) = (Vec::new(), None::<Vec<u8>>);
        let now = self.revision(namespace);
        for key in keys {
            if subtree
                .as_ref()
                .is_some_and(|subtree| key.starts_with(subtree))
            {
                continue;
            }
            if visits >= parameters.sweep_visits_max || count >= parameters.sweep_keys_max {
                let detail = ModelDetail::ResumeAfter(last);
                let revision = self.revision(namespace);
                return (OutcomeCode::Done, revision, Some(count as i64), detail);
            }
            visits += 1;
            if !range.contains(&key) {
                let Scope::Children { separator } = query.scope else {
                    panic!("every key of a subtree is in it");
                };
                let depth = query.prefix.len();
                let end = key[depth..].iter().position(|byte| *byte == separator);
                subtree = Some(key[..=depth + end.unwrap()].to_vec());
            } else if self.row(namespace, &key).is_some() {
                self.change((namespace, &key), now + 1, None, time);
                count += 1;
            }
            last = key;
        }
        let revision = self.revision(namespace);
        (
            OutcomeCode::Done,
            revision,
            Some(count as i64),
            ModelDetail::None,
        )
    }
}

// ---- What did happen ----

fn results_of(results: &TxnResults<'_>) -> (Branch, Vec<ModelResult>) {
    let results_in_order = results.iter().map(|result| match result {
        TxnResult::Mutation {
            code,
            revision,
            number,
            previous,
        } => {
            let previous = previous.map(|row| row.value.to_vec());
            ModelResult::Mutation((code, revision.0, number, previous))
        }
        TxnResult::Get(row) => ModelResult::Get(row.map(|row| model_row(&row))),
        TxnResult::Range { has_more, rows } => {
            ModelResult::Range(has_more, rows.map(|row| model_row(&row)).collect())
        }
        TxnResult::DeleteRange(count) => ModelResult::DeleteRange(count),
        TxnResult::Txn(results) => {
            let (branch, results) = results_of(&results);
            ModelResult::Txn(branch, results)
        }
    });
    (results.branch, results_in_order.collect())
}

fn answer_of(outcome: &Outcome<'_>) -> Answer {
    assert_eq!(outcome.previous, None);
    let detail = match outcome.detail {
        None => ModelDetail::None,
        Some(Detail::Txn(results)) => {
            let (branch, results) = results_of(&results);
            ModelDetail::Results(branch, results)
        }
        Some(Detail::ResumeAfter(key)) => ModelDetail::ResumeAfter(key.to_vec()),
        Some(Detail::ConflictKey(bytes) | Detail::ConflictPrefix(bytes)) => {
            ModelDetail::Conflict(Some(bytes.to_vec()))
        }
        Some(Detail::FailedStep(step)) => ModelDetail::FailedStep(step),
        Some(Detail::ShardRevisions(_)) => panic!("a shard knows only itself"),
    };
    (outcome.code, outcome.revision.0, outcome.number, detail)
}

impl Run {
    pub(super) fn apply_structured(&mut self, structured: &ModelStructured) {
        let mut structured = structured.clone();
        match &mut structured {
            ModelStructured::Txn(_, txn) => txn.resolve(&self.model),
            ModelStructured::Commit { mutations, .. } => {
                for mutation in mutations {
                    resolve(mutation, &self.model);
                }
            }
            ModelStructured::DeleteRange(_) | ModelStructured::Compact { .. } => {}
        }
        let (namespace, what) = self.encodable(&structured);
        let value = what.encode();
        let Some(key) = what.first_named().or(Some(b"k")) else {
            panic!("there is always a key");
        };
        let command = Command::structured(what.kind(), NamespaceId(namespace), key, &value);
        let mut bytes = Vec::new();
        command.encode_into(&mut bytes);
        let limits = crate::command::CommandLimits::default();
        assert_eq!(
            Command::check_only(&bytes, &limits),
            Ok(command),
            "{what:?}"
        );
        assert_eq!(Structured::of(&command), Ok(Some(what)));

        let sealed = sealed(&[command], self.shard.time);
        let batch = Batch::decode(&sealed).unwrap();
        let (mut seen, mut both) = (None, [Vec::new(), Vec::new()]);
        let on_outcome = &mut |outcome: Outcome<'_>| {
            outcome.encode_into(&mut both[0]);
            let decoded = Outcome::decode(&both[0]).unwrap();
            assert_eq!(decoded, (outcome, both[0].len()));
            seen = Some(answer_of(&outcome));
        };
        self.shard.machine.apply(&batch, on_outcome).unwrap();
        self.other
            .apply(&batch, &mut |outcome| outcome.encode_into(&mut both[1]))
            .unwrap();
        assert_eq!(both[0], both[1], "replicas answer alike");
        let place = (&self.parameters, self.shard.time.0);
        let expected = self.model.apply_structured(&structured, place);
        assert_eq!(seen, Some(expected), "{structured:?}");
        self.check_numbers();
    }

    fn encodable<'a>(&self, structured: &'a ModelStructured) -> (u32, Structured<'a>) {
        match structured {
            ModelStructured::Txn(namespace, txn) => (*namespace, Structured::Txn(txn.txn(self))),
            ModelStructured::Commit {
                namespace,
                back,
                keys,
                ranges,
                mutations,
            } => {
                let now = self.model.revision(*namespace);
                let commit = Commit {
                    read_revision: Revision((now + 1).saturating_sub(*back)),
                    read_keys: keys.iter().map(Vec::as_slice).collect(),
                    read_ranges: ranges.iter().map(key_range).collect(),
                    mutations: mutations
                        .iter()
                        .map(|command| self.command(command))
                        .collect(),
                };
                (*namespace, Structured::Commit(commit))
            }
            ModelStructured::DeleteRange(query) => {
                (query.namespace, Structured::DeleteRange(key_range(query)))
            }
            ModelStructured::Compact { namespace, back } => {
                let now = self.model.revision(*namespace);
                let revision = Revision((now + 1).saturating_sub(*back));
                (*namespace, Structured::Compact(revision))
            }
        }
    }
}
