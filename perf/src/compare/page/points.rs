//! Rates and latencies of every point: a table for each workload, with a drawing beside each figure.

use super::html::Html;
use super::scale::Scale;
use super::strip::{Mark, Shape, Strip, draw_axis};
use super::view::{Figures, Look, View};
use super::words;
use crate::compare::document::{Point, PointPace, Waits, WorkloadPlan};
use crate::latency::Spread;
use crate::output::number;

/// Names of the columns: drawings with their figures behind them.
const COLUMNS: [&str; 9] = [
    "system",
    "a second, from zero",
    "median, extremes",
    "latency, logarithmic",
    "p50",
    "p99",
    "p99.9",
    "max",
    "samples",
];

/// What the disk does by itself, beside a point that waits for it.
#[derive(Debug, Clone, Copy)]
struct FloorAt {
    per_second: f64,
    p50_us: f64,
}

/// A system at a point.
struct Row<'a> {
    look: Look<'a>,
    figures: Figures,
    floor: Option<FloorAt>,
}

/// All points of a workload.
pub(super) fn write_workload(html: &mut Html, view: &View<'_>, workload: &WorkloadPlan) {
    html.within("section", &[("class", "workload")], |html| {
        html.within("h3", &[], |html| {
            html.leaf("span", &[("class", "workload-id")], &workload.id);
            html.text(&format!(" {}", workload.title));
        });
        for skipped in &workload.skipped {
            html.within("p", &[("class", "skipped")], |html| {
                html.leaf("b", &[], &skipped.name.0);
                html.text(&format!(" does not take part: {}", skipped.why));
            });
        }
        if workload.points.is_empty() {
            html.leaf("p", &[("class", "nothing")], "It has no points.");
            return;
        }
        write_table(html, view, workload);
    });
}

fn write_table(html: &mut Html, view: &View<'_>, workload: &WorkloadPlan) {
    let systems = view.systems_of(workload);
    let scale = latency_scale(view, workload, &systems);
    html.within("table", &[("class", "points")], |html| {
        html.leaf(
            "caption",
            &[("class", "unseen")],
            &format!("Rates and latencies of {}", workload.id),
        );
        html.within("thead", &[], |html| {
            html.within("tr", &[], |html| {
                for column in COLUMNS {
                    html.leaf("th", &[("scope", "col")], column);
                }
            });
        });
        for point in &workload.points {
            html.within("tbody", &[], |html| {
                write_point(html, view, point, &systems, scale.as_ref())
            });
        }
        if let Some(scale) = &scale {
            html.within("tfoot", &[("aria-hidden", "true")], |html| {
                html.within("tr", &[], |html| {
                    html.within("td", &[("colspan", "3")], |_| ());
                    html.within("td", &[("class", "drawing")], |html| {
                        draw_axis(html, scale, words::plain_time)
                    });
                    html.within("td", &[("colspan", "5")], |_| ());
                });
            });
        }
    });
}

/// One axis for all latencies of a workload, the floor's included. None where there is no latency.
fn latency_scale(view: &View<'_>, workload: &WorkloadPlan, systems: &[Look<'_>]) -> Option<Scale> {
    let mut values = Vec::new();
    let mut floors = Vec::new();
    for point in &workload.points {
        floors.extend(FloorAt::of(view, point).map(|floor| floor.p50_us));
        for look in systems {
            let figures = view.figures(point, look.name);
            let spreads = [figures.p50_us, figures.p99_us, figures.p999_us];
            values.extend(spreads.into_iter().flatten().map(|spread| spread.median));
        }
    }
    if values.is_empty() {
        return None;
    }
    Scale::log(values.into_iter().chain(floors))
}

fn write_point(
    html: &mut Html,
    view: &View<'_>,
    point: &Point,
    systems: &[Look<'_>],
    latency: Option<&Scale>,
) {
    html.within("tr", &[("class", "head")], |html| {
        html.within("th", &[("colspan", "9"), ("scope", "rowgroup")], |html| {
            html.leaf("b", &[], &point.label);
            html.leaf(
                "span",
                &[("class", "note")],
                &format!(" {}", point_words(point)),
            );
            if let Some(floor) = FloorAt::of(view, point).map(|floor| floor.words()) {
                html.leaf("span", &[("class", "note floor-key")], &floor);
            }
        });
    });
    let floor = FloorAt::of(view, point);
    let was_tried = |look: &&Look<'_>| view.was_tried(point, look.name);
    let (tried, untried): (Vec<&Look<'_>>, Vec<&Look<'_>>) = systems.iter().partition(was_tried);
    let rows: Vec<Row<'_>> = tried
        .into_iter()
        .map(|look| Row {
            look: *look,
            figures: view.figures(point, look.name),
            floor,
        })
        .collect();
    let greatest = rows
        .iter()
        .filter_map(|row| row.figures.rate)
        .map(|rate| rate.max);
    let rates = Scale::linear(greatest.chain(floor.map(|floor| floor.per_second)));
    for row in &rows {
        let class = row.look.class;
        html.within("tr", &[("class", class)], |html| {
            html.within("th", &[("scope", "row")], |html| {
                html.leaf(
                    "span",
                    &[("class", &format!("chip {class}"))],
                    &row.look.name.0,
                );
            });
            match (row.figures.rate, rates) {
                (Some(rate), Some(scale)) => {
                    row.write_rate(html, &rate, &scale);
                    row.write_latency(html, latency);
                    row.write_use(html);
                }
                _ => write_absence(html, &row.figures),
            }
        });
    }
    let untried: Vec<&str> = untried.iter().map(|look| look.name.0.as_str()).collect();
    write_unmeasured(html, &untried);
}

impl FloorAt {
    fn of(view: &View<'_>, point: &Point) -> Option<FloorAt> {
        match point.waits {
            Waits::ForNothing => None,
            Waits::ForDisk => Some(FloorAt {
                per_second: view.floor(point, |floor| floor.writes_per_second)?.median,
                p50_us: view.floor(point, |floor| floor.p50_us)?.median,
            }),
        }
    }

    fn words(&self) -> String {
        format!(
            "the disk alone: {}, p50 {}",
            words::rate(self.per_second),
            words::time(self.p50_us)
        )
    }
}

/// What is asked, and how much of it at once.
fn point_words(point: &Point) -> String {
    let connections = words::count(point.connections, "connection", "connections");
    let load = match point.pace {
        PointPace::Closed => match point.in_flight_per_connection {
            1 => connections,
            depth => format!("{connections} × {depth} in flight"),
        },
        PointPace::ShareOfCapacity(share) => format!(
            "open loop at {} of its own capacity, {connections}",
            words::share(share)
        ),
    };
    let batch = match point.commands_per_operation {
        1 => String::new(),
        commands => format!(" in batches of {}", words::plain(commands as f64)),
    };
    format!("{}{batch} · {load}", point.operation)
}

impl Row<'_> {
    fn write_rate(&self, html: &mut Html, rate: &Spread, scale: &Scale) {
        let range = words::range(rate, number);
        let label = format!("{}: {}", self.look.name, words::rate(rate.median));
        html.within("td", &[("class", "drawing")], |html| {
            let strip = Strip {
                bar: Some(rate.median),
                whisker: range.is_some().then_some((rate.min, rate.max)),
                rules: self.rule(|floor| floor.per_second),
                ..Strip::default()
            };
            strip.draw(html, scale, self.look.class, &label);
        });
        html.within("td", &[("class", "figure rate")], |html| {
            html.leaf("b", &[], &words::rate(rate.median));
            if let Some(range) = range {
                html.leaf("small", &[], &range);
            }
            if let Some(offered) = self.figures.offered {
                let offered = format!("of {} offered", words::rate(offered.median));
                html.leaf("small", &[], &offered);
            }
        });
    }

    fn write_latency(&self, html: &mut Html, scale: Option<&Scale>) {
        let figures = &self.figures;
        let spreads = [
            ("p50", figures.p50_us, Some(Shape::Disc)),
            ("p99", figures.p99_us, Some(Shape::Bar)),
            ("p99.9", figures.p999_us, Some(Shape::Dot)),
            ("max", figures.max_us, None),
        ];
        html.within("td", &[("class", "drawing")], |html| {
            let Some(scale) = scale else {
                return;
            };
            let marks = spreads.iter().filter_map(|(name, spread, shape)| {
                let value = spread.as_ref()?.median;
                Some(Mark {
                    value,
                    shape: (*shape)?,
                    title: format!("{name} {}", words::time(value)),
                })
            });
            let ends = figures.p50_us.zip(figures.p999_us);
            let strip = Strip {
                whisker: ends.map(|(from, to)| (from.median, to.median)),
                rules: self.rule(|floor| floor.p50_us),
                marks: marks.collect(),
                ..Strip::default()
            };
            let words: Vec<&str> = strip.marks.iter().map(|mark| mark.title.as_str()).collect();
            let label = format!("{}: {}", self.look.name, words.join(", "));
            strip.draw(html, scale, self.look.class, &label);
        });
        for (name, spread, _) in spreads {
            let value = spread.map_or_else(|| "–".to_owned(), |spread| words::time(spread.median));
            html.leaf("td", &[("class", "figure"), ("data-name", name)], &value);
        }
    }

    /// How many samples the figures stand on.
    fn write_use(&self, html: &mut Html) {
        let figures = &self.figures;
        let used = format!("{} of {}", figures.used, figures.counted);
        let class = match figures.used == figures.counted {
            true => "figure used",
            false => "figure used lacking",
        };
        let reasons = figures.void_reasons.join("; ");
        let attributes = [
            ("class", class),
            ("data-name", "samples"),
            ("title", &reasons),
        ];
        html.leaf("td", &attributes, &used);
    }

    fn rule(&self, value: fn(&FloorAt) -> f64) -> Vec<(f64, &'static str)> {
        let floor = self.floor.as_ref();
        floor
            .map(|floor| (value(floor), "floor"))
            .into_iter()
            .collect()
    }
}

/// Why there is no figure.
fn write_absence(html: &mut Html, figures: &Figures) {
    let why = match (figures.counted, figures.void_rate) {
        (0, _) | (_, None) => "measured in no round that counts".to_owned(),
        (counted, Some(rate)) => {
            let samples = match counted {
                1 => "the only sample".to_owned(),
                counted => format!("all {counted} samples"),
            };
            let reasons = figures.void_reasons.join("; ");
            format!(
                "void in {samples}: {reasons}; reached {}",
                words::rate(rate.median)
            )
        }
    };
    html.leaf("td", &[("colspan", "8"), ("class", "absent")], &why);
}

/// Who was not measured at a point, where that is no matter of the whole workload.
fn write_unmeasured(html: &mut Html, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    html.within("tr", &[], |html| {
        html.within("td", &[("colspan", "9"), ("class", "unmeasured")], |html| {
            html.text(&format!("Not measured here: {}.", names.join(", ")));
        });
    });
}
