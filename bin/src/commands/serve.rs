//! `metastore serve` and `metastore dev`: a node, from its configuration to its last message.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use metastore_wal::device::{DiskFailure, Fault};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::error::exit_of_start;
use super::exit::Exit;
use super::{dev_cluster, tell};
use crate::arguments::{DevArguments, FaultArguments, ServeArguments};
use crate::config::{Configuration, Key, LogFormat, Sources};
use crate::log;
use crate::node::{self, NodeOptions, NodeSummary, Oversubscription, StopOutcome};

/// What `dev` has instead of the defaults: it works in an empty directory, and two of them do not fight for a port that
/// nobody asked for.
pub(super) const DEV: [(Key, &str); 2] = [(Key::Format, "if-empty"), (Key::AdminListen, "off")];

/// What somebody who tries things out wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    /// The addresses, and commands to try.
    Tutorial,
    /// One message among others.
    Message,
    /// A word for the parent, with which this process ends.
    Parent,
}

/// What a node of `dev --nodes` tells its parent once it serves.
pub(super) const SERVING: &str = "serving";

/// Runs a node for development until SIGTERM or SIGINT.
pub(crate) fn run_dev(arguments: &DevArguments) -> Exit {
    if arguments.nodes > 1 {
        return dev_cluster::run(arguments);
    }
    let sources = Sources {
        dev: &DEV,
        file: None,
        flags: arguments.settings.flags(),
    };
    let oversubscription = Oversubscription::Warn;
    start(
        &sources,
        oversubscription,
        &arguments.faults,
        match arguments.dev_node {
            true => Greeting::Parent,
            false => Greeting::Tutorial,
        },
    )
}

/// Runs a node as its configuration says until SIGTERM or SIGINT.
pub(crate) fn run(arguments: &ServeArguments) -> Exit {
    let sources = Sources {
        dev: &[],
        file: arguments.config.config.as_deref(),
        flags: arguments.config.settings.flags(),
    };
    let oversubscription = Oversubscription::Refuse;
    start(
        &sources,
        oversubscription,
        &arguments.faults,
        Greeting::Message,
    )
}

fn start(
    sources: &Sources<'_>,
    oversubscription: Oversubscription,
    faults: &FaultArguments,
    greeting: Greeting,
) -> Exit {
    let configuration = match load(sources) {
        Ok(configuration) => configuration,
        Err(exit) => return exit,
    };
    let format = configuration.log_settings().format;
    let options = NodeOptions {
        fault: faults.fail_log_write.map(|nth| Fault::FailWrite {
            nth,
            failure: DiskFailure::InputOutput,
        }),
        ..configuration.node_options(oversubscription)
    };
    let exit = serve(&options, format, greeting);
    log::flush();
    exit
}

/// Loads the configuration and opens the log of messages, or says why not.
pub(super) fn load(sources: &Sources<'_>) -> Result<Configuration, Exit> {
    let configuration = Configuration::load(sources).map_err(|errors| {
        tell(&errors);
        Exit::Usage
    })?;
    log::start(configuration.log_settings()).map_err(|error| {
        tell(&format_args!("messages cannot be written: {error}"));
        Exit::Unavailable
    })?;
    Ok(configuration)
}

/// Runs a node from start to stop.
fn serve(options: &NodeOptions, format: LogFormat, greeting: Greeting) -> Exit {
    let signals = match StopSignals::take() {
        Ok(signals) => signals,
        Err(error) => {
            log::error!("signals cannot be taken", error = log::text(&error));
            return Exit::Unavailable;
        }
    };
    if greeting == Greeting::Parent {
        end_with_standard_input();
    }
    let served = node::start(options).and_then(|node| {
        signals.begin_serving();
        node.serve()
    });
    let node = match served {
        Ok(node) => node,
        Err(error) => {
            // Somebody at a terminal reads this, and it may have several lines.
            match format {
                LogFormat::Text => tell(&error),
                LogFormat::Json => {
                    log::error!("the node cannot start", error = log::text(&error));
                }
            }
            return exit_of_start(&error);
        }
    };
    report(&node.summary, options);
    match greeting {
        Greeting::Tutorial => greet(&node.summary),
        Greeting::Message => {}
        Greeting::Parent => say(&format!("{SERVING}\n")),
    }
    signals.wait();
    log::info!("stopping");
    match node.stop() {
        StopOutcome::Finished => {
            log::info!("stopped");
            Exit::Done
        }
        StopOutcome::Unfinished => {
            log::warning!(
                "some requests were not finished in time; their clients do not know the outcome"
            );
            Exit::Unavailable
        }
    }
}

/// Says how the node runs.
fn report(summary: &NodeSummary, options: &NodeOptions) {
    let admin = options.admin.map(|address| address.ip());
    let listen = summary.cores.first().map(|(address, _)| address.ip());
    let peers = summary.peers.map(|address| address.ip());
    let keys = [
        ("listen.address", listen),
        ("peers.address", peers),
        ("admin.listen", admin),
    ];
    for (key, address) in keys {
        if let Some(address) = address.filter(|address| !address.is_loopback()) {
            log::warning!(
                "others can connect: nothing is encrypted and nobody is asked who they are",
                key = key,
                address = log::text(&address),
            );
        }
    }
    for warning in &summary.warnings {
        log::warning!("started with a warning", warning = warning.as_str());
    }
    let addresses: Vec<_> = summary
        .cores
        .iter()
        .map(|(address, cpu)| format!("{address}@{cpu}"))
        .collect();
    log::info!(
        "serving",
        version = env!("CARGO_PKG_VERSION"),
        data = log::text(&summary.data.display()),
        cluster = format!("{:032x}", summary.cluster),
        shards = summary.shards,
        cores = summary.cores.len(),
        flush = summary.flush_method,
        listen = addresses.join(","),
        admin = match options.admin {
            Some(address) => address.to_string(),
            None => "off".to_owned(),
        },
    );
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
                log::warning!("stopped before it served anybody");
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

/// Takes the end of the standard input for SIGTERM. Whoever holds the other end may be killed and says nothing then.
fn end_with_standard_input() {
    thread::spawn(|| {
        // What is written there means nothing, and one that cannot be read has ended too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        if signal_hook::low_level::raise(SIGTERM).is_err() {
            exit_at_once();
        }
    });
}

fn exit_at_once() -> ! {
    log::flush();
    std::process::exit(i32::from(Exit::Unavailable.code()))
}

/// How this program was called, for commands to try.
pub(super) fn program() -> String {
    let program = std::env::args_os().next();
    let program = program.unwrap_or_else(|| "metastore".into());
    Path::new(&program).display().to_string()
}

fn greet(summary: &NodeSummary) {
    let program = program();
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
    say(&text);
}

/// Writes to the standard output. A store serves whether or not somebody reads its greeting.
pub(super) fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}
