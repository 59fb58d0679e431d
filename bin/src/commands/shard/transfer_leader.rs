//! `metastore shard transfer-leader`: another voter leads.

use std::io::Write;
use std::time::{Duration, Instant};

use metastore_net::{AdminRequest, MemberPart, ShardMember};
use serde_json::json;

use crate::arguments::{Format, TransferLeaderArguments};
use crate::commands::operator::{Operator, OperatorError, ShardView};
use crate::commands::{CommandError, Exit, json};

/// Between two looks whether the other leads.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// A leader that was asked and still leads is asked again after this: it may have had something to do first.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

pub(super) fn run(
    arguments: &TransferLeaderArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let client = &arguments.client;
    let deadline = Instant::now() + client.timeout;
    let mut operator = Operator::connect(&client.connect, client.timeout)?;
    let shard = arguments.shard;
    if !operator.shards().iter().any(|place| place.shard == shard) {
        let count = operator.shards().len();
        return Err(OperatorError::ShardUnknown { shard, count }.into());
    }
    if let Some(node) = arguments.to {
        operator.node(node)?;
    }
    let before = operator.look_until(shard, deadline);
    let before = before.map_err(OperatorError::NoLeader)?;
    let to = arguments
        .to
        .map(|node| voter_on(&before, node))
        .transpose()?;
    let began = Instant::now();
    let after = match to {
        Some(to) if to.replica == before.reply.leader => before.clone(),
        _ => transfer(&mut operator, &before, to.map(|to| to.replica), deadline)?,
    };
    let took = began.elapsed();
    let (at, address) = (after.at, operator.address(after.at));
    match client.format() {
        Format::Json => json::print(
            out,
            &json!({
                "shard": shard,
                "from_node": before.at.node_id,
                "node": at.node_id,
                "core": at.core_index,
                "address": address,
                "transferred": before.at != at,
                "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            }),
        )?,
        Format::People => {
            let how = match before.at == at {
                true => "it did already".to_owned(),
                false => format!("after {} ms", took.as_millis()),
            };
            writeln!(
                out,
                "node {} core {}, at {address}, leads shard {shard}: {how}",
                at.node_id, at.core_index
            )
            .map_err(CommandError::Output)?;
        }
    }
    Ok(Exit::Done)
}

/// The voter of a shard that lives on a node.
fn voter_on(view: &ShardView, node: u32) -> Result<ShardMember, OperatorError> {
    let voters = view.reply.members.iter();
    let voters = voters.filter(|member| member.part == MemberPart::Voter);
    let cannot = |why| OperatorError::CannotLead {
        node,
        shard: view.shard,
        why,
        voters: voters.map(|member| member.home.node_id).collect(),
    };
    match view.member_on(node) {
        Some(member) if member.part == MemberPart::Voter => Ok(*member),
        Some(_) => Err(cannot("its replica does not vote")),
        None => Err(cannot("it has no replica of it")),
    }
}

/// Asks the leader, and looks until another leads.
fn transfer(
    operator: &mut Operator,
    before: &ShardView,
    to: Option<u64>,
    deadline: Instant,
) -> Result<ShardView, OperatorError> {
    let shard = before.shard;
    let began = Instant::now();
    let request = AdminRequest::TransferLeader { shard, to };
    let mut asked_at: Option<Instant> = None;
    loop {
        let why = match operator.look(shard) {
            Ok(view) if is_meant(before, to, &view) => return Ok(view),
            Ok(view) => {
                let is_due = asked_at.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN_AFTER);
                let asked = is_due.then(|| operator.ask(view.at, |client| client.admin(&request)));
                match asked {
                    Some(Err(failed)) if !failed.may_pass() => return Err(failed.into()),
                    Some(Err(failed)) => failed.to_string(),
                    Some(Ok(_)) => {
                        asked_at = Some(Instant::now());
                        format!("node {} was asked to hand over", view.at.node_id)
                    }
                    None => format!("node {} still leads it", view.at.node_id),
                }
            }
            Err(none) => none.to_string(),
        };
        if Instant::now() + LOOK_INTERVAL >= deadline {
            return Err(OperatorError::NotTransferred {
                shard,
                waited_ms: began.elapsed().as_millis(),
                why,
            });
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Whether whoever leads now is who was asked for, or, where nobody was named, another than before.
fn is_meant(before: &ShardView, to: Option<u64>, now: &ShardView) -> bool {
    match to {
        Some(to) => now.reply.leader == to,
        None => now.reply.leader != before.reply.leader,
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::operator::view_tests::{member, view};

    use super::*;

    #[test]
    fn only_a_voter_can_lead_and_the_error_names_those() {
        let view = view(vec![
            member(1, 1, MemberPart::Voter),
            member(2, 2, MemberPart::Voter),
            member(4, 4, MemberPart::Learner),
        ]);
        assert_eq!(voter_on(&view, 2).expect("it votes").replica, 2);
        let error = voter_on(&view, 4).expect_err("it learns").to_string();
        assert_eq!(
            error,
            "node 4 cannot lead shard 7: its replica does not vote; its voters live on 1 and 2"
        );
        let error = voter_on(&view, 9).expect_err("it has none").to_string();
        assert!(error.contains("it has no replica of it"), "{error}");
    }

    #[test]
    fn where_nobody_is_named_anybody_else_will_do() {
        let before = view(vec![
            member(1, 1, MemberPart::Voter),
            member(2, 2, MemberPart::Voter),
        ]);
        let mut now = before.clone();
        assert!(!is_meant(&before, None, &now));
        now.reply.leader = 2;
        assert!(is_meant(&before, None, &now));
        assert!(is_meant(&before, Some(2), &now));
        assert!(!is_meant(&before, Some(3), &now));
    }
}
