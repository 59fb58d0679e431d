//! What several nodes together must keep, checked from outside.
//!
//! | checker | sees | promise |
//! |---|---|---|
//! | [`linearizability`] | what clients sent and were told | each shard behaves like one copy that does one thing at a time |
//!
//! They share nothing with the code that they judge, and little with each other: a mistake in one is not a mistake in
//! all. The checkers of a single node are those of [`oracle`](crate::oracle).

pub mod linearizability;
