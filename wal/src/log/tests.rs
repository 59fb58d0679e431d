mod reading;
mod records;
mod segments;

use crate::format::{BLOCK_BYTES, RecordHeader};
use crate::testing::{Machine, SEAL, append, entry, snapshot};
use crate::{Entry, LogIndex, ReplicaId};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// An entry that makes a record of exactly two blocks.
fn two_blocks(fill: u8) -> Entry {
    entry(1, fill, 5000)
}

/// Writes entries `first..=last` of replica 1, each in a record of two blocks.
fn write_entries(machine: &mut Machine, first: u64, last: u64) {
    for index in first..=last {
        machine.write(append(
            1,
            1,
            index - 1,
            index,
            vec![two_blocks(index as u8)],
        ));
    }
}

/// A durable snapshot at `index`, after which the entries up to it are given up.
fn compact(machine: &mut Machine, index: u64) {
    machine.write(append(1, 1, index, index + 1, vec![]));
    machine.write(snapshot(1, 1, index));
    machine
        .log
        .set_first_index(ReplicaId(1), LogIndex(index + 1));
}

fn pending_header(machine: &Machine, index: usize) -> RecordHeader {
    RecordHeader::decode(machine.pending[index].buffer.as_slice(), SEAL)
        .unwrap()
        .0
}
