use super::{CommandError, Exit};
use crate::arguments::ImportTreeArguments;
use std::io::Write;
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("x")]
    X,
}
impl TreeError {
    pub(super) fn exit(&self) -> Exit {
        Exit::Unavailable
    }
}
pub(super) fn run(_: &ImportTreeArguments, _: &mut dyn Write) -> Result<Exit, CommandError> {
    Err(TreeError::X.into())
}
