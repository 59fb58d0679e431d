//! The metrics that `docs/OPERATIONS.md` lists: the rows of its tables that begin with a metric's name.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::path::Path;

/// A row of such a table.
pub(crate) struct MetricRow {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) unit: String,
    /// With commas between them.
    pub(crate) labels: String,
}

/// All rows, in their order.
pub(crate) fn metric_rows() -> Vec<MetricRow> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
    let text = fs::read_to_string(path).expect("the document can be read");
    let rows: Vec<MetricRow> = text.lines().filter_map(row_of).collect();
    assert!(rows.len() > 50, "the document lists the metrics");
    rows
}

fn row_of(line: &str) -> Option<MetricRow> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [name, kind, unit, labels, meaning] = cells[..] else {
        return None;
    };
    let name = name.strip_prefix('`')?.strip_suffix('`')?;
    assert!(!meaning.is_empty(), "{name} has no meaning");
    Some(MetricRow {
        name: name.to_owned(),
        kind: kind.to_owned(),
        unit: unit.to_owned(),
        labels: labels.to_owned(),
    })
}
