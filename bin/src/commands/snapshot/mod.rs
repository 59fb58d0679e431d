//! `metastore snapshot`: a look at the file of a snapshot. Nothing is changed, and no store need be stopped: a file that
//! has its name is complete.

mod examination;

use std::io::{self, Write};
use std::path::PathBuf;

use metastore_engine::snapshot::SnapshotIdentity;
use serde_json::{Value, json};

use super::table::{Table, size};
use super::{CommandError, Exit, json};
use crate::arguments::{Format, SnapshotArguments, SnapshotCommand};
use examination::{Content, Depth, Examination};

/// Why a snapshot cannot be looked at. Damage is no error: it is the answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotFileError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SnapshotFileError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            SnapshotFileError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Exit::Usage
            }
            SnapshotFileError::File { .. } => Exit::Unavailable,
        }
    }
}

pub(super) fn run(command: &SnapshotCommand, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let (arguments, depth) = match command {
        SnapshotCommand::Inspect(arguments) => (arguments, Depth::File),
        SnapshotCommand::Verify(arguments) => (arguments, Depth::State),
    };
    let examination = Examination::of(&arguments.file, depth)?;
    match arguments.format() {
        Format::Json => json::print(out, &document(arguments, &examination))?,
        Format::People => print(arguments, &examination, out).map_err(CommandError::Output)?,
    }
    Ok(match examination.content {
        Ok(_) => Exit::Done,
        Err(_) => Exit::Negative,
    })
}

fn print(
    arguments: &SnapshotArguments,
    examination: &Examination,
    out: &mut dyn Write,
) -> io::Result<()> {
    if let Some(identity) = &examination.identity {
        print_identity(identity, out)?;
    }
    let content = match &examination.content {
        Ok(content) => content,
        Err(fault) => return writeln!(out, "{}: {fault}", arguments.file.display()),
    };
    let mut table = Table::new(["section", "chunks", "bytes"]);
    for total in &content.summary.sections {
        table.row([
            total.section.to_string(),
            total.chunk_count.to_string(),
            size(total.raw_bytes),
        ]);
    }
    table.print(out)?;
    let (file, raw) = (content.summary.file_bytes, content.summary.raw_bytes);
    writeln!(
        out,
        "whole: {} in the file, {} without compression",
        size(file),
        size(raw)
    )?;
    match content.key_count {
        Some(keys) => writeln!(out, "the state can be loaded: {keys} keys"),
        None => Ok(()),
    }
}

fn print_identity(identity: &SnapshotIdentity, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "shard {} at index {} of term {}, written by replica {} on node {} of cluster {}",
        identity.shard,
        identity.index,
        identity.term,
        identity.replica,
        identity.node,
        identity.cluster,
    )
}

fn document(arguments: &SnapshotArguments, examination: &Examination) -> Value {
    let mut document = json!({ "file": arguments.file.display().to_string() });
    if let Some(identity) = &examination.identity {
        document["cluster"] = json!(identity.cluster.to_string());
        document["node"] = json!(identity.node.0);
        document["shard"] = json!(identity.shard.0);
        document["replica"] = json!(identity.replica.0);
        document["index"] = json!(identity.index.0);
        document["term"] = json!(identity.term.0);
    }
    document["whole"] = json!(examination.content.is_ok());
    match &examination.content {
        Ok(content) => add_content(&mut document, content),
        Err(fault) => document["fault"] = json!(fault.to_string()),
    }
    document
}

fn add_content(document: &mut Value, content: &Content) {
    let summary = &content.summary;
    let sections = summary.sections.iter().map(|total| {
        json!({
            "section": total.section.to_string(),
            "number": total.section.0,
            "chunks": total.chunk_count,
            "raw_bytes": total.raw_bytes,
        })
    });
    document["sections"] = sections.collect();
    document["file_bytes"] = json!(summary.file_bytes);
    document["raw_bytes"] = json!(summary.raw_bytes);
    document["digest"] = json!(format!("{:032x}", summary.digest));
    if let Some(keys) = content.key_count {
        document["keys"] = json!(keys);
    }
}
