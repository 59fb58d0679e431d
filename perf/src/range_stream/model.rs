//! What was written, and what a stream of it must be.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use metastore_net::Response;
use metastore_net::blocking::Client;
use metastore_statemachine::{Command, NamespaceId, OutcomeCode};

use super::{DIRECTORY, RangeStreamError};

const VALUE_BYTES: usize = 256;
/// Commands in a frame.
const BATCH_COMMANDS: u64 = 256;
/// Frames in flight.
const BATCHES_IN_FLIGHT: usize = 8;
/// One change in so many deletes its key; the next round brings it back.
const DELETES_ONE_IN: u64 = 8;
/// Keys are changed in steps of this, which is prime, so that each round comes to all of them, far from their order.
const STRIDE: u64 = 7_368_787;

/// A stream of rows in short.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    mixed: u64,
}

impl Digest {
    /// The next row.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.mixed);
        hasher.write(key);
        hasher.write(value);
        self.mixed = hasher.finish();
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }
}

/// The only one who changes the keys; it knows what each of them is.
#[derive(Debug)]
pub(super) struct Writer {
    client: Client,
    /// By key, the round of its last put; `None` when it is deleted.
    rounds: Vec<Option<u64>>,
    /// Changes made so far.
    changes: u64,
}

impl Writer {
    pub(super) fn new(client: Client, keys: u64) -> Writer {
        Writer {
            client,
            rounds: vec![None; usize::try_from(keys).expect("keys fit into memory")],
            changes: 0,
        }
    }

    fn keys(&self) -> u64 {
        self.rounds.len() as u64
    }

    /// Puts every key.
    pub(super) fn load(&mut self) -> Result<(), RangeStreamError> {
        self.change(self.keys())
    }

    /// Makes so many changes more.
    pub(super) fn change(&mut self, count: u64) -> Result<(), RangeStreamError> {
        let end = self.changes + count;
        while self.changes < end || self.client.pending_count() > 0 {
            while self.changes < end && self.client.pending_count() < BATCHES_IN_FLIGHT {
                self.submit(BATCH_COMMANDS.min(end - self.changes));
            }
            self.receive()?;
        }
        Ok(())
    }

    /// Makes changes until told that it is over, and counts those that are answered.
    pub(super) fn change_until(
        &mut self,
        is_over: &AtomicBool,
        answered: &AtomicU64,
    ) -> Result<(), RangeStreamError> {
        let result = self.change_while(|| !is_over.load(Ordering::Relaxed), answered);
        if result.is_err() {
            // Nobody shall wait for writes that never come.
            answered.store(u64::MAX, Ordering::Relaxed);
        }
        result
    }

    fn change_while(
        &mut self,
        goes_on: impl Fn() -> bool,
        answered: &AtomicU64,
    ) -> Result<(), RangeStreamError> {
        while goes_on() || self.client.pending_count() > 0 {
            while goes_on() && self.client.pending_count() < BATCHES_IN_FLIGHT {
                self.submit(BATCH_COMMANDS);
            }
            if self.client.pending_count() > 0 {
                let batches = self.receive()?;
                answered.fetch_add(batches * BATCH_COMMANDS, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn submit(&mut self, count: u64) {
        let changes: Vec<(Vec<u8>, Option<[u8; VALUE_BYTES]>)> = (0..count)
            .map(|_| {
                let (number, round) = (
                    self.changes * STRIDE % self.keys(),
                    self.changes / self.keys(),
                );
                self.changes += 1;
                // The first round puts all keys.
                let is_put = round == 0 || !mix(number, round).is_multiple_of(DELETES_ONE_IN);
                self.rounds[number as usize] = is_put.then_some(round);
                (key(number), is_put.then(|| value(number, round)))
            })
            .collect();
        let namespace = NamespaceId::DEFAULT;
        let commands: Vec<Command<'_>> = changes
            .iter()
            .map(|(key, value)| match value {
                Some(value) => Command::put(namespace, key, value),
                None => Command::delete(namespace, key),
            })
            .collect();
        self.client.submit(|connection| connection.batch(&commands));
    }

    /// Takes answers and tells how many there were.
    fn receive(&mut self) -> Result<u64, RangeStreamError> {
        let mut batches = 0;
        let mut refused = None;
        self.client.next_responses(|_, response| {
            batches += 1;
            let Response::Batch(reply) = &response else {
                refused = Some(format!("{response:?}"));
                return;
            };
            for item in reply.items() {
                match item {
                    Ok(outcome)
                        if matches!(outcome.code, OutcomeCode::Done | OutcomeCode::Absent) => {}
                    other => refused = Some(format!("{other:?}")),
                }
            }
        })?;
        match refused {
            Some(what) => Err(RangeStreamError::Write(what)),
            None => Ok(batches),
        }
    }

    /// What a stream of all keys must be now.
    pub(super) fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        for (number, round) in (0..).zip(&self.rounds) {
            if let Some(round) = round {
                digest.add(&key(number), &value(number, *round));
            }
        }
        digest
    }
}

/// Of one length, so that they stand in the order of their numbers.
fn key(number: u64) -> Vec<u8> {
    [DIRECTORY, format!("{number:010}").as_bytes()].concat()
}

fn value(number: u64, round: u64) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    for (position, word) in (0..).zip(value.as_chunks_mut::<8>().0) {
        *word = mix(number, round ^ (position << 32)).to_le_bytes();
    }
    value
}

fn mix(first: u64, second: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(first);
    hasher.write_u64(second);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_comes_to_every_key() {
        let mut seen = [false; 1_000];
        (0..1_000).for_each(|change| seen[(change * STRIDE % 1_000) as usize] = true);
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn a_digest_tells_order_and_values_apart() {
        let digest = |rows: &[(&[u8], &[u8])]| {
            let mut digest = Digest::default();
            rows.iter().for_each(|(key, value)| digest.add(key, value));
            digest
        };
        let rows = [(&b"a"[..], &b"1"[..]), (&b"b"[..], &b"2"[..])];
        assert_eq!(digest(&rows), digest(&rows));
        assert_ne!(digest(&rows), digest(&[rows[1], rows[0]]));
        assert_ne!(digest(&rows), digest(&[(b"a", b"1"), (b"b", b"3")]));
        assert_ne!(value(1, 1), value(1, 2));
    }
}
