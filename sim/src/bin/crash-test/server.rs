//! A real server: a process that is started, asked and killed.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use metastore_net::blocking::Client;
use thiserror::Error;

use crate::stopwatch::Stopwatch;

/// Why there is no server.
#[derive(Debug, Error)]
pub(crate) enum ServerError {
    /// It could not be started, asked or killed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It ended by itself.
    #[error("the server ended by itself, {status}; it said:\n{said}")]
    Ended {
        /// How.
        status: String,
        /// The end of what it printed.
        said: String,
    },
    /// It does not answer.
    #[error("the server does not answer after {seconds} s; it said:\n{said}")]
    Silent {
        /// How long was waited.
        seconds: u64,
        /// The end of what it printed.
        said: String,
    },
}

/// A server's process. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    output: PathBuf,
    pub(crate) address: String,
}

/// Length of a segment: the smallest that holds two of the longest records, so that the log rotates often.
pub(crate) const SEGMENT_BYTES: u64 = 8 << 20;
/// How long a server may take until it answers.
const PATIENCE_S: u64 = 30;
/// How long to wait between two looks at a server that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How much of what a server said is shown.
const SAID_BYTES_MAX: usize = 4_000;

fn system(what: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::System { what, source }
}

impl Server {
    /// Starts the program over the data in a directory, on a port of the system's choice. What it prints goes to the
    /// file `output`.
    pub(crate) fn start(program: &Path, data: &Path, output: &Path) -> Result<Server, ServerError> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(system("finding a port"))?;
        let address = listener.local_addr().map_err(system("finding a port"))?;
        drop(listener);
        let printed = File::create(output).map_err(system("creating its output"))?;
        let errors = printed.try_clone().map_err(system("creating its output"))?;
        let child = Command::new(program)
            .arg("dev")
            .arg("--data")
            .arg(data)
            .args(["--port", &address.port().to_string()])
            .args(["--cores", "1", "--shards", "4"])
            .args(["--segment-bytes", &format!("{}MiB", SEGMENT_BYTES >> 20)])
            .args(["--wal-budget", "128MiB"])
            // A snapshot is on its way at nearly every kill.
            .args(["--set", "snapshot.log_bytes=64KiB"])
            .stdin(Stdio::null())
            .stdout(printed)
            .stderr(errors)
            .spawn()
            .map_err(system("starting the server"))?;
        Ok(Server {
            child,
            output: output.to_owned(),
            address: address.to_string(),
        })
    }

    /// A connection, as soon as the server takes one.
    pub(crate) fn connect(&mut self) -> Result<Client, ServerError> {
        let connected = self.connect_within(Duration::from_secs(PATIENCE_S))?;
        connected.ok_or_else(|| ServerError::Silent {
            seconds: PATIENCE_S,
            said: self.said(),
        })
    }

    /// A connection, or `None` from a server that runs and does not answer in all that time.
    pub(crate) fn connect_within(
        &mut self,
        patience: Duration,
    ) -> Result<Option<Client>, ServerError> {
        let waiting = Stopwatch::start();
        while waiting.passed() < patience {
            // A server may take the connection and say nothing before it has recovered.
            if let Ok(mut client) = Client::connect(&self.address, patience) {
                let timeout = Duration::from_secs(PATIENCE_S);
                return Ok(client.set_timeout(timeout).is_ok().then_some(client));
            }
            self.check()?;
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(None)
    }

    /// Whether it still runs.
    pub(crate) fn check(&mut self) -> Result<(), ServerError> {
        match self
            .child
            .try_wait()
            .map_err(system("looking at the server"))?
        {
            None => Ok(()),
            Some(status) => Err(ServerError::Ended {
                status: status.to_string(),
                said: self.said(),
            }),
        }
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<(), ServerError> {
        self.check()?;
        self.child.kill().map_err(system("killing the server"))?;
        self.child
            .wait()
            .map_err(system("waiting for the server's end"))?;
        Ok(())
    }

    fn said(&self) -> String {
        let said = fs::read(&self.output).unwrap_or_default();
        let start = said.len().saturating_sub(SAID_BYTES_MAX);
        String::from_utf8_lossy(&said[start..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already, and nobody is left to tell.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
