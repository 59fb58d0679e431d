//! The protocol of etcd.

use super::{CallId, Reply, Request};

#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcdError {
    #[error("etcd cannot be asked yet")]
    Unspoken,
}

#[derive(Debug)]
pub(crate) struct Connection(Vec<u8>);

impl Connection {
    pub(super) fn new() -> Connection {
        Connection(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec())
    }
    pub(super) fn is_ready(&self) -> bool {
        false
    }
    pub(super) fn submit(&mut self, _: &Request<'_>) -> CallId {
        unreachable!("it is never ready")
    }
    pub(super) fn outbound(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
    pub(super) fn on_bytes(
        &mut self,
        _: &[u8],
        _: impl FnMut(CallId, &Reply<'_>),
    ) -> Result<(), EtcdError> {
        Err(EtcdError::Unspoken)
    }
}
