//! The comparison from its command line on, against real servers, as short as it can be.
//!
//! The store's program is the one beside `metastore-perf`; where nobody has built it the tests say that they are
//! skipped. What they measure is of no interest: only that everything is there and nothing is left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of a test's own, gone when it ends.
struct Place(PathBuf);

impl Place {
    /// None, with a word to whoever looks, when there is no store to compare.
    fn new(test: &str) -> Option<Place> {
        let store = program().with_file_name("metastore");
        if !store.is_file() {
            eprintln!("skipped: {test}: {} is not built", store.display());
            return None;
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("compare-{test}-{}", std::process::id()));
        let _removed = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("tree/directory"))
            .expect("the build directory can be written");
        for name in ["tree/one", "tree/directory/two"] {
            fs::write(path.join(name), name).expect("the build directory can be written");
        }
        Some(Place(path))
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn results(&self) -> PathBuf {
        self.data().join("compare.jsonl")
    }

    /// A comparison with few keys and points of a second.
    fn compare(&self, more: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args([
                "compare",
                "--quick",
                "--seconds",
                "1",
                "--keys",
                "2000",
                "--data",
            ])
            .arg(self.data())
            .arg("--tree")
            .arg(self.0.join("tree"))
            .arg("--json")
            .arg(self.0.join("result.json"))
            .args(more)
            .stdin(Stdio::null());
        command
    }

    fn result(&self) -> Value {
        let text = fs::read(self.0.join("result.json")).expect("the result was written");
        serde_json::from_slice(&text).expect("the result is JSON")
    }

    /// What lies in the data directory beside the results.
    fn left_behind(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.data()).expect("the data directory is there");
        let paths = entries.map(|entry| entry.expect("it can be read").path());
        paths.filter(|path| *path != self.results()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_metastore-perf"))
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// The text of a run that has measured: on a busy machine a measurement may well be void.
fn text_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let is_measured = matches!(output.status.code(), Some(0 | 1));
    assert!(is_measured, "{:?}: {text}{complaint}", output.status);
    text
}

fn names<'a>(samples: &'a Value, point: &str) -> Vec<&'a str> {
    let samples = samples.as_array().expect("samples are a list");
    let at_point = samples.iter().filter(|sample| sample["point"] == point);
    at_point
        .map(|sample| sample["system"].as_str().expect("it has a name"))
        .collect()
}

#[test]
fn a_round_has_floors_points_and_every_system_that_is_there() {
    let Some(place) = Place::new("a_round_has_floors") else {
        return;
    };
    let peers = ["redis", "etcd"].map(|peer| {
        (
            peer,
            has(if peer == "redis" {
                "redis-server"
            } else {
                peer
            }),
        )
    });
    let more = [
        "--rounds",
        "1",
        "--workloads",
        "w2,w12",
        "--peers",
        "etcd,redis",
    ];
    let output = place.compare(&more).output().expect("it was built");
    let text = text_of(&output);
    assert!(
        text.starts_with("1 rounds of w2, w12, 1 s a point: about "),
        "{text}"
    );
    for (peer, is_there) in peers {
        if !is_there {
            eprintln!("skipped: {peer} is not installed");
        }
        assert_eq!(
            text.contains(&format!("{peer} is skipped: ")),
            !is_there,
            "{text}"
        );
    }
    let result = place.result();
    let rounds = result["rounds"].as_array().expect("rounds are a list");
    assert_eq!(rounds.len(), 2, "{text}");
    for round in rounds {
        assert!(
            round["floor_before"]["p50_us"].as_f64() > Some(0.0),
            "{round}"
        );
        assert!(
            round["floor_after"]["p50_us"].as_f64() > Some(0.0),
            "{round}"
        );
        for sample in round["samples"].as_array().expect("samples are a list") {
            assert!(
                sample["achieved_per_second"].as_f64() > Some(0.0),
                "{sample}"
            );
            let is_failed = sample["void"]["load"]["invalid"] == "failures";
            assert!(!is_failed, "{sample}");
        }
    }
    let [(_, has_redis), (_, has_etcd)] = peers;
    let crowd = names(&rounds[0]["samples"], "w2 put 8/256 100x10");
    let expected = match (has_etcd, has_redis) {
        (true, true) => vec!["etcd", "metastore", "redis"],
        (true, false) => vec!["metastore", "etcd"],
        (false, true) => vec!["metastore", "redis"],
        (false, false) => vec!["metastore"],
    };
    assert_eq!(crowd, expected);
    for point in ["w12 create", "w12 stat", "w12 list"] {
        let ordered = if has_etcd {
            vec!["metastore", "etcd"]
        } else {
            vec!["metastore"]
        };
        assert_eq!(names(&rounds[1]["samples"], point), ordered, "{point}");
    }
    assert_eq!(result["header"]["tree"]["entries"], 4);
    assert_eq!(place.left_behind(), Vec::<PathBuf>::new());
}

/// Processes whose command line names a directory.
fn processes_in(directory: &Path) -> usize {
    let wanted = directory.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").expect("this is Linux").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(&wanted))
        .count()
}

#[test]
fn a_cluster_of_three_is_compared_and_leaves_no_process() {
    let Some(place) = Place::new("a_cluster_of_three") else {
        return;
    };
    if !has("etcd") {
        eprintln!("skipped: etcd is not installed");
        return;
    }
    let more = ["--nodes", "3", "--rounds", "1", "--workloads", "w4"];
    let output = place.compare(&more).output().expect("it was built");
    let text = text_of(&output);
    assert!(text.contains("3 nodes with 3 cores in all"), "{text}");
    assert!(text.contains("server CPU us a put, all nodes"), "{text}");
    let result = place.result();
    assert_eq!(result["header"]["conditions"]["store"]["nodes"], 3);
    let systems = result["header"]["systems"].as_array().expect("a list");
    let replicas: Vec<&Value> = systems.iter().map(|system| &system["replicas"]).collect();
    let expected = if has("redis-server") {
        vec![3, 3, 1]
    } else {
        vec![3, 3]
    };
    assert_eq!(replicas, expected);
    for sample in result["rounds"][0]["samples"].as_array().expect("a list") {
        assert!(
            sample["achieved_per_second"].as_f64() > Some(0.0),
            "{sample}"
        );
        // A store of a debug build on a busy machine may say that it has too much to do, and nothing else.
        let failure = &sample["void"]["load"]["first_failure"];
        let is_load = failure
            .as_str()
            .is_none_or(|text| text.contains("too much work"));
        assert!(is_load, "{sample}");
    }
    assert_eq!(place.left_behind(), Vec::<PathBuf>::new());
    assert_eq!(processes_in(&place.data()), 0);
}

/// Waits for a number of whole lines in a file.
fn wait_for_lines(path: &Path, count: usize, child: &mut Child) {
    let started = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.matches('\n').count() >= count {
            return;
        }
        let status = child.try_wait().expect("it is our child");
        assert_eq!(status, None, "it ended with {text:?}");
        assert!(started.elapsed() < PATIENCE, "{text:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_comparison_that_was_stopped_goes_on_and_leaves_no_server() {
    let Some(place) = Place::new("a_comparison_that_was_stopped") else {
        return;
    };
    // A directory without programs: no peer, no fio, nothing to pin with. It works without them and says so.
    let without_programs = place.0.join("tree");
    let more = ["--rounds", "2", "--workloads", "w1", "--peers", "redis"];
    let mut child = place
        .compare(&more)
        .env("PATH", &without_programs)
        .stdout(Stdio::null())
        .spawn()
        .expect("it was built");
    wait_for_lines(&place.results(), 2, &mut child);
    let asked = Command::new("sh")
        .args(["-c", "kill -TERM \"$0\"", &child.id().to_string()])
        .status();
    assert!(asked.expect("there is a shell").success());
    let status = child.wait().expect("it is our child");
    assert!(!status.success());
    let kept = fs::read_to_string(place.results()).expect("it was there");
    assert_eq!(place.left_behind(), Vec::<PathBuf>::new());

    // As a crash in the middle of a line leaves it.
    fs::write(place.results(), format!("{kept}{{\"round\":{{\"num")).expect("it was there");
    let again = place.compare(&more).env("PATH", &without_programs).output();
    let text = text_of(&again.expect("it was built"));
    assert!(
        text.contains("redis is skipped: redis-server is not installed"),
        "{text}"
    );
    assert!(text.contains("going on in "), "{text}");
    assert!(
        text.contains(", after 1 rounds; 14 bytes of a round"),
        "{text}"
    );
    let whole = fs::read_to_string(place.results()).expect("it was there");
    assert!(whole.starts_with(&kept), "{whole}");
    let result = place.result();
    let rounds = result["rounds"].as_array().expect("rounds are a list");
    let numbers: Vec<&Value> = rounds.iter().map(|round| &round["number"]).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(names(&rounds[0]["samples"], "ping 1x1"), ["metastore"]);
}
