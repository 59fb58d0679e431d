//! The metadata of a real file tree, as keys and values for any system with ordered keys.
//!
//! An entry's key is the depth of its path in three digits, and the path: `003/usr/share/doc`. So the entries of one
//! directory are exactly the keys that begin with the directory's own path one level deeper, and they lie next to each
//! other in every ordered store: a plain range finds them without what lies deeper, which a store without a notion of
//! directories would give too. In this store they lie in one directory, as the paths themselves would.
//!
//! Its value tells type, mode, owner, size, time of change and target as text, just as `metastore import-tree` writes
//! them. The walk follows no link and does **not** leave the file system of its top; it goes by name, so that two walks
//! of the same tree see the same entries.

mod drive;

use std::collections::VecDeque;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

pub(super) use drive::drive_phase;

/// The longest key that is taken: what lies deeper is left out, and counted.
const KEY_BYTES_MAX: usize = 4_000;

/// The deepest path, by what three digits hold.
const DEPTH_MAX: usize = 999;

/// The bits of a mode that are permissions and not the type.
const MODE_MASK: u32 = 0o7777;

/// A tree, walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeMetadata {
    /// Where it begins.
    pub(super) root: PathBuf,
    /// Parents before their children.
    pub(super) entries: Vec<TreeEntry>,
    /// Those whose entries were read, all of them or up to the limit.
    pub(super) directories: Vec<TreeDirectory>,
    /// Entries that could not be looked at, or have too long a key.
    pub(super) left_out: u64,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeEntry {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeDirectory {
    /// What the keys of its entries begin with, separator included.
    pub(super) prefix: Vec<u8>,
    /// The least of them.
    pub(super) first_key: Option<Vec<u8>>,
    pub(super) entries: u64,
}

/// Why a tree cannot be walked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("the tree {path}: {source}")]
    Root { path: PathBuf, source: io::Error },
    #[error("{path} is no directory")]
    NoDirectory { path: PathBuf },
}

impl TreeMetadata {
    /// Walks a tree until it ends or `entries_max` were seen.
    pub(super) fn walk(root: &Path, entries_max: u64) -> Result<TreeMetadata, TreeError> {
        let at_root = |source| TreeError::Root {
            path: root.to_owned(),
            source,
        };
        let root = root.canonicalize().map_err(at_root)?;
        let metadata = fs::symlink_metadata(&root).map_err(at_root)?;
        if !metadata.is_dir() {
            return Err(TreeError::NoDirectory { path: root });
        }
        // Fails here and not later if it may not be read.
        fs::read_dir(&root).map_err(at_root)?;
        let mut tree = TreeMetadata {
            root: root.clone(),
            entries: Vec::new(),
            directories: Vec::new(),
            left_out: 0,
        };
        tree.add(&root, &metadata);
        let mut pending = VecDeque::from([root]);
        while let Some(directory) = pending.pop_front() {
            if tree.is_full(entries_max) {
                break;
            }
            tree.read_directory(&directory, metadata.dev(), entries_max, &mut pending);
        }
        Ok(tree)
    }

    fn is_full(&self, entries_max: u64) -> bool {
        self.entries.len() as u64 >= entries_max
    }

    /// Adds the entries of a directory, and its directories to those that are still to be read.
    fn read_directory(
        &mut self,
        directory: &Path,
        device: u64,
        entries_max: u64,
        pending: &mut VecDeque<PathBuf>,
    ) {
        let Some(prefix) = key_of(directory, 1).map(|mut key| {
            if key.last() != Some(&b'/') {
                key.push(b'/');
            }
            key
        }) else {
            return;
        };
        let Ok(listing) = fs::read_dir(directory) else {
            self.left_out += 1;
            return;
        };
        let mut paths: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
        paths.sort_unstable_by(|one, other| {
            one.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes())
        });
        let first_entry = self.entries.len();
        for path in paths {
            if self.is_full(entries_max) {
                break;
            }
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                self.left_out += 1;
                continue;
            };
            let is_added = self.add(&path, &metadata);
            if is_added && metadata.is_dir() && metadata.dev() == device {
                pending.push_back(path);
            }
        }
        let own = &self.entries[first_entry..];
        self.directories.push(TreeDirectory {
            prefix,
            first_key: own.first().map(|entry| entry.key.clone()),
            entries: own.len() as u64,
        });
    }

    /// Adds an entry, unless its key is too long.
    fn add(&mut self, path: &Path, metadata: &Metadata) -> bool {
        let (Some(key), Some(value)) = (key_of(path, 0), value_of(path, metadata)) else {
            self.left_out += 1;
            return false;
        };
        self.entries.push(TreeEntry { key, value });
        true
    }
}

/// The key of a path as if it lay so many levels deeper.
fn key_of(path: &Path, deeper: usize) -> Option<Vec<u8>> {
    let bytes = path.as_os_str().as_bytes();
    let depth = path.components().count() - 1 + deeper;
    if depth > DEPTH_MAX || bytes.len() > KEY_BYTES_MAX {
        return None;
    }
    let mut key = format!("{depth:03}").into_bytes();
    key.extend_from_slice(bytes);
    Some(key)
}

/// The attributes of an entry; `None` if it is a link that has gone meanwhile.
fn value_of(path: &Path, metadata: &Metadata) -> Option<Vec<u8>> {
    let text = format!(
        "type={} mode={:04o} uid={} gid={} size={} mtime={}.{:09}",
        kind_of(metadata),
        metadata.mode() & MODE_MASK,
        metadata.uid(),
        metadata.gid(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    );
    let mut value = text.into_bytes();
    if metadata.is_symlink() {
        let target = fs::read_link(path).ok()?;
        value.extend_from_slice(b" target=");
        value.extend_from_slice(target.as_os_str().as_bytes());
    }
    Some(value)
}

fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_file() {
        "file"
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "symlink"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_char_device() {
        "character-device"
    } else if kind.is_block_device() {
        "block-device"
    } else {
        "other"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    /// A tree with two files, a link and an empty directory: `top/{a/{x,y},b/,link}`.
    pub(in super::super) fn small_tree(directory: &TestDirectory) -> PathBuf {
        let top = directory.path().canonicalize().unwrap().join("top");
        fs::create_dir_all(top.join("a")).unwrap();
        fs::create_dir_all(top.join("b")).unwrap();
        fs::write(top.join("a/x"), b"twelve bytes").unwrap();
        fs::write(top.join("a/y"), b"").unwrap();
        symlink("a/x", top.join("link")).unwrap();
        top
    }

    fn depth_of(path: &Path) -> usize {
        path.components().count() - 1
    }

    #[test]
    fn entries_of_a_directory_lie_side_by_side_and_nothing_between_them() {
        let directory = TestDirectory::new("entries_of_a_directory");
        let top = small_tree(&directory);
        let tree = TreeMetadata::walk(&top, 1_000).unwrap();
        assert_eq!((tree.entries.len(), tree.left_out), (6, 0));
        let sorted: BTreeMap<&[u8], &[u8]> = tree
            .entries
            .iter()
            .map(|entry| (entry.key.as_slice(), entry.value.as_slice()))
            .collect();
        let counts: Vec<u64> = tree.directories.iter().map(|found| found.entries).collect();
        assert_eq!(counts, [3, 2, 0]);
        for found in &tree.directories {
            let below: Vec<&&[u8]> = sorted
                .keys()
                .filter(|key| key.starts_with(&found.prefix))
                .collect();
            assert_eq!(below.len() as u64, found.entries);
            assert_eq!(below.first().map(|key| key.to_vec()), found.first_key);
        }
        let key = format!("{:03}{}/a/x", depth_of(&top) + 2, top.display());
        let value = String::from_utf8(sorted[key.as_bytes()].to_vec()).unwrap();
        assert!(value.starts_with("type=file mode=0"), "{value}");
        assert!(value.contains(" size=12 mtime="), "{value}");
        let link = format!("{:03}{}/link", depth_of(&top) + 1, top.display());
        assert!(sorted[link.as_bytes()].ends_with(b" target=a/x"));
    }

    #[test]
    fn a_walk_ends_at_its_limit_and_counts_what_it_has() {
        let directory = TestDirectory::new("a_walk_ends");
        let top = small_tree(&directory);
        let all = TreeMetadata::walk(&top, 1_000).unwrap();
        for limit in 1..=6 {
            let some = TreeMetadata::walk(&top, limit).unwrap();
            assert_eq!(some.entries, all.entries[..limit as usize]);
            let listed: u64 = some.directories.iter().map(|found| found.entries).sum();
            // The top is an entry of no directory that was read.
            assert_eq!(listed + 1, limit);
        }
    }

    #[test]
    fn the_top_of_all_paths_has_its_entries_below_it() {
        assert_eq!(key_of(Path::new("/"), 0).unwrap(), b"000/");
        assert_eq!(key_of(Path::new("/usr"), 0).unwrap(), b"001/usr");
        assert_eq!(key_of(Path::new("/usr"), 1).unwrap(), b"002/usr");
        let long = format!("/{}", "x".repeat(KEY_BYTES_MAX));
        assert_eq!(key_of(Path::new(&long), 0), None);
    }

    #[test]
    fn what_is_no_tree_is_named() {
        let missing = TreeMetadata::walk(Path::new("/nowhere/at/all"), 10);
        assert!(missing.unwrap_err().to_string().contains("/nowhere/at/all"));
        let file = TreeMetadata::walk(Path::new("/dev/null"), 10);
        assert!(matches!(file, Err(TreeError::NoDirectory { .. })));
    }
}
