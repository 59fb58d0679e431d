//! A walk through a tree: one directory at a time, without leaving its file system.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::attributes::{Attributes, EntryKind};

/// What a look at an entry showed.
#[derive(Debug)]
pub(super) enum Sight {
    Seen(Attributes),
    /// There is nothing of this name, or not any more.
    Absent,
    /// There may be something.
    Unreadable(io::Error),
}

/// An entry of a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) sight: Sight,
}

/// A directory with its entries, ordered by name.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) path: PathBuf,
    pub(super) entries: Vec<Entry>,
    /// Why the entries may not be all.
    pub(super) fault: Option<io::Error>,
}

/// The directories of a tree, parents before their children. It holds the paths of those still to come, and never more
/// than one directory's entries.
#[derive(Debug)]
pub(super) struct Walk {
    device: u64,
    pending: Vec<PathBuf>,
    /// Directories that are the top of another file system.
    pub(super) mounts_passed: u64,
}

impl Sight {
    /// Looks at an entry.
    pub(super) fn of(path: &Path) -> Sight {
        Sight::and_device(path).0
    }

    /// Looks at the entry that a key names. A path that leads through a link or a `..` names no entry of a walk.
    pub(super) fn of_key(path: &Path) -> Sight {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return if path == Path::new("/") {
                Sight::of(path)
            } else {
                Sight::Absent
            };
        };
        match directory.canonicalize() {
            Ok(real) if real.join(name).as_os_str() == path.as_os_str() => Sight::of(path),
            Ok(_) => Sight::Absent,
            Err(error) => Sight::from(error),
        }
    }

    fn and_device(path: &Path) -> (Sight, u64) {
        match Attributes::look(path) {
            Ok((attributes, device)) => (Sight::Seen(attributes), device),
            Err(error) => (Sight::from(error), 0),
        }
    }
}

impl From<io::Error> for Sight {
    fn from(error: io::Error) -> Sight {
        if is_absence(&error) {
            Sight::Absent
        } else {
            Sight::Unreadable(error)
        }
    }
}

/// Whether a look failed because the entry, or a directory above it, is gone or is something else by now. A link that
/// became a file between two looks shows as an invalid argument.
pub(super) fn is_absence(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::NotFound,
        io::ErrorKind::NotADirectory,
        io::ErrorKind::InvalidInput,
    ];
    kinds.contains(&error.kind())
}

impl Walk {
    /// Begins at `root`, which is on the file system to stay on.
    pub(super) fn new(root: &Path) -> io::Result<(Walk, Attributes)> {
        let (attributes, device) = Attributes::look(root)?;
        let is_directory = attributes.kind == EntryKind::Directory;
        let pending = is_directory.then(|| root.to_owned()).into_iter().collect();
        let walk = Walk {
            device,
            pending,
            mounts_passed: 0,
        };
        Ok((walk, attributes))
    }

    fn list(&mut self, path: PathBuf) -> Listing {
        let (mut names, fault) = names_in(&path);
        names.sort_unstable_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        let mut entries = Vec::with_capacity(names.len());
        let first_below = self.pending.len();
        for name in names {
            let path = path.join(name);
            let (sight, device) = Sight::and_device(&path);
            if matches!(&sight, Sight::Seen(seen) if seen.kind == EntryKind::Directory) {
                if device == self.device {
                    self.pending.push(path.clone());
                } else {
                    self.mounts_passed += 1;
                }
            }
            entries.push(Entry { path, sight });
        }
        // The next one is taken from the end.
        self.pending[first_below..].reverse();
        Listing {
            path,
            entries,
            fault,
        }
    }
}

impl Iterator for Walk {
    type Item = Listing;

    fn next(&mut self) -> Option<Listing> {
        let path = self.pending.pop()?;
        Some(self.list(path))
    }
}

/// The names in a directory, as far as they can be read.
fn names_in(path: &Path) -> (Vec<OsString>, Option<io::Error>) {
    let mut names = Vec::new();
    let mut read = || {
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name());
        }
        Ok(())
    };
    let fault = read().err();
    (names, fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_walk_sees_every_entry_once_and_follows_no_link() {
        let directory = TestDirectory::new("walk");
        let root = directory.path().canonicalize().expect("it exists");
        fs::create_dir_all(root.join("b/deep/er")).expect("creates");
        fs::create_dir(root.join("a")).expect("creates");
        fs::write(root.join(OsStr::from_bytes(b"b/\xff")), "12345").expect("writes");
        symlink("..", root.join("a/up")).expect("links");
        let (mut walk, attributes) = Walk::new(&root).expect("walks");
        assert_eq!(attributes.kind, EntryKind::Directory);
        let mut seen = Vec::new();
        for listing in walk.by_ref() {
            assert!(listing.fault.is_none());
            for entry in listing.entries {
                let Sight::Seen(attributes) = entry.sight else {
                    panic!("nobody else touches the directory");
                };
                let below = entry
                    .path
                    .strip_prefix(&root)
                    .expect("below the root")
                    .to_owned();
                seen.push((below.into_os_string(), attributes.kind));
            }
        }
        let expected: [(&[u8], EntryKind); 6] = [
            (b"a", EntryKind::Directory),
            (b"b", EntryKind::Directory),
            (b"a/up", EntryKind::Symlink),
            (b"b/deep", EntryKind::Directory),
            (b"b/\xff", EntryKind::File),
            (b"b/deep/er", EntryKind::Directory),
        ];
        let expected = expected.map(|(path, kind)| (OsStr::from_bytes(path).to_owned(), kind));
        assert_eq!(seen, expected);
        assert_eq!(walk.mounts_passed, 0);
    }

    #[test]
    fn what_is_gone_is_told_from_what_cannot_be_read() {
        let directory = TestDirectory::new("walk-absent");
        let gone = directory.path().join("gone");
        assert!(matches!(Sight::of(&gone), Sight::Absent));
        fs::write(&gone, "").expect("writes");
        assert!(matches!(Sight::of(&gone.join("below")), Sight::Absent));
        assert!(matches!(Sight::of(&gone), Sight::Seen(_)));
        let long = directory.path().join("n".repeat(300));
        assert!(matches!(Sight::of(&long), Sight::Unreadable(_)));
    }

    #[test]
    fn a_key_names_an_entry_only_by_its_own_path() {
        let directory = TestDirectory::new("walk-key");
        let root = directory.path().canonicalize().expect("it exists");
        fs::create_dir(root.join("real")).expect("creates");
        fs::write(root.join("real/file"), "").expect("writes");
        symlink("real", root.join("link")).expect("links");
        let is_seen = |below: &str| {
            let path = [root.as_os_str().as_bytes(), b"/", below.as_bytes()].concat();
            let path = OsStr::from_bytes(&path);
            matches!(Sight::of_key(Path::new(path)), Sight::Seen(_))
        };
        assert!(is_seen("real/file") && is_seen("link") && is_seen("real"));
        for other in [
            "link/file",
            "real//file",
            "real/../real",
            "real/./file",
            "real/file/",
        ] {
            assert!(!is_seen(other), "{other}");
        }
        assert!(matches!(Sight::of_key(Path::new("/")), Sight::Seen(_)));
    }

    #[test]
    fn another_file_system_is_seen_and_not_entered() {
        let (mut walk, _) = Walk::new(Path::new("/")).expect("walks");
        let top = walk.next().expect("the root");
        let has_proc = top
            .entries
            .iter()
            .any(|entry| entry.path == Path::new("/proc"));
        assert!(has_proc, "tests run on Linux");
        assert!(walk.mounts_passed > 0);
        assert!(!walk.pending.contains(&PathBuf::from("/proc")));
    }
}
