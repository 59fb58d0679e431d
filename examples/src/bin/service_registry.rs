//! A registry of services whose records are changed by compare and swap: whoever was slower looks again.

use metastore_examples::{connect, fresh_directory};
use metastore_net::async_client::{Client, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = connect().await?;
    let key = fresh_directory("service_registry") + "billing";

    register(&client, &key, "10.0.0.1:80").await?;
    // Two instances register at the same moment; neither overwrites the other.
    let (second, third) = tokio::join!(
        register(&client, &key, "10.0.0.2:80"),
        register(&client, &key, "10.0.0.3:80"),
    );
    second?;
    third?;

    let row = client.get(&key).await?.row.expect("it was written");
    let record = String::from_utf8_lossy(&row.value).into_owned();
    println!("billing is served by\n{record}");
    assert_eq!(record.lines().count(), 3);
    println!("done");
    Ok(())
}

/// Adds an address to a service's record.
async fn register(client: &Client, key: &str, address: &str) -> Result<(), Error> {
    loop {
        let row = client.get(key).await?.row;
        let (mut record, revision) = match &row {
            Some(row) => (
                String::from_utf8_lossy(&row.value).into_owned(),
                Some(row.mod_revision),
            ),
            None => (String::new(), None),
        };
        if record.lines().any(|line| line == address) {
            return Ok(());
        }
        record.push_str(address);
        record.push('\n');
        let put = client.put(key, &record);
        let result = match revision {
            Some(revision) => put.expected_revision(revision).await,
            None => put.if_absent().await,
        };
        match result {
            Ok(_) => return Ok(()),
            // Somebody was faster, or nobody knows whether it was us: look again.
            Err(Error::Conflict { .. } | Error::OutcomeUnknown { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}
