//! The floor in a process of its own, where the store runs: this process keeps to the client's processor. Under a cluster it
//! is measured by as many writers as there are nodes, wherever those may run.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde::Deserialize;

use super::{Floor, FloorError};
use crate::pinning::Pinning;

/// The part of `metastore-perf floor --json -` that is of use here.
#[derive(Deserialize)]
struct FloorDocument {
    floor: Floor,
}

/// Measures the floor of so many nodes in a directory, for whole seconds.
pub(crate) fn measure_beside_store(
    measured: Duration,
    data: &Path,
    pinning: &Pinning,
    nodes: u16,
) -> Result<Floor, FloorError> {
    let program = std::env::current_exe().map_err(FloorError::Spawn)?;
    let mut command = match nodes {
        1 => pinning.beside_store(program.as_os_str()),
        _ => pinning.anywhere(program.as_os_str()),
    };
    let output = command
        .args(["floor", "--json", "-", "--data"])
        .arg(data)
        .args(["--seconds", &measured.as_secs().max(1).to_string()])
        .args(["--jobs", &nodes.to_string()])
        .output()
        .map_err(FloorError::Spawn)?;
    read_floor(&output)
}

fn read_floor(output: &Output) -> Result<Floor, FloorError> {
    if !output.status.success() {
        return Err(FloorError::Failed {
            status: output.status,
            complaint: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    let document: FloorDocument = serde_json::from_slice(&output.stdout)?;
    Ok(document.floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::FloorTool;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn a_floor_is_read_from_its_own_report() {
        let floor = Floor {
            tool: FloorTool::OwnRing,
            writes: 1_000,
            writes_per_second: 12_500.0,
            p50_us: 80.0,
            p99_us: 160.0,
            max_us: 240.0,
        };
        let document = serde_json::json!({ "machine": {}, "seconds": 2, "floor": floor });
        let output = |status, stdout: Vec<u8>| Output {
            status: ExitStatus::from_raw(status),
            stdout,
            stderr: b"no space".to_vec(),
        };
        let read = read_floor(&output(0, document.to_string().into_bytes())).unwrap();
        assert_eq!(read, floor);
        let failed = read_floor(&output(3 << 8, Vec::new()));
        assert!(
            matches!(failed, Err(FloorError::Failed { complaint, .. }) if complaint == "no space")
        );
        assert!(matches!(
            read_floor(&output(0, Vec::new())),
            Err(FloorError::Json(_))
        ));
    }
}
