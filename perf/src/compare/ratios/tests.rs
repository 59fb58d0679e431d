use super::*;
use crate::arguments::Thoroughness;
use crate::compare::document::{Discard, Void};
use crate::compare::fixture::{round_of, void_for_client};
use crate::figure::Standing;

const PEERS: [System; 2] = [System::Etcd, System::Redis];

fn section(workload: ComparedWorkload) -> Section {
    Section::new(workload, &PEERS, Thoroughness::Full)
}

/// The ratios of one section by the names of goals and peers.
fn values(
    section: &Section,
    rounds: &[Round],
    goal: Option<&str>,
    peer: Option<System>,
) -> Vec<f64> {
    let all = ratios(std::slice::from_ref(section), rounds);
    let wanted = all
        .into_iter()
        .find(|ratio| ratio.goal.as_deref() == goal && ratio.against == peer.map(name_of));
    wanted.expect("there is such a ratio").values
}

/// Sets what a system's samples show, one after the other.
fn set_rates(round: &mut Round, system: System, rates: &[f64]) {
    let own = round
        .samples
        .iter_mut()
        .filter(|sample| sample.system == name_of(system));
    for (sample, &rate) in own.zip(rates) {
        sample.achieved_per_second = rate;
    }
}

#[test]
fn a_peer_is_paired_with_what_was_measured_beside_it() {
    let section = section(ComparedWorkload::W2);
    let mut round = round_of(1, &section, 100.0);
    // metastore etcd metastore redis
    set_rates(&mut round, System::MetaStore, &[300_000.0, 200_000.0]);
    set_rates(&mut round, System::Etcd, &[20_000.0]);
    set_rates(&mut round, System::Redis, &[100_000.0]);
    let rounds = [round];
    assert_eq!(
        values(&section, &rounds, Some("G4"), Some(System::Etcd)),
        [15.0]
    );
    assert_eq!(values(&section, &rounds, None, Some(System::Redis)), [2.0]);
    let [mut round] = rounds;
    // The one beside it is void, so the next nearest is taken; of a void peer nothing is.
    round.samples[0].void = Some(void_for_client());
    let rounds = [round];
    assert_eq!(
        values(&section, &rounds, Some("G4"), Some(System::Etcd)),
        [10.0]
    );
    let [mut round] = rounds;
    round.samples[1].void = Some(Void::FlushesContradicted);
    let none = values(&section, &[round], Some("G4"), Some(System::Etcd));
    assert!(none.is_empty());
}

#[test]
fn the_figure_is_the_median_of_the_rounds_that_count() {
    let section = section(ComparedWorkload::W4);
    let rounds: Vec<Round> = [(90.0, None), (10.0, None), (80.0, None), (100.0, Some(0.2))]
        .into_iter()
        .zip(1..)
        .map(|((own, drift), number)| {
            let mut round = round_of(number, &section, 100.0);
            set_rates(&mut round, System::MetaStore, &[own; 4]);
            set_rates(&mut round, System::Redis, &[100.0; 2]);
            round.discard = drift.map(|drift| Discard::FloorMoved { drift });
            round
        })
        .collect();
    let all = ratios(std::slice::from_ref(&section), &rounds);
    let redis = all
        .iter()
        .find(|ratio| ratio.against == Some(name_of(System::Redis)))
        .unwrap();
    assert_eq!(redis.goal.as_deref(), Some("G5"));
    assert_eq!(redis.values, [0.9, 0.1, 0.8]);
    let spread = redis.figure.measured().unwrap();
    assert_eq!((spread.median, spread.min, spread.max), (0.8, 0.1, 0.9));
    assert_eq!(redis.figure.standing(), Standing::Met);
    // Two points, each with two peers.
    assert_eq!(all.len(), 4);
}

#[test]
fn a_lone_put_stands_beside_floor_and_ping() {
    let section = section(ComparedWorkload::W1);
    let mut round = round_of(1, &section, 100.0);
    // ping, then metastore etcd metastore redis
    for (sample, p50_us) in round
        .samples
        .iter_mut()
        .zip([50.0, 170.0, 400.0, 190.0, 200.0])
    {
        sample.latency.p50_us = p50_us;
    }
    let rounds = [round];
    let own = values(&section, &rounds, Some("G1"), None);
    assert_eq!(own, [180.0 / 150.0]);
    assert_eq!(
        values(&section, &rounds, Some("G1r"), Some(System::Redis)),
        [0.95]
    );
    assert_eq!(values(&section, &rounds, None, Some(System::Etcd)), [0.425]);
}

#[test]
fn goals_stand_at_their_points_only() {
    let goals = |workload| -> Vec<String> {
        let all = ratios(&[section(workload)], &[]);
        let named = all
            .into_iter()
            .filter_map(|ratio| Some(format!("{} {}", ratio.goal?, ratio.figure.target().words())));
        named.collect()
    };
    assert_eq!(goals(ComparedWorkload::W1), ["G1 <= 1.25", "G1r <= 1.10"]);
    assert_eq!(goals(ComparedWorkload::W2), ["G9 <= 0.020", "G4 >= 10.0"]);
    assert_eq!(goals(ComparedWorkload::W3).len(), 0);
    let pipelines = ["G4 >= 10.0", "G5 >= 0.800", "G4 >= 10.0", "G5 >= 0.800"];
    assert_eq!(goals(ComparedWorkload::W4), pipelines);
    assert_eq!(goals(ComparedWorkload::W5), ["G17 >= 500,000"]);
    assert_eq!(goals(ComparedWorkload::W6), ["G8 >= 10.0", "G8 >= 0.500"]);
    assert_eq!(goals(ComparedWorkload::W8).len(), 0);
    assert_eq!(goals(ComparedWorkload::W12).len(), 0);
}

#[test]
fn a_cluster_is_judged_by_goals_of_its_own() {
    let section = |workload| Section::of(Group::Replicated, workload, &PEERS, Thoroughness::Full);
    let goals = |workload| -> Vec<String> {
        let all = ratios(&[section(workload)], &[]);
        let named = all
            .into_iter()
            .filter_map(|ratio| Some(format!("{} {}", ratio.goal?, ratio.figure.target().words())));
        named.collect()
    };
    assert_eq!(goals(ComparedWorkload::W1), ["G2 <= 1.60", "G3 >= 2.50"]);
    assert_eq!(goals(ComparedWorkload::W2), ["G9 <= 0.020", "G4 >= 10.0"]);
    let pipelines = ["G4 >= 10.0", "G5 >= 0.400", "G6 <= 12.0", "G4 >= 10.0"];
    assert_eq!(goals(ComparedWorkload::W4), pipelines);
    assert_eq!(goals(ComparedWorkload::W5), ["G17 >= 300,000"]);
    assert_eq!(goals(ComparedWorkload::W6), ["G8 >= 10.0", "G8 >= 0.500"]);

    let lone = section(ComparedWorkload::W1);
    let mut round = round_of(1, &lone, 100.0);
    // ping, then metastore etcd metastore redis
    let p50s_us = [50.0, 250.0, 1_000.0, 350.0, 200.0];
    for (sample, p50_us) in round.samples.iter_mut().zip(p50s_us) {
        sample.latency.p50_us = p50_us;
    }
    let rounds = [round];
    assert_eq!(values(&lone, &rounds, Some("G2"), None), [300.0 / 200.0]);
    let etcd = Some(System::Etcd);
    assert_eq!(values(&lone, &rounds, Some("G3"), etcd), [4.0]);

    let crowd = section(ComparedWorkload::W2);
    let rounds = [round_of(1, &crowd, 100.0)];
    // 0.01 of all three together.
    assert_eq!(values(&crowd, &rounds, Some("G9"), None), [0.01 / 3.0]);
    let deep = section(ComparedWorkload::W4);
    let rounds = [round_of(1, &deep, 100.0)];
    assert_eq!(values(&deep, &rounds, Some("G6"), None), [3.0]);
}

#[test]
fn without_rounds_nothing_is_met() {
    let all = ratios(&[section(ComparedWorkload::W2)], &[]);
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|ratio| ratio.values.is_empty()));
    let judged = all.iter().filter(|ratio| ratio.goal.is_some());
    assert!(judged.clone().count() == 2 && judged.clone().all(|ratio| ratio.figure.is_missed()));
}
