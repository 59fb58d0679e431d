//! What a node was formatted with, as its `node.toml` says: enough to read its log.

use std::fs;
use std::path::{Path, PathBuf};

use metastore_engine::{CoreId, ReplicaId, ShardId};
use metastore_wal::{ClusterId, SealKey};
use thiserror::Error;
use toml::{Table, Value};

/// Why it is not known.
#[derive(Debug, Error)]
pub(crate) enum FormattedError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what a format writes.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// A replica of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resident {
    pub(crate) replica: ReplicaId,
    pub(crate) shard: ShardId,
    pub(crate) core: CoreId,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Formatted {
    pub(crate) cluster: ClusterId,
    pub(crate) seal: SealKey,
    pub(crate) replicas: Vec<Resident>,
}

impl Formatted {
    /// Reads it.
    pub(crate) fn read(data: &Path) -> Result<Formatted, FormattedError> {
        let path = data.join("node.toml");
        let text = fs::read_to_string(&path);
        let text = text.map_err(|source| FormattedError::File {
            path: path.clone(),
            source,
        })?;
        parse(&text).map_err(|what| FormattedError::Content { path, what })
    }
}

fn parse(text: &str) -> Result<Formatted, String> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string())?;
    let replicas = table.get("replica").and_then(Value::as_array);
    let replicas = replicas.ok_or("it has no replicas")?;
    let seal = u64::try_from(hexadecimal(&table, "seal")?);
    let seal = seal.map_err(|_| "seal is longer than 64 bits")?;
    Ok(Formatted {
        cluster: ClusterId(hexadecimal(&table, "cluster")?),
        seal: SealKey(seal),
        replicas: replicas.iter().map(resident).collect::<Result<_, _>>()?,
    })
}

fn hexadecimal(table: &Table, key: &str) -> Result<u128, String> {
    let digits = table.get(key).and_then(Value::as_str);
    let digits = digits.ok_or_else(|| format!("it has no {key}"))?;
    u128::from_str_radix(digits, 16).map_err(|error| format!("{key}: {error}"))
}

fn resident(value: &Value) -> Result<Resident, String> {
    let number = |key: &str| {
        let number = value.get(key).and_then(Value::as_integer);
        number.ok_or_else(|| format!("a replica has no {key}"))
    };
    let out = |_| "a number of a replica is out of range".to_owned();
    Ok(Resident {
        replica: ReplicaId(u64::try_from(number("replica")?).map_err(out)?),
        shard: ShardId(u32::try_from(number("shard")?).map_err(out)?),
        core: CoreId(u16::try_from(number("core")?).map_err(out)?),
    })
}
