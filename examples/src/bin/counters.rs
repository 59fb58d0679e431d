//! Counters that many tasks change at once, without reading them first: a sum, a high-water mark, a low-water mark.

use metastore_examples::{connect, fresh_directory};
use metastore_net::async_client::{Counted, Error};
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = connect().await?;
    let directory = fresh_directory("counters");
    let (sum, highest, lowest) = (
        directory.clone() + "sum",
        directory.clone() + "highest",
        directory + "lowest",
    );

    // Operations own what they need: they can be spawned, and all leave over one connection.
    let mut running: JoinSet<Result<Counted, Error>> = JoinSet::new();
    for value in 1..=100 {
        running.spawn(client.add(&sum, value).into_future());
        running.spawn(client.max(&highest, value).into_future());
        running.spawn(client.min(&lowest, value).into_future());
    }
    for result in running.join_all().await {
        result?;
    }

    // Adding nothing reads a counter as a number.
    let total = client.add(&sum, 0).await?.value;
    let range = client.min(&lowest, i64::MAX).await?.value..=client.max(&highest, 0).await?.value;
    println!("sum {total}, from {} to {}", range.start(), range.end());
    assert_eq!((total, range), (5050, 1..=100));
    println!("done");
    Ok(())
}
