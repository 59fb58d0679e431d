//! A store of our own, for the time of the measurement.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::process::ProcessId;
use crate::store::{Store, StoreError};

/// How long a store may take until it serves: it fills its first segments and probes the disk before.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running store with one core and data of its own. Both end with this value, or when this process is told to end.
#[derive(Debug)]
pub(super) struct Node {
    process: ProcessId,
    address: String,
    owned: Arc<Mutex<Owned>>,
}

/// What must not be left behind.
#[derive(Debug)]
struct Owned {
    child: Child,
    data: PathBuf,
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

impl Node {
    /// Starts `program` with one core on `cpu` and `more` arguments. Its data lies in a new directory within `parent`.
    pub(super) fn start(
        program: &Path,
        parent: &Path,
        cpu: u32,
        more: &[OsString],
    ) -> Result<Node, NodeError> {
        let port = free_port().map_err(NodeError::Port)?;
        let data = parent.join(format!("metastore-perf-store-{}", std::process::id()));
        fs::create_dir_all(&data).map_err(|source| NodeError::Data {
            path: data.clone(),
            source,
        })?;
        let child = Command::new(program)
            .arg("dev")
            .arg("--data")
            .arg(&data)
            .args(["--port", &port.to_string()])
            .args(["--cores", "1", "--cpus", &cpu.to_string()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Ok(Node {
                process: ProcessId(child.id()),
                address: format!("127.0.0.1:{port}"),
                owned: Arc::new(Mutex::new(Owned { child, data })),
            }),
            Err(source) => {
                let _removed = fs::remove_dir_all(&data);
                Err(NodeError::Start {
                    program: program.to_owned(),
                    source,
                })
            }
        }
    }

    /// From now on SIGINT and SIGTERM end the store before they end this process.
    pub(super) fn end_on_signals(&self) -> Result<(), NodeError> {
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(NodeError::Signals)?;
        let owned = Arc::clone(&self.owned);
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                lock(&owned).end();
                // As a shell reports it.
                std::process::exit(128 + signal);
            }
        });
        Ok(())
    }

    /// The store's process.
    pub(super) fn process(&self) -> ProcessId {
        self.process
    }

    /// Waits until the store serves.
    pub(super) fn connect(&self) -> Result<Store, NodeError> {
        let started = Instant::now();
        loop {
            match Store::connect(&self.address) {
                Ok(store) => return Ok(store),
                Err(last) if started.elapsed() > START_TIMEOUT => {
                    return Err(NodeError::NotServing { last });
                }
                Err(_) => {}
            }
            if let Ok(Some(status)) = lock(&self.owned).child.try_wait() {
                return Err(NodeError::Ended { status });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Owned {
    /// Ends the store, which need not end in good order: its data is thrown away.
    fn end(&mut self) {
        let _killed = self.child.kill();
        let _status = self.child.wait();
        let _removed = fs::remove_dir_all(&self.data);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        lock(&self.owned).end();
    }
}

/// A thread that panicked while it held the lock has left nothing half done.
fn lock(owned: &Mutex<Owned>) -> MutexGuard<'_, Owned> {
    owned.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port that was free a moment ago.
fn free_port() -> io::Result<u16> {
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
        let node = Node::start(Path::new("false"), parent.path(), 0, &[]).unwrap();
        assert!(matches!(node.connect(), Err(NodeError::Ended { .. })));
        drop(node);
        let missing = Node::start(Path::new("/nowhere/metastore"), parent.path(), 0, &[]);
        assert!(matches!(missing, Err(NodeError::Start { .. })));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
