//! Every example runs against a store and says that it is done.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A store in a process of its own that ends with the test.
struct Store {
    child: Child,
    address: String,
    data: PathBuf,
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended already, and what is left behind does no harm.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// The store's program: beside the examples, where a build of the workspace puts it.
fn metastore() -> PathBuf {
    let programs = Path::new(env!("CARGO_BIN_EXE_put_get")).parent();
    let program = programs
        .expect("programs lie in a directory")
        .join("metastore");
    if !program.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "metastore", "--target-dir"])
            .arg(target_directory())
            .status()
            .expect("cargo can be started");
        assert!(built.success(), "the store cannot be built");
    }
    program
}

fn target_directory() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_put_get"));
    let target = program.parent().and_then(Path::parent);
    target
        .expect("programs lie in a profile's directory")
        .to_owned()
}

fn start() -> Store {
    let first_port = free_ports(2);
    let data = target_directory()
        .join("test-data")
        .join(format!("examples-{}", std::process::id()));
    std::fs::create_dir_all(&data).expect("the build's directory can be written");
    let mut child = Command::new(metastore())
        .args(["dev", "--cores", "2", "--shards", "4", "--flush", "dsync"])
        .args(["--segment-bytes", "8MiB", "--wal-budget", "1GiB"])
        .args(["--port", &first_port.to_string()])
        .arg("--data")
        .arg(data.join("data"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let stdout = child.stdout.take().expect("it is piped");
    let mut greeting = BufReader::new(stdout).lines();
    let is_serving = greeting.any(|line| line.is_ok_and(|line| line.contains("is serving")));
    let store = Store {
        child,
        address: format!("127.0.0.1:{first_port}"),
        data,
    };
    assert!(is_serving, "the store does not start");
    store
}

/// The first of some ports that are free at this moment.
fn free_ports(count: u16) -> u16 {
    let range = u16::try_from(std::process::id() % 100).expect("small");
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (0..50)
        .map(|offset| 12_000 + range * 50 + offset)
        .find(|first| (*first..first + count).all(is_free))
        .expect("some ports are free")
}

#[test]
fn every_example_runs() {
    let store = start();
    let programs = [
        env!("CARGO_BIN_EXE_put_get"),
        env!("CARGO_BIN_EXE_counters"),
        env!("CARGO_BIN_EXE_list_directory"),
        env!("CARGO_BIN_EXE_stream_range"),
        env!("CARGO_BIN_EXE_service_registry"),
        env!("CARGO_BIN_EXE_bulk_load"),
        env!("CARGO_BIN_EXE_transfer"),
        env!("CARGO_BIN_EXE_rename"),
    ];
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    let files = std::fs::read_dir(sources).expect("the examples are there");
    assert_eq!(
        programs.len(),
        files.count(),
        "every example is in the list"
    );
    for program in programs {
        let output = Command::new(program)
            .arg(&store.address)
            .output()
            .expect("the program can be started");
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {complained}");
        assert!(said.ends_with("done\n"), "{program}: {said}");
    }
}
