//! The alerts and the board that are shipped name only what a node exports, and the document explains every alert.

mod metric_table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use metric_table::{MetricRow, metric_rows};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text_of(path: &str) -> String {
    let read = fs::read_to_string(root().join(path));
    read.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The series that a node exports. `docs/OPERATIONS.md` lists its families, which another test holds against a node that
/// runs.
fn exported() -> BTreeSet<String> {
    let mut series = BTreeSet::new();
    for MetricRow { name, kind, .. } in metric_rows() {
        match kind.as_str() {
            "histogram" => {
                series.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")))
            }
            _ => {
                series.insert(name);
            }
        }
    }
    // Prometheus adds it to every target.
    series.insert("up".to_owned());
    series
}

/// Words of an expression that may name a series: those that are no function, no label and no word of the language.
fn series_in(expression: &str) -> BTreeSet<String> {
    let mut bare = String::new();
    let (mut in_text, mut in_labels) = (false, false);
    for character in expression.chars() {
        match character {
            '"' => in_text = !in_text,
            '{' | '[' if !in_text => in_labels = true,
            '}' | ']' if !in_text => in_labels = false,
            other if !in_text && !in_labels => bare.push(other),
            _ => {}
        }
    }
    // The labels behind these words stand in brackets of their own.
    for word in [
        "by",
        "on",
        "group_right",
        "group_left",
        "without",
        "ignoring",
    ] {
        while let Some(at) = bare.find(&format!(" {word} (")) {
            let end = bare[at..].find(')').expect("a bracket is closed") + at;
            bare.replace_range(at..=end, " ");
        }
    }
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    let words: BTreeSet<&str> = bare.split(|character| !is_part(character)).collect();
    let is_function = |word: &str| bare.contains(&format!("{word}("));
    let is_operator = |word: &str| {
        [
            "and", "or", "unless", "offset", "sum", "max", "min", "count", "bool",
        ]
        .contains(&word)
    };
    let is_name = |word: &&str| {
        let begins = word.starts_with(|first: char| first.is_ascii_alphabetic());
        begins && !is_function(word) && !is_operator(word)
    };
    words
        .into_iter()
        .filter(is_name)
        .map(str::to_owned)
        .collect()
}

fn check_expression(place: &str, expression: &str, exported: &BTreeSet<String>) {
    let named = series_in(expression);
    assert!(!named.is_empty(), "{place} names no series: {expression}");
    for series in named {
        assert!(
            exported.contains(&series),
            "{place} names {series}, which no node exports: {expression}"
        );
    }
}

/// A rule as it stands in the file.
#[derive(Debug, Default)]
struct Rule {
    alert: String,
    expression: String,
    waits: Option<String>,
    severity: String,
    summary: String,
}

/// Reads the rules. The file is YAML of one shape, and whatever has another is refused: `promtool check rules` knows the rest.
fn rules() -> Vec<Rule> {
    let text = text_of("examples/metastore-alerts.yml");
    let lines = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let mut rules: Vec<Rule> = Vec::new();
    for line in lines {
        let depth = line.len() - line.trim_start().len();
        let (key, value) = line.trim_start().split_once(':').expect("a key");
        let value = value.trim();
        if (depth, key) == (6, "- alert") {
            rules.push(Rule {
                alert: value.to_owned(),
                ..Rule::default()
            });
            continue;
        }
        let Some(rule) = rules.last_mut() else {
            let head = [
                (0, "groups", ""),
                (2, "- name", "metastore"),
                (4, "rules", ""),
            ];
            assert!(head.contains(&(depth, key, value)), "{line}");
            continue;
        };
        match (depth, key) {
            (8, "expr") => rule.expression = value.to_owned(),
            (8, "for") => rule.waits = Some(value.to_owned()),
            (8, "labels" | "annotations") => assert_eq!(value, "", "{line}"),
            (10, "severity") => rule.severity = value.to_owned(),
            (10, "summary") => rule.summary = value.to_owned(),
            _ => panic!("{line}"),
        }
        // A colon with a space would begin a key, and a sign with a space a comment.
        let is_plain = !value.contains(": ") && !value.contains(" #");
        assert!(is_plain || value.starts_with('"'), "{line}");
    }
    rules
}

#[test]
fn every_alert_names_what_nodes_export_and_is_explained() {
    let exported = exported();
    let document = text_of("docs/OPERATIONS.md");
    let mut names = BTreeSet::new();
    for rule in rules() {
        let alert = &rule.alert;
        assert!(names.insert(alert.clone()), "{alert} stands twice");
        check_expression(alert, &rule.expression, &exported);
        let has_unit = |waits: &String| waits.ends_with(['s', 'm', 'h']);
        assert!(rule.waits.as_ref().is_none_or(has_unit), "{rule:?}");
        assert!(
            ["critical", "warning", "info"].contains(&rule.severity.as_str()),
            "{rule:?}"
        );
        let is_text = rule.summary.starts_with('"') && rule.summary.ends_with('"');
        assert!(is_text && rule.summary.len() > 10, "{rule:?}");
        let section = document.split(&format!("\n#### {alert}\n\n")).nth(1);
        let section =
            section.unwrap_or_else(|| panic!("docs/OPERATIONS.md does not explain {alert}"));
        let section = section.split("\n#").next().unwrap_or_default();
        assert!(section.len() > 80, "{alert} is hardly explained: {section}");
    }
    assert!(names.len() > 20, "{names:?}");
    let explained = document
        .lines()
        .filter_map(|line| line.strip_prefix("#### Metastore"));
    for name in explained {
        assert!(
            names.contains(&format!("Metastore{name}")),
            "there is no alert Metastore{name}"
        );
    }
}

#[test]
fn the_board_can_be_imported_and_shows_what_nodes_export() {
    let exported = exported();
    let board: Value =
        serde_json::from_str(&text_of("examples/metastore-dashboard.json")).expect("JSON");
    assert!(
        board["id"].is_null(),
        "one that is imported gets a number of its own"
    );
    assert_eq!(board["title"], "MetaStore");
    let (mut ids, mut expressions) = (BTreeSet::new(), 0);
    let panels = board["panels"].as_array().expect("panels");
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            ids.insert(panel["id"].as_u64().expect("a number")),
            "{title}"
        );
        let place = &panel["gridPos"];
        for key in ["h", "w", "x", "y"] {
            assert!(place[key].is_u64(), "{title} has no place");
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            let plain = expression.replace("$__rate_interval", "5m");
            check_expression(title, &plain, &exported);
            expressions += 1;
        }
    }
    assert!(expressions > 20, "{expressions}");
    for variable in board["templating"]["list"].as_array().expect("variables") {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().expect("a query");
            let series = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.split(['{', ',']).next());
            assert!(exported.contains(series.expect("label_values")), "{query}");
        }
    }
}

#[test]
fn names_are_found_in_expressions() {
    let found = |expression| series_in(expression).into_iter().collect::<Vec<_>>();
    assert_eq!(found("up{job=\"metastore\"} == 0"), ["up"]);
    assert_eq!(
        found(
            "histogram_quantile(0.99, sum by (instance, le) (rate(a_bucket{stage=\"b\"}[5m]))) > 1"
        ),
        ["a_bucket"]
    );
    assert_eq!(
        found("max by (shard) (a) - on (shard) group_right () b > 10"),
        ["a", "b"]
    );
    assert_eq!(
        found("(min by (s) (a) < 3) and on () (count(b) > 2)"),
        ["a", "b"]
    );
}
