//! A store of our own, for the time of the measurement.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::owned_server::{EndBy, OwnedServer, end_servers_on_signals};
use crate::process::ProcessId;
use crate::store::{Store, StoreError};

/// How long a store may take until it serves: it fills its first segments and probes the disk before.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait before the next attempt to reach a store.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// How a store is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// Its program.
    pub(crate) program: PathBuf,
    /// Its data lies in a new directory within this one.
    pub(crate) parent: PathBuf,
    /// Its only core runs there.
    pub(crate) cpu: u32,
    /// More arguments.
    pub(crate) more: Vec<OsString>,
}

/// A running store with one core and data of its own. Both end with this value, or when this process is told to end.
#[derive(Debug)]
pub(crate) struct Node {
    launch: Launch,
    port: u16,
    server: OwnedServer,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("no free port on the loopback interface: {0}")]
    Port(io::Error),
    #[error("cannot create {path}: {source}")]
    Data { path: PathBuf, source: io::Error },
    #[error("cannot start {program}: {source}")]
    Start { program: PathBuf, source: io::Error },
    #[error("signals cannot be taken: {0}")]
    Signals(io::Error),
    #[error("the store ended with {status} before it served")]
    Ended { status: ExitStatus },
    #[error("the store does not serve after {START_TIMEOUT:?}: {last}")]
    NotServing { last: StoreError },
}

impl Launch {
    /// Starts a store with new data.
    pub(crate) fn start(self) -> Result<Node, NodeError> {
        let port = free_port().map_err(NodeError::Port)?;
        let data = self.parent.join(format!(
            "metastore-perf-store-{}-{port}",
            std::process::id()
        ));
        let server = OwnedServer::start(data, EndBy::Kill, |data| {
            fs::create_dir_all(data).map_err(|source| NodeError::Data {
                path: data.to_owned(),
                source,
            })?;
            self.spawn(port, data)
        })?;
        Ok(Node {
            launch: self,
            port,
            server,
        })
    }

    fn spawn(&self, port: u16, data: &Path) -> Result<Child, NodeError> {
        Command::new(&self.program)
            .arg("dev")
            .arg("--data")
            .arg(data)
            .args(["--port", &port.to_string()])
            .args(["--cores", "1", "--cpus", &self.cpu.to_string()])
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|source| NodeError::Start {
                program: self.program.clone(),
                source,
            })
    }
}

/// From now on SIGINT and SIGTERM end every store and every other server of ours before they end this process.
pub(crate) fn end_stores_on_signals() -> Result<(), NodeError> {
    end_servers_on_signals().map_err(NodeError::Signals)
}

impl Node {
    /// The store's process.
    pub(crate) fn process(&self) -> ProcessId {
        self.server.process()
    }

    /// Where the store's data lies.
    pub(crate) fn data(&self) -> PathBuf {
        self.server.data()
    }

    /// Waits until the store serves, observing its process.
    pub(crate) fn connect(&self) -> Result<Store, NodeError> {
        let started = Instant::now();
        let address = format!("127.0.0.1:{}", self.port);
        loop {
            match Store::connect(&address) {
                Ok(mut store) => {
                    let watching = store.watch_process(Some(self.process()));
                    watching.map_err(|last| NodeError::NotServing { last })?;
                    return Ok(store);
                }
                Err(last) if started.elapsed() > START_TIMEOUT => {
                    return Err(NodeError::NotServing { last });
                }
                Err(_) => {}
            }
            if let Some(status) = self.server.exit_status() {
                return Err(NodeError::Ended { status });
            }
            thread::sleep(CONNECT_PAUSE);
        }
    }

    /// Kills the store and starts it again on the same data. Nothing that it has acknowledged is lost.
    pub(crate) fn kill_and_start(&mut self) -> Result<(), NodeError> {
        let Node {
            launch,
            port,
            server,
        } = self;
        server.replace(|data| launch.spawn(*port, data))
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn a_program_that_ends_at_once_is_no_store_and_leaves_nothing() {
        let parent = TestDirectory::new("a_program_that_ends");
        let launch = |program: &str| Launch {
            program: program.into(),
            parent: parent.path().to_owned(),
            cpu: 0,
            more: Vec::new(),
        };
        let mut node = launch("false").start().unwrap();
        assert!(matches!(node.connect(), Err(NodeError::Ended { .. })));
        assert!(node.data().exists());
        node.kill_and_start().unwrap();
        assert!(matches!(node.connect(), Err(NodeError::Ended { .. })));
        drop(node);
        let missing = launch("/nowhere/metastore").start();
        assert!(matches!(missing, Err(NodeError::Start { .. })));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
