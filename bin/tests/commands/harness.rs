//! A store that runs for one test, and the program's commands against it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Far longer than a start takes, so that only a store that hangs is given up.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Ports are free when they are chosen, and may be taken by the time they are used.
const START_ATTEMPTS: u32 = 5;

pub(crate) const CORES: u16 = 2;

/// A directory that is removed at the end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Directory {
        let unique = format!("{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        fs::create_dir_all(&path).expect("the build's directory can be written");
        Directory(path.canonicalize().expect("it exists"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind does no harm, and a panic here would hide the test's own.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `metastore dev`, killed at the end of the test at the latest.
pub(crate) struct Server {
    child: Child,
    port: u16,
    data: PathBuf,
}

impl Server {
    /// Starts a store on this data and waits until it serves.
    pub(crate) fn start(data: &Path) -> Server {
        for _ in 0..START_ATTEMPTS {
            let port = free_ports();
            let mut child = dev(data, port).spawn().expect("the program can be run");
            let out = child.stdout.take().expect("it is piped");
            if is_serving(out) {
                let data = data.to_owned();
                return Server { child, port, data };
            }
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
        }
        panic!("the store does not start");
    }

    /// What a store says that does not start on this data.
    #[track_caller]
    pub(crate) fn refusal(data: &Path) -> String {
        let mut child = dev(data, free_ports())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let out = child.stdout.take().expect("it is piped");
        let is_refused = !is_serving(out);
        child.kill().expect("it is ours");
        let output = child.wait_with_output().expect("it is ours");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(is_refused, "it serves: {err}");
        err
    }

    /// Kills the store without a warning, as a power failure would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Runs a command against the store.
    pub(crate) fn run<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Answer {
        run(&self.address(), words)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Small segments and a small budget, so that little is filled with zeros.
fn dev(data: &Path, port: u16) -> Command {
    let mut command = program();
    command
        .args(["dev", "--port", &port.to_string(), "--data"])
        .arg(data)
        .args(["--cores", &CORES.to_string(), "--shards", "4"])
        .args(["--segment-bytes", "8MiB", "--wal-budget", "64MiB"])
        .stdout(Stdio::piped());
    command
}

/// Waits for the line that says so; false when the output ends or takes too long.
fn is_serving(out: ChildStdout) -> bool {
    let (sender, lines) = mpsc::channel();
    // It reads to the end, so that the store never meets a closed pipe.
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // The receiver is gone once the store serves.
            let _ = sender.send(line);
        }
    });
    loop {
        match lines.recv_timeout(START_LIMIT) {
            Ok(line) if line.contains("serving") => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// A port with a free one for each core.
fn free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let port = first.local_addr().expect("it is bound").port();
        let is_free = |core: u16| {
            let port = port.checked_add(core)?;
            TcpListener::bind(("127.0.0.1", port)).ok()
        };
        if (1..CORES).all(|core| is_free(core).is_some()) {
            return port;
        }
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metastore"));
    command.env_remove("METASTORE_CONNECT").stdin(Stdio::null());
    command
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

/// Runs a command against a server at an address, or against none.
pub(crate) fn run<W: AsRef<OsStr>>(address: &str, words: impl IntoIterator<Item = W>) -> Answer {
    let mut command = program();
    command.args(words).env("METASTORE_CONNECT", address);
    Answer::from(command.output().expect("the program can be run"))
}

/// The program with its output in a pipe that nobody reads.
pub(crate) fn run_unread<W: AsRef<OsStr>>(
    address: &str,
    words: impl IntoIterator<Item = W>,
) -> Answer {
    let mut command = program();
    command.args(words).env("METASTORE_CONNECT", address);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be run");
    drop(child.stdout.take());
    Answer::from(child.wait_with_output().expect("it ends"))
}

impl From<Output> for Answer {
    fn from(output: Output) -> Answer {
        Answer {
            code: output.status.code().expect("it ends by itself"),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Answer {
    /// The output of a command that ended with this code.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        std::str::from_utf8(&self.out).expect("text")
    }

    #[track_caller]
    pub(crate) fn last_line(&self, code: i32) -> &str {
        self.expect(code).lines().last().expect("a line")
    }

    /// One document a line.
    #[track_caller]
    pub(crate) fn json(&self, code: i32) -> Vec<serde_json::Value> {
        let lines = self.expect(code).lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

/// A word that need not be UTF-8.
pub(crate) fn word(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}
