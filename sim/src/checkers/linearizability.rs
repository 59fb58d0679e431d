//! Whether what clients saw of a shard is what one copy of it, doing one thing at a time, could have shown them.
//!
//! Searching for an order that explains a history takes exponential time. Here answers carry their place: a change is
//! answered with its revision, a read with the revision of its shard. So the order is a **witness** that only has to be
//! checked, in three steps:
//!
//! 1. *Places.* Every change has a revision of its own. What was never answered may have one too: which one, the shard's
//!    log proposes ([`ShardLog`]). Nobody believes the log: whatever it proposes has to explain what clients saw, and
//!    every answered change must stand in it where its answer says. Without a log the places are searched.
//! 2. *Time.* Nothing that was answered before something else was sent stands behind it. One sweep over the sorted
//!    places, O(n log n).
//! 3. *Meaning.* The changes are replayed in their order on a [`Model`](crate::oracle::Model) of the whole shard: each one
//!    was possible and comes to exactly what it was answered, with every result of a transaction; between two of them each
//!    read, range and count finds what was there. So a transaction is whole or was not.
//!
//! Some answers name no revision of the shard: a condition that did not hold is answered with the revision of its key, a
//! read in the past with the past. They **float**: whatever gap between two changes explains them will do, and the
//! earliest one that agrees with time is taken; if that does not fit, none does.
//!
//! It refuses nothing that is right: with a log because a store that did what its log says can be explained by it. What
//! it accepts although it should not: a commit or a read in the past that is refused for the sake of a compaction too
//! early, while that compaction was on its way. Revisions may skip. A search without a log that grows beyond
//! [`SEARCH_STEPS_MAX`], or in which too many may have taken a revision or only looked at it, is given up and said to be
//! [`Verdict::Undecided`].
//!
//! The idea of the witness is that of version orders as in Elle (Kingsbury and Alvaro, 2020), and of etcd's robustness
//! tests, which replay the log; the search is that of Wing and Gong (1993).

mod operation;
mod places;
mod refusal;
mod replay;
mod search;
mod time;

use metastore_engine::ShardId;

pub use self::operation::{Action, End, Operation};
pub use self::places::ShardLog;
use self::places::{Claims, Prepared};
pub use self::refusal::NotLinearizable;
use self::replay::explain;
pub use self::search::SEARCH_STEPS_MAX;
use self::search::{Search, Searched};

/// Choices of who took which revision, of those who may as well have only looked at it, that are tried without a log.
const CHOICES_MAX: usize = 64;

/// What is known of a history that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains it.
    Linearizable,
    /// The search for places of unknown outcomes was given up.
    Undecided,
}

/// Everything that clients did with one shard.
#[derive(Clone, Debug)]
pub struct ShardHistory {
    shard: ShardId,
    operations: Vec<Operation>,
}

impl ShardHistory {
    /// A shard with which nobody has done anything.
    #[must_use]
    pub fn new(shard: ShardId) -> ShardHistory {
        ShardHistory {
            shard,
            operations: Vec::new(),
        }
    }

    /// Adds what a client did. The order in which this is called does not matter.
    pub fn add(&mut self, operation: Operation) {
        if let Some(answered) = operation.answered() {
            assert!(operation.sent < answered, "an answer follows its request");
        }
        self.operations.push(operation);
    }

    /// How many operations it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing was done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// All of them.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Looks for an order that explains everything, along the log if there is one.
    ///
    /// # Errors
    /// There is none, or the log does not say the one that there is.
    pub fn check(&self, log: Option<&ShardLog>) -> Result<Verdict, NotLinearizable> {
        let prepared: Vec<Prepared<'_>> = self.operations.iter().map(Prepared::new).collect();
        let Some(log) = log else {
            return self.check_alone(&prepared);
        };
        let changes = log.changes();
        let claims = Claims::along(&changes, &prepared)?;
        let placed = claims.place_unknown(&changes, &prepared)?;
        explain(self.shard, &prepared, &placed)?;
        Ok(Verdict::Linearizable)
    }

    /// What clients saw alone.
    fn check_alone(&self, prepared: &[Prepared<'_>]) -> Result<Verdict, NotLinearizable> {
        let certain = Claims::alone(prepared)?;
        let candidates = certain.candidates(prepared);
        if prepared.iter().all(|operation| !operation.is_unknown()) {
            explain(self.shard, prepared, &certain.with_first(&candidates))?;
            return Ok(Verdict::Linearizable);
        }
        let mut refusal = None;
        for (number, claims) in certain.with_each(&candidates).enumerate() {
            if number == CHOICES_MAX {
                return Ok(Verdict::Undecided);
            }
            let search = Search::new(self.shard, prepared, &claims);
            match search.map(Search::run) {
                Ok(Searched::Explained) => return Ok(Verdict::Linearizable),
                Ok(Searched::GaveUp) => return Ok(Verdict::Undecided),
                Ok(Searched::Unexplained(why)) | Err(why) => refusal = refusal.or(Some(why)),
            }
        }
        Err(refusal.expect("there is one choice at least"))
    }
}

#[cfg(test)]
mod tests;
