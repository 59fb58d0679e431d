//! As much of HTTP/1.1 as a scraper and a health check need: one GET or HEAD, one answer, and the connection is closed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How long a client may take to ask, and then to take its answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a client that has its answer may take to close its side.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);
/// The head of a request.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// What a client sends behind its request is read and forgotten, up to this.
const REST_BYTES_MAX: usize = 64 << 10;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Without what follows a question mark.
    pub(super) path: String,
    /// Whether only the head of the answer is wanted.
    pub(super) is_head: bool,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// Why there is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BadRequest {
    Malformed,
    Method,
    HeadTooLong,
    TooSlow,
}

impl Response {
    /// Words for people.
    pub(super) fn text(status: u16, body: &str) -> Response {
        Response {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.to_owned(),
        }
    }

    fn bad(reason: BadRequest) -> Response {
        match reason {
            BadRequest::Malformed => Response::text(400, "this is no HTTP/1.1 request\n"),
            BadRequest::Method => Response::text(405, "only GET and HEAD are answered\n"),
            BadRequest::TooSlow => Response::text(408, "the request took too long\n"),
            BadRequest::HeadTooLong => Response::text(431, "the request is too long\n"),
        }
    }

    fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Unknown",
        }
    }

    fn to_bytes(&self, is_head: bool) -> Vec<u8> {
        let mut text = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n",
            self.status,
            self.reason(),
            self.content_type,
            self.body.len()
        );
        if self.status == 405 {
            text += "Allow: GET, HEAD\r\n";
        }
        text += "\r\n";
        if !is_head {
            text += &self.body;
        }
        text.into_bytes()
    }
}

/// Reads a request, writes the answer and lets the connection go, all of it in a bounded time.
pub(super) fn serve(
    mut socket: TcpStream,
    answer: impl FnOnce(&Request) -> Response,
) -> io::Result<()> {
    let request = match read_head(&mut socket, Instant::now() + REQUEST_LIMIT)? {
        Ok(Some(head)) => parse(&head),
        Ok(None) => return Ok(()),
        Err(reason) => Err(reason),
    };
    let (response, is_head) = match &request {
        Ok(request) => (answer(request), request.is_head),
        Err(reason) => (Response::bad(*reason), false),
    };
    let bytes = response.to_bytes(is_head);
    write_until(&mut socket, &bytes, Instant::now() + ANSWER_LIMIT)?;
    // Closing with unread bytes would reset the connection, and the client could lose the answer.
    socket.shutdown(Shutdown::Write)?;
    read_rest(&mut socket, Instant::now() + FAREWELL_LIMIT)
}

/// The time that is left, as the kernel wants it: none at all would mean for ever.
fn left(until: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Reads up to the empty line; `None` when the client closed before it said anything.
fn read_head(
    socket: &mut TcpStream,
    until: Instant,
) -> io::Result<Result<Option<Vec<u8>>, BadRequest>> {
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    loop {
        let Some(left) = left(until) else {
            return Ok(Err(BadRequest::TooSlow));
        };
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut bytes) {
            Ok(0) if head.is_empty() => return Ok(Ok(None)),
            Ok(0) => return Ok(Err(BadRequest::Malformed)),
            Ok(count) => head.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Ok(Err(BadRequest::TooSlow)),
            Err(error) => return Err(error),
        }
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            head.truncate(end);
            return Ok(Ok(Some(head)));
        }
        if head.len() > HEAD_BYTES_MAX {
            return Ok(Err(BadRequest::HeadTooLong));
        }
    }
}

fn parse(head: &[u8]) -> Result<Request, BadRequest> {
    let head = std::str::from_utf8(head).map_err(|_| BadRequest::Malformed)?;
    let line = head.split("\r\n").next().unwrap_or_default();
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BadRequest::Malformed);
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(BadRequest::Malformed);
    }
    let is_head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(BadRequest::Method),
    };
    let path = target.split('?').next().unwrap_or(target).to_owned();
    Ok(Request { path, is_head })
}

/// A request that is taken names a path, and every other one is answered with its reason.
#[cfg(test)]
pub(crate) fn fuzz_head(data: &[u8]) -> bool {
    match parse(data) {
        Ok(request) => {
            assert!(request.path.starts_with('/') && !request.path.contains([' ', '?']));
            true
        }
        Err(reason) => {
            assert!(
                Response::bad(reason)
                    .to_bytes(false)
                    .starts_with(b"HTTP/1.1 4")
            );
            false
        }
    }
}

fn write_until(socket: &mut TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = left(until).ok_or(ErrorKind::TimedOut)?;
        socket.set_write_timeout(Some(left))?;
        match socket.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_rest(socket: &mut TcpStream, until: Instant) -> io::Result<()> {
    let mut bytes = [0; 4096];
    let mut read = 0;
    while read < REST_BYTES_MAX {
        let Some(left) = left(until) else {
            return Ok(());
        };
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => read += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_method_a_path_and_a_version() {
        let get = |path: &str| {
            let path = path.to_owned();
            Ok(Request {
                path,
                is_head: false,
            })
        };
        assert_eq!(parse(b"GET /metrics HTTP/1.1\r\nHost: a"), get("/metrics"));
        assert_eq!(parse(b"GET /metrics?a=b HTTP/1.0"), get("/metrics"));
        assert!(parse(b"HEAD / HTTP/1.1").is_ok_and(|request| request.is_head));
        assert_eq!(parse(b"POST / HTTP/1.1"), Err(BadRequest::Method));
        for bad in [
            &b""[..],
            b"GET",
            b"GET /",
            b"GET  / HTTP/1.1",
            b"GET / HTTP/2",
            b"GET metrics HTTP/1.1",
            b"GET /\xff HTTP/1.1",
        ] {
            assert_eq!(parse(bad), Err(BadRequest::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn an_answer_to_head_has_the_length_and_not_the_body() {
        let response = Response::text(200, "ok\n");
        let text = |is_head| String::from_utf8(response.to_bytes(is_head)).expect("text");
        assert!(text(true).contains("Content-Length: 3\r\n"));
        assert!(text(true).ends_with("\r\n\r\n"));
        assert!(text(false).ends_with("\r\n\r\nok\n"));
    }
}
