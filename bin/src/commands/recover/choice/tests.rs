use super::super::report::{MemberEntry, RunEntry};
use super::*;

/// What a test says of the copy of shard 0 on a node: its last term and index.
type Told = (u32, u64, u64);

fn group(voters: &[u64]) -> GroupEntry {
    joint(voters, &[])
}

fn joint(voters: &[u64], outgoing: &[u64]) -> GroupEntry {
    let mut all: Vec<u64> = [voters, outgoing].concat();
    all.sort_unstable();
    all.dedup();
    let member = |replica| MemberEntry {
        replica,
        node: node_of(replica),
    };
    GroupEntry {
        voters: voters.to_vec(),
        outgoing: outgoing.to_vec(),
        members: all.into_iter().map(member).collect(),
    }
}

/// Replica 3 of every shard lives on node 3.
fn node_of(replica: u64) -> u32 {
    u32::try_from(replica).expect("few nodes")
}

fn copy(shard: u32, (node, last_term, last_index): Told, groups: &[GroupEntry]) -> CopyEntry {
    CopyEntry {
        shard,
        replica: u64::from(node),
        core: 0,
        term: last_term + 1,
        last_term,
        last_index,
        committed: last_index.saturating_sub(2),
        runs: vec![RunEntry {
            first_index: last_index.saturating_sub(2),
            term: last_term,
        }],
        newest_replica: 5,
        keys: 1,
        groups: groups.to_vec(),
        fault: None,
    }
}

fn report(node: u32, copies: Vec<CopyEntry>) -> Report {
    Report {
        metastore_recovery_report: 1,
        cluster: "c".to_owned(),
        map: "m".to_owned(),
        recoveries: Vec::new(),
        shards: 1,
        nodes: vec![1, 2, 3, 4, 5],
        node,
        data: format!("{node}"),
        copies,
    }
}

/// Reports of nodes with copies of shard 0, whose voters are these.
fn reports(told: &[Told], groups: &[GroupEntry]) -> Vec<Report> {
    let reports = told.iter().map(|&told| {
        let copy = copy(0, told, groups);
        report(told.0, vec![copy])
    });
    reports.collect()
}

/// The verdict on shard 0, where all nodes without a report are lost.
fn verdict(reports: &[Report]) -> Verdict {
    let has_report = |node: &u32| reports.iter().any(|report| report.node == *node);
    let lost = (1..=5).filter(|node| !has_report(node)).collect();
    match choose(reports, &lost) {
        Ok(verdicts) => verdicts[&0].clone(),
        Err(ChoiceError::NothingToDo) => Verdict::Kept,
        Err(error) => panic!("{error}"),
    }
}

fn forced(reports: &[Report]) -> Forced {
    match verdict(reports) {
        Verdict::Forced(forced) => forced,
        other @ (Verdict::Kept | Verdict::Gone) => panic!("{other:?}"),
    }
}

#[test]
fn the_newest_log_is_chosen_by_its_term_and_then_its_index() {
    let five = [group(&[1, 2, 3, 4, 5])];
    for (told, best) in [
        (&[(1, 4, 90)][..], 1),
        (&[(1, 4, 90), (2, 4, 91)], 2),
        // What the other knows to be committed, the newer log does not hold.
        (&[(1, 4, 90), (2, 3, 99)], 2),
        (&[(1, 2, 200), (2, 3, 99)], 1),
        // Of equals the first.
        (&[(2, 4, 90), (1, 4, 90)], 1),
    ] {
        let forced = forced(&reports(told, &five));
        assert_eq!(forced.node, best, "{told:?}");
        assert_eq!(forced.others, told.len() - 1);
        let newest_term = told.iter().map(|told| told.1 + 1).max();
        assert_eq!(Some(forced.term), newest_term.map(|term| term + 1));
        assert_eq!(forced.newest_replica, 5);
        assert_eq!(forced.loss, Loss::Perhaps);
    }
}

/// The runs of a copy of shard 0 that knows entry `committed` to be committed.
fn told_of(node: u32, committed: u64, runs: &[(u64, u64)], last_index: u64) -> Report {
    let &(_, last_term) = runs.last().expect("an entry is known");
    let five = [group(&[1, 2, 3, 4, 5])];
    let mut copy = copy(0, (node, last_term, last_index), &five);
    copy.committed = committed;
    let runs = runs.iter();
    copy.runs = runs
        .map(|&(first_index, term)| RunEntry { first_index, term })
        .collect();
    report(node, vec![copy])
}

/// Entry 2 of term 2 was committed by a leader of term 4. Before that somebody led in term 3, and a follower of it still
/// has what it wrote there, and ends with a newer term.
#[test]
fn a_newer_log_without_what_another_knows_to_be_committed_is_not_chosen() {
    let knows = told_of(1, 2, &[(2, 2)], 2);
    let newer = told_of(2, 1, &[(1, 1), (2, 3)], 9);
    let best = forced(&[knows.clone(), newer]);
    assert_eq!((best.node, best.last_index, best.others), (1, 2, 1));
    assert_eq!(best.term, 5, "newer than that of the other too");
    // One that holds it and has more is, whatever it knows itself.
    for runs in [&[(1, 1), (2, 2), (5, 3)][..], &[(1, 2)], &[(1, 1), (2, 2)]] {
        let longer = told_of(2, 1, runs, 9);
        assert_eq!(forced(&[knows.clone(), longer]).node, 2, "{runs:?}");
    }
    let shorter = told_of(2, 1, &[(1, 3)], 1);
    assert_eq!(forced(&[knows, shorter]).node, 1);
}

#[test]
fn a_shard_that_can_decide_is_left_alone() {
    let three = [group(&[1, 2, 3])];
    let two = reports(&[(1, 1, 9), (2, 1, 9)], &three);
    assert_eq!(verdict(&two), Verdict::Kept);
    assert_eq!(
        choose(&two, &BTreeSet::from([3, 4, 5])),
        Err(ChoiceError::NothingToDo)
    );
    // A copy that cannot be used votes for nobody.
    let mut damaged = two;
    damaged[0].copies[0].fault = Some("damaged".to_owned());
    assert_eq!(forced(&damaged).node, 2);
}

#[test]
fn nothing_is_lost_where_every_quorum_has_somebody_who_is_left() {
    let four = [group(&[1, 2, 3, 4])];
    let half = reports(&[(1, 1, 9), (2, 1, 9)], &four);
    assert_eq!(forced(&half).loss, Loss::Nothing);
    assert_eq!(forced(&half).passed_behind, 9, "revisions stay as told");
    let quarter = reports(&[(1, 1, 9)], &four);
    assert_eq!(forced(&quarter).loss, Loss::Perhaps);
    assert_eq!(forced(&quarter).passed_behind, 7, "as far as is decided");
    // Both halves of a joint state must agree, so somebody of one of them is enough.
    let both = [joint(&[1, 2, 4], &[1, 2, 3])];
    assert_eq!(forced(&reports(&[(1, 1, 9)], &both)).loss, Loss::Perhaps);
    let many = [joint(&[3, 4, 5], &[1, 2, 3])];
    let left = reports(&[(1, 1, 9), (2, 1, 9)], &many);
    assert_eq!(forced(&left).loss, Loss::Nothing);
}

/// Nobody knows whether the change was committed: the shard must be able to decide with it and without it.
#[test]
fn a_change_of_members_that_is_not_decided_counts() {
    let undecided = [group(&[1, 2, 3]), joint(&[1, 4, 5], &[1, 2, 3])];
    let left = reports(&[(1, 1, 9), (2, 1, 9)], &undecided);
    assert_eq!(forced(&left).node, 1);
    let decided = reports(&[(1, 1, 9), (2, 1, 9)], &undecided[..1]);
    assert_eq!(verdict(&decided), Verdict::Kept);
}

#[test]
fn one_that_learns_is_chosen_if_it_holds_more_and_not_else() {
    let three = [group(&[1, 2, 3])];
    let mut learner = reports(&[(1, 1, 9), (4, 1, 9)], &three);
    learner[1].copies[0].groups[0].members.push(MemberEntry {
        replica: 4,
        node: 4,
    });
    assert_eq!(forced(&learner).node, 1);
    learner[1].copies[0].last_index += 1;
    assert_eq!(forced(&learner).node, 4);
}

#[test]
fn equals_share_the_shards() {
    let copies =
        |node| (0..4).map(move |shard| copy(shard, (node, 1, 9), &[group(&[1, 2, 3, 4, 5])]));
    let reports: Vec<Report> = [1, 2]
        .map(|node| Report {
            shards: 4,
            ..report(node, copies(node).collect())
        })
        .into();
    let verdicts = choose(&reports, &BTreeSet::from([3, 4, 5])).expect("they go on");
    let nodes: Vec<u32> = verdicts
        .values()
        .map(|verdict| match verdict {
            Verdict::Forced(forced) => forced.node,
            Verdict::Kept | Verdict::Gone => panic!("{verdict:?}"),
        })
        .collect();
    assert_eq!(nodes, [1, 2, 1, 2]);
}

#[test]
fn a_shard_without_a_copy_is_gone() {
    assert_eq!(verdict(&[report(1, Vec::new())]), Verdict::Gone);
    let mut unusable = reports(&[(1, 1, 9)], &[group(&[1, 2, 3])]);
    unusable[0].copies[0].fault = Some("damaged".to_owned());
    assert_eq!(verdict(&unusable), Verdict::Gone);
}

#[test]
fn every_node_is_accounted_for_once() {
    let three = [group(&[1, 2, 3])];
    let one = reports(&[(1, 1, 9)], &three);
    let lost = |nodes: &[u32]| nodes.iter().copied().collect();
    assert_eq!(
        choose(&one, &lost(&[2, 4, 5])),
        Err(ChoiceError::Unheard { node: 3 })
    );
    assert!(choose(&one, &lost(&[2, 3, 4, 5])).is_ok());
    // Also one without a replica that anybody knows of: the group may have moved there.
    assert_eq!(
        choose(&one, &lost(&[2, 3, 5])),
        Err(ChoiceError::Unheard { node: 4 })
    );
    // And one that only another node has on its list.
    let mut lists = reports(&[(1, 1, 9), (2, 1, 9)], &three);
    lists[1].nodes.push(6);
    assert_eq!(
        choose(&lists, &lost(&[3, 4, 5])),
        Err(ChoiceError::Unheard { node: 6 })
    );
    // And one that is off all lists and has a replica still.
    let mut unlisted = one.clone();
    unlisted[0].nodes = vec![1, 2];
    assert_eq!(
        choose(&unlisted, &lost(&[2])),
        Err(ChoiceError::Unaccounted { shard: 0, node: 3 })
    );
    assert!(choose(&unlisted, &lost(&[2, 3])).is_ok());
    assert_eq!(
        choose(&one, &lost(&[1, 2, 3, 4, 5])),
        Err(ChoiceError::LostReports { node: 1 })
    );
    assert_eq!(
        choose(&one, &lost(&[2, 3, 4, 5, 9])),
        Err(ChoiceError::NoSuchNode { node: 9 })
    );
    let twice = [one.clone(), one.clone()].concat();
    assert_eq!(
        choose(&twice, &lost(&[2, 3, 4, 5])),
        Err(ChoiceError::Twice { node: 1 })
    );
    for change in [
        |report: &mut Report| report.cluster = "d".to_owned(),
        |report: &mut Report| report.map = "n".to_owned(),
        |report: &mut Report| report.recoveries = vec!["r".to_owned()],
    ] {
        let mut apart = reports(&[(1, 1, 9), (2, 1, 9)], &three);
        change(&mut apart[1]);
        assert_eq!(
            choose(&apart, &lost(&[3, 4, 5])),
            Err(ChoiceError::Apart { node: 2, other: 1 })
        );
    }
}
