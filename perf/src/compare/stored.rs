//! `metastore-perf page`: a comparison that was stored is read, and its page written. Nothing is measured.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::document::{Document, FORMAT};
use super::page::render;
use crate::arguments::PageArguments;
use crate::error::{PerfError, Verdict};

/// The largest file that is read: thousands of rounds fit in.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// Why a stored comparison does not become a page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoredError {
    #[error("cannot read the comparison {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the comparison {} has {bytes} bytes, which is more than {DOCUMENT_BYTES_MAX}",
        path.display()
    )]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{} is not a comparison: {source}", path.display())]
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error(
        "the comparison {} has format {found}; this program reads format {FORMAT}",
        path.display()
    )]
    Format { path: PathBuf, found: u32 },
    #[error("cannot write the page {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The part of a document that tells whether the rest can be understood.
#[derive(Deserialize)]
struct Preface {
    header: PrefaceHeader,
}

#[derive(Deserialize)]
struct PrefaceHeader {
    format: u32,
}

/// Reads a comparison and writes its page.
pub(crate) fn run(arguments: &PageArguments) -> Result<Verdict, PerfError> {
    let document = read_document(&arguments.from)?;
    write_page(&document, &arguments.html)?;
    Ok(Verdict::Valid)
}

/// Reads a whole comparison.
pub(crate) fn read_document(path: &Path) -> Result<Document, StoredError> {
    let read = |source| StoredError::Read {
        path: path.to_owned(),
        source,
    };
    let parse = |source| StoredError::Parse {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::metadata(path).map_err(read)?.len();
    if bytes > DOCUMENT_BYTES_MAX {
        let path = path.to_owned();
        return Err(StoredError::TooLarge { path, bytes });
    }
    let text = fs::read(path).map_err(read)?;
    let preface: Preface = serde_json::from_slice(&text).map_err(parse)?;
    let found = preface.header.format;
    if found != FORMAT {
        let path = path.to_owned();
        return Err(StoredError::Format { path, found });
    }
    serde_json::from_slice(&text).map_err(parse)
}

/// Writes the page of a comparison to a file, or to the standard output for `-`.
pub(crate) fn write_page(document: &Document, path: &Path) -> Result<(), StoredError> {
    let page = render(document);
    let result = if path == Path::new("-") {
        io::stdout().write_all(page.as_bytes())
    } else {
        fs::write(path, page)
    };
    result.map_err(|source| StoredError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample_documents;
    use crate::test_directory::TestDirectory;

    #[test]
    fn a_comparison_becomes_the_page_that_it_would_have_been() {
        let directory = TestDirectory::new("a_comparison_becomes_the_page");
        let (from, html) = (
            directory.path().join("all.json"),
            directory.path().join("all.html"),
        );
        let document = sample_documents::small();
        fs::write(&from, serde_json::to_vec_pretty(&document).unwrap()).unwrap();
        assert!(read_document(&from).unwrap() == document);
        run(&PageArguments {
            from,
            html: html.clone(),
        })
        .unwrap();
        assert_eq!(fs::read_to_string(html).unwrap(), render(&document));
    }

    #[test]
    fn what_is_not_a_comparison_is_refused_by_name() {
        let directory = TestDirectory::new("what_is_not_a_comparison");
        let path = directory.path().join("broken.json");
        let refused = |text: &str| {
            fs::write(&path, text).unwrap();
            read_document(&path).unwrap_err().to_string()
        };
        assert!(refused("{\"header\":").contains("broken.json is not a comparison: EOF"));
        assert!(refused("[]").contains("broken.json is not a comparison"));
        let later = refused("{\"header\":{\"format\":7,\"new\":true}}");
        assert!(
            later.ends_with("has format 7; this program reads format 1"),
            "{later}"
        );
        let mut document = serde_json::to_value(sample_documents::small()).unwrap();
        document["rounds"][0]["samples"][0]["latency"]["p50_us"] = "fast".into();
        assert!(refused(&document.to_string()).contains("invalid type: string \"fast\""));
        assert!(
            read_document(&directory.path().join("missing.json"))
                .unwrap_err()
                .to_string()
                .contains("missing.json: No such file")
        );
        let nowhere = directory.path().join("missing/page.html");
        let unwritten = write_page(&sample_documents::small(), &nowhere).unwrap_err();
        assert!(
            unwritten
                .to_string()
                .contains("missing/page.html: No such file")
        );
    }
}
