//! Reads that are spread over the nodes, and nodes that do not answer them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metastore_net::async_client::{Client, ClientSettings, ReadFrom};

use crate::load::DIRECTORIES;
use crate::nodes::Nodes;

/// How long a read may take while a node does not answer, on a machine that is busy with other tests: others lead after
/// two seconds at most, and whoever is silent is found out within one.
const READ_MAX: Duration = Duration::from_secs(4);

async fn reader(nodes: &Nodes, read_from: ReadFrom) -> Client {
    let settings = ClientSettings {
        read_from,
        ..ClientSettings::default()
    };
    let addresses = (1..=3).map(|node| nodes.address(node));
    let client = Client::connect(addresses, settings).await;
    client.expect("a cluster that is well")
}

async fn fill(client: &Client) {
    for directory in 0..DIRECTORIES {
        let put = client.put(&format!("/d{directory}/k"), "x").await;
        put.expect("a cluster that is well");
    }
}

/// Reads without a pause until `stop`; how often, and the longest time that a read took.
async fn read_on(client: Client, stop: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut count, mut longest) = (0, Duration::ZERO);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let directory = format!("/d{}/", number % DIRECTORIES);
        let read = client.get(&format!("{directory}k")).await;
        let row = read.expect("no read fails").row;
        assert_eq!(row.expect("it was written").value, b"x");
        let list = client.range(&directory).children().collect().await;
        assert_eq!(list.expect("no list fails").rows.len(), 1);
        longest = longest.max(began.elapsed() / 2);
        count += 2;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (count, longest)
}

#[tokio::test]
async fn reads_reach_all_nodes_when_asked() {
    let nodes = Nodes::start("cluster-spread", 2, 6, &[]);
    let client = reader(&nodes, ReadFrom::Any).await;
    fill(&client).await;
    let requests = |node| nodes.counter(node, "requests");
    let before = [1, 2, 3].map(requests);
    for number in 0..300 {
        let key = format!("/d{}/k", number % DIRECTORIES);
        let read = client.get(&key).await.expect("a cluster that is well");
        assert!(read.row.is_some());
    }
    for (node, before) in [1, 2, 3].into_iter().zip(before) {
        let reads = requests(node) - before;
        assert!(reads > 50, "node {node} had {reads} of 300 reads");
    }
}

#[tokio::test]
async fn no_read_fails_when_a_node_stands_still_or_dies() {
    let mut nodes = Nodes::start("cluster-silent", 1, 3, &[]);
    for read_from in [ReadFrom::Any, ReadFrom::Leader] {
        let client = reader(&nodes, read_from).await;
        fill(&client).await;
        let stop = Arc::new(AtomicBool::new(false));
        let reading = tokio::spawn(read_on(client, Arc::clone(&stop)));
        tokio::time::sleep(Duration::from_millis(500)).await;
        nodes.signal(1, "STOP");
        tokio::time::sleep(Duration::from_secs(4)).await;
        nodes.signal(1, "CONT");
        tokio::time::sleep(Duration::from_secs(1)).await;
        nodes.await_leaders();
        nodes.kill(2);
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.store(true, Ordering::Relaxed);
        let (count, longest) = reading.await.expect("no read failed");
        assert!(count > 100, "{count} reads");
        assert!(longest < READ_MAX, "{longest:?}");
        nodes.launch(2);
        nodes.await_leaders();
        nodes.await_some(|nodes| nodes.replicas(2));
    }
}
