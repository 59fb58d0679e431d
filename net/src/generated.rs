//! What flatc makes of `schema/*.fbs`; `scripts/generate-schemas` writes and checks it. Private: no wire type leaves
//! this crate.

#[rustfmt::skip]
#[allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    unused_imports,
    dead_code,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "generated code, not edited by hand; it reads what its verifier has checked"
)]
mod layout_generated;

#[rustfmt::skip]
#[allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    unused_imports,
    dead_code,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "generated code, not edited by hand; it reads what its verifier has checked"
)]
mod messages_generated;

/// Fixed layouts: structs of bytes, read without a verifier.
pub(crate) mod layout {
    pub(crate) use super::layout_generated::metastore::net::{
        BatchItem, CancelBase, ChunkBase, CountBase, FrameBase, GetBase, GetManyBase, ReadBase,
        ShardRevision,
    };
}

/// Tables: roots that are verified once, when they are decoded.
pub(crate) use messages_generated::metastore::net as messages;
