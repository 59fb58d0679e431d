//! Loads many keys: batches of independent writes, several under way, and again what was refused for want of room.

use metastore_examples::{connect, fresh_directory};
use metastore_net::ErrorCode;
use metastore_net::async_client::{Client, Error};
use std::time::Duration;
use tokio::task::JoinSet;

const BATCHES: usize = 16;
const KEYS_PER_BATCH: usize = 500;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = connect().await?;
    let directory = fresh_directory("bulk_load");
    let mut running = JoinSet::new();
    let mut loaded = 0;
    for batch in 0..BATCHES {
        if running.len() == 4 {
            loaded += next(&mut running).await?;
        }
        // Keys of different directories belong to different shards; the client sends each its part.
        let keys: Vec<String> = (0..KEYS_PER_BATCH)
            .map(|index| format!("{directory}{}/{batch}-{index}", index % 10))
            .collect();
        running.spawn(load(client.clone(), keys));
    }
    while !running.is_empty() {
        loaded += next(&mut running).await?;
    }
    let found = client.range(&directory).keys_only().collect().await?;
    println!("loaded {loaded} keys, found {}", found.rows.len());
    assert_eq!(
        (loaded, found.rows.len()),
        (BATCHES * KEYS_PER_BATCH, loaded)
    );
    println!("done");
    Ok(())
}

async fn next(running: &mut JoinSet<Result<usize, Error>>) -> Result<usize, Error> {
    let joined = running.join_next().await.expect("there is one");
    joined.expect("a load does not panic")
}

/// Writes all keys. They are independent, so those that were refused may simply go again.
async fn load(client: Client, mut keys: Vec<String>) -> Result<usize, Error> {
    let count = keys.len();
    while !keys.is_empty() {
        let mut batch = client.batch();
        for key in &keys {
            batch.put(key, "value");
        }
        let answers = batch.await;
        let mut refused = Vec::new();
        for (key, answer) in keys.into_iter().zip(answers) {
            match answer {
                Ok(_) => {}
                Err(Error::Skipped) => refused.push(key),
                Err(error) if error.code() == Some(ErrorCode::Overloaded) => refused.push(key),
                Err(error) => return Err(error),
            }
        }
        if !refused.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        keys = refused;
    }
    Ok(count)
}
