//! Streams a range that is larger than anybody wants in memory, at the speed of whoever reads it.

use metastore_examples::{connect, fresh_directory};
use metastore_net::async_client::Error;
use std::time::Duration;

const KEYS: usize = 5_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = connect().await?;
    let directory = fresh_directory("stream_range");
    let mut batch = client.batch();
    for index in 0..KEYS {
        batch.put(format!("{directory}{index:06}"), [b'x'; 200]);
    }
    for answer in batch.await {
        answer?;
    }

    let mut rows = client
        .range(&directory)
        .children()
        .chunk_bytes(64 * 1024)
        .stream()
        .await?;
    // The position is held: what is written from now on is not seen by this stream.
    client.put(&format!("{directory}999999"), "late").await?;
    let mut count = 0;
    while let Some(row) = rows.next().await? {
        assert_eq!(row.value.len(), 200);
        count += 1;
        if count % 1_000 == 0 {
            // A slow reader slows the server down, and nobody else.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(count, KEYS);
    println!("{count} rows at revision {}", rows.revisions()[0].revision);
    println!("done");
    Ok(())
}
