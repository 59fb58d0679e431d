//! Answers as JSON.

use std::io::Write;

use metastore_net::blocking::OwnedRow;
use metastore_statemachine::Row;
use serde_json::{Value, json};

use super::CommandError;

/// Bytes in JSON: a string when they are UTF-8, otherwise `{"hex": ".."}`.
pub(super) fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "hex": hex })
        }
    }
}

/// A key with everything that is known of it.
pub(super) fn row(row: &Row<'_>) -> Value {
    json!({
        "key": bytes(row.key),
        "value": bytes(row.value),
        "create_revision": row.create_revision.0,
        "mod_revision": row.mod_revision.0,
        "version": row.version,
        "lease": row.lease,
    })
}

/// [`row`] of one with bytes of its own.
pub(super) fn owned_row(owned: &OwnedRow) -> Value {
    row(&Row {
        key: &owned.key,
        value: &owned.value,
        create_revision: owned.create_revision,
        mod_revision: owned.mod_revision,
        version: owned.version,
        lease: owned.lease,
    })
}

/// One object, on a line of its own.
pub(super) fn print(out: &mut dyn Write, value: &Value) -> Result<(), CommandError> {
    writeln!(out, "{value}").map_err(CommandError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_string_only_if_nothing_is_lost() {
        assert_eq!(bytes(b"a\"\n"), json!("a\"\n"));
        assert_eq!(bytes(b""), json!(""));
        assert_eq!(bytes(b"\xff\x00"), json!({"hex": "ff00"}));
    }
}
