//! A comparison as one HTML page: what came out, how far to trust it, and under which conditions.
//!
//! The page needs nothing but itself: no script, no network, no font that is not there already. Everything that is
//! drawn stands beside it in figures. It shows what the [`Document`] holds and nothing else; the same document always
//! gives the same page, byte for byte. It does **not** judge: goals are met or missed in the document.
//!
//! Drawings are written in percent of their width, so that they fit a telephone and a sheet of paper while their text
//! keeps its size.

mod conditions;
mod costs;
mod curves;
mod html;
mod points;
mod rounds;
mod samples;
mod scale;
mod scores;
mod strip;
#[cfg(test)]
mod tests;
mod verdict;
mod view;
mod words;

use crate::compare::document::{Document, Role, WorkloadPlan};
use html::Html;
use view::View;

/// Colours, type and the layout on screens and paper.
const STYLE: &str = include_str!("page/page.css");

/// The page that shows a document.
pub(crate) fn render(document: &Document) -> String {
    let view = View::of(document);
    let mut html = Html::new();
    html.within("html", &[("lang", "en")], |html| {
        html.within("head", &[], |html| write_head(html, document));
        html.within("body", &[], |html| {
            html.within("header", &[], |html| write_header(html, &view));
            html.within("main", &[], |html| write_main(html, &view));
            html.within("footer", &[], |html| {
                html.leaf(
                    "p",
                    &[],
                    "Made by metastore-perf. This page loads nothing and runs no script.",
                );
            });
        });
    });
    html.finish()
}

fn write_head(html: &mut Html, document: &Document) {
    html.void("meta", &[("charset", "utf-8")]);
    html.void(
        "meta",
        &[
            ("name", "viewport"),
            ("content", "width=device-width, initial-scale=1"),
        ],
    );
    html.void(
        "meta",
        &[("name", "color-scheme"), ("content", "light dark")],
    );
    html.leaf("title", &[], &title(document));
    html.style(STYLE);
}

/// Who is compared with whom.
fn title(document: &Document) -> String {
    let names = |role| -> Vec<&str> {
        let systems = document
            .header
            .systems
            .iter()
            .filter(|system| system.role == role);
        systems.map(|system| system.name.0.as_str()).collect()
    };
    let (ours, peers) = (
        names(Role::Ours).join(", "),
        names(Role::Peer).join(" and "),
    );
    match (ours.is_empty(), peers.is_empty()) {
        (false, false) => format!("{ours} beside {peers}"),
        (false, true) => ours,
        (true, false) => peers,
        (true, true) => "A comparison".to_owned(),
    }
}

fn write_header(html: &mut Html, view: &View<'_>) {
    let header = &view.document.header;
    html.within("p", &[("class", "kicker")], |html| {
        html.leaf("time", &[], &header.started);
        if let Some(commit) = &header.conditions.commit {
            html.text(" · commit ");
            html.leaf("code", &[], commit);
        }
    });
    html.leaf("h1", &[], &title(view.document));
    verdict::write_verdict(html, view.document);
    let sentence = rounds::sentence(view.document);
    html.leaf(
        "p",
        &[("class", "lead")],
        &format!("{sentence} Figures are medians of the rounds that count; what stands after them are the extremes."),
    );
    conditions::write_warnings(html, view);
    html.within("nav", &[("aria-label", "Sections")], |html| {
        for (id, title, _) in SECTIONS {
            html.leaf("a", &[("href", &format!("#{id}"))], title);
        }
    });
}

/// A section: its anchor, its title, and what is in it.
type Section = (&'static str, &'static str, fn(&mut Html, &View<'_>));

const SECTIONS: [Section; 7] = [
    ("goals", "Goals", |html, view| {
        scores::write_scores(html, view)
    }),
    ("points", "Rates and latencies", write_points),
    ("curves", "Latency under load", write_curves),
    ("costs", "What a command costs", |html, view| {
        costs::write_costs(html, view)
    }),
    ("rounds", "Rounds and floor", |html, view| {
        rounds::write_rounds(html, view)
    }),
    ("conditions", "Conditions", |html, view| {
        conditions::write_conditions(html, view)
    }),
    ("samples", "Every sample", |html, view| {
        samples::write_samples(html, view)
    }),
];

fn write_main(html: &mut Html, view: &View<'_>) {
    for (id, title, fill) in SECTIONS {
        let heading = format!("{id}-title");
        html.within(
            "section",
            &[("id", id), ("aria-labelledby", &heading)],
            |html| {
                html.leaf("h2", &[("id", &heading)], title);
                fill(html, view);
            },
        );
    }
}

fn write_points(html: &mut Html, view: &View<'_>) {
    let workloads = &view.document.header.workloads;
    if workloads.is_empty() {
        html.leaf("p", &[("class", "nothing")], "No workload was measured.");
        return;
    }
    html.within("p", &[("class", "note")], |html| {
        html.text(
            "Bars begin at zero; each group has its own scale, and thin lines reach from the least to the greatest \
             round. Latencies lie on one logarithmic axis for each workload: ● p50, | p99, • p99.9. ",
        );
        html.leaf("span", &[("class", "floor-key")], "The dashed line is the disk alone.");
    });
    for workload in workloads {
        points::write_workload(html, view, workload);
    }
}

fn write_curves(html: &mut Html, view: &View<'_>) {
    let all = &view.document.header.workloads;
    let workloads: Vec<&WorkloadPlan> = all
        .iter()
        .filter(|workload| curves::has_curves(workload))
        .collect();
    if workloads.is_empty() {
        html.leaf(
            "p",
            &[("class", "nothing")],
            "No workload was measured at shares of a capacity.",
        );
        return;
    }
    html.leaf(
        "p",
        &[("class", "note")],
        "Requests come at random times, at shares of what each system can do by itself; time counts from when a \
         request was meant to start. Further to the right is more work done, further down is less waiting. Both axes \
         are logarithmic and the same in all drawings.",
    );
    for workload in workloads {
        curves::write_curves(html, view, workload);
    }
}
