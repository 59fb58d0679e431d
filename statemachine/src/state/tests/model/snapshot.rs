//! What is loaded must be what was exported, now and for every later input.

use super::super::snapshot::{WHOLE, apply, assert_same, export_all, export_some, import};
use super::input::command;
use super::*;

/// A batch as it stands in the log.
#[derive(Clone, Debug)]
struct Input {
    commands: Vec<ModelCommand>,
    elapsed_ms: u64,
}

/// What is done to the exported state between two slices.
#[derive(Clone, Debug)]
enum Between {
    Apply(Input),
    Reclaim(usize),
    Nothing,
}

fn input() -> impl Strategy<Value = Input> {
    (prop::collection::vec(command(), 1..12), 0_u64..50).prop_map(|(commands, elapsed_ms)| Input {
        commands,
        elapsed_ms,
    })
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        3 => input().prop_map(Between::Apply),
        1 => (0_usize..30).prop_map(Between::Reclaim),
        1 => Just(Between::Nothing),
    ]
}

fn slice_limit() -> impl Strategy<Value = SliceLimit> {
    (1_u64..6, 1_u64..300, 1_u64..8).prop_map(|(rows, bytes, visits)| SliceLimit {
        rows,
        bytes,
        visits,
    })
}

impl Shard {
    /// The batch of an input, with the revisions that its conditions ask for taken from the state.
    fn batch(&mut self, input: &Input) -> Vec<u8> {
        self.time.0 += input.elapsed_ms;
        let mut builder = BatchBuilder::new();
        for model in &input.commands {
            let namespace = NamespaceId(model.namespace);
            let mut command = Command {
                kind: model.kind,
                ..Command::put(namespace, &model.key, &model.value)
            };
            match model.condition {
                Condition::None | Condition::Revision(_) => {}
                Condition::Absent => command = command.with_if_absent(),
                Condition::RevisionOff(off) => {
                    let query = GetQuery {
                        namespace,
                        key: &model.key,
                        at: None,
                    };
                    let row = self.machine.get(&query).unwrap();
                    let revision = row.map_or(0, |row| row.mod_revision.0) + off;
                    command = command.with_expected_revision(Revision(revision));
                }
            }
            if model.is_previous_wanted {
                command = command.with_return_previous();
            }
            let mut bytes = Vec::new();
            command.encode_into(&mut bytes);
            builder.push(&bytes);
        }
        builder.seal(self.time, 1)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_loaded_is_what_was_exported_for_ever(
        parameters in parameters(),
        before in prop::collection::vec(input(), 0..30),
        meanwhile in prop::collection::vec(between(), 0..30),
        later in prop::collection::vec(input(), 0..20),
        slice in slice_limit(),
        cut_bytes in 1_usize..100,
    ) {
        let mut shard = Shard::with(parameters);
        for input in &before {
            let batch = shard.batch(input);
            apply(&mut shard.machine, &batch);
        }
        let at_once = export_all(&mut shard.machine, WHOLE);
        let mut copy = import(&at_once, usize::MAX).unwrap();
        prop_assert_eq!(&export_all(&mut copy, slice), &at_once);
        assert_same(&mut shard.machine, &mut copy);

        let mut export = shard.machine.begin_export();
        let mut sections = Vec::new();
        let mut log = Vec::new();
        let mut meanwhile = meanwhile.iter();
        while export_some(&mut shard.machine, &mut export, slice, &mut sections) {
            match meanwhile.next() {
                Some(Between::Apply(input)) => {
                    let batch = shard.batch(input);
                    let outcomes = apply(&mut shard.machine, &batch);
                    log.push((batch, outcomes));
                }
                Some(Between::Reclaim(entries)) => {
                    shard.machine.reclaim(*entries);
                }
                Some(Between::Nothing) | None => {}
            }
        }
        shard.machine.end_export(export);
        prop_assert_eq!(&sections, &at_once);

        let mut loaded = import(&sections, cut_bytes).unwrap();
        for (batch, outcomes) in &log {
            prop_assert_eq!(&apply(&mut loaded, batch), outcomes);
        }
        assert_same(&mut shard.machine, &mut loaded);
        for input in &later {
            let batch = shard.batch(input);
            let outcomes = apply(&mut shard.machine, &batch);
            prop_assert_eq!(apply(&mut loaded, &batch), outcomes);
            prop_assert_eq!(loaded.state_hash(), shard.machine.state_hash());
        }
        assert_same(&mut shard.machine, &mut loaded);
    }
}
