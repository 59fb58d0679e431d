//! Ranges and counts over one shard or several: each shard streams its part in order, the core where the request arrived
//! merges them by key.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use metastore_statemachine::{Direction, Revision, Row};
use metastore_wal::ShardId;

use crate::CoreId;
use crate::effect::{Effect, Effects};
use crate::ids::{ConnectionId, RequestId, Time};
use crate::mesh::{PartChunk, PartEnd, PartOutput, RangePartKey, RangePlan};
use crate::request::{ChunkEnd, Happened, Reply, RequestError, RequestKind};
use crate::span::Span;

/// A range whose chunk was not taken for this long is given up. Its parts, which nobody asks for meanwhile, are given
/// up after the same time.
pub(crate) const RANGE_IDLE_MS_MAX: u64 = 30_000;

/// A part as the merging core sees it.
#[derive(Debug)]
struct MergePart {
    shard: ShardId,
    core: CoreId,
    rows: Vec<u8>,
    position: usize,
    revision: Revision,
    state: PartState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartState {
    /// A chunk was asked for and is not here.
    Waiting,
    /// More can be asked for.
    More,
    /// What is here is the last of it.
    Last,
}

impl MergePart {
    fn is_empty(&self) -> bool {
        self.position == self.rows.len()
    }

    /// The next row, with its encoded length.
    fn front(&self) -> Option<(Row<'_>, usize)> {
        let rest = &self.rows[self.position..];
        (!rest.is_empty()).then(|| Row::decode(rest).expect("a part encodes its rows"))
    }
}

/// Who asked for a range or a count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) connection: ConnectionId,
    pub(crate) request: RequestId,
    pub(crate) kind: RequestKind,
}

impl Asker {
    /// Answers with an error.
    pub(crate) fn refuse(self, out: &mut Effects, error: RequestError) {
        self.reply(out, Reply::Error(error));
    }

    fn reply(self, out: &mut Effects, reply: Reply) {
        out.queue.push(Effect::Reply {
            connection: self.connection,
            request: self.request,
            kind: self.kind,
            reply,
        });
    }
}

/// A range, or a count, on the core where it was asked for.
#[derive(Debug)]
struct Merge {
    asker: Asker,
    /// A count is one answer, which is of no use after this; a range is many, and only its beginning has a deadline.
    deadline: Option<Time>,
    output: PartOutput,
    /// What was counted so far.
    count: u64,
    direction: Direction,
    chunk_bytes: usize,
    rows_left: Option<u64>,
    parts: Vec<MergePart>,
    /// A chunk was handed to the connection and has not left yet: a slow reader holds one chunk, not the range.
    awaits_drain: bool,
    /// When a chunk last came or left.
    active_at: Time,
}

/// What a part is asked for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartRequest {
    Next,
    Close,
}

/// The ranges that were asked for on this core.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    merges: BTreeMap<u64, Merge>,
    by_connection: BTreeSet<(ConnectionId, u64)>,
    next: u64,
    /// What goes out to parts, for the core to deliver.
    pub(crate) requests: Vec<(CoreId, RangePartKey, PartRequest)>,
}

impl Merges {
    pub(crate) fn len(&self) -> usize {
        self.merges.len()
    }

    /// Bytes of rows that wait to be merged.
    pub(crate) fn bytes(&self) -> usize {
        let parts = self.merges.values().flat_map(|merge| &merge.parts);
        parts.map(|part| part.rows.capacity()).sum()
    }

    /// How many of them a connection has.
    pub(crate) fn len_of(&self, connection: ConnectionId) -> usize {
        self.by_connection
            .range((connection, 0)..=(connection, u64::MAX))
            .count()
    }

    /// Begins to merge the parts of a range; their first chunks are on their way.
    pub(crate) fn open(
        &mut self,
        now: Time,
        home: CoreId,
        (asker, deadline): (Asker, Time),
        plan: &RangePlan,
        shards: &[(ShardId, CoreId)],
    ) -> Vec<RangePartKey> {
        let merge = self.next;
        self.next += 1;
        let parts = shards.iter().map(|&(shard, core)| MergePart {
            shard,
            core,
            rows: Vec::new(),
            position: 0,
            revision: Revision(0),
            state: PartState::Waiting,
        });
        let state = Merge {
            asker,
            deadline: (plan.output != PartOutput::Rows).then_some(deadline),
            output: plan.output,
            count: 0,
            direction: plan.direction,
            chunk_bytes: plan.chunk_bytes,
            rows_left: (plan.limit > 0).then_some(plan.limit),
            parts: parts.collect(),
            awaits_drain: false,
            active_at: now,
        };
        self.by_connection.insert((asker.connection, merge));
        self.merges.insert(merge, state);
        shards
            .iter()
            .map(|&(shard, _)| RangePartKey { home, merge, shard })
            .collect()
    }

    /// Answers a range of which no shard is meant: it has no rows.
    pub(crate) fn answer_empty(out: &mut Effects, asker: Asker, plan: &RangePlan) {
        let revisions = Vec::new();
        let reply = match plan.output {
            PartOutput::Rows => {
                let rows = Span::since(&out.arena, out.arena.len());
                let end = ChunkEnd::Last(revisions);
                Reply::Chunk {
                    count: 0,
                    rows,
                    end,
                }
            }
            PartOutput::Count | PartOutput::CountAndPrefixes => Reply::Count {
                count: 0,
                revisions,
            },
        };
        asker.reply(out, reply);
    }

    /// Takes a chunk of a part. One that belongs to a range which is over is dropped.
    pub(crate) fn on_chunk(
        &mut self,
        now: Time,
        out: &mut Effects,
        key: RangePartKey,
        chunk: PartChunk,
    ) {
        let Some(merge) = self.merges.get_mut(&key.merge) else {
            return;
        };
        merge.active_at = now;
        let part = merge
            .parts
            .iter_mut()
            .find(|part| part.shard == key.shard)
            .expect("a range has the parts that it was opened with");
        assert_eq!(
            part.state,
            PartState::Waiting,
            "a chunk comes when it is asked for"
        );
        part.state = match chunk.end {
            PartEnd::More => PartState::More,
            PartEnd::Last => PartState::Last,
            PartEnd::Failed(error) => {
                part.state = PartState::Last;
                merge.asker.refuse(out, error);
                self.close(key.home, key.merge);
                return;
            }
        };
        merge.count += chunk.counted;
        part.rows = chunk.rows;
        part.position = 0;
        part.revision = chunk.revision;
        self.advance(out, key.home, key.merge);
    }

    /// Everything sent to the connection has left: its ranges go on.
    pub(crate) fn on_drained(
        &mut self,
        now: Time,
        out: &mut Effects,
        home: CoreId,
        connection: ConnectionId,
    ) {
        for merge in self.of_connection(connection) {
            if let Some(state) = self.merges.get_mut(&merge) {
                state.awaits_drain = false;
                state.active_at = now;
            }
            self.advance(out, home, merge);
        }
    }

    /// The connection is gone: so are its ranges.
    pub(crate) fn on_closed(&mut self, home: CoreId, connection: ConnectionId) {
        for merge in self.of_connection(connection) {
            self.close(home, merge);
        }
    }

    /// The client does not want the rest of its range: the range is answered, then the request to end it.
    pub(crate) fn cancel(
        &mut self,
        out: &mut Effects,
        home: CoreId,
        connection: ConnectionId,
        range: RequestId,
    ) {
        let found = self.of_connection(connection).into_iter().find(|merge| {
            self.merges
                .get(merge)
                .is_some_and(|state| state.asker.request == range)
        });
        if let Some(merge) = found {
            self.merges[&merge]
                .asker
                .refuse(out, RequestError::Cancelled);
            self.close(home, merge);
        }
    }

    /// Gives up ranges that did not move for long: their clients do not read, and their pins hold history. And counts
    /// whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Time, out: &mut Effects, home: CoreId) {
        let is_late = |merge: &Merge| merge.deadline.is_some_and(|deadline| deadline <= now);
        let late = self.merges.iter().filter(|(_, merge)| is_late(merge));
        for merge in late.map(|(&merge, _)| merge).collect::<Vec<u64>>() {
            let happened = Happened::NotDone;
            self.merges[&merge]
                .asker
                .refuse(out, RequestError::Deadline { happened });
            self.close(home, merge);
        }
        let is_idle = |merge: &Merge| now.millis_since(merge.active_at) > RANGE_IDLE_MS_MAX;
        let idle = self.merges.iter().filter(|(_, merge)| is_idle(merge));
        for merge in idle.map(|(&merge, _)| merge).collect::<Vec<u64>>() {
            self.merges[&merge]
                .asker
                .refuse(out, RequestError::RangeExpired);
            self.close(home, merge);
        }
    }

    fn of_connection(&self, connection: ConnectionId) -> Vec<u64> {
        self.by_connection
            .range((connection, 0)..=(connection, u64::MAX))
            .map(|&(_, merge)| merge)
            .collect()
    }

    fn close(&mut self, home: CoreId, merge: u64) {
        let Some(state) = self.merges.remove(&merge) else {
            return;
        };
        self.by_connection.remove(&(state.asker.connection, merge));
        for part in state
            .parts
            .iter()
            .filter(|part| part.state != PartState::Last)
        {
            let key = RangePartKey {
                home,
                merge,
                shard: part.shard,
            };
            self.requests.push((part.core, key, PartRequest::Close));
        }
    }

    /// Merges what is there into one chunk, and asks for what is missing.
    fn advance(&mut self, out: &mut Effects, home: CoreId, merge: u64) {
        let Some(state) = self.merges.get_mut(&merge) else {
            return;
        };
        if state.awaits_drain {
            return;
        }
        let start = out.arena.len();
        let count = match state.output {
            PartOutput::Rows => state.fill_chunk(&mut out.arena, start),
            PartOutput::Count | PartOutput::CountAndPrefixes => {
                state.count_prefixes();
                0
            }
        };
        let rows = Span::since(&out.arena, start);
        for part in &mut state.parts {
            if part.is_empty() && part.state == PartState::More {
                part.state = PartState::Waiting;
                let key = RangePartKey {
                    home,
                    merge,
                    shard: part.shard,
                };
                self.requests.push((part.core, key, PartRequest::Next));
            }
        }
        let asker = state.asker;
        if state.is_over() {
            let revisions = state.revisions();
            let reply = match state.output {
                PartOutput::Rows => {
                    let end = ChunkEnd::Last(revisions);
                    Reply::Chunk { count, rows, end }
                }
                PartOutput::Count | PartOutput::CountAndPrefixes => Reply::Count {
                    count: state.count,
                    revisions,
                },
            };
            asker.reply(out, reply);
            self.close(home, merge);
        } else if count > 0 {
            state.awaits_drain = true;
            let end = ChunkEnd::More;
            asker.reply(out, Reply::Chunk { count, rows, end });
        }
    }
}

impl Merge {
    /// Copies rows in order until the chunk is full or the next row of some part is not known.
    fn fill_chunk(&mut self, arena: &mut Vec<u8>, start: usize) -> u32 {
        let mut count = 0;
        while arena.len() - start < self.chunk_bytes && self.rows_left != Some(0) {
            let Some(next) = self.choose_part() else {
                break;
            };
            let part = &mut self.parts[next];
            let (row, length) = part.front().expect("the chosen part has a row");
            let is_common_prefix = row.is_common_prefix();
            arena.extend_from_slice(&part.rows[part.position..part.position + length]);
            part.position += length;
            count += 1;
            if is_common_prefix {
                let written = &arena[arena.len() - length..];
                let (row, _) = Row::decode(written).expect("it was copied a moment ago");
                self.drop_prefix(row.key);
            }
            if let Some(left) = &mut self.rows_left {
                *left -= 1;
            }
        }
        count
    }

    /// Counts common prefixes until the next row of some part is not known.
    fn count_prefixes(&mut self) {
        while let Some(next) = self.choose_part() {
            let part = &mut self.parts[next];
            let (row, length) = part.front().expect("the chosen part has a row");
            let prefix = row.key.to_vec();
            part.position += length;
            self.count += 1;
            self.drop_prefix(&prefix);
        }
    }

    /// Passes over a common prefix that other parts have too. When a row is chosen every part shows its next, so all
    /// of them are seen.
    fn drop_prefix(&mut self, prefix: &[u8]) {
        for part in &mut self.parts {
            if let Some((row, length)) = part.front()
                && row.key == prefix
            {
                part.position += length;
            }
        }
    }

    /// The part with the next row, `None` when there is none, or when a part's next row is not here yet.
    fn choose_part(&self) -> Option<usize> {
        let mut chosen: Option<(usize, &[u8])> = None;
        for (index, part) in self.parts.iter().enumerate() {
            let Some((row, _)) = part.front() else {
                match part.state {
                    PartState::Last => continue,
                    PartState::Waiting | PartState::More => return None,
                }
            };
            let comes_first = chosen.is_none_or(|(_, key)| {
                let order = row.key.cmp(key);
                match self.direction {
                    Direction::Forward => order == Ordering::Less,
                    Direction::Reverse => order == Ordering::Greater,
                }
            });
            if comes_first {
                chosen = Some((index, row.key));
            }
        }
        chosen.map(|(index, _)| index)
    }

    fn is_over(&self) -> bool {
        self.rows_left == Some(0)
            || self
                .parts
                .iter()
                .all(|part| part.is_empty() && part.state == PartState::Last)
    }

    fn revisions(&self) -> Vec<(ShardId, Revision)> {
        self.parts
            .iter()
            .map(|part| (part.shard, part.revision))
            .collect()
    }
}
