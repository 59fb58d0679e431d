//! A directory for one test, on the disk that holds the build: `/tmp` may be memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

/// A directory that is gone when the test ends.
pub(crate) struct TestDirectory(PathBuf);

impl TestDirectory {
    /// `name` is that of the test.
    pub(crate) fn new(name: &str) -> TestDirectory {
        let program = std::env::current_exe().expect("the test knows its program");
        let builds = program.parent().expect("a program lies in a directory");
        let path = builds.join(format!("perf-{}-{name}", process::id()));
        fs::create_dir_all(&path).expect("the build directory can be written");
        TestDirectory(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        // What is left after a failure lies in the build directory and is removed with it.
        let _removed = fs::remove_dir_all(&self.0);
    }
}
