//! What a command costs each system, what the client and others took meanwhile, and where the time goes in ours.

use super::html::Html;
use super::view::{Look, View};
use super::words;
use crate::compare::document::{Point, Sample};
use crate::latency::Spread;

/// Something that is measured: its name, its value in a sample, and how that is written.
struct Measure {
    name: &'static str,
    value: fn(&Sample) -> Option<f64>,
    words: fn(f64) -> String,
}

/// What a table tells of every point.
struct CostTable {
    title: &'static str,
    note: &'static str,
    measures: &'static [Measure],
}

/// A measure with the systems of which it is known.
struct Column<'a> {
    measure: &'static Measure,
    looks: Vec<Look<'a>>,
}

const TABLES: [CostTable; 2] = [
    CostTable {
        title: "Of the server, for each command",
        note: "CPU and bytes by the kernel's account of its process; flushes by its own count.",
        measures: &[
            Measure {
                name: "CPU",
                value: |sample| sample.costs.server_cpu_us,
                words: words::time,
            },
            Measure {
                name: "bytes written",
                value: |sample| sample.costs.written_bytes,
                words: words::bytes,
            },
            Measure {
                name: "flushes",
                value: |sample| sample.costs.flushes,
                words: crate::output::number,
            },
            Measure {
                name: "system calls",
                value: |sample| sample.costs.syscalls,
                words: crate::output::number,
            },
            Measure {
                name: "allocations",
                value: |sample| sample.costs.allocations,
                words: crate::output::number,
            },
        ],
    },
    CostTable {
        title: "Of the machine meanwhile",
        note: "Shares of one processor: what the client took, and what processes took that have no part in it.",
        measures: &[
            Measure {
                name: "the client's CPU",
                value: |sample| Some(sample.client_cpu_share),
                words: words::share,
            },
            Measure {
                name: "others' CPU",
                value: |sample| sample.others_cpu_share,
                words: words::share,
            },
        ],
    },
];

/// The tables of costs, with the columns of which anything is known.
pub(super) fn write_costs(html: &mut Html, view: &View<'_>) {
    let mut is_anything_known = false;
    for table in &TABLES {
        let columns: Vec<Column<'_>> = table
            .measures
            .iter()
            .filter_map(|measure| Column::of(view, measure))
            .collect();
        if !columns.is_empty() {
            is_anything_known = true;
            write_table(html, view, table, &columns);
        }
    }
    if !is_anything_known {
        html.leaf("p", &[("class", "nothing")], "No cost is known.");
    }
    write_stages(html, view);
}

impl<'a> Column<'a> {
    /// The column of a measure, if it is known of any system.
    fn of(view: &View<'a>, measure: &'static Measure) -> Option<Column<'a>> {
        let is_known = |look: &&Look<'a>| {
            let counted = view.document.rounds_counted();
            let mut samples = counted.flat_map(|round| &round.samples);
            samples.any(|sample| {
                sample.system == *look.name
                    && sample.void.is_none()
                    && (measure.value)(sample).is_some()
            })
        };
        let looks: Vec<Look<'a>> = view.systems.iter().filter(is_known).copied().collect();
        (!looks.is_empty()).then_some(Column { measure, looks })
    }
}

fn write_table(html: &mut Html, view: &View<'_>, table: &CostTable, columns: &[Column<'_>]) {
    html.leaf("h3", &[], table.title);
    html.leaf("p", &[("class", "note")], table.note);
    html.scrolling(table.title, |html| {
        html.within("table", &[("class", "plain costs")], |html| {
            html.within("thead", &[], |html| write_head(html, columns));
            html.within("tbody", &[], |html| {
                for workload in &view.document.header.workloads {
                    for point in &workload.points {
                        write_point(html, view, point, columns);
                    }
                }
            });
        });
    });
}

fn write_head(html: &mut Html, columns: &[Column<'_>]) {
    html.within("tr", &[], |html| {
        html.leaf("th", &[("scope", "col"), ("rowspan", "2")], "point");
        for column in columns {
            let span = column.looks.len().to_string();
            let attributes = [
                ("scope", "colgroup"),
                ("colspan", &span),
                ("class", "first"),
            ];
            html.leaf("th", &attributes, column.measure.name);
        }
    });
    html.within("tr", &[], |html| {
        for column in columns {
            for (position, look) in column.looks.iter().enumerate() {
                html.within(
                    "th",
                    &[("scope", "col"), ("class", class_of(position))],
                    |html| {
                        let class = format!("chip {}", look.class);
                        html.leaf("span", &[("class", &class)], &look.name.0);
                    },
                );
            }
        }
    });
}

/// The first cell of a group stands apart from the group before.
fn class_of(position: usize) -> &'static str {
    match position {
        0 => "figure first",
        _ => "figure",
    }
}

fn write_point(html: &mut Html, view: &View<'_>, point: &Point, columns: &[Column<'_>]) {
    let is_measured =
        |look: &Look<'_>| view.document.samples(&point.id, look.name).next().is_some();
    if !view.systems.iter().any(is_measured) {
        return;
    }
    html.within("tr", &[], |html| {
        html.leaf("th", &[("scope", "row")], &point.id.0);
        for Column { measure, looks } in columns {
            for (position, look) in looks.iter().enumerate() {
                let cost = view.document.spread(&point.id, look.name, measure.value);
                html.within("td", &[("class", class_of(position))], |html| {
                    write_cost(html, cost, measure.words);
                });
            }
        }
    });
}

fn write_cost(html: &mut Html, cost: Option<Spread>, words: fn(f64) -> String) {
    let Some(cost) = cost else {
        return html.text("–");
    };
    html.text(&words(cost.median));
    if let Some(range) = words::range(&cost, words) {
        html.leaf("small", &[], &range);
    }
}

/// How long requests stay in each stage of ours, in the last round that counts.
fn write_stages(html: &mut Html, view: &View<'_>) {
    let mut shown: Vec<&Sample> = Vec::new();
    for sample in view
        .document
        .rounds_counted()
        .flat_map(|round| &round.samples)
    {
        if sample.void.is_none() && !sample.stages.is_empty() {
            shown.retain(|other| other.point != sample.point || other.system != sample.system);
            shown.push(sample);
        }
    }
    if shown.is_empty() {
        return;
    }
    html.leaf("h3", &[], "Where the time of a request goes");
    html.leaf(
        "p",
        &[("class", "note")],
        "In the last round that counts: p50, and p99 below it.",
    );
    html.scrolling("Stages of a request", |html| {
        for sample in shown {
            html.within("table", &[("class", "plain stages")], |html| {
                let caption = format!("{}, {}", sample.point, sample.system);
                html.leaf("caption", &[], &caption);
                html.within("tr", &[], |html| {
                    for stage in &sample.stages {
                        html.leaf("th", &[("scope", "col"), ("class", "figure")], &stage.name);
                    }
                });
                html.within("tr", &[], |html| {
                    for stage in &sample.stages {
                        html.within("td", &[("class", "figure")], |html| {
                            html.text(&words::time(stage.p50_us));
                            html.leaf("small", &[], &words::time(stage.p99_us));
                        });
                    }
                });
            });
        }
    });
}
