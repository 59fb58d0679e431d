//! What clients ask for: few keys, so that they meet, and every value different, so that each can be told from all others.

mod cluster;
mod compound;

use std::collections::BTreeMap;

use metastore_statemachine::{CommandKind, Direction, Revision, Scope};

use crate::operation::{Condition, Mutation, Operation, PreviousRow, RangeOf};
use crate::random::Random;

/// What a client knows of keys: the newest revision it saw of each. Under the name of a directory stands the newest
/// revision at which a key of it was read.
pub type Known = BTreeMap<Vec<u8>, Revision>;

/// Directories, and so routing parts, unless others are named.
const DIRECTORIES: u64 = 8;
/// Keys of each kind in a directory.
const KEYS: u64 = 4;

/// What a key is used for. It is part of the key, so that what may be found there is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Puts and deletes, conditional or not.
    Plain,
    /// Additions alone.
    Sum,
    /// Every command on counters, and deletes.
    Counter,
    /// Appends, puts and deletes.
    Text,
}

/// How long values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueSizes {
    /// How many in a thousand are long.
    pub long_per_mille: u64,
    /// How long those are at most.
    pub long_bytes_max: u64,
}

/// A key up to and including its last separator.
#[must_use]
pub fn directory_of(key: &[u8]) -> &[u8] {
    let separator = key.iter().rposition(|&byte| byte == b'/');
    &key[..separator.map_or(0, |at| at + 1)]
}

/// Every key of a directory that clients write.
pub fn keys_of(directory: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    ["plain", "sum", "counter", "text"]
        .into_iter()
        .flat_map(move |name| {
            (0..KEYS).map(move |number| {
                let mut key = directory.to_vec();
                key.extend_from_slice(format!("{name}-{number}").as_bytes());
                key
            })
        })
}

/// The length of all others at most.
const SHORT_BYTES_MAX: u64 = 100;

/// Draws operations.
#[derive(Debug)]
pub struct Workload {
    random: Random,
    next_value: u64,
    values: ValueSizes,
    directories: Vec<Vec<u8>>,
}

impl Workload {
    /// A workload of its own stream of chance.
    #[must_use]
    pub fn new(random: Random, values: ValueSizes) -> Workload {
        Workload {
            random,
            next_value: 0,
            values,
            directories: (0..DIRECTORIES)
                .map(|number| format!("/d{number}/").into_bytes())
                .collect(),
        }
    }

    /// Its keys lie in these directories.
    #[must_use]
    pub fn with_directories(mut self, directories: Vec<Vec<u8>>) -> Workload {
        assert!(!directories.is_empty(), "keys lie in directories");
        self.directories = directories;
        self
    }

    /// Numbers its values from here on, so that several workloads together still draw none twice.
    #[must_use]
    pub fn with_first_value(mut self, first: u64) -> Workload {
        self.next_value = first;
        self
    }

    /// What a client asks for next.
    pub fn draw(&mut self, known: &Known) -> Operation {
        #[derive(Clone, Copy)]
        enum Choice {
            Mutate,
            Compound,
            Batch,
            Get,
            GetMany,
            Range,
            Status,
        }
        let choice = self.random.weighted(&[
            (48, Choice::Mutate),
            (12, Choice::Compound),
            (8, Choice::Batch),
            (20, Choice::Get),
            (5, Choice::GetMany),
            (6, Choice::Range),
            (1, Choice::Status),
        ]);
        match choice {
            Choice::Mutate => Operation::Mutate(self.draw_mutation(known)),
            Choice::Compound => Operation::Compound(self.draw_compound(known)),
            Choice::Batch => {
                let count = self.random.between(1, 12);
                Operation::Batch((0..count).map(|_| self.draw_mutation(known)).collect())
            }
            Choice::Get => {
                let (key, _) = self.draw_key();
                let at = known.get(&key).copied().filter(|_| self.random.chance(200));
                Operation::Get { key, at }
            }
            Choice::GetMany => {
                let directory = self.draw_directory();
                let count = self.random.between(1, 5);
                let keys = (0..count).map(|_| self.draw_key_in(&directory).0).collect();
                Operation::GetMany { keys, at: None }
            }
            Choice::Range => Operation::Range(self.draw_range()),
            Choice::Status => Operation::Status,
        }
    }

    /// A put that nothing keeps from being done.
    pub fn draw_put(&mut self) -> Mutation {
        let (key, _) = self.draw_key();
        self.draw_put_in(directory_of(&key))
    }

    /// As [`Workload::draw_put`], in this directory.
    pub fn draw_put_in(&mut self, directory: &[u8]) -> Mutation {
        Mutation {
            kind: CommandKind::Put,
            key: [directory, b"plain-0"].concat(),
            value: self.draw_value(CommandKind::Put),
            condition: Condition::Always,
            previous: PreviousRow::NotWanted,
        }
    }

    fn draw_range(&mut self) -> RangeOf {
        let directory = self.draw_directory();
        let (prefix, scope) = self.random.weighted(&[
            (3, (0, Scope::Children { separator: b'/' })),
            (2, (1, Scope::Subtree)),
            (1, (2, Scope::Subtree)),
        ]);
        let prefix = match prefix {
            0 => directory,
            1 => Vec::new(),
            _ => directory[..2].to_vec(),
        };
        let direction = self
            .random
            .weighted(&[(2, Direction::Forward), (1, Direction::Reverse)]);
        let limit = if self.random.chance(300) {
            self.random.between(1, 30)
        } else {
            0
        };
        RangeOf {
            prefix,
            scope,
            delimiter: None,
            at: None,
            direction,
            limit,
            chunk_bytes: 4096,
        }
    }

    fn draw_directory(&mut self) -> Vec<u8> {
        self.directories[self.random.index(self.directories.len())].clone()
    }

    fn draw_key(&mut self) -> (Vec<u8>, KeyUse) {
        let directory = self.draw_directory();
        self.draw_key_in(&directory)
    }

    fn draw_key_in(&mut self, directory: &[u8]) -> (Vec<u8>, KeyUse) {
        let (name, usage) = self.random.weighted(&[
            (4, ("plain", KeyUse::Plain)),
            (1, ("sum", KeyUse::Sum)),
            (1, ("counter", KeyUse::Counter)),
            (1, ("text", KeyUse::Text)),
        ]);
        let number = self.random.below(KEYS);
        let name = format!("{name}-{number}");
        ([directory, name.as_bytes()].concat(), usage)
    }

    fn draw_mutation(&mut self, known: &Known) -> Mutation {
        let directory = self.draw_directory();
        self.draw_mutation_in(&directory, known)
    }

    fn draw_mutation_in(&mut self, directory: &[u8], known: &Known) -> Mutation {
        let (key, usage) = self.draw_key_in(directory);
        let kind = match usage {
            KeyUse::Plain => self
                .random
                .weighted(&[(4, CommandKind::Put), (1, CommandKind::Delete)]),
            KeyUse::Sum => CommandKind::AddI64,
            KeyUse::Counter => self.random.weighted(&[
                (4, CommandKind::AddI64),
                (1, CommandKind::MaxI64),
                (1, CommandKind::MinI64),
                (1, CommandKind::Delete),
            ]),
            KeyUse::Text => self.random.weighted(&[
                (4, CommandKind::Append),
                (1, CommandKind::Put),
                (1, CommandKind::Delete),
            ]),
        };
        let expected = known.get(&key).copied().unwrap_or_default();
        let condition = self.random.weighted(&[
            (5, Condition::Always),
            (1, Condition::IfAbsent),
            (2, Condition::IfRevision(expected)),
        ]);
        // A sum is what was added, so nothing may keep an addition from taking place.
        let condition = match (usage, kind, condition) {
            (KeyUse::Sum, ..) | (_, CommandKind::Delete, Condition::IfAbsent) => Condition::Always,
            _ => condition,
        };
        let previous = self
            .random
            .weighted(&[(1, PreviousRow::Wanted), (2, PreviousRow::NotWanted)]);
        Mutation {
            value: self.draw_value(kind),
            kind,
            key,
            condition,
            previous,
        }
    }

    /// A value that was never drawn before.
    fn draw_value(&mut self, kind: CommandKind) -> Vec<u8> {
        self.next_value += 1;
        let number = self.next_value;
        match kind {
            CommandKind::DeleteRange
            | CommandKind::Txn
            | CommandKind::Commit
            | CommandKind::Compact => {
                unreachable!("a mutation is about one key")
            }
            CommandKind::Delete => Vec::new(),
            CommandKind::AddI64 | CommandKind::MaxI64 | CommandKind::MinI64 => {
                let operand = i64::try_from(number).expect("a run is short");
                operand.to_le_bytes().to_vec()
            }
            CommandKind::Append => format!("{number};").into_bytes(),
            CommandKind::Put => {
                let mut value = number.to_le_bytes().to_vec();
                let bytes_max = if self.random.chance(self.values.long_per_mille) {
                    self.values.long_bytes_max
                } else {
                    SHORT_BYTES_MAX
                };
                let filler = usize::try_from(self.random.below(bytes_max)).expect("a value");
                // Half of it compresses, so that both codecs are met.
                let filler_start = value.len();
                value.resize(filler_start + filler, b'.');
                let noise = filler_start + filler / 2;
                self.random.fill(&mut value[noise..]);
                value
            }
        }
    }
}
