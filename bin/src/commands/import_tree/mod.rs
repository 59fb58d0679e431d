//! `metastore import-tree`: a file tree in the store, and the proof that it is there.
//!
//! Importing walks the tree once and puts one key per entry (see [`keys::Keys`]) with its attributes (see
//! [`attributes::Attributes`]). Comparing walks it again, in a process of its own, reads every key back and lists every
//! directory. Neither removes anything, and neither leaves the file system that PATH is on: a directory on which another
//! one is mounted is stored, and what is below it is not.

mod attributes;
mod difference;
mod keys;
mod load;
mod patience;
mod pipeline;
mod progress;
mod question;
mod report;
mod verify;
mod walk;

use std::io::{self, Write};
use std::path::PathBuf;

use metastore_net::WireError;
use metastore_net::blocking::ClientError;

use super::error::{exit_of_client, exit_of_wire};
use super::text::Escaped;
use super::{CommandError, Exit, client};
use crate::arguments::{ImportTreeArguments, bytes_of};
use attributes::Attributes;
use keys::Keys;
use patience::Patience;
use report::Report;
use walk::Walk;

/// Why a tree was not imported or compared to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// The top of the tree cannot be looked at.
    #[error("{}: {source}", path.display())]
    Root {
        /// The path as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection failed. Some entries may not be stored; importing again is safe.
    #[error("the import stopped: {0}")]
    Connection(#[source] ClientError),
    /// The server refused to store an entry.
    #[error("cannot store {}: {error}", Escaped(key))]
    Refused {
        /// Its key.
        key: Vec<u8>,
        /// What the server said.
        error: WireError,
    },
    /// The server refused to read something back.
    #[error("cannot read back {}: {error}", Escaped(key))]
    NotReadBack {
        /// The first key that was asked for.
        key: Vec<u8>,
        /// What the server said.
        error: WireError,
    },
}

impl TreeError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            TreeError::Root { source, .. } if walk::is_absence(source) => Exit::Usage,
            TreeError::Root { .. } => Exit::Unavailable,
            TreeError::Connection(error) => exit_of_client(error),
            // Puts before this one were stored, or are still under way.
            TreeError::Refused { .. } => Exit::OutcomeUnknown,
            TreeError::NotReadBack { error, .. } => exit_of_wire(error),
        }
    }
}

/// The tree to store or to compare.
struct Tree {
    keys: Keys,
    /// Its top, with its attributes.
    root: PathBuf,
    attributes: Attributes,
    walk: Walk,
}

pub(super) fn run(
    arguments: &ImportTreeArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let at_root = |source| TreeError::Root {
        path: arguments.path.clone(),
        source,
    };
    let root = arguments.path.canonicalize().map_err(at_root)?;
    let (walk, attributes) = Walk::new(&root).map_err(at_root)?;
    let mut client = client::connect(&arguments.client)?;
    let format = arguments.client.format();
    let tree = Tree {
        keys: Keys::new(bytes_of(&arguments.prefix)),
        root,
        attributes,
        walk,
    };
    let patience = Patience::new(arguments.client.timeout);
    if arguments.verify_only {
        let report = Report::new(format, out);
        verify::run(&mut client, tree, patience, report)
    } else {
        load::run(&mut client, tree, patience, format, out)
    }
}
