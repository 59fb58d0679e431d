//! Targets for fuzzers: each takes any bytes, must never panic, asserts what the format promises, and says whether the
//! bytes were accepted.

use crate::replica::members;
pub use crate::snapshot::fuzz::{fuzz_snapshot, mend_snapshot};

/// A membership that can be read is written back with the same members in order.
pub fn fuzz_members(data: &[u8]) -> bool {
    let Some(found) = members::decode(data) else {
        return false;
    };
    let encoded = members::encode(&found);
    assert_eq!(encoded.len(), data.len());
    let again = members::decode(&encoded).expect("what is written can be read");
    assert_eq!(members::encode(&again), encoded);
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    assert_eq!(again.get_voters(), sorted(found.get_voters()));
    assert_eq!(again.get_learners(), sorted(found.get_learners()));
    true
}

/// Memberships of one voter, and of several with a learner.
#[must_use]
pub fn members_seeds() -> Vec<Vec<u8>> {
    [(vec![1], vec![]), (vec![1, 2, 3], vec![9])]
        .map(|members| members::encode(&members.into()).to_vec())
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_are_read_or_refused() {
        for seed in members_seeds() {
            assert!(fuzz_members(&seed));
            for length in 0..seed.len() {
                assert!(!fuzz_members(&seed[..length]));
            }
        }
    }
}
