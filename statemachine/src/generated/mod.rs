//! What `flatc` made of `schema/command.fbs`; regenerate it with
//! `flatc --rust -o statemachine/src/generated statemachine/schema/command.fbs`.

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

pub(crate) use command_generated::metastore::{
    BatchHeader, CommandBase, OutcomeBase, RowBase, SessionStamp,
};

const _: () = {
    assert!(size_of::<CommandBase>() == 16);
    assert!(size_of::<SessionStamp>() == 32);
    assert!(size_of::<BatchHeader>() == 32);
    assert!(size_of::<OutcomeBase>() == 24);
    assert!(size_of::<RowBase>() == 40);
};
