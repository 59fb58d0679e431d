//! The deterministic state of one shard.
