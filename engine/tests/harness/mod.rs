//! A node of one or more cores whose devices complete when the test says so.

mod snapshots;

use std::collections::{BTreeMap, VecDeque};

use metastore_engine::{
    BootNonce, ClusterId, ConnectionId, Core, CoreBuilder, CoreConfig, CoreId, Effect, Effects,
    Identity, IdleSettings, Input, LogHistory, LogReadFailed, MembersEffect, MembersInput,
    MeshBatch, Namespaces, NodeId, PeerCore, PeerLane, ReplicaId, Reply, Request, RequestError,
    RequestId, Settings, ShardId, ShardLocation, ShardMap, SliceKind, Span, StartError, TickTiming,
    Ticket, Time,
};
use metastore_statemachine::{
    Command, Detail, Outcome, OutcomeCode, Parameters, Revision, Row, ShardRevision, TxnResult,
};
use metastore_wal::recovery::{SegmentSource, recover};
use metastore_wal::{FileNumber, LogBuffer, LogOptions, SealKey, SegmentFile};

/// The secret of the logs of tests.
const SEAL: SealKey = SealKey(7);

use self::snapshots::SnapshotDeed;
pub(crate) use self::snapshots::{SnapshotFiles, SnapshotWork};

/// What a test sees of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An outcome: its code, revision and number.
    Outcome(OutcomeCode, Revision, Option<i64>),
    /// An outcome with a detail, in words.
    Detailed(OutcomeCode, Revision, Option<i64>, String),
    /// The answers to a batch.
    Batch(Vec<Answer>),
    /// Keys and values that were found.
    Rows(Vec<(Vec<u8>, Vec<u8>)>),
    /// A chunk, and whether it is the last.
    Chunk(Vec<(Vec<u8>, Vec<u8>)>, bool),
    /// A count.
    Count(u64),
    /// An error.
    Error(RequestError),
    /// Anything else.
    Other,
}

/// The files of a core as a device holds them: only what was completed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Files {
    pub(crate) segments: BTreeMap<FileNumber, Vec<u8>>,
    marks: [Option<Vec<u8>>; 2],
    pub(crate) snapshots: SnapshotFiles,
}

impl SegmentSource for Files {
    type Error = String;

    fn files(&mut self) -> Result<Vec<SegmentFile>, String> {
        let file = |(&number, bytes): (&FileNumber, &Vec<u8>)| SegmentFile {
            number,
            bytes: bytes.len() as u64,
        };
        Ok(self.segments.iter().map(file).collect())
    }

    fn read(&mut self, file: FileNumber, offset: u64, into: &mut [u8]) -> Result<(), String> {
        let bytes = self.segments.get(&file).ok_or("no such file")?;
        let start = usize::try_from(offset).expect("a small file");
        into.copy_from_slice(&bytes[start..start + into.len()]);
        Ok(())
    }

    fn marks(&mut self) -> Result<[Option<Box<[u8]>>; 2], String> {
        Ok(self
            .marks
            .clone()
            .map(|mark| mark.map(Vec::into_boxed_slice)))
    }
}

enum Write {
    Log {
        ticket: Ticket,
        file: FileNumber,
        offset: u64,
        buffer: LogBuffer,
    },
    Mark {
        ticket: Ticket,
        slot: usize,
        buffer: LogBuffer,
    },
}

/// One core and its devices.
pub(crate) struct TestCore {
    pub(crate) core: Core,
    pub(crate) files: Files,
    effects: Effects,
    writes: VecDeque<Write>,
    was_prepared: bool,
    snapshot_work: VecDeque<SnapshotWork>,
    /// How often the log was read.
    pub(crate) log_reads: u64,
    /// The device cannot read the log.
    pub(crate) fails_log_reads: bool,
    /// A slice was done: what it led to comes out of the next turn.
    ran_slice: bool,
}

impl TestCore {
    /// One slice of background work, if some waits.
    pub(crate) fn run_slice(&mut self, now: Time) -> Option<SliceKind> {
        let kind = self.core.run_slice(now, &mut self.effects)?;
        self.core.on_slice_executed(kind, now, now);
        self.ran_slice = true;
        Some(kind)
    }

    fn needs_turn(&mut self) -> bool {
        std::mem::take(&mut self.was_prepared) || self.core.has_work() || self.ran_slice
    }
}

/// A node in virtual time.
pub(crate) struct TestNode {
    pub(crate) cores: Vec<TestCore>,
    pub(crate) now: Time,
    pub(crate) answers: Vec<(ConnectionId, RequestId, Answer)>,
    /// What is on its way to other nodes.
    pub(crate) sent: Vec<(PeerCore, PeerLane, Vec<u8>)>,
    /// What became of members and replicas.
    pub(crate) members: Vec<MembersEffect>,
    /// Turns do no slice of background work: the test does them.
    pub(crate) holds_slices: bool,
    /// Nothing is done to the files of snapshots unless the test does it.
    pub(crate) holds_snapshots: bool,
}

/// The configuration of a core of a node with `cores` cores and `shards` shards, shard s on core s mod cores.
pub(crate) fn config(core: usize, cores: usize, shards: u32) -> CoreConfig {
    let core_of = |shard: u32| CoreId(u16::try_from(shard as usize % cores).expect("few cores"));
    let location = |shard| ShardLocation {
        shard: ShardId(shard),
        core: core_of(shard),
    };
    let id = CoreId(u16::try_from(core).expect("few cores"));
    let identity = Identity {
        cluster: ClusterId(7),
        node: NodeId(1),
        core: id,
    };
    let here = (0..shards).filter(|&shard| core_of(shard) == id);
    let mut settings = Settings {
        command_bytes_max: 16 << 10,
        ..Settings::default()
    };
    settings.batch.bytes_max = 32 << 10;
    // Tests count ticks one by one, unless they are about what becomes of them.
    settings.raft.timing = TickTiming::Fixed;
    settings.raft.idle = IdleSettings {
        sleep_ticks: None,
        lead_ticks: None,
    };
    CoreConfig {
        identity,
        cores,
        replicas: here
            .map(|shard| (ReplicaId(u64::from(shard) + 1), ShardId(shard)))
            .collect(),
        members: BTreeMap::new(),
        shard_map: ShardMap::split_evenly((0..shards).map(location).collect())
            .expect("a valid map"),
        namespaces: Namespaces::default(),
        settings,
        log: LogOptions {
            segment_bytes: 1 << 20,
            record_bytes_max: 128 << 10,
            budget_bytes: 8 << 20,
            spare_segments: 1,
            ..LogOptions::new(identity, SEAL)
        },
        parameters: Parameters::default(),
        seed: 1,
        boot: BootNonce(1),
    }
}

/// Starts a core from what its files hold.
pub(crate) fn start(
    config: CoreConfig,
    files: Files,
    now: Time,
    history: LogHistory,
) -> Result<TestCore, StartError> {
    let (identity, log) = (config.identity, config.log.clone());
    let mut builder = CoreBuilder::new(config)?;
    let recovered = recover(&mut files.clone(), &identity, SEAL, &mut |event| {
        builder.on_event(event);
        files.snapshots.load(&mut builder);
    })
    .expect("undamaged files");
    let core = builder.build(now, recovered, log.new_buffers(), history)?;
    Ok(TestCore {
        core,
        files,
        effects: Effects::default(),
        writes: VecDeque::new(),
        was_prepared: false,
        snapshot_work: VecDeque::new(),
        log_reads: 0,
        fails_log_reads: false,
        ran_slice: false,
    })
}

impl TestNode {
    /// A new node whose cores have written what they write at their first start.
    pub(crate) fn new(cores: usize, shards: u32) -> TestNode {
        TestNode::with(cores, |core| config(core, cores, shards))
    }

    /// A new node with the given configuration of each core.
    pub(crate) fn with(cores: usize, config: impl Fn(usize) -> CoreConfig) -> TestNode {
        let now = Time(1_000_000_000);
        let start_core =
            |core| start(config(core), Files::default(), now, LogHistory::New).expect("new data");
        let mut node = TestNode {
            cores: (0..cores).map(start_core).collect(),
            now,
            answers: Vec::new(),
            sent: Vec::new(),
            members: Vec::new(),
            holds_slices: false,
            holds_snapshots: false,
        };
        node.settle();
        assert!(node.cores.iter().all(|core| core.core.is_serving()));
        node
    }

    /// Gives a core an input without ending its turn.
    pub(crate) fn step(&mut self, core: usize, input: Input<'_>) {
        let TestCore { core, effects, .. } = &mut self.cores[core];
        core.step(self.now, input, effects);
    }

    /// A request of connection 1.
    pub(crate) fn request(&mut self, core: usize, request: u64, body: Request<'_>) {
        self.request_within(core, request, 0, body);
    }

    /// A request of connection 1 with a deadline.
    pub(crate) fn request_within(
        &mut self,
        core: usize,
        request: u64,
        deadline_ms: u32,
        body: Request<'_>,
    ) {
        let (connection, request) = (ConnectionId(1), RequestId(request));
        self.step(
            core,
            Input::Request {
                connection,
                request,
                deadline_ms,
                body,
            },
        );
    }

    /// A command of connection 1.
    pub(crate) fn command(&mut self, core: usize, request: u64, command: &Command<'_>) {
        let mut bytes = Vec::new();
        command.encode_into(&mut bytes);
        self.request(
            core,
            request,
            Request::Command {
                command: *command,
                bytes: &bytes,
            },
        );
    }

    /// Ends the turn of every core and carries out everything but log writes, until nothing is left to do.
    pub(crate) fn turn(&mut self) {
        for _ in 0..1_000 {
            let mut mesh: Vec<(usize, CoreId, MeshBatch)> = Vec::new();
            let mut is_busy = false;
            for index in 0..self.cores.len() {
                let mut forwarded = self.turn_of(index);
                is_busy |= !forwarded.is_empty() || self.cores[index].needs_turn();
                mesh.extend(forwarded.drain(..).map(|(to, batch)| (index, to, batch)));
            }
            for (from, to, mut batch) in mesh {
                let from = CoreId(u16::try_from(from).expect("few cores"));
                self.step(
                    usize::from(to.0),
                    Input::Mesh {
                        from,
                        batch: &mut batch,
                    },
                );
            }
            if !is_busy {
                return;
            }
        }
        panic!("the cores never come to rest");
    }

    fn turn_of(&mut self, index: usize) -> Vec<(CoreId, MeshBatch)> {
        let test = &mut self.cores[index];
        test.core.finish_turn(self.now, &mut test.effects);
        let arena = std::mem::take(&mut test.effects.arena);
        let mut forwarded = Vec::new();
        let mut prepared = Vec::new();
        let mut removed = Vec::new();
        let mut read = Vec::new();
        let mut unlisted = Vec::new();
        for effect in test.effects.queue.drain(..) {
            match effect {
                Effect::WriteLog {
                    ticket,
                    file,
                    offset,
                    buffer,
                } => {
                    test.writes.push_back(Write::Log {
                        ticket,
                        file,
                        offset,
                        buffer,
                    });
                }
                Effect::WriteMark {
                    ticket,
                    slot,
                    buffer,
                } => {
                    let slot = usize::try_from(slot.offset()).expect("small") / buffer.capacity();
                    test.writes.push_back(Write::Mark {
                        ticket,
                        slot,
                        buffer,
                    });
                }
                Effect::PrepareSegment { file, bytes } => {
                    let bytes = usize::try_from(bytes).expect("a small file");
                    test.files.segments.insert(file, vec![0; bytes]);
                    prepared.push(file);
                }
                Effect::RemoveSegment { file } => {
                    test.files.segments.remove(&file);
                    removed.push(file);
                }
                Effect::Reply {
                    connection,
                    request,
                    reply,
                    ..
                } => {
                    self.answers
                        .push((connection, request, to_answer(&reply, &arena)));
                }
                Effect::WriteSnapshot {
                    ticket,
                    snapshot,
                    offset,
                    bytes,
                } => test.snapshot_work.push_back(SnapshotWork {
                    ticket,
                    snapshot,
                    deed: SnapshotDeed::Write { offset, bytes },
                }),
                Effect::FinishSnapshot {
                    ticket,
                    snapshot,
                    bytes,
                } => test.snapshot_work.push_back(SnapshotWork {
                    ticket,
                    snapshot,
                    deed: SnapshotDeed::Finish { bytes },
                }),
                Effect::RemoveSnapshot { ticket, snapshot } => {
                    test.snapshot_work.push_back(SnapshotWork {
                        ticket,
                        snapshot,
                        deed: SnapshotDeed::Remove,
                    });
                }
                Effect::Forward { core, batch } => forwarded.push((core, batch)),
                Effect::Send { to, lane, batch } => self.sent.push((to, lane, batch)),
                Effect::ReadSnapshot {
                    ticket,
                    snapshot,
                    offset,
                    bytes,
                } => test.snapshot_work.push_back(SnapshotWork {
                    ticket,
                    snapshot,
                    deed: SnapshotDeed::Read { offset, bytes },
                }),
                Effect::ReadLog {
                    ticket,
                    file,
                    offset,
                    bytes,
                } => {
                    test.log_reads += 1;
                    let start = usize::try_from(offset).expect("a small file");
                    let segment = &test.files.segments[&file];
                    read.push((ticket, segment[start..start + bytes].to_vec()));
                }
                Effect::Members(effect) => {
                    if let MembersEffect::Unlist { replica, .. } = effect {
                        unlisted.push(replica);
                    }
                    self.members.push(effect);
                }
                Effect::Halt(reason) => panic!("halted: {reason}"),
            }
        }
        test.core.on_turn_executed(self.now, self.now);
        test.ran_slice = false;
        if !self.holds_slices {
            test.run_slice(self.now);
        }
        test.was_prepared |= !prepared.is_empty();
        test.was_prepared |= !unlisted.is_empty();
        for replica in unlisted {
            let input = Input::Members(MembersInput::Unlisted { replica });
            test.core.step(self.now, input, &mut test.effects);
        }
        for file in removed {
            test.core
                .step(self.now, Input::SegmentRemoved { file }, &mut test.effects);
        }
        for file in prepared {
            test.core
                .step(self.now, Input::SegmentPrepared { file }, &mut test.effects);
        }
        test.was_prepared |= !read.is_empty();
        for (ticket, bytes) in read {
            let result = match test.fails_log_reads {
                true => Err(LogReadFailed),
                false => Ok(&bytes[..]),
            };
            let input = Input::LogRead { ticket, result };
            test.core.step(self.now, input, &mut test.effects);
        }
        forwarded
    }

    /// Completes the oldest write of a core; `false` when there is none.
    pub(crate) fn complete_write(&mut self, core: usize) -> bool {
        let test = &mut self.cores[core];
        let input = match test.writes.pop_front() {
            None => return false,
            Some(Write::Log {
                ticket,
                file,
                offset,
                buffer,
            }) => {
                let segment = test.files.segments.get_mut(&file).expect("it was prepared");
                let start = usize::try_from(offset).expect("a small file");
                segment[start..start + buffer.len()].copy_from_slice(buffer.as_slice());
                Input::LogWritten { ticket, buffer }
            }
            Some(Write::Mark {
                ticket,
                slot,
                buffer,
            }) => {
                test.files.marks[slot] = Some(buffer.as_slice().to_vec());
                Input::MarkWritten { ticket, buffer }
            }
        };
        self.step(core, input);
        true
    }

    /// Log writes of a core that are under way.
    pub(crate) fn writes_in_flight(&self, core: usize) -> usize {
        let is_log = |write: &&Write| matches!(write, Write::Log { .. });
        self.cores[core].writes.iter().filter(is_log).count()
    }

    /// Turns and completions until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.turn();
            let mut completed = 0;
            for core in 0..self.cores.len() {
                completed += usize::from(self.complete_write(core));
                if !self.holds_snapshots {
                    completed += usize::from(self.complete_snapshot_work(core));
                }
            }
            if completed == 0 {
                return;
            }
        }
        panic!("the cores never come to rest");
    }

    /// Lets time pass; every core gets its tick.
    pub(crate) fn pass_ms(&mut self, milliseconds: u64) {
        self.now = self.now.plus_ms(milliseconds);
        for core in 0..self.cores.len() {
            self.step(core, Input::Tick);
        }
    }

    /// Takes the answers so far, with their requests.
    pub(crate) fn take_answers(&mut self) -> Vec<(u64, Answer)> {
        std::mem::take(&mut self.answers)
            .into_iter()
            .map(|(_, request, answer)| (request.0, answer))
            .collect()
    }

    /// Puts a key and waits for the answer.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> Answer {
        let command = Command::put(
            metastore_statemachine::NamespaceId::DEFAULT,
            key.as_bytes(),
            value.as_bytes(),
        );
        self.command(0, 1_000_000, &command);
        self.settle();
        let mut answers = self.take_answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0).1
    }
}

fn to_answer(reply: &Reply, arena: &[u8]) -> Answer {
    match reply {
        Reply::Outcome(span) => outcome(*span, arena),
        Reply::Batch(items) => Answer::Batch(
            items
                .iter()
                .map(|item| match item {
                    metastore_engine::BatchItem::Outcome(span) => outcome(*span, arena),
                    metastore_engine::BatchItem::Error(error) => Answer::Error(error.clone()),
                })
                .collect(),
        ),
        Reply::Rows { rows: span, .. } => Answer::Rows(rows(*span, arena)),
        Reply::Chunk {
            rows: span, end, ..
        } => Answer::Chunk(rows(*span, arena), *end != metastore_engine::ChunkEnd::More),
        Reply::Error(error) => Answer::Error(error.clone()),
        Reply::Count { count, .. } => Answer::Count(*count),
        Reply::Cancelled | Reply::Status(_) => Answer::Other,
    }
}

fn outcome(span: Span, arena: &[u8]) -> Answer {
    let (outcome, _) = Outcome::decode(span.of(arena)).expect("an encoded outcome");
    let detail = match outcome.detail {
        None => return Answer::Outcome(outcome.code, outcome.revision, outcome.number),
        Some(Detail::Txn(results)) => {
            let word = |result| match result {
                TxnResult::Mutation { code, .. } => format!("{code:?}"),
                TxnResult::Get(None) => "none".to_owned(),
                TxnResult::Get(Some(row)) => row.value.escape_ascii().to_string(),
                TxnResult::DeleteRange(count) => format!("-{count}"),
                TxnResult::Range { .. } | TxnResult::Txn(_) => format!("{result:?}"),
            };
            let words: Vec<String> = results.iter().map(word).collect();
            format!("{:?} {}", results.branch, words.join(" "))
        }
        Some(Detail::ShardRevisions(revisions)) => {
            let word = |place: ShardRevision| format!("{}:{}", place.shard, place.revision);
            let words: Vec<String> = revisions.iter().map(word).collect();
            words.join(" ")
        }
        Some(other) => format!("{other:?}"),
    };
    Answer::Detailed(outcome.code, outcome.revision, outcome.number, detail)
}

fn rows(span: Span, arena: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rest = span.of(arena);
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (row, length) = Row::decode(rest).expect("encoded rows");
        rows.push((row.key.to_vec(), row.value.to_vec()));
        rest = &rest[length..];
    }
    rows
}
