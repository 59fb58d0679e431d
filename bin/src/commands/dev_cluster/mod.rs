//! `metastore dev --nodes`: a whole cluster on this machine, each node a process of its own.
//!
//! This process makes the data, starts the nodes, passes their messages on and ends with the last of them. It serves
//! nobody itself, and it does **not** start a node again that has ended: what becomes of the others is what one wants to
//! see.

mod data;
mod messages;
mod process;

use std::path::Path;
use std::process::ExitStatus;
use std::sync::mpsc;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::data::ClusterData;
pub(crate) use self::data::DevClusterError;
use self::process::NodeProcess;
use super::serve::{DEV, load, program, say};
use super::{Exit, tell};
use crate::arguments::DevArguments;
use crate::config::{Configuration, FlagValue, Key, Sources};
use crate::log;
use crate::node::{NodeOptions, Oversubscription, cpus};

/// What may happen while the nodes run.
#[derive(Debug)]
enum Event {
    /// A node serves, by its place.
    Serving(usize),
    /// A node has ended, or is about to.
    Ended(usize),
    /// Somebody wants all of them to stop.
    Stop,
}

/// What has become of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Serving,
    Ended(ExitStatus),
}

/// Whether anybody has asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    ToStop,
    ToEndAtOnce,
}

/// Runs the nodes until all of them have ended.
pub(super) fn run(arguments: &DevArguments) -> Exit {
    let flags = arguments.settings.flags();
    let sources = Sources {
        dev: &DEV,
        file: None,
        flags: flags.clone(),
    };
    let configuration = match load(&sources) {
        Ok(configuration) => configuration,
        Err(exit) => return exit,
    };
    let nodes = usize::from(arguments.nodes);
    let exit = start(&configuration, &flags, nodes).unwrap_or_else(|error| {
        tell(&error);
        error.exit()
    });
    log::flush();
    exit
}

fn start(
    configuration: &Configuration,
    flags: &[FlagValue],
    nodes: usize,
) -> Result<Exit, DevClusterError> {
    let options = configuration.node_options(Oversubscription::Warn);
    for key in [Key::ListenAdvertise, Key::PeersAddress, Key::PeersPort] {
        if configuration.is_given(key) {
            return Err(DevClusterError::NotForAll { key: key.name() });
        }
    }
    // Before anything is made: a signal in between would leave nodes behind that nobody started.
    let (events, received) = mpsc::channel();
    take_signals(&events)?;
    let data = data::open(&options, nodes)?;
    let allowed = match &options.cpus {
        Some(list) => cpus::parse_list(list).expect("it was checked"),
        None => cpus::allowed()?,
    };
    let cores: usize = data.nodes.iter().map(|node| node.file.cores).sum();
    if cores > allowed.len() {
        log::warning!(
            "the cores of all nodes take turns on fewer processors: this is for trying things out",
            cores = cores,
            processors = allowed.len(),
        );
    }
    let mut running = Running {
        processes: Vec::new(),
        states: vec![State::Starting; nodes],
        asked: Asked::Nothing,
    };
    let mut first_core = 0;
    for (place, node) in data.nodes.iter().enumerate() {
        let cpus = cpus_of(&allowed, first_core, node.file.cores);
        first_core += node.file.cores;
        let launch = process::Launch {
            node: node.file.node,
            arguments: arguments_of(node, &options, flags, &cpus, (place, nodes))?,
            cpus,
            format: configuration.log_settings().format,
        };
        match NodeProcess::start(launch, place, &events) {
            Ok(process) => running.processes.push(process),
            Err(source) => {
                // The others end with their standard input.
                running.processes.clear();
                return Err(DevClusterError::Process { source });
            }
        }
    }
    drop(events);
    Ok(running.watch(&received, &data))
}

/// Passes signals on as events, from a thread of its own.
fn take_signals(events: &mpsc::Sender<Event>) -> Result<(), DevClusterError> {
    let signals = Signals::new([SIGTERM, SIGINT]);
    let mut signals = signals.map_err(|source| DevClusterError::Process { source })?;
    let events = events.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            // Without a receiver the process is ending already.
            if events.send(Event::Stop).is_err() {
                break;
            }
        }
    });
    Ok(())
}

/// The processors of a node whose cores come behind `first_core` others: all nodes take turns, and none has one twice.
fn cpus_of(allowed: &[usize], first_core: usize, cores: usize) -> Vec<usize> {
    let turns = first_core..first_core + cores.min(allowed.len());
    turns.map(|core| allowed[core % allowed.len()]).collect()
}

/// The command line of a node, behind the program's name.
fn arguments_of(
    node: &data::NodeData,
    options: &NodeOptions,
    flags: &[FlagValue],
    cpus: &[usize],
    (place, nodes): (usize, usize),
) -> Result<Vec<String>, DevClusterError> {
    // What the data decides, or each node has for itself.
    let own = [
        Key::Data,
        Key::Format,
        Key::Cores,
        Key::Shards,
        Key::Cpus,
        Key::ListenAddress,
        Key::ListenPort,
        Key::AdminListen,
    ];
    let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
    let data = node.path.to_string_lossy().into_owned();
    let mut arguments = ["dev", "--dev-node", "--data"].map(str::to_owned).to_vec();
    arguments.push(data);
    let mut set = |key: Key, text: String| {
        arguments.push("--set".to_owned());
        arguments.push(format!("{}={text}", key.name()));
    };
    set(Key::Format, "never".to_owned());
    set(Key::Cpus, cpus.join(","));
    if let Some(first) = options.admin {
        let port = u16::try_from(place)
            .ok()
            .and_then(|place| first.port().checked_add(place));
        let port = port.ok_or(DevClusterError::AdminPort { first, nodes })?;
        let address = std::net::SocketAddr::new(first.ip(), port);
        set(Key::AdminListen, address.to_string());
    }
    if options.memory_budget_bytes.is_none() {
        let bytes = crate::node::budget_bytes_beside(nodes, &node.file);
        set(Key::MemoryBudget, format!("{bytes}B"));
    }
    for flag in flags {
        if let Some(key) = Key::find(&flag.name).filter(|key| !own.contains(key)) {
            set(key, flag.text.clone());
        }
    }
    Ok(arguments)
}

/// The nodes, and what has become of them.
struct Running {
    processes: Vec<NodeProcess>,
    states: Vec<State>,
    asked: Asked,
}

impl Running {
    /// Waits until all have ended.
    fn watch(mut self, events: &mpsc::Receiver<Event>, data: &ClusterData) -> Exit {
        let mut is_greeted = false;
        loop {
            let is_ended = |state: &State| matches!(state, State::Ended(_));
            if self.states.iter().all(is_ended) {
                return self.exit();
            }
            if !is_greeted && !self.states.contains(&State::Starting) {
                is_greeted = true;
                self.greet(data);
            }
            let event = events.recv();
            match event.expect("the thread that takes signals holds a sender") {
                Event::Serving(place) => self.states[place] = State::Serving,
                Event::Ended(place) => self.note_end(place),
                Event::Stop => self.stop(),
            }
        }
    }

    fn note_end(&mut self, place: usize) {
        let process = &mut self.processes[place];
        let status = process.wait();
        self.states[place] = State::Ended(status);
        let node = u64::from(process.node.0);
        let is_ended = |state: &State| matches!(state, State::Ended(_));
        let left = self.states.iter().filter(|state| !is_ended(state)).count();
        if self.asked == Asked::Nothing {
            log::warning!(
                "a node has ended by itself",
                node = node,
                status = log::text(&status),
                nodes_left = left,
            );
        }
    }

    /// The first time all nodes finish what they have accepted; the second time they end at once.
    fn stop(&mut self) {
        let living = self.processes.iter_mut().zip(&self.states);
        let living = living.filter(|(_, state)| !matches!(state, State::Ended(_)));
        match self.asked {
            Asked::Nothing => {
                log::info!("stopping");
                living.for_each(|(process, _)| process.stop());
                self.asked = Asked::ToStop;
            }
            Asked::ToStop | Asked::ToEndAtOnce => {
                living.for_each(|(process, _)| process.kill());
                self.asked = Asked::ToEndAtOnce;
            }
        }
    }

    /// How it went. A node that ended earlier is no failure of a stop.
    fn exit(&self) -> Exit {
        let codes = self.states.iter().map(|state| match state {
            State::Ended(status) => status.code(),
            State::Starting | State::Serving => None,
        });
        let usage = i32::from(Exit::Usage.code());
        match self.asked {
            Asked::Nothing if codes.clone().all(|code| code == Some(usage)) => Exit::Usage,
            Asked::ToStop if self.processes.iter().all(NodeProcess::is_well_stopped) => Exit::Done,
            Asked::Nothing | Asked::ToStop | Asked::ToEndAtOnce => Exit::Unavailable,
        }
    }

    fn greet(&self, data: &ClusterData) {
        let program = program();
        let living = self.states.iter().zip(&self.processes).zip(&data.nodes);
        let serving = living.filter(|((state, _), _)| **state == State::Serving);
        let mut text = format!(
            "MetaStore {} is serving: a cluster of {} nodes.\n",
            env!("CARGO_PKG_VERSION"),
            self.states.len()
        );
        text += &format!("  data     {}\n", data.path.display());
        text += &format!("  cluster  {}\n", data.cluster.id);
        text += &format!("  shards   {}\n", data.cluster.members.len());
        let mut last = None;
        let mut connect = None;
        for ((_, process), node) in serving {
            let entry = node.file.entry().expect("it is a node of a cluster");
            let cpus: Vec<String> = process.cpus.iter().map(usize::to_string).collect();
            text += &format!(
                "  node {}   {} on processor {}, process {}\n",
                entry.node,
                entry.clients,
                cpus.join(", "),
                process.id()
            );
            connect.get_or_insert_with(|| entry.clients.to_string());
            last = Some((process.id(), node.path.clone()));
        }
        let (Some(connect), Some((process, path))) = (connect, last) else {
            return;
        };
        text += &format!(
            "Try:\n  {program} put --connect {connect} /hello world\n  {program} get --connect {connect} /hello\n  {program} status --connect {connect}\n  kill -9 {process}    # the others go on\n  {program} dev --data {}    # brings it back\n",
            show(&path)
        );
        say(&text);
    }
}

/// A path as one can paste it into a shell.
fn show(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    match text.bytes().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_use_different_processors_where_there_are_enough() {
        let allowed = [0, 2, 4, 6];
        assert_eq!(cpus_of(&allowed, 0, 1), [0]);
        assert_eq!(cpus_of(&allowed, 2, 2), [4, 6]);
        assert_eq!(cpus_of(&allowed, 3, 2), [6, 0]);
        assert_eq!(cpus_of(&allowed, 4, 1), [0]);
        // Nobody has a processor twice: its cores take turns on those that it has.
        assert_eq!(cpus_of(&allowed, 1, 9), [2, 4, 6, 0]);
    }

    #[test]
    fn a_path_is_shown_so_that_a_shell_takes_it_as_it_is() {
        assert_eq!(show(Path::new("/a/b-1")), "/a/b-1");
        assert_eq!(show(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
