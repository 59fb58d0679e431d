//! One of each of what goes over a connection between cores, for the golden file and the tests.

use crate::peer::{
    LocalPeer, PeerAnswer, PeerCore, PeerHello, PeerLane, PeerVerdict, RefusalCode,
    append_batch_head,
};

/// Core 4 of node 3.
pub(crate) fn sender() -> LocalPeer {
    LocalPeer {
        cluster_id: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
        core: PeerCore { node: 3, core: 4 },
        incarnation: 0x0102_0304_0506_0708,
        map_epoch: 9,
        initial_map_hash: 0x1112_1314_1516_1718,
        data_id: 0x3132_3334_3536_3738,
        cluster_epoch: 0,
    }
}

/// Core 6 of node 5.
pub(crate) fn receiver() -> LocalPeer {
    LocalPeer {
        core: PeerCore { node: 5, core: 6 },
        incarnation: 0x2122_2324_2526_2728,
        map_epoch: 8,
        data_id: 0,
        ..sender()
    }
}

pub(crate) fn sample_hello() -> PeerHello {
    PeerHello::new(sender(), receiver().core, PeerLane::Entries)
}

/// A hello of a cluster that was recovered twice.
pub(crate) fn recovered_hello() -> PeerHello {
    let mut hello = sample_hello();
    hello.sender.cluster_epoch = 2;
    hello
}

pub(crate) fn sample_answer() -> PeerAnswer {
    PeerAnswer::new(receiver(), PeerVerdict::Accepted { version: 1 })
}

/// Of another core.
pub(crate) fn sample_refusal() -> PeerAnswer {
    let mut answer = PeerAnswer::new(receiver(), PeerVerdict::Refused(RefusalCode::Receiver));
    answer.receiver.core.core = 7;
    answer
}

/// All of them with their names.
fn golden() -> Vec<(&'static str, Vec<u8>)> {
    let mut batch = Vec::new();
    append_batch_head(5, &mut batch);
    batch.extend_from_slice(b"batch");
    vec![
        ("hello", sample_hello().encode().to_vec()),
        ("answer accepted", sample_answer().encode().to_vec()),
        ("answer refused", sample_refusal().encode().to_vec()),
        ("batch", batch),
        ("hello recovered", recovered_hello().encode().to_vec()),
    ]
}

/// The golden file holds every sample as a line `name hex`. `METASTORE_REWRITE_GOLDEN=1` rewrites it, which is right only
/// together with a new version or for a sample that is new.
#[test]
fn every_sample_is_as_the_golden_file_has_it() {
    let mut lines = String::new();
    for (name, bytes) in golden() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        lines += &format!("{name} {hex}\n");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/peers.txt");
    if std::env::var_os("METASTORE_REWRITE_GOLDEN").is_some() {
        std::fs::write(path, &lines).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(lines, golden);
}
