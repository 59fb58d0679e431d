//! Comparing a tree with the store.
//!
//! The tree is walked anew. Every entry is read back by its key, every directory is listed, and at the end every key
//! below the top is listed once, so that keys of which no directory knows are found too. Whatever is not right at first
//! is looked at a second time, in the tree and in the store, and only the second look counts: a file that came or went
//! in between is no difference if both agree on it now.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::path::Path;

use metastore_net::RequestId;
use metastore_net::blocking::Client;

use super::difference::{Difference, ListDifference, Verdict, compare, compare_lists, judge};
use super::keys::Keys;
use super::patience::Patience;
use super::question::{Answer, Look, Question, group};
use super::report::Report;
use super::walk::{Listing, Sight};
use super::{Tree, TreeError};
use crate::commands::{CommandError, Exit};

/// Questions without an answer.
const QUESTIONS_IN_FLIGHT: usize = 16;

/// Compares; the report ends with the number of differences.
pub(super) fn run(
    client: &mut Client,
    tree: Tree,
    patience: Patience,
    report: Report<'_>,
) -> Result<Exit, CommandError> {
    let mut walk = tree.walk;
    let mut comparison = Comparison {
        client,
        keys: &tree.keys,
        patience,
        report,
        waiting: VecDeque::new(),
        asked: Vec::new(),
        seen: SeenKeys::default(),
    };
    let root = Look::new(&tree.keys, tree.root.clone(), Sight::Seen(tree.attributes));
    comparison.look(vec![root])?;
    for listing in walk.by_ref() {
        comparison.listing(listing)?;
        comparison.report.progress();
    }
    comparison.finish()?;
    comparison.ask(Question::Subtree {
        root: tree.root,
        start: Vec::new(),
    })?;
    comparison.finish()?;
    comparison.report.finish(walk.mounts_passed)
}

struct Comparison<'c, 'o> {
    client: &'c mut Client,
    keys: &'c Keys,
    patience: Patience,
    report: Report<'o>,
    waiting: VecDeque<Question>,
    asked: Vec<(RequestId, Question)>,
    seen: SeenKeys,
}

/// Which keys have been dealt with. A hash of each is enough: that a stray key has the hash of another one is less
/// likely than that the machine errs.
#[derive(Default)]
struct SeenKeys {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl SeenKeys {
    /// Takes note of a key; false if it was known.
    fn insert(&mut self, key: &[u8]) -> bool {
        self.hashes.insert(self.hasher.hash_one(key))
    }
}

impl Comparison<'_, '_> {
    // The tree.

    fn listing(&mut self, listing: Listing) -> Result<(), CommandError> {
        self.report.directories += 1;
        if let Some(fault) = listing.fault {
            self.unlisted_directory(&listing.path, Sight::from(fault))?;
        }
        let look = |path, sight| Look::new(self.keys, path, sight);
        let entries = listing.entries.into_iter();
        let looks: Vec<Look> = entries.map(|entry| look(entry.path, entry.sight)).collect();
        let is_expected =
            |look: &&Look| !matches!(look.first, Sight::Absent) && !self.is_too_long(&look.key);
        let expected = looks.iter().filter(is_expected);
        let expected = expected.map(|look| look.key.clone()).collect();
        self.look(looks)?;
        if self.is_too_long(&self.keys.key(&listing.path)) {
            return Ok(());
        }
        self.ask(Question::Children {
            directory: listing.path,
            expected,
            found: Vec::new(),
        })
    }

    /// A directory that went away is looked at again; one that cannot be read cannot be compared.
    fn unlisted_directory(&mut self, path: &Path, sight: Sight) -> Result<(), CommandError> {
        match compare(&sight, None) {
            Some(unreadable) => self.report.verdict(path, &Verdict::Differs(unreadable)),
            None => {
                self.look_again(vec![Look::new(self.keys, path.to_owned(), sight)]);
                Ok(())
            }
        }
    }

    /// Reads entries back for the first time.
    fn look(&mut self, looks: Vec<Look>) -> Result<(), CommandError> {
        for look in &looks {
            self.seen.insert(&look.key);
        }
        let (too_long, looks): (Vec<Look>, Vec<Look>) = looks
            .into_iter()
            .partition(|look| self.is_too_long(&look.key));
        for look in too_long {
            // The store cannot have it.
            if let Some(difference) = compare(&Sight::of(&look.path), None) {
                self.report
                    .verdict(&look.path, &Verdict::Differs(difference))?;
            }
        }
        for looks in group(looks, &self.client.server().limits) {
            self.ask(Question::Values(looks))?;
        }
        Ok(())
    }

    /// Looks at entries that were not right at first.
    fn look_again(&mut self, mut looks: Vec<Look>) {
        for look in &mut looks {
            look.second = Some(Sight::of_key(&look.path));
        }
        let groups = group(looks, &self.client.server().limits);
        self.waiting
            .extend(groups.into_iter().map(Question::Values));
    }

    fn is_too_long(&self, key: &[u8]) -> bool {
        key.len() > self.client.server().limits.key_bytes as usize
    }

    // The store.

    /// Asks, and everything that waits as well, so that second looks do not pile up.
    fn ask(&mut self, question: Question) -> Result<(), CommandError> {
        self.waiting.push_back(question);
        while !self.waiting.is_empty() {
            self.send();
            if self.asked.len() >= QUESTIONS_IN_FLIGHT {
                self.receive()?;
            }
        }
        Ok(())
    }

    /// Waits until nothing is left to ask.
    fn finish(&mut self) -> Result<(), CommandError> {
        self.send();
        while !self.asked.is_empty() {
            self.receive()?;
            self.send();
        }
        Ok(())
    }

    fn send(&mut self) {
        while self.asked.len() < QUESTIONS_IN_FLIGHT
            && let Some(question) = self.waiting.pop_front()
        {
            let keys = self.keys;
            let id = self
                .client
                .submit(|connection| question.send(keys, connection));
            self.asked.push((id, question));
        }
    }

    fn receive(&mut self) -> Result<(), CommandError> {
        let mut answers = Vec::new();
        self.client
            .next_responses(|id, response| answers.push((id, Answer::new(response))))?;
        for (id, answer) in answers {
            let position = self.asked.iter().position(|(asked, _)| *asked == id);
            let position = position.expect("the connection answers only what was asked");
            let (_, mut question) = self.asked.swap_remove(position);
            if let Answer::Keys(keys) = answer {
                self.on_keys(&mut question, keys);
                self.asked.push((id, question));
            } else {
                self.on_answer(question, answer)?;
            }
        }
        self.report.progress();
        Ok(())
    }

    // Answers.

    fn on_answer(&mut self, mut question: Question, answer: Answer) -> Result<(), CommandError> {
        match answer {
            Answer::Refused(error) => {
                if !self.patience.wait(&error) {
                    let key = question.key(self.keys);
                    return Err(TreeError::NotReadBack { key, error }.into());
                }
                self.waiting.push_back(question.again());
                return Ok(());
            }
            Answer::Values(values) => self.on_values(question, values)?,
            Answer::Keys(keys) | Answer::LastKeys(keys) => {
                self.on_keys(&mut question, keys);
                self.on_last_key(question);
            }
        }
        self.patience.on_success();
        Ok(())
    }

    fn on_values(
        &mut self,
        question: Question,
        values: Vec<Option<Vec<u8>>>,
    ) -> Result<(), CommandError> {
        match question {
            Question::Values(looks) => {
                assert_eq!(looks.len(), values.len(), "a value or none for each key");
                self.on_looks(looks, values)
            }
            Question::IsStored { path } => {
                let is_stored = values.iter().any(Option::is_some);
                if is_stored {
                    let verdict = Verdict::Differs(Difference::NotListed);
                    self.report.verdict(&path, &verdict)?;
                } else {
                    // It may have been there when it was read back, and have gone since.
                    let sight = Sight::of_key(&path);
                    self.look_again(vec![Look::new(self.keys, path, sight)]);
                }
                Ok(())
            }
            Question::Children { .. } | Question::IsListed { .. } | Question::Subtree { .. } => {
                unreachable!("ranges have no values")
            }
        }
    }

    fn on_looks(
        &mut self,
        looks: Vec<Look>,
        values: Vec<Option<Vec<u8>>>,
    ) -> Result<(), CommandError> {
        let mut again = Vec::new();
        for (look, value) in looks.into_iter().zip(values) {
            let stored = value.as_deref();
            if let Some(second) = &look.second {
                let verdict = judge(&look.first, second, stored);
                self.report.verdict(&look.path, &verdict)?;
                continue;
            }
            let amount = &mut self.report.amount;
            amount.entries += 1;
            amount.bytes += (look.key.len() + stored.map_or(0, <[u8]>::len)) as u64;
            // Gone before it could be looked at is worth a second look even if the store agrees: it may be back.
            let is_right = compare(&look.first, stored).is_none();
            if !is_right || matches!(look.first, Sight::Absent) {
                again.push(look);
            }
        }
        self.look_again(again);
        Ok(())
    }

    fn on_keys(&mut self, question: &mut Question, keys: Vec<Vec<u8>>) {
        match question {
            Question::Children { found, .. } => found.extend(keys),
            Question::IsListed { path, is_found } => {
                let key = self.keys.key(path);
                *is_found |= keys.contains(&key);
            }
            Question::Subtree { start, .. } => {
                if let Some(last) = keys.last() {
                    *start = [&last[..], &[0]].concat();
                }
                let stray = keys
                    .into_iter()
                    .filter(|key| self.seen.insert(key))
                    .collect();
                self.look_at_strays(stray);
            }
            Question::Values(_) | Question::IsStored { .. } => {
                unreachable!("only ranges have keys")
            }
        }
    }

    fn on_last_key(&mut self, question: Question) {
        match question {
            Question::Children {
                directory,
                expected,
                found,
            } => self.on_list(&directory, expected, found),
            Question::IsListed { is_found: true, .. } | Question::Subtree { .. } => {}
            Question::IsListed { path, .. } => {
                self.waiting.push_back(Question::IsStored { path });
            }
            Question::Values(_) | Question::IsStored { .. } => {
                unreachable!("only ranges have keys")
            }
        }
    }

    fn on_list(&mut self, directory: &Path, expected: Vec<Vec<u8>>, found: Vec<Vec<u8>>) {
        let ListDifference { unlisted, stray } = compare_lists(expected, found);
        for key in unlisted {
            let path = self.keys.path(&key);
            let is_found = false;
            self.waiting
                .push_back(Question::IsListed { path, is_found });
        }
        let own_key = self.keys.key(directory);
        let stray = stray.into_iter().filter(|key| *key != own_key);
        let stray = stray.filter(|key| self.seen.insert(key)).collect();
        self.look_at_strays(stray);
    }

    /// Keys that belong to no entry that the walk has seen.
    fn look_at_strays(&mut self, keys: Vec<Vec<u8>>) {
        let path_of = self.keys;
        let look = |key: Vec<u8>| Look::new(path_of, path_of.path(&key), Sight::Absent);
        self.look_again(keys.into_iter().map(look).collect());
    }
}
