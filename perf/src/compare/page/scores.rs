//! The ratios beside their goals, large: what a reader comes for. Those that miss are as large as those that meet.

use super::html::Html;
use super::scale::Scale;
use super::strip::{Axis, Mark, Shape, Strip, draw_axis};
use super::view::View;
use super::words;
use crate::compare::document::{Document, Ratio, Unit};
use crate::figure::{Figure, Standing, Target};
use crate::output::number;

/// Ratios that are read in the same way and share an axis.
struct Group {
    title: &'static str,
    /// What to know before reading them.
    note: &'static str,
    has: fn(&Ratio) -> bool,
    axis: SharedAxis,
}

/// Whether the values of several ratios may lie on one axis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SharedAxis {
    Yes,
    No,
}

const GROUPS: [Group; 4] = [
    Group {
        title: "More is better",
        note: "How many times the other's figure, on one logarithmic axis.",
        has: |ratio| ratio.unit == Unit::Times && is_at_least(ratio.figure.target()),
        axis: SharedAxis::Yes,
    },
    Group {
        title: "Less is better",
        note: "How many times the other's figure, on one logarithmic axis.",
        has: |ratio| {
            ratio.unit == Unit::Times && matches!(ratio.figure.target(), Target::AtMost(_))
        },
        axis: SharedAxis::Yes,
    },
    Group {
        title: "By themselves",
        note: "Each on a logarithmic axis of its own.",
        has: |ratio| ratio.unit != Unit::Times && ratio.figure.target() != Target::None,
        axis: SharedAxis::No,
    },
    Group {
        title: "Without a goal",
        note: "What else the rounds say, each on a logarithmic axis of its own.",
        has: |ratio| ratio.figure.target() == Target::None,
        axis: SharedAxis::No,
    },
];

fn is_at_least(target: Target) -> bool {
    matches!(target, Target::AtLeast(_) | Target::AtLeastOnFastDisk(_))
}

/// How the goals stand in a sentence, the missed ones by name.
pub(super) fn write_verdict(html: &mut Html, document: &Document) {
    let figures = || {
        let of_rounds = document
            .ratios
            .iter()
            .map(|ratio| (name_of(ratio), &ratio.figure));
        let apart = document.apart.iter().map(|figure| (figure.name(), figure));
        of_rounds
            .chain(apart)
            .filter(|(_, figure)| figure.target() != Target::None)
    };
    let names = |standing| -> Vec<&str> {
        let of_standing = figures().filter(|(_, figure)| figure.standing() == standing);
        of_standing.map(|(name, _)| name).collect()
    };
    let goals = figures().count();
    if goals == 0 {
        html.leaf(
            "p",
            &[("class", "verdict")],
            "There is no goal to judge by.",
        );
        return;
    }
    html.within("p", &[("class", "verdict")], |html| {
        let met = names(Standing::Met).len();
        html.leaf(
            "strong",
            &[("class", "met")],
            &format!("{met} of {}", words::count(goals, "goal", "goals")),
        );
        html.text(" met. ");
        let rest = [
            (Standing::Missed, "missed"),
            (Standing::NotMeasured, "not measured"),
            (
                Standing::NotApplicable,
                "not to be judged on a disk as slow as this one",
            ),
        ];
        for (standing, what) in rest {
            let names = names(standing);
            if names.is_empty() {
                continue;
            }
            let (_, _, class) = words::standing(standing);
            html.leaf(
                "strong",
                &[("class", class)],
                &format!("{} {what}", names.len()),
            );
            html.text(&format!(": {}. ", names.join(", ")));
        }
    });
}

/// All ratios, in groups.
pub(super) fn write_scores(html: &mut Html, view: &View<'_>) {
    if view.document.ratios.is_empty() {
        html.leaf("p", &[("class", "nothing")], "No ratio was computed.");
    }
    for group in &GROUPS {
        let ratios: Vec<&Ratio> = view
            .document
            .ratios
            .iter()
            .filter(|ratio| (group.has)(ratio))
            .collect();
        if !ratios.is_empty() {
            write_group(html, view, group, &ratios);
        }
    }
    write_apart(html, &view.document.apart);
}

fn write_group(html: &mut Html, view: &View<'_>, group: &Group, ratios: &[&Ratio]) {
    let shared = match group.axis {
        SharedAxis::Yes => Scale::log(ratios.iter().flat_map(|ratio| values_of(ratio))),
        SharedAxis::No => None,
    };
    html.leaf("h3", &[], group.title);
    html.leaf("p", &[("class", "note")], group.note);
    html.within("ul", &[("class", "scores")], |html| {
        for ratio in ratios {
            let (scale, axis) = match group.axis {
                SharedAxis::Yes => (shared, Axis::Elsewhere),
                SharedAxis::No => (Scale::log(values_of(ratio)), Axis::Shown),
            };
            write_score(html, view, ratio, scale, axis);
        }
        if let Some(scale) = shared {
            html.within("li", &[("class", "score axis-row")], |html| {
                html.within("div", &[("class", "score-strip")], |html| {
                    draw_axis(html, &scale, |tick| words::plain_value(Unit::Times, tick));
                });
            });
        }
    });
}

/// Everything that must find room on the axis.
fn values_of(ratio: &Ratio) -> Vec<f64> {
    let mut values = ratio.values.clone();
    if let Some(spread) = ratio.figure.measured() {
        values.extend([spread.median, spread.min, spread.max]);
    }
    values.extend(limit_of(ratio.figure.target()));
    if ratio.unit == Unit::Times {
        values.push(1.0);
    }
    values
}

fn limit_of(target: Target) -> Option<f64> {
    match target {
        Target::AtMost(limit) | Target::AtLeast(limit) | Target::AtLeastOnFastDisk(limit) => {
            Some(limit)
        }
        Target::None => None,
    }
}

/// What a ratio is called in a list: its goal's name, or its own.
fn name_of(ratio: &Ratio) -> &str {
    ratio.goal.as_deref().unwrap_or_else(|| ratio.figure.name())
}

fn write_score(html: &mut Html, view: &View<'_>, ratio: &Ratio, scale: Option<Scale>, axis: Axis) {
    let figure = &ratio.figure;
    let (sign, standing, class) = words::standing(figure.standing());
    html.within("li", &[("class", &format!("score {class}"))], |html| {
        html.within("p", &[("class", "value")], |html| {
            let Some(spread) = figure.measured() else {
                return html.text("–");
            };
            html.text(&number(spread.median));
            let unit = match ratio.unit {
                Unit::Times => "×",
                Unit::PerSecond => "/s",
                Unit::PerCommand => "",
            };
            html.leaf("small", &[], unit);
        });
        html.within("div", &[("class", "what")], |html| {
            write_what(html, view, ratio)
        });
        html.within("div", &[("class", "score-strip")], |html| {
            if let (Some(scale), Some(_)) = (scale, figure.measured()) {
                draw_values(html, ratio, &scale);
                if axis == Axis::Shown {
                    draw_axis(html, &scale, |tick| words::plain_value(ratio.unit, tick));
                }
            }
        });
        html.within("p", &[("class", "standing")], |html| {
            html.leaf("b", &[("aria-hidden", "true")], sign);
            html.text(&format!(" {standing}"));
            if let Some(goal) = words::goal(figure.target(), Some(ratio.unit)) {
                html.leaf("small", &[], &goal);
            }
        });
    });
}

fn write_what(html: &mut Html, view: &View<'_>, ratio: &Ratio) {
    html.within("h4", &[], |html| {
        if let Some(goal) = &ratio.goal {
            html.leaf("span", &[("class", "goal")], goal);
            html.text(" ");
        }
        html.text(ratio.figure.name());
    });
    html.within("p", &[("class", "note")], |html| {
        if let Some(against) = &ratio.against {
            html.text("beside ");
            html.leaf(
                "span",
                &[("class", &format!("chip {}", view.class(against)))],
                &against.0,
            );
            html.text(" · ");
        }
        html.leaf("span", &[("class", "point")], &ratio.point.0);
        let range = ratio.figure.measured();
        let range =
            range.and_then(|spread| words::range(&spread, |value| words::value(ratio.unit, value)));
        if let Some(range) = range {
            html.text(" · ");
            html.leaf("span", &[("class", "whole")], &range);
        }
        let rounds = words::count(ratio.values.len(), "round", "rounds");
        html.text(" · ");
        html.leaf("span", &[("class", "whole")], &rounds);
    });
}

fn draw_values(html: &mut Html, ratio: &Ratio, scale: &Scale) {
    let words_of = |value| words::value(ratio.unit, value);
    let mut strip = Strip::default();
    let limit = limit_of(ratio.figure.target());
    if let Some(limit) = limit {
        strip.band = Some(match is_at_least(ratio.figure.target()) {
            true => (limit, f64::MAX),
            false => (f64::MIN_POSITIVE, limit),
        });
        strip.rules.push((limit, "limit"));
    }
    if ratio.unit == Unit::Times {
        strip.rules.push((1.0, "equal"));
    }
    let each = |value: &f64| Mark {
        value: *value,
        shape: Shape::Dot,
        title: format!("one round: {}", words_of(*value)),
    };
    strip.marks.extend(ratio.values.iter().map(each));
    let mut label = ratio.figure.name().to_owned();
    if let Some(spread) = ratio.figure.measured() {
        strip.whisker = Some((spread.min, spread.max));
        let title = format!("median {}", words_of(spread.median));
        label = format!("{label}: {title}");
        strip.marks.push(Mark {
            value: spread.median,
            shape: Shape::Disc,
            title,
        });
    }
    let class = match ratio.figure.standing() {
        Standing::Missed => "bad",
        Standing::Met | Standing::NotApplicable | Standing::NotMeasured | Standing::NoTarget => {
            "ours"
        }
    };
    strip.draw(html, scale, class, &label);
}

/// Figures that were measured apart from the rounds.
fn write_apart(html: &mut Html, apart: &[Figure]) {
    if apart.is_empty() {
        return;
    }
    html.leaf("h3", &[], "Measured apart from the rounds");
    html.within("ul", &[("class", "scores")], |html| {
        for figure in apart {
            let (sign, standing, class) = words::standing(figure.standing());
            html.within("li", &[("class", &format!("score {class}"))], |html| {
                let measured = figure.measured().map(|spread| number(spread.median));
                html.leaf(
                    "p",
                    &[("class", "value")],
                    measured.as_deref().unwrap_or("–"),
                );
                html.within("div", &[("class", "what")], |html| {
                    html.leaf("h4", &[], figure.name());
                    let range = figure.measured();
                    let range = range.and_then(|spread| words::range(&spread, number));
                    html.leaf("p", &[("class", "note")], range.as_deref().unwrap_or(""));
                });
                html.within("div", &[("class", "score-strip")], |_| ());
                html.within("p", &[("class", "standing")], |html| {
                    html.leaf("b", &[("aria-hidden", "true")], sign);
                    html.text(&format!(" {standing}"));
                    if let Some(goal) = words::goal(figure.target(), None) {
                        html.leaf("small", &[], &goal);
                    }
                });
            });
        }
    });
}
