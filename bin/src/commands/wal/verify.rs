//! `metastore wal verify`: would the node start?

use std::io::{self, Write};

use metastore_engine::CoreId;
use serde_json::json;

use super::Data;
use super::describe::{self, ADVICE};
use super::judgement::Judgement;
use crate::arguments::{Format, VerifyArguments};
use crate::commands::{CommandError, Exit, json};

/// Prints a line or more for each core. Every core is looked at, also behind a damaged one.
pub(super) fn run(arguments: &VerifyArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let data = Data::open(&arguments.wal.data)?;
    let mut would_start = true;
    for core in cores(&data) {
        let judgement = Judgement::new(&data, core, &mut |_| {});
        would_start &= judgement.verdict.is_start();
        match arguments.wal.format() {
            Format::Json => json::print(out, &describe::document(&data, core, &judgement))?,
            Format::People => {
                print(&data, core, &judgement, out).map_err(CommandError::Output)?;
            }
        }
    }
    match arguments.wal.format() {
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

fn print(data: &Data, core: CoreId, judgement: &Judgement, out: &mut dyn Write) -> io::Result<()> {
    let lines = describe::lines(data, core, judgement);
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    let Some(survey) = judgement
        .survey
        .as_ref()
        .filter(|_| judgement.verdict.is_start())
    else {
        return Ok(());
    };
    writeln!(
        out,
        "core {core}: {} records up to {}, known to be durable up to {}, epoch {}",
        survey.surviving_records, survey.last_record, survey.watermark, survey.epoch
    )
}
