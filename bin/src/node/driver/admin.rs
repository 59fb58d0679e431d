//! What operators ask of the replicas of this core, and what becomes of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use glommio::timer::Timer;
use metastore_engine::{
    ChangeTicket, CoreId, Input, MembersChange, MembersEffect, MembersInput, NodeId, PeerCore,
    ReplicaId, Role, ShardId,
};
use metastore_net::server::ConnectionId;
use metastore_net::{
    AdminReply, AdminRequest, Answered, ErrorCode, FrameKind, RequestId, WireError, append_admin,
    append_error,
};

use super::Driver;
use crate::log;
use crate::node::cluster::ClusterNode;
use crate::node::wire;

/// Requests that wait for what becomes of them. Each shard makes one change at a time.
const WAITING_MAX: usize = 1_024;
/// How long a change may take where nobody says.
const DEADLINE_DEFAULT_MS: u32 = 5_000;

/// How long to wait before `node.toml` is written again that could not be.
const UNLIST_RETRY: Duration = Duration::from_secs(1);

/// Who asked, and under which number.
type Asker = (ConnectionId, RequestId);

/// Requests of operators that wait for their answers.
#[derive(Default)]
pub(super) struct Waiting {
    last_ticket: Cell<u64>,
    changes: RefCell<BTreeMap<ChangeTicket, (Asker, ShardId)>>,
    creations: RefCell<BTreeMap<ReplicaId, Vec<Asker>>>,
    /// Nodes that are to be known from now on, or not any more: that is written down first.
    nodes: RefCell<Vec<(Asker, NodeChange)>>,
}

/// A change of the list of nodes.
#[derive(Debug, Clone)]
enum NodeChange {
    Add {
        node: ClusterNode,
        /// Which data it has, if whoever asks knows.
        data_id: Option<u64>,
    },
    Forget {
        node: NodeId,
    },
}

impl Waiting {
    fn is_full(&self) -> bool {
        let creations = self.creations.borrow();
        let creations: usize = creations.values().map(Vec::len).sum();
        self.changes.borrow().len() + creations + self.nodes.borrow().len() >= WAITING_MAX
    }

    fn add_change(&self, asker: Asker, shard: ShardId) -> ChangeTicket {
        let ticket = ChangeTicket(self.last_ticket.get() + 1);
        self.last_ticket.set(ticket.0);
        self.changes.borrow_mut().insert(ticket, (asker, shard));
        ticket
    }

    fn add_creation(&self, replica: ReplicaId, asker: Asker) {
        let mut creations = self.creations.borrow_mut();
        creations.entry(replica).or_default().push(asker);
    }
}

impl Driver {
    /// Does what an operator asks for, or begins it.
    pub(super) fn on_admin(&self, asker: Asker, deadline_ms: u32, request: AdminRequest<'_>) {
        let shard = ShardId(request.shard());
        if self.waiting.is_full() {
            self.refuse(asker, &wire::overloaded());
            return;
        }
        let change = wire::members_change(&request);
        let is_of_replicas = matches!(
            request,
            AdminRequest::CreateReplica { .. } | AdminRequest::RemovedReplica { .. }
        );
        // It has nobody to speak to, and nobody else has what it holds.
        if (change.is_some() || is_of_replicas) && !self.peers.has_joined() {
            self.refuse(asker, &wire::alone());
            return;
        }
        if let Some(change) = change {
            self.begin_change(asker, shard, change, deadline_ms);
            return;
        }
        match request {
            AdminRequest::Members { .. } => self.answer(asker, &self.describe_members(shard)),
            AdminRequest::CreateReplica { replica, .. } => {
                if let Err(error) = wire::check_core(&self.facts, shard) {
                    self.refuse(asker, &error);
                    return;
                }
                let replica = ReplicaId(replica);
                self.waiting.add_creation(replica, asker);
                self.step(Input::Members(MembersInput::Create { replica, shard }));
            }
            AdminRequest::TransferLeader { to, .. } => match self.leads(shard) {
                true => {
                    let to = to.map(ReplicaId);
                    self.step(Input::HandOver { shard, to });
                    self.answer(asker, &AdminReply::default());
                }
                false => self.refuse(asker, &self.not_leader(shard)),
            },
            AdminRequest::RemovedReplica { replica, .. } => {
                let replica = ReplicaId(replica);
                self.step(Input::Members(MembersInput::Removed { replica }));
                self.answer(asker, &AdminReply::default());
            }
            AdminRequest::Nodes => {
                let node = self.keeper.node();
                self.answer(asker, &wire::nodes_reply(&self.facts.places.nodes(), &node));
            }
            AdminRequest::AddNode(entry) => match wire::to_cluster_node(&entry) {
                Ok(node) => {
                    let data_id = (entry.data_id != 0).then_some(entry.data_id);
                    self.change_nodes(asker, NodeChange::Add { node, data_id });
                }
                Err(error) => self.refuse(asker, &error),
            },
            AdminRequest::ForgetNode { node_id } => {
                let node = NodeId(node_id);
                match self.check_forgotten(node) {
                    Ok(()) => self.change_nodes(asker, NodeChange::Forget { node }),
                    Err(error) => self.refuse(asker, &error),
                }
            }
            AdminRequest::AddLearner { .. }
            | AdminRequest::RemoveLearner { .. }
            | AdminRequest::ChangeVoters { .. } => unreachable!("these are changes of members"),
        }
    }

    fn begin_change(&self, asker: Asker, shard: ShardId, change: MembersChange, deadline_ms: u32) {
        let ticket = self.waiting.add_change(asker, shard);
        let deadline_ms = match deadline_ms {
            0 => DEADLINE_DEFAULT_MS,
            asked => asked,
        };
        self.step(Input::Members(MembersInput::Change {
            ticket,
            shard,
            change,
            deadline_ms,
        }));
    }

    fn describe_members(&self, shard: ShardId) -> AdminReply {
        let core = self.core.borrow();
        let here = core.replicas().find(|replica| replica.shard == shard);
        let members = core.members(self.clock.now(), shard);
        wire::members_reply(here.as_ref(), &members)
    }

    fn leads(&self, shard: ShardId) -> bool {
        let core = self.core.borrow();
        let mut replicas = core.replicas();
        replicas.any(|one| one.shard == shard && one.role == Role::Leader)
    }

    fn here(&self) -> PeerCore {
        PeerCore {
            node: NodeId(self.facts.hello.node_id),
            core: CoreId(self.facts.hello.core_index),
        }
    }

    fn not_leader(&self, shard: ShardId) -> WireError {
        let core = self.core.borrow();
        let leader = core.leaders().find(|&(led, _)| led == shard);
        let leader = leader.and_then(|(_, leader)| leader);
        wire::not_leader(&self.facts, shard, leader)
    }

    fn answer(&self, (connection, id): Asker, reply: &AdminReply) {
        self.connections.reply(connection, |out| {
            append_admin(out, id, reply);
            Answered::Last
        });
    }

    fn refuse(&self, (connection, id): Asker, error: &WireError) {
        self.connections.reply(connection, |out| {
            append_error(out, FrameKind::Admin, id, error);
            Answered::Last
        });
    }

    /// Something has become of members of a shard, or of a replica of this core.
    pub(super) fn on_members(self: &Rc<Self>, effect: MembersEffect) {
        match effect {
            MembersEffect::Changed { ticket, result } => {
                let asker = self.waiting.changes.borrow_mut().remove(&ticket);
                let (asker, shard) = asker.expect("each change is answered once");
                match result {
                    Ok(index) => self.answer(
                        asker,
                        &AdminReply {
                            index: index.0,
                            ..AdminReply::default()
                        },
                    ),
                    Err(refused) => {
                        let error = wire::change_refused(&self.facts, shard, &refused);
                        self.refuse(asker, &error);
                    }
                }
            }
            MembersEffect::Created {
                replica,
                shard,
                result,
            } => {
                log::info!(
                    "a replica was asked for",
                    shard = u64::from(shard.0),
                    replica = replica.0,
                    result = log::text(&format_args!("{result:?}")),
                );
                let askers = self.waiting.creations.borrow_mut().remove(&replica);
                for asker in askers.unwrap_or_default() {
                    match &result {
                        Ok(()) => self.answer(asker, &AdminReply::default()),
                        Err(refused) => self.refuse(asker, &wire::create_refused(refused)),
                    }
                }
            }
            MembersEffect::Unlist { replica, shard } => {
                log::info!(
                    "a replica is no member any more and goes",
                    shard = u64::from(shard.0),
                    replica = replica.0,
                );
                glommio::spawn_local(Rc::clone(self).unlist(replica)).detach();
            }
            MembersEffect::Removed { replica, shard } => {
                log::info!(
                    "a replica is gone",
                    shard = u64::from(shard.0),
                    replica = replica.0,
                );
                self.facts.places.forget_home(shard, self.here());
            }
        }
    }

    fn change_nodes(&self, asker: Asker, change: NodeChange) {
        self.waiting.nodes.borrow_mut().push((asker, change));
        self.turn_wanted.set();
    }

    /// Whether a node may be taken off the list, as far as it is known here: whoever asks has asked the leaders.
    fn check_forgotten(&self, node: NodeId) -> Result<(), WireError> {
        let refused = WireError::new(ErrorCode::BadRequest);
        if node.0 == self.facts.hello.node_id {
            let why = format!("this is node {node}: stop it, then have the others forget it");
            return Err(refused.with_message(why));
        }
        match self.facts.places.lives_on(node) {
            None => Ok(()),
            Some(shard) => {
                let why = format!("shard {shard} has a replica on node {node}");
                Err(refused.with_message(why))
            }
        }
    }

    /// Begins to write down the nodes that operators have named.
    pub(super) fn add_nodes(self: &Rc<Self>) {
        for (asker, change) in self.waiting.nodes.take() {
            glommio::spawn_local(Rc::clone(self).write_nodes(asker, change)).detach();
        }
    }

    async fn write_nodes(self: Rc<Self>, asker: Asker, change: NodeChange) {
        let (keeper, asked) = (self.keeper.clone(), change.clone());
        let written = self.blocking.change_file(move || match asked {
            NodeChange::Add { node, data_id } => {
                let id = node.node;
                keeper.add_node(node)?;
                // Who is known with other data is refused when it comes, and says so then.
                data_id.map_or(Ok(()), |data_id| keeper.hear_of_data(id, data_id).map(drop))
            }
            NodeChange::Forget { node } => keeper.forget_node(node),
        });
        match written.await {
            Ok(()) => {
                match change {
                    NodeChange::Add { node, .. } => self.facts.places.set_node(node),
                    NodeChange::Forget { node } => self.facts.places.remove_node(node),
                }
                self.answer(asker, &AdminReply::default());
            }
            Err(error) => {
                let code = match error.is_usage() {
                    true => ErrorCode::BadRequest,
                    false => ErrorCode::Unavailable,
                };
                self.refuse(asker, &WireError::new(code).with_message(error.to_string()));
            }
        }
        self.connections.flush();
    }

    /// Takes a replica off the list of those that the next start looks for. Until that is durable it stays fenced, which
    /// costs its room and nothing else.
    async fn unlist(self: Rc<Self>, replica: ReplicaId) {
        let mut is_told = false;
        loop {
            let keeper = self.keeper.clone();
            let unlisted = move || keeper.unlist(replica);
            let unlisted = self.blocking.change_file(unlisted).await;
            let Err(error) = unlisted else {
                break;
            };
            // Once: a disk stays full for long.
            if !is_told {
                log::warning!(
                    "a replica that is gone stays on the list; trying again until it is off",
                    replica = replica.0,
                    error = log::text(&error),
                );
                is_told = true;
            }
            Timer::new(UNLIST_RETRY).await;
        }
        self.step(Input::Members(MembersInput::Unlisted { replica }));
        self.turn_wanted.set();
    }
}
