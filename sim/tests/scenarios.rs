//! Single stories, each from its beginning. The checkers look on in all of them.

use metastore_engine::Settings;
use metastore_sim::bench::{Bench, Stepped};
use metastore_sim::clients::Tally;
use metastore_sim::disk::{CrashKind, Disk, Latency};
use metastore_sim::node::{FlushMethod, IDENTITY, NodeConfig, Placement, SEAL};
use metastore_sim::operation::{Condition, Mutation, Operation, PreviousRow, RangeOf};
use metastore_sim::oracle::Checkers;
use metastore_sim::random::Random;
use metastore_statemachine::CommandKind;
use metastore_wal::LogOptions;

const SEGMENT_BYTES: u64 = 256 << 10;
const FAST: Latency = Latency {
    min_ns: 20_000,
    usual_max_ns: 60_000,
    slow_per_mille: 0,
    slow_max_ns: 60_000,
};

fn config(budget_segments: u64) -> NodeConfig {
    NodeConfig {
        placement: Placement::alone(4),
        log: LogOptions {
            segment_bytes: SEGMENT_BYTES,
            record_bytes_max: 128 << 10,
            budget_bytes: budget_segments * SEGMENT_BYTES,
            spare_segments: 2,
            ..LogOptions::new(IDENTITY, SEAL)
        },
        settings: Settings {
            command_bytes_max: 40 << 10,
            batch: metastore_engine::BatchSettings {
                bytes_max: 40 << 10,
                ..Default::default()
            },
            ..Settings::default()
        },
        disk_low_bytes: 0,
        flush: FlushMethod::DurableWrite,
        seed: 1,
    }
}

struct Story {
    bench: Bench<()>,
    puts: u64,
}

impl Story {
    fn begin(config: NodeConfig, latency: Latency) -> Story {
        let disk = Disk::new(Random::new(2), latency);
        let mut story = Story {
            bench: Bench::new(config, disk, (4, Checkers::All), Random::new(3)),
            puts: 0,
        };
        story.start();
        story
    }

    fn start(&mut self) {
        self.bench.start().expect("it starts");
        self.run_ms(2_000);
        assert!(self.bench.is_serving());
    }

    /// Lets so much time pass; tells whether the node still runs.
    fn run_ms(&mut self, milliseconds: u64) -> bool {
        self.bench.at(self.bench.now().plus_ms(milliseconds), ());
        let mut is_running = true;
        loop {
            let stepped = self
                .bench
                .step()
                .unwrap_or_else(|broken| panic!("{broken}"));
            match stepped.expect("time passes") {
                Stepped::Own(()) => return is_running,
                Stepped::Stopped => is_running = false,
                Stepped::WentOn => {}
            }
        }
    }

    fn put(&mut self, value_bytes: usize) {
        self.puts += 1;
        let mut value = self.puts.to_le_bytes().to_vec();
        value.resize(value_bytes.max(8), 0);
        Random::new(self.puts).fill(&mut value[8..]);
        let key = format!("/d{}/k{}", self.puts % 8, self.puts).into_bytes();
        let put = Mutation {
            kind: CommandKind::Put,
            key,
            value,
            condition: Condition::Always,
            previous: PreviousRow::NotWanted,
        };
        self.bench.send(0, Operation::Mutate(put), 0);
    }

    /// Reads everything and has it checked.
    fn audit(&mut self) {
        let ranges = self.tally().ranges;
        self.bench
            .send(1, Operation::Range(RangeOf::everything()), 0);
        self.run_ms(1_000);
        assert_eq!(self.tally().ranges, ranges + 1);
        self.bench
            .check_states()
            .unwrap_or_else(|broken| panic!("{broken}"));
    }

    fn tally(&self) -> Tally {
        self.bench.clients.tally()
    }
}

#[test]
fn a_failing_disk_stops_the_node_and_nothing_is_acknowledged_after_it() {
    for method in [FlushMethod::DurableWrite, FlushMethod::WriteThenFlush] {
        let flush = NodeConfig {
            flush: method,
            ..config(64)
        };
        let mut story = Story::begin(flush, FAST);
        (0..20).for_each(|_| story.put(100));
        assert!(story.run_ms(100));
        assert_eq!(story.tally().acknowledged, 20);
        story.bench.disk.faults.io_error_per_mille = 1000;
        (0..20).for_each(|_| story.put(100));
        assert!(!story.run_ms(100), "the node stops");
        assert_eq!(story.tally().acknowledged, 20);
        story.bench.disk.faults.io_error_per_mille = 0;
        story.bench.crash(CrashKind::ProcessKilled);
        assert_eq!(story.tally().unknown, 20);
        story.start();
        story.audit();
        story.put(100);
        story.run_ms(100);
        assert_eq!(story.tally().acknowledged, 21);
    }
}

#[test]
fn a_full_disk_refuses_writes_answers_reads_and_goes_on_when_there_is_space() {
    let mut story = Story::begin(config(64), FAST);
    let used_bytes = story.bench.disk.used_bytes();
    story.bench.disk.set_capacity(used_bytes);
    while story.tally().refused == 0 {
        story.put(8_000);
        assert!(story.run_ms(5));
        assert!(story.puts < 1_000, "the disk is full some time");
    }
    assert!(story.tally().refused_by_load > 0);
    story.audit();
    assert!(story.bench.counters().full_disks > 0);
    // A crash and a start with a full disk change nothing.
    story.bench.crash(CrashKind::PowerLoss);
    story.start();
    story.audit();
    let acknowledged = story.tally().acknowledged;
    story.bench.disk.set_capacity(u64::MAX);
    story.run_ms(500);
    story.put(8_000);
    story.run_ms(100);
    assert_eq!(story.tally().acknowledged, acknowledged + 1);
}

#[test]
fn a_log_without_budget_refuses_writes_and_goes_on_when_snapshots_succeed_again() {
    let mut config = config(6);
    config.settings.snapshots.retry_ms = 50;
    config.settings.snapshots.retry_ms_max = 100;
    let mut story = Story::begin(config, FAST);
    story.bench.disk.faults.snapshot_error_per_mille = 1_000;
    while story.tally().refused_by_budget == 0 {
        story.put(8_000);
        assert!(story.run_ms(5), "a snapshot that fails stops nobody");
        assert!(story.puts < 1_000, "the budget is spent some time");
    }
    story.audit();
    let acknowledged = story.tally().acknowledged;
    story.bench.crash(CrashKind::PowerLoss);
    story.start();
    story.audit();
    story.put(100);
    story.run_ms(100);
    assert_eq!(story.tally().acknowledged, acknowledged);
    assert!(story.tally().refused_by_budget >= 2);
    assert_eq!(story.bench.counters().snapshots, 0);
    story.bench.disk.faults.snapshot_error_per_mille = 0;
    story.run_ms(500);
    for _ in 0..1_000 {
        story.put(8_000);
        story.run_ms(5);
    }
    let tally = story.tally();
    assert!(tally.acknowledged > acknowledged + 900, "{tally:?}");
    assert!(story.bench.counters().snapshots > 5);
    story.bench.crash(CrashKind::PowerLoss);
    story.start();
    story.audit();
}

#[test]
fn a_deadline_says_not_done_before_the_proposal_and_unknown_after_it() {
    let mut story = Story::begin(config(64), FAST);
    let slow = Latency {
        min_ns: 900_000_000,
        usual_max_ns: 900_000_000,
        slow_per_mille: 0,
        slow_max_ns: 900_000_000,
    };
    story.bench.disk.latency = slow;
    let put = |value: u8| {
        let key = b"/d0/k".to_vec();
        Operation::Mutate(Mutation {
            kind: CommandKind::Put,
            key,
            value: vec![value],
            condition: Condition::Always,
            previous: PreviousRow::NotWanted,
        })
    };
    story.bench.send(0, put(1), 100);
    story.run_ms(10);
    // The log is busy with the first, so the second is not even proposed when its time is up.
    story.bench.send(0, put(2), 100);
    story.run_ms(500);
    let tally = story.tally();
    assert_eq!((tally.deadlines_unknown, tally.deadlines_not_done), (1, 1));
    // The first took place all the same, the second never does: the checkers would see it in the log.
    story.run_ms(3_000);
    story.audit();
}

#[test]
fn a_range_over_all_shards_is_what_was_there_at_its_revisions_while_writes_go_on() {
    let mut story = Story::begin(config(64), FAST);
    for _ in 0..50 {
        (0..8).for_each(|_| story.put(200));
        story.run_ms(2);
    }
    for _ in 0..20 {
        story
            .bench
            .send(1, Operation::Range(RangeOf::everything()), 0);
        (0..20).for_each(|_| story.put(200));
        story.run_ms(1);
    }
    story.run_ms(1_000);
    let tally = story.tally();
    assert_eq!((tally.ranges, tally.acknowledged), (20, 800));
}
