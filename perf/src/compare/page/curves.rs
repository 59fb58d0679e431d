//! Latency against load: how long requests take while a system is asked for more and more of what it can do. Both
//! axes are logarithmic and the same in every drawing, so that curves can be compared across them.

use super::html::Html;
use super::scale::{Scale, place};
use super::view::{Look, View};
use super::words;
use crate::compare::document::{Point, PointPace, Sample, Waits, WorkloadPlan};
use crate::latency::Spread;

/// The drawings, one a percentile.
const PERCENTILES: [(&str, Percentile); 3] = [
    ("p50", |sample| sample.latency.p50_us),
    ("p99", |sample| sample.latency.p99_us),
    ("p99.9", |sample| sample.latency.p999_us),
];

type Percentile = fn(&Sample) -> f64;

/// Height of a drawing in pixels.
const HEIGHT: f64 = 240.0;

/// Labels of curves that end nearer to each other than this, in percent of the height, would lie on each other.
const LABEL_DISTANCE_MIN: f64 = 9.0;

/// A curve.
struct Curve<'a> {
    look: Look<'a>,
    places: Vec<Place>,
}

/// A point of a curve, in figures and in percent of the axes.
struct Place {
    share: f64,
    rate: f64,
    latency_us: f64,
    x: f64,
    y: f64,
}

/// The points of a workload that are shares of a capacity.
fn shares(workload: &WorkloadPlan) -> Vec<(&Point, f64)> {
    let share = |point: &Point| match point.pace {
        PointPace::ShareOfCapacity(share) => Some(share),
        PointPace::Closed => None,
    };
    let points = workload.points.iter();
    let mut shares: Vec<(&Point, f64)> = points
        .filter_map(|point| Some((point, share(point)?)))
        .collect();
    shares.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    shares
}

/// Whether a workload has curves at all.
pub(super) fn has_curves(workload: &WorkloadPlan) -> bool {
    !shares(workload).is_empty()
}

/// The curves of a workload.
pub(super) fn write_curves(html: &mut Html, view: &View<'_>, workload: &WorkloadPlan) {
    let shares = shares(workload);
    let systems = view.systems_of(workload);
    let floor = shares.first().and_then(|(point, _)| match point.waits {
        Waits::ForDisk => view.floor(point, |floor| floor.p50_us),
        Waits::ForNothing => None,
    });
    let mut rates = Vec::new();
    let mut latencies: Vec<f64> = floor.iter().map(|floor| floor.median).collect();
    for look in &systems {
        for (point, _) in &shares {
            rates.extend(rate(view, point, look).map(|spread| spread.median));
            for (_, percentile) in PERCENTILES {
                latencies
                    .extend(latency(view, point, look, percentile).map(|spread| spread.median));
            }
        }
    }
    html.within("h3", &[], |html| {
        html.leaf("span", &[("class", "workload-id")], &workload.id);
        html.text(&format!(" {}", workload.title));
    });
    let (Some(x), Some(y)) = (Scale::log(rates), Scale::log(latencies)) else {
        html.leaf("p", &[("class", "nothing")], "No point of it may be used.");
        return;
    };
    html.within("div", &[("class", "curves")], |html| {
        for (name, percentile) in PERCENTILES {
            let curves: Vec<Curve<'_>> = systems
                .iter()
                .map(|look| curve_of(view, look, &shares, percentile, [&x, &y]))
                .filter(|curve| !curve.places.is_empty())
                .collect();
            html.within("figure", &[], |html| {
                html.leaf(
                    "figcaption",
                    &[],
                    &format!("{name}, over commands a second"),
                );
                draw(html, &curves, floor, name, [&x, &y]);
            });
        }
    });
}

fn rate(view: &View<'_>, point: &Point, look: &Look<'_>) -> Option<Spread> {
    view.document.spread(&point.id, look.name, |sample| {
        Some(sample.achieved_per_second)
    })
}

fn latency(
    view: &View<'_>,
    point: &Point,
    look: &Look<'_>,
    percentile: Percentile,
) -> Option<Spread> {
    view.document
        .spread(&point.id, look.name, |sample| Some(percentile(sample)))
}

fn curve_of<'a>(
    view: &View<'_>,
    look: &Look<'a>,
    shares: &[(&Point, f64)],
    percentile: Percentile,
    [x, y]: [&Scale; 2],
) -> Curve<'a> {
    let place = |(point, share): &(&Point, f64)| {
        let rate = rate(view, point, look)?.median;
        let latency_us = latency(view, point, look, percentile)?.median;
        Some(Place {
            share: *share,
            rate,
            latency_us,
            x: x.percent(rate)?,
            y: 100.0 - y.percent(latency_us)?,
        })
    };
    Curve {
        look: *look,
        places: shares.iter().filter_map(place).collect(),
    }
}

fn draw(
    html: &mut Html,
    curves: &[Curve<'_>],
    floor: Option<Spread>,
    name: &str,
    [x, y]: [&Scale; 2],
) {
    let label = format!(
        "{name} against commands a second, a curve for each system; the figures are in the table"
    );
    let height = format!("{HEIGHT:.0}");
    let attributes = [
        ("class", "curve"),
        ("role", "img"),
        ("aria-label", label.as_str()),
        ("width", "100%"),
        ("height", &height),
    ];
    html.within("svg", &attributes, |html| {
        for tick in x.ticks() {
            draw_tick(
                html,
                x.percent(tick),
                Direction::Upright,
                &words::plain_short(tick),
            );
        }
        for tick in y.ticks() {
            draw_tick(
                html,
                y.percent(tick).map(|y| 100.0 - y),
                Direction::Level,
                &words::plain_time(tick),
            );
        }
        if let Some(floor) = floor {
            draw_floor(html, y, floor);
        }
        for curve in curves {
            draw_curve(html, curve);
        }
        for (curve, y) in curves.iter().zip(label_places(curves)) {
            draw_name(html, curve, y);
        }
    });
}

/// How a line of the grid runs.
#[derive(Clone, Copy)]
enum Direction {
    Upright,
    Level,
}

fn draw_tick(html: &mut Html, percent: Option<f64>, direction: Direction, name: &str) {
    let Some(percent) = percent else {
        return;
    };
    let at = place(percent);
    let (line, text) = match direction {
        Direction::Upright => (
            [
                ("x1", at.as_str()),
                ("x2", &at),
                ("y1", "0"),
                ("y2", "100%"),
            ],
            [
                ("x", at.as_str()),
                ("y", "100%"),
                ("dy", "16"),
                ("text-anchor", "middle"),
            ],
        ),
        Direction::Level => (
            [
                ("x1", "0"),
                ("x2", "100%"),
                ("y1", at.as_str()),
                ("y2", &at),
            ],
            [
                ("x", "-8"),
                ("y", at.as_str()),
                ("dy", "4"),
                ("text-anchor", "end"),
            ],
        ),
    };
    let [x1, x2, y1, y2] = line;
    html.within("line", &[("class", "tick"), x1, x2, y1, y2], |_| ());
    let [x, y, shift, anchor] = text;
    let attributes = [("class", "tick-name"), x, y, shift, anchor];
    html.leaf("text", &attributes, name);
}

fn draw_floor(html: &mut Html, y: &Scale, floor: Spread) {
    let Some(percent) = y.percent(floor.median) else {
        return;
    };
    let at = place(100.0 - percent);
    let line = [
        ("class", "floor"),
        ("x1", "0"),
        ("x2", "100%"),
        ("y1", &at),
        ("y2", &at),
    ];
    html.within("line", &line, |_| ());
    let text = [
        ("class", "floor-name"),
        ("x", "100%"),
        ("y", &at),
        ("dy", "-4"),
        ("text-anchor", "end"),
    ];
    html.leaf(
        "text",
        &text,
        &format!("one durable write {}", words::time(floor.median)),
    );
}

fn draw_curve(html: &mut Html, curve: &Curve<'_>) {
    html.within("g", &[("class", curve.look.class)], |html| {
        for pair in curve.places.windows(2) {
            let [from, to] = pair else { continue };
            let ends = [place(from.x), place(to.x), place(from.y), place(to.y)];
            let [x1, x2, y1, y2] = ends.each_ref().map(String::as_str);
            let attributes = [
                ("class", "run"),
                ("x1", x1),
                ("x2", x2),
                ("y1", y1),
                ("y2", y2),
            ];
            html.within("line", &attributes, |_| ());
        }
        for at in &curve.places {
            let (x, y) = (place(at.x), place(at.y));
            html.within(
                "circle",
                &[("class", "disc"), ("cx", &x), ("cy", &y), ("r", "4.5")],
                |html| {
                    let title = format!(
                        "{} at {} of its capacity: {}, {}",
                        curve.look.name,
                        words::share(at.share),
                        words::rate(at.rate),
                        words::time(at.latency_us)
                    );
                    html.leaf("title", &[], &title);
                },
            );
        }
    });
}

/// Where the names of curves stand, in percent of the height: above their last points, and apart from each other.
fn label_places(curves: &[Curve<'_>]) -> Vec<f64> {
    let mut taken: Vec<f64> = Vec::new();
    for curve in curves {
        let Some(last) = curve.places.last() else {
            taken.push(0.0);
            continue;
        };
        let mut y = last.y;
        while taken
            .iter()
            .any(|other| (other - y).abs() < LABEL_DISTANCE_MIN)
            && y > 0.0
        {
            y -= LABEL_DISTANCE_MIN;
        }
        taken.push(y);
    }
    taken
}

fn draw_name(html: &mut Html, curve: &Curve<'_>, y: f64) {
    let Some(last) = curve.places.last() else {
        return;
    };
    let anchor = match last.x {
        left if left < 20.0 => "start",
        right if right > 80.0 => "end",
        _ => "middle",
    };
    let (x, y) = (place(last.x), place(y));
    let class = format!("name {}", curve.look.class);
    let attributes = [
        ("class", class.as_str()),
        ("x", &x),
        ("y", &y),
        ("dy", "-10"),
        ("text-anchor", anchor),
    ];
    html.leaf("text", &attributes, &curve.look.name.0);
}
