//! What a running node says of itself over HTTP, against the document that lists it.

mod harness;
mod metric_table;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Store, TestDirectory, free_ports, stdout};
use metric_table::{MetricRow, metric_rows};

/// How long a core may take to hang up its numbers on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the admin port: the status code, and the body.
fn get(port: u16, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is taken");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it is answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// Waits until an answer is as it should be.
fn await_answer(port: u16, path: &str, is_right: impl Fn(u16, &str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let (status, body) = get(port, path);
        if is_right(status, &body) {
            return body;
        }
        assert!(began.elapsed() < PATIENCE, "{path} stays {status}: {body}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A family of metrics as its text declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Family {
    kind: String,
    unit: String,
    labels: BTreeSet<String>,
}

/// What a program counts of its allocator that is built with the feature `count-allocations`, which no server is.
fn is_of_measurements(name: &str) -> bool {
    name.starts_with("metastore_status_process_")
}

/// Reads metrics, and fails unless they are as OpenMetrics wants them: a family is declared once, with HELP and TYPE,
/// its samples follow it, no sample stands twice, and the end is marked.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut helped, mut current) = (BTreeSet::new(), String::new());
    let mut samples = BTreeSet::new();
    for line in body.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                assert!(helped.insert(name.to_owned()), "{name} has help twice");
                assert!(!help.is_empty(), "{name}");
            }
            ["#", "TYPE", name, kind] => {
                assert!(helped.contains(name), "{name} has no help");
                let family = Family {
                    kind: kind.to_owned(),
                    unit: String::new(),
                    labels: BTreeSet::new(),
                };
                assert!(families.insert(name.to_owned(), family).is_none(), "{name}");
                current = name.to_owned();
            }
            ["#", "UNIT", name, unit] => {
                assert_eq!(name, current);
                assert!(name.ends_with(unit), "{name} does not end in {unit}");
                families.get_mut(name).expect("it has a type").unit = unit.to_owned();
            }
            _ => {
                let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(samples.insert(sample.to_owned()), "{sample} stands twice");
                let family = families.get_mut(&current).expect("a family is declared");
                check_sample(&current, family, sample);
            }
        }
    }
    families
}

fn check_sample(name: &str, family: &mut Family, sample: &str) {
    let (own, labels) = sample.split_once('{').unwrap_or((sample, "}"));
    let suffix = own.strip_prefix(name);
    let suffix = suffix.unwrap_or_else(|| panic!("{sample} is not of {name}"));
    let allowed: &[&str] = match family.kind.as_str() {
        "counter" => &["_total"],
        "info" => &["_info"],
        "histogram" => &["_sum", "_count", "_bucket"],
        _ => &[""],
    };
    assert!(allowed.contains(&suffix), "{sample} of a {}", family.kind);
    for label in labels
        .trim_end_matches('}')
        .split(',')
        .filter(|label| !label.is_empty())
    {
        let (label, value) = label.split_once('=').expect("a label has a value");
        assert!(value.starts_with('"') && value.ends_with('"'), "{sample}");
        family.labels.insert(label.to_owned());
    }
    family.labels.remove("le");
}

/// The families that the document lists.
fn documented() -> BTreeMap<String, Family> {
    let mut families = BTreeMap::new();
    for row in metric_rows() {
        let MetricRow {
            name,
            kind,
            unit,
            labels,
        } = row;
        // The document has the names that one asks for.
        let family = match kind.as_str() {
            "counter" => name.strip_suffix("_total"),
            "info" => name.strip_suffix("_info"),
            _ => Some(name.as_str()),
        };
        let family = family
            .unwrap_or_else(|| panic!("{name} is no {kind}"))
            .to_owned();
        let labels = labels
            .split(',')
            .map(str::trim)
            .filter(|label| !label.is_empty());
        let labels = labels.map(str::to_owned).collect();
        let found = Family { kind, unit, labels };
        assert!(
            families.insert(family, found).is_none(),
            "{name} stands twice"
        );
    }
    families
}

fn start(name: &str, arguments: &[&str]) -> (TestDirectory, Store, u16) {
    let data = TestDirectory::new(name);
    let first = free_ports(3);
    let admin = first + 2;
    let address = format!("127.0.0.1:{admin}");
    let all = [&["--shards", "3", "--admin", &address], arguments].concat();
    let store = Store::start_at(first, data.path(), 2, &all);
    (data, store, admin)
}

#[test]
fn every_metric_of_a_running_node_is_documented_and_every_documented_one_is_there() {
    let (_data, store, admin) = start("metrics", &[]);
    store.run(&["put", "/a/b", "1"]);
    store.run(&["list", "/"]);
    let is_published = |_, body: &str| body.contains("metastore_replica_keys{core=\"1\"");
    let text = await_answer(admin, "/metrics", is_published);
    let (found, listed) = (parse(&text), documented());
    for (name, family) in found.iter().filter(|(name, _)| !is_of_measurements(name)) {
        let documented = listed.get(name);
        assert_eq!(documented, Some(family), "docs/OPERATIONS.md, {name}");
    }
    for name in listed.keys() {
        assert!(
            found.contains_key(name),
            "{name} is documented and not there"
        );
    }
}

#[test]
fn everything_that_status_counts_is_a_metric_with_the_same_value() {
    let (_data, store, admin) = start("metrics-status", &[]);
    for number in 0..5 {
        store.run(&["put", &format!("/{number}/a"), "1"]);
    }
    let status = stdout(&store.run(&["status", "--json"]));
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let text = await_answer(admin, "/metrics", |_, body| {
        let keys = body.lines().filter_map(|line| {
            let value = line
                .strip_prefix("metastore_replica_keys{")?
                .rsplit(' ')
                .next()?;
            value.parse::<u64>().ok()
        });
        keys.sum::<u64>() == 5
    });
    let has_no_name =
        |name: &&String| name.starts_with("metastore_status_") && !is_of_measurements(name);
    let families = parse(&text);
    assert_eq!(
        families.keys().find(has_no_name),
        None,
        "every counter has a name"
    );
    for core in status["cores"].as_array().expect("cores") {
        let index = core["core"].as_u64().expect("a number");
        let value = |sample: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{sample} ")));
            line.and_then(|value| value.parse::<u64>().ok())
        };
        let shards = value(&format!("metastore_shards{{core=\"{index}\"}}"));
        assert_eq!(shards, core["shards"].as_u64());
        let applied = value(&format!(
            "metastore_commands_applied_total{{core=\"{index}\"}}"
        ));
        assert_eq!(applied, core["counters"]["commands_applied"].as_u64());
        let budget = value(&format!("metastore_wal_budget_bytes{{core=\"{index}\"}}"));
        assert_eq!(budget, core["log"]["budget_bytes"].as_u64());
        for replica in core["replicas"].as_array().expect("replicas") {
            let labels = format!("core=\"{index}\",shard=\"{}\"", replica["shard"]);
            let applied = value(&format!("metastore_replica_applied_index{{{labels}}}"));
            assert_eq!(applied, replica["applied"].as_u64(), "{labels}");
        }
    }
}

#[test]
fn a_node_that_serves_is_alive_and_ready() {
    let (_data, store, admin) = start("ready", &[]);
    await_answer(admin, "/readyz", |status, body| {
        status == 200 && body == "ok\n"
    });
    assert_eq!(get(admin, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(admin, "/nothing").0, 404);
    // A client of the admin port that says nothing does not hold up a stop.
    let silent = TcpStream::connect(("127.0.0.1", admin)).expect("it listens");
    store.signal("TERM");
    let (code, errors, took) = store.wait();
    assert_eq!(code, Some(0), "{errors}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(silent);
}

#[test]
fn a_taken_admin_port_is_named() {
    let (_data, store, admin) = start("admin-port", &[]);
    let other = TestDirectory::new("admin-port-other");
    let address = format!("127.0.0.1:{admin}");
    let arguments = ["--cores", "1", "--admin", &address];
    let (code, errors) = harness::refused(other.path(), free_ports(1), &arguments);
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        errors.contains("admin.listen") && errors.contains(&address),
        "{errors}"
    );
    drop(store);
}
