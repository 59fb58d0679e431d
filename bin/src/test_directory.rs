//! Directories for tests: on the disk that the build uses, since a temporary file system may lack what the log needs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new empty directory that is removed when it is dropped.
pub(crate) struct TestDirectory(PathBuf);

impl TestDirectory {
    pub(crate) fn new(name: &str) -> TestDirectory {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{name}-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target/test-data")
            .join(unique);
        std::fs::create_dir_all(&path).expect("the build's directory can be written");
        TestDirectory(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        // What is left behind does no harm, and a panic here would hide the test's own.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
