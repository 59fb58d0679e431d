//! `metastore member remove`: every replica of a node goes.

use std::io::Write;
use std::time::Instant;

use metastore_net::{MemberPart, SpareVoter};

use super::drive::{Drive, Goal, Step};
use super::replace::spare_voter;
use super::{farewell, report};
use crate::arguments::MemberNodeArguments;
use crate::commands::operator::{NodeAnswer, Operator, OperatorError, ShardView};
use crate::commands::{CommandError, Exit};

/// The replicas of a node go.
struct Remove {
    node: u32,
}

/// Looks at all shards before the first is changed.
pub(super) fn run(
    arguments: &MemberNodeArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let many = &arguments.many;
    let deadline = Instant::now() + many.operator.timeout;
    let mut operator = Operator::connect(&many.operator.connect, many.operator.timeout)?;
    let survey = operator.survey();
    let goal = Remove {
        node: arguments.node,
    };
    operator.node(goal.node)?;
    let spare = spare_voter(arguments.give_up_spare);
    if spare == SpareVoter::Kept {
        check_spare(&mut operator, goal.node, deadline)?;
    }
    let reports = Drive::new(&goal, spare, deadline).all(&operator, many.at_once);
    if matches!(survey.node(goal.node), NodeAnswer::Answers(_)) {
        farewell::tell_gone(&mut operator, goal.node, deadline);
    }
    report::print(&reports, many.operator.format(), out)
}

/// Refuses what the leader of a shard would refuse half way.
fn check_spare(operator: &mut Operator, node: u32, deadline: Instant) -> Result<(), OperatorError> {
    let shards: Vec<u32> = operator.shards().iter().map(|place| place.shard).collect();
    let mut short = Vec::new();
    for shard in shards {
        let view = operator.look_until(shard, deadline);
        let view = view.map_err(OperatorError::NoLeader)?;
        short.extend(why_short(&view, node));
    }
    match short.is_empty() {
        true => Ok(()),
        false => Err(OperatorError::NoSpare { node, short }),
    }
}

/// Why a shard would have no voter to lose without a node.
fn why_short(view: &ShardView, node: u32) -> Option<String> {
    let goes = view.member_on(node)?;
    if goes.part == MemberPart::Learner {
        return None;
    }
    let (voters, healthy) = view.voters_without(goes.replica);
    let needed = voters / 2 + 2;
    (healthy < needed).then(|| {
        format!(
            "shard {} would have {healthy} healthy of {voters}, and needs {needed}",
            view.shard
        )
    })
}

impl Goal for Remove {
    fn from(&self) -> Option<u32> {
        Some(self.node)
    }

    fn onto(&self) -> Option<u32> {
        None
    }

    fn next(&self, view: &ShardView) -> Step {
        match view.member_on(self.node) {
            None => Step::Done,
            Some(member) if member.part == MemberPart::Learner => {
                Step::RemoveLearner(member.replica)
            }
            Some(member) => Step::ChangeVoters {
                promoted: None,
                removed: Some(member.replica),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::operator::view_tests::{member, view};

    use super::*;

    fn voters(count: u64) -> Vec<metastore_net::ShardMember> {
        (1..=count)
            .map(|id| member(id, id as u32, MemberPart::Voter))
            .collect()
    }

    #[test]
    fn a_voter_and_a_learner_go_each_by_its_own_change() {
        let next = |members| Remove { node: 4 }.next(&view(members));
        let removal = Step::ChangeVoters {
            promoted: None,
            removed: Some(4),
        };
        assert_eq!(next(voters(4)), removal);
        assert_eq!(next(voters(3)), Step::Done);
        let learns = [voters(3), vec![member(4, 4, MemberPart::Learner)]].concat();
        assert_eq!(next(learns), Step::RemoveLearner(4));
    }

    #[test]
    fn three_voters_must_be_left_or_more() {
        assert_eq!(why_short(&view(voters(4)), 4), None);
        let short = why_short(&view(voters(3)), 3);
        assert_eq!(
            short.as_deref(),
            Some("shard 7 would have 2 healthy of 2, and needs 3")
        );
        let mut silent = voters(4);
        silent[1].is_healthy = false;
        assert!(why_short(&view(silent), 4).is_some());
        assert_eq!(why_short(&view(voters(3)), 9), None, "it has none there");
    }
}
