//! What can be wrong between a tree and the store. Nothing here asks anybody: it compares what was seen.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use super::attributes::Attributes;
use super::walk::Sight;
use crate::commands::text::Escaped;

/// How an entry and what is stored of it differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// It is in the tree and not in the store.
    Missing,
    /// It is in the store and not in the tree.
    Extra,
    /// Both have it, with other attributes.
    Attributes(Vec<FieldDifference>),
    /// The store has something else than attributes under its key.
    NotAttributes {
        /// The value.
        stored: Vec<u8>,
    },
    /// The store has it, but not in the list of its directory.
    NotListed,
    /// Whether it is in the tree cannot be seen.
    Unreadable {
        /// What the system said.
        error: String,
    },
}

/// One attribute that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldDifference {
    field: &'static str,
    tree: String,
    store: String,
}

/// What a second look made of a first one that was not right.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is right now: the tree or the store was changing.
    Settled,
    /// It is not right.
    Differs(Difference),
    /// It is not right, and the tree itself has changed since the first look.
    Changed(Difference),
}

/// Compares an entry with what is stored of it.
pub(super) fn compare(sight: &Sight, stored: Option<&[u8]>) -> Option<Difference> {
    match (sight, stored) {
        (Sight::Unreadable(error), _) => Some(Difference::Unreadable {
            error: error.to_string(),
        }),
        (Sight::Absent, None) => None,
        (Sight::Absent, Some(_)) => Some(Difference::Extra),
        (Sight::Seen(_), None) => Some(Difference::Missing),
        (Sight::Seen(attributes), Some(value)) => compare_attributes(attributes, value),
    }
}

fn compare_attributes(tree: &Attributes, value: &[u8]) -> Option<Difference> {
    let Some(store) = Attributes::from_value(value) else {
        let stored = value.to_vec();
        return Some(Difference::NotAttributes { stored });
    };
    if *tree == store {
        return None;
    }
    let target = |attributes: &Attributes| {
        let target = attributes.target.as_ref();
        target.map_or("none".to_owned(), |target| {
            format!("\"{}\"", Escaped(target))
        })
    };
    let fields = [
        ("type", tree.kind.to_string(), store.kind.to_string()),
        (
            "mode",
            format!("{:04o}", tree.mode),
            format!("{:04o}", store.mode),
        ),
        ("uid", tree.uid.to_string(), store.uid.to_string()),
        ("gid", tree.gid.to_string(), store.gid.to_string()),
        (
            "size",
            tree.size_bytes.to_string(),
            store.size_bytes.to_string(),
        ),
        ("mtime", tree.mtime.to_string(), store.mtime.to_string()),
        ("target", target(tree), target(&store)),
    ];
    let differing = fields
        .into_iter()
        .filter(|(_, tree, store)| tree != store)
        .map(|(field, tree, store)| FieldDifference { field, tree, store });
    Some(Difference::Attributes(differing.collect()))
}

/// Judges an entry that was not right at first, by what the tree showed then and what both show now.
pub(super) fn judge(first: &Sight, second: &Sight, stored: Option<&[u8]>) -> Verdict {
    match compare(second, stored) {
        None => Verdict::Settled,
        Some(difference) if is_same(first, second) => Verdict::Differs(difference),
        Some(difference) => Verdict::Changed(difference),
    }
}

fn is_same(first: &Sight, second: &Sight) -> bool {
    match (first, second) {
        (Sight::Seen(first), Sight::Seen(second)) => first == second,
        (Sight::Absent, Sight::Absent) | (Sight::Unreadable(_), Sight::Unreadable(_)) => true,
        (Sight::Seen(_) | Sight::Absent | Sight::Unreadable(_), _) => false,
    }
}

/// How the list of a directory in the store differs from the directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ListDifference {
    /// Keys that should be in the list.
    pub(super) unlisted: Vec<Vec<u8>>,
    /// Keys that should not.
    pub(super) stray: Vec<Vec<u8>>,
}

/// Compares the keys that the list of a directory must have with those that it has.
pub(super) fn compare_lists(expected: Vec<Vec<u8>>, found: Vec<Vec<u8>>) -> ListDifference {
    let expected: BTreeSet<Vec<u8>> = expected.into_iter().collect();
    let found: BTreeSet<Vec<u8>> = found.into_iter().collect();
    ListDifference {
        unlisted: expected.difference(&found).cloned().collect(),
        stray: found.difference(&expected).cloned().collect(),
    }
}

impl Difference {
    /// A word for it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Difference::Missing => "missing",
            Difference::Extra => "extra",
            Difference::Attributes(_) => "different",
            Difference::NotAttributes { .. } => "not-attributes",
            Difference::NotListed => "not-listed",
            Difference::Unreadable { .. } => "unreadable",
        }
    }

    /// Everything about it, for programs.
    pub(super) fn json(&self) -> Value {
        match self {
            Difference::Missing | Difference::Extra | Difference::NotListed => json!({}),
            Difference::Attributes(fields) => {
                let fields = fields.iter().map(|field| {
                    json!({ "field": field.field, "tree": field.tree, "store": field.store })
                });
                json!({ "fields": fields.collect::<Vec<_>>() })
            }
            Difference::NotAttributes { stored } => {
                json!({ "stored": crate::commands::json::bytes(stored) })
            }
            Difference::Unreadable { error } => json!({ "error": error }),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing => formatter.write_str("in the tree, not in the store"),
            Difference::Extra => formatter.write_str("in the store, not in the tree"),
            Difference::Attributes(fields) => {
                for (position, field) in fields.iter().enumerate() {
                    let separator = if position == 0 { "" } else { "; " };
                    let FieldDifference { field, tree, store } = field;
                    write!(
                        formatter,
                        "{separator}{field} is {tree} in the tree and {store} in the store"
                    )?;
                }
                Ok(())
            }
            Difference::NotAttributes { stored } => {
                write!(
                    formatter,
                    "the store holds no attributes: {}",
                    Escaped(stored)
                )
            }
            Difference::NotListed => {
                formatter.write_str("in the store, but not in the list of its directory")
            }
            Difference::Unreadable { error } => write!(formatter, "cannot look at it: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::import_tree::attributes::tests::example;
    use std::io;

    fn seen(size_bytes: u64) -> Sight {
        Sight::Seen(Attributes {
            size_bytes,
            ..example()
        })
    }

    fn stored(size_bytes: u64) -> Vec<u8> {
        let attributes = Attributes {
            size_bytes,
            ..example()
        };
        attributes.to_value()
    }

    fn unreadable() -> Sight {
        Sight::Unreadable(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn every_pair_of_tree_and_store_is_judged() {
        assert_eq!(compare(&Sight::Absent, None), None);
        assert_eq!(compare(&seen(1), Some(&stored(1))), None);
        assert_eq!(compare(&seen(1), None), Some(Difference::Missing));
        assert_eq!(compare(&Sight::Absent, Some(b"")), Some(Difference::Extra));
        let unseen = compare(&unreadable(), None).expect("nothing is known of it");
        assert_eq!(unseen.kind(), "unreadable");
        let other = compare(&seen(1), Some(b"hello")).expect("not attributes");
        assert_eq!(other.kind(), "not-attributes");
        assert_eq!(other.json()["stored"], "hello");
    }

    #[test]
    fn every_attribute_that_differs_is_named() {
        let tree = Attributes {
            mode: 0o600,
            size_bytes: 13,
            target: Some(b"x".to_vec()),
            ..example()
        };
        let found = compare(&Sight::Seen(tree), Some(&stored(12))).expect("a difference");
        assert_eq!(
            found.to_string(),
            "mode is 0600 in the tree and 0644 in the store; \
             size is 13 in the tree and 12 in the store; \
             target is \"x\" in the tree and none in the store"
        );
        assert_eq!(found.json()["fields"][1]["field"], "size");
    }

    #[test]
    fn a_list_lacks_what_is_unlisted_and_has_what_is_stray() {
        let keys = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let same = compare_lists(keys(&["/a", "/b"]), keys(&["/b", "/a"]));
        assert_eq!(same, ListDifference::default());
        let other = compare_lists(keys(&["/a", "/b", "/c"]), keys(&["/b", "/d", "/e"]));
        let unlisted = keys(&["/a", "/c"]);
        let stray = keys(&["/d", "/e"]);
        assert_eq!(other, ListDifference { unlisted, stray });
    }

    #[test]
    fn a_second_look_tells_a_difference_from_a_change() {
        let differs = |size| match compare(&seen(2), Some(&stored(size))) {
            Some(difference) => difference,
            None => panic!("sizes differ"),
        };
        let one = stored(1);
        // It was stored between the looks, or the store and the tree changed alike.
        assert_eq!(judge(&seen(1), &seen(1), Some(&one)), Verdict::Settled);
        assert_eq!(judge(&seen(2), &seen(1), Some(&one)), Verdict::Settled);
        // It vanished from both, as a file that was removed and never stored.
        assert_eq!(judge(&seen(1), &Sight::Absent, None), Verdict::Settled);
        assert_eq!(
            judge(&Sight::Absent, &Sight::Absent, None),
            Verdict::Settled
        );
        assert_eq!(
            judge(&seen(2), &seen(2), Some(&one)),
            Verdict::Differs(differs(1))
        );
        assert_eq!(
            judge(&seen(1), &seen(2), Some(&one)),
            Verdict::Changed(differs(1))
        );
        let extra = Difference::Extra;
        assert_eq!(
            judge(&Sight::Absent, &Sight::Absent, Some(&one)),
            Verdict::Differs(extra.clone())
        );
        assert_eq!(
            judge(&seen(1), &Sight::Absent, Some(&one)),
            Verdict::Changed(extra)
        );
        assert_eq!(
            judge(&Sight::Absent, &seen(1), None),
            Verdict::Changed(Difference::Missing)
        );
    }
}
