//! Renames an entry within a directory: nobody ever sees both names or neither, and an entry that exists is not
//! overwritten.

use metastore_examples::{connect, fresh_directory};
use metastore_net::async_client::{Client, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = connect().await?;
    let directory = fresh_directory("rename");
    let (draft, report) = (directory.clone() + "draft", directory.clone() + "report");
    client.put(&draft, "inode 7").await?;

    assert_eq!(rename(&client, &draft, &report).await?, Renamed::Done);
    assert_eq!(rename(&client, &draft, &report).await?, Renamed::Missing);
    client.put(&draft, "inode 8").await?;
    assert_eq!(rename(&client, &draft, &report).await?, Renamed::Exists);

    let entries = client.range(&directory).children().collect().await?;
    for row in &entries.rows {
        println!("{} {}", row.key.escape_ascii(), row.value.escape_ascii());
    }
    assert_eq!(entries.rows.len(), 2);
    println!("done");
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Renamed {
    Done,
    Missing,
    Exists,
}

async fn rename(client: &Client, from: &str, to: &str) -> Result<Renamed, Error> {
    let done = client
        .transaction(|tx| async move {
            let Some(value) = tx.get(from).await? else {
                return Ok(Renamed::Missing);
            };
            // That the name is free is part of what was read: whoever takes it meanwhile makes this run again.
            if tx.get(to).await?.is_some() {
                return Ok(Renamed::Exists);
            }
            tx.delete(from);
            tx.put(to, value);
            Ok::<Renamed, Error>(Renamed::Done)
        })
        .await?;
    Ok(done.value)
}
