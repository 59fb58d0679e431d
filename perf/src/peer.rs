//! Another system to compare with, as a server of our own for the time of the measurement.
//!
//! Each start is a fresh server on the loopback interface, with data in a directory of its own and every write made
//! durable before it is acknowledged. An etcd of several members is as many processes, and load goes to the member that
//! leads, which is the best case for it: another one would hand everything on. It does **not** choose processors: servers
//! run where this process may run.

mod etcd;
mod leader;
mod redis;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::operation::Failure;
use crate::owned_server::{EndBy, OwnedServer};
use crate::ports::free_ports;
use crate::process::{ProcessError, ProcessId, ProcessUse};
use crate::protocol::{Reply, Request, Session, SessionError};
use crate::system::{System, Target};
use leader::StatusError;

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait before the next attempt to reach a server.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Attempts to start a server: another program may take its port before it does.
const STARTS_MAX: u32 = 3;

/// The last bytes of a server's log, for whoever asks why it ended.
const LOG_TAIL_BYTES: usize = 600;

/// A key that nobody puts.
const ABSENT_KEY: &[u8] = b"metastore-perf.absent";

/// A running server.
#[derive(Debug)]
pub(crate) struct Peer {
    system: System,
    version: String,
    /// Of the first member.
    arguments: Vec<String>,
    /// Where load goes.
    address: [SocketAddr; 1],
    members: Vec<Member>,
}

/// A process of it.
#[derive(Debug)]
struct Member {
    address: SocketAddr,
    server: OwnedServer,
}

/// What is needed to run a system, all but its ports and data.
struct Recipe {
    program: &'static str,
    /// The package of Debian that has it.
    package: &'static str,
    /// What is to be found in the output of `--version` before and behind the version.
    version_between: (&'static str, &'static str),
    arguments: fn(&Place<'_>) -> Vec<OsString>,
}

/// Where a server may be.
struct Place<'a> {
    /// A directory of its own.
    data: &'a Path,
    /// A file in it.
    log: &'a Path,
    ports: Ports,
    /// Those of all members, this one included.
    all_ports: &'a [Ports],
}

/// The ports of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    client: u16,
    /// For talk among its own kind.
    peer: u16,
}

/// Why there is no server to compare with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// Whoever compares may go on without it.
    #[error("{program} is not installed: `apt-get install {package}`")]
    Missing {
        program: &'static str,
        package: &'static str,
    },
    #[error("{system:?} is the store itself, which is started otherwise")]
    NoPeer { system: System },
    #[error("no free port on the loopback interface: {0}")]
    Port(io::Error),
    #[error("cannot create {path}: {source}")]
    Data { path: PathBuf, source: io::Error },
    #[error("cannot start {program}: {source}")]
    Start {
        program: &'static str,
        source: io::Error,
    },
    #[error("{program} does not tell its version, but: {output}")]
    Version {
        program: &'static str,
        output: String,
    },
    #[error("{program} ended with {status} before it served: {log}")]
    Ended {
        program: &'static str,
        status: ExitStatus,
        log: String,
    },
    #[error("{system:?} has no several members that hold the same")]
    NotReplicated { system: System },
    #[error("no member leads after {START_TIMEOUT:?}")]
    NoLeader,
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error("{program} does not serve after {START_TIMEOUT:?}: {last}")]
    NotServing {
        program: &'static str,
        last: NotServing,
    },
}

/// What the last attempt to reach a server has shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotServing {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl Peer {
    /// Starts a system of so many members with new data in directories within `parent`, and waits until all answer.
    ///
    /// # Errors
    /// [`PeerError::Missing`] when its program is not installed.
    pub(crate) fn start(system: System, members: usize, parent: &Path) -> Result<Peer, PeerError> {
        let recipe = Recipe::of(system)?;
        if members > 1 && system != System::Etcd {
            return Err(PeerError::NotReplicated { system });
        }
        let version = recipe.version()?;
        let mut attempt = 1;
        loop {
            match recipe.start((system, members), parent, &version) {
                Err(PeerError::Ended { .. }) if attempt < STARTS_MAX => attempt += 1,
                result => return result,
            }
        }
    }

    /// Which system it is.
    pub(crate) fn system(&self) -> System {
        self.system
    }

    /// Its version, as its program tells it.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// How its program was started.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Where load goes.
    pub(crate) fn target(&self) -> Target<'_> {
        Target {
            system: self.system,
            addresses: &self.address,
            routes: None,
        }
    }

    /// How many processes it is.
    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    /// Its processes.
    pub(crate) fn processes(&self) -> Vec<ProcessId> {
        let members = self.members.iter();
        members.map(|member| member.server.process()).collect()
    }

    /// Where its data lies.
    #[cfg(test)]
    pub(crate) fn data(&self) -> Vec<PathBuf> {
        let members = self.members.iter();
        members.map(|member| member.server.data()).collect()
    }

    /// What its processes have used since their start, all together.
    pub(crate) fn observe(&self) -> Result<ProcessUse, ProcessError> {
        ProcessUse::of_all(&self.processes())
    }

    /// From now on load goes to the member that leads by now.
    pub(crate) fn find_leader(&mut self) -> Result<(), PeerError> {
        if self.members.len() == 1 {
            return Ok(());
        }
        let started = Instant::now();
        loop {
            for member in &self.members {
                if leader::leads(member.address)? {
                    self.address = [member.address];
                    return Ok(());
                }
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(PeerError::NoLeader);
            }
            thread::sleep(CONNECT_PAUSE);
        }
    }

    /// Waits until every member answers a read.
    fn await_service(&self, program: &'static str) -> Result<(), PeerError> {
        let started = Instant::now();
        for member in &self.members {
            while let Err(last) = member.look(self.system) {
                self.check_running(program)?;
                if started.elapsed() > START_TIMEOUT {
                    return Err(PeerError::NotServing { program, last });
                }
                thread::sleep(CONNECT_PAUSE);
            }
        }
        Ok(())
    }

    /// Whether no member has ended.
    fn check_running(&self, program: &'static str) -> Result<(), PeerError> {
        for Member { server, .. } in &self.members {
            if let Some(status) = server.exit_status() {
                let log = log_tail(&server.data().join(LOG_NAME));
                return Err(PeerError::Ended {
                    program,
                    status,
                    log,
                });
            }
        }
        Ok(())
    }
}

impl Member {
    /// Reads a key that is absent.
    fn look(&self, system: System) -> Result<(), NotServing> {
        let mut session = Session::connect(system, self.address)?;
        let request = Request::Get { key: ABSENT_KEY };
        let failure = session.ask(&request, |reply| match reply {
            Reply::Row(None) => None,
            Reply::Failed(failure) => Some(failure.clone()),
            Reply::Pong
            | Reply::Done
            | Reply::Batch { .. }
            | Reply::Conflict
            | Reply::Row(Some(_))
            | Reply::Rows(_) => Some(Failure::Mismatch),
        })?;
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

/// The server's log, in its directory.
const LOG_NAME: &str = "server.log";

impl Recipe {
    fn of(system: System) -> Result<Recipe, PeerError> {
        match system {
            System::MetaStore => Err(PeerError::NoPeer { system }),
            System::Redis => Ok(redis::RECIPE),
            System::Etcd => Ok(etcd::RECIPE),
        }
    }

    fn version(&self) -> Result<String, PeerError> {
        let output = Command::new(self.program)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| self.start_error(source))?;
        let output = String::from_utf8_lossy(&output.stdout);
        let (before, behind) = self.version_between;
        let version = output
            .split_once(before)
            .and_then(|(_, rest)| rest.split_once(behind))
            .map(|(version, _)| version.trim().to_owned());
        version.ok_or_else(|| PeerError::Version {
            program: self.program,
            output: output.trim().to_owned(),
        })
    }

    fn start(
        &self,
        (system, members): (System, usize),
        parent: &Path,
        version: &str,
    ) -> Result<Peer, PeerError> {
        let ports = free_ports(2 * members).map_err(PeerError::Port)?;
        let all_ports: Vec<Ports> = ports
            .chunks_exact(2)
            .map(|pair| Ports {
                client: pair[0],
                peer: pair[1],
            })
            .collect();
        let mut peer = Peer {
            system,
            version: version.to_owned(),
            arguments: Vec::new(),
            address: [SocketAddr::from(([127, 0, 0, 1], all_ports[0].client))],
            members: Vec::with_capacity(members),
        };
        for &ports in &all_ports {
            let data = parent.join(format!(
                "metastore-perf-{}-{}-{}",
                system.words(),
                std::process::id(),
                ports.client
            ));
            // Some programs take a relative path from where their data lies.
            let data = std::path::absolute(&data).unwrap_or(data);
            let arguments = (self.arguments)(&Place {
                data: &data,
                log: &data.join(LOG_NAME),
                ports,
                all_ports: &all_ports,
            });
            if peer.arguments.is_empty() {
                let words = arguments.iter().map(|word| word.to_string_lossy());
                peer.arguments = words.map(|word| word.into_owned()).collect();
            }
            peer.members.push(Member {
                address: SocketAddr::from(([127, 0, 0, 1], ports.client)),
                server: self.start_member(data, &arguments)?,
            });
        }
        peer.await_service(self.program)?;
        peer.find_leader()?;
        Ok(peer)
    }

    fn start_member(
        &self,
        data: PathBuf,
        arguments: &[OsString],
    ) -> Result<OwnedServer, PeerError> {
        OwnedServer::start(data, EndBy::Asking, |data| {
            fs::create_dir_all(data).map_err(|source| PeerError::Data {
                path: data.to_owned(),
                source,
            })?;
            self.spawn(arguments)
        })
    }

    fn spawn(&self, arguments: &[OsString]) -> Result<Child, PeerError> {
        let mut command = Command::new(self.program);
        // Settings of whoever runs this would count otherwise.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| self.start_error(source))
    }

    fn start_error(&self, source: io::Error) -> PeerError {
        let Recipe {
            program, package, ..
        } = *self;
        if source.kind() == io::ErrorKind::NotFound {
            PeerError::Missing { program, package }
        } else {
            PeerError::Start { program, source }
        }
    }
}

/// The end of a server's log, in which the reason stands.
fn log_tail(path: &Path) -> String {
    let log = fs::read(path).unwrap_or_default();
    let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
    String::from_utf8_lossy(tail).trim().to_owned()
}

#[cfg(test)]
mod tests;
