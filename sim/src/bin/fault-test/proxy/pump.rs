//! One connection through a proxy: two directions, each with what is on its way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use metastore_sim::network::{Site, Traffic};
use metastore_sim::random::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep_until};

use super::{ProxyCounters, Sky, count};
use crate::weather::{Harm, Treatment};

/// Who says something to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Direction {
    pub(super) from: Site,
    pub(super) to: Site,
    pub(super) traffic: Traffic,
}

impl Direction {
    fn back(self) -> Direction {
        Direction {
            from: self.to,
            to: self.from,
            traffic: self.traffic,
        }
    }
}

/// Bytes that are read at once.
const PIECE_BYTES: usize = 16 << 10;
/// Bytes that are on their way in one direction at most: then nothing more is read.
const ON_WAY_BYTES_MAX: usize = 1 << 20;

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The other one goes on.
    Direction,
    /// Both do.
    Connection,
}

/// Carries bytes both ways until the end. `first` was read already.
pub(super) async fn carry(
    (from, first): (TcpStream, Vec<u8>),
    to: TcpStream,
    direction: Direction,
    sky: &Sky,
    counters: &Arc<ProxyCounters>,
    mut random: Random,
) {
    let (from_reader, from_writer) = from.into_split();
    let (to_reader, to_writer) = to.into_split();
    let mut there = Pump::new(direction, sky, counters, random.fork());
    there.push(first, &Treatment::default());
    let there = there.run(from_reader, to_writer);
    let back = Pump::new(direction.back(), sky, counters, random);
    let back = back.run(to_reader, from_writer);
    tokio::pin!(there, back);
    // A direction that ended alone leaves the other one.
    tokio::select! {
        ended = &mut there => if ended == Ended::Direction {
            back.await;
        },
        ended = &mut back => if ended == Ended::Direction {
            there.await;
        },
    }
}

/// One direction.
struct Pump {
    direction: Direction,
    sky: Sky,
    counters: Arc<ProxyCounters>,
    random: Random,
    /// What is on its way, with when it arrives.
    on_way: VecDeque<(Instant, Vec<u8>)>,
    on_way_bytes: usize,
    newest: Instant,
    /// Whether something was swallowed: what follows makes no sense to whoever reads it.
    has_hole: bool,
    /// What happens once all that is on its way has arrived.
    ending: Option<Ended>,
}

impl Pump {
    fn new(direction: Direction, sky: &Sky, counters: &Arc<ProxyCounters>, random: Random) -> Pump {
        Pump {
            direction,
            sky: sky.clone(),
            counters: Arc::clone(counters),
            random,
            on_way: VecDeque::new(),
            on_way_bytes: 0,
            newest: Instant::now(),
            has_hole: false,
            ending: None,
        }
    }

    fn treatment(&mut self) -> Treatment {
        let Direction { from, to, traffic } = self.direction;
        self.sky.borrow_and_update().treatment(from, to, traffic)
    }

    async fn run(mut self, mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf) -> Ended {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let treatment = self.treatment();
            if treatment.is_reset() || self.has_hole && !treatment.swallows() {
                count(&self.counters.reset, u64::from(treatment.is_reset()));
                return Ended::Connection;
            }
            if let (true, Some(ending)) = (self.on_way.is_empty(), self.ending) {
                // The other end may be gone already.
                let _closed = writer.shutdown().await;
                return ending;
            }
            let may_read = self.ending.is_none() && self.on_way_bytes < ON_WAY_BYTES_MAX;
            let may_write = !self.on_way.is_empty() && !treatment.is_held();
            let due = self.on_way.front().map_or(self.newest, |&(due, _)| due);
            let mut sky = self.sky.clone();
            tokio::select! {
                changed = sky.changed() => if changed.is_err() {
                    return Ended::Connection;
                },
                read = reader.read(&mut piece), if may_read => match read {
                    Ok(0) => self.ending = Some(Ended::Direction),
                    Ok(length) => self.push(piece[..length].to_vec(), &treatment),
                    Err(_) => return Ended::Connection,
                },
                () = sleep_until(due), if may_write => {
                    let (_, bytes) = self.on_way.pop_front().expect("something is on its way");
                    self.on_way_bytes -= bytes.len();
                    if !self.write(&mut writer, &bytes).await {
                        return Ended::Connection;
                    }
                }
            }
        }
    }

    /// Writes a piece, however long its reader takes, as long as the link is not reset.
    async fn write(&mut self, writer: &mut OwnedWriteHalf, bytes: &[u8]) -> bool {
        let written = writer.write_all(bytes);
        tokio::pin!(written);
        loop {
            tokio::select! {
                written = &mut written => {
                    count(&self.counters.bytes, bytes.len() as u64);
                    return written.is_ok();
                }
                changed = self.sky.changed() => {
                    let Direction { from, to, traffic } = self.direction;
                    let weather = Arc::clone(&self.sky.borrow());
                    if changed.is_err() || weather.treatment(from, to, traffic).is_reset() {
                        return false;
                    }
                }
            }
        }
    }

    /// A piece sets out.
    fn push(&mut self, mut bytes: Vec<u8>, treatment: &Treatment) {
        if bytes.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut due = now;
        for &harm in &treatment.harms {
            match harm {
                Harm::Swallow => {
                    count(&self.counters.swallowed_bytes, bytes.len() as u64);
                    self.has_hole = true;
                    return;
                }
                Harm::Delay { min, max } => {
                    let spread_us = (max - min).as_micros() as u64;
                    due += min + Duration::from_micros(self.random.below(spread_us + 1));
                }
                Harm::Throttle { bytes_per_s } => {
                    let takes_us = bytes.len() as u64 * 1_000_000 / bytes_per_s;
                    due = due.max(self.newest) + Duration::from_micros(takes_us);
                }
                Harm::Corrupt { per_mille } => {
                    if self.random.chance(per_mille) {
                        let (at, bit) = (self.random.index(bytes.len()), self.random.below(8));
                        bytes[at] ^= 1 << bit;
                        count(&self.counters.corrupted, 1);
                    }
                }
                Harm::Break { per_mille } => {
                    if self.random.chance(per_mille) {
                        bytes.truncate(self.random.index(bytes.len()));
                        self.ending = Some(Ended::Connection);
                        count(&self.counters.broken, 1);
                    }
                }
                Harm::HalfClose { per_mille } => {
                    if self.random.chance(per_mille) {
                        self.ending = Some(Ended::Direction);
                        count(&self.counters.half_closed, 1);
                    }
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        // Bytes of a stream do not overtake each other.
        self.newest = self.newest.max(due);
        self.on_way_bytes += bytes.len();
        self.on_way.push_back((self.newest, bytes));
    }
}
