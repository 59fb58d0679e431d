//! The end of a transaction: one command that applies everything, or nothing.

use crate::async_client::call::Effect;
use crate::async_client::error::Error;
use crate::async_client::settings::RetryUnknown;
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
        let retry = client.shared.settings().retry_unknown;
        let effect = effect(retry, &reads, &writes.mutations);
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
fn effect(retry: RetryUnknown, reads: &ReadSet, mutations: &[Mutation]) -> Effect {
    let is_once = mutations
        .iter()
        .any(|one| one.kind == CommandKind::Put && reads.covers(&one.key));
    if is_once {
        Effect::WriteOnce
    } else {
        Effect::Write(retry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutation(kind: CommandKind, key: &str) -> Mutation {
        Mutation {
            kind,
            key: key.into(),
            value: Vec::new(),
        }
    }

    #[test]
    fn only_a_commit_that_puts_what_it_has_read_may_be_sent_again_unasked() {
        let mut reads = ReadSet::default();
        reads.add_key(b"/d/read").expect("small");
        let effect_of = |kind, key| effect(RetryUnknown::No, &reads, &[mutation(kind, key)]);
        assert_eq!(effect_of(CommandKind::Put, "/d/read"), Effect::WriteOnce);
        // A blind put would be applied over what others wrote meanwhile; a delete may change nothing, and then the
        // repetition meets no conflict.
        for (kind, key) in [
            (CommandKind::Put, "/d/blind"),
            (CommandKind::Delete, "/d/read"),
            (CommandKind::Append, "/d/blind"),
        ] {
            assert_eq!(effect_of(kind, key), Effect::Write(RetryUnknown::No));
        }
    }

    #[test]
    fn a_transaction_that_read_nothing_cannot_conflict() {
        let namespace = NamespaceId::DEFAULT;
        let writes = [mutation(CommandKind::Put, "/d/k")];
        let reads = ReadSet::default();
        let (kind, _) = encode(namespace, None, &reads, &writes);
        assert_eq!(kind, CommandKind::Txn);
        let (kind, _) = encode(namespace, Some(Revision(7)), &reads, &writes);
        assert_eq!(kind, CommandKind::Commit);
    }
}
