//! What `flatc` made of `schema/*.fbs`; `scripts/generate-schemas` writes and checks it.

#[allow(
    clippy::all,
    clippy::restriction,
    dead_code,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    unused_imports,
    reason = "generated code keeps its own style"
)]
#[rustfmt::skip]
mod command_generated;

#[allow(
    clippy::all,
    clippy::restriction,
    dead_code,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    unused_imports,
    reason = "generated code keeps its own style; it reads what its verifier has checked"
)]
#[rustfmt::skip]
mod structured_generated;

/// Tables: the values of commands with structure.
pub(crate) use structured_generated::metastore as tables;

pub(crate) use command_generated::metastore::{
    BatchHeader, CommandBase, DetailBase, OutcomeBase, ResultBase, RowBase, SessionStamp,
    ShardRevision, TxnBase,
};

const _: () = {
    assert!(size_of::<CommandBase>() == 16);
    assert!(size_of::<SessionStamp>() == 32);
    assert!(size_of::<BatchHeader>() == 32);
    assert!(size_of::<OutcomeBase>() == 24);
    assert!(size_of::<RowBase>() == 40);
    assert!(size_of::<DetailBase>() == 8);
    assert!(size_of::<TxnBase>() == 8);
    assert!(size_of::<ResultBase>() == 8);
    assert!(size_of::<ShardRevision>() == 16);
};
