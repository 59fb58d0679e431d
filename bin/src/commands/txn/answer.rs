//! What came of a transaction, for people and for programs.

use std::io::Write;

use metastore_net::blocking::{OwnedDetail, OwnedOutcome, OwnedRow, OwnedTxn, OwnedTxnResult};
use metastore_statemachine::{Branch, OutcomeCode};
use serde_json::{Value, json};

use super::super::text::Escaped;
use super::super::{CommandError, json, tell};

/// Prints a line with the list that was done and the revision, then a line or more for each operation. Returns the list;
/// `None` when nothing was done.
pub(super) fn print_text(
    outcome: &OwnedOutcome,
    out: &mut dyn Write,
) -> Result<Option<Branch>, CommandError> {
    let Some(OwnedDetail::Txn(results)) = &outcome.detail else {
        tell(&format_args!("nothing was done: {}", refusal(outcome)));
        return Ok(None);
    };
    let mut lines = vec![format!("{} {}", name(results.branch), outcome.revision)];
    tell_results(results, &mut lines);
    for line in lines {
        writeln!(out, "{line}").map_err(CommandError::Output)?;
    }
    Ok(Some(results.branch))
}

/// Prints one object.
pub(super) fn print_json(
    outcome: &OwnedOutcome,
    out: &mut dyn Write,
) -> Result<Option<Branch>, CommandError> {
    let Some(OwnedDetail::Txn(results)) = &outcome.detail else {
        let answer = json!({
            "done": false,
            "revision": outcome.revision.0,
            "reason": refusal(outcome),
        });
        json::print(out, &answer)?;
        return Ok(None);
    };
    let mut answer = results_json(results);
    answer["done"] = json!(true);
    answer["revision"] = json!(outcome.revision.0);
    json::print(out, &answer)?;
    Ok(Some(results.branch))
}

fn name(branch: Branch) -> &'static str {
    match branch {
        Branch::Then => "then",
        Branch::Otherwise => "else",
    }
}

/// Why nothing was done.
fn refusal(outcome: &OwnedOutcome) -> String {
    let reason = match outcome.code {
        OutcomeCode::Conflict => format!(
            "a condition does not hold, the key is at revision {}",
            outcome.revision
        ),
        OutcomeCode::NotANumber => "a value is not a counter of eight bytes".to_owned(),
        OutcomeCode::Overflow => "a sum does not fit 64 bits".to_owned(),
        OutcomeCode::TooLarge => "a value would outgrow its limit".to_owned(),
        OutcomeCode::OverBudget => {
            "it looks at more keys, or answers with more bytes, than one transaction may".to_owned()
        }
        OutcomeCode::Done
        | OutcomeCode::Absent
        | OutcomeCode::Compacted
        | OutcomeCode::FutureRevision => format!("{:?}", outcome.code),
    };
    match outcome.detail {
        Some(OwnedDetail::FailedStep(step)) => format!("operation {}: {reason}", step + 1),
        _ => reason,
    }
}

fn tell_results(results: &OwnedTxn, lines: &mut Vec<String>) {
    let row = |row: &OwnedRow| format!("{}\t{}", Escaped(&row.key), Escaped(&row.value));
    for result in &results.results {
        match result {
            OwnedTxnResult::Mutation(outcome) => lines.push(match (outcome.code, outcome.number) {
                (OutcomeCode::Absent, _) => "absent".to_owned(),
                (_, Some(number)) => format!("done {number}"),
                (_, None) => "done".to_owned(),
            }),
            OwnedTxnResult::Get(None) => lines.push("absent".to_owned()),
            OwnedTxnResult::Get(Some(found)) => lines.push(row(found)),
            OwnedTxnResult::Range { rows, .. } => lines.extend(rows.iter().map(row)),
            OwnedTxnResult::DeleteRange(count) => lines.push(format!("deleted {count}")),
            OwnedTxnResult::Txn(within) => {
                lines.push(name(within.branch).to_owned());
                tell_results(within, lines);
            }
        }
    }
}

fn results_json(results: &OwnedTxn) -> Value {
    let result = |result: &OwnedTxnResult| match result {
        OwnedTxnResult::Mutation(outcome) => json!({
            "done": outcome.code == OutcomeCode::Done,
            "number": outcome.number,
            "previous": outcome.previous.as_ref().map(json::owned_row),
        }),
        OwnedTxnResult::Get(row) => json!({ "row": row.as_ref().map(json::owned_row) }),
        OwnedTxnResult::Range { has_more, rows } => {
            let rows: Vec<_> = rows.iter().map(json::owned_row).collect();
            json!({ "rows": rows, "more": has_more })
        }
        OwnedTxnResult::DeleteRange(count) => json!({ "deleted": count }),
        OwnedTxnResult::Txn(within) => results_json(within),
    };
    let list: Vec<_> = results.results.iter().map(result).collect();
    json!({ "branch": name(results.branch), "results": list })
}
