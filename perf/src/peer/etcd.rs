//! How etcd is started: one member, its writes flushed as always, its quota and limits out of the way.

use std::ffi::OsString;

use super::{Place, Recipe};

pub(super) const RECIPE: Recipe = Recipe {
    program: "etcd",
    package: "etcd-server",
    version_between: ("etcd Version: ", "\n"),
    arguments,
};

/// The largest that etcd recommends.
const QUOTA_BYTES: u64 = 8 << 30;

/// More than any batch has.
const TXN_OPERATIONS_MAX: u32 = 16_384;

/// More than any batch needs.
const REQUEST_BYTES_MAX: u32 = 32 << 20;

fn arguments(place: &Place<'_>) -> Vec<OsString> {
    let client = format!("http://127.0.0.1:{}", place.client_port);
    let peer = format!("http://127.0.0.1:{}", place.peer_port);
    let settings: [(&str, OsString); 13] = [
        ("--name", "perf".into()),
        ("--data-dir", place.data.join("data").into()),
        ("--listen-client-urls", client.clone().into()),
        ("--advertise-client-urls", client.into()),
        ("--listen-peer-urls", peer.clone().into()),
        ("--initial-advertise-peer-urls", peer.clone().into()),
        ("--initial-cluster", format!("perf={peer}").into()),
        ("--quota-backend-bytes", QUOTA_BYTES.to_string().into()),
        ("--max-txn-ops", TXN_OPERATIONS_MAX.to_string().into()),
        ("--max-request-bytes", REQUEST_BYTES_MAX.to_string().into()),
        ("--logger", "zap".into()),
        ("--log-outputs", place.log.into()),
        ("--log-level", "warn".into()),
    ];
    let words = settings.map(|(name, value)| [name.into(), value]);
    words.into_iter().flatten().collect()
}
