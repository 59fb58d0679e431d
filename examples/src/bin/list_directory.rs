//! Lists a directory: its entries only, the newest, its directories too, and page by page.

use metastore_examples::{connect, fresh_directory};
use metastore_net::async_client::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = connect().await?;
    let directory = fresh_directory("list_directory");
    for name in ["2024-log", "2025-log", "2026-log", "old/2001-log"] {
        client.put(&format!("{directory}{name}"), name).await?;
    }

    // Children: what lies deeper is passed over.
    let entries = client.range(&directory).children().collect().await?;
    for row in &entries.rows {
        println!("{} {}", row.key.escape_ascii(), row.mod_revision);
    }
    assert_eq!(entries.rows.len(), 3);

    let newest = client
        .range(&directory)
        .children()
        .reverse()
        .limit(1)
        .keys_only()
        .collect()
        .await?;
    assert!(newest.rows[0].key.ends_with(b"2026-log"));

    // Directories beside entries, and how many entries there are, without reading them.
    let both = client
        .range(&directory)
        .delimiter(b'/')
        .keys_only()
        .collect()
        .await?;
    assert!(both.rows.last().expect("four").key.ends_with(b"old/"));
    assert_eq!(client.range(&directory).children().count().await?.count, 3);

    // Page by page: the next page begins behind the last key. Reading all pages at the first one's revision makes them one
    // list, whatever is written meanwhile; a directory lies in one shard, so there is one revision.
    let mut start = directory.clone().into_bytes();
    let revision = entries.revisions[0].revision;
    let mut pages = 0;
    loop {
        let page = client
            .range(&directory)
            .children()
            .start(&start)
            .at(revision)
            .limit(2)
            .collect()
            .await?;
        let Some(last) = page.rows.last() else { break };
        start.clone_from(&last.key);
        start.push(0);
        pages += 1;
    }
    assert_eq!(pages, 2);
    println!("done");
    Ok(())
}
