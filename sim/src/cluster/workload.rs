//! What clients of a cluster ask for: few keys, so that they meet, every value another, and only what the check of
//! linearizability knows the meaning of.

use std::collections::BTreeMap;

use metastore_engine::{ShardId, ShardMap};
use metastore_statemachine::{CommandKind, Revision};

use super::shape::shard_of;
use crate::checkers::linearizability::Action;
use crate::operation::{Condition, Mutation, PreviousRow};
use crate::random::Random;

/// The newest revision that a client saw of each key.
pub(super) type Known = BTreeMap<Vec<u8>, Revision>;

/// Directories, and so routing parts, of each shard.
const DIRECTORIES_PER_SHARD: usize = 2;
/// Keys of each kind in a directory.
const KEYS: u64 = 3;
const VALUE_BYTES_MAX: u64 = 300;

/// Draws operations.
#[derive(Debug)]
pub(super) struct Workload {
    random: Random,
    next_value: u64,
    /// Directories with their shards.
    directories: Vec<(ShardId, String)>,
}

impl Workload {
    /// A workload over all shards.
    pub(super) fn new(random: Random, map: &ShardMap) -> Workload {
        let mut directories = Vec::new();
        for shard in map.shards() {
            let here = (0..).map(|number: u64| format!("/d{number}/"));
            let here = here.filter(|name| shard_of(map, name.as_bytes()) == shard.shard);
            let named = here.map(|name| (shard.shard, name));
            directories.extend(named.take(DIRECTORIES_PER_SHARD));
        }
        Workload {
            random,
            next_value: 0,
            directories,
        }
    }

    /// Every key there may be, by shard.
    pub(super) fn keys(&self) -> BTreeMap<ShardId, Vec<Vec<u8>>> {
        let mut keys: BTreeMap<ShardId, Vec<Vec<u8>>> = BTreeMap::new();
        for (shard, directory) in &self.directories {
            for name in ["plain", "sum", "text"] {
                let numbered = (0..KEYS).map(|number| key(directory, name, number));
                keys.entry(*shard).or_default().extend(numbered);
            }
        }
        keys
    }

    /// What a client asks for next, and of which shard.
    pub(super) fn draw(&mut self, known: &Known) -> (ShardId, Action) {
        let (shard, directory) =
            self.directories[self.random.index(self.directories.len())].clone();
        let action = match self.random.weighted(&[(7, 'm'), (3, 'g'), (1, 's')]) {
            'm' => Action::Mutate(self.draw_mutation(&directory, known)),
            'g' => Action::Read(vec![self.draw_key(&directory).1]),
            _ => {
                let count = self.random.between(2, 5);
                let mut keys: Vec<Vec<u8>> =
                    (0..count).map(|_| self.draw_key(&directory).1).collect();
                keys.sort_unstable();
                keys.dedup();
                Action::Read(keys)
            }
        };
        (shard, action)
    }

    /// A put to a shard that nothing keeps from being done.
    pub(super) fn draw_put(&mut self, shard: ShardId) -> Action {
        let here = self.directories.iter().find(|(other, _)| *other == shard);
        let (_, directory) = here.expect("every shard has directories");
        let key = key(directory, "plain", 0);
        Action::Mutate(Mutation {
            kind: CommandKind::Put,
            key,
            value: self.draw_value(CommandKind::Put),
            condition: Condition::Always,
            previous: PreviousRow::NotWanted,
        })
    }

    fn draw_key(&mut self, directory: &str) -> (&'static str, Vec<u8>) {
        let name = self
            .random
            .weighted(&[(3, "plain"), (1, "sum"), (1, "text")]);
        let number = self.random.below(KEYS);
        (name, key(directory, name, number))
    }

    fn draw_mutation(&mut self, directory: &str, known: &Known) -> Mutation {
        let (name, key) = self.draw_key(directory);
        let kind = match name {
            "sum" => CommandKind::AddI64,
            "text" => self.random.weighted(&[
                (5, CommandKind::Append),
                (1, CommandKind::Put),
                (1, CommandKind::Delete),
            ]),
            _ => self
                .random
                .weighted(&[(5, CommandKind::Put), (1, CommandKind::Delete)]),
        };
        let expected = known.get(&key).copied().unwrap_or_default();
        let condition = self.random.weighted(&[
            (5, Condition::Always),
            (1, Condition::IfAbsent),
            (2, Condition::IfRevision(expected)),
        ]);
        let condition = match (kind, condition) {
            (CommandKind::Delete, Condition::IfAbsent) => Condition::Always,
            _ => condition,
        };
        Mutation {
            value: self.draw_value(kind),
            kind,
            key,
            condition,
            previous: PreviousRow::NotWanted,
        }
    }

    /// A value that was never drawn before.
    fn draw_value(&mut self, kind: CommandKind) -> Vec<u8> {
        self.next_value += 1;
        let number = self.next_value;
        if kind == CommandKind::AddI64 {
            let operand = i64::try_from(number).expect("a run is short");
            return operand.to_le_bytes().to_vec();
        }
        if kind == CommandKind::Append {
            return format!("{number};").into_bytes();
        }
        if kind == CommandKind::Delete {
            return Vec::new();
        }
        let mut value = number.to_le_bytes().to_vec();
        let filler = self.random.below(VALUE_BYTES_MAX);
        value.resize(8 + usize::try_from(filler).expect("a short value"), b'.');
        value
    }
}

fn key(directory: &str, name: &str, number: u64) -> Vec<u8> {
    format!("{directory}{name}-{number}").into_bytes()
}
