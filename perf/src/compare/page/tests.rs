mod reader;

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::compare::document::Sample;
use crate::compare::sample_documents;
use crate::latency::Spread;
use crate::output::number;
use reader::{Piece, numbers, read};

/// `METASTORE_REWRITE_GOLDEN=1` rewrites a golden file, and the difference is to be looked at.
fn assert_golden(name: &str, text: &str) {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("METASTORE_REWRITE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (line, golden_line) in text.lines().zip(golden.lines()) {
        assert_eq!(
            line, golden_line,
            "{name}: METASTORE_REWRITE_GOLDEN=1 rewrites it"
        );
    }
    assert_eq!(text.len(), golden.len(), "{name}");
}

#[test]
fn the_page_is_the_golden_page() {
    assert_golden("comparison.html", &render(&sample_documents::small()));
}

/// The format of documents is pinned too. A change of it is a new format.
#[test]
fn the_document_is_the_golden_document() {
    let mut text = serde_json::to_string_pretty(&sample_documents::small()).unwrap();
    text.push('\n');
    assert_golden("comparison.json", &text);
    let read: Document = serde_json::from_str(&text).unwrap();
    assert!(
        read == sample_documents::small(),
        "it is read back as it was written"
    );
}

/// Everything that may stand in a page of figures: each number of the document in all units in which it may be shown,
/// and the numbers in its texts.
fn numbers_of(value: &Value, known: &mut BTreeSet<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(found) => numbers_of_figure(found.as_f64().unwrap(), known),
        Value::String(text) => known.extend(numbers(text)),
        Value::Array(values) => values.iter().for_each(|value| numbers_of(value, known)),
        Value::Object(fields) => fields.values().for_each(|value| numbers_of(value, known)),
    }
}

fn numbers_of_figure(figure: f64, known: &mut BTreeSet<String>) {
    for unit in [1.0, 1e3, 1e6] {
        known.extend([number(figure / unit), words::plain(figure / unit)]);
    }
    known.extend(numbers(&words::share(figure)));
}

/// What is computed from the document and does not stand in it: counts, and middles of two.
fn computed_numbers(document: &Document, known: &mut BTreeSet<String>) {
    let samples: usize = document
        .rounds
        .iter()
        .map(|round| round.samples.len())
        .sum();
    let counted = document.rounds_counted().count();
    let thrown_away = document.rounds_thrown_away().count();
    let goals = document
        .ratios
        .iter()
        .filter(|ratio| ratio.goal.is_some())
        .count()
        + document.apart.len();
    let missed = document
        .ratios
        .iter()
        .filter(|ratio| ratio.figure.is_missed())
        .count();
    let void = document.rounds.iter().flat_map(|round| &round.samples);
    let void = void.filter(|sample| sample.void.is_some()).count();
    let per_round = document.rounds[0].samples.len();
    let counts = [
        samples,
        counted,
        thrown_away,
        counted + thrown_away,
        goals,
        missed,
        goals - missed,
        void,
    ];
    known.extend(counts.iter().chain([&per_round]).map(usize::to_string));
    // One of three samples of this point is void.
    let point = &document.header.workloads[1].points[1];
    let system = &document.header.systems[2].name;
    let usable = document.samples(&point.id, system).count();
    assert_eq!(
        (usable, document.samples_counted(&point.id, system).count()),
        (2, 3)
    );
    known.insert(usable.to_string());
    let values: [fn(&Sample) -> f64; 6] = [
        |sample| sample.achieved_per_second,
        |sample| sample.latency.p50_us,
        |sample| sample.latency.p99_us,
        |sample| sample.latency.p999_us,
        |sample| sample.latency.max_us,
        |sample| sample.costs.server_cpu_us.unwrap(),
    ];
    for value in values {
        let middle = Spread::of(document.samples(&point.id, system).map(value)).unwrap();
        numbers_of_figure(middle.median, known);
    }
}

/// Numbers in texts of the program: percentiles, and the size of the floor's writes.
const OWN_NUMBERS: [&str; 5] = ["50", "90", "99", "99.9", "4,096"];

fn is_tick(piece: &Piece) -> bool {
    piece
        .around
        .last()
        .and_then(|element| element.attribute("class"))
        == Some("tick-name")
}

/// The numbers of a page that do not come from a document.
fn foreign_numbers(page: &str, document: &Document) -> Vec<String> {
    let mut known: BTreeSet<String> = OWN_NUMBERS.map(str::to_owned).into();
    numbers_of(&serde_json::to_value(document).unwrap(), &mut known);
    computed_numbers(document, &mut known);
    let pieces = read(page);
    let shown = pieces.iter().filter(|piece| !is_tick(piece));
    shown
        .flat_map(|piece| numbers(&piece.text))
        .filter(|number| !known.contains(number))
        .collect()
}

#[test]
fn every_number_on_the_page_comes_from_the_document() {
    let document = sample_documents::small();
    let page = render(&document);
    assert_eq!(foreign_numbers(&page, &document), [""; 0]);
    // The test can fail.
    let forged = page.replace("</main>", "<p>7,654,321 at 98.7</p></main>");
    assert_eq!(foreign_numbers(&forged, &document), ["7,654,321", "98.7"]);
    let mut other = document.clone();
    other.rounds[0].floor_before.p50_us = 7_654e6;
    assert!(!foreign_numbers(&render(&other), &document).is_empty());
}

#[test]
fn marks_on_axes_are_round() {
    let page = render(&sample_documents::small());
    let ticks: Vec<Piece> = read(&page).into_iter().filter(is_tick).collect();
    assert!(ticks.len() > 20);
    for tick in ticks {
        let digits: String = tick.text.chars().filter(char::is_ascii_digit).collect();
        let digits = digits.trim_matches('0');
        assert!(["1", "2", "5"].contains(&digits), "{:?}", tick.text);
    }
}

#[test]
fn every_sample_and_every_reason_can_be_read() {
    let document = sample_documents::small();
    let page = render(&document);
    let text: String = read(&page)
        .iter()
        .map(|piece| format!("{}\n", piece.text))
        .collect();
    let has = |words: &str| assert!(text.contains(words), "{words}");
    for sample in document.rounds.iter().flat_map(|round| &round.samples) {
        has(&number(sample.achieved_per_second));
        for time in [
            sample.latency.p50_us,
            sample.latency.p99_us,
            sample.latency.p999_us,
        ] {
            has(&words::time(time));
        }
    }
    for ratio in &document.ratios {
        has(&number(ratio.figure.measured().unwrap().median));
        has(ratio.figure.name());
    }
    has("3 rounds count, 1 was thrown away.");
    has("✕ thrown away: the floor moved by 31 %");
    has("client-bound: the client was the bottleneck");
    has("2 missed");
    has("a2 beside brick");
    has("Without crate: ");
    has("the program crate-server is not installed");
    has("does not take part: it has no lists");
    has("brick reached less than 77,000/s at 1,024 in flight");
    has("anvil-server --sync always");
}

#[test]
fn whatever_a_document_holds_the_page_is_sound() {
    let evil = "\"'><script>alert(1)</script><!-- & \u{0}\u{202e}%{}";
    let documents = [
        sample_documents::empty(),
        sample_documents::small(),
        sample_documents::one_round(),
        sample_documents::without_brick(),
        sample_documents::all_void(),
        sample_documents::hostile(evil),
        sample_documents::hostile(""),
        sample_documents::hostile(&"long ".repeat(200)),
    ];
    for document in &documents {
        let page = render(document);
        assert_eq!(page, render(document));
        assert!(!read(&page).is_empty());
        for forbidden in [
            "<script", "<!--", "NaN", "inf%", "src=", "http", "url(", "@import",
        ] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }
}

#[test]
fn what_is_missing_is_said() {
    let has = |document: &Document, words: &str| {
        let pieces = read(&render(document));
        assert!(
            pieces.iter().any(|piece| piece.text.contains(words)),
            "{words}"
        );
    };
    let empty = sample_documents::empty();
    for words in [
        "There is no goal to judge by.",
        "0 rounds count, none was thrown away.",
        "No ratio was computed.",
        "No workload was measured.",
        "No workload was measured at shares of a capacity.",
        "No cost is known.",
        "No round was measured.",
        "There is none.",
    ] {
        has(&empty, words);
    }
    has(
        &sample_documents::one_round(),
        "1 round counts, none was thrown away.",
    );
    has(
        &sample_documents::without_brick(),
        "Not measured here: brick.",
    );
    let void = sample_documents::all_void();
    has(
        &void,
        "void in all 3 samples: operations failed: the connection was closed; reached ",
    );
    has(&void, "No point of it may be used.");
    has(&void, "5 not measured");
}
