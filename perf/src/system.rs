//! The systems that one and the same load is given to.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::operation::{Mix, OperationKind};
use crate::routes::Routes;

/// A system whose protocol the load speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    /// The store of this repository.
    MetaStore,
    /// `redis-server`, by its own protocol.
    Redis,
    /// etcd, by gRPC.
    Etcd,
}

/// Where load goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) system: System,
    /// Connections are spread over these evenly.
    pub(crate) addresses: &'a [SocketAddr],
    /// Of a cluster of this repository, instead of the addresses: each request goes to whoever leads its key.
    pub(crate) routes: Option<&'a Routes>,
}

impl System {
    /// The name for people.
    pub(crate) fn words(self) -> &'static str {
        match self {
            System::MetaStore => "metastore",
            System::Redis => "redis",
            System::Etcd => "etcd",
        }
    }

    /// Whether every operation of a mix can be asked for.
    #[cfg(test)]
    pub(crate) fn offers(self, mix: Mix) -> bool {
        self.lacks(mix).is_none()
    }

    /// Why a mix cannot be asked for, in words; `None` if it can.
    pub(crate) fn lacks(self, mix: Mix) -> Option<&'static str> {
        mix.kinds()
            .iter()
            .find_map(|&kind| self.lacks_operation(kind))
    }

    fn lacks_operation(self, kind: OperationKind) -> Option<&'static str> {
        match (self, kind) {
            (System::Etcd, OperationKind::Ping) => Some("etcd has no request that asks nothing"),
            (System::Redis, OperationKind::CompareAndSwap) => {
                Some("redis has no write that depends on a key's revision")
            }
            (System::Redis, OperationKind::List) => Some("redis keeps its keys in no order"),
            (System::MetaStore, _)
            | (System::Etcd, _)
            | (
                System::Redis,
                OperationKind::Ping
                | OperationKind::Get
                | OperationKind::Put
                | OperationKind::Batch,
            ) => None,
        }
    }
}

impl<'a> Target<'a> {
    /// A store of this repository.
    pub(crate) fn metastore(addresses: &'a [SocketAddr]) -> Target<'a> {
        Target {
            system: System::MetaStore,
            addresses,
            routes: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeySpace;
    use crate::operation::Operation;

    #[test]
    fn what_a_system_lacks_has_its_reason() {
        let lacks = |system: System, operation| system.lacks(Mix::Only(operation));
        let space = KeySpace::LONG;
        for system in [System::MetaStore, System::Redis, System::Etcd] {
            for operation in [
                Operation::Put(space),
                Operation::Get(space),
                Operation::Batch(space, 64),
            ] {
                assert_eq!(lacks(system, operation), None);
            }
        }
        assert!(lacks(System::Etcd, Operation::Ping).is_some());
        assert!(lacks(System::Redis, Operation::List(space)).is_some());
        assert!(lacks(System::Redis, Operation::CompareAndSwap(space)).is_some());
        assert!(System::MetaStore.offers(Mix::Metadata(space)));
        assert!(System::Etcd.offers(Mix::Metadata(space)));
        assert!(!System::Redis.offers(Mix::Metadata(space)));
    }
}
