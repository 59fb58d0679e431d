//! What several nodes together must keep, checked from outside.
//!
//! | checker | sees | promise |
//! |---|---|---|
//! | [`linearizability`] | what clients sent and were told | each shard behaves like one copy that does one thing at a time |
//! | [`log_watch`] | the records of one log and what its disk holds | a recovery finds all that is durable, and nothing that was not written |
//! | [`budgets`] | what a core says that it holds | no queue grows beyond its limit |
//! | [`promises`] | the messages that leave a node, and its durable log | nothing leaves before what it promises is durable |
//! | [`replication`] | all logs and what replicas report | one leader a term, and one that votes; one vote a term; logs match; what is committed stays; acknowledged means durable on a quorum of those who vote there; one state at one index |
//!
//! Who votes at which place of a log, [`membership`] reads from the logs themselves.
//!
//! They share nothing with the code that they judge, and little with each other: a mistake in one is not a mistake in
//! all. The checkers of a single node are those of [`oracle`](crate::oracle).

pub mod budgets;
pub mod linearizability;
pub mod log_view;
pub mod log_watch;
pub mod membership;
pub mod promises;
pub mod replication;
mod violation;

pub use violation::ClusterViolation;
