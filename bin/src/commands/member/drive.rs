//! Brings the members of shards to where an operator wants them, step by step.
//!
//! ```text
//!   look at the leader ──> what is the next step? ──> ask for it ──┐
//!        ^                       │                                 │
//!        │                       └──> none: done                   │
//!        └───────────────── whatever became of it ─────────────────┘
//! ```
//!
//! Nothing is remembered from one look to the next, so that it does not matter whether a step was taken by this process,
//! by one that was interrupted or by another operator, nor whether the answer to a step was lost.

use std::time::{Duration, Instant};

use metastore_engine::ShardId;
use metastore_net::{AdminRequest, ReplicaHome, SpareVoter};

use crate::commands::operator::{
    AskFailed, Operator, PAUSE, ReplicaIds, ShardView, home, in_parallel,
};
use crate::commands::{CommandError, tell};
use crate::node::cluster::core_of_newcomer;

/// How long one change may wait for what it needs before the members are looked at again.
const CHANGE_WAIT: Duration = Duration::from_secs(10);
/// Between two words about what a shard waits for.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// What a command wants of the members of each shard.
pub(super) trait Goal: Sync {
    /// The node whose replicas are to go, if any.
    fn from(&self) -> Option<u32>;
    /// The node whose replicas are to come, if any.
    fn onto(&self) -> Option<u32>;
    /// What is to be done next with members that are not in a joint state.
    fn next(&self, view: &ShardView) -> Step;
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: the members are as they shall be.
    Done,
    /// Nothing: the replica that should have taken a place only learns, because somebody else has removed the other.
    LearnsOnly,
    /// It cannot be.
    Refused(String),
    /// A replica is to be created on this node, and to learn.
    Settle(u32),
    /// The leader is to remove a learner.
    RemoveLearner(u64),
    /// The leader is to change who votes.
    ChangeVoters {
        promoted: Option<u64>,
        removed: Option<u64>,
    },
}

/// How it ended for a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The members are as they shall be, and were not before.
    Made,
    /// They were before.
    Nothing,
    /// [`Step::LearnsOnly`].
    LearnsOnly,
    /// Why not.
    NotDone(String),
}

/// What became of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardReport {
    pub(super) shard: u32,
    /// The replica that had to go.
    pub(super) gone: Option<u64>,
    /// The replica that has come.
    pub(super) came: Option<u64>,
    pub(super) end: End,
    pub(super) took: Duration,
}

/// How a goal is pursued.
pub(super) struct Drive<'a> {
    goal: &'a dyn Goal,
    spare: SpareVoter,
    ids: ReplicaIds,
    deadline: Instant,
}

/// What became of a step.
enum Flow {
    Goes,
    Waits(String),
    Ends(End),
}

impl<'a> Drive<'a> {
    pub(super) fn new(goal: &'a dyn Goal, spare: SpareVoter, deadline: Instant) -> Drive<'a> {
        Drive {
            goal,
            spare,
            ids: ReplicaIds::default(),
            deadline,
        }
    }

    /// Pursues the goal in all shards, a few at a time.
    pub(super) fn all(&self, operator: &Operator, at_once: u16) -> Vec<ShardReport> {
        let shards = operator.shards().iter().map(|place| place.shard);
        in_parallel(operator, at_once, shards.collect(), |operator, shard| {
            self.one(operator, shard)
        })
    }

    fn one(&self, operator: &mut Operator, shard: u32) -> ShardReport {
        let began = Instant::now();
        let mut told = began;
        let mut report = ShardReport {
            shard,
            gone: None,
            came: None,
            end: End::Nothing,
            took: Duration::ZERO,
        };
        let mut is_changed = false;
        report.end = loop {
            let view = match operator.look_until(shard, self.deadline) {
                Ok(view) => view,
                Err(none) => break End::NotDone(none.to_string()),
            };
            let member_on = |node: Option<u32>| view.member_on(node?).map(|found| found.replica);
            report.gone = report.gone.or_else(|| member_on(self.goal.from()));
            report.came = member_on(self.goal.onto());
            let why = match self.step(operator, &view) {
                Ok(Flow::Ends(End::Nothing)) if is_changed => break End::Made,
                Ok(Flow::Ends(end)) => break end,
                Ok(Flow::Goes) => {
                    is_changed = true;
                    continue;
                }
                Ok(Flow::Waits(why)) => {
                    is_changed = true;
                    why
                }
                Err(error) => break End::NotDone(error.to_string()),
            };
            if Instant::now() + PAUSE >= self.deadline {
                break End::NotDone(why);
            }
            if told.elapsed() >= TELL_INTERVAL {
                told = Instant::now();
                tell(&format_args!("shard {shard}: waits: {why}"));
            }
            std::thread::sleep(PAUSE);
        };
        report.took = began.elapsed();
        if let End::NotDone(why) = &report.end {
            tell(&format_args!("shard {shard}: not done: {why}"));
        }
        report
    }

    fn step(&self, operator: &mut Operator, view: &ShardView) -> Result<Flow, CommandError> {
        let waits = |why: &str| Ok(Flow::Waits(why.to_owned()));
        let shard = view.shard;
        if view.is_joint() {
            return waits("a change of its members is under way");
        }
        match self.goal.next(view) {
            Step::Done if !view.reply.is_settled => {
                waits("most of its voters do not know of the newest change yet")
            }
            Step::Done => Ok(Flow::Ends(End::Nothing)),
            Step::LearnsOnly => Ok(Flow::Ends(End::LearnsOnly)),
            Step::Refused(why) => Ok(Flow::Ends(End::NotDone(why))),
            Step::Settle(node) => self.settle(operator, view, node),
            Step::RemoveLearner(replica) => {
                let request = AdminRequest::RemoveLearner { shard, replica };
                let gone = format!("replica {replica}, which only learned, is gone");
                Ok(self.change(operator, view, &request, &gone))
            }
            Step::ChangeVoters { promoted, removed } => {
                let request = AdminRequest::ChangeVoters {
                    shard,
                    promoted,
                    removed,
                    spare: self.spare,
                };
                let came = promoted.map(|replica| format!("replica {replica} votes"));
                let gone = removed.map(|replica| format!("replica {replica} is gone"));
                let done: Vec<_> = came.into_iter().chain(gone).collect();
                Ok(self.change(operator, view, &request, &done.join(", ")))
            }
        }
    }

    /// Asks the leader for a change, and waits for it for a while.
    fn change(
        &self,
        operator: &mut Operator,
        view: &ShardView,
        request: &AdminRequest<'_>,
        done: &str,
    ) -> Flow {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let asked = operator.ask_within(view.at, left.min(CHANGE_WAIT), |client| {
            client.admin(request)
        });
        match asked {
            Ok(_) => {
                tell(&format_args!("shard {}: {done}", view.shard));
                Flow::Goes
            }
            Err(failed) => flow_after(&failed),
        }
    }

    // ---- A replica that comes ----

    /// Has a replica live on a node and learn: the one that is there already, or a new one.
    fn settle(
        &self,
        operator: &mut Operator,
        view: &ShardView,
        node: u32,
    ) -> Result<Flow, CommandError> {
        let created = match operator.resident(node, view.shard) {
            Err(failed) => Err(failed),
            Ok(Some((core, replica))) if replica > view.reply.newest => {
                Ok((home(node, core), replica))
            }
            Ok(Some((core, replica))) => {
                return Ok(self.send_away(operator, view, home(node, core), replica));
            }
            Ok(None) => {
                let replica = self.ids.draw(view.reply.newest)?;
                let created = create(operator, view.shard, node, replica);
                created.map(|at| (at, replica))
            }
        };
        let (at, replica) = match created {
            Ok(created) => created,
            Err(failed) => return Ok(flow_after(&failed)),
        };
        let request = AdminRequest::AddLearner {
            shard: view.shard,
            replica,
            home: at,
        };
        let done = format!(
            "replica {replica} on node {node} core {} learns",
            at.core_index
        );
        Ok(self.change(operator, view, &request, &done))
    }

    /// A replica on a node that is no member, and never will be, is in the way.
    fn send_away(
        &self,
        operator: &mut Operator,
        view: &ShardView,
        at: ReplicaHome,
        replica: u64,
    ) -> Flow {
        let shard = view.shard;
        if view.reply.is_settled && view.is_of_leader() && view.member(replica).is_none() {
            let request = AdminRequest::RemovedReplica { shard, replica };
            if let Err(failed) = operator.ask(at, |client| client.admin(&request)) {
                return flow_after(&failed);
            }
        }
        let node = at.node_id;
        Flow::Waits(format!(
            "replica {replica}, which is no member any more, has still to go from node {node}"
        ))
    }
}

/// Creates a replica on the core of a node where it belongs.
fn create(
    operator: &mut Operator,
    shard: u32,
    node: u32,
    replica: u64,
) -> Result<ReplicaHome, AskFailed> {
    let request = AdminRequest::CreateReplica { shard, replica };
    let known = operator.node(node).expect("it was looked at before");
    let core = core_of_newcomer(ShardId(shard), usize::from(known.entry.cores));
    let known = known.clone();
    let mut at = home(node, core.0);
    let mut asked = operator.ask(at, |client| client.admin(&request));
    // A node that had one from the beginning has its place for it elsewhere, and says where.
    let elsewhere = asked.as_ref().err().and_then(AskFailed::hint);
    if let Some(core) = elsewhere.and_then(|hint| known.core_at(hint)) {
        at = home(node, core);
        asked = operator.ask(at, |client| client.admin(&request));
    }
    asked.map(|_| at)
}

fn flow_after(failed: &AskFailed) -> Flow {
    match failed.may_pass() {
        true => Flow::Waits(failed.to_string()),
        false => Flow::Ends(End::NotDone(failed.to_string())),
    }
}
