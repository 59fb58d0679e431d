//! `metastore member promote`: replicas that only learned begin to vote.

use std::io::Write;
use std::time::Instant;

use metastore_net::MemberPart;

use super::drive::{Drive, Goal, Step};
use super::replace::spare_voter;
use super::report;
use crate::arguments::MemberNodeArguments;
use crate::commands::operator::{Operator, ShardView};
use crate::commands::{CommandError, Exit};

/// Those who learn on a node vote.
struct Promote {
    node: u32,
}

pub(super) fn run(
    arguments: &MemberNodeArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let many = &arguments.many;
    let deadline = Instant::now() + many.operator.timeout;
    let mut operator = Operator::connect(&many.operator.connect, many.operator.timeout)?;
    let survey = operator.survey();
    let goal = Promote {
        node: arguments.node,
    };
    operator.node(goal.node)?;
    survey.expect_answer(goal.node)?;
    let spare = spare_voter(arguments.give_up_spare);
    let reports = Drive::new(&goal, spare, deadline).all(&operator, many.at_once);
    report::print(&reports, many.operator.format(), out)
}

impl Goal for Promote {
    fn from(&self) -> Option<u32> {
        None
    }

    fn onto(&self) -> Option<u32> {
        Some(self.node)
    }

    fn next(&self, view: &ShardView) -> Step {
        match view.member_on(self.node) {
            Some(member) if member.part == MemberPart::Learner => Step::ChangeVoters {
                promoted: Some(member.replica),
                removed: None,
            },
            Some(_) | None => Step::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::operator::view_tests::{member, view};

    use super::*;

    #[test]
    fn who_learns_begins_to_vote() {
        let one = member(1, 1, MemberPart::Voter);
        let next = |members| Promote { node: 4 }.next(&view(members));
        let promote = Step::ChangeVoters {
            promoted: Some(4),
            removed: None,
        };
        assert_eq!(next(vec![one, member(4, 4, MemberPart::Learner)]), promote);
        assert_eq!(next(vec![one, member(4, 4, MemberPart::Voter)]), Step::Done);
        assert_eq!(next(vec![one]), Step::Done);
    }
}
