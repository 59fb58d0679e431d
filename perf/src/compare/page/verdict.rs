//! How the goals stand, in a sentence: the first that a reader sees. What was missed is named there.

use super::html::Html;
use super::words;
use crate::compare::document::{Document, Ratio};
use crate::figure::{Figure, Standing, Target};

/// A goal with the place of the page that tells more of it.
struct Goal<'a> {
    name: String,
    anchor: String,
    figure: &'a Figure,
}

/// Where the ratio with this position in the document stands.
pub(super) fn ratio_anchor(position: usize) -> String {
    format!("ratio-{position}")
}

/// Where the figure that was measured apart, with this position, stands.
pub(super) fn apart_anchor(position: usize) -> String {
    format!("apart-{position}")
}

fn goals(document: &Document) -> Vec<Goal<'_>> {
    let of_rounds = document
        .ratios
        .iter()
        .enumerate()
        .map(|(position, ratio)| Goal {
            name: name_of(ratio),
            anchor: ratio_anchor(position),
            figure: &ratio.figure,
        });
    let apart = document
        .apart
        .iter()
        .enumerate()
        .map(|(position, figure)| Goal {
            name: figure.name().to_owned(),
            anchor: apart_anchor(position),
            figure,
        });
    of_rounds
        .chain(apart)
        .filter(|goal| goal.figure.target() != Target::None)
        .collect()
}

/// Its goal's name with whom it is beside, or its own.
fn name_of(ratio: &Ratio) -> String {
    match (&ratio.goal, &ratio.against) {
        (Some(goal), Some(against)) => format!("{goal} beside {against}"),
        (Some(goal), None) => goal.clone(),
        (None, _) => ratio.figure.name().to_owned(),
    }
}

/// The sentence.
pub(super) fn write_verdict(html: &mut Html, document: &Document) {
    let goals = goals(document);
    html.within("p", &[("class", "verdict")], |html| {
        if goals.is_empty() {
            return html.text("There is no goal to judge by.");
        }
        let met = goals
            .iter()
            .filter(|goal| goal.figure.standing() == Standing::Met);
        let met = format!(
            "{} of {}",
            met.count(),
            words::count(goals.len(), "goal", "goals")
        );
        html.leaf("strong", &[("class", "met")], &met);
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
            let goals = goals
                .iter()
                .filter(|goal| goal.figure.standing() == standing);
            write_list(html, &goals.collect::<Vec<_>>(), standing, what);
        }
    });
}

fn write_list(html: &mut Html, goals: &[&Goal<'_>], standing: Standing, what: &str) {
    if goals.is_empty() {
        return;
    }
    let (_, _, class) = words::standing(standing);
    html.leaf(
        "strong",
        &[("class", class)],
        &format!("{} {what}", goals.len()),
    );
    for (position, goal) in goals.iter().enumerate() {
        html.text(if position == 0 { ": " } else { ", " });
        html.leaf("a", &[("href", &format!("#{}", goal.anchor))], &goal.name);
    }
    html.text(". ");
}
