//! Several at a time, and no more.

use std::sync::Mutex;
use std::thread;

use super::Operator;

/// Does something with each of `jobs`, at most `at_once` at a time, and tells the results in the order of the jobs.
pub(in crate::commands) fn in_parallel<Job: Send, Done: Send>(
    operator: &Operator,
    at_once: u16,
    jobs: Vec<Job>,
    work: impl Fn(&mut Operator, Job) -> Done + Sync,
) -> Vec<Done> {
    let count = usize::from(at_once).clamp(1, jobs.len().max(1));
    let mut operators: Vec<_> = (0..count).map(|_| operator.another()).collect();
    in_turns(&mut operators, jobs, work)
}

/// Each of `workers` takes the next job when it is done with one.
fn in_turns<Worker: Send, Job: Send, Done: Send>(
    workers: &mut [Worker],
    jobs: Vec<Job>,
    work: impl Fn(&mut Worker, Job) -> Done + Sync,
) -> Vec<Done> {
    let queue = Mutex::new(jobs.into_iter().enumerate());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for worker in workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panics with it").next();
                    let Some((place, job)) = next else {
                        return;
                    };
                    let done = work(worker, job);
                    let mut results = results.lock().expect("nobody panics with it");
                    results.push((place, done));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("nobody panics with it");
    results.sort_by_key(|&(place, _)| place);
    results.into_iter().map(|(_, done)| done).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let mut workers = [0_u32; 3];
        let results = in_turns(&mut workers, (0..50).collect(), |done, job: u64| {
            *done += 1;
            thread::sleep(std::time::Duration::from_micros(50 - job));
            job * 2
        });
        assert_eq!(results, (0..50).map(|job| job * 2).collect::<Vec<_>>());
        assert_eq!(workers.iter().sum::<u32>(), 50);
    }
}
