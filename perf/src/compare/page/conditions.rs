//! Under which conditions the figures hold: machine, disk, systems with their arguments, and how it was measured.

use super::html::Html;
use super::view::View;
use super::words;
use crate::compare::document::{Header, SystemConditions};
use crate::floor::FloorTool;
use crate::output::number;

/// What must be known before any figure is read: doubts about the run, and systems that are missing.
pub(super) fn write_warnings(html: &mut Html, view: &View<'_>) {
    let missing = &view.document.header.missing;
    let suspicions = &view.document.suspicions;
    if missing.is_empty() && suspicions.is_empty() {
        return;
    }
    html.within("aside", &[("class", "warnings")], |html| {
        html.within("ul", &[], |html| {
            for suspicion in suspicions {
                html.within("li", &[], |html| {
                    html.leaf("b", &[], "Suspect: ");
                    html.text(suspicion);
                });
            }
            for system in missing {
                html.within("li", &[], |html| {
                    html.leaf("b", &[], &format!("Without {}: ", system.name));
                    html.text(&system.why);
                });
            }
        });
    });
}

/// Machine, plan and systems.
pub(super) fn write_conditions(html: &mut Html, view: &View<'_>) {
    let header = &view.document.header;
    html.within("dl", &[], |html| {
        for line in header.conditions.lines() {
            let (name, fact) = line.split_once(": ").unwrap_or(("", &line));
            write_fact(html, name, fact);
        }
        let nodes = header.conditions.store.nodes.unwrap_or(1);
        write_fact(html, "processors", &header.pinning.words_for(nodes));
        write_fact(html, "effort", &plan_words(header));
        if let Some(floor) = floor_words(view) {
            write_fact(html, "floor", &floor);
        }
        if let Some(tree) = &header.tree {
            let fact = format!(
                "{}: {} entries, {} of them directories",
                tree.path,
                number(tree.entries as f64),
                number(tree.directories as f64)
            );
            write_fact(html, "tree", &fact);
        }
        write_fact(html, "began", &header.started);
        html.leaf("dt", &[], "command");
        html.within("dd", &[], |html| {
            html.leaf("code", &[], &words::command(&header.command))
        });
    });
    html.leaf("h3", &[], "Systems");
    html.within("div", &[("class", "systems")], |html| {
        for system in &header.systems {
            write_system(html, view, system);
        }
    });
}

fn write_fact(html: &mut Html, name: &str, fact: &str) {
    html.leaf("dt", &[], name);
    html.leaf("dd", &[], fact);
}

fn plan_words(header: &Header) -> String {
    let plan = &header.plan;
    format!(
        "{} of each workload that are to count, {} s a point after {} s of warm-up, {} keys loaded before",
        words::count(plan.rounds as usize, "round", "rounds"),
        words::plain(plan.measured_seconds),
        words::plain(plan.warm_up_seconds),
        number(plan.keys as f64),
    )
}

/// How the floor was measured, by the first round.
fn floor_words(view: &View<'_>) -> Option<String> {
    let floor = &view.document.rounds.first()?.floor_before;
    let tool = match &floor.tool {
        FloorTool::Fio(version) => version.as_str(),
        FloorTool::OwnRing => "the store's own ring, fio is not installed",
    };
    Some(format!(
        "durable writes of {} bytes, one at a time, into a zero-filled file: {tool}",
        number(crate::floor::WRITE_BYTES as f64)
    ))
}

fn write_system(html: &mut Html, view: &View<'_>, system: &SystemConditions) {
    html.within("article", &[], |html| {
        html.within("h4", &[], |html| {
            html.leaf(
                "span",
                &[("class", &format!("chip {}", view.class(&system.name)))],
                &system.name.0,
            );
            html.leaf("small", &[], &format!(" {}", system.version));
        });
        let facts = format!(
            "{}; {}, {}",
            system.durability,
            words::count(system.cpus, "processor", "processors"),
            words::count(system.replicas as usize, "replica", "replicas"),
        );
        html.leaf("p", &[], &facts);
        if !system.arguments.is_empty() {
            html.within("p", &[], |html| {
                html.leaf("code", &[], &words::command(&system.arguments))
            });
        }
    });
}
