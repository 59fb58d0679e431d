//! A node in a process of its own.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use metastore_engine::NodeId;

use super::super::serve::SERVING;
use super::{Event, Exit, messages};
use crate::config::LogFormat;

/// What a node is started with.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) node: NodeId,
    /// Behind the program's name.
    pub(super) arguments: Vec<String>,
    /// Those that the arguments name.
    pub(super) cpus: Vec<usize>,
    /// How it writes its messages.
    pub(super) format: LogFormat,
}

/// A node that was started.
///
/// It lives as long as its standard input is open, and that end of the pipe is this process's alone: however this process
/// ends, the node ends too. It is in a process group of its own, so that a key that interrupts this process reaches the
/// node only as the orderly stop that follows from it.
#[derive(Debug)]
pub(super) struct NodeProcess {
    pub(super) node: NodeId,
    pub(super) cpus: Vec<usize>,
    child: Child,
    /// Open as long as the node shall run.
    input: Option<ChildStdin>,
    messages: Option<JoinHandle<()>>,
    end: End,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    /// Nobody had asked it to.
    ByItself,
    Asked(ExitStatus),
}

impl NodeProcess {
    /// Starts a node at this place among the others, which sends what happens to it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn start(
        launch: Launch,
        place: usize,
        events: &mpsc::Sender<Event>,
    ) -> io::Result<NodeProcess> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(&launch.arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked for");
        };
        let Launch {
            node, cpus, format, ..
        } = launch;
        let events = events.clone();
        thread::spawn(move || listen(output, place, &events));
        let messages = thread::spawn(move || messages::pass_on(errors, node, format));
        Ok(NodeProcess {
            node,
            cpus,
            child,
            input: Some(input),
            messages: Some(messages),
            end: End::NotYet,
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets the node finish what it has accepted, and end.
    pub(super) fn stop(&mut self) {
        self.input = None;
    }

    /// Ends the node at once.
    pub(super) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
    }

    /// Waits for a node that is ending, until its last message is passed on too.
    pub(super) fn wait(&mut self) -> ExitStatus {
        let was_asked = self.input.take().is_none();
        let status = self.child.wait().expect("it is a child of this process");
        if let Some(messages) = self.messages.take() {
            // What is lost with a thread that panicked was told by that.
            let _ = messages.join();
        }
        self.end = match was_asked {
            true => End::Asked(status),
            false => End::ByItself,
        };
        status
    }

    /// Whether it is no fault of a stop how the node ended.
    pub(super) fn is_well_stopped(&self) -> bool {
        match self.end {
            End::NotYet => false,
            End::ByItself => true,
            End::Asked(status) => status.code() == Some(i32::from(Exit::Done.code())),
        }
    }
}

/// A node that nobody waits for any more: its standard input ends, and its messages are passed on until it does.
impl Drop for NodeProcess {
    fn drop(&mut self) {
        if self.end == End::NotYet {
            self.stop();
            self.wait();
        }
    }
}

/// Hears that the node serves, and that it has ended: its standard output ends with it.
fn listen(output: ChildStdout, place: usize, events: &mpsc::Sender<Event>) {
    for line in BufReader::new(output).lines() {
        match line {
            // Without a receiver this process is ending already.
            Ok(line) if line == SERVING => drop(events.send(Event::Serving(place))),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let _ = events.send(Event::Ended(place));
}
