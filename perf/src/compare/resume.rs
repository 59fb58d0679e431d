//! Whether what lies in the file of results is the beginning of this comparison.

use std::path::Path;

use super::document::{Header, Role, Round, SystemConditions};
use super::journal::{Journal, JournalError, Stored};
use crate::conditions::Conditions;

/// A file of results, ready for the next round.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) journal: Journal,
    /// That of the first run.
    pub(super) header: Header,
    /// That are there already.
    pub(super) rounds: Vec<Round>,
    /// What was found, in words, if anything was.
    pub(super) words: Option<String>,
}

/// Goes on in a file, or begins anew: when there is nothing, when another comparison lies there, or when this one is
/// finished. What is there is kept in any case.
pub(super) fn open(path: &Path, header: &Header) -> Result<Opened, JournalError> {
    let (mut journal, stored) = Journal::open(path)?;
    let cut_bytes = journal.cut_bytes();
    let found = stored.map(|stored| {
        let why = difference(&stored.header, header)
            .map(|what| format!("a comparison with another {what}"))
            .or_else(|| {
                stored
                    .is_reported
                    .then(|| "a finished comparison".to_owned())
            });
        (stored, why)
    });
    match found {
        Some((Stored { header, rounds, .. }, None)) => {
            journal.resume()?;
            let words = resumed_words(path, &header, rounds.len(), cut_bytes);
            Ok(Opened {
                journal,
                header,
                rounds,
                words: Some(words),
            })
        }
        Some((stored, Some(why))) => {
            let (journal, kept) = journal.begin(header, Some(&stored.header.started))?;
            Ok(begun(
                journal,
                header,
                kept.map(|kept| kept_words(path, &why, &kept)),
            ))
        }
        None => {
            let (journal, _) = journal.begin(header, None)?;
            Ok(begun(journal, header, None))
        }
    }
}

fn begun(journal: Journal, header: &Header, words: Option<String>) -> Opened {
    Opened {
        journal,
        header: header.clone(),
        rounds: Vec::new(),
        words,
    }
}

fn resumed_words(path: &Path, header: &Header, rounds: usize, cut_bytes: u64) -> String {
    let cut = if cut_bytes > 0 {
        format!("; {cut_bytes} bytes of a round that was not finished are cut off")
    } else {
        String::new()
    };
    format!(
        "going on in {} where the run of {} was stopped, after {rounds} rounds{cut}",
        path.display(),
        header.started
    )
}

fn kept_words(path: &Path, why: &str, kept: &Path) -> String {
    format!("{} holds {why}: kept as {}", path.display(), kept.display())
}

/// What keeps two runs from being one comparison, if anything does.
fn difference(stored: &Header, this: &Header) -> Option<&'static str> {
    let differences = [
        (stored.format != this.format, "format"),
        (stored.conditions.commit != this.conditions.commit, "commit"),
        (
            !is_same_but_flushing(&stored.conditions, &this.conditions),
            "machine, disk or store",
        ),
        (stored.pinning != this.pinning, "choice of processors"),
        (stored.missing != this.missing, "set of systems"),
        (identities(stored) != identities(this), "set of systems"),
        (stored.plan != this.plan, "number or length of rounds"),
        (stored.workloads != this.workloads, "set of workloads"),
        (stored.tree != this.tree, "tree"),
    ];
    let found = differences.into_iter().find(|(is_other, _)| *is_other);
    found.map(|(_, what)| what)
}

/// Whether conditions are the same. A store chooses how it flushes by a probe, which may end otherwise the next time; a
/// comparison that goes on flushes as it did in the beginning.
fn is_same_but_flushing(stored: &Conditions, this: &Conditions) -> bool {
    let mut this = this.clone();
    let flush_method = &stored.store.flush_method;
    this.store.flush_method.clone_from(flush_method);
    *stored == this
}

/// What makes systems the same again: the command line only of this store, because that of a peer names a port and a
/// directory of its own each time.
fn identities(header: &Header) -> Vec<(&str, &str, &[String])> {
    fn identity(system: &SystemConditions) -> (&str, &str, &[String]) {
        let arguments = match system.role {
            Role::Ours => system.arguments.as_slice(),
            Role::Peer => &[],
        };
        (&system.name.0, &system.version, arguments)
    }
    header.systems.iter().map(identity).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{ComparedWorkload, Thoroughness};
    use crate::compare::fixture::{header, round_of};
    use crate::compare::plan::Section;
    use crate::test_directory::TestDirectory;
    use std::fs;

    fn sections() -> [Section; 1] {
        [Section::new(ComparedWorkload::W2, &[], Thoroughness::Full)]
    }

    fn round(number: u32) -> Round {
        round_of(number, &sections()[0], 100.0)
    }

    fn peer_at(port: &str) -> SystemConditions {
        SystemConditions {
            role: Role::Peer,
            arguments: vec!["--port".to_owned(), port.to_owned()],
            ..header(&[]).systems.remove(0)
        }
    }

    #[test]
    fn the_same_comparison_goes_on_until_it_is_finished() {
        let directory = TestDirectory::new("the_same_comparison");
        let path = directory.path().join("compare.jsonl");
        let mut first = header(&sections());
        // Neither another time nor another outcome of the store's probe makes it another comparison, nor the port of a
        // peer.
        let mut second = first.clone();
        second.started = "2026-02-01T00:00:00Z".to_owned();
        second.conditions.store.flush_method = "sync".to_owned();
        first.systems.push(peer_at("1"));
        second.systems.push(peer_at("2"));
        for count in 0..2 {
            let header = if count == 0 { &first } else { &second };
            let mut opened = open(&path, header).unwrap();
            assert_eq!(opened.rounds.len(), count);
            assert_eq!(opened.header, first);
            assert_eq!(opened.words.is_some(), count > 0);
            opened.journal.append(&round(count as u32 + 1)).unwrap();
        }
        open(&path, &second).unwrap().journal.finish().unwrap();
        let anew = open(&path, &second).unwrap();
        assert_eq!(
            (anew.rounds.len(), anew.header.started),
            (0, second.started)
        );
        let words = anew.words.unwrap();
        assert!(words.contains("a finished comparison: kept as"), "{words}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    /// Makes a header that of another comparison.
    type Change = fn(&mut Header);

    #[test]
    fn another_comparison_is_kept_and_named() {
        let changes: [(Change, &str); 7] = [
            (|header| header.conditions.commit = None, "another commit"),
            (|header| header.plan.rounds += 1, "rounds"),
            (|header| header.plan.measured_seconds += 1.0, "rounds"),
            (|header| header.systems[0].version.push('x'), "systems"),
            (|header| header.systems[0].arguments.clear(), "systems"),
            (|header| header.workloads.clear(), "workloads"),
            (|header| header.tree = None, "tree"),
        ];
        for (change, what) in changes {
            let directory = TestDirectory::new("another_comparison_is_kept");
            let path = directory.path().join("compare.jsonl");
            let first = header(&sections());
            let mut opened = open(&path, &first).unwrap();
            opened.journal.append(&round(1)).unwrap();
            drop(opened);
            let before = fs::read(&path).unwrap();
            let mut other = first.clone();
            change(&mut other);
            let opened = open(&path, &other).unwrap();
            assert_eq!((opened.rounds.len(), &opened.header), (0, &other));
            let words = opened.words.unwrap();
            assert!(words.contains(what), "{words}");
            let kept = directory
                .path()
                .join(format!("compare.jsonl.{}", first.started));
            assert_eq!(fs::read(kept).unwrap(), before);
        }
    }
}
