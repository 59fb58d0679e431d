//! Clusters of real processes on loopback: what they acknowledge is there whatever becomes of one of them.

mod catching_up;
mod endings;
mod failover;
#[path = "../harness/mod.rs"]
mod harness;
mod load;
mod losers;
mod lost_quorum;
mod members;
mod nodes;
mod reads;
mod replication;
mod spread;
