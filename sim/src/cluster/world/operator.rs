//! Somebody who changes the members of shards while everything goes wrong: nodes that are lost are replaced, replicas come,
//! move and go.
//!
//! It looks again and again at how a shard stands and does what comes next, as a program of an operator would: nothing that
//! it asked for may have arrived, and nothing that it was told may still be so.

use std::collections::BTreeMap;
use std::fmt;

use metastore_engine::{
    BadChange, ChangeRefused, ChangeTicket, MemberPart, MemberStatus, MembersChange, MembersEffect,
    MembersInput, NodeId, PeerCore, Quarantine, ReplicaId, ReplicaStatus, Role, ShardId, Spare,
    Time,
};

use super::{ClusterWorld, WorldEvent};
use crate::disk::CrashKind;
use crate::violation::Violation;

/// How often it looks.
const LOOK_MIN_NS: u64 = 20_000_000;
const LOOK_MAX_NS: u64 = 150_000_000;
/// After so long in the calm it tells a replica itself that it is no member any more.
const TOLD_AFTER_MS: u64 = 5_000;
/// How long it waits for what it asked for.
const PATIENCE_MS: u32 = 2_000;
/// Shards keep so many voters, of which any one node may be lost for good.
pub(super) const VOTERS_MIN: usize = 3;
const VOTERS_MAX: usize = 5;

/// What is to become of the members of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// One takes the place of another.
    Replace {
        joins: (ReplicaId, NodeId),
        goes: ReplicaId,
    },
    /// There is one more.
    Grow { joins: (ReplicaId, NodeId) },
    /// There is one less.
    Shrink { goes: ReplicaId },
    /// One learns, and goes again.
    Visit { joins: (ReplicaId, NodeId) },
}

/// A change that is under way.
#[derive(Clone, Debug)]
struct Task {
    aim: Aim,
    /// What was asked for, and until when its answer is waited for.
    asked: Option<(ChangeTicket, Time)>,
    /// The replica that joins has durably come.
    has_come: Option<ReplicaId>,
    /// The visitor has learned.
    has_visited: bool,
}

/// What operators did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MembersTally {
    /// Changes that were answered as made.
    pub changed: u64,
    /// Changes that were refused, or of which nobody knows.
    pub refused: u64,
    /// Tasks that came to their end.
    pub completed: u64,
    /// Replicas that came.
    pub created: u64,
    /// Replicas that went with all they had.
    pub removed: u64,
    /// Those among them that heard so from nobody else.
    pub told: u64,
}

impl MembersTally {
    /// Adds what others did.
    pub(super) fn add(&mut self, other: &MembersTally) {
        self.changed += other.changed;
        self.refused += other.refused;
        self.completed += other.completed;
        self.created += other.created;
        self.removed += other.removed;
        self.told += other.told;
    }
}

impl fmt::Display for MembersTally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} changes of members made, {} refused; {} plans completed; {} replicas came, {} went, {} of them told by the operator",
            self.changed, self.refused, self.completed, self.created, self.removed, self.told
        )
    }
}

/// The operator of a cluster.
#[derive(Debug, Default)]
pub(super) struct Operator {
    tasks: BTreeMap<ShardId, Task>,
    tickets: u64,
    /// Since when replicas live that are no members any more.
    gone: BTreeMap<ReplicaId, Time>,
    pub(super) tally: MembersTally,
}

impl Aim {
    fn joins(&self) -> Option<(ReplicaId, NodeId)> {
        match *self {
            Aim::Replace { joins, .. } | Aim::Grow { joins } | Aim::Visit { joins } => Some(joins),
            Aim::Shrink { .. } => None,
        }
    }

    fn goes(&self) -> Option<ReplicaId> {
        match *self {
            Aim::Replace { goes, .. } | Aim::Shrink { goes } => Some(goes),
            Aim::Grow { .. } | Aim::Visit { .. } => None,
        }
    }

    fn set_joining(&mut self, joining: ReplicaId) {
        match self {
            Aim::Replace { joins, .. } | Aim::Grow { joins } | Aim::Visit { joins } => {
                joins.0 = joining;
            }
            Aim::Shrink { .. } => {}
        }
    }
}

fn part_of(members: &[MemberStatus], replica: ReplicaId) -> Option<MemberPart> {
    let member = members
        .iter()
        .find(|status| status.member.replica == replica);
    member.map(|status| status.part)
}

fn is_joint(members: &[MemberStatus]) -> bool {
    let parts = members.iter().map(|status| status.part);
    parts
        .into_iter()
        .any(|part| matches!(part, MemberPart::Incoming | MemberPart::Outgoing))
}

impl ClusterWorld {
    /// Lets the operator look once more, some time.
    pub(super) fn operate_later(&mut self) {
        let delay_ns = self.random.between(LOOK_MIN_NS, LOOK_MAX_NS);
        let time = Time(self.cluster.now().0 + delay_ns);
        self.cluster.at(time, WorldEvent::Operate);
    }

    /// Whether nothing is planned any more.
    pub(super) fn is_operator_done(&self) -> bool {
        self.operator.tasks.is_empty()
    }

    /// The operator looks at every shard of which something is to become.
    pub(super) fn on_operate(&mut self) -> Result<(), Violation> {
        self.operate_later();
        for (_, effect) in self.cluster.take_members_told() {
            self.hear_of_members(effect);
        }
        self.discard_strays()?;
        self.tell_removed()?;
        self.replace_lost()?;
        let shards: Vec<ShardId> = self.operator.tasks.keys().copied().collect();
        shards.into_iter().try_for_each(|shard| self.advance(shard))
    }

    fn hear_of_members(&mut self, effect: MembersEffect) {
        let tally = &mut self.operator.tally;
        match effect {
            MembersEffect::Changed { ticket, result } => {
                match &result {
                    Ok(_) => tally.changed += 1,
                    Err(_) => tally.refused += 1,
                }
                let is_asked = |task: &&mut Task| task.asked.is_some_and(|(of, _)| of == ticket);
                let Some(task) = self.operator.tasks.values_mut().find(is_asked) else {
                    return;
                };
                task.asked = None;
                // Where it is itself the newest it has joined by an earlier request.
                if let Err(ChangeRefused::Impossible(BadChange::NotNewer { replica, newest })) =
                    result
                    && replica < newest
                {
                    task.aim.set_joining(self.cluster.new_replica_id());
                }
            }
            MembersEffect::Created {
                replica,
                shard,
                result: Ok(()),
            } => {
                // It is answered as often as it was asked for.
                let task = self.operator.tasks.get_mut(&shard);
                let before = task.and_then(|task| task.has_come.replace(replica));
                tally.created += u64::from(before != Some(replica));
            }
            MembersEffect::Removed { replica, shard } => {
                tally.removed += 1;
                // What has gone does not come back under its id.
                if let Some(task) = self.operator.tasks.get_mut(&shard)
                    && task
                        .aim
                        .joins()
                        .is_some_and(|(joining, _)| joining == replica)
                    && !task.has_visited
                {
                    task.aim.set_joining(self.cluster.new_replica_id());
                }
            }
            MembersEffect::Created { .. } | MembersEffect::Unlist { .. } => {}
        }
    }

    /// The node that leads a shard, as far as anybody can tell, and the members as it knows them.
    pub(super) fn leader_of(&self, shard: ShardId) -> Option<(NodeId, Vec<MemberStatus>)> {
        let residents = self.cluster.residents();
        let leads = residents
            .iter()
            .filter(|(_, status)| status.shard == shard && status.role == Role::Leader);
        let (node, _) = leads.max_by_key(|(_, status)| status.term)?;
        let members = self.cluster.members(*node, shard);
        (!members.is_empty()).then_some((*node, members))
    }

    /// Whether whoever leads a shard says that its newest change of members is no secret of its own.
    fn is_settled(&self, shard: ShardId) -> bool {
        let residents = self.cluster.residents().into_iter();
        let replicas = residents.filter(|(_, status)| status.shard == shard);
        let newest = replicas.max_by_key(|(_, status)| (status.role == Role::Leader, status.term));
        newest.is_some_and(|(_, status)| status.members.is_settled)
    }

    /// Replicas that are no members any more hear so from members, unless all that they know are gone themselves. Those
    /// the operator tells, after the last fault and when they have had time to hear it.
    fn tell_removed(&mut self) -> Result<(), Violation> {
        if self.is_faulty {
            return Ok(());
        }
        let now = self.cluster.now();
        for (node, status) in self.cluster.residents() {
            let Some((_, members)) = self.leader_of(status.shard) else {
                continue;
            };
            let is_member = part_of(&members, status.replica).is_some();
            let is_gone = !is_member && status.members.newest > ReplicaId(0);
            if !is_gone || !self.is_settled(status.shard) {
                continue;
            }
            let since = *self.operator.gone.entry(status.replica).or_insert(now);
            if now.millis_since(since) >= TOLD_AFTER_MS {
                self.operator.gone.insert(status.replica, now);
                self.operator.tally.told += 1;
                let replica = status.replica;
                let input = MembersInput::Removed { replica };
                self.cluster.tell_of_members(node, status.shard, input)?;
            }
        }
        Ok(())
    }

    /// Replicas that nobody has ever told who belongs to their shard, and that nobody plans with any more, are of no use:
    /// they were made, and were not reached before they were to go again.
    fn discard_strays(&mut self) -> Result<(), Violation> {
        for (node, status) in self.cluster.residents() {
            let task = self.operator.tasks.get(&status.shard);
            let planned = task.and_then(|task| task.aim.joins());
            let is_planned = planned == Some((status.replica, node));
            if status.members.newest == ReplicaId(0) && !is_planned {
                let replica = status.replica;
                let input = MembersInput::Discard { replica };
                self.cluster.tell_of_members(node, status.shard, input)?;
            }
        }
        Ok(())
    }

    /// Does what comes next for a shard.
    fn advance(&mut self, shard: ShardId) -> Result<(), Violation> {
        let Some((leader, members)) = self.leader_of(shard) else {
            return Ok(());
        };
        let now = self.cluster.now();
        let is_settled = self.is_settled(shard);
        let task = self.operator.tasks.get_mut(&shard).expect("it is planned");
        let joins = task.aim.joins();
        let part = joins.and_then(|(joining, _)| part_of(&members, joining));
        task.has_visited |= matches!(task.aim, Aim::Visit { .. }) && part.is_some();
        let (aim, has_visited) = (task.aim, task.has_visited);
        let has_come = match aim {
            Aim::Visit { .. } => has_visited && part.is_none(),
            Aim::Replace { .. } | Aim::Grow { .. } => part == Some(MemberPart::Voter),
            Aim::Shrink { .. } => true,
        };
        let has_gone = aim
            .goes()
            .is_none_or(|going| part_of(&members, going).is_none());
        if is_joint(&members) || !is_settled {
            return Ok(());
        }
        if has_come && has_gone {
            self.operator.tasks.remove(&shard);
            self.operator.tally.completed += 1;
            return Ok(());
        }
        if task.asked.is_some_and(|(_, until)| now < until) {
            return Ok(());
        }
        let change = match (joins, part) {
            (Some((joining, node)), None)
                if has_come || !self.is_there(shard, joining, node)? =>
            {
                return Ok(());
            }
            (Some((joining, node)), None) => {
                MembersChange::AddLearner(self.member(shard, joining, node))
            }
            (Some((joining, _)), Some(_)) if has_visited => MembersChange::RemoveLearner(joining),
            (Some((joining, _)), Some(MemberPart::Learner)) => {
                self.change_voters(&members, vec![joining], aim.goes())
            }
            (Some(_), Some(_)) | (None, _) => self.change_voters(&members, Vec::new(), aim.goes()),
        };
        self.ask_leader(leader, shard, change)
    }

    fn member(&self, shard: ShardId, replica: ReplicaId, node: NodeId) -> metastore_engine::Member {
        let core = self.plan.cluster.shape.core_of(shard);
        metastore_engine::Member {
            replica,
            home: PeerCore { node, core },
        }
    }

    fn change_voters(
        &mut self,
        members: &[MemberStatus],
        promote: Vec<ReplicaId>,
        goes: Option<ReplicaId>,
    ) -> MembersChange {
        let voters = members
            .iter()
            .filter(|status| status.part == MemberPart::Voter)
            .count();
        // Of two voters none can be spared.
        let has_none = voters + promote.len() - usize::from(goes.is_some()) <= 2;
        let spare = match has_none || self.random.chance(200) {
            true => Spare::GivenUp,
            false => Spare::Kept,
        };
        MembersChange::ChangeVoters {
            promote,
            remove: goes.into_iter().collect(),
            spare,
        }
    }

    fn ask_leader(
        &mut self,
        leader: NodeId,
        shard: ShardId,
        change: MembersChange,
    ) -> Result<(), Violation> {
        self.operator.tickets += 1;
        let ticket = ChangeTicket(self.operator.tickets);
        let until = self.cluster.now().plus_ms(u64::from(PATIENCE_MS));
        let task = self.operator.tasks.get_mut(&shard).expect("it is planned");
        task.asked = Some((ticket, until));
        self.cluster
            .note("operator", format_args!("shard {shard}: {change:?}"));
        let input = MembersInput::Change {
            ticket,
            shard,
            change,
            deadline_ms: PATIENCE_MS,
        };
        self.cluster.tell_of_members(leader, shard, input)
    }

    /// Whether a replica waits on its node to join; if not, it is to be made.
    fn is_there(
        &mut self,
        shard: ShardId,
        replica: ReplicaId,
        node: NodeId,
    ) -> Result<bool, Violation> {
        if !self.cluster.is_running(node) {
            return Ok(false);
        }
        let task = self.operator.tasks.get(&shard);
        let has_come = task.is_some_and(|task| task.has_come == Some(replica));
        let residents = self.cluster.residents();
        let mut here = residents
            .iter()
            .filter(|(at, status)| *at == node && status.shard == shard);
        let input = match here.next() {
            Some((_, status)) if status.replica == replica && has_come => return Ok(true),
            Some((_, status)) if status.replica == replica => {
                MembersInput::Create { replica, shard }
            }
            // Of an earlier attempt; one that was a member goes by itself.
            Some((_, status)) => MembersInput::Discard {
                replica: status.replica,
            },
            None => MembersInput::Create { replica, shard },
        };
        self.cluster.tell_of_members(node, shard, input)?;
        Ok(false)
    }

    // ---- What is planned ----

    /// A node is lost for good with its disks, and a new one takes its place; `false` where nobody could bear that now.
    pub(super) fn lose_node(&mut self, node: NodeId) -> Result<bool, Violation> {
        let shards: Vec<ShardId> = self.plan.cluster.shape.shards().collect();
        let known = shards
            .iter()
            .map(|&shard| Some((shard, self.leader_of(shard)?.1)));
        let Some(known) = known.collect::<Option<Vec<_>>>() else {
            return Ok(false);
        };
        // No other loss and no change is under way, and every shard has voters elsewhere to go on with.
        let nodes = self.cluster.nodes();
        let is_whole = |(_, members): &(ShardId, Vec<MemberStatus>)| {
            let voters = members
                .iter()
                .filter(|status| status.part == MemberPart::Voter);
            let lives = |status: &MemberStatus| nodes.contains(&status.member.home.node);
            voters.count() >= VOTERS_MIN && members.iter().all(lives) && !is_joint(members)
        };
        let is_bearable = self.is_operator_done() && known.iter().all(is_whole);
        if !is_bearable || !self.are_all_whole() {
            return Ok(false);
        }
        if self.cluster.is_running(node) {
            self.cluster.crash(node, CrashKind::PowerLoss);
        }
        self.cluster.lose(node);
        let successor = self.add_node()?;
        for (shard, members) in known {
            let lost = members
                .iter()
                .find(|status| status.member.home.node == node);
            let Some(lost) = lost else {
                continue;
            };
            let joins = (self.cluster.new_replica_id(), successor);
            let goes = lost.member.replica;
            self.plan_task(shard, Aim::Replace { joins, goes });
        }
        Ok(true)
    }

    /// A node more.
    pub(super) fn add_node(&mut self) -> Result<NodeId, Violation> {
        let node = self.cluster.add_node();
        self.set_up(node)?;
        self.restart(node)?;
        Ok(node)
    }

    fn plan_task(&mut self, shard: ShardId, aim: Aim) {
        self.cluster
            .note("operator", format_args!("shard {shard}: {aim:?}"));
        let task = Task {
            aim,
            asked: None,
            has_come: None,
            has_visited: false,
        };
        self.operator.tasks.insert(shard, task);
    }

    /// A replica that has lost what it promised never comes back: another takes its place, on a node that has none of the
    /// shard, or on a new one.
    fn replace_lost(&mut self) -> Result<(), Violation> {
        let is_lost = |status: &ReplicaStatus| status.quarantine == Some(Quarantine::PromisesLost);
        for (_, lost) in self.cluster.residents() {
            let (shard, goes) = (lost.shard, lost.replica);
            if !is_lost(&lost) || self.operator.tasks.contains_key(&shard) {
                continue;
            }
            let Some((_, members)) = self.leader_of(shard) else {
                continue;
            };
            if part_of(&members, goes) != Some(MemberPart::Voter) || is_joint(&members) {
                continue;
            }
            let free = self.free_for(shard, &members);
            let node = match free.is_empty() {
                true => self.add_node()?,
                false => free[self.random.index(free.len())],
            };
            let joins = (self.cluster.new_replica_id(), node);
            self.plan_task(shard, Aim::Replace { joins, goes });
        }
        Ok(())
    }

    /// The nodes that have no replica of a shard.
    fn free_for(&self, shard: ShardId, members: &[MemberStatus]) -> Vec<NodeId> {
        let residents = self.cluster.residents();
        let has_one = |node: NodeId| {
            let is_member = members.iter().any(|status| status.member.home.node == node);
            let mut here = residents.iter().filter(|(at, _)| *at == node);
            is_member || here.any(|(_, status)| status.shard == shard)
        };
        let nodes = self.cluster.nodes().into_iter();
        nodes.filter(|&node| !has_one(node)).collect()
    }

    /// The members of some shard are to change; `false` where they cannot at present.
    pub(super) fn plan_change(&mut self) -> bool {
        if !self.are_all_whole() {
            return false;
        }
        let shards: Vec<ShardId> = self.plan.cluster.shape.shards().collect();
        let shard = shards[self.random.index(shards.len())];
        let Some((_, members)) = self.leader_of(shard) else {
            return false;
        };
        if self.operator.tasks.contains_key(&shard) || is_joint(&members) {
            return false;
        }
        let free = self.free_for(shard, &members);
        let voters = members
            .iter()
            .filter(|status| status.part == MemberPart::Voter);
        let voters: Vec<ReplicaId> = voters.map(|status| status.member.replica).collect();
        let goes = voters[self.random.index(voters.len())];
        let may_shrink = voters.len() > VOTERS_MIN;
        if free.is_empty() && !may_shrink {
            return false;
        }
        let aim = if free.is_empty() || may_shrink && self.random.chance(400) {
            Aim::Shrink { goes }
        } else {
            let node = free[self.random.index(free.len())];
            let joins = (self.cluster.new_replica_id(), node);
            match self.random.below(5) {
                0 if voters.len() < VOTERS_MAX => Aim::Grow { joins },
                1 => Aim::Visit { joins },
                _ => Aim::Replace { joins, goes },
            }
        };
        self.plan_task(shard, aim);
        true
    }

    // ---- The end ----

    /// A shard whose members are not those that live, or are still being changed, and what is wrong.
    pub(super) fn unsettled(&self) -> Option<(ShardId, String)> {
        let residents = self.cluster.residents();
        self.plan.cluster.shape.shards().find_map(|shard| {
            let what = self.what_is_unsettled(shard, &residents)?;
            Some((shard, what))
        })
    }

    fn what_is_unsettled(
        &self,
        shard: ShardId,
        residents: &[(NodeId, metastore_engine::ReplicaStatus)],
    ) -> Option<String> {
        if let Some(task) = self.operator.tasks.get(&shard) {
            return Some(format!("it is still to come to {task:?}"));
        }
        let Some((leader, members)) = self.leader_of(shard) else {
            return Some("nobody leads".to_owned());
        };
        if members
            .iter()
            .any(|status| status.part != MemberPart::Voter)
        {
            return Some(format!("node {leader} knows these members: {members:?}"));
        }
        let mut living: Vec<ReplicaId> = residents
            .iter()
            .filter(|(_, status)| status.shard == shard)
            .map(|(_, status)| status.replica)
            .collect();
        living.sort_unstable();
        let expected: Vec<ReplicaId> = members.iter().map(|status| status.member.replica).collect();
        (living != expected)
            .then(|| format!("replicas {living:?} live, the members are {expected:?}"))
    }
}
