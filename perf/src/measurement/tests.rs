use super::*;
use crate::latency::new_histogram;
use crate::load::Failures;
use crate::operation::Failure;

fn result() -> LoadResult {
    let mut latency = new_histogram();
    for _ in 0..1_000 {
        latency.record(200_000).unwrap();
    }
    LoadResult {
        latency,
        latency_by_kind: Vec::new(),
        latency_marked: new_histogram(),
        client_delay: new_histogram(),
        answered: 1_000,
        offered: 1_000,
        unsent: 0,
        measured: Duration::from_secs(2),
        answered_in_all: 1_250,
        conflicts: 0,
        redirected: 0,
        losses: Losses::default(),
        failures: Failures::default(),
    }
}

const OPEN: Pace = Pace::Poisson {
    operations_per_second: 500.0,
};

fn concluded(result: LoadResult, pace: Pace, client_cpu_ms: u64) -> Measurement {
    let spent = Spent {
        elapsed: Duration::from_millis(2_500),
        client_cpu: Duration::from_millis(client_cpu_ms),
        machine_busy: Some(Duration::from_millis(5_000)),
    };
    let costs = Costs {
        server_cpu: Some(Duration::from_millis(1_250)),
        ..Costs::default()
    };
    conclude(result, pace, costs, None, &spent)
}

#[test]
fn rates_are_of_the_measured_time_and_client_costs_of_all_of_it() {
    let closed = concluded(result(), Pace::Closed, 250);
    assert!((closed.achieved_per_second - 500.0).abs() < 1e-9);
    assert_eq!(closed.offered_per_second, None);
    assert!((closed.client.cpu_share - 0.1).abs() < 1e-9);
    assert!((closed.client.cpu_us_per_operation - 200.0).abs() < 1e-9);
    assert!((closed.others_cpu_share.unwrap() - 1.4).abs() < 1e-9);
    assert_eq!(closed.invalid, None);
    let open = concluded(result(), OPEN, 2_500);
    assert_eq!(open.offered_per_second, Some(500.0));
    assert_eq!(open.invalid, None, "an open loop uses all of its CPU");
}

#[test]
fn what_makes_a_measurement_void() {
    let invalid = |pace, client_cpu_ms, change: fn(&mut LoadResult)| {
        let mut result = result();
        change(&mut result);
        concluded(result, pace, client_cpu_ms).invalid
    };
    let failed = |result: &mut LoadResult| {
        result.failures = Failures {
            count: 1,
            first: Some(Failure::Absent),
        };
    };
    assert_eq!(invalid(OPEN, 0, failed), Some(Invalid::Failures));
    let nothing = |result: &mut LoadResult| result.answered = 0;
    assert_eq!(invalid(Pace::Closed, 0, nothing), Some(Invalid::Nothing));
    let busy = invalid(Pace::Closed, 2_450, |_| ());
    assert_eq!(busy, Some(Invalid::Client));

    let behind = |result: &mut LoadResult| result.answered = 989;
    assert_eq!(invalid(OPEN, 0, behind), Some(Invalid::NotAchieved));
    let unsent = |result: &mut LoadResult| result.unsent = 1;
    assert_eq!(invalid(OPEN, 0, unsent), Some(Invalid::NotAchieved));
    let without_a_node = |result: &mut LoadResult| {
        result.answered = 700;
        result.unsent = 10;
        result.losses.connections = 1;
    };
    assert_eq!(invalid(OPEN, 0, without_a_node), None);
    let failed_without_a_node = |result: &mut LoadResult| {
        result.losses.connections = 1;
        result.failures.count = 1;
    };
    let failures = Some(Invalid::Failures);
    assert_eq!(invalid(OPEN, 0, failed_without_a_node), failures);
    // 5 % of the mean latency are 10 us.
    let late = |result: &mut LoadResult| result.client_delay.record(11_000).unwrap();
    assert_eq!(invalid(OPEN, 0, late), Some(Invalid::Client));
    let in_time = |result: &mut LoadResult| result.client_delay.record(9_000).unwrap();
    assert_eq!(invalid(OPEN, 0, in_time), None);
    // A tail of 60 us where a quarter of the 99th percentile is 50 us, with a mean of about 1 us.
    let late_at_times = |result: &mut LoadResult| {
        result.client_delay.record_n(1, 980).unwrap();
        result.client_delay.record_n(60_000, 20).unwrap();
    };
    let busy_at_times = invalid(OPEN, 0, late_at_times);
    assert_eq!(busy_at_times, Some(Invalid::Client));
}

impl Measurement {
    /// A measurement of which nothing but the median latency is of interest.
    pub(crate) fn with_p50(p50_us: f64) -> Measurement {
        let mut measurement = concluded(result(), Pace::Closed, 0);
        measurement.latency.p50_us = p50_us;
        measurement
    }
}
