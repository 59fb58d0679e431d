//! Which member of an etcd leads, by what each of them says of itself through its gateway for HTTP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;

/// How long a member may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The longest answer that is read: a status is a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Why a member does not say whether it leads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    #[error("a member cannot be asked for its status: {0}")]
    Io(#[from] io::Error),
    #[error("a member's status cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a member answers a question for its status with {answer:?}")]
    Answer { answer: String },
}

/// The part of a member's status that is of use here. Numbers of 64 bits are texts there.
#[derive(Deserialize)]
struct Status {
    header: Header,
    /// Absent while there is none.
    #[serde(default)]
    leader: String,
}

#[derive(Deserialize)]
struct Header {
    member_id: String,
}

/// Whether the member at this address leads.
pub(super) fn leads(member: SocketAddr) -> Result<bool, StatusError> {
    let mut stream = TcpStream::connect_timeout(&member, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // By the older version the answer comes in one piece, and the connection ends with it.
    let request = format!(
        "POST /v3/maintenance/status HTTP/1.0\r\nHost: {member}\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    is_leader(&String::from_utf8_lossy(&answer))
}

fn is_leader(answer: &str) -> Result<bool, StatusError> {
    let is_done = answer
        .lines()
        .next()
        .is_some_and(|line| line.contains(" 200 "));
    let body = answer.split_once("\r\n\r\n").filter(|_| is_done);
    let Some((_, body)) = body else {
        let answer = answer.lines().next().unwrap_or_default().to_owned();
        return Err(StatusError::Answer { answer });
    };
    let status: Status = serde_json::from_str(body)?;
    Ok(status.header.member_id == status.leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As etcd 3.4 answers.
    fn answer(member: &str, leader: &str) -> String {
        format!(
            "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{{\"header\":{{\"cluster_id\":\"7\",\
             \"member_id\":\"{member}\",\"revision\":\"1\",\"raft_term\":\"2\"}},\"version\":\"3.4.23\"{leader}}}"
        )
    }

    #[test]
    fn who_names_itself_leads() {
        let own = answer(
            "10276657743932975437",
            ",\"leader\":\"10276657743932975437\"",
        );
        assert!(is_leader(&own).unwrap());
        let other = answer("10276657743932975437", ",\"leader\":\"5\"");
        assert!(!is_leader(&other).unwrap());
        assert!(!is_leader(&answer("5", "")).unwrap(), "there is no leader");
    }

    #[test]
    fn what_is_no_status_is_told() {
        let missing = is_leader("HTTP/1.0 404 Not Found\r\n\r\n404").unwrap_err();
        assert!(missing.to_string().contains("404 Not Found"), "{missing}");
        assert!(is_leader("").is_err());
        let broken = is_leader("HTTP/1.0 200 OK\r\n\r\n{");
        assert!(matches!(broken, Err(StatusError::Json(_))));
    }
}
