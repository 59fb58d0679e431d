//! What the core sends fits what connections carry.

use metastore_engine::PEER_BATCH_BYTES_MAX;
use metastore_net::peer::{BATCH_BYTES_MAX, BatchQueue, BatchReader, Queued, Room};

const _: () = assert!(PEER_BATCH_BYTES_MAX <= BATCH_BYTES_MAX);

#[test]
fn the_longest_batch_of_a_core_is_carried() {
    let batch = vec![7; PEER_BATCH_BYTES_MAX];
    let mut queue = BatchQueue::new(1);
    assert_eq!(queue.push(&batch), Queued::Taken);
    let mut reader = BatchReader::new(BATCH_BYTES_MAX);
    let mut count = 0;
    for part in queue.unsent().chunks(64 << 10) {
        let on_batch = |found: &[u8]| {
            assert!(found == batch);
            count += 1;
        };
        reader.on_bytes(part, Room::Ample, on_batch).unwrap();
    }
    assert_eq!(count, 1);
}
