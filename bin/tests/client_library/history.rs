//! What transactions saw and did, and whether that could have been one after the other.

use std::collections::BTreeMap;

/// A transaction as its client observed it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    /// Its name, written at `marker` with every commit.
    pub(crate) id: u64,
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Vec<(String, Option<String>)>,
    pub(crate) ended: Ended,
}

/// Something that a transaction read, before it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    Key(String, Option<String>),
    /// All keys with a prefix.
    Range(String, Vec<(String, String)>),
}

/// How it ended, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ended {
    /// At this revision.
    Committed(u64),
    /// It wrote nothing, and read at this revision.
    Read(u64),
    /// Nobody told.
    #[default]
    Unknown,
    /// It certainly wrote nothing.
    Failed,
}

pub(crate) type State = BTreeMap<String, String>;

/// Checks that each transaction saw the state in which it was committed: all transactions of lower revisions applied in
/// the order of their revisions, and nothing else. `markers` says which transactions left their mark in the store, and at
/// which revision; `end` is what the store holds in the end.
///
/// # Errors
/// The first contradiction.
pub(crate) fn check(
    initial: (u64, State),
    observed: &[Observed],
    markers: &BTreeMap<u64, u64>,
    end: &State,
) -> Result<(), String> {
    let mut writers: BTreeMap<u64, &Observed> = BTreeMap::new();
    let mut readers: Vec<(u64, &Observed)> = Vec::new();
    for one in observed {
        let marked = markers.get(&one.id).copied();
        let revision = match (one.ended, marked) {
            (Ended::Committed(revision), Some(marked)) if marked == revision => revision,
            (Ended::Unknown, Some(marked)) => marked,
            (Ended::Unknown | Ended::Failed, None) => continue,
            (Ended::Read(revision), None) => {
                readers.push((revision, one));
                continue;
            }
            (ended, marked) => {
                return Err(format!(
                    "{} ended {ended:?}, its mark is {marked:?}",
                    one.id
                ));
            }
        };
        if let Some(other) = writers.insert(revision, one) {
            return Err(format!(
                "{} and {} share revision {revision}",
                one.id, other.id
            ));
        }
    }
    readers.sort_by_key(|(revision, _)| *revision);
    let mut readers = readers.into_iter().peekable();
    let (mut at, mut state) = initial;
    for (revision, writer) in writers {
        while let Some((_, reader)) = readers.next_if(|(read_at, _)| *read_at < revision) {
            saw(reader, &state, at)?;
        }
        saw(writer, &state, at)?;
        for (key, value) in &writer.writes {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
        at = revision;
    }
    for (_, reader) in readers {
        saw(reader, &state, at)?;
    }
    if state != *end {
        return Err(format!("the store ends as {end:?}, not as {state:?}"));
    }
    Ok(())
}

fn saw(one: &Observed, state: &State, at: u64) -> Result<(), String> {
    for read in &one.reads {
        let expected = match read {
            Read::Key(key, _) => Read::Key(key.clone(), state.get(key).cloned()),
            Read::Range(prefix, _) => {
                let inside = state
                    .range(prefix.clone()..)
                    .take_while(|(key, _)| key.starts_with(prefix));
                let rows = inside.map(|(key, value)| (key.clone(), value.clone()));
                Read::Range(prefix.clone(), rows.collect())
            }
        };
        if *read != expected {
            return Err(format!(
                "{} ({:?}) read {read:?}, the state after revision {at} has {expected:?}",
                one.id, one.ended
            ));
        }
    }
    Ok(())
}

fn key(name: &str, value: Option<&str>) -> Read {
    Read::Key(name.to_owned(), value.map(str::to_owned))
}

fn committed(
    id: u64,
    revision: u64,
    reads: Vec<Read>,
    writes: &[(&str, Option<&str>)],
) -> Observed {
    let writes = writes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)));
    Observed {
        id,
        reads,
        writes: writes.collect(),
        ended: Ended::Committed(revision),
    }
}

fn state(pairs: &[(&str, &str)]) -> State {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn judge(observed: &[Observed], end: &[(&str, &str)]) -> Result<(), String> {
    let markers = observed.iter().filter_map(|one| match one.ended {
        Ended::Committed(revision) => Some((one.id, revision)),
        Ended::Read(_) | Ended::Unknown | Ended::Failed => None,
    });
    let initial = (1, state(&[("x", "on"), ("y", "on")]));
    check(initial, observed, &markers.collect(), &state(end))
}

#[test]
fn the_checker_accepts_one_after_the_other() {
    let first = committed(
        1,
        2,
        vec![key("x", Some("on")), key("y", Some("on"))],
        &[("x", None)],
    );
    let second = committed(2, 5, vec![key("x", None)], &[("z", Some("1"))]);
    let all = Read::Range(String::new(), vec![("y".to_owned(), "on".to_owned())]);
    let reader = Observed {
        id: 3,
        reads: vec![all],
        writes: Vec::new(),
        ended: Ended::Read(4),
    };
    judge(&[reader, second, first], &[("y", "on"), ("z", "1")]).expect("it is serial");
}

#[test]
fn the_checker_refuses_write_skew_and_lost_updates_and_phantoms() {
    let both = || vec![key("x", Some("on")), key("y", Some("on"))];
    let skew = [
        committed(1, 2, both(), &[("x", None)]),
        committed(2, 3, both(), &[("y", None)]),
    ];
    assert!(judge(&skew, &[]).is_err());
    let lost = [
        committed(1, 2, vec![key("x", Some("on"))], &[("x", Some("1"))]),
        committed(2, 3, vec![key("x", Some("on"))], &[("x", Some("2"))]),
    ];
    assert!(judge(&lost, &[("x", "2"), ("y", "on")]).is_err());
    let none = || vec![Read::Range("z".to_owned(), Vec::new())];
    let phantom = [
        committed(1, 2, none(), &[("z1", Some(""))]),
        committed(2, 3, none(), &[("z2", Some(""))]),
    ];
    let end = [("x", "on"), ("y", "on"), ("z1", ""), ("z2", "")];
    assert!(judge(&phantom, &end).is_err());
}

#[test]
fn the_checker_refuses_what_was_promised_and_is_not_there() {
    let one = committed(1, 2, Vec::new(), &[("x", None)]);
    let initial = || (1, state(&[("x", "on")]));
    let nobody = BTreeMap::new();
    assert!(check(initial(), std::slice::from_ref(&one), &nobody, &state(&[])).is_err());
    let failed = Observed {
        ended: Ended::Failed,
        ..one.clone()
    };
    let marked = BTreeMap::from([(1, 2)]);
    assert!(check(initial(), &[failed], &marked, &state(&[])).is_err());
    assert!(check(initial(), &[one], &marked, &state(&[("x", "on")])).is_err());
}
