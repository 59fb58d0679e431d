use super::{CommandError, Exit};
use crate::arguments::WalCommand;
use std::io::Write;
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError {
    #[error("x")]
    X,
}
impl WalError {
    pub(super) fn exit(&self) -> Exit {
        Exit::Unavailable
    }
}
pub(super) fn run(_: &WalCommand, _: &mut dyn Write) -> Result<Exit, CommandError> {
    Err(WalError::X.into())
}
