//! How long it takes to export a state, to make a file of it, and to load it again.
//!
//! ```text
//! cargo run --release -p metastore-engine --example snapshot-speed -- [keys] [value bytes]
//! ```

use std::time::{Duration, Instant};

use metastore_engine::snapshot::{SnapshotIdentity, SnapshotReader, SnapshotStep, SnapshotWriter};
use metastore_engine::{ClusterId, LogIndex, NodeId, ReplicaId, ShardId, Term};
use metastore_statemachine::{
    Batch, BatchBuilder, Command, ExportProgress, NamespaceId, Parameters, ShardTime, SliceLimit,
    SnapshotImport, StateMachine,
};

const SLICE: SliceLimit = SliceLimit {
    rows: 1000,
    bytes: 64 * 1024,
    visits: 1000,
};

/// What the slices of one kind took.
#[derive(Default)]
struct Slices {
    times: Vec<Duration>,
}

impl Slices {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = now();
        let result = work();
        self.times.push(start.elapsed());
        result
    }

    fn total(&self) -> Duration {
        self.times.iter().sum()
    }

    fn describe(&mut self, name: &str, keys: u64) {
        self.times.sort_unstable();
        let at = |quantile: f64| self.times[((self.times.len() - 1) as f64 * quantile) as usize];
        println!(
            "{name:8} {:8.3} us a key, {:6} slices: p50 {:?}, p99.9 {:?}, longest {:?}",
            self.total().as_secs_f64() * 1e6 / keys as f64,
            self.times.len(),
            at(0.5),
            at(0.999),
            at(1.0),
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is a measurement, not the core"
)]
fn now() -> Instant {
    Instant::now()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| match arguments.next() {
        Some(text) => text.parse().expect("a number"),
        None => default,
    };
    let (keys, value_bytes) = (number(1_000_000), number(256));
    let mut machine = state_of(keys, value_bytes);
    let file = write(&mut machine, keys);
    let loaded = load(&file, keys);
    assert_eq!(loaded.state_hash(), machine.state_hash());
    assert_eq!(loaded.key_count(), keys);
}

/// A state of so many keys, put in a scattered order, with the usual history.
fn state_of(keys: u64, value_bytes: u64) -> StateMachine {
    let mut machine = StateMachine::new(Parameters::default());
    let mut builder = BatchBuilder::new();
    for number in 0..keys {
        // An odd multiplier visits every number once.
        let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys.next_power_of_two();
        let key = format!(
            "/volume/directory-{:05}/file-{number:010}",
            scattered % 4096
        );
        let value: Vec<u8> = (0..value_bytes)
            .map(|index| ((index * scattered) >> 3) as u8)
            .collect();
        let mut bytes = Vec::new();
        Command::put(NamespaceId::DEFAULT, key.as_bytes(), &value).encode_into(&mut bytes);
        builder.push(&bytes);
        if number % 1000 == 999 || number + 1 == keys {
            let sealed = builder.seal(ShardTime(number), 1);
            let batch = Batch::decode(&sealed).expect("a batch that was just sealed");
            machine
                .apply(&batch, &mut |_| {})
                .expect("puts are applied");
        }
    }
    machine
}

fn write(machine: &mut StateMachine, keys: u64) -> Vec<u8> {
    let identity = SnapshotIdentity {
        cluster: ClusterId(1),
        node: NodeId(1),
        shard: ShardId(0),
        replica: ReplicaId(1),
        index: LogIndex(keys),
        term: Term(1),
        members: Vec::new(),
    };
    let (mut exports, mut blocks) = (Slices::default(), Slices::default());
    let mut file = Vec::new();
    let mut writer = SnapshotWriter::new(&identity, &mut file);
    let mut export = machine.begin_export();
    let mut rows = Vec::new();
    loop {
        rows.clear();
        let progress = exports.time(|| machine.export_slice(&mut export, SLICE, &mut rows));
        match progress.expect("nothing breaks the export off") {
            ExportProgress::More { section } => writer.push(section, &rows),
            ExportProgress::Finished => break,
        }
        while writer.has_block() {
            blocks.time(|| writer.write_block(&mut file));
        }
    }
    machine.end_export(export);
    let summary = writer.finish(&mut file);
    println!(
        "{keys} keys, {} raw bytes, {} in the file",
        summary.raw_bytes, summary.file_bytes
    );
    exports.describe("export", keys);
    blocks.describe("write", keys);
    file
}

fn load(file: &[u8], keys: u64) -> StateMachine {
    let (mut reads, mut loads) = (Slices::default(), Slices::default());
    let mut reader = SnapshotReader::new(None);
    let mut import = SnapshotImport::new(Parameters::default());
    let mut raw = Vec::new();
    for piece in file.chunks(256 * 1024) {
        reader.feed(piece);
        loop {
            let section = reads.time(|| match reader.read_next().expect("the file is whole") {
                SnapshotStep::Section { section, bytes, .. } => {
                    raw.clear();
                    raw.extend_from_slice(bytes);
                    Some(Some(section))
                }
                SnapshotStep::Identity(_) => Some(None),
                SnapshotStep::NeedMore | SnapshotStep::Finished(_) => None,
            });
            match section {
                Some(Some(section)) => loads
                    .time(|| import.section(section, &raw))
                    .expect("the state is whole"),
                Some(None) => {}
                None => break,
            }
        }
    }
    reader.finish().expect("the file is whole");
    let machine = import.finish().expect("the state is whole");
    reads.describe("read", keys);
    loads.describe("load", keys);
    machine
}
