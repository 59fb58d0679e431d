//! What became of the shards that a command went through.

use std::io::Write;

use serde_json::{Value, json};

use super::drive::{End, ShardReport};
use crate::arguments::Format;
use crate::commands::table::{Table, duration_ns};
use crate::commands::{CommandError, Exit, json};

/// Prints what was done and what was not; shards in which there was nothing to do are only counted.
pub(super) fn print(
    reports: &[ShardReport],
    format: Format,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    match format {
        Format::Json => {
            for report in reports {
                json::print(out, &document(report))?;
            }
        }
        Format::People => print_for_people(reports, out).map_err(CommandError::Output)?,
    }
    let is_done = |report: &ShardReport| !matches!(report.end, End::NotDone(_));
    match reports.iter().all(is_done) {
        true => Ok(Exit::Done),
        false => Ok(Exit::Negative),
    }
}

fn print_for_people(reports: &[ShardReport], out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = Table::new(["shard", "gone", "came", "took", "result"]);
    let id = |replica: Option<u64>| replica.map_or_else(|| "-".to_owned(), |id| id.to_string());
    for report in reports {
        let result = match &report.end {
            End::Nothing => continue,
            End::Made => "done".to_owned(),
            End::LearnsOnly => "it only learns: another operator removed the other".to_owned(),
            End::NotDone(why) => format!("not done: {why}"),
        };
        table.row([
            report.shard.to_string(),
            id(report.gone),
            id(report.came),
            duration_ns(u64::try_from(report.took.as_nanos()).unwrap_or(u64::MAX)),
            result,
        ]);
    }
    if !table.is_empty() {
        table.print(out)?;
    }
    writeln!(out, "{}", counts(reports))
}

fn counts(reports: &[ShardReport]) -> String {
    let count = |wanted: fn(&End) -> bool| reports.iter().filter(|one| wanted(&one.end)).count();
    let done = count(|end| matches!(end, End::Made | End::LearnsOnly));
    let before = count(|end| matches!(end, End::Nothing));
    let not_done = count(|end| matches!(end, End::NotDone(_)));
    let again = match not_done {
        0 => "",
        _ => "; ask for it again once what is named above has passed",
    };
    format!("{done} shards changed, {before} with nothing to do, {not_done} not done{again}")
}

fn document(report: &ShardReport) -> Value {
    let (result, why) = match &report.end {
        End::Made => ("done", None),
        End::Nothing => ("nothing", None),
        End::LearnsOnly => ("learns_only", None),
        End::NotDone(why) => ("not_done", Some(why)),
    };
    json!({
        "shard": report.shard,
        "gone": report.gone,
        "came": report.came,
        "result": result,
        "why": why,
        "took_ms": u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(shard: u32, end: End) -> ShardReport {
        ShardReport {
            shard,
            gone: Some(3),
            came: None,
            end,
            took: Duration::from_millis(1_500),
        }
    }

    #[test]
    fn what_is_not_done_is_named_and_counts() {
        let reports = [
            report(0, End::Made),
            report(1, End::Nothing),
            report(2, End::NotDone("nobody leads".to_owned())),
        ];
        let mut out = Vec::new();
        let exit = print(&reports, Format::People, &mut out).expect("memory takes it");
        assert_eq!(exit, Exit::Negative);
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[2].ends_with("not done: nobody leads"), "{text}");
        assert!(lines[3].starts_with("1 shards changed, 1 with nothing to do, 1 not done"));
        let exit = print(&reports[..2], Format::Json, &mut Vec::new());
        assert_eq!(exit.expect("memory takes it"), Exit::Done);
        assert_eq!(document(&reports[2])["why"], "nobody leads");
        assert_eq!(document(&reports[0])["took_ms"], 1_500);
    }
}
