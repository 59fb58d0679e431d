//! Files with what was measured before, kept with the sources in `perf/baselines`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaselineError {
    #[error("cannot read the baseline {path}: {source}; `--write-baseline` writes one")]
    Read { path: PathBuf, source: io::Error },
    #[error("the baseline {path} is not one: {source}")]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("cannot write the baseline {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// Reads a baseline.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, BaselineError> {
    let text = fs::read(path).map_err(|source| BaselineError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| BaselineError::Json {
        path: path.to_owned(),
        source,
    })
}

/// Writes a baseline, in lines that can be compared.
pub(crate) fn write(path: &Path, baseline: &impl Serialize) -> Result<(), BaselineError> {
    let mut text = serde_json::to_vec_pretty(baseline).map_err(|source| BaselineError::Json {
        path: path.to_owned(),
        source,
    })?;
    text.push(b'\n');
    fs::write(path, text).map_err(|source| BaselineError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn what_is_no_baseline_is_refused_by_name() {
        let directory = TestDirectory::new("what_is_no_baseline");
        let path = directory.path().join("numbers.json");
        let missing = read::<Vec<u64>>(&path).unwrap_err();
        assert!(matches!(missing, BaselineError::Read { .. }));
        assert!(missing.to_string().contains("numbers.json"));
        write(&path, &[1, 2]).unwrap();
        assert_eq!(read::<Vec<u64>>(&path).unwrap(), [1, 2]);
        fs::write(&path, "{}").unwrap();
        let other = read::<Vec<u64>>(&path).unwrap_err();
        assert!(matches!(other, BaselineError::Json { .. }));
    }
}
