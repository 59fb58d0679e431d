//! Storing a tree.

use std::io::Write;
use std::path::Path;

use metastore_net::blocking::Client;
use serde_json::json;

use super::keys::Keys;
use super::patience::Patience;
use super::pipeline::Pipeline;
use super::progress::{Amount, Progress, rate_per_s};
use super::walk::Sight;
use super::{Tree, TreeError};
use crate::arguments::Format;
use crate::commands::text::Escaped;
use crate::commands::{CommandError, Exit, json, tell};

/// How many of the entries that could not be stored are named; the rest is counted.
const NAMED_MAX: u64 = 100;

/// Walks and puts; ends with a line of numbers. An entry that could not be stored makes the answer negative; one that
/// vanished before it could be looked at does not: it is as if it had gone a moment earlier.
pub(super) fn run(
    client: &mut Client,
    tree: Tree,
    patience: Patience,
    format: Format,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let mut walk = tree.walk;
    let mut load = Load {
        keys: &tree.keys,
        pipeline: Pipeline::new(client, patience),
        progress: Progress::new(),
        amount: Amount::default(),
        vanished: 0,
        left_out: 0,
    };
    load.entry(&tree.root, Sight::Seen(tree.attributes))?;
    for listing in walk.by_ref() {
        if let Some(fault) = listing.fault {
            load.unseen(&listing.path, &Sight::from(fault));
        }
        for entry in listing.entries {
            load.entry(&entry.path, entry.sight)?;
        }
    }
    load.pipeline.finish()?;
    assert_eq!(
        load.pipeline.stored, load.amount.entries,
        "every put was answered"
    );
    load.print(walk.mounts_passed, format, out)
}

struct Load<'c> {
    keys: &'c Keys,
    pipeline: Pipeline<'c>,
    progress: Progress,
    /// Entries put, and the bytes of their keys and values.
    amount: Amount,
    vanished: u64,
    left_out: u64,
}

impl Load<'_> {
    fn entry(&mut self, path: &Path, sight: Sight) -> Result<(), TreeError> {
        let Sight::Seen(attributes) = sight else {
            self.unseen(path, &sight);
            return Ok(());
        };
        let key = self.keys.key(path);
        if !self.pipeline.has_room_for(&key) {
            self.leave_out(path, &"the server takes no keys of that length");
            return Ok(());
        }
        let value = attributes.to_value();
        self.amount.entries += 1;
        self.amount.bytes += (key.len() + value.len()) as u64;
        self.pipeline.put(key, value)?;
        self.progress.tell(self.amount);
        Ok(())
    }

    fn unseen(&mut self, path: &Path, sight: &Sight) {
        match sight {
            Sight::Seen(_) => unreachable!("the caller stores what it sees"),
            Sight::Absent => self.vanished += 1,
            Sight::Unreadable(error) => self.leave_out(path, error),
        }
    }

    fn leave_out(&mut self, path: &Path, why: &dyn std::fmt::Display) {
        self.left_out += 1;
        if self.left_out <= NAMED_MAX {
            self.progress.clear();
            let path = Escaped(path.as_os_str().as_encoded_bytes());
            tell(&format_args!("left out {path}: {why}"));
        }
    }

    fn print(
        mut self,
        mounts_passed: u64,
        format: Format,
        out: &mut dyn Write,
    ) -> Result<Exit, CommandError> {
        self.progress.clear();
        let elapsed = self.progress.elapsed();
        if format == Format::Json {
            let answer = json!({
                "entries": self.amount.entries,
                "bytes": self.amount.bytes,
                "seconds": elapsed.as_secs_f64(),
                "entries_per_s": rate_per_s(self.amount.entries, elapsed),
                "vanished": self.vanished,
                "left_out": self.left_out,
                "mounts_not_entered": mounts_passed,
            });
            json::print(out, &answer)?;
        } else {
            self.print_for_people(mounts_passed, out)
                .map_err(CommandError::Output)?;
        }
        Ok(if self.left_out == 0 {
            Exit::Done
        } else {
            Exit::Negative
        })
    }

    fn print_for_people(&self, mounts_passed: u64, out: &mut dyn Write) -> std::io::Result<()> {
        if mounts_passed > 0 {
            writeln!(out, "{mounts_passed} other file systems not entered")?;
        }
        if self.vanished > 0 {
            writeln!(out, "{} entries vanished during the walk", self.vanished)?;
        }
        if self.left_out > 0 {
            writeln!(out, "{} entries could not be stored", self.left_out)?;
        }
        writeln!(out, "{}", self.progress.summary(self.amount))
    }
}
