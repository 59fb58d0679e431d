//! What clients were told, held against the order that the logs propose.

use std::collections::BTreeMap;

use metastore_engine::ShardId;
use metastore_sim::checkers::ClusterViolation;
use metastore_sim::checkers::linearizability::{ShardHistory, ShardLog, Verdict};

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Operations of all shards.
    pub(crate) operations: u64,
    /// Shards of which no log holds everything any more.
    pub(crate) shards_without_log: u64,
    /// Of those, the ones for which the search for an order was given up.
    pub(crate) undecided: u64,
}

/// Looks for an order of events that explains everything.
///
/// # Errors
/// There is none, or the logs do not say the one that there is.
pub(crate) fn judge(
    histories: &BTreeMap<ShardId, ShardHistory>,
    log_of: &dyn Fn(ShardId) -> Option<ShardLog>,
) -> Result<Judged, ClusterViolation> {
    let mut judged = Judged::default();
    for (&shard, history) in histories {
        let log = log_of(shard);
        let verdict = history.check(log.as_ref());
        let verdict =
            verdict.map_err(|cause| ClusterViolation::NotLinearizable { shard, cause })?;
        judged.operations += history.len() as u64;
        judged.shards_without_log += u64::from(log.is_none());
        judged.undecided += u64::from(verdict == Verdict::Undecided);
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_net::blocking::OwnedOutcome;
    use metastore_sim::checkers::linearizability::{Action, End, Operation};
    use metastore_sim::operation::{Condition, Mutation, PreviousRow};
    use metastore_sim::oracle::{FoundRow, Moment};
    use metastore_statemachine::{CommandKind, OutcomeCode, Revision};

    const SHARD: ShardId = ShardId(2);

    fn put(value: &str) -> Mutation {
        Mutation {
            kind: CommandKind::Put,
            key: b"/d/k".to_vec(),
            value: value.as_bytes().to_vec(),
            condition: Condition::Always,
            previous: PreviousRow::NotWanted,
        }
    }

    /// Sent at a moment and answered at the next, as a change of this revision.
    fn acknowledged(sent: u64, value: &str, revision: u64) -> Operation {
        let outcome = OwnedOutcome {
            code: OutcomeCode::Done,
            revision: Revision(revision),
            number: None,
            previous: None,
            detail: None,
        };
        Operation {
            sent: Moment(sent),
            action: Action::Mutate(put(value)),
            end: End::Outcome {
                at: Moment(sent + 1),
                outcome,
            },
        }
    }

    fn unknown(sent: u64, value: &str) -> Operation {
        Operation {
            sent: Moment(sent),
            action: Action::Mutate(put(value)),
            end: End::Unknown,
        }
    }

    /// The key read when everything is over: what it holds, of which revision.
    fn last_read(sent: u64, value: &str, revision: u64, version: u64) -> Operation {
        let row = FoundRow {
            value: value.as_bytes().to_vec(),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
            version,
        };
        Operation {
            sent: Moment(sent),
            action: Action::Read {
                keys: vec![b"/d/k".to_vec()],
                at: None,
            },
            end: End::Rows {
                at: Moment(sent + 1),
                revision: Revision(revision),
                rows: vec![Some(row)],
            },
        }
    }

    fn judge_along(
        operations: Vec<Operation>,
        log: Option<&[&str]>,
    ) -> Result<Judged, ClusterViolation> {
        let mut history = ShardHistory::new(SHARD);
        operations.into_iter().for_each(|one| history.add(one));
        let log =
            log.map(|values| ShardLog(values.iter().map(|value| put(value).encoded()).collect()));
        judge(&BTreeMap::from([(SHARD, history)]), &|_| log.clone())
    }

    #[test]
    fn what_happened_is_accepted_with_and_without_a_log() {
        let history = || {
            vec![
                acknowledged(1, "one", 1),
                unknown(3, "two"),
                last_read(5, "two", 2, 2),
            ]
        };
        let judged = judge_along(history(), Some(&["one", "two"])).expect("it happened");
        assert_eq!((judged.operations, judged.shards_without_log), (3, 0));
        let judged = judge_along(history(), None).expect("it happened");
        assert_eq!((judged.shards_without_log, judged.undecided), (1, 0));
    }

    #[test]
    fn a_lost_write_is_found() {
        let history = || {
            vec![
                acknowledged(1, "one", 1),
                acknowledged(3, "two", 2),
                last_read(5, "one", 1, 1),
            ]
        };
        for log in [Some(&["one", "two"][..]), Some(&["one"]), None] {
            let refused = judge_along(history(), log);
            let refused = refused.expect_err("a write that was acknowledged is lost");
            assert!(matches!(
                refused,
                ClusterViolation::NotLinearizable { shard: SHARD, .. }
            ));
        }
    }

    #[test]
    fn what_nobody_asked_for_is_found() {
        let history = vec![acknowledged(1, "one", 1), last_read(5, "two", 2, 2)];
        assert!(judge_along(history, Some(&["one", "two"])).is_err());
    }
}
