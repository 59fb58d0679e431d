//! Where the keys of a request are.

use metastore_statemachine::{Command, Named, NamespaceId, Scope, ShardList, Structured, slot_of};
use metastore_wal::{CoreId, ShardId};

use super::{Core, Route};
use crate::replica::Replica;

/// Keys that an error names at most.
const STRANGERS_MAX: usize = 8;

impl Core {
    pub(super) fn route(&self, namespace: NamespaceId, key: &[u8]) -> Option<Route> {
        let rule = self.config.namespaces.rule(namespace)?;
        let slot = slot_of(namespace, rule.routing_part(key));
        Some(self.routes[usize::from(slot.0)])
    }

    /// The shards that a range touches, of those that are meant, and the cores where they live.
    pub(super) fn shards_of_range(
        &self,
        namespace: NamespaceId,
        prefix: &[u8],
        scope: Scope,
        among: ShardList<'_>,
    ) -> Option<Vec<(ShardId, CoreId)>> {
        let rule = self.config.namespaces.rule(namespace)?;
        let mut shards = match rule.shared_routing_part(prefix, scope) {
            Some(routing_part) => {
                let route = self.routes[usize::from(slot_of(namespace, routing_part).0)];
                vec![(route.shard, route.core)]
            }
            None => {
                let shards = self.config.shard_map.shards();
                shards
                    .iter()
                    .map(|location| (location.shard, location.core))
                    .collect()
            }
        };
        shards.retain(|(shard, _)| among.has(shard.0));
        Some(shards)
    }

    /// The replica of a shard that lives here, if one does.
    pub(super) fn find_replica(&self, shard: ShardId) -> Option<usize> {
        let found = self.replicas.binary_search_by_key(&shard, Replica::shard);
        found.ok()
    }

    /// Those of the keys that are in another shard, as many as an error names.
    pub(super) fn keys_elsewhere<'k>(
        &self,
        namespace: NamespaceId,
        keys: impl Iterator<Item = &'k [u8]>,
        shard: ShardId,
    ) -> Vec<Vec<u8>> {
        keys.filter(|key| !self.is_key_in(namespace, key, shard))
            .take(STRANGERS_MAX)
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// What a command with structure names that is not, or not only, in its shard, as much as an error names.
    pub(super) fn strangers(&self, command: &Command<'_>, shard: ShardId) -> Vec<Vec<u8>> {
        let structured = Structured::of(command).expect("the edge checked the command");
        let mut strangers = Vec::new();
        let Some(structured) = structured else {
            return strangers;
        };
        structured.for_each_named(&mut |named| {
            if strangers.len() == STRANGERS_MAX {
                return;
            }
            match named {
                Named::Key(key) if !self.is_key_in(command.namespace, key, shard) => {
                    strangers.push(key.to_vec());
                }
                Named::Range(range) => {
                    let shards = self.shards_of_range(
                        command.namespace,
                        range.prefix,
                        range.scope,
                        ShardList::ALL,
                    );
                    let only_there =
                        shards.is_some_and(|shards| shards.iter().all(|&(of, _)| of == shard));
                    if !only_there {
                        strangers.push(range.label().to_vec());
                    }
                }
                Named::Key(_) => {}
            }
        });
        strangers
    }

    fn is_key_in(&self, namespace: NamespaceId, key: &[u8], shard: ShardId) -> bool {
        self.route(namespace, key)
            .is_some_and(|route| route.shard == shard)
    }
}
