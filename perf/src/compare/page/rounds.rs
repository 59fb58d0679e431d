//! The rounds: which count, which were thrown away and why, how the floor moved, and every sample that is void.

use super::html::Html;
use super::scale::Scale;
use super::strip::{Mark, Shape, Strip, draw_axis};
use super::view::View;
use super::words;
use crate::compare::document::{Document, Round, Sample};
use crate::latency::Spread;
use crate::output::number;

/// How many rounds count, in a sentence.
pub(super) fn sentence(document: &Document) -> String {
    let counted = document.rounds_counted().count();
    let thrown_away = document.rounds_thrown_away().count();
    let count = match counted {
        1 => "counts",
        _ => "count",
    };
    let thrown = match thrown_away {
        0 => "none was thrown away".to_owned(),
        1 => "1 was thrown away".to_owned(),
        more => format!("{more} were thrown away"),
    };
    format!(
        "{} {count}, {thrown}.",
        words::count(counted, "round", "rounds")
    )
}

/// All rounds with their floors.
pub(super) fn write_rounds(html: &mut Html, view: &View<'_>) {
    let document = view.document;
    if document.rounds.is_empty() {
        html.leaf("p", &[("class", "nothing")], "No round was measured.");
        return;
    }
    let floors = document
        .rounds
        .iter()
        .flat_map(|round| [round.floor_before.p50_us, round.floor_after.p50_us]);
    let scale = Scale::log(floors);
    html.scrolling("Rounds", |html| {
        html.within("table", &[("class", "rounds plain")], |html| {
            html.within("thead", &[], |html| {
                html.within("tr", &[], |html| {
                    for column in ["round", "of", "floor p50", "before", "after", "verdict"] {
                        html.leaf("th", &[("scope", "col")], column);
                    }
                });
            });
            html.within("tbody", &[], |html| {
                for round in &document.rounds {
                    write_round(html, view, round, scale.as_ref());
                }
            });
            if let Some(scale) = &scale {
                html.within("tfoot", &[("aria-hidden", "true")], |html| {
                    html.within("tr", &[], |html| {
                        html.within("td", &[("colspan", "2")], |_| ());
                        html.within("td", &[("class", "drawing")], |html| {
                            draw_axis(html, scale, words::plain_time)
                        });
                        html.within("td", &[("colspan", "3")], |_| ());
                    });
                });
            }
        });
    });
    write_void(html, document);
}

fn write_round(html: &mut Html, view: &View<'_>, round: &Round, scale: Option<&Scale>) {
    let (before, after) = (round.floor_before.p50_us, round.floor_after.p50_us);
    let class = match round.discard {
        Some(_) => "thrown-away",
        None => "counts",
    };
    html.within("tr", &[("class", class)], |html| {
        html.leaf("th", &[("scope", "row")], &round.number.to_string());
        let workloads = view.workloads_of(round).join(", ");
        html.leaf("td", &[("class", "workloads")], &workloads);
        html.within("td", &[("class", "drawing")], |html| {
            let Some(scale) = scale else {
                return;
            };
            let shape = match round.discard {
                Some(_) => Shape::Cross,
                None => Shape::Dot,
            };
            let mark = |value, when: &str| Mark {
                value,
                shape,
                title: format!("{when} {}", words::time(value)),
            };
            let strip = Strip {
                whisker: Some((before.min(after), before.max(after))),
                marks: vec![mark(before, "before"), mark(after, "after")],
                ..Strip::default()
            };
            let label = format!(
                "floor {} before, {} after",
                words::time(before),
                words::time(after)
            );
            strip.draw(html, scale, "neutral", &label);
        });
        for floor in [&round.floor_before, &round.floor_after] {
            html.within("td", &[("class", "figure")], |html| {
                html.text(&words::time(floor.p50_us));
                html.leaf("small", &[], &words::rate(floor.writes_per_second));
            });
        }
        html.leaf("td", &[("class", "verdict-cell")], &verdict_of(round));
    });
}

fn verdict_of(round: &Round) -> String {
    let verdict = match &round.discard {
        Some(why) => format!("✕ thrown away: {}", why.words()),
        None => "counts".to_owned(),
    };
    let void = round
        .samples
        .iter()
        .filter(|sample| sample.void.is_some())
        .count();
    match void {
        0 => verdict,
        void => format!(
            "{verdict}; {} of {} void",
            void,
            words::count(round.samples.len(), "sample", "samples")
        ),
    }
}

/// Void samples of one system at one point for one reason.
struct VoidGroup<'a> {
    sample: &'a Sample,
    why: String,
    rounds: Vec<u32>,
    rates: Vec<f64>,
    client_shares: Vec<f64>,
}

impl<'a> VoidGroup<'a> {
    /// All of a document, those of rounds that do not count too.
    fn of(document: &'a Document) -> Vec<VoidGroup<'a>> {
        let mut groups: Vec<VoidGroup<'a>> = Vec::new();
        for round in &document.rounds {
            for sample in &round.samples {
                let Some(void) = &sample.void else { continue };
                let why = void.words();
                let is_same = |group: &&mut VoidGroup<'a>| {
                    group.sample.point == sample.point
                        && group.sample.system == sample.system
                        && group.why == why
                };
                let group = match groups.iter_mut().find(is_same) {
                    Some(group) => group,
                    None => groups.push_mut(VoidGroup {
                        sample,
                        why,
                        rounds: Vec::new(),
                        rates: Vec::new(),
                        client_shares: Vec::new(),
                    }),
                };
                group.rounds.push(round.number);
                group.rates.push(sample.achieved_per_second);
                group.client_shares.push(sample.client_cpu_share);
            }
        }
        groups
    }
}

/// Every sample that is void, by its reason.
fn write_void(html: &mut Html, document: &Document) {
    html.leaf("h3", &[], "Void samples");
    let groups = VoidGroup::of(document);
    if groups.is_empty() {
        html.leaf("p", &[("class", "nothing")], "None.");
        return;
    }
    html.scrolling("Void samples", |html| {
        html.within("table", &[("class", "plain void")], |html| {
            html.within("thead", &[], |html| {
                html.within("tr", &[], |html| {
                    for column in [
                        "point",
                        "system",
                        "rounds",
                        "why",
                        "commands/s",
                        "client's CPU",
                    ] {
                        html.leaf("th", &[("scope", "col")], column);
                    }
                });
            });
            html.within("tbody", &[], |html| {
                for group in &groups {
                    write_void_group(html, group);
                }
            });
        });
    });
}

fn write_void_group(html: &mut Html, group: &VoidGroup<'_>) {
    let mut rounds = group.rounds.clone();
    rounds.dedup();
    let rounds: Vec<String> = rounds.iter().map(u32::to_string).collect();
    let middle = |values: &[f64], words: fn(f64) -> String| {
        let spread = Spread::of(values.iter().copied());
        spread.map_or_else(String::new, |spread| words(spread.median))
    };
    html.within("tr", &[], |html| {
        html.leaf("th", &[("scope", "row")], &group.sample.point.0);
        html.leaf("td", &[], &group.sample.system.0);
        html.leaf("td", &[], &rounds.join(", "));
        html.leaf("td", &[("class", "why")], &group.why);
        html.leaf("td", &[("class", "figure")], &middle(&group.rates, number));
        html.leaf(
            "td",
            &[("class", "figure")],
            &middle(&group.client_shares, words::share),
        );
    });
}
