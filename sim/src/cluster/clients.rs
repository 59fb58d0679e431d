//! Clients of a cluster: each asks for one thing at a time, goes to another node when it is sent away, and never asks
//! again for what may have happened.

use std::collections::BTreeMap;

use metastore_engine::{ConnectionId, NodeId, PeerCore, ShardId, Time};
use metastore_net::{Happened, RequestId, Response, WireError};
use metastore_statemachine::{OutcomeCode, Revision, Row};

use super::link::ClientEnd;
use super::workload::Known;
use crate::checkers::linearizability::{Action, End};
use crate::oracle::{FoundRow, Moment};

/// How requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterTally {
    /// Operations that were answered.
    pub succeeded: u64,
    /// Operations that were certainly not done, however often they were tried.
    pub failed: u64,
    /// Mutations of which nobody knows.
    pub unknown: u64,
    /// Tries that were answered "not here" or "not now", and were repeated.
    pub retries: u64,
    /// Connections that were made.
    pub connections: u64,
}

/// What a client is waiting for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) shard: ShardId,
    pub(super) action: Action,
    /// How often it was tried.
    pub(super) tries: u32,
    /// Names the present try, so that what was meant for an earlier one is told apart.
    pub(super) number: u64,
    pub(super) sent: Moment,
    /// The connection and request of the present try; `None` between two tries.
    pub(super) under_way: Option<(ConnectionId, RequestId)>,
    pub(super) began: Time,
}

/// A client.
pub(super) struct Client {
    pub(super) links: BTreeMap<PeerCore, ClientEnd>,
    /// Where each shard was led from when it last answered.
    pub(super) leaders: BTreeMap<ShardId, NodeId>,
    pub(super) known: Known,
    pub(super) asked: Option<Asked>,
    pub(super) next_number: u64,
}

/// What an answer means for what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is done.
    Ended(End),
    /// It certainly was not done: try again.
    NotDone,
    /// The node does not lead the shard; it may know which one does.
    Elsewhere(Option<NodeId>),
    /// It may have been done.
    Unknown,
}

impl Client {
    pub(super) fn new() -> Client {
        Client {
            links: BTreeMap::new(),
            leaders: BTreeMap::new(),
            known: Known::new(),
            asked: None,
            next_number: 0,
        }
    }

    /// Forgets a connection; true when it was there.
    pub(super) fn drop_link(&mut self, id: ConnectionId) -> bool {
        let before = self.links.len();
        self.links.retain(|_, link| link.id != id);
        self.links.len() < before
    }

    pub(super) fn link_of(&mut self, id: ConnectionId) -> Option<&mut ClientEnd> {
        self.links.values_mut().find(|link| link.id == id)
    }

    /// Remembers the revisions of keys that an answer told.
    pub(super) fn learn(&mut self, action: &Action, end: &End) {
        match (action, end) {
            (Action::Mutate(mutation), End::Changed { revision, .. })
            | (
                Action::Mutate(mutation),
                End::Conflict {
                    found: revision, ..
                },
            ) => {
                self.known.insert(mutation.key.clone(), *revision);
            }
            (Action::Read(keys), End::Rows { rows, .. }) => {
                for (key, row) in keys.iter().zip(rows) {
                    let revision = row.as_ref().map_or(Revision(0), |row| row.mod_revision);
                    self.known.insert(key.clone(), revision);
                }
            }
            (
                Action::Mutate(_) | Action::Read(_),
                End::Changed { .. }
                | End::Conflict { .. }
                | End::Absent { .. }
                | End::Rows { .. }
                | End::Unknown,
            ) => {}
        }
    }
}

/// What a response says.
pub(super) fn meaning_of(response: &Response<'_>, at: Moment) -> Result<Meaning, &'static str> {
    Ok(match response {
        Response::Command(outcome) => match outcome.code {
            OutcomeCode::Done => Meaning::Ended(End::Changed {
                at,
                revision: outcome.revision,
                number: outcome.number,
            }),
            OutcomeCode::Absent => Meaning::Ended(End::Absent {
                at,
                revision: outcome.revision,
            }),
            OutcomeCode::Conflict => Meaning::Ended(End::Conflict {
                at,
                found: outcome.revision,
            }),
            OutcomeCode::NotANumber
            | OutcomeCode::Overflow
            | OutcomeCode::TooLarge
            | OutcomeCode::Compacted
            | OutcomeCode::FutureRevision
            | OutcomeCode::OverBudget => return Err("nothing asked for can end like this"),
        },
        Response::Get(get) => Meaning::Ended(End::Rows {
            at,
            revision: get.position.revision,
            rows: vec![get.row.as_ref().map(FoundRow::of)],
        }),
        Response::GetMany(many) => {
            let rows = many
                .rows()
                .map(|row: Option<Row<'_>>| row.as_ref().map(FoundRow::of));
            Meaning::Ended(End::Rows {
                at,
                revision: many.position.revision,
                rows: rows.collect(),
            })
        }
        Response::Error(error) => meaning_of_error(error),
        Response::Hello(_)
        | Response::Pong
        | Response::Batch(_)
        | Response::Range(_)
        | Response::Cancelled
        | Response::Status(_)
        | Response::ShardMap(_)
        | Response::Count(_) => return Err("nobody asked for it"),
    })
}

fn meaning_of_error(error: &WireError) -> Meaning {
    match (error.happened, error.code) {
        (Happened::Unknown, _) => Meaning::Unknown,
        (Happened::NotDone, metastore_net::ErrorCode::NotLeader) => {
            Meaning::Elsewhere(error.hint.parse().ok().map(NodeId))
        }
        (Happened::NotDone, _) => Meaning::NotDone,
    }
}
