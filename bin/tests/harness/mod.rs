//! A store in a process of its own, on loopback, that never outlives its test.

#![allow(dead_code, reason = "each test file uses a part of the harness")]

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static NEXT_DIRECTORY: AtomicU32 = AtomicU32::new(0);
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// How long a store may take to start, or a process to end, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of a test's own, on the disk that the build uses.
pub(crate) struct TestDirectory(PathBuf);

impl TestDirectory {
    pub(crate) fn new(name: &str) -> TestDirectory {
        let number = NEXT_DIRECTORY.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{name}-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target/test-data")
            .join(unique);
        fs::create_dir_all(&path).expect("the build's directory can be written");
        TestDirectory(path.canonicalize().expect("it exists"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        // What is left behind does no harm, and a panic here would hide the test's own.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The first of some ports that are free at this moment. Each test process takes them from a range of its own, so that
/// tests that run side by side do not meet.
pub(crate) fn free_ports(count: u16) -> u16 {
    // Below 32,768: from there on connections of other programs take them at any moment.
    let range = u16::try_from(std::process::id() % 127).expect("small");
    for _ in 0..1_000 {
        let offset = NEXT_PORT.fetch_add(count, Ordering::Relaxed) % 100;
        let first = 20_000 + range * 100 + offset;
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no free ports");
}

/// The program, without arguments.
pub(crate) fn metastore() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metastore"));
    command.env_remove("METASTORE_CONNECT").stdin(Stdio::null());
    command
}

/// A store that runs.
pub(crate) struct Store {
    child: Child,
    pub(crate) port: u16,
    pub(crate) greeting: String,
}

impl Store {
    /// Starts a store on `data` with more arguments and waits until it serves.
    pub(crate) fn start(data: &Path, cores: u16, arguments: &[&str]) -> Store {
        Store::start_at(free_ports(cores), data, cores, arguments)
    }

    /// The same, on a port that the test chose.
    pub(crate) fn start_at(port: u16, data: &Path, cores: u16, arguments: &[&str]) -> Store {
        let mut store = Store::spawn(data, port, cores, arguments);
        let began = Instant::now();
        while !store.greeting.contains("is serving") {
            let ended = store.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the store ended: {}", store.errors());
            assert!(began.elapsed() < PATIENCE, "the store does not start");
            store.read_greeting();
        }
        store
    }

    /// Starts a store and does not wait for it.
    pub(crate) fn spawn(data: &Path, port: u16, cores: u16, arguments: &[&str]) -> Store {
        // Each segment of the budget is a file that the process must be allowed to open.
        let budget: &[_] = match arguments.contains(&"--wal-budget") {
            true => &[],
            false => &["--wal-budget", "1GiB"],
        };
        let child = metastore()
            .arg("dev")
            .arg("--data")
            .arg(data)
            .args(["--port", &port.to_string(), "--cores", &cores.to_string()])
            .args(["--segment-bytes", "8MiB", "--flush", "dsync"])
            .args(budget)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        Store {
            child,
            port,
            greeting: String::new(),
        }
    }

    /// Starts a store with `metastore serve` and waits until it answers.
    pub(crate) fn serve(config: &Path, port: u16, arguments: &[&str]) -> Store {
        let mut store = Store::spawn_serve(config, port, arguments);
        let began = Instant::now();
        while store.run(&["status"]).status.code() != Some(0) {
            let ended = store.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the store ended: {}", store.errors());
            assert!(began.elapsed() < PATIENCE, "the store does not start");
            thread::sleep(Duration::from_millis(20));
        }
        store
    }

    /// The same, without waiting for it.
    pub(crate) fn spawn_serve(config: &Path, port: u16, arguments: &[&str]) -> Store {
        let child = metastore()
            .arg("serve")
            .arg("--config")
            .arg(config)
            .args(["--port", &port.to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        Store {
            child,
            port,
            greeting: String::new(),
        }
    }

    /// Starts a node of a cluster that was formatted, without waiting for it. It says nothing that a test would read.
    pub(crate) fn spawn_node(data: &Path, port: u16, arguments: &[&str]) -> Store {
        let budget: &[_] = match arguments.contains(&"--wal-budget") {
            true => &[],
            false => &["--wal-budget", "256MiB"],
        };
        let errors = fs::File::options()
            .create(true)
            .append(true)
            .open(data.with_extension("log"))
            .expect("it can be written");
        let child = metastore()
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--admin", "off"])
            .args(budget)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("the program can be started");
        Store {
            child,
            port,
            greeting: String::new(),
        }
    }

    fn read_greeting(&mut self) {
        let stdout = self.child.stdout.as_mut().expect("it is piped");
        let mut bytes = [0; 1024];
        let count = stdout.read(&mut bytes).expect("a pipe can be read");
        self.greeting
            .push_str(&String::from_utf8_lossy(&bytes[..count]));
    }

    /// A client command against this store.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let (name, rest) = arguments.split_first().expect("a command");
        metastore()
            .arg(name)
            .args(["--connect", &format!("127.0.0.1:{}", self.port)])
            .args(rest)
            .output()
            .expect("the program can be started")
    }

    /// Kills the process as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Its process.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("kill can be started");
        assert!(status.success());
    }

    /// Waits until the process has ended; its exit code, what it wrote to stderr, and how long it took.
    pub(crate) fn wait(mut self) -> (Option<i32>, String, Duration) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                let took = began.elapsed();
                return (status.code(), self.errors(), took);
            }
            assert!(began.elapsed() < PATIENCE, "the store does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr
                .read_to_string(&mut errors)
                .expect("a pipe can be read");
        }
        errors
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a store that is refused wrote to stderr, and its exit code. One that starts after all is killed, and fails the
/// test.
pub(crate) fn refused(data: &Path, port: u16, arguments: &[&str]) -> (Option<i32>, String) {
    let child = metastore()
        .arg("dev")
        .arg("--data")
        .arg(data)
        .args(["--port", &port.to_string()])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let store = Store {
        child,
        port,
        greeting: String::new(),
    };
    let (code, errors, _) = store.wait();
    (code, errors)
}

/// The standard output of a command as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The standard error of a command as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
