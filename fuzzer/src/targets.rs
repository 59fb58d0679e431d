//! Every decoder that is reached without the program itself.

use metastore_engine::fuzz as engine;
use metastore_net::fuzz as net;
use metastore_net::{FRAME_HEADER_BYTES, FrameKind};
use metastore_statemachine::fuzz as state;
use metastore_wal::fuzz as wal;

use crate::corpus::{committed, golden, golden_lines};
use crate::target::Target;

/// What whole files are read with: blocks of 64 KiB, doubled by what the target does to check.
const FILE_MEMORY_BYTES_MAX: usize = 1024 * 1024;

/// All of them, in the order of the packages.
#[must_use]
pub fn all() -> Vec<Target> {
    let mut targets = state_machine();
    targets.extend(frames());
    targets.extend(log());
    targets.extend(snapshots());
    targets.extend(peers());
    targets.extend(peer_links());
    for target in &mut targets {
        let package = match target.name.split('/').next() {
            Some("state") => "statemachine",
            Some("log") => "wal",
            Some("snapshot") => "engine",
            _ => "net",
        };
        target.corpus.extend(committed(package, &target.name));
    }
    targets
}

fn state_machine() -> Vec<Target> {
    use state::seeds;
    vec![
        Target::new("state/command", state::fuzz_command, seeds::commands()),
        Target::new(
            "state/structured",
            state::fuzz_structured,
            seeds::structured(),
        ),
        Target::new("state/batch", state::fuzz_batch, seeds::batches()),
        Target::new("state/apply", state::fuzz_apply, seeds::batches())
            .holding(FILE_MEMORY_BYTES_MAX),
        Target::new("state/outcome", state::fuzz_outcome, seeds::outcomes()),
        Target::new("state/row", state::fuzz_row, seeds::rows()),
        Target::new("state/sections", state::fuzz_import, seeds::sections())
            .holding(FILE_MEMORY_BYTES_MAX),
    ]
}

/// Frames and both ends of a connection, and a target for each kind in each direction.
fn frames() -> Vec<Target> {
    let golden = golden_lines("net", "frames.txt");
    let of = |direction: &str| -> Vec<Vec<u8>> {
        golden
            .iter()
            .filter(|(name, _)| name.starts_with(direction))
            .map(|(_, bytes)| bytes.clone())
            .collect()
    };
    let (requests, responses) = (of("request "), of("response "));
    let hello = &requests[0];
    let at_server = requests
        .iter()
        .map(|request| [hello, request, request].map(Vec::as_slice).concat())
        .collect();
    let mut at_client = responses.clone();
    at_client.push(responses.concat());
    for answers in &mut at_client {
        net::mend_answers(answers);
    }
    let mut targets = vec![
        Target::new("frame", net::fuzz_frame, golden_bytes(&golden)).mended(&[net::mend_frames]),
        Target::new("server", net::fuzz_server, at_server)
            .mended(&[net::mend_frames])
            .holding(FILE_MEMORY_BYTES_MAX),
        Target::new("client", net::fuzz_client, at_client)
            .mended(&[net::mend_frames, net::mend_answers])
            .holding(FILE_MEMORY_BYTES_MAX),
    ];
    for kind in net::kinds() {
        targets.push(request_target(kind, &requests));
        targets.push(response_target(kind, &responses));
    }
    let errors = response_bodies(&responses, |_, flags| flags & 4 != 0);
    targets.push(Target::new("response/error", net::fuzz_response, errors).keeping(3));
    targets
}

fn golden_bytes(lines: &[(String, Vec<u8>)]) -> Vec<Vec<u8>> {
    lines.iter().map(|(_, bytes)| bytes.clone()).collect()
}

/// The input is the kind, then the body.
fn request_target(kind: FrameKind, requests: &[Vec<u8>]) -> Target {
    let corpus = requests
        .iter()
        .filter(|frame| frame[6..8] == kind.as_u16().to_le_bytes())
        .map(|frame| [&frame[6..8], &frame[FRAME_HEADER_BYTES..]].concat())
        .collect();
    Target::new(name_of("request", kind), net::fuzz_request, corpus).keeping(2)
}

/// The input is the kind, the flags, then the body.
fn response_target(kind: FrameKind, responses: &[Vec<u8>]) -> Target {
    let corpus = response_bodies(responses, |found, flags| {
        found == kind.as_u16() && flags & 4 == 0
    });
    Target::new(name_of("response", kind), net::fuzz_response, corpus).keeping(3)
}

fn response_bodies(responses: &[Vec<u8>], is_wanted: impl Fn(u16, u8) -> bool) -> Vec<Vec<u8>> {
    responses
        .iter()
        .filter(|frame| is_wanted(u16::from_le_bytes([frame[6], frame[7]]), frame[8]))
        .map(|frame| [&frame[6..9], &frame[FRAME_HEADER_BYTES..]].concat())
        .collect()
}

/// The name of the target of a kind, which is the kind's in the protocol's document: `request/get_many`.
#[must_use]
pub fn name_of(direction: &str, kind: FrameKind) -> String {
    let mut name = format!("{direction}/");
    for (index, letter) in format!("{kind:?}").chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn log() -> Vec<Target> {
    let records = ["record-parts.bin", "record-checkpoint.bin"];
    let logs = ["log-clean.bin", "log-recovered.bin", "log-torn-tail.bin"];
    let golden_of = |names: &[&str]| names.iter().map(|name| golden("wal", name)).collect();
    vec![
        Target::new("log/record", wal::fuzz_record, golden_of(&records))
            .mended(&[wal::mend_record]),
        Target::new("log/mark", wal::fuzz_mark, golden_of(&["mark.bin"])).mended(&[wal::mend_mark]),
        Target::new("log/recovery", wal::fuzz_recovery, golden_of(&logs))
            .mended(&[wal::mend_log, wal::mend_log_apart])
            .holding(FILE_MEMORY_BYTES_MAX),
    ]
}

fn snapshots() -> Vec<Target> {
    let file = golden("engine", "snapshot-small.bin");
    vec![
        Target::new("snapshot/file", engine::fuzz_snapshot, vec![file])
            .mended(&[engine::mend_snapshot])
            .holding(FILE_MEMORY_BYTES_MAX),
        Target::new(
            "snapshot/members",
            engine::fuzz_members,
            engine::members_seeds(),
        ),
    ]
}

fn peers() -> Vec<Target> {
    vec![
        Target::new(
            "peer/batch",
            engine::fuzz_peer_batch,
            engine::peer_batch_seeds(),
        )
        .mended(&[engine::mend_peer_batch]),
    ]
}

/// Both ends of a connection between cores.
fn peer_links() -> Vec<Target> {
    let golden = golden_lines("net", "peers.txt");
    let of = |wanted: &str| -> Vec<Vec<u8>> {
        let found = golden.iter().filter(|(name, _)| name.starts_with(wanted));
        found.map(|(_, bytes)| bytes.clone()).collect()
    };
    let (hello, batch) = (of("hello").concat(), of("batch").concat());
    let stream = [&hello[..], &batch, &batch].concat();
    vec![
        Target::new("peer/incoming", net::fuzz_peer_incoming, vec![stream])
            .mended(&[net::mend_peer_stream]),
        Target::new("peer/outgoing", net::fuzz_peer_outgoing, of("answer"))
            .mended(&[net::mend_peer_answer]),
    ]
}
