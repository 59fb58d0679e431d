//! A store for one test, and the program's commands against it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::harness::{Store, metastore};

pub(crate) const CORES: u16 = 2;
pub(crate) const SHARDS: usize = 4;

/// Starts a store of a small budget, so that little is filled with zeros.
pub(crate) fn start(data: &Path) -> Store {
    let arguments = ["--shards", &SHARDS.to_string(), "--wal-budget", "64MiB"];
    Store::start(data, CORES, &arguments)
}

/// Runs a command against a store.
pub(crate) fn ask<W: AsRef<OsStr>>(store: &Store, words: impl IntoIterator<Item = W>) -> Answer {
    run(&address(store), words)
}

pub(crate) fn address(store: &Store) -> String {
    format!("127.0.0.1:{}", store.port)
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

/// Runs a command with this address in its environment.
pub(crate) fn run<W: AsRef<OsStr>>(address: &str, words: impl IntoIterator<Item = W>) -> Answer {
    let mut command = metastore();
    command.args(words).env("METASTORE_CONNECT", address);
    Answer::from(command.output().expect("the program can be run"))
}

/// The same with its output in a pipe that nobody reads.
pub(crate) fn run_unread<W: AsRef<OsStr>>(
    address: &str,
    words: impl IntoIterator<Item = W>,
) -> Answer {
    let mut command = metastore();
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
