//! Drawings of one line: bars from zero, and marks on an axis. They stand in cells of tables, have no width of their
//! own, and say nothing that the table does not say in figures.

use super::html::Html;
use super::scale::{Scale, place};

/// Height of a drawing.
const HEIGHT: &str = "24";

/// Names of an axis that stand nearer to each other than this, in percent of its length, would lie on each other.
const NAME_DISTANCE_MIN: f64 = 14.0;

/// Whether it has an axis with names of its own below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Shown,
    Elsewhere,
}

/// Something at one place of a line.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) value: f64,
    pub(super) shape: Shape,
    /// What a pointer that rests on it is told.
    pub(super) title: String,
}

/// What a mark looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The middle of several.
    Disc,
    /// One of several.
    Dot,
    /// A place further out.
    Bar,
    /// Something that does not count.
    Cross,
}

/// What a line shows, from back to front.
#[derive(Debug, Default)]
pub(super) struct Strip {
    /// The part of the axis in which a goal is met.
    pub(super) band: Option<(f64, f64)>,
    /// Values with a line through the whole height, and the class of its looks.
    pub(super) rules: Vec<(f64, &'static str)>,
    /// Where a bar from the beginning of the axis ends.
    pub(super) bar: Option<f64>,
    /// A thin line from one value to another.
    pub(super) whisker: Option<(f64, f64)>,
    pub(super) marks: Vec<Mark>,
}

impl Strip {
    /// Draws it. `class` decides about the colour.
    pub(super) fn draw(&self, html: &mut Html, scale: &Scale, class: &str, label: &str) {
        let class = format!("strip {class}");
        let attributes = [
            ("class", class.as_str()),
            ("role", "img"),
            ("aria-label", label),
            ("height", HEIGHT),
            ("width", "100%"),
        ];
        html.within("svg", &attributes, |html| {
            html.leaf("title", &[], label);
            if let Some(band) = self.band {
                draw_span(html, scale, band, "band", ["0", HEIGHT]);
            }
            for tick in scale.ticks() {
                draw_rule(html, scale, tick, "tick");
            }
            if let Some(end) = self.bar {
                draw_span(html, scale, (0.0, end), "bar", ["5", "14"]);
            }
            for &(value, class) in &self.rules {
                draw_rule(html, scale, value, class);
            }
            if let Some(whisker) = self.whisker {
                draw_whisker(html, scale, whisker);
            }
            for mark in &self.marks {
                draw_mark(html, scale, mark);
            }
        });
    }
}

/// The names of an axis, to stand under drawings with the same scale.
pub(super) fn draw_axis(html: &mut Html, scale: &Scale, words: impl Fn(f64) -> String) {
    let attributes = [
        ("class", "axis"),
        ("aria-hidden", "true"),
        ("height", "16"),
        ("width", "100%"),
    ];
    html.within("svg", &attributes, |html| {
        let mut last = f64::NEG_INFINITY;
        for tick in scale.ticks() {
            let Some(percent) = scale.percent(tick) else {
                continue;
            };
            if percent - last < NAME_DISTANCE_MIN {
                continue;
            }
            last = percent;
            let anchor = match percent {
                near_start if near_start < 4.0 => "start",
                near_end if near_end > 96.0 => "end",
                _ => "middle",
            };
            let attributes = [
                ("class", "tick-name".to_owned()),
                ("x", place(percent)),
                ("y", "12".to_owned()),
                ("text-anchor", anchor.to_owned()),
            ];
            let attributes = attributes
                .each_ref()
                .map(|(name, value)| (*name, value.as_str()));
            html.leaf("text", &attributes, &words(tick));
        }
    });
}

fn draw_rule(html: &mut Html, scale: &Scale, value: f64, class: &'static str) {
    let Some(percent) = scale.percent(value) else {
        return;
    };
    let x = place(percent);
    let attributes = [
        ("class", class),
        ("x1", &x),
        ("x2", &x),
        ("y1", "0"),
        ("y2", HEIGHT),
    ];
    html.within("line", &attributes, |_| ());
}

fn draw_span(
    html: &mut Html,
    scale: &Scale,
    (from, to): (f64, f64),
    class: &'static str,
    [y, height]: [&'static str; 2],
) {
    let (Some(from), Some(to)) = (scale.percent(from), scale.percent(to)) else {
        return;
    };
    let attributes = [
        ("class", class.to_owned()),
        ("x", place(from)),
        ("width", place((to - from).max(0.0))),
        ("y", y.to_owned()),
        ("height", height.to_owned()),
    ];
    let attributes = attributes
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    html.within("rect", &attributes, |_| ());
}

fn draw_whisker(html: &mut Html, scale: &Scale, (from, to): (f64, f64)) {
    let (Some(from), Some(to)) = (scale.percent(from), scale.percent(to)) else {
        return;
    };
    let (from, to) = (place(from), place(to));
    let mut line = |x1: &str, x2: &str, y1, y2| {
        let attributes = [
            ("class", "whisker"),
            ("x1", x1),
            ("x2", x2),
            ("y1", y1),
            ("y2", y2),
        ];
        html.within("line", &attributes, |_| ());
    };
    line(&from, &to, "12", "12");
    line(&from, &from, "9", "15");
    line(&to, &to, "9", "15");
}

fn draw_mark(html: &mut Html, scale: &Scale, mark: &Mark) {
    let Some(percent) = scale.percent(mark.value) else {
        return;
    };
    let x = place(percent);
    let title = |html: &mut Html| html.leaf("title", &[], &mark.title);
    match mark.shape {
        Shape::Disc | Shape::Dot => {
            let (class, radius) = match mark.shape {
                Shape::Disc => ("disc", "5"),
                Shape::Dot | Shape::Bar | Shape::Cross => ("dot", "3.5"),
            };
            let attributes = [("class", class), ("cx", &x), ("cy", "12"), ("r", radius)];
            html.within("circle", &attributes, title);
        }
        Shape::Bar => {
            let attributes = [
                ("class", "far"),
                ("x1", &x),
                ("x2", &x),
                ("y1", "6"),
                ("y2", "18"),
            ];
            html.within("line", &attributes, title);
        }
        Shape::Cross => {
            // An inner drawing moves the path, whose own coordinates cannot be percentages.
            let attributes = [("x", x.as_str()), ("y", "12"), ("overflow", "visible")];
            html.within("svg", &attributes, |html| {
                let path = [("class", "cross"), ("d", "M-4-4L4 4M-4 4L4-4")];
                html.within("path", &path, title);
            });
        }
    }
}
