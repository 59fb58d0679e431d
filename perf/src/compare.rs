//! `metastore-perf compare`: this store side by side with other systems, under the same load from the same generator.
//!
//! Servers are its own, on the loopback interface, with new data: this store on one processor, its peers on all of them,
//! the client on one. Rounds take turns over the workloads; each is measured between two floors and thrown away when the
//! floor has moved. Rounds are kept as they end, so that a comparison that was stopped goes on where it was.
//!
//! It does **not** tune anybody: peers run as they are installed, except that all of them make a write durable before
//! they answer it. It compares single nodes, or clusters of three nodes on this one machine.

mod clock;
mod contestants;
pub(crate) mod document;
#[cfg(test)]
mod fixture;
mod journal;
mod page;
mod plan;
mod ratios;
mod report;
mod resume;
mod round;
#[cfg(test)]
mod sample_documents;
mod schedule;
pub(crate) mod stored;
mod tree;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::thread;

use crate::arguments::{CompareArguments, PeerName};
use crate::error::{PerfError, Verdict};
use crate::node::end_stores_on_signals;
use crate::output::Output;
use crate::pinning::Pinning;
use crate::system::System;
use contestants::{Contestants, Stage};
use document::{Document, FORMAT, Header, MissingSystem, Plan, Tree};
pub(crate) use journal::JournalError;
use plan::{Group, Section};
use resume::Opened;
use round::Rounds;
use schedule::Schedule;
pub(crate) use tree::TreeError;
use tree::TreeMetadata;

/// Starts the systems, measures them in turns, and reports.
pub(crate) fn run(arguments: &CompareArguments) -> Result<Verdict, PerfError> {
    let mut output = Output::new(arguments.json.clone());
    let peers: Vec<System> = arguments.peers().into_iter().map(system_of).collect();
    let wanted = sections(arguments, &peers);
    let schedule = schedule_of(arguments, &wanted, arguments.tree_entries());
    announce(&schedule, &mut output)?;
    end_stores_on_signals()?;
    let mut stage = set_stage(arguments)?;
    output.line(&stage.pinning.words_for(u32::from(stage.nodes)))?;
    let tree = walk_tree(arguments, &wanted, &mut output)?;
    let (mut contestants, missing) = stage.start_those_there(&peers)?;
    for MissingSystem { name, why } in &missing {
        output.line(&format!("{name} is skipped: {why}"))?;
    }
    let sections = sections(arguments, &contestants.peers());
    let tree_entries = tree.as_ref().map_or(0, |tree| tree.entries.len() as u64);
    let schedule = schedule_of(arguments, &sections, tree_entries);
    let header = header_of(&schedule, &stage, &mut contestants, missing, tree.as_ref())?;
    for line in header.conditions.lines() {
        output.line(&line)?;
    }
    let mut opened = resume::open(&arguments.results(), &header)?;
    if let Some(words) = &opened.words {
        output.line(words)?;
        announce_rest(&schedule, &opened, &mut output)?;
    }
    fix_flush_method(&mut stage, &opened.header);
    let peers = contestants.peers();
    // Those that have been started flush as their own probe has told them.
    let is_as_before = opened.header.conditions.store == header.conditions.store;
    let first = is_as_before.then_some(contestants);
    let rounds = Rounds {
        stage: &stage,
        schedule: &schedule,
        peers,
        tree: tree.as_ref(),
        last_floor: None,
    };
    let document = rounds.measure_all(&mut opened, first, &mut output)?;
    document.print(&mut output)?;
    output.json(&document)?;
    if let Some(path) = &arguments.html {
        stored::write_page(&document, path)?;
        output.line(&format!("page: {}", path.display()))?;
    }
    opened.journal.finish()?;
    Ok(verdict(&document, arguments))
}

fn system_of(peer: PeerName) -> System {
    match peer {
        PeerName::Etcd => System::Etcd,
        PeerName::Redis => System::Redis,
    }
}

fn sections(arguments: &CompareArguments, peers: &[System]) -> Vec<Section> {
    let workloads = arguments.workloads().into_iter();
    let group = Group::of_nodes(arguments.nodes);
    let section = |workload| Section::of(group, workload, peers, arguments.thoroughness());
    workloads.map(section).collect()
}

fn schedule_of<'a>(
    arguments: &CompareArguments,
    sections: &'a [Section],
    tree_entries: u64,
) -> Schedule<'a> {
    Schedule {
        sections,
        effort: arguments.effort(),
        thoroughness: arguments.thoroughness(),
        tree_entries,
    }
}

/// Says beforehand how long it will take.
fn announce(schedule: &Schedule<'_>, output: &mut Output) -> Result<(), PerfError> {
    let expected = schedule.expected(&[]);
    let ids: Vec<&str> = schedule
        .sections
        .iter()
        .map(|section| section.plan.id.as_str())
        .collect();
    output.line(&format!(
        "{} rounds of {}, {} s a point: {}",
        schedule.effort.rounds,
        ids.join(", "),
        schedule.effort.measured.as_secs(),
        expected.words()
    ))
}

fn announce_rest(
    schedule: &Schedule<'_>,
    opened: &Opened,
    output: &mut Output,
) -> Result<(), PerfError> {
    if opened.rounds.is_empty() {
        return Ok(());
    }
    let expected = schedule.expected(&opened.rounds);
    output.line(&format!("what remains: {}", expected.words()))
}

/// Looks for everything that systems are started with.
fn set_stage(arguments: &CompareArguments) -> Result<Stage, PerfError> {
    let program = match &arguments.metastore {
        Some(program) => program.clone(),
        None => beside_this_program()?,
    };
    if !program.is_file() {
        return Err(PerfError::NoStore { program });
    }
    fs::create_dir_all(&arguments.data).map_err(PerfError::Data)?;
    let mut store_arguments = arguments.store_arguments.clone();
    if !is_said(&store_arguments, "--log-level") {
        store_arguments.extend(["--log-level".into(), "warn".into()]);
    }
    Ok(Stage {
        data: arguments.data.clone(),
        program,
        nodes: arguments.nodes,
        store_arguments,
        pinning: Pinning::choose(),
        // Before this process keeps to one of them.
        cpus: thread::available_parallelism().map_or(1, usize::from),
    })
}

fn beside_this_program() -> Result<PathBuf, PerfError> {
    let own = std::env::current_exe().map_err(PerfError::Data)?;
    Ok(own.with_file_name("metastore"))
}

/// Walks the tree if a workload needs it.
fn walk_tree(
    arguments: &CompareArguments,
    sections: &[Section],
    output: &mut Output,
) -> Result<Option<TreeMetadata>, PerfError> {
    if !sections.iter().any(Section::needs_tree) {
        return Ok(None);
    }
    let tree = TreeMetadata::walk(&arguments.tree, arguments.tree_entries())?;
    output.line(&format!(
        "{}: {} entries, {} directories read, {} entries left out",
        tree.root.display(),
        tree.entries.len(),
        tree.directories.len(),
        tree.left_out
    ))?;
    Ok(Some(tree))
}

fn header_of(
    schedule: &Schedule<'_>,
    stage: &Stage,
    contestants: &mut Contestants,
    missing: Vec<MissingSystem>,
    tree: Option<&TreeMetadata>,
) -> Result<Header, PerfError> {
    let conditions = contestants.conditions(stage)?;
    Ok(Header {
        format: FORMAT,
        started: clock::now_words(),
        command: std::env::args().collect(),
        systems: contestants.system_conditions(stage, &conditions),
        conditions,
        pinning: stage.pinning.clone(),
        missing,
        plan: Plan {
            rounds: schedule.effort.rounds,
            warm_up_seconds: schedule.effort.warm_up.as_secs_f64(),
            measured_seconds: schedule.effort.measured.as_secs_f64(),
            keys: schedule.effort.keys,
        },
        workloads: schedule
            .sections
            .iter()
            .map(|section| section.plan.clone())
            .collect(),
        tree: tree.map(|tree| Tree {
            path: tree.root.display().to_string(),
            entries: tree.entries.len() as u64,
            directories: tree.directories.len() as u64,
        }),
    })
}

/// Every later store flushes as the first one does: by itself each would choose by a probe of its own.
fn fix_flush_method(stage: &mut Stage, header: &Header) {
    let arguments = &mut stage.store_arguments;
    if !is_said(arguments, "--flush") {
        let method = &header.conditions.store.flush_method;
        arguments.extend(["--flush".into(), method.into()]);
    }
}

/// Whether the command line says this of all stores.
fn is_said(arguments: &[OsString], name: &str) -> bool {
    let prefix = format!("{name}=");
    arguments.iter().any(|argument| {
        let argument = argument.to_string_lossy();
        argument == name || argument.starts_with(&prefix)
    })
}

fn verdict(document: &Document, arguments: &CompareArguments) -> Verdict {
    let figures: Vec<_> = document
        .ratios
        .iter()
        .map(|ratio| ratio.figure.clone())
        .collect();
    let rounds = document.rounds_counted().count();
    let judged = Verdict::of(&figures, rounds, arguments.strict.strictness());
    if document.is_complete() {
        judged
    } else {
        judged.max(Verdict::Invalid)
    }
}
