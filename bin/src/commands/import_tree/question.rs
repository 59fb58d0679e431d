//! What the store is asked during a comparison.

use std::path::{Path, PathBuf};

use metastore_net::{
    ClientConnection, Consistency, RangeRequest, RequestId, Response, ServerLimits, WireError,
};
use metastore_statemachine::{NamespaceId, Projection, Scope};

use super::keys::Keys;
use super::walk::Sight;

/// Keys in one question, so that its answer fits a frame with room to spare.
const LOOKS_MAX: usize = 256;
const LOOKS_KEY_BYTES_MAX: usize = 128 << 10;

/// An entry whose key is read back.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) path: PathBuf,
    pub(super) key: Vec<u8>,
    /// What the tree showed at first.
    pub(super) first: Sight,
    /// What it shows now, of an entry that was not right at first.
    pub(super) second: Option<Sight>,
}

/// One request to the store, with what is needed to judge its answer.
#[derive(Debug)]
pub(super) enum Question {
    /// The values of entries whose keys are in one shard.
    Values(Vec<Look>),
    /// The keys of a directory's entries.
    Children {
        directory: PathBuf,
        /// The keys that must be there.
        expected: Vec<Vec<u8>>,
        found: Vec<Vec<u8>>,
    },
    /// Whether the list of its directory has this entry.
    IsListed { path: PathBuf, is_found: bool },
    /// Whether an entry that is not listed is stored.
    IsStored { path: PathBuf },
    /// Every key of the tree.
    Subtree {
        root: PathBuf,
        /// The first key that is still to come.
        start: Vec<u8>,
    },
}

/// An answer, or a part of one.
#[derive(Debug)]
pub(super) enum Answer {
    /// In the order asked for.
    Values(Vec<Option<Vec<u8>>>),
    /// Some keys of a range.
    Keys(Vec<Vec<u8>>),
    /// The last keys of a range.
    LastKeys(Vec<Vec<u8>>),
    Refused(WireError),
}

impl Look {
    pub(super) fn new(keys: &Keys, path: PathBuf, first: Sight) -> Look {
        Look {
            key: keys.key(&path),
            path,
            first,
            second: None,
        }
    }
}

impl Question {
    /// Prepares the request. An entry that was not right is looked at again just before the store is asked again.
    pub(super) fn send(&self, keys: &Keys, connection: &mut ClientConnection) -> RequestId {
        let values = |connection: &mut ClientConnection, keys: &[&[u8]]| {
            let consistency = Consistency::Linearizable;
            connection.get_many(NamespaceId::DEFAULT, None, consistency, keys)
        };
        match self {
            Question::Values(looks) => {
                let keys: Vec<&[u8]> = looks.iter().map(|look| look.key.as_slice()).collect();
                values(connection, &keys)
            }
            Question::Children { directory, .. } => {
                connection.range(&children(&keys.below(directory)))
            }
            Question::IsListed { path, .. } => {
                let (key, below) = (keys.key(path), keys.below(parent(path)));
                let end = [&key[..], &[0]].concat();
                let mut range = children(&below);
                range.query.start = &key;
                range.query.end = &end;
                connection.range(&range)
            }
            Question::IsStored { path } => values(connection, &[&keys.key(path)]),
            Question::Subtree { root, start } => {
                let below = keys.below(root);
                let mut range = RangeRequest::subtree(NamespaceId::DEFAULT, &below);
                range.query.projection = Projection::KeysOnly;
                range.query.start = start;
                connection.range(&range)
            }
        }
    }

    /// The first key that it is about.
    pub(super) fn key(&self, keys: &Keys) -> Vec<u8> {
        match self {
            Question::Values(looks) => looks[0].key.clone(),
            Question::Children { directory, .. } => keys.below(directory),
            Question::IsListed { path, .. } | Question::IsStored { path } => keys.key(path),
            Question::Subtree { root, .. } => keys.below(root),
        }
    }

    /// The same question, for another attempt.
    pub(super) fn again(self) -> Question {
        match self {
            // What was heard before is heard again.
            Question::Children {
                directory,
                expected,
                ..
            } => Question::Children {
                directory,
                expected,
                found: Vec::new(),
            },
            Question::IsListed { path, .. } => Question::IsListed {
                path,
                is_found: false,
            },
            Question::Values(_) | Question::IsStored { .. } | Question::Subtree { .. } => self,
        }
    }
}

fn children(below: &[u8]) -> RangeRequest<'_> {
    let mut range = RangeRequest::subtree(NamespaceId::DEFAULT, below);
    range.query.scope = Scope::Children { separator: b'/' };
    range.query.projection = Projection::KeysOnly;
    range
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .expect("only entries of directories are listed")
}

impl Answer {
    pub(super) fn new(response: Response<'_>) -> Answer {
        match response {
            Response::GetMany(reply) => {
                let value = |row: metastore_statemachine::Row<'_>| row.value.to_vec();
                Answer::Values(reply.rows().map(|row| row.map(value)).collect())
            }
            Response::Range(chunk) => {
                let keys = chunk.rows().map(|row| row.key.to_vec()).collect();
                if chunk.is_last {
                    Answer::LastKeys(keys)
                } else {
                    Answer::Keys(keys)
                }
            }
            Response::Error(error) => Answer::Refused(error),
            Response::Hello(_)
            | Response::Pong
            | Response::Get(_)
            | Response::Command(_)
            | Response::Batch(_)
            | Response::Cancelled
            | Response::Status(_)
            | Response::ShardMap(_)
            | Response::Admin(_)
            | Response::Count(_) => unreachable!("the connection matches answers to requests"),
        }
    }
}

/// Looks in groups that one question can ask for: keys of one directory, which lie in one shard, and not too many.
pub(super) fn group(looks: Vec<Look>, limits: &ServerLimits) -> Vec<Vec<Look>> {
    let looks_max = LOOKS_MAX.min(limits.get_many_keys as usize);
    let mut groups: Vec<Vec<Look>> = Vec::new();
    let mut key_bytes = 0;
    for look in looks {
        match groups.last_mut() {
            Some(group)
                if group.len() < looks_max
                    && key_bytes + look.key.len() <= LOOKS_KEY_BYTES_MAX
                    && directory_of(&group[0].key) == directory_of(&look.key) =>
            {
                key_bytes += look.key.len();
                group.push(look);
            }
            _ => {
                key_bytes = look.key.len();
                groups.push(vec![look]);
            }
        }
    }
    groups
}

/// The key up to and including its last slash.
fn directory_of(key: &[u8]) -> &[u8] {
    let slash = key.iter().rposition(|&byte| byte == b'/');
    &key[..slash.map_or(0, |position| position + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(path: String) -> Look {
        Look::new(&Keys::new(b""), PathBuf::from(path), Sight::Absent)
    }

    fn lengths(looks: Vec<Look>) -> Vec<usize> {
        let groups = group(looks, &ServerLimits::default());
        groups.iter().map(Vec::len).collect()
    }

    #[test]
    fn a_group_is_of_one_directory() {
        let paths = ["/", "/a", "/b", "/a/b", "/a/c", "/b/a"];
        let looks = paths.map(|path| look(path.to_owned())).into();
        assert_eq!(lengths(looks), [3, 2, 1]);
        assert!(lengths(Vec::new()).is_empty());
    }

    #[test]
    fn a_group_is_limited_in_keys_and_bytes() {
        let looks = (0..600).map(|n| look(format!("/a/{n}"))).collect();
        assert_eq!(lengths(looks), [256, 256, 88]);
        let long = "n".repeat(LOOKS_KEY_BYTES_MAX / 2 - 10);
        let looks = (0..5).map(|n| look(format!("/a/{n}{long}"))).collect();
        assert_eq!(lengths(looks), [2, 2, 1]);
    }
}
