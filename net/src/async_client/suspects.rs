//! Addresses that gave no sign of life when one was wanted: asked last for a while, so that not every operation waits for
//! a node that stands still.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// For so long an address is asked last. Then one operation, and no more, finds out how it is.
const SUSPICION: Duration = Duration::from_secs(1);

/// Which addresses may be silent, and until when that is believed.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<BTreeMap<String, Instant>>);

impl Suspects {
    /// Nothing was heard of an address.
    pub(super) fn note(&self, address: &str) {
        let until = Instant::now() + SUSPICION;
        self.lock().insert(address.to_owned(), until);
    }

    /// An address has answered.
    pub(super) fn clear(&self, address: &str) {
        self.lock().remove(address);
    }

    /// Whether others are better asked. Once in a while somebody is told no, and finds out.
    pub(super) fn is_to_be_avoided(&self, address: &str) -> bool {
        let now = Instant::now();
        match self.lock().get_mut(address) {
            Some(until) if *until <= now => {
                *until = now + SUSPICION;
                false
            }
            Some(_) => true,
            None => false,
        }
    }

    /// Whether an address was silent when somebody last looked.
    pub(super) fn has(&self, address: &str) -> bool {
        let now = Instant::now();
        self.lock().get(address).is_some_and(|until| *until > now)
    }

    /// Keeps these addresses only.
    pub(super) fn retain(&self, addresses: &[String]) {
        self.lock().retain(|address, _| addresses.contains(address));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_operation_at_a_time_finds_out_whether_a_suspect_lives() {
        let suspects = Suspects::default();
        assert!(!suspects.is_to_be_avoided("a"));
        suspects.note("a");
        assert!(suspects.is_to_be_avoided("a"));
        assert!(!suspects.is_to_be_avoided("b"));
        suspects.lock().insert("a".to_owned(), Instant::now());
        assert!(!suspects.is_to_be_avoided("a"), "its time is up");
        assert!(suspects.is_to_be_avoided("a"), "somebody is on the way");
        suspects.clear("a");
        assert!(!suspects.is_to_be_avoided("a"));
        suspects.note("a");
        suspects.retain(&["b".to_owned()]);
        assert!(!suspects.is_to_be_avoided("a"));
    }
}
