//! Bringing each answer to whoever asked: a connection of this core, one of another core, or a batch that is being
//! gathered.

use std::collections::BTreeMap;

use metastore_statemachine::{Detail, Outcome, OutcomeCode, Revision};

use crate::CoreId;
use crate::effect::{Effect, Effects};
use crate::mesh::{MeshBatch, MeshMessage, PartChunk, RangePartKey, ReplyTo, Token};
use crate::request::{ANSWER_BYTES_MAX, BatchItem, Happened, Reply, RequestError};
use crate::span::Span;

/// The answers to a batch while some are missing.
#[derive(Debug)]
struct Gather {
    /// The batch's request, of a connection of this core.
    reply_to: ReplyTo,
    missing: u32,
    items: Vec<BatchItem>,
    arena: Vec<u8>,
}

/// Bytes of the outcomes of one entry, previous values included.
const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// The answers of a core on their way.
#[derive(Debug)]
pub(crate) struct Answers {
    core: CoreId,
    gathers: BTreeMap<u64, Gather>,
    gather_next: u64,
    /// What the gathers hold.
    gather_bytes: usize,
    /// One batch for each core of the node, our own stays empty.
    outgoing: Vec<MeshBatch>,
    /// Chunks for ranges that were opened on this core.
    pub(crate) chunks: Vec<(RangePartKey, PartChunk)>,
    /// Slices of ranges that this core deletes.
    pub(crate) slices: Vec<SweepAnswer>,
}

/// What became of a slice of a range that is being deleted.
#[derive(Debug)]
pub(crate) struct SweepAnswer {
    pub(crate) sweep: u64,
    pub(crate) part: usize,
    pub(crate) result: Result<SweepSlice, RequestError>,
}

/// A slice that was deleted.
#[derive(Debug)]
pub(crate) struct SweepSlice {
    pub(crate) deleted: u64,
    /// Of the shard, after it.
    pub(crate) revision: Revision,
    /// The last key of it, if there may be more.
    pub(crate) resume_after: Option<Vec<u8>>,
}

impl SweepSlice {
    fn of(outcome: &Outcome<'_>) -> SweepSlice {
        assert_eq!(
            outcome.code,
            OutcomeCode::Done,
            "deleting a range is always done"
        );
        let deleted = outcome.number.and_then(|number| u64::try_from(number).ok());
        SweepSlice {
            deleted: deleted.expect("the outcome counts the keys"),
            revision: outcome.revision,
            resume_after: match outcome.detail {
                Some(Detail::ResumeAfter(key)) => Some(key.to_vec()),
                _ => None,
            },
        }
    }
}

impl Answers {
    pub(crate) fn new(core: CoreId, cores: usize) -> Answers {
        Answers {
            core,
            gathers: BTreeMap::new(),
            gather_next: 0,
            gather_bytes: 0,
            outgoing: (0..cores).map(|_| MeshBatch::default()).collect(),
            chunks: Vec::new(),
            slices: Vec::new(),
        }
    }

    /// Batches whose answers are not complete.
    pub(crate) fn gathers(&self) -> usize {
        self.gathers.len()
    }

    /// Bytes of answers that wait for others: of batches, and of other cores in this turn.
    pub(crate) fn bytes(&self) -> usize {
        let outgoing = self.outgoing.iter().map(|batch| batch.arena.len());
        self.gather_bytes + outgoing.sum::<usize>()
    }

    /// Begins to gather the answers to a batch of `count` commands, at least one.
    pub(crate) fn open_gather(&mut self, reply_to: ReplyTo, count: u32) -> u64 {
        assert!(count > 0, "an empty batch is answered at once");
        let gather = self.gather_next;
        self.gather_next += 1;
        let items = vec![BatchItem::Outcome(Span::default()); count as usize];
        let state = Gather {
            reply_to,
            missing: count,
            items,
            arena: Vec::new(),
        };
        self.gather_bytes += state.items.len() * size_of::<BatchItem>();
        self.gathers.insert(gather, state);
        gather
    }

    /// Answers a command with its outcome.
    pub(crate) fn outcome(&mut self, out: &mut Effects, to: ReplyTo, outcome: &Outcome<'_>) {
        let may_be_large = outcome.previous.is_some() || outcome.detail.is_some();
        if may_be_large && self.is_full_for(out, to, outcome.encoded_len()) {
            // It was carried out; only the answer with values in it finds no room.
            let error = RequestError::answer_too_large(outcome.encoded_len(), Happened::Unknown);
            self.error(out, to, error);
            return;
        }
        if to.core != self.core {
            if to.token == Token::Nobody {
                return;
            }
            let batch = self.mesh(to.core);
            let start = batch.arena.len();
            outcome.encode_into(&mut batch.arena);
            let reply = Reply::Outcome(Span::since(&batch.arena, start));
            batch.messages.push(MeshMessage::Answer {
                token: to.token,
                reply,
            });
            return;
        }
        match to.token {
            Token::Request {
                connection,
                request,
                kind,
            } => {
                let start = out.arena.len();
                outcome.encode_into(&mut out.arena);
                let reply = Reply::Outcome(Span::since(&out.arena, start));
                out.queue.push(Effect::Reply {
                    connection,
                    request,
                    kind,
                    reply,
                });
            }
            Token::BatchItem { gather, item, .. } => {
                let state = self
                    .gathers
                    .get_mut(&gather)
                    .expect("a batch waits for its answers");
                let start = state.arena.len();
                outcome.encode_into(&mut state.arena);
                let span = Span::since(&state.arena, start);
                self.gather_bytes += span.of(&state.arena).len();
                state.items[item as usize] = BatchItem::Outcome(span);
                self.count_item(out, gather);
            }
            Token::Sweep { sweep, part } => self.slices.push(SweepAnswer {
                sweep,
                part,
                result: Ok(SweepSlice::of(outcome)),
            }),
            Token::Nobody => {}
        }
    }

    /// Whether an outcome of that size would make the answers of a turn, or of one batch, larger than they may be.
    /// Outcomes without values in them are small and always find room.
    fn is_full_for(&mut self, out: &Effects, to: ReplyTo, bytes: usize) -> bool {
        if let Token::Sweep { .. } = to.token {
            return false;
        }
        if to.core != self.core {
            return self.mesh(to.core).arena.len() + bytes > ANSWERS_BYTES_MAX;
        }
        match to.token {
            Token::Request { .. } => out.arena.len() + bytes > ANSWERS_BYTES_MAX,
            Token::BatchItem { gather, .. } => self
                .gathers
                .get(&gather)
                .is_some_and(|state| state.arena.len() + bytes > ANSWER_BYTES_MAX),
            Token::Sweep { .. } | Token::Nobody => false,
        }
    }

    /// Answers with an error.
    pub(crate) fn error(&mut self, out: &mut Effects, to: ReplyTo, error: RequestError) {
        self.reply(out, to, Reply::Error(error), &[]);
    }

    /// Answers with a reply whose spans lie in `arena`.
    pub(crate) fn reply(&mut self, out: &mut Effects, to: ReplyTo, reply: Reply, arena: &[u8]) {
        if to.core != self.core {
            if to.token != Token::Nobody {
                let batch = self.mesh(to.core);
                let reply = copy_reply(reply, arena, &mut batch.arena);
                batch.messages.push(MeshMessage::Answer {
                    token: to.token,
                    reply,
                });
            }
            return;
        }
        match to.token {
            Token::Request {
                connection,
                request,
                kind,
            } => {
                let reply = copy_reply(reply, arena, &mut out.arena);
                out.queue.push(Effect::Reply {
                    connection,
                    request,
                    kind,
                    reply,
                });
            }
            Token::BatchItem { gather, item, .. } => {
                let state = self
                    .gathers
                    .get_mut(&gather)
                    .expect("a batch waits for its answers");
                let held_bytes = state.arena.len();
                state.items[item as usize] = match reply {
                    Reply::Outcome(span) => {
                        BatchItem::Outcome(span.copied(arena, &mut state.arena))
                    }
                    Reply::Error(error) => BatchItem::Error(error),
                    Reply::Batch(_)
                    | Reply::Rows { .. }
                    | Reply::Chunk { .. }
                    | Reply::Count { .. }
                    | Reply::Cancelled
                    | Reply::Status(_) => {
                        unreachable!("a command is answered with an outcome or an error")
                    }
                };
                self.gather_bytes += state.arena.len() - held_bytes;
                self.count_item(out, gather);
            }
            Token::Sweep { sweep, part } => {
                let result = match reply {
                    Reply::Outcome(span) => {
                        let outcome = Outcome::decode(span.of(arena));
                        let (outcome, _) = outcome.expect("cores encode their outcomes");
                        Ok(SweepSlice::of(&outcome))
                    }
                    Reply::Error(error) => Err(error),
                    Reply::Batch(_)
                    | Reply::Rows { .. }
                    | Reply::Chunk { .. }
                    | Reply::Count { .. }
                    | Reply::Cancelled
                    | Reply::Status(_) => {
                        unreachable!("a command is answered with an outcome or an error")
                    }
                };
                self.slices.push(SweepAnswer {
                    sweep,
                    part,
                    result,
                });
            }
            Token::Nobody => {}
        }
    }

    /// Answers with a reply whose spans lie in the effects' own arena already.
    pub(crate) fn reply_in_place(&mut self, out: &mut Effects, to: ReplyTo, reply: Reply) {
        match to.token {
            Token::Request {
                connection,
                request,
                kind,
            } if to.core == self.core => {
                out.queue.push(Effect::Reply {
                    connection,
                    request,
                    kind,
                    reply,
                });
            }
            Token::Request { .. }
            | Token::BatchItem { .. }
            | Token::Sweep { .. }
            | Token::Nobody => {
                let arena = std::mem::take(&mut out.arena);
                self.reply(out, to, reply, &arena);
                out.arena = arena;
            }
        }
    }

    fn count_item(&mut self, out: &mut Effects, gather: u64) {
        let state = self
            .gathers
            .get_mut(&gather)
            .expect("a batch waits for its answers");
        state.missing -= 1;
        if state.missing > 0 {
            return;
        }
        let state = self
            .gathers
            .remove(&gather)
            .expect("it was there a moment ago");
        self.gather_bytes -= state.items.len() * size_of::<BatchItem>() + state.arena.len();
        self.reply(out, state.reply_to, Reply::Batch(state.items), &state.arena);
    }

    /// Hands a chunk to the core that merges the range.
    pub(crate) fn part_chunk(&mut self, part: RangePartKey, chunk: PartChunk) {
        if part.home == self.core {
            self.chunks.push((part, chunk));
        } else {
            self.mesh(part.home)
                .messages
                .push(MeshMessage::PartChunk { part, chunk });
        }
    }

    /// What goes to `core` at the end of the turn.
    pub(crate) fn mesh(&mut self, core: CoreId) -> &mut MeshBatch {
        assert_ne!(core, self.core, "a core sends nothing to itself");
        &mut self.outgoing[usize::from(core.0)]
    }

    /// Turns everything that goes to other cores into effects.
    pub(crate) fn flush_mesh(&mut self, out: &mut Effects) {
        for (core, batch) in (0..).map(CoreId).zip(&mut self.outgoing) {
            if !batch.is_empty() {
                out.queue.push(Effect::Forward {
                    core,
                    batch: std::mem::take(batch),
                });
            }
        }
    }
}

/// The same reply with its bytes in another arena.
fn copy_reply(reply: Reply, from: &[u8], to: &mut Vec<u8>) -> Reply {
    match reply {
        Reply::Outcome(span) => Reply::Outcome(span.copied(from, to)),
        Reply::Batch(mut items) => {
            for item in &mut items {
                if let BatchItem::Outcome(span) = item {
                    *span = span.copied(from, to);
                }
            }
            Reply::Batch(items)
        }
        Reply::Rows {
            shape,
            shard,
            revision,
            found,
            rows,
        } => Reply::Rows {
            shape,
            shard,
            revision,
            found: found.copied(from, to),
            rows: rows.copied(from, to),
        },
        Reply::Chunk { count, rows, end } => Reply::Chunk {
            count,
            rows: rows.copied(from, to),
            end,
        },
        Reply::Count { .. } | Reply::Cancelled | Reply::Status(_) | Reply::Error(_) => reply,
    }
}
