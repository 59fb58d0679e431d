//! Seeds that found a bug once.

use metastore_sim::campaign::run_seed;
use metastore_sim::oracle::Checkers;

#[test]
fn no_seed_that_found_a_bug_finds_it_again() {
    let list = include_str!("../regressions.txt");
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let mut fields = line.splitn(3, ' ');
        let seed = fields.next().and_then(|seed| seed.parse().ok());
        let seed = seed.expect("a line begins with a seed");
        let why = fields.nth(1).expect("a line says why");
        run_seed(seed, Checkers::All, None).unwrap_or_else(|broken| panic!("{why}: {broken}"));
    }
}
