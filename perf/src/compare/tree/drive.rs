//! One phase of a tree's metadata against a system: a fixed number of requests in flight, from the first entry to the
//! last, on one connection; of a cluster of ours, on one to each leader, which share what may be in flight. Every reply
//! is judged.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::super::plan::{TREE_IN_FLIGHT, TreePhase};
use super::{TreeDirectory, TreeEntry, TreeMetadata};
use crate::latency::new_histogram;
use crate::load::{Failures, LoadError, LoadResult, Losses};
use crate::operation::Failure;
use crate::protocol::{CallId, Page, Reply, Request, Session};
use crate::system::{System, Target};

/// A request under way.
struct Sent {
    id: CallId,
    /// Which entry or directory it is about.
    position: usize,
    at: Instant,
    /// Rows that have arrived, of a list.
    rows: u64,
    /// Whether any part of the reply was not what it should be.
    is_wrong: bool,
}

/// The requests of a phase that go to one address.
struct Share {
    address: SocketAddr,
    /// Entries or directories, in their order.
    positions: Vec<usize>,
    in_flight_max: usize,
}

/// Runs a phase to its end. The measured time is all of it.
pub(in super::super) fn drive_phase(
    target: Target<'_>,
    tree: &TreeMetadata,
    phase: TreePhase,
) -> Result<LoadResult, LoadError> {
    let shares = shares_of(target, tree, phase);
    let mut all = empty_result();
    let started = Instant::now();
    thread::scope(|scope| {
        let drive = |share| scope.spawn(move || drive_share(target.system, tree, phase, share));
        let driving: Vec<_> = shares.iter().map(drive).collect();
        for share in driving {
            let found = share.join().expect("whoever drives does not panic")?;
            all.answered += found.answered;
            all.failures.count += found.failures.count;
            all.failures.first = all.failures.first.take().or(found.failures.first);
            all.latency
                .add(&found.latency)
                .expect("all histograms have the same bounds");
        }
        Ok::<(), LoadError>(())
    })?;
    all.measured = started.elapsed();
    all.answered_in_all = all.answered;
    let count = tree.count(phase) as u64;
    assert_eq!(all.answered, count, "every request was answered");
    Ok(all)
}

/// Who is asked for what: a cluster's leaders, each for the keys that it leads, or the one address there is.
fn shares_of(target: Target<'_>, tree: &TreeMetadata, phase: TreePhase) -> Vec<Share> {
    let positions = 0..tree.count(phase);
    let Some(routes) = target.routes else {
        return vec![Share {
            address: target.addresses[0],
            positions: positions.collect(),
            in_flight_max: TREE_IN_FLIGHT,
        }];
    };
    let leaders = routes.leaders();
    let mut shares: Vec<Share> = leaders
        .iter()
        .enumerate()
        .map(|(place, &address)| Share {
            address,
            positions: Vec::new(),
            // What does not divide is given to the first.
            in_flight_max: (TREE_IN_FLIGHT + leaders.len() - 1 - place) / leaders.len(),
        })
        .collect();
    for position in positions {
        let shard = routes.shard_of(tree.placing_key(phase, position));
        let leader = routes.leader(shard);
        let share = shares.iter_mut().find(|share| share.address == leader);
        let share = share.expect("whoever leads a shard is among the leaders");
        share.positions.push(position);
    }
    shares.retain(|share| !share.positions.is_empty());
    shares
}

fn drive_share(
    system: System,
    tree: &TreeMetadata,
    phase: TreePhase,
    share: &Share,
) -> Result<LoadResult, LoadError> {
    let mut session = Session::connect(system, share.address)?;
    let mut result = empty_result();
    let mut in_flight: Vec<Sent> = Vec::with_capacity(share.in_flight_max);
    let mut unsent = share.positions.iter().copied().peekable();
    while unsent.peek().is_some() || !in_flight.is_empty() {
        while in_flight.len() < share.in_flight_max
            && let Some(position) = unsent.next()
        {
            let id = session.submit(&tree.request(phase, position));
            in_flight.push(Sent {
                id,
                position,
                at: Instant::now(),
                rows: 0,
                is_wrong: false,
            });
        }
        session.next_replies(|id, reply| {
            let place = in_flight.iter().position(|sent| sent.id == id);
            let place = place.expect("the connection answers only what was sent");
            let sent = &mut in_flight[place];
            if let Err(failure) = tree.judge(phase, sent, reply) {
                result.failures.first.get_or_insert(failure);
                sent.is_wrong = true;
            }
            if !reply.is_last() {
                return;
            }
            result.answered += 1;
            result.failures.count += u64::from(sent.is_wrong);
            let latency_ns = u64::try_from(sent.at.elapsed().as_nanos()).unwrap_or(u64::MAX);
            result.latency.saturating_record(latency_ns);
            in_flight.swap_remove(place);
        })?;
    }
    Ok(result)
}

fn empty_result() -> LoadResult {
    LoadResult {
        latency: new_histogram(),
        latency_by_kind: Vec::new(),
        latency_marked: new_histogram(),
        client_delay: new_histogram(),
        answered: 0,
        offered: 0,
        unsent: 0,
        measured: Duration::ZERO,
        answered_in_all: 0,
        conflicts: 0,
        redirected: 0,
        losses: Losses::default(),
        failures: Failures::default(),
    }
}

impl TreeMetadata {
    /// How many requests a phase has.
    fn count(&self, phase: TreePhase) -> usize {
        match phase {
            TreePhase::Create | TreePhase::Stat => self.entries.len(),
            TreePhase::List => self.directories.len(),
        }
    }

    /// A key that lies where a request goes: that of the entry, or the first of the directory. An empty directory may
    /// lie anywhere.
    fn placing_key(&self, phase: TreePhase, position: usize) -> &[u8] {
        match phase {
            TreePhase::Create | TreePhase::Stat => &self.entries[position].key,
            TreePhase::List => {
                let directory = &self.directories[position];
                directory.first_key.as_deref().unwrap_or(&directory.prefix)
            }
        }
    }

    fn request(&self, phase: TreePhase, position: usize) -> Request<'_> {
        match phase {
            TreePhase::Create => {
                let TreeEntry { key, value } = &self.entries[position];
                Request::Put { key, value }
            }
            TreePhase::Stat => Request::Get {
                key: &self.entries[position].key,
            },
            TreePhase::List => {
                let TreeDirectory {
                    prefix, entries, ..
                } = &self.directories[position];
                Request::List(Page {
                    directory: prefix,
                    from: prefix,
                    // One more would show.
                    rows_max: entries + 1,
                })
            }
        }
    }

    /// Whether a reply, or one part of it, is the one that it should be.
    fn judge(&self, phase: TreePhase, sent: &mut Sent, reply: &Reply<'_>) -> Result<(), Failure> {
        match (phase, reply) {
            (_, Reply::Failed(failure)) => Err(failure.clone()),
            (TreePhase::Create, Reply::Done) => Ok(()),
            (TreePhase::Stat, Reply::Row(row)) => {
                let found = row.as_ref().ok_or(Failure::Absent)?.value;
                let is_same = found == self.entries[sent.position].value;
                is_same.then_some(()).ok_or(Failure::OtherValue)
            }
            (TreePhase::List, Reply::Rows(part)) => {
                let directory = &self.directories[sent.position];
                if sent.rows == 0
                    && part.count > 0
                    && part.first_key != directory.first_key.as_deref()
                {
                    return Err(Failure::Absent);
                }
                sent.rows += part.count;
                if part.is_last && sent.rows != directory.entries {
                    return Err(Failure::EntryCount {
                        expected: directory.entries,
                        found: sent.rows,
                    });
                }
                Ok(())
            }
            _ => Err(Failure::Mismatch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::small_tree;
    use super::*;
    use crate::fake_cluster::FakeCluster;
    use crate::fake_store::{FakeStore, Manner};
    use crate::store::Store;
    use crate::test_directory::TestDirectory;

    fn tree(name: &str) -> TreeMetadata {
        let directory = TestDirectory::new(name);
        TreeMetadata::walk(&small_tree(&directory), 1_000).unwrap()
    }

    fn drive(store: &FakeStore, tree: &TreeMetadata, phase: TreePhase) -> LoadResult {
        let addresses = [store.address()];
        drive_phase(Target::metastore(&addresses), tree, phase).unwrap()
    }

    #[test]
    fn a_tree_that_was_created_is_found_and_listed() {
        let tree = tree("a_tree_that_was_created");
        let store = FakeStore::start(Manner::Reversed);
        for (phase, count) in TreePhase::ALL.into_iter().zip([6, 6, 3]) {
            let result = drive(&store, &tree, phase);
            let failures = &result.failures;
            assert_eq!(failures.count, 0, "{phase:?}: {:?}", failures.first);
            assert_eq!(result.answered, count);
            assert_eq!(result.latency.len(), count);
            assert!(result.measured > Duration::ZERO);
        }
    }

    /// Members of a cluster take only what they lead.
    #[test]
    fn leaders_share_what_may_be_in_flight_and_each_is_asked_for_its_own() {
        let tree = tree("leaders_share");
        let cluster = FakeCluster::start(3, 3);
        let store = Store::connect(&cluster.addresses()[0].to_string()).unwrap();
        for (phase, count) in TreePhase::ALL.into_iter().zip([6, 6, 3]) {
            let shares = shares_of(store.target(), &tree, phase);
            let in_flight: usize = shares.iter().map(|share| share.in_flight_max).sum();
            assert!(in_flight <= TREE_IN_FLIGHT);
            let mut positions: Vec<usize> = shares
                .into_iter()
                .flat_map(|share| share.positions)
                .collect();
            positions.sort_unstable();
            assert_eq!(positions, (0..count).collect::<Vec<_>>());
            let result = drive_phase(store.target(), &tree, phase).unwrap();
            let failures = &result.failures;
            assert_eq!(failures.count, 0, "{phase:?}: {:?}", failures.first);
            assert_eq!(result.answered, count as u64);
        }
        assert_eq!(cluster.redirects(), 0);
    }

    #[test]
    fn every_answer_is_judged() {
        let tree = tree("every_answer_is_judged");
        let empty = FakeStore::start(Manner::Reversed);
        let stat = drive(&empty, &tree, TreePhase::Stat).failures;
        assert_eq!((stat.count, stat.first), (6, Some(Failure::Absent)));
        // The empty directory is right.
        let list = drive(&empty, &tree, TreePhase::List).failures;
        assert_eq!(list.count, 2, "{:?}", list.first);
        let other = FakeStore::start(Manner::Finds { value_bytes: 3 });
        let stat = drive(&other, &tree, TreePhase::Stat).failures;
        assert_eq!((stat.count, stat.first), (6, Some(Failure::OtherValue)));
        let refusing = FakeStore::start(Manner::Refuses);
        let create = drive(&refusing, &tree, TreePhase::Create).failures;
        assert_eq!(create.count, 6, "{:?}", create.first);

        let store = FakeStore::start(Manner::Reversed);
        drive(&store, &tree, TreePhase::Create);
        let mut longer = tree.clone();
        longer.directories[0].entries += 1;
        let mut shorter = tree.clone();
        shorter.directories[0].entries -= 1;
        let mut other_first = tree;
        other_first.directories[1].first_key = Some(b"x".to_vec());
        for wrong in [longer, shorter, other_first] {
            let list = drive(&store, &wrong, TreePhase::List).failures;
            assert_eq!(list.count, 1, "{:?}", list.first);
        }
    }
}
