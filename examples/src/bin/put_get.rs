//! Writes a key, reads it back, reads what it was before, and removes it.

use metastore_examples::{connect, fresh_directory};
use metastore_net::async_client::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = connect().await?;
    let key = fresh_directory("put_get") + "greeting";

    let first = client.put(&key, "hello").await?;
    let second = client.put(&key, "world").return_previous().await?;
    let previous = second.previous.expect("the key was there");
    println!(
        "{} at revision {}, before it {} at revision {}",
        key,
        second.revision,
        previous.value.escape_ascii(),
        first.revision
    );

    let now = client.get(&key).await?.row.expect("it was just written");
    assert_eq!(now.value, b"world");
    assert_eq!(now.version, 2);

    let then = client.get(&key).at(first.revision).await?;
    assert_eq!(then.row.expect("it was there").value, b"hello");

    assert!(client.delete(&key).await?.existed);
    assert_eq!(client.get(&key).await?.row, None);
    println!("done");
    Ok(())
}
