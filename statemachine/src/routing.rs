//! Which slot a key belongs to. Servers and clients that connect straight to the right core compute the same.

use crate::ids::NamespaceId;
use crate::query::Scope;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Number of hash slots of a cluster; the shard map assigns each to a shard.
pub const SLOT_COUNT: usize = 16_384;

/// One of [`SLOT_COUNT`] hash slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// Which part of a key decides about its slot. A namespace's rule never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceRule {
    /// Nothing: the whole namespace is in one slot, with one revision and one order.
    Single,
    /// The key up to and including its last separator, so that the children of a directory stay together; a key
    /// without a separator stands for itself.
    Directory {
        /// The byte between the names of a path.
        separator: u8,
    },
    /// The whole key.
    Key,
    /// The first bytes of the key, or all of a shorter one.
    Prefix {
        /// How many bytes.
        length: usize,
    },
}

impl NamespaceRule {
    /// The part of `key` that is hashed.
    #[must_use]
    pub fn routing_part<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        match *self {
            NamespaceRule::Single => &[],
            NamespaceRule::Directory { separator } => {
                match key.iter().rposition(|&byte| byte == separator) {
                    Some(last) => &key[..=last],
                    None => key,
                }
            }
            NamespaceRule::Key => key,
            NamespaceRule::Prefix { length } => &key[..key.len().min(length)],
        }
    }

    /// The routing part that all keys of a range share, or `None` where they may differ.
    #[must_use]
    pub fn shared_routing_part<'k>(&self, prefix: &'k [u8], scope: Scope) -> Option<&'k [u8]> {
        match (*self, scope) {
            (NamespaceRule::Single, _) => Some(&[]),
            // Below the prefix there are no more separators, so the last one of the prefix is the last one of each key.
            (NamespaceRule::Directory { separator }, Scope::Children { separator: asked })
                if separator == asked && prefix.contains(&separator) =>
            {
                Some(self.routing_part(prefix))
            }
            (NamespaceRule::Prefix { length }, _) if prefix.len() >= length => {
                Some(&prefix[..length])
            }
            (
                NamespaceRule::Directory { .. } | NamespaceRule::Key | NamespaceRule::Prefix { .. },
                _,
            ) => None,
        }
    }
}

/// The slot of a routing part: XXH3-64 with seed 0 over the namespace id (little-endian) and the routing part, low 14
/// bits.
#[must_use]
pub fn slot_of(namespace: NamespaceId, routing_part: &[u8]) -> Slot {
    let mut short = [0; SHORT_BYTES];
    let end = NAMESPACE_BYTES + routing_part.len();
    let hash = if end <= SHORT_BYTES {
        short[..NAMESPACE_BYTES].copy_from_slice(&namespace.0.to_le_bytes());
        short[NAMESPACE_BYTES..end].copy_from_slice(routing_part);
        xxh3_64(&short[..end])
    } else {
        let mut hasher = Xxh3::new();
        hasher.update(&namespace.0.to_le_bytes());
        hasher.update(routing_part);
        hasher.digest()
    };
    let low_bits = hash % SLOT_COUNT as u64;
    Slot(u16::try_from(low_bits).expect("14 bits fit into 16"))
}

const NAMESPACE_BYTES: usize = size_of::<u32>();
/// Up to this length the input is put together on the stack: setting up a streaming hasher costs more than hashing.
const SHORT_BYTES: usize = 128;

/// The namespaces of a cluster and their rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces {
    rules: BTreeMap<NamespaceId, NamespaceRule>,
}

impl Default for Namespaces {
    /// The default namespace alone, which keeps directories together.
    fn default() -> Self {
        let default_rule = NamespaceRule::Directory { separator: b'/' };
        Namespaces {
            rules: BTreeMap::from([(NamespaceId::DEFAULT, default_rule)]),
        }
    }
}

impl Namespaces {
    /// The namespaces with these rules.
    #[must_use]
    pub fn new(rules: BTreeMap<NamespaceId, NamespaceRule>) -> Self {
        Namespaces { rules }
    }

    /// The rule of a namespace, `None` when there is no such namespace.
    #[must_use]
    pub fn rule(&self, namespace: NamespaceId) -> Option<NamespaceRule> {
        self.rules.get(&namespace).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: NamespaceRule = NamespaceRule::Directory { separator: b'/' };

    #[test]
    fn children_of_a_directory_share_a_routing_part() {
        assert_eq!(DIRECTORY.routing_part(b"/a/b"), b"/a/");
        assert_eq!(DIRECTORY.routing_part(b"/a/c"), b"/a/");
        assert_eq!(DIRECTORY.routing_part(b"/a/b/c"), b"/a/b/");
        assert_eq!(DIRECTORY.routing_part(b"/a/b/"), b"/a/b/");
        assert_eq!(DIRECTORY.routing_part(b"plain"), b"plain");
    }

    #[test]
    fn a_range_of_children_has_one_routing_part_where_its_keys_have() {
        let children = Scope::Children { separator: b'/' };
        assert_eq!(
            DIRECTORY.shared_routing_part(b"/a/", children),
            Some(&b"/a/"[..])
        );
        assert_eq!(
            DIRECTORY.shared_routing_part(b"/a/b", children),
            Some(&b"/a/"[..])
        );
        assert_eq!(DIRECTORY.shared_routing_part(b"", children), None);
        assert_eq!(DIRECTORY.shared_routing_part(b"/a/", Scope::Subtree), None);
        let other = Scope::Children { separator: b'.' };
        assert_eq!(DIRECTORY.shared_routing_part(b"/a/", other), None);
        let prefix = NamespaceRule::Prefix { length: 2 };
        assert_eq!(
            prefix.shared_routing_part(b"abc", Scope::Subtree),
            Some(&b"ab"[..])
        );
        assert_eq!(prefix.shared_routing_part(b"a", Scope::Subtree), None);
        assert_eq!(
            NamespaceRule::Single.shared_routing_part(b"", Scope::Subtree),
            Some(&b""[..])
        );
        assert_eq!(
            NamespaceRule::Key.shared_routing_part(b"abc", Scope::Subtree),
            None
        );
    }

    /// The vectors of docs/PROTOCOL.md, which a client that computes slots must meet too.
    #[test]
    fn golden_slots() {
        let protocol = include_str!("../../docs/PROTOCOL.md");
        let vectors = protocol
            .split("| namespace | rule | key | slot |")
            .nth(1)
            .expect("a table");
        let rows: Vec<Vec<&str>> = vectors
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                line.split('|')
                    .map(|cell| cell.trim().trim_matches('`'))
                    .collect()
            })
            .collect();
        assert_eq!(rows.len(), 10);
        for row in rows {
            let namespace = NamespaceId(row[1].parse().expect("a namespace"));
            let rule = match row[2] {
                "single" => NamespaceRule::Single,
                "key" => NamespaceRule::Key,
                "prefix {4}" => NamespaceRule::Prefix { length: 4 },
                "directory {'/'}" => DIRECTORY,
                other => panic!("unknown rule {other}"),
            };
            let key: &[u8] = match row[3] {
                "bytes 00 ff" => b"\x00\xff",
                text => text.as_bytes(),
            };
            let slot = slot_of(namespace, rule.routing_part(key));
            assert_eq!(slot.0.to_string(), row[4], "{row:?}");
        }
    }

    #[test]
    fn long_routing_parts_hash_like_short_ones() {
        for length in [SHORT_BYTES - 5, SHORT_BYTES - 4, SHORT_BYTES - 3, 1000] {
            let part = vec![b'x'; length];
            let mut hasher = Xxh3::new();
            hasher.update(&1_u32.to_le_bytes());
            hasher.update(&part);
            let expected = hasher.digest() % SLOT_COUNT as u64;
            assert_eq!(
                u64::from(slot_of(NamespaceId(1), &part).0),
                expected,
                "{length}"
            );
        }
    }
}
