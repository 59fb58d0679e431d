//! `metastore dev`: a store on this machine, with no configuration.

use std::path::Path;

use metastore_wal::device::{DiskFailure, Fault, FlushMethod};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::Exit;
use crate::arguments::{DevArguments, FlushChoice};
use crate::node::{self, NodeOptions, NodeSummary, StopOutcome};

/// Starts the store and runs it until SIGTERM or SIGINT.
pub(crate) fn run(arguments: &DevArguments) -> Exit {
    let options = NodeOptions {
        data: arguments.data.clone(),
        port: arguments.port,
        cores: arguments.cores.map(usize::from),
        shards: arguments.shards.map(|shards| shards as usize),
        cpus: arguments.cpus.clone(),
        segment_bytes: arguments.segment_bytes,
        wal_budget_bytes: arguments.wal_budget,
        flush_method: arguments.flush.map(|choice| match choice {
            FlushChoice::Dsync => FlushMethod::Dsync,
            FlushChoice::WriteThenSync => FlushMethod::WriteThenSync,
        }),
        fault: arguments.fail_log_write.map(|nth| Fault::FailWrite {
            nth,
            failure: DiskFailure::InputOutput,
        }),
    };
    // Signals are taken from the very beginning, so that none is lost while the log is recovered.
    let mut signals = match Signals::new([SIGTERM, SIGINT]) {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("metastore: signals cannot be taken: {error}");
            return Exit::Unavailable;
        }
    };
    let node = match node::start(&options) {
        Ok(node) => node,
        Err(error) => {
            eprintln!("metastore: {error}");
            return Exit::Unavailable;
        }
    };
    greet(&node.summary);
    let mut received = signals.forever();
    received.next();
    eprintln!("metastore: stopping");
    // A second signal does not wait.
    std::thread::spawn(move || {
        signals.forever().next();
        std::process::exit(i32::from(Exit::Unavailable.code()));
    });
    match node.stop() {
        StopOutcome::Finished => Exit::Done,
        StopOutcome::Unfinished => {
            eprintln!(
                "metastore: some requests were not finished in time; their clients do not know the outcome"
            );
            Exit::Unavailable
        }
    }
}

fn greet(summary: &NodeSummary) {
    for warning in &summary.warnings {
        eprintln!("metastore: warning: {warning}");
    }
    let program = std::env::args_os()
        .next()
        .unwrap_or_else(|| "metastore".into());
    let program = Path::new(&program).display();
    let connect = match summary.cores.first() {
        Some((address, _)) if address.port() != 7400 => format!(" --connect {address}"),
        _ => String::new(),
    };
    println!("MetaStore {} is serving.", env!("CARGO_PKG_VERSION"));
    println!("  data     {}", summary.data.display());
    println!("  cluster  {:032x}", summary.cluster);
    println!("  shards   {}", summary.shards);
    println!("  flush    {}", summary.flush_method);
    for (core, (address, cpu)) in summary.cores.iter().enumerate() {
        println!("  core {core}   {address} on processor {cpu}");
    }
    println!("Try:");
    println!("  {program} put{connect} /hello world");
    println!("  {program} get{connect} /hello");
    println!("  {program} status{connect}");
}
