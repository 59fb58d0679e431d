//! Which shards of a range are meant: all, or some that were named.

/// Shards that a request is limited to, by their ids. An empty list stands for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardList<'a> {
    /// Ids of four bytes each, little-endian, ascending.
    bytes: &'a [u8],
}

impl<'a> ShardList<'a> {
    /// Every shard that the range touches.
    pub const ALL: ShardList<'static> = ShardList { bytes: &[] };

    /// The shards whose ids are these bytes, four each, little-endian; all for none. `None` where they do not ascend or are
    /// not whole.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<ShardList<'a>> {
        let (ids, rest) = bytes.as_chunks::<4>();
        let ascends = ids
            .windows(2)
            .all(|pair| u32::from_le_bytes(pair[0]) < u32::from_le_bytes(pair[1]));
        (rest.is_empty() && ascends).then_some(ShardList { bytes })
    }

    /// Whether all shards are meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether a shard is meant.
    #[must_use]
    pub fn has(&self, shard: u32) -> bool {
        let (ids, _) = self.bytes.as_chunks::<4>();
        let found = ids.binary_search_by_key(&shard, |id| u32::from_le_bytes(*id));
        self.is_all() || found.is_ok()
    }

    /// The ids that were named, ascending; none where all are meant.
    pub fn named(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (ids, _) = self.bytes.as_chunks::<4>();
        ids.iter().map(|id| u32::from_le_bytes(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|id| id.to_le_bytes()).collect()
    }

    #[test]
    fn shards_are_named_in_ascending_order_or_all_are_meant() {
        let some = bytes(&[1, 256, 65_536]);
        let some = ShardList::new(&some).expect("they ascend");
        assert!(some.has(256) && some.has(65_536) && !some.has(2));
        assert_eq!(some.named().collect::<Vec<_>>(), [1, 256, 65_536]);
        assert!(!some.is_all());
        assert_eq!(ShardList::new(&[]), Some(ShardList::ALL));
        assert!(ShardList::ALL.has(7));
        for bad in [&[2, 1][..], &[1, 1]] {
            assert_eq!(ShardList::new(&bytes(bad)), None, "{bad:?}");
        }
        assert_eq!(ShardList::new(&[1, 0, 0]), None);
    }
}
