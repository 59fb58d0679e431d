//! A store of our own, for the time of the measurement.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

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
    owned: Arc<Mutex<Owned>>,
}

/// What must not be left behind.
#[derive(Debug)]
struct Owned {
    child: Child,
    data: PathBuf,
}

/// Every store that lives, for the end of this process.
static STORES: Mutex<Vec<Weak<Mutex<Owned>>>> = Mutex::new(Vec::new());

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
        fs::create_dir_all(&data).map_err(|source| NodeError::Data {
            path: data.clone(),
            source,
        })?;
        match self.spawn(port, &data) {
            Ok(child) => {
                let owned = Arc::new(Mutex::new(Owned { child, data }));
                lock(&STORES).push(Arc::downgrade(&owned));
                Ok(Node {
                    launch: self,
                    port,
                    owned,
                })
            }
            Err(error) => {
                let _removed = fs::remove_dir_all(&data);
                Err(error)
            }
        }
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

/// From now on SIGINT and SIGTERM end every store before they end this process.
pub(crate) fn end_stores_on_signals() -> Result<(), NodeError> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(NodeError::Signals)?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            for owned in lock(&STORES).iter().filter_map(Weak::upgrade) {
                lock(&owned).end();
            }
            // As a shell reports it.
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

impl Node {
    /// The store's process.
    pub(crate) fn process(&self) -> ProcessId {
        ProcessId(lock(&self.owned).child.id())
    }

    /// Where the store's data lies.
    pub(crate) fn data(&self) -> PathBuf {
        lock(&self.owned).data.clone()
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
            if let Ok(Some(status)) = lock(&self.owned).child.try_wait() {
                return Err(NodeError::Ended { status });
            }
            thread::sleep(CONNECT_PAUSE);
        }
    }

    /// Kills the store and starts it again on the same data. Nothing that it has acknowledged is lost.
    pub(crate) fn kill_and_start(&mut self) -> Result<(), NodeError> {
        let mut owned = lock(&self.owned);
        let _killed = owned.child.kill();
        let _status = owned.child.wait();
        owned.child = self.launch.spawn(self.port, &owned.data)?;
        Ok(())
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
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
