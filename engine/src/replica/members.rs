//! The membership of a shard as it stands in the log.
//!
//! ```text
//!      0       1       2       3       4       5       6       7
//!  +-------+-------+-------+-------+-------+-------+-------+-------+
//!  | voters (u32)                  | learners (u32)                |   how many of each
//!  +-------------------------------+-------------------------------+
//!  | replica id (u64), voters first, then learners, ascending      |   repeated
//!  +---------------------------------------------------------------+
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use raft::eraftpb::ConfState;

const HEAD_BYTES: usize = 8;
const ID_BYTES: usize = 8;

/// Encodes the membership; a joint one cannot be encoded.
pub(crate) fn encode(members: &ConfState) -> Bytes {
    assert!(
        members.get_voters_outgoing().is_empty() && members.get_learners_next().is_empty(),
        "a snapshot is taken outside a change of members"
    );
    let count = |ids: &[u64]| u32::try_from(ids.len()).expect("a shard has few members");
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(count(members.get_voters()));
    bytes.put_u32_le(count(members.get_learners()));
    for ids in [members.get_voters(), members.get_learners()] {
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        sorted.into_iter().for_each(|id| bytes.put_u64_le(id));
    }
    bytes.freeze()
}

/// Decodes a membership, `None` when the bytes are not one.
pub(crate) fn decode(bytes: &[u8]) -> Option<ConfState> {
    let word =
        |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let (voters, learners) = (word(0)?, word(4)?);
    let (ids, rest) = bytes.get(HEAD_BYTES..)?.as_chunks::<ID_BYTES>();
    if !rest.is_empty() || ids.len() != voters.checked_add(learners)? {
        return None;
    }
    let ids: Vec<u64> = ids.iter().map(|id| u64::from_le_bytes(*id)).collect();
    Some(ConfState::from((
        ids[..voters].to_vec(),
        ids[voters..].to_vec(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_survives_the_round_trip() {
        let members = ConfState::from((vec![3, 1], vec![9]));
        let bytes = encode(&members);
        assert_eq!(bytes.len(), HEAD_BYTES + 3 * ID_BYTES);
        assert_eq!(decode(&bytes), Some(ConfState::from((vec![1, 3], vec![9]))));
    }

    #[test]
    fn bytes_of_the_wrong_length_are_no_membership() {
        let bytes = encode(&ConfState::from((vec![1], vec![])));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None);
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), None);
    }
}
