//! A long campaign is interrupted and goes on, and everything that a reader wants to know of it stands in its file.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// A file of its own, removed at the end.
struct Results(PathBuf);

impl Results {
    fn new(name: &str) -> Results {
        let name = format!("metastore-sim-{name}-{}.jsonl", std::process::id());
        Results(std::env::temp_dir().join(name))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_metastore-sim"))
            .args(["run", "--out"])
            .arg(&self.0)
            .args(arguments)
            .output()
            .expect("the simulator runs")
    }

    fn lines(&self) -> Vec<Value> {
        let lines = std::fs::read_to_string(&self.0).expect("it was written");
        let parsed = lines.lines().map(serde_json::from_str);
        parsed.collect::<Result<_, _>>().expect("lines of JSON")
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        // It may never have been written.
        drop(std::fs::remove_file(&self.0));
    }
}

#[test]
fn a_campaign_that_is_started_again_goes_on_behind_its_last_line() {
    let results = Results::new("goes-on");
    let first = results.run(&["--seeds", "2", "--from", "1"]);
    assert!(first.status.success(), "{first:?}");
    let second = results.run(&["--seeds", "1"]);
    assert!(second.status.success(), "{second:?}");
    let lines = results.lines();
    let ranges: Vec<(Option<u64>, Option<u64>)> = lines
        .iter()
        .map(|line| (line["from"].as_u64(), line["seeds"].as_u64()))
        .collect();
    assert_eq!(ranges, [(Some(1), Some(2)), (Some(3), Some(1))]);
    let printed = String::from_utf8_lossy(&second.stdout).into_owned();
    assert!(printed.contains("run, from seed 3"), "{printed}");
    for told in [
        "succeeded (",
        "unknown (",
        "seeds with faults:",
        "by a follower",
        "times as fast",
    ] {
        assert!(printed.contains(told), "{printed}");
    }
}

#[test]
fn a_line_tells_what_was_done_and_what_went_wrong() {
    let results = Results::new("tells");
    let run = results.run(&["--seeds", "2", "--from", "40"]);
    assert!(run.status.success(), "{run:?}");
    let line = &results.lines()[0];
    for name in [
        "succeeded",
        "compounds",
        "batches",
        "ranges",
        "past_reads",
        "follower_reads",
        "reigns",
        "states_compared",
    ] {
        assert!(line[name].as_u64() > Some(0), "{name}: {line}");
    }
    assert!(line["succeeded_least"].as_u64() >= Some(500), "{line}");
    assert!(
        line["succeeded_share_least"].as_f64() >= Some(0.6),
        "{line}"
    );
    assert_eq!(line["undecided"].as_u64(), Some(0), "{line}");
    let faults = line["seeds_with_faults"].as_object().expect("an object");
    assert!(
        faults.len() >= 3
            && faults
                .values()
                .all(|seeds| (Some(1)..=Some(2)).contains(&seeds.as_u64()))
    );
    assert!(line["ratio"].as_f64() > Some(0.0), "{line}");
}

#[test]
fn a_file_that_is_none_of_a_campaign_is_refused_by_its_line() {
    let results = Results::new("refused");
    std::fs::write(&results.0, "{\"from\": 1, \"seeds\": 2}\nsomething else\n").expect("a file");
    let run = results.run(&["--seeds", "1"]);
    assert!(!run.status.success());
    let printed = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(
        printed.contains("line 2 is not one of a campaign"),
        "{printed}"
    );
    let kept = std::fs::read_to_string(&results.0).expect("it is there");
    assert_eq!(kept.lines().count(), 2);
}
