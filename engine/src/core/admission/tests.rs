use super::*;

const MS: u64 = 1_000_000;
const QUIET: Origin = (CoreId(0), ConnectionId(1));
const GREEDY: Origin = (CoreId(0), ConnectionId(2));

fn stalled_for(milliseconds: u64) -> Backlog {
    Backlog {
        oldest_ns: milliseconds * MS,
        ..Backlog::default()
    }
}

/// A core's admission in virtual time, with a log that takes so many commands an interval.
struct Simulation {
    admission: Admission,
    now: Time,
    /// Commands that wait for the log.
    queue: u64,
    log_per_interval: u64,
}

/// What an interval came to.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Taken {
    quiet: u64,
    greedy: u64,
}

impl Simulation {
    fn new(log_per_interval: u64) -> Simulation {
        Simulation {
            admission: Admission::new(AdmissionSettings::default(), Time(0)),
            now: Time(0),
            queue: 0,
            log_per_interval,
        }
    }

    fn interval_ms(&self) -> u64 {
        self.admission.settings.interval_ms
    }

    /// One interval in which two connections ask, the greedy one mostly first.
    fn interval(&mut self, quiet: u64, greedy: u64) -> Taken {
        let mut taken = Taken {
            quiet: 0,
            greedy: 0,
        };
        let ask = |admission: &mut Admission, origin| {
            admission
                .admit_command(Lane::Growing, Some(origin), 0)
                .is_ok()
        };
        for round in 0..quiet.max(greedy) {
            if round < greedy {
                taken.greedy += u64::from(ask(&mut self.admission, GREEDY));
            }
            if round < quiet {
                taken.quiet += u64::from(ask(&mut self.admission, QUIET));
            }
        }
        self.queue += taken.quiet + taken.greedy;
        let written = self.queue.min(self.log_per_interval);
        self.queue -= written;
        // Whoever comes last waits for all that is queued before.
        let wait_ms = self.queue * self.interval_ms() / self.log_per_interval;
        self.admission.on_written(wait_ms * MS, written);
        self.now = self.now.plus_ms(self.interval_ms());
        self.admission.on_time(self.now, Backlog::default());
        taken
    }
}

#[test]
fn a_queue_that_runs_empty_is_no_overload() {
    let mut simulation = Simulation::new(1_000);
    for _ in 0..100 {
        assert_eq!(
            simulation.interval(10, 990),
            Taken {
                quiet: 10,
                greedy: 990
            }
        );
    }
    assert_eq!(simulation.admission.refused(), 0);
}

#[test]
fn one_long_wait_among_short_ones_is_no_overload() {
    let mut admission = Admission::new(AdmissionSettings::default(), Time(0));
    for interval in 1..20 {
        admission.on_written(5_000 * MS, 1);
        admission.on_written(3 * MS, 1);
        admission.on_time(Time(0).plus_ms(interval * 100), Backlog::default());
        admission
            .admit_command(Lane::Growing, Some(QUIET), 0)
            .unwrap();
    }
}

#[test]
fn overload_is_refused_to_who_asks_for_most_and_the_wait_comes_down() {
    let mut simulation = Simulation::new(1_000);
    let mut last = Taken {
        quiet: 0,
        greedy: 0,
    };
    for _ in 0..100 {
        last = simulation.interval(50, 5_000);
        assert_eq!(last.quiet, 50, "who asks for little is never refused");
    }
    assert!(last.greedy < 2_000, "{last:?}");
    // The load stays, and so does a short queue: the wait hovers around the target.
    let wait_ms = simulation.queue * simulation.interval_ms() / simulation.log_per_interval;
    let target_ms = simulation.admission.settings.target_ms;
    assert!(wait_ms < 10 * target_ms, "{wait_ms} ms");
    assert!(simulation.admission.refused() > 0);
}

#[test]
fn after_the_overload_everybody_is_taken_again() {
    let mut simulation = Simulation::new(1_000);
    for _ in 0..30 {
        simulation.interval(50, 5_000);
    }
    for _ in 0..30 {
        simulation.interval(50, 100);
    }
    assert!(!simulation.admission.is_refusing());
    assert_eq!(
        simulation.interval(50, 900),
        Taken {
            quiet: 50,
            greedy: 900
        }
    );
}

#[test]
fn refused_clients_are_told_when_to_come_back() {
    let mut admission = Admission::new(AdmissionSettings::default(), Time(0));
    for interval in 1..=3 {
        let _counted = admission.admit_command(Lane::Growing, Some(GREEDY), 0);
        admission.on_written(300 * MS, 1);
        admission.on_time(Time(0).plus_ms(interval * 100), Backlog::default());
    }
    for _ in 0..FLOOR_OF_EACH {
        admission
            .admit_command(Lane::Growing, Some(GREEDY), 0)
            .unwrap();
    }
    let refused = admission.admit_command(Lane::Growing, Some(GREEDY), 0);
    assert_eq!(
        refused,
        Err(RequestError::Overloaded {
            retry_after_ms: 300
        })
    );
    // Deletes have a lane of their own.
    admission
        .admit_command(Lane::Freeing, Some(GREEDY), 0)
        .unwrap();
}

#[test]
fn a_log_that_completes_nothing_is_overload_after_a_second() {
    let mut admission = Admission::new(AdmissionSettings::default(), Time(0));
    for interval in 1..=10 {
        admission.on_time(Time(0).plus_ms(interval * 100), stalled_for(interval * 100));
        admission
            .admit_command(Lane::Growing, Some(GREEDY), 0)
            .unwrap();
        admission
            .admit_command(Lane::Growing, Some(GREEDY), 0)
            .unwrap();
    }
    admission.on_time(Time(0).plus_ms(1_100), stalled_for(1_100));
    assert!(admission.is_refusing());
}

#[test]
fn short_memory_leaves_room_for_what_frees_it() {
    let mut admission = Admission::new(AdmissionSettings::default(), Time(0));
    let verdicts = |admission: &mut Admission, load| {
        admission.on_memory(MemoryRoom {
            load,
            ..MemoryRoom::UNLIMITED
        });
        [
            admission.admit_command(Lane::Growing, None, 1).is_ok(),
            admission.admit_command(Lane::Freeing, None, 1).is_ok(),
            admission.admit_read().is_ok(),
        ]
    };
    assert_eq!(
        verdicts(&mut admission, LoadRoom::Ample),
        [true, true, true]
    );
    assert_eq!(
        verdicts(&mut admission, LoadRoom::Short),
        [false, true, false]
    );
    assert_eq!(
        verdicts(&mut admission, LoadRoom::Spent),
        [false, false, false]
    );
}

#[test]
fn a_full_state_takes_deletes_and_no_growth() {
    let mut admission = Admission::new(AdmissionSettings::default(), Time(0));
    admission.on_memory(MemoryRoom {
        load: LoadRoom::Ample,
        state_bytes_max: 1_000,
        state_bytes: 900,
    });
    admission.admit_command(Lane::Growing, None, 100).unwrap();
    assert_eq!(
        admission.admit_command(Lane::Growing, None, 101),
        Err(RequestError::QuotaExceeded {
            limit_bytes: 1_000,
            used_bytes: 900
        })
    );
    admission.admit_command(Lane::Freeing, None, 101).unwrap();
    admission.admit_read().unwrap();
}

#[test]
fn a_quota_is_what_an_equal_share_leaves() {
    let quota = |asked: &[u64], possible| fair_quota(asked.iter().copied(), possible);
    assert_eq!(quota(&[10, 1_000], 500), 490);
    assert_eq!(quota(&[1_000, 1_000], 500), 250);
    assert_eq!(quota(&[1, 2, 3], 0), FLOOR_OF_EACH);
    assert_eq!(quota(&[5; 500], 0), 2);
    assert_eq!(quota(&[5, 5, 500, 500], 210), 100);
}

#[test]
fn a_quota_never_hands_out_more_than_is_possible() {
    // A fixed sequence that covers many shapes.
    let mut seed = 7_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % 1_000
    };
    for _ in 0..500 {
        let asked: Vec<u64> = (0..=next() % 20).map(|_| next()).collect();
        let possible = next() * 3;
        let quota = fair_quota(asked.iter().copied(), possible);
        let given: u64 = asked.iter().map(|&count| count.min(quota)).sum();
        assert!(
            given <= possible.max(FLOOR_OF_EACH * asked.len() as u64),
            "{asked:?} {possible} {quota}"
        );
    }
}
