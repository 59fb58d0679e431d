use std::net::IpAddr;

use metastore_engine::ShardId;

use super::super::cluster::tests::new_cluster;
use super::super::node_file::{clustered_sample, sample};
use super::super::{FormatPolicy, HistoryOptions};
use super::*;
use crate::config::{Configuration, Sources};

/// What nobody asked anything of.
fn options() -> NodeOptions {
    let configuration = Configuration::load(&Sources::default()).expect("defaults are allowed");
    NodeOptions {
        format: FormatPolicy::Anew,
        ..configuration.node_options(Oversubscription::Warn)
    }
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

/// The sample with its own entry changed.
fn clustered(change: impl Fn(&mut ClusterNode)) -> NodeFile {
    let mut file = clustered_sample();
    let own = file.node;
    let plan = file.cluster_plan.as_mut().expect("it is clustered");
    let entry = plan.nodes.iter_mut().find(|entry| entry.node == own);
    change(entry.expect("it is one of them"));
    file
}

fn shown(addresses: Result<Vec<SocketAddr>, StartError>) -> String {
    match addresses {
        Ok(addresses) => addresses
            .iter()
            .map(SocketAddr::to_string)
            .collect::<Vec<_>>()
            .join(" "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_node_that_is_alone_listens_where_it_was_told_or_on_the_usual_port() {
    let mut options = options();
    let node = sample();
    assert_eq!(
        shown(addresses(&options, &node)),
        "127.0.0.1:7400 127.0.0.1:7401"
    );
    assert_eq!(shown(peer_addresses(&options, &node)), "");
    options.listen.address = address("::1");
    options.listen.port = Some(65_535);
    assert!(shown(addresses(&options, &node)).contains(
        "2 cores from port 65535 on need ports above 65535: choose a lower listen.port (--port)"
    ));
    options.listen.port = Some(65_534);
    assert_eq!(shown(addresses(&options, &node)), "[::1]:65534 [::1]:65535");
    options.listen.address = address("0.0.0.0");
    let refused = shown(addresses(&options, &node));
    assert!(
        refused.contains("listen.address = 0.0.0.0 and listen.advertise = auto contradict"),
        "{refused}"
    );
    options.listen.advertise = Some("db1".to_owned());
    assert_eq!(
        shown(addresses(&options, &node)),
        "0.0.0.0:65534 0.0.0.0:65535"
    );
    options.peers.port = Some(7500);
    let refused = shown(peer_addresses(&options, &node));
    assert!(refused.contains("peers.port is set"), "{refused}");
    options.peers.address = address("::1");
    let refused = shown(peer_addresses(&options, &node));
    assert!(refused.contains("peers.address is set"), "{refused}");
}

#[test]
fn a_node_of_a_cluster_listens_where_its_entry_says_unless_somebody_says_otherwise() {
    let node = clustered(|_| ());
    let mut options = options();
    assert_eq!(shown(addresses(&options, &node)), "10.0.0.3:7400");
    assert_eq!(shown(peer_addresses(&options, &node)), "10.0.0.3:8500");
    options.listen.address = address("0.0.0.0");
    options.peers.port = Some(9000);
    assert_eq!(shown(addresses(&options, &node)), "0.0.0.0:7400");
    assert_eq!(shown(peer_addresses(&options, &node)), "10.0.0.3:9000");
    options.listen.port = Some(7000);
    options.peers.address = address("::1");
    assert_eq!(shown(addresses(&options, &node)), "0.0.0.0:7000");
    assert_eq!(shown(peer_addresses(&options, &node)), "[::1]:9000");
    options.peers.port = Some(7000);
    let refused = shown(peer_addresses(&options, &node));
    assert!(
        refused.contains("[::1]:7000 would be for clients and for other nodes"),
        "{refused}"
    );
    options.listen.advertise = Some("db1".to_owned());
    let refused = shown(addresses(&options, &node));
    assert!(
        refused.contains("listen.advertise = db1 contradicts the data: it is that of node 3")
            && refused.contains("told 10.0.0.3:7400"),
        "{refused}"
    );
}

#[test]
fn the_admin_port_is_not_one_of_a_core() {
    let with = |admin: &str| NodeOptions {
        admin: admin.parse().ok(),
        ..options()
    };
    let alone = sample();
    for (admin, expected) in [
        (
            "127.0.0.1:7401",
            "admin.listen = 127.0.0.1:7401 contradicts listen.port",
        ),
        (
            "0.0.0.0:7401",
            "admin.listen = 0.0.0.0:7401 contradicts listen.port",
        ),
        ("127.0.0.1:7402", "127.0.0.1:7400 127.0.0.1:7401"),
        ("127.0.0.2:7401", "127.0.0.1:7400 127.0.0.1:7401"),
    ] {
        let found = shown(addresses(&with(admin), &alone));
        assert!(found.contains(expected), "{found:?}, not {expected:?}");
    }
    let node = clustered(|_| ());
    let refused = shown(peer_addresses(&with("0.0.0.0:8500"), &node));
    assert!(refused.contains("contradicts peers.port"), "{refused}");
    // Where nobody listens who is clustered elsewhere.
    let found = shown(peer_addresses(&with("127.0.0.1:7400"), &node));
    assert_eq!(found, "10.0.0.3:8500");
    let founded = NodeOptions {
        cores: Some(4),
        ..with("127.0.0.1:7403")
    };
    let refused = Layout::choose(&founded, 4).expect_err("it could never start");
    assert!(
        refused.to_string().contains("contradicts listen.port"),
        "{refused}"
    );
}

#[test]
fn a_name_in_the_cluster_needs_an_address_to_listen_on() {
    let node = clustered(|entry| {
        entry.clients.host = "db3".to_owned();
        entry.peers.host = "db3".to_owned();
    });
    let mut options = options();
    let refused = shown(addresses(&options, &node));
    assert!(
        refused.contains("node 3 of the cluster has clients = \"db3:7400\", a name")
            && refused.contains("listen.address (--listen)"),
        "{refused}"
    );
    options.listen.address = address("10.0.0.3");
    assert_eq!(shown(addresses(&options, &node)), "10.0.0.3:7400");
    let refused = shown(peer_addresses(&options, &node));
    assert!(
        refused.contains("peers = \"db3:8500\", a name") && refused.contains("peers.address"),
        "{refused}"
    );
    options.peers.address = address("10.0.0.3");
    assert_eq!(shown(peer_addresses(&options, &node)), "10.0.0.3:8500");
    // What others are told is the name all the same.
    let told = cluster(&options, &node);
    let entry = told.node(node.node).expect("it is one of them");
    assert_eq!(entry.clients.to_string(), "db3:7400");
}

#[test]
fn clients_are_told_where_each_core_of_a_node_that_is_alone_is() {
    let told = |listen: &str, advertise: Option<&str>| {
        let mut options = options();
        options.listen.address = address(listen);
        options.listen.advertise = advertise.map(str::to_owned);
        let cluster = cluster(&options, &sample());
        assert_eq!(cluster.nodes.len(), 1);
        assert_eq!(cluster.members[&ShardId(1)][0].home.core, CoreId(1));
        cluster.nodes[0].clients.of_core(CoreId(2)).to_string()
    };
    assert_eq!(told("127.0.0.1", None), "127.0.0.1:7402");
    assert_eq!(told("::1", None), "[::1]:7402");
    assert_eq!(told("0.0.0.0", Some("db1")), "db1:7402");
    assert_eq!(told("::", Some("fe80::1")), "[fe80::1]:7402");
}

#[test]
fn a_node_of_a_cluster_is_laid_out_as_the_cluster_says() {
    let founding = |node| Founding {
        cluster: new_cluster(&[1, 2, 1]).place().expect("it can be"),
        node: NodeId(node),
    };
    let choose = |options: &NodeOptions| match Layout::choose(options, 1) {
        Ok(layout) => format!("{} cores, {} shards", layout.cores, layout.shards),
        Err(error) => error.to_string(),
    };
    let founded = NodeOptions {
        founding: Some(founding(2)),
        ..options()
    };
    assert_eq!(choose(&founded), "2 cores, 4 shards");
    let same = NodeOptions {
        cores: Some(2),
        shards: Some(4),
        ..founded.clone()
    };
    assert_eq!(choose(&same), "2 cores, 4 shards");
    for (options, expected) in [
        (
            NodeOptions {
                founding: Some(founding(4)),
                ..options()
            },
            "--node 4: the cluster has no such node, it has 1, 2, 3",
        ),
        (
            NodeOptions {
                cores: Some(1),
                ..founded.clone()
            },
            "cores (--cores) = 1 contradicts the file of the cluster, which says 2 for node 2",
        ),
        (
            NodeOptions {
                shards: Some(3),
                ..founded.clone()
            },
            "shards (--shards) = 3 contradicts the file of the cluster, which says 4 for node 2",
        ),
        (
            NodeOptions {
                history: HistoryOptions {
                    age_ms_max: Some(1_000),
                    ..HistoryOptions::default()
                },
                ..founded.clone()
            },
            "history.max_age in milliseconds = 1000 contradicts the file of the cluster, which says 300000",
        ),
        (
            NodeOptions {
                oversubscription: Oversubscription::Refuse,
                ..founded.clone()
            },
            "2 cores need as many processors, and there are 1",
        ),
        (
            NodeOptions {
                peers: PeersOptions {
                    address: None,
                    port: Some(65_535),
                },
                ..founded.clone()
            },
            "2 cores from port 65535 on need ports above 65535: choose a lower peers.port",
        ),
    ] {
        let found = choose(&options);
        assert!(found.contains(expected), "{found:?}, not {expected:?}");
    }
}
