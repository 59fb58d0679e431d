//! Reads of keys, and questions about the store.

use crate::async_client::Client;
use crate::async_client::call::{Answer, Call, Effect, answer_of};
use crate::async_client::error::Error;
use crate::async_client::{Operation, boxed};
use crate::frame::FrameKind;
use crate::owned::{GetAnswer, GetManyAnswer};
use crate::read::{Consistency, GetManyRequest, GetRequest};
use metastore_statemachine::{GetQuery, Revision};
use std::time::Duration;
use tokio::time::Instant;

/// Reads one key. Made by [`Client::get`]; `.await` it.
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited"]
pub struct Get<'a> {
    client: &'a Client,
    key: &'a [u8],
    at: Option<Revision>,
    deadline: Duration,
}

impl<'a> Get<'a> {
    pub(super) fn new(client: &'a Client, key: &'a [u8]) -> Get<'a> {
        Get {
            deadline: client.shared.settings().deadline,
            client,
            key,
            at: None,
        }
    }

    /// Reads at a revision of the key's shard.
    pub fn at(mut self, revision: Revision) -> Get<'a> {
        self.at = Some(revision);
        self
    }

    /// How long it may take, retries included.
    pub fn deadline(mut self, deadline: Duration) -> Get<'a> {
        self.deadline = deadline;
        self
    }
}

impl IntoFuture for Get<'_> {
    type Output = Result<GetAnswer, Error>;
    type IntoFuture = Operation<GetAnswer>;

    fn into_future(self) -> Operation<GetAnswer> {
        let client = self.client;
        let request = GetRequest {
            query: GetQuery {
                namespace: client.namespace,
                key: self.key,
                at: self.at,
            },
            consistency: Consistency::Linearizable,
        };
        let call = client.call_on_key(FrameKind::Get, self.key, Effect::Read, |body| {
            request.encode_into(body);
        });
        let answer = client.run(call, self.deadline);
        boxed(async move { Ok(answer_of!(answer.await?.answer, Get)) })
    }
}

/// Reads several keys of one shard at one revision. Made by [`Client::get_many`]; `.await` it.
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited"]
pub struct GetMany<'a> {
    client: &'a Client,
    keys: Vec<&'a [u8]>,
    at: Option<Revision>,
    deadline: Duration,
}

impl<'a> GetMany<'a> {
    pub(super) fn new(client: &'a Client, keys: Vec<&'a [u8]>) -> GetMany<'a> {
        GetMany {
            deadline: client.shared.settings().deadline,
            client,
            keys,
            at: None,
        }
    }

    /// Reads at a revision of the keys' shard.
    pub fn at(mut self, revision: Revision) -> GetMany<'a> {
        self.at = Some(revision);
        self
    }

    /// How long it may take, retries included.
    pub fn deadline(mut self, deadline: Duration) -> GetMany<'a> {
        self.deadline = deadline;
        self
    }
}

impl IntoFuture for GetMany<'_> {
    type Output = Result<GetManyAnswer, Error>;
    type IntoFuture = Operation<GetManyAnswer>;

    fn into_future(self) -> Operation<GetManyAnswer> {
        let client = self.client;
        let first = self.keys.first().copied().unwrap_or_default();
        let call = client.call_on_key(FrameKind::GetMany, first, Effect::Read, |body| {
            let consistency = Consistency::Linearizable;
            GetManyRequest::encode_into(body, client.namespace, self.at, consistency, &self.keys);
        });
        let answer = client.run(call, self.deadline);
        boxed(async move { Ok(answer_of!(answer.await?.answer, GetMany)) })
    }
}

/// Asks any core something without a body.
pub(super) async fn ask(client: &Client, kind: FrameKind) -> Result<Answer, Error> {
    let call = Call::question(kind);
    let deadline = Instant::now() + client.shared.settings().deadline;
    Ok(client.shared.call(call, deadline).await?.answer)
}
