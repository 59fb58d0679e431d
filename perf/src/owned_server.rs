//! A server process with data of its own, neither of which is left behind.
//!
//! It does **not** know what the server is, nor when it serves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::kin::{Kin, send_signal};
use crate::process::ProcessId;

/// How long a server that was asked to end may take.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before looking again whether it has ended.
const END_PAUSE: Duration = Duration::from_millis(10);

/// How a server is ended. Its data is thrown away in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndBy {
    /// At once.
    Kill,
    /// It is asked, and killed when it takes too long.
    Asking,
}

/// A running server. It ends, and its data goes, with this value, or when this process is told to end.
#[derive(Debug)]
pub(crate) struct OwnedServer(Arc<Mutex<Owned>>);

#[derive(Debug)]
struct Owned {
    child: Child,
    data: PathBuf,
    end_by: EndBy,
    /// Processes that it has started, as far as they are known.
    children: Vec<Kin>,
}

/// Every server that lives, for the end of this process.
static SERVERS: Mutex<Vec<Weak<Mutex<Owned>>>> = Mutex::new(Vec::new());

/// From now on SIGINT and SIGTERM end every server before they end this process.
pub(crate) fn end_servers_on_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // It is held to the end, so that no other server starts.
            let servers = lock(&SERVERS);
            for owned in servers.iter().filter_map(Weak::upgrade) {
                lock(&owned).end();
            }
            // As a shell reports it.
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

impl OwnedServer {
    /// Lets `start` make the directory `data` and a process that uses it. If it fails, what it made is removed.
    pub(crate) fn start<E>(
        data: PathBuf,
        end_by: EndBy,
        start: impl FnOnce(&Path) -> Result<Child, E>,
    ) -> Result<OwnedServer, E> {
        // A signal that comes now waits until the process is known, or there will be none.
        let mut servers = lock(&SERVERS);
        let child = match start(&data) {
            Ok(child) => child,
            Err(error) => {
                let _removed = fs::remove_dir_all(&data);
                return Err(error);
            }
        };
        let owned = Arc::new(Mutex::new(Owned {
            child,
            data,
            end_by,
            children: Vec::new(),
        }));
        servers.push(Arc::downgrade(&owned));
        Ok(OwnedServer(owned))
    }

    /// Its process.
    pub(crate) fn process(&self) -> ProcessId {
        ProcessId(lock(&self.0).child.id())
    }

    /// Where its data lies.
    pub(crate) fn data(&self) -> PathBuf {
        lock(&self.0).data.clone()
    }

    /// Remembers the processes that it has started by now, so that they end with it even if it should be gone before them.
    pub(crate) fn remember_children(&self) {
        lock(&self.0).remember_children();
    }

    /// How it has ended, if it has.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        lock(&self.0).child.try_wait().ok().flatten()
    }

    /// Kills the process and lets `start` make another on the same data.
    pub(crate) fn replace<E>(
        &self,
        start: impl FnOnce(&Path) -> Result<Child, E>,
    ) -> Result<(), E> {
        let mut owned = lock(&self.0);
        let _killed = owned.child.kill();
        let _status = owned.child.wait();
        owned.child = start(&owned.data)?;
        Ok(())
    }
}

impl Drop for OwnedServer {
    fn drop(&mut self) {
        // After a signal this waits for the end of the process, so that nobody is told of servers that were gone.
        let mut servers = lock(&SERVERS);
        lock(&self.0).end();
        servers.retain(|server| server.as_ptr() != Arc::as_ptr(&self.0));
    }
}

impl Owned {
    fn end(&mut self) {
        // Once it was seen to end, its number may be another process's.
        let is_running = matches!(self.child.try_wait(), Ok(None));
        if is_running && self.end_by == EndBy::Asking {
            self.remember_children();
            self.ask_to_end();
        }
        let _killed = self.child.kill();
        let _status = self.child.wait();
        for child in self.children.drain(..) {
            child.kill();
        }
        let _removed = fs::remove_dir_all(&self.data);
    }

    fn remember_children(&mut self) {
        for child in Kin::children_of(ProcessId(self.child.id())) {
            if !self.children.contains(&child) {
                self.children.push(child);
            }
        }
    }

    /// Asks, and waits for the end as long as it may take.
    fn ask_to_end(&mut self) {
        let is_asked = send_signal(ProcessId(self.child.id()), "TERM");
        let started = Instant::now();
        while is_asked
            && started.elapsed() < END_TIMEOUT
            && matches!(self.child.try_wait(), Ok(None))
        {
            thread::sleep(END_PAUSE);
        }
    }
}

/// A thread that panicked while it held the lock has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::process::{Command, Stdio};

    fn start(script: &str, data: &Path) -> OwnedServer {
        let started = OwnedServer::start(data.to_owned(), EndBy::Asking, |data| {
            fs::create_dir_all(data)?;
            let mut command = Command::new("sh");
            command.args(["-c", script, "test"]).arg(data);
            command.stdin(Stdio::null()).spawn()
        });
        started.unwrap()
    }

    fn wait_for(path: &Path) {
        let started = Instant::now();
        while !path.exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "{path:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_server_is_asked_to_end_and_its_data_goes() {
        let parent = TestDirectory::new("a_server_is_asked");
        let told = parent.path().join("told");
        let data = parent.path().join("data");
        let script = format!(
            "trap 'touch {}; exit 0' TERM; touch \"$1\"/ready; while :; do sleep 0.01; done",
            told.display()
        );
        let server = start(&script, &data);
        wait_for(&data.join("ready"));
        drop(server);
        assert!(told.exists(), "it had the time to say so");
        assert!(!data.exists());
    }

    #[test]
    fn a_server_that_does_not_end_is_killed() {
        let parent = TestDirectory::new("a_server_that_does_not_end");
        let data = parent.path().join("data");
        let script = "trap '' TERM; touch \"$1\"/ready; while :; do sleep 0.01; done";
        let server = start(script, &data);
        wait_for(&data.join("ready"));
        let path = PathBuf::from(format!("/proc/{}", server.process().0));
        assert!(path.exists());
        drop(server);
        assert!(!path.exists() && !data.exists());
    }

    #[test]
    fn what_a_server_has_started_ends_with_it() {
        let parent = TestDirectory::new("what_a_server_has_started");
        for is_gone_before in [false, true] {
            let data = parent.path().join(format!("data-{is_gone_before}"));
            let script = "sleep 600 & touch \"$1\"/ready; wait";
            let server = start(script, &data);
            wait_for(&data.join("ready"));
            server.remember_children();
            let children = Kin::children_of(server.process());
            assert!(!children.is_empty());
            if is_gone_before {
                // Nobody else waits for its children then.
                let mut owned = lock(&server.0);
                owned.child.kill().unwrap();
                owned.child.wait().unwrap();
            }
            drop(server);
            let started = Instant::now();
            while children.iter().any(Kin::is_running) {
                assert!(started.elapsed() < Duration::from_secs(20));
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn a_server_that_does_not_start_leaves_nothing() {
        let parent = TestDirectory::new("a_server_that_does_not_start");
        let data = parent.path().join("data");
        let started = OwnedServer::start(data.clone(), EndBy::Kill, |data| {
            fs::create_dir_all(data)?;
            Command::new("/nowhere/server").spawn()
        });
        assert_eq!(started.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!data.exists());
    }
}
