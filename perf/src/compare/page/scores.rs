//! The ratios beside their goals, large: what a reader comes for. Those that miss are as large as those that meet.

use super::html::Html;
use super::scale::Scale;
use super::strip::{Axis, Mark, Shape, Strip, draw_axis};
use super::verdict::{apart_anchor, ratio_anchor};
use super::view::View;
use super::words;
use crate::compare::document::{Ratio, Unit};
use crate::figure::{Figure, Standing, Target};
use crate::output::number;

/// A figure that is shown large.
#[derive(Clone)]
struct Score<'a> {
    anchor: String,
    figure: &'a Figure,
    /// What is known of one that comes from the rounds.
    ratio: Option<&'a Ratio>,
}

/// Scores that are read in the same way.
struct Group {
    title: &'static str,
    /// What to know before reading them.
    note: &'static str,
    /// How its list looks.
    class: &'static str,
    has: fn(&Score<'_>) -> bool,
    axis: GroupAxis,
}

/// Whether the values of a group lie on one axis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GroupAxis {
    Shared,
    OneEach,
}

const GROUPS: [Group; 6] = [
    Group {
        title: "More is better",
        note: "How many times the other's figure, on one logarithmic axis.",
        class: "scores",
        has: |score| score.is_times() && is_at_least(score.figure.target()),
        axis: GroupAxis::Shared,
    },
    Group {
        title: "Less is better",
        note: "How many times the other's figure, on one logarithmic axis.",
        class: "scores",
        has: |score| score.is_times() && matches!(score.figure.target(), Target::AtMost(_)),
        axis: GroupAxis::Shared,
    },
    Group {
        title: "By themselves",
        note: "Each on a logarithmic axis of its own.",
        class: "scores",
        has: |score| score.is_of_rounds() && !score.is_times() && score.has_goal(),
        axis: GroupAxis::OneEach,
    },
    Group {
        title: "Measured apart from the rounds",
        note: "Each on a logarithmic axis of its own.",
        class: "scores",
        has: |score| !score.is_of_rounds(),
        axis: GroupAxis::OneEach,
    },
    Group {
        title: "Ratios without a goal",
        note: "How many times the other's figure, on one logarithmic axis. More of a rate is better, less of a time.",
        class: "scores compact",
        has: |score| score.is_times() && !score.has_goal(),
        axis: GroupAxis::Shared,
    },
    Group {
        title: "Figures without a goal",
        note: "Each on a logarithmic axis of its own.",
        class: "scores compact",
        has: |score| score.is_of_rounds() && !score.is_times() && !score.has_goal(),
        axis: GroupAxis::OneEach,
    },
];

fn is_at_least(target: Target) -> bool {
    matches!(target, Target::AtLeast(_) | Target::AtLeastOnFastDisk(_))
}

/// All ratios and figures, in groups.
pub(super) fn write_scores(html: &mut Html, view: &View<'_>) {
    let ratios = view.document.ratios.iter().enumerate();
    let of_rounds = ratios.map(|(position, ratio)| Score {
        anchor: ratio_anchor(position),
        figure: &ratio.figure,
        ratio: Some(ratio),
    });
    let apart = view.document.apart.iter().enumerate();
    let apart = apart.map(|(position, figure)| Score {
        anchor: apart_anchor(position),
        figure,
        ratio: None,
    });
    let all: Vec<Score<'_>> = of_rounds.chain(apart).collect();
    if all.is_empty() {
        html.leaf("p", &[("class", "nothing")], "No ratio was computed.");
    }
    for group in &GROUPS {
        let scores: Vec<&Score<'_>> = all.iter().filter(|score| (group.has)(score)).collect();
        if !scores.is_empty() {
            write_group(html, view, group, &scores);
        }
    }
}

fn write_group(html: &mut Html, view: &View<'_>, group: &Group, scores: &[&Score<'_>]) {
    let shared = match group.axis {
        GroupAxis::Shared if scores.iter().any(|score| score.figure.measured().is_some()) => {
            Scale::log(scores.iter().flat_map(|score| score.on_axis()))
        }
        GroupAxis::Shared | GroupAxis::OneEach => None,
    };
    html.leaf("h3", &[], group.title);
    html.leaf("p", &[("class", "note")], group.note);
    html.within("ul", &[("class", group.class)], |html| {
        for score in scores {
            let (scale, axis) = match group.axis {
                GroupAxis::Shared => (shared, Axis::Elsewhere),
                GroupAxis::OneEach => (Scale::log(score.on_axis()), Axis::Shown),
            };
            score.write(html, view, scale, axis);
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

impl Score<'_> {
    fn is_of_rounds(&self) -> bool {
        self.ratio.is_some()
    }

    fn is_times(&self) -> bool {
        self.unit() == Some(Unit::Times)
    }

    fn has_goal(&self) -> bool {
        self.figure.target() != Target::None
    }

    fn unit(&self) -> Option<Unit> {
        self.ratio.map(|ratio| ratio.unit)
    }

    /// One value a round.
    fn values(&self) -> &[f64] {
        self.ratio.map_or(&[], |ratio| &ratio.values)
    }

    fn limit(&self) -> Option<f64> {
        match self.figure.target() {
            Target::AtMost(limit) | Target::AtLeast(limit) | Target::AtLeastOnFastDisk(limit) => {
                Some(limit)
            }
            Target::None => None,
        }
    }

    /// Everything that must find room on the axis.
    fn on_axis(&self) -> Vec<f64> {
        let mut values = self.values().to_vec();
        if let Some(spread) = self.figure.measured() {
            values.extend([spread.median, spread.min, spread.max]);
        }
        values.extend(self.limit());
        values.extend(self.is_times().then_some(1.0));
        values
    }

    fn words(&self, value: f64) -> String {
        self.unit()
            .map_or_else(|| number(value), |unit| words::value(unit, value))
    }

    fn write(&self, html: &mut Html, view: &View<'_>, scale: Option<Scale>, axis: Axis) {
        let (sign, standing, class) = words::standing(self.figure.standing());
        let class = format!("score {class}");
        html.within("li", &[("class", &class), ("id", &self.anchor)], |html| {
            html.within("p", &[("class", "value")], |html| {
                self.write_value(html);
                if let Some(against) = self.ratio.and_then(|ratio| ratio.against.as_ref()) {
                    let class = format!("chip {}", view.class(against));
                    html.leaf("span", &[("class", &class)], &against.0);
                }
            });
            html.within("div", &[("class", "what")], |html| {
                self.write_what(html, view)
            });
            html.within("div", &[("class", "score-strip")], |html| {
                if let (Some(scale), Some(_)) = (scale, self.figure.measured()) {
                    self.draw(html, &scale);
                    if axis == Axis::Shown {
                        draw_axis(html, &scale, |tick| match self.unit() {
                            Some(unit) => words::plain_value(unit, tick),
                            None => words::plain(tick),
                        });
                    }
                }
            });
            html.within("p", &[("class", "standing")], |html| {
                html.leaf("b", &[("aria-hidden", "true")], sign);
                html.text(&format!(" {standing}"));
                if let Some(goal) = words::goal(self.figure.target(), self.unit()) {
                    html.leaf("small", &[], &goal);
                }
            });
        });
    }

    fn write_value(&self, html: &mut Html) {
        let Some(spread) = self.figure.measured() else {
            return html.text("–");
        };
        html.text(&number(spread.median));
        let unit = match self.unit() {
            Some(Unit::Times) => "×",
            Some(Unit::PerSecond) => "/s",
            Some(Unit::PerCommand) | None => return,
        };
        html.leaf("small", &[], unit);
    }

    /// What it is about in plain words, and below it exactly.
    fn write_what(&self, html: &mut Html, view: &View<'_>) {
        let name = self.figure.name();
        let place = self.ratio.and_then(|ratio| view.point(&ratio.point));
        html.within("h4", &[], |html| {
            if let Some(goal) = self.ratio.and_then(|ratio| ratio.goal.as_deref()) {
                html.leaf("span", &[("class", "goal")], goal);
                html.text(" ");
            }
            match place {
                Some((workload, point)) if !workload.title.contains(&point.label) => {
                    html.text(&format!("{}: {}", workload.title, point.label));
                }
                Some((workload, _)) => html.text(&workload.title),
                None => html.text(name),
            }
        });
        let fact = |html: &mut Html, words: &str| {
            html.leaf("span", &[("class", "fact")], words);
            html.text(" ");
        };
        html.within("p", &[("class", "note")], |html| {
            if let (Some(ratio), Some(_)) = (self.ratio, place) {
                // Most names say at which point they were measured.
                if !name.contains(&ratio.point.0) {
                    fact(html, &ratio.point.0);
                }
                fact(html, name);
            }
            let range = self.figure.measured();
            let range = range.and_then(|spread| words::range(&spread, |value| self.words(value)));
            if let Some(range) = range {
                fact(html, &range);
            }
            if self.is_of_rounds() {
                fact(html, &words::count(self.values().len(), "round", "rounds"));
            }
        });
    }

    fn draw(&self, html: &mut Html, scale: &Scale) {
        let mut strip = Strip::default();
        if let Some(limit) = self.limit() {
            strip.band = Some(match is_at_least(self.figure.target()) {
                true => (limit, f64::MAX),
                false => (f64::MIN_POSITIVE, limit),
            });
            strip.rules.push((limit, "limit"));
        }
        if self.is_times() {
            strip.rules.push((1.0, "equal"));
        }
        let each = |value: &f64| Mark {
            value: *value,
            shape: Shape::Dot,
            title: format!("one round: {}", self.words(*value)),
        };
        strip.marks.extend(self.values().iter().map(each));
        let mut label = self.figure.name().to_owned();
        if let Some(spread) = self.figure.measured() {
            strip.whisker = Some((spread.min, spread.max));
            let title = format!("median {}", self.words(spread.median));
            label = format!("{label}: {title}");
            strip.marks.push(Mark {
                value: spread.median,
                shape: Shape::Disc,
                title,
            });
        }
        let class = match self.figure.standing() {
            Standing::Missed => "bad",
            Standing::Met
            | Standing::NotApplicable
            | Standing::NotMeasured
            | Standing::NoTarget => "ours",
        };
        strip.draw(html, scale, class, &label);
    }
}
