//! `metastore wal verify`: would the node start?

use std::io::Write;

use metastore_engine::CoreId;
use serde_json::json;

use super::Data;
use super::describe::{self, ADVICE};
use super::inspect;
use super::judgement::Judgement;
use crate::arguments::{Format, VerifyArguments};
use crate::commands::{CommandError, Exit, json};

/// How many of the last records people are shown: those that a crash could have touched.
const RECORDS_SHOWN: usize = 3;

/// Prints for each core its last records, segments, replicas and the decision. Every core is looked at, also behind a
/// damaged one.
pub(super) fn run(arguments: &VerifyArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let data = Data::open(&arguments.wal.data)?;
    let format = arguments.wal.format();
    let mut would_start = true;
    for core in cores(&data) {
        would_start &= match format {
            Format::Json => {
                let judgement = Judgement::new(&data, core, &mut |_| {});
                json::print(out, &describe::document(&data, core, &judgement))?;
                judgement.verdict.is_start()
            }
            Format::People => inspect::show(&data, core, format, Some(RECORDS_SHOWN), out)?,
        };
    }
    match format {
        Format::Json => json::print(out, &json!({ "starts": would_start }))?,
        Format::People if would_start => {}
        Format::People => writeln!(out, "{ADVICE}").map_err(CommandError::Output)?,
    }
    Ok(if would_start {
        Exit::Done
    } else {
        Exit::Negative
    })
}

/// The cores of the node.
pub(super) fn cores(data: &Data) -> impl Iterator<Item = CoreId> + use<> {
    let count = u16::try_from(data.node.cores).unwrap_or(u16::MAX);
    (0..count).map(CoreId)
}
