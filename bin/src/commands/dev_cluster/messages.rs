//! What the nodes say, in one stream, each line with the node that says it.

use std::io::{self, BufRead, BufReader, Read, Write};

use metastore_engine::NodeId;

use crate::config::LogFormat;

/// A longer line is passed on in parts.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Passes the lines of a node on to the standard error until there are no more.
pub(super) fn pass_on(lines: impl Read, node: NodeId, format: LogFormat) {
    let mut lines = BufReader::new(lines);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        // Read on even if nobody reads us: the node must not wait.
        let _ = io::stderr().write_all(&tag(&line, node, format));
    }
}

/// A line with its node: in front of it, and inside it where programs read it.
fn tag(line: &[u8], node: NodeId, format: LogFormat) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut tagged = match (format, line.strip_prefix(b"{")) {
        (LogFormat::Json, Some(rest)) => {
            let comma = if rest == b"}" { "" } else { "," };
            [format!("{{\"dev_node\":{node}{comma}").as_bytes(), rest].concat()
        }
        (LogFormat::Json | LogFormat::Text, _) => {
            [format!("node {node}: ").as_bytes(), line].concat()
        }
    };
    tagged.push(b'\n');
    tagged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_which_node_it_is_from() {
        let shown = |line: &str, format| {
            let tagged = tag(line.as_bytes(), NodeId(2), format);
            String::from_utf8(tagged).expect("text")
        };
        assert_eq!(
            shown("INFO  serving\n", LogFormat::Text),
            "node 2: INFO  serving\n"
        );
        assert_eq!(shown("half", LogFormat::Text), "node 2: half\n");
        let json = shown("{\"message\":\"serving\"}\n", LogFormat::Json);
        assert_eq!(json, "{\"dev_node\":2,\"message\":\"serving\"}\n");
        assert_eq!(shown("{}\n", LogFormat::Json), "{\"dev_node\":2}\n");
        // Panics are text whatever the format.
        assert_eq!(shown("thread", LogFormat::Json), "node 2: thread\n");
    }
}
