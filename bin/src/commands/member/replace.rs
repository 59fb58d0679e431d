//! `metastore member replace`: replicas of a node that is lost are replaced by others.

use std::io::Write;
use std::time::Instant;

use metastore_net::{MemberPart, SpareVoter};

use super::drive::{Drive, Goal, Step};
use super::{farewell, report};
use crate::arguments::MemberReplaceArguments;
use crate::commands::operator::{NodeAnswer, Operator, OperatorError, ShardView, home};
use crate::commands::{CommandError, Exit};

/// Replicas on one node take the place of those on another.
struct Replace {
    dead: u32,
    with: u32,
}

pub(super) fn run(
    arguments: &MemberReplaceArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let many = &arguments.many;
    let deadline = Instant::now() + many.operator.timeout;
    let mut operator = Operator::connect(&many.operator.connect, many.operator.timeout)?;
    let survey = operator.survey();
    let goal = Replace {
        dead: arguments.dead,
        with: arguments.with,
    };
    if goal.dead == goal.with {
        return Err(OperatorError::ItsOwnPlace { node: goal.dead }.into());
    }
    operator.node(goal.dead)?;
    operator.node(goal.with)?;
    survey.expect_answer(goal.with)?;
    let is_alive = matches!(survey.node(goal.dead), NodeAnswer::Answers(_));
    if is_alive && !arguments.even_if_alive {
        let error = OperatorError::Alive {
            node: goal.dead,
            address: operator.address(home(goal.dead, 0)),
        };
        return Err(error.into());
    }
    let spare = spare_voter(arguments.give_up_spare);
    let reports = Drive::new(&goal, spare, deadline).all(&operator, many.at_once);
    if is_alive {
        farewell::tell_gone(&mut operator, goal.dead, deadline);
    }
    report::print(&reports, many.operator.format(), out)
}

/// What a flag says.
pub(super) fn spare_voter(is_given_up: bool) -> SpareVoter {
    match is_given_up {
        true => SpareVoter::GivenUp,
        false => SpareVoter::Kept,
    }
}

impl Goal for Replace {
    fn from(&self) -> Option<u32> {
        Some(self.dead)
    }

    fn onto(&self) -> Option<u32> {
        Some(self.with)
    }

    fn next(&self, view: &ShardView) -> Step {
        let is_voter = |part: MemberPart| part == MemberPart::Voter;
        let (old, new) = (view.member_on(self.dead), view.member_on(self.with));
        match (old, new) {
            (None, Some(new)) if new.part == MemberPart::Learner => Step::LearnsOnly,
            (None, _) => Step::Done,
            (Some(_), None) => Step::Settle(self.with),
            (Some(old), _) if old.part == MemberPart::Learner => Step::RemoveLearner(old.replica),
            (Some(_), Some(new)) if is_voter(new.part) => Step::Refused(format!(
                "node {} has replica {} of it, which votes already: name another node by --with",
                self.with, new.replica
            )),
            (Some(old), Some(new)) => Step::ChangeVoters {
                promoted: Some(new.replica),
                removed: Some(old.replica),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::operator::view_tests::{member, view};

    use super::*;

    const GOAL: Replace = Replace { dead: 3, with: 4 };

    #[test]
    fn a_lost_replica_is_replaced_in_two_steps() {
        let one = member(1, 1, MemberPart::Voter);
        let two = member(2, 2, MemberPart::Voter);
        let old = member(3, 3, MemberPart::Voter);
        let next = |members| GOAL.next(&view(members));
        assert_eq!(next(vec![one, two, old]), Step::Settle(4));
        let learns = member(4, 4, MemberPart::Learner);
        let both = Step::ChangeVoters {
            promoted: Some(4),
            removed: Some(3),
        };
        assert_eq!(next(vec![one, two, old, learns]), both);
        let votes = member(4, 4, MemberPart::Voter);
        assert_eq!(next(vec![one, two, votes]), Step::Done);
        assert_eq!(next(vec![one, two, learns]), Step::LearnsOnly);
        assert_eq!(next(vec![one, two]), Step::Done, "node 3 had none");
    }

    #[test]
    fn a_node_has_one_replica_of_a_shard() {
        let members = vec![
            member(1, 1, MemberPart::Voter),
            member(3, 3, MemberPart::Voter),
            member(4, 4, MemberPart::Voter),
        ];
        let refused = GOAL.next(&view(members));
        assert!(
            matches!(&refused, Step::Refused(why) if why.contains("node 4 has replica 4")),
            "{refused:?}"
        );
    }

    #[test]
    fn who_only_learned_is_replaced_by_one_that_only_learns() {
        let members = |with: &[_]| {
            let old = member(3, 3, MemberPart::Learner);
            [&[member(1, 1, MemberPart::Voter), old], with].concat()
        };
        assert_eq!(GOAL.next(&view(members(&[]))), Step::Settle(4));
        let new = member(4, 4, MemberPart::Learner);
        assert_eq!(GOAL.next(&view(members(&[new]))), Step::RemoveLearner(3));
    }
}
