//! Whether the process is alive, and whether it should be sent requests.

use std::time::Duration;

use super::http::Response;
use crate::node::{Board, Phase};

/// A core that has not come by for this long is stuck: it publishes four times a second, and no turn or slice takes
/// anything like it.
const PULSE_AGE_MAX: Duration = Duration::from_secs(5);

/// What is wrong; nothing when all is well.
pub(super) type Complaints = Vec<String>;

/// Whether the process makes progress. One that recovers a long log does; restarting it would only begin anew.
pub(super) fn liveness(board: &Board) -> Complaints {
    (0..board.cores())
        .filter_map(|core| {
            let age = board.pulse_age(core)?;
            (age > PULSE_AGE_MAX).then(|| {
                format!(
                    "core {core} has given no sign of life for {} ms",
                    age.as_millis()
                )
            })
        })
        .collect()
}

/// Whether every core takes requests, changes included.
pub(super) fn readiness(board: &Board) -> Complaints {
    match board.phase() {
        Phase::Starting => return vec!["the node is starting".to_owned()],
        Phase::Stopping => return vec!["the node is stopping".to_owned()],
        Phase::Serving => {}
    }
    let mut complaints = liveness(board);
    for core in 0..board.cores() {
        let Some(numbers) = board.numbers(core) else {
            complaints.push(format!("core {core} has not reported yet"));
            continue;
        };
        if !numbers.is_serving {
            complaints.push(format!("core {core} has a replica that does not lead"));
        }
        if !numbers.accepts_writes {
            let log = &numbers.status.log;
            complaints.push(format!(
                "core {core} refuses writes: its log has used {} of {} bytes, or the disk is full",
                log.used_bytes, log.budget_bytes
            ));
        }
    }
    complaints
}

pub(super) fn response(complaints: &Complaints) -> Response {
    match complaints.is_empty() {
        true => Response::text(200, "ok\n"),
        false => Response::text(503, &(complaints.join("\n") + "\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::CoreNumbers;

    #[test]
    fn a_node_is_ready_when_every_core_is() {
        let board = Board::serving(2);
        assert_eq!(liveness(&board), Complaints::new());
        assert_eq!(readiness(&board).len(), 2, "nobody has reported");
        board.publish_now(0, CoreNumbers::idle());
        board.publish_now(1, CoreNumbers::idle());
        assert_eq!(readiness(&board), Complaints::new());
        assert_eq!(response(&readiness(&board)).status, 200);
    }

    #[test]
    fn a_log_without_room_makes_a_node_alive_and_not_ready() {
        let board = Board::serving(1);
        let mut numbers = CoreNumbers::idle();
        numbers.accepts_writes = false;
        board.publish_now(0, numbers);
        assert_eq!(liveness(&board), Complaints::new());
        let response = response(&readiness(&board));
        assert_eq!(response.status, 503);
        assert!(
            response.body.contains("core 0 refuses writes"),
            "{response:?}"
        );
    }

    #[test]
    fn a_replica_that_does_not_lead_is_named() {
        let board = Board::serving(1);
        let mut numbers = CoreNumbers::idle();
        numbers.is_serving = false;
        board.publish_now(0, numbers);
        assert!(readiness(&board)[0].contains("does not lead"));
    }
}
