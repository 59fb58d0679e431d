//! Where the inputs to begin with come from: golden files that pin the formats, and inputs beside them.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The committed inputs of a target of one package, in the order of their names; none when there is no directory.
///
/// # Panics
/// When a file that is there cannot be read: a run with half a corpus proves little.
#[must_use]
pub fn committed(package: &str, target: &str) -> Vec<Vec<u8>> {
    let directory = root().join(package).join("testdata/fuzz").join(target);
    let Ok(entries) = std::fs::read_dir(&directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a directory that was opened is read").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| golden_file(path)).collect()
}

/// A golden file of a package.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn golden(package: &str, name: &str) -> Vec<u8> {
    golden_file(&root().join(package).join("testdata").join(name))
}

/// A file of golden lines: words, then hexadecimal digits.
///
/// # Panics
/// When it cannot be read or is not one.
#[must_use]
pub fn golden_lines(package: &str, name: &str) -> Vec<(String, Vec<u8>)> {
    let text = String::from_utf8(golden(package, name)).expect("golden lines are text");
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, digits) = line.rsplit_once(' ').expect("a name, then digits");
            (name.to_owned(), from_hex(digits))
        })
        .collect()
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|source| Failure::file(path, source))
}

fn golden_file(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn from_hex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

/// The repository. It is read where it was built: a corpus is no part of the program.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a package lies in the repository")
}
