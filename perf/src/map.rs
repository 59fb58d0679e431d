//! `metastore-perf map`: the map of the state beside the standard library's.

use std::time::{Duration, Instant};

use metastore_statemachine::measure::{OrderedMap, Standard, Tree, row_of};
use serde::Serialize;

use crate::arguments::MapArguments;
use crate::error::{PerfError, Verdict};
use crate::output::{Output, Table};
use crate::random::Random;

const VALUE_BYTES: usize = 256;
/// Searches that are timed.
const SEARCHES: u64 = 1_000_000;

/// What one map took, in nanoseconds a key.
#[derive(Debug, Serialize)]
struct Figures {
    map: &'static str,
    insert_ns: f64,
    find_ns: f64,
    walk_ns: f64,
}

/// Measures each map in turn and prints what an operation took.
pub(crate) fn run(arguments: &MapArguments) -> Result<Verdict, PerfError> {
    let mut output = Output::new(arguments.json.clone());
    let figures = [
        measure::<Tree>(arguments.keys),
        measure::<Standard>(arguments.keys),
    ];
    output.line(&format!(
        "{} keys of {} bytes in an order of no kind, values of {VALUE_BYTES} bytes; ns a key",
        arguments.keys,
        key(0).len()
    ))?;
    let mut table = Table::new(&["map", "insert", "find", "walk"]);
    for map in &figures {
        table.row(vec![
            map.map.to_owned(),
            format!("{:.0}", map.insert_ns),
            format!("{:.0}", map.find_ns),
            format!("{:.0}", map.walk_ns),
        ]);
    }
    output.table(&table)?;
    output.json(&figures)?;
    Ok(Verdict::Valid)
}

fn measure<M: OrderedMap>(keys: u64) -> Figures {
    let mut order: Vec<u64> = (0..keys).collect();
    let mut random = Random::new(1);
    for last in (1..order.len()).rev() {
        let other = random.next_u64() % (last as u64 + 1);
        order.swap(last, usize::try_from(other).expect("it is below a length"));
    }
    let value = [7; VALUE_BYTES];
    let mut map = M::default();
    let started = Instant::now();
    for &number in &order {
        map.put(&row_of(&key(number), &value));
    }
    let insert = started.elapsed();

    let started = Instant::now();
    let mut found = 0;
    for _ in 0..SEARCHES {
        let number = random.next_u64() % keys;
        found += map.find(&key(number)).expect("every key was put");
    }
    let find = started.elapsed();
    assert_eq!(found as u64, SEARCHES * VALUE_BYTES as u64);

    let started = Instant::now();
    let walked = map.walk();
    let walk = started.elapsed();
    assert_eq!(walked, keys * key(0).len() as u64);
    let each = |time: Duration, count: u64| time.as_nanos() as f64 / count as f64;
    Figures {
        map: M::NAME,
        insert_ns: each(insert, keys),
        find_ns: each(find, SEARCHES),
        walk_ns: each(walk, keys),
    }
}

/// A path, as keys mostly are: most of its bytes are those of its neighbours.
fn key(number: u64) -> [u8; 32] {
    let mut key = *b"/home/user/projects/0000000000.x";
    let text = format!("{number:010}");
    key[20..30].copy_from_slice(text.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_map_is_measured() {
        let figures = measure::<Tree>(1_000);
        assert!(figures.insert_ns > 0.0 && figures.find_ns > 0.0 && figures.walk_ns > 0.0);
        assert!(key(1) < key(2) && key(9) < key(10));
    }
}
