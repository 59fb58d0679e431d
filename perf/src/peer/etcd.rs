//! How etcd is started: its writes flushed as always, its quota and limits out of the way.

use std::ffi::OsString;

use super::{Place, Ports, Recipe};

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
    let client = url(place.ports.client);
    let peer = url(place.ports.peer);
    let name = |ports: &Ports| match place.all_ports {
        [_] => "perf".to_owned(),
        _ => format!("perf-{}", ports.client),
    };
    let member = |ports: &Ports| format!("{}={}", name(ports), url(ports.peer));
    let members: Vec<String> = place.all_ports.iter().map(member).collect();
    let settings: [(&str, OsString); 13] = [
        ("--name", name(&place.ports).into()),
        ("--data-dir", place.data.join("data").into()),
        ("--listen-client-urls", client.clone().into()),
        ("--advertise-client-urls", client.into()),
        ("--listen-peer-urls", peer.clone().into()),
        ("--initial-advertise-peer-urls", peer.into()),
        ("--initial-cluster", members.join(",").into()),
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

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn value(place: &Place<'_>, name: &str) -> String {
        let all = arguments(place);
        let position = all.iter().position(|word| word == name).unwrap();
        all[position + 1].to_string_lossy().into_owned()
    }

    #[test]
    fn members_name_each_other() {
        let ports = |client| Ports {
            client,
            peer: client + 1,
        };
        let all_ports = [ports(10), ports(20), ports(30)];
        let place = |ports, all_ports| Place {
            data: Path::new("/data"),
            log: Path::new("/data/log"),
            ports,
            all_ports,
        };
        let second = place(all_ports[1], &all_ports);
        assert_eq!(value(&second, "--name"), "perf-20");
        assert_eq!(
            value(&second, "--initial-cluster"),
            "perf-10=http://127.0.0.1:11,perf-20=http://127.0.0.1:21,perf-30=http://127.0.0.1:31"
        );
        assert_eq!(value(&second, "--listen-peer-urls"), "http://127.0.0.1:21");
        let alone = place(all_ports[0], &all_ports[..1]);
        assert_eq!(value(&alone, "--name"), "perf");
        let own = value(&alone, "--initial-cluster");
        assert_eq!(own, "perf=http://127.0.0.1:11");
    }
}
