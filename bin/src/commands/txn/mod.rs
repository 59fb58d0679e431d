//! `metastore txn`: compare, then do one of two lists of operations.

mod answer;
pub(crate) mod document;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use metastore_statemachine::{Branch, NamespaceId};

use self::document::TxnDocument;
use super::{CommandError, Exit, client};
use crate::arguments::{Format, TxnArguments};

/// The store takes no longer ones, and text is longer than what it says.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TxnFileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is too long.
    #[error("{} has more than {DOCUMENT_BYTES_MAX} bytes", .path.display())]
    TooLong {
        /// Where it is.
        path: PathBuf,
    },
    /// It is not what it should be.
    #[error("{} is not the document of a transaction: {fault}", .path.display())]
    Document {
        /// Where it is.
        path: PathBuf,
        /// What is wrong, with line and column.
        fault: serde_json::Error,
    },
    /// A condition is about none of a key's properties, or about several.
    #[error(
        "condition {position} of \"if\" needs a key or a range, and one of value, mod_revision, create_revision, \
         version, lease and exists"
    )]
    Condition {
        /// Which one, counted from 1.
        position: usize,
    },
}

/// Prints which list was done, and what came of it.
pub(super) fn run(arguments: &TxnArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let text = read(&arguments.file)?;
    let document: TxnDocument =
        serde_json::from_slice(&text).map_err(|fault| TxnFileError::Document {
            path: arguments.file.clone(),
            fault,
        })?;
    let txn = document.txn()?;
    let outcome = client::ask(&arguments.client, |client| {
        client.txn(NamespaceId::DEFAULT, txn.clone())
    })?;
    let results = match arguments.client.format() {
        Format::Json => answer::print_json(&outcome, out)?,
        Format::People => answer::print_text(&outcome, out)?,
    };
    Ok(match results {
        Some(Branch::Then) => Exit::Done,
        Some(Branch::Otherwise) | None => Exit::Negative,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TxnFileError> {
    let failed = |source| TxnFileError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let limit = DOCUMENT_BYTES_MAX + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut text)
    } else {
        let file = fs::File::open(path).map_err(failed)?;
        file.take(limit).read_to_end(&mut text)
    }
    .map_err(failed)?;
    if text.len() as u64 == limit {
        let path = path.to_owned();
        return Err(TxnFileError::TooLong { path });
    }
    Ok(text)
}
