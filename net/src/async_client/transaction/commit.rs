//! The end of a transaction: one command that applies everything, or nothing.

use crate::async_client::Client;
use crate::async_client::call::Effect;
use crate::async_client::error::Error;
use crate::async_client::structured::check_commit;
use crate::async_client::transaction::buffer::{Mutation, ReadSet};
use crate::async_client::transaction::{State, Transaction};
use crate::async_client::write::plain_command;
use crate::frame::FrameKind;
use metastore_statemachine::{
    Command, CommandKind, Commit, NamespaceId, Operation, Revision, Structured, Txn,
};

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitAnswer {
    pub(super) revision: Option<Revision>,
    pub(super) read_revision: Option<Revision>,
}

impl Transaction {
    /// Applies what was written. What is written later is lost.
    pub(super) async fn commit(&self, attempts: u32) -> Result<CommitAnswer, Error> {
        let position = *self.inner.position.lock().await;
        let read_revision = position.map(|position| position.revision);
        let State { reads, writes, .. } = std::mem::take(&mut *self.state());
        writes.check_size()?;
        if writes.mutations.is_empty() {
            // All reads showed one revision of one shard, and the first showed all that was answered before: that is
            // where this transaction stands among the others.
            return Ok(CommitAnswer {
                revision: None,
                read_revision,
            });
        }
        let client = &self.inner.client;
        let (kind, value) = encode(client.namespace, read_revision, &reads, &writes.mutations);
        super::buffer::check_size(value.len())?;
        let key = &writes.mutations[0].key;
        let command = plain_command(kind, client.namespace, key, &value);
        let effect = effect(client, &reads, &writes.mutations);
        let call = client.call_on_key(FrameKind::Command, key, effect, |body| {
            command.encode_into(body);
        });
        let answered = client.shared.call(call, self.inner.deadline).await?;
        let revision = Some(check_commit(answered, attempts)?);
        Ok(CommitAnswer {
            revision,
            read_revision,
        })
    }
}

/// A commit; of a transaction that read nothing, one that cannot conflict.
fn encode(
    namespace: NamespaceId,
    read_revision: Option<Revision>,
    reads: &ReadSet,
    mutations: &[Mutation],
) -> (CommandKind, Vec<u8>) {
    let commands = mutations
        .iter()
        .map(|one| plain_command(one.kind, namespace, &one.key, &one.value));
    let structured = match read_revision {
        Some(read_revision) => Structured::Commit(Commit {
            read_revision,
            read_keys: reads.keys.iter().map(Vec::as_slice).collect(),
            read_ranges: reads.ranges.iter().map(|range| range.as_range()).collect(),
            mutations: commands.collect::<Vec<Command<'_>>>(),
        }),
        None => Structured::Txn(Txn {
            compares: Vec::new(),
            then: commands.map(Operation::Mutation).collect(),
            otherwise: Vec::new(),
        }),
    };
    (structured.kind(), structured.encode())
}

/// A commit that puts a key that it has read makes its own repetition a conflict: of all its sendings one at most is
/// applied.
fn effect(client: &Client, reads: &ReadSet, mutations: &[Mutation]) -> Effect {
    let settings = client.shared.settings();
    let is_once = mutations
        .iter()
        .any(|one| one.kind == CommandKind::Put && reads.covers(&one.key));
    if is_once {
        Effect::WriteOnce
    } else {
        Effect::Write(settings.retry_unknown)
    }
}
