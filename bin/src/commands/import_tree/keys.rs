//! Which key an entry has.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// From paths to keys and back.
///
/// The key of an entry is the prefix and its absolute path, without a slash at the end. So the children of a directory D
/// are exactly the keys that begin with D's key and a slash and have no further slash, and they lie in one shard. The
/// top of all paths, `/`, is its own key; it begins with the prefix of its children and is passed over there.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: Vec<u8>,
}

impl Keys {
    pub(super) fn new(prefix: &[u8]) -> Keys {
        Keys {
            prefix: prefix.to_vec(),
        }
    }

    /// The key of an entry.
    pub(super) fn key(&self, path: &Path) -> Vec<u8> {
        assert!(path.is_absolute(), "keys are made of absolute paths");
        [&self.prefix, path.as_os_str().as_bytes()].concat()
    }

    /// What the keys of a directory's entries begin with.
    pub(super) fn below(&self, directory: &Path) -> Vec<u8> {
        let mut prefix = self.key(directory);
        if prefix.last() != Some(&b'/') {
            prefix.push(b'/');
        }
        prefix
    }

    /// The path whose key this is. The key begins with the prefix.
    pub(super) fn path(&self, key: &[u8]) -> PathBuf {
        let path = key.strip_prefix(self.prefix.as_slice());
        PathBuf::from(OsStr::from_bytes(
            path.expect("only keys with the prefix are asked for"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_children_of_a_directory_begin_with_its_key_and_a_slash() {
        let keys = Keys::new(b"");
        assert_eq!(keys.key(Path::new("/a/b")), b"/a/b");
        assert_eq!(keys.below(Path::new("/a")), b"/a/");
        assert_eq!(keys.below(Path::new("/")), b"/");
        assert_eq!(keys.path(b"/a/b"), Path::new("/a/b"));
    }

    #[test]
    fn a_prefix_is_put_before_the_path_as_it_is() {
        let keys = Keys::new(b"host\xff");
        let path = Path::new(OsStr::from_bytes(b"/a/\xfe"));
        assert_eq!(keys.key(path), b"host\xff/a/\xfe");
        assert_eq!(keys.path(b"host\xff/a/\xfe"), path);
        assert_eq!(keys.below(Path::new("/")), b"host\xff/");
    }
}
