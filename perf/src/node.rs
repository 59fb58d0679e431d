//! A store of our own, for the time of the measurement: one node, or a cluster of them on this machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::kin::send_signal;
use crate::owned_server::{EndBy, OwnedServer, end_servers_on_signals};
use crate::ports::{free_ports, free_rows};
use crate::process::{ProcessError, ProcessId};
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
    /// How many nodes it has, each with one core.
    pub(crate) nodes: u16,
    /// The only core of a node alone runs there. Those of a cluster run wherever this process may run.
    pub(crate) cpu: u32,
    /// More arguments.
    pub(crate) more: Vec<OsString>,
}

/// How far above the ports for clients the nodes of a cluster listen for each other.
pub(crate) const PEER_PORTS_ABOVE: u16 = 1_000;

/// A running store with data of its own, one core a node. Both end with this value, or when this process is told to end.
#[derive(Debug)]
pub(crate) struct Node {
    launch: Launch,
    port: u16,
    /// Before the server, whose end removes the data.
    revived: BTreeMap<SocketAddr, Revived>,
    server: OwnedServer,
}

/// A node of a cluster that runs, with the command line that brings it back.
#[derive(Debug)]
pub(crate) struct Member {
    address: SocketAddr,
    process: ProcessId,
    /// The program's path first.
    command_line: Vec<OsString>,
}

/// A node of a cluster that was killed and started again. It ends when its standard input does, so with this process.
#[derive(Debug)]
struct Revived(Child);

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
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the node at {address} cannot be killed")]
    Kill { address: SocketAddr },
}

impl Launch {
    /// Starts a store with new data.
    pub(crate) fn start(self) -> Result<Node, NodeError> {
        let port = self.free_port().map_err(NodeError::Port)?;
        let data = self.parent.join(format!(
            "metastore-perf-store-{}-{port}",
            std::process::id()
        ));
        // The processes of a cluster are the children of the one that is known here, which ends them.
        let end_by = match self.nodes {
            1 => EndBy::Kill,
            _ => EndBy::Asking,
        };
        let server = OwnedServer::start(data, end_by, |data| {
            fs::create_dir_all(data).map_err(|source| NodeError::Data {
                path: data.to_owned(),
                source,
            })?;
            self.spawn(port, data)
        })?;
        Ok(Node {
            launch: self,
            port,
            revived: BTreeMap::new(),
            server,
        })
    }

    /// The port of the first core; the others follow on it.
    fn free_port(&self) -> io::Result<u16> {
        match self.nodes {
            1 => Ok(free_ports(1)?[0]),
            nodes => free_rows(nodes, PEER_PORTS_ABOVE),
        }
    }

    /// The command line behind the program's name.
    fn arguments(&self, port: u16, data: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["dev".into(), "--data".into(), data.into()];
        arguments.extend(["--port".into(), port.to_string().into()]);
        arguments.extend(["--cores".into(), "1".into()]);
        match self.nodes {
            1 => arguments.extend(["--cpus".into(), self.cpu.to_string().into()]),
            nodes => arguments.extend(["--nodes".into(), nodes.to_string().into()]),
        }
        arguments.extend(self.more.iter().cloned());
        arguments
    }

    fn spawn(&self, port: u16, data: &Path) -> Result<Child, NodeError> {
        Command::new(&self.program)
            .args(self.arguments(port, data))
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
    /// Where the store's data lies.
    pub(crate) fn data(&self) -> PathBuf {
        self.server.data()
    }

    /// Waits until the store serves, observing its processes.
    pub(crate) fn connect(&self) -> Result<Store, NodeError> {
        let started = Instant::now();
        let address = format!("127.0.0.1:{}", self.port);
        loop {
            match self.try_connect(&address) {
                Ok(store) => return Ok(store),
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

    fn try_connect(&self, address: &str) -> Result<Store, StoreError> {
        let mut store = Store::connect(address)?;
        if self.launch.nodes == 1 {
            store.watch_process(Some(self.server.process()))?;
        } else {
            self.server.remember_children();
            store.check_complete(usize::from(self.launch.nodes))?;
            store.watch_process(None)?;
        }
        Ok(store)
    }

    /// Kills the store and starts it again on the same data. Nothing that it has acknowledged is lost.
    pub(crate) fn kill_and_start(&mut self) -> Result<(), NodeError> {
        let Node {
            launch,
            port,
            server,
            ..
        } = self;
        server.replace(|data| launch.spawn(*port, data))
    }

    /// The node of a cluster that listens at an address.
    pub(crate) fn member(&self, address: SocketAddr) -> Result<Member, NodeError> {
        let process = ProcessId::listening_at(address)?;
        Ok(Member {
            address,
            process,
            command_line: process.command_line()?,
        })
    }

    /// Where the data of the node lies that listens at an address.
    pub(crate) fn member_data(&self, address: SocketAddr) -> PathBuf {
        self.data()
            .join(format!("node-{}", address.port() - self.port + 1))
    }

    /// Kills a node of a cluster, as `kill -9` does. The others go on.
    pub(crate) fn kill_member(&mut self, member: &Member) -> Result<(), NodeError> {
        match self.revived.remove(&member.address) {
            Some(revived) => drop(revived),
            None if send_signal(member.process, "KILL") => {}
            None => {
                return Err(NodeError::Kill {
                    address: member.address,
                });
            }
        }
        Ok(())
    }

    /// Starts a node that was killed, as it was started before.
    pub(crate) fn revive(&mut self, member: &Member) -> Result<(), NodeError> {
        let (program, arguments) = member.command_line.split_first().expect("its program");
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|source| NodeError::Start {
                program: program.into(),
                source,
            })?;
        self.revived.insert(member.address, Revived(child));
        Ok(())
    }
}

impl Drop for Revived {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
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
            nodes: 1,
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

    #[test]
    fn a_cluster_is_one_command() {
        let launch = |nodes| Launch {
            program: "metastore".into(),
            parent: PathBuf::from("/data"),
            nodes,
            cpu: 1,
            more: vec!["--flush".into(), "dsync".into()],
        };
        let line = |nodes| {
            let arguments = launch(nodes).arguments(7_400, Path::new("/data/own"));
            let words = arguments.iter().map(|word| word.to_string_lossy());
            words.collect::<Vec<_>>().join(" ")
        };
        let alone = "dev --data /data/own --port 7400 --cores 1 --cpus 1 --flush dsync";
        assert_eq!(line(1), alone);
        let cluster = "dev --data /data/own --port 7400 --cores 1 --nodes 3 --flush dsync";
        assert_eq!(line(3), cluster);
    }
}
