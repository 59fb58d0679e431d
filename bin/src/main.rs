//! MetaStore.

fn main() {}
