//! Which change took which revision.

use std::collections::{BTreeMap, VecDeque};

use metastore_statemachine::{Command, Revision};

use super::NotLinearizable;
use super::operation::{End, NoChange, Operation, Standing};
use crate::oracle::Model;

/// The committed commands of a shard, in their order: the order of events that the store says it had.
#[derive(Clone, Debug, Default)]
pub struct ShardLog(pub Vec<Vec<u8>>);

/// An operation with what is needed of it again and again.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    pub(super) operation: &'a Operation,
    /// The bytes of its command, if it is one.
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) standing: Standing,
}

/// The operation that took each revision, by its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) by_revision: BTreeMap<Revision, usize>,
}

impl ShardLog {
    /// The command that took each revision.
    pub(super) fn changes(&self) -> BTreeMap<Revision, &[u8]> {
        let mut model = Model::default();
        let mut changes = BTreeMap::new();
        for bytes in &self.0 {
            let before = model.revision();
            let (command, _) = Command::decode(bytes).expect("a log holds commands");
            model.apply(&command);
            if model.revision() > before {
                changes.insert(model.revision(), bytes.as_slice());
            }
        }
        changes
    }
}

impl<'a> Prepared<'a> {
    pub(super) fn new(operation: &'a Operation) -> Prepared<'a> {
        Prepared {
            operation,
            bytes: operation.encoded(),
            standing: operation.standing(),
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.operation.end == End::Unknown
    }

    /// Its command.
    pub(super) fn command(&self) -> Command<'_> {
        let bytes = self.bytes.as_ref().expect("it is a command");
        Command::decode(bytes).expect("clients send commands").0
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        format!("{:?}", self.operation)
    }

    /// The revision of the shard at which it looked, given that it took none.
    pub(super) fn looked_at(&self) -> Option<Revision> {
        match self.standing {
            Standing::Look(revision) | Standing::ChangeOr(revision, NoChange::OfShard) => {
                Some(revision)
            }
            Standing::Change(_)
            | Standing::ChangeOr(_, NoChange::OfKey)
            | Standing::Float
            | Standing::Unknown => None,
        }
    }
}

impl Claims {
    /// The changes that are told by their answers alone, for certain.
    pub(super) fn alone(prepared: &[Prepared<'_>]) -> Result<Claims, NotLinearizable> {
        let mut claims = Claims::default();
        for (number, operation) in prepared.iter().enumerate() {
            if let Standing::Change(revision) = operation.standing {
                claims.claim(revision, (number, operation))?;
            }
        }
        Ok(claims)
    }

    /// Those that may have taken a revision which nobody took for certain: what may have changed nothing has changed
    /// something if nothing else did.
    pub(super) fn candidates(&self, prepared: &[Prepared<'_>]) -> BTreeMap<Revision, Vec<usize>> {
        let mut candidates: BTreeMap<Revision, Vec<usize>> = BTreeMap::new();
        for (number, operation) in prepared.iter().enumerate() {
            if let Standing::ChangeOr(revision @ Revision(1..), _) = operation.standing
                && !self.by_revision.contains_key(&revision)
            {
                candidates.entry(revision).or_default().push(number);
            }
        }
        candidates
    }

    /// With the first candidate for each revision.
    pub(super) fn with_first(mut self, candidates: &BTreeMap<Revision, Vec<usize>>) -> Claims {
        let firsts = candidates
            .iter()
            .map(|(&revision, some)| (revision, some[0]));
        self.by_revision.extend(firsts);
        self
    }

    /// With every choice among the candidates in turn, that of none at all included: then something of unknown outcome
    /// took the revision. The first ones come first.
    pub(super) fn with_each(
        &self,
        candidates: &BTreeMap<Revision, Vec<usize>>,
    ) -> impl Iterator<Item = Claims> {
        let counts = candidates.values().map(|some| some.len() + 1);
        let choices: usize = counts.fold(1, usize::saturating_mul);
        (0..choices).map(move |mut choice| {
            let mut claims = self.clone();
            for (&revision, some) in candidates {
                let chosen = some.get(choice % (some.len() + 1));
                choice /= some.len() + 1;
                let chosen = chosen.map(|&number| (revision, number));
                claims.by_revision.extend(chosen);
            }
            claims
        })
    }

    /// The answered changes, each of which must stand in the log at the revision of its answer.
    pub(super) fn along(
        changes: &BTreeMap<Revision, &[u8]>,
        prepared: &[Prepared<'_>],
    ) -> Result<Claims, NotLinearizable> {
        let mut claims = Claims::default();
        for (number, operation) in prepared.iter().enumerate() {
            let (revision, must_be) = match operation.standing {
                Standing::Change(revision) => (revision, true),
                Standing::ChangeOr(revision, _) => (revision, false),
                Standing::Look(_) | Standing::Float | Standing::Unknown => continue,
            };
            let is_there = changes.get(&revision).copied() == operation.bytes.as_deref();
            if is_there {
                claims.claim(revision, (number, operation))?;
            } else if must_be {
                // That two answers name one revision says more.
                claims.claim(revision, (number, operation))?;
                return Err(NotLinearizable::NotInLog {
                    revision,
                    what: operation.describe(),
                });
            }
        }
        Ok(claims)
    }

    fn claim(
        &mut self,
        revision: Revision,
        (number, operation): (usize, &Prepared<'_>),
    ) -> Result<(), NotLinearizable> {
        if revision == Revision(0) {
            return Err(NotLinearizable::ZeroRevision {
                what: operation.describe(),
            });
        }
        match self.by_revision.insert(revision, number) {
            None => Ok(()),
            Some(_) => Err(NotLinearizable::SameRevision { revision }),
        }
    }

    /// With every change of the log that nobody was told of: it must be one of unknown outcome. Of several that are alike
    /// the earliest is taken, because nothing keeps it from having been done that would not keep a later one.
    pub(super) fn place_unknown(
        mut self,
        changes: &BTreeMap<Revision, &[u8]>,
        prepared: &[Prepared<'_>],
    ) -> Result<Claims, NotLinearizable> {
        let mut unknown: BTreeMap<&[u8], VecDeque<usize>> = BTreeMap::new();
        let mut by_time: Vec<usize> = (0..prepared.len()).collect();
        by_time.retain(|&number| prepared[number].is_unknown());
        by_time.sort_by_key(|&number| prepared[number].operation.sent);
        for number in by_time {
            let bytes = prepared[number].bytes.as_deref();
            let bytes = bytes.expect("only commands may have been done");
            unknown.entry(bytes).or_default().push_back(number);
        }
        for (&revision, &bytes) in changes {
            if self.by_revision.contains_key(&revision) {
                continue;
            }
            let number = unknown.get_mut(bytes).and_then(VecDeque::pop_front);
            let Some(number) = number else {
                let (command, _) = Command::decode(bytes).expect("a log holds commands");
                return Err(NotLinearizable::Invented {
                    revision,
                    what: format!("{command:?}"),
                });
            };
            self.by_revision.insert(revision, number);
        }
        Ok(self)
    }
}
