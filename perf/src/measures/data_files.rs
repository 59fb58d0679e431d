//! What lies in a store's data directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The files beside the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DataFiles {
    /// Finished snapshots.
    pub(crate) snapshot_paths: Vec<PathBuf>,
    pub(crate) snapshot_bytes: u64,
    /// What is being written.
    pub(crate) unfinished_bytes: u64,
}

impl DataFiles {
    /// Looks at a directory and those within it. A file that goes meanwhile is not there.
    pub(crate) fn of(data: &Path) -> io::Result<DataFiles> {
        let mut files = DataFiles::default();
        files.add_directory(data)?;
        Ok(files)
    }

    fn add_directory(&mut self, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                self.add_directory(&entry.path())?;
            } else {
                self.add_file(&entry.path(), metadata.len());
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path, length_bytes: u64) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("snap") => {
                self.snapshot_paths.push(path.to_owned());
                self.snapshot_bytes += length_bytes;
            }
            Some("tmp") => self.unfinished_bytes += length_bytes,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn files_are_known_by_their_names() {
        let directory = TestDirectory::new("files_are_known");
        let write = |path: &str, length: usize| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; length]).unwrap();
        };
        write("node.toml", 1);
        write("core-0/log-1.seg", 20);
        write("core-0/log-2.seg", 20);
        write("shard-0003/snap-1-7.snap", 300);
        write("shard-0003/snap-1-9.tmp", 4_000);
        let found = DataFiles::of(directory.path()).unwrap();
        let expected = DataFiles {
            snapshot_paths: vec![directory.path().join("shard-0003/snap-1-7.snap")],
            snapshot_bytes: 300,
            unfinished_bytes: 4_000,
        };
        assert_eq!(found, expected);
    }
}
