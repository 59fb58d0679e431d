//! `metastore dev`: a store on this machine, with no configuration.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use metastore_wal::device::{DiskFailure, Fault, FlushMethod};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::Exit;
use super::tell;
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
        memory_budget_bytes: arguments.memory_budget,
        connections_max: arguments.connections_max.map(|max| max as usize),
        fault: arguments.fail_log_write.map(|nth| Fault::FailWrite {
            nth,
            failure: DiskFailure::InputOutput,
        }),
    };
    let signals = match StopSignals::take() {
        Ok(signals) => signals,
        Err(error) => {
            tell(&format_args!("signals cannot be taken: {error}"));
            return Exit::Unavailable;
        }
    };
    let served = node::start(&options).and_then(|node| {
        signals.begin_serving();
        node.serve()
    });
    let node = match served {
        Ok(node) => node,
        Err(error) => {
            tell(&error);
            return match error.is_usage() {
                true => Exit::Usage,
                false => Exit::Unavailable,
            };
        }
    };
    greet(&node.summary);
    signals.wait();
    tell(&"stopping");
    match node.stop() {
        StopOutcome::Finished => Exit::Done,
        StopOutcome::Unfinished => {
            tell(&"some requests were not finished in time; their clients do not know the outcome");
            Exit::Unavailable
        }
    }
}

/// What SIGTERM and SIGINT mean. Until the store serves, nobody was promised anything, and a signal ends the process at
/// once; then the first one stops the store, and a second one does not wait for that.
struct StopSignals {
    is_serving: Arc<AtomicBool>,
    first: mpsc::Receiver<()>,
}

impl StopSignals {
    /// Takes signals from here on, on a thread of its own.
    fn take() -> io::Result<StopSignals> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let is_serving = Arc::new(AtomicBool::new(false));
        let (stop, first) = mpsc::channel();
        let serving = Arc::clone(&is_serving);
        thread::spawn(move || {
            let mut received = signals.forever();
            received.next();
            if !serving.load(Ordering::Acquire) {
                tell(&"stopped before it served anybody");
                exit_at_once();
            }
            // Without a receiver the process is ending already.
            let _ = stop.send(());
            received.next();
            exit_at_once();
        });
        Ok(StopSignals { is_serving, first })
    }

    fn begin_serving(&self) {
        self.is_serving.store(true, Ordering::Release);
    }

    /// Waits for the first signal.
    fn wait(&self) {
        self.first
            .recv()
            .expect("the thread that takes signals lives as long as the process");
    }
}

fn exit_at_once() -> ! {
    std::process::exit(i32::from(Exit::Unavailable.code()))
}

fn greet(summary: &NodeSummary) {
    for warning in &summary.warnings {
        tell(&format_args!("warning: {warning}"));
    }
    let program = std::env::args_os()
        .next()
        .unwrap_or_else(|| "metastore".into());
    let program = Path::new(&program).display();
    let connect = match summary.cores.first() {
        Some((address, _)) if address.port() != 7400 => format!(" --connect {address}"),
        _ => String::new(),
    };
    let mut text = format!("MetaStore {} is serving.\n", env!("CARGO_PKG_VERSION"));
    text += &format!("  data     {}\n", summary.data.display());
    text += &format!("  cluster  {:032x}\n", summary.cluster);
    text += &format!("  shards   {}\n", summary.shards);
    text += &format!("  flush    {}\n", summary.flush_method);
    for (core, (address, cpu)) in summary.cores.iter().enumerate() {
        text += &format!("  core {core}   {address} on processor {cpu}\n");
    }
    text += &format!(
        "Try:\n  {program} put{connect} /hello world\n  {program} get{connect} /hello\n  {program} status{connect}\n"
    );
    // A store serves whether or not somebody reads its greeting.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}
