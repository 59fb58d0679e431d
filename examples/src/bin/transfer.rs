//! Moves an amount between two accounts in a transaction: whatever others do meanwhile, no money appears or vanishes.

use metastore_examples::{connect, fresh_directory};
use metastore_net::async_client::{Client, Error};
use tokio::task::JoinSet;

/// Why a transfer does not take place. A transaction's function may fail as it likes, if the library's errors fit in.
#[derive(Debug)]
enum TransferError {
    /// There is not enough on the account.
    TooLittle { balance: i64 },
    /// The store could not be asked.
    Store(Error),
}

impl std::fmt::Display for TransferError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TransferError::TooLittle { balance } => write!(formatter, "only {balance} is there"),
            TransferError::Store(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for TransferError {}

impl From<Error> for TransferError {
    fn from(error: Error) -> TransferError {
        TransferError::Store(error)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = connect().await?;
    // Both accounts are of one directory, and so of one shard.
    let directory = fresh_directory("transfer");
    let (alice, bob) = (directory.clone() + "alice", directory.clone() + "bob");
    client.put(&alice, "100").await?;
    client.put(&bob, "0").await?;

    // Ten at once: each reads what the one before it wrote.
    let mut running = JoinSet::new();
    for _ in 0..10 {
        let (client, alice, bob) = (client.clone(), alice.clone(), bob.clone());
        running.spawn(async move { transfer(&client, &alice, &bob, 15).await });
    }
    let mut refused = 0;
    for result in running.join_all().await {
        match result {
            Ok(()) => {}
            Err(TransferError::TooLittle { balance }) => {
                assert_eq!(balance, 10);
                refused += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }

    let accounts = client.range(&directory).children().collect().await?;
    for row in &accounts.rows {
        println!("{} {}", row.key.escape_ascii(), row.value.escape_ascii());
    }
    let balances: Vec<&[u8]> = accounts.rows.iter().map(|row| &row.value[..]).collect();
    assert_eq!((balances, refused), (vec![&b"10"[..], b"90"], 4));
    println!("done");
    Ok(())
}

/// Reads both balances and writes both, at one revision or not at all.
async fn transfer(client: &Client, from: &str, to: &str, amount: i64) -> Result<(), TransferError> {
    client
        .transaction(|tx| async move {
            let balance = parse(tx.get(from).await?);
            if balance < amount {
                return Err(TransferError::TooLittle { balance });
            }
            let other = parse(tx.get(to).await?);
            tx.put(from, (balance - amount).to_string());
            tx.put(to, (other + amount).to_string());
            Ok(())
        })
        .await?;
    Ok(())
}

fn parse(value: Option<Vec<u8>>) -> i64 {
    let text = value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
