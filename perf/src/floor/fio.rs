//! The floor by fio.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use metastore_wal::device::FlushMethod;
use serde::Deserialize;

use super::{Floor, FloorTool, WriteShape};

/// Why fio has given no floor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FioError {
    #[error("cannot run fio: {0}")]
    Run(#[from] io::Error),
    #[error("fio failed with {status}: {complaint}")]
    Failed {
        status: std::process::ExitStatus,
        complaint: String,
    },
    #[error("fio's report cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("fio's report lacks {what}")]
    Lacks { what: &'static str },
}

/// The installed version, such as `fio-3.33`.
pub(super) fn version() -> Option<String> {
    let output = Command::new("fio").arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| version.trim().to_owned())
}

/// Lets fio write block after block into files that are there, one write at a time into each.
pub(super) fn measure(
    version: &str,
    (files, shape): (&[PathBuf], WriteShape),
    measured: Duration,
) -> Result<Floor, FioError> {
    let output = Command::new("fio")
        .args(arguments(files, shape, measured))
        .output()?;
    if !output.status.success() {
        return Err(FioError::Failed {
            status: output.status,
            complaint: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    parse(version, &output.stdout)
}

fn arguments(files: &[PathBuf], shape: WriteShape, measured: Duration) -> Vec<OsString> {
    let durability = match shape.method {
        FlushMethod::Dsync => "--sync=dsync",
        FlushMethod::WriteThenSync => "--fdatasync=1",
    };
    let first_name = match files {
        [_] => "--name=floor",
        _ => "--name=global",
    };
    let mut arguments: Vec<OsString> = [
        first_name,
        "--ioengine=io_uring",
        "--direct=1",
        "--overwrite=1",
        "--iodepth=1",
        "--rw=write",
        "--time_based",
        // Without this the time of the submission is left out, in which the device is already at work.
        "--lat_percentiles=1",
        "--clat_percentiles=0",
        "--output-format=json",
        durability,
    ]
    .map(OsString::from)
    .to_vec();
    arguments.push(format!("--bs={}", shape.bytes).into());
    arguments.push(format!("--runtime={}", measured.as_secs().max(1)).into());
    if let [file] = files {
        arguments.push(filename_argument(file));
        return arguments;
    }
    // All jobs are told as one.
    arguments.push("--group_reporting".into());
    for (number, file) in files.iter().enumerate() {
        arguments.push(format!("--name=floor-{number}").into());
        arguments.push(filename_argument(file));
    }
    arguments
}

/// fio takes a colon for the border between two names.
fn filename_argument(file: &Path) -> OsString {
    let mut argument = OsString::from("--filename=");
    argument.push(file.to_string_lossy().replace(':', "\\:"));
    argument
}

#[derive(Deserialize)]
struct Report {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    write: Writes,
}

#[derive(Deserialize)]
struct Writes {
    total_ios: u64,
    iops: f64,
    lat_ns: LatencyNs,
}

#[derive(Deserialize)]
struct LatencyNs {
    max: u64,
    #[serde(default)]
    percentile: Percentiles,
}

/// The percentiles that are of use here, under the names that fio gives them.
#[derive(Deserialize, Default)]
struct Percentiles {
    #[serde(rename = "50.000000")]
    p50: Option<u64>,
    #[serde(rename = "99.000000")]
    p99: Option<u64>,
}

/// fio may print warnings before its report.
fn parse(version: &str, output: &[u8]) -> Result<Floor, FioError> {
    let start = output.iter().position(|&byte| byte == b'{').unwrap_or(0);
    let report: Report = serde_json::from_slice(&output[start..])?;
    let job = report
        .jobs
        .first()
        .ok_or(FioError::Lacks { what: "its job" })?;
    let writes = &job.write;
    let percentile = &writes.lat_ns.percentile;
    let microseconds = |ns: u64| ns as f64 / 1e3;
    Ok(Floor {
        tool: FloorTool::Fio(version.to_owned()),
        writes: writes.total_ios,
        writes_per_second: writes.iops,
        p50_us: microseconds(percentile.p50.ok_or(FioError::Lacks { what: "p50" })?),
        p99_us: microseconds(percentile.p99.ok_or(FioError::Lacks { what: "p99" })?),
        max_us: microseconds(writes.lat_ns.max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The relevant parts of what fio 3.33 prints, a warning before it included.
    const REPORT: &str = r#"fio: this platform does not support process shared mutexes
{
  "fio version" : "fio-3.33",
  "jobs" : [
    {
      "jobname" : "floor",
      "read" : { "total_ios" : 0, "iops" : 0.000000, "lat_ns" : { "max" : 0 } },
      "write" : {
        "io_bytes" : 1114112,
        "iops" : 271.728272,
        "total_ios" : 272,
        "slat_ns" : { "min" : 7481, "max" : 89283, "mean" : 46043.136029 },
        "clat_ns" : { "min" : 161781, "max" : 19300639, "mean" : 3628073.198529 },
        "lat_ns" : {
          "min" : 184905,
          "max" : 19344945,
          "mean" : 3674116.334559,
          "percentile" : { "1.000000" : 171008, "50.000000" : 84480, "99.000000" : 10158080 }
        }
      }
    }
  ]
}"#;

    #[test]
    fn a_report_is_read() {
        let floor = parse("fio-3.33", REPORT.as_bytes()).unwrap();
        let expected = Floor {
            tool: FloorTool::Fio("fio-3.33".to_owned()),
            writes: 272,
            writes_per_second: 271.728_272,
            p50_us: 84.48,
            p99_us: 10_158.08,
            max_us: 19_344.945,
        };
        assert_eq!(floor.tool, expected.tool);
        assert_eq!(floor.writes, expected.writes);
        for (found, wanted) in [
            (floor.writes_per_second, expected.writes_per_second),
            (floor.p50_us, expected.p50_us),
            (floor.p99_us, expected.p99_us),
            (floor.max_us, expected.max_us),
        ] {
            assert!((found - wanted).abs() < 1e-6, "{floor:?}");
        }
    }

    #[test]
    fn a_report_without_percentiles_is_refused() {
        let without = REPORT.replace("50.000000", "51.000000");
        let result = parse("fio-3.33", without.as_bytes());
        assert!(matches!(result, Err(FioError::Lacks { what: "p50" })));
        let nothing = parse("fio-3.33", b"fio: command line parsing failed");
        assert!(matches!(nothing, Err(FioError::Json(_))));
    }

    #[test]
    fn several_files_are_written_by_jobs_that_are_told_as_one() {
        let shape = crate::floor::FLOOR_SHAPE;
        let words = |files: &[&str]| -> Vec<String> {
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            let words = arguments(&files, shape, Duration::from_secs(2)).into_iter();
            words.map(|word| word.into_string().unwrap()).collect()
        };
        let alone = words(&["/a"]);
        assert_eq!(alone[0], "--name=floor");
        assert_eq!(alone[alone.len() - 2..], ["--runtime=2", "--filename=/a"]);
        let both = words(&["/a", "/b"]);
        assert_eq!(both[0], "--name=global");
        let jobs = [
            "--group_reporting",
            "--name=floor-0",
            "--filename=/a",
            "--name=floor-1",
            "--filename=/b",
        ];
        assert_eq!(both[both.len() - 5..], jobs);
    }

    #[test]
    fn colons_in_a_path_do_not_part_it() {
        let argument = filename_argument(Path::new("/data/a:b/log"));
        assert_eq!(argument, "--filename=/data/a\\:b/log");
    }
}
