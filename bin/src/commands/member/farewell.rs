//! A node is told which of its replicas are no members any more.

use std::time::Instant;

use metastore_net::AdminRequest;

use crate::commands::operator::{AskFailed, Operator, PAUSE, home};
use crate::commands::tell;

/// Tells a node that answers of all its replicas that are gone, and waits until it has removed them. They would find out
/// by themselves, as long as those that they know as members are there.
pub(super) fn tell_gone(operator: &mut Operator, node: u32, deadline: Instant) {
    let shards: Vec<u32> = operator.shards().iter().map(|place| place.shard).collect();
    let mut left = Vec::new();
    for shard in shards {
        while let Some(why) = send_away(operator, node, shard) {
            if Instant::now() + PAUSE >= deadline {
                left.push(why);
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
    if !left.is_empty() {
        tell(&format_args!(
            "node {node} has replicas that are no members any more: {}",
            left.join("; ")
        ));
    }
}

/// Why something of a shard is still there that is to go.
fn send_away(operator: &mut Operator, node: u32, shard: u32) -> Option<String> {
    let (core, replica) = match operator.resident(node, shard) {
        Ok(resident) => resident?,
        Err(failed) => return Some(failed.to_string()),
    };
    let view = match operator.look(shard) {
        Ok(view) => view,
        Err(none) => return Some(none.to_string()),
    };
    // Who is younger than all members may be about to join.
    if view.member(replica).is_some() || replica > view.reply.newest {
        return None;
    }
    // Until most of the voters know, its vote may be needed.
    let told = match view.reply.is_settled {
        true => {
            let request = AdminRequest::RemovedReplica { shard, replica };
            operator.ask(home(node, core), |client| client.admin(&request))
        }
        false => return Some(format!("shard {shard}: its newest change is not settled")),
    };
    let told = told.as_ref().err().map(AskFailed::to_string);
    Some(told.unwrap_or_else(|| format!("replica {replica} of shard {shard}")))
}
