//! A store for tests: it speaks the protocol, keeps everything in memory, and misbehaves on demand.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use metastore_net::{
    ChunkEnd, ChunkWriter, ErrorCode, FRAME_BYTES_MAX_DEFAULT, Frame, FrameKind, HelloInfo,
    HelloReply, ReadPosition, Request, RequestId, RequestLimits, ServerLimits, ShardMapReply,
    ShardPlace, ShardRevision, StatusReply, WireError, append_batch, append_chunk, append_error,
    append_get, append_hello, append_outcome, append_pong, append_shard_map, append_status,
    cut_frame,
};
use metastore_statemachine::{
    Command, NamespaceId, Outcome, OutcomeCode, RangeQuery, Revision, Row,
};

use crate::fake_cluster::Member;
use crate::keys::Key;

/// How a fake store treats what it gets.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// Answers everything, the newest request of a read first.
    Reversed,
    /// As before, but once a connection it sleeps in the middle of the run.
    StallsOnce { after: Duration, stall: Duration },
    /// As before, and no test has put anything there.
    Empty,
    /// Refuses every single put; batches are taken.
    Refuses,
    /// Answers the greeting and nothing else.
    Silent,
    /// Every get finds this many bytes, whatever was put.
    Finds { value_bytes: usize },
}

/// A store on the loopback interface. It serves until the process ends.
pub(crate) struct FakeStore {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    values: BTreeMap<Vec<u8>, Versioned>,
    revision: u64,
    batches: u64,
    /// What the store claims: one for each read of a socket that held commands.
    durable_writes: u64,
}

struct Versioned {
    value: Vec<u8>,
    revision: Revision,
}

impl FakeStore {
    /// Begins to serve.
    pub(crate) fn start(manner: Manner) -> FakeStore {
        FakeStore::start_on(manner, None, Arc::default())
    }

    /// Begins to serve as one of a cluster, with the content of another one of it.
    pub(crate) fn start_member(
        manner: Manner,
        member: Member,
        other: Option<&FakeStore>,
    ) -> FakeStore {
        let state = other.map(|other| Arc::clone(&other.state));
        FakeStore::start_on(manner, Some(member), state.unwrap_or_default())
    }

    fn start_on(manner: Manner, member: Option<Member>, state: Arc<Mutex<State>>) -> FakeStore {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback interface is up");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if member
                    .as_ref()
                    .is_some_and(|member| !member.admits(&stream))
                {
                    return;
                }
                let state = Arc::clone(&shared);
                let place = Place {
                    address,
                    member: member.clone(),
                };
                thread::spawn(move || serve(stream, &place, manner, &state));
            }
        });
        FakeStore { address, state }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts keys with values of one size.
    pub(crate) fn put_all(&self, keys: impl Iterator<Item = Key>, value_bytes: usize) {
        let mut state = self
            .state
            .lock()
            .expect("no thread of the store has panicked");
        let value = vec![7; value_bytes];
        for key in keys {
            state.put(&Command::put(NamespaceId::DEFAULT, &key, &value));
        }
    }

    /// How many batches it has got.
    pub(crate) fn batches(&self) -> u64 {
        self.state
            .lock()
            .expect("no thread of the store has panicked")
            .batches
    }
}

/// Where a store is, and in which cluster.
struct Place {
    address: SocketAddr,
    member: Option<Member>,
}

impl Place {
    fn refusal(&self, key: &[u8]) -> Option<WireError> {
        self.member.as_ref()?.refusal(key)
    }
}

/// Serves one connection until it ends.
fn serve(
    mut stream: TcpStream,
    place: &Place,
    manner: Manner,
    state: &Mutex<State>,
) -> io::Result<()> {
    let started = Instant::now();
    let mut has_stalled = false;
    let mut received = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let bytes = stream.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(());
        }
        received.extend_from_slice(&buffer[..bytes]);
        let mut answers = Vec::new();
        let mut consumed = 0;
        let mut has_commands = false;
        let mut locked = state.lock().expect("no thread of the store has panicked");
        while let Some(frame) = cut_frame(&received[consumed..], FRAME_BYTES_MAX_DEFAULT)
            .expect("the client speaks the protocol")
        {
            consumed += frame.consumed_bytes;
            has_commands |= frame.header.kind == FrameKind::Command.as_u16();
            answers.push(locked.answer(&frame, place, manner));
        }
        locked.durable_writes += u64::from(has_commands);
        drop(locked);
        received.drain(..consumed);
        if let Manner::StallsOnce { after, stall } = manner
            && !has_stalled
            && started.elapsed() > after
        {
            has_stalled = true;
            thread::sleep(stall);
        }
        answers.reverse();
        stream.write_all(&answers.concat())?;
    }
}

impl State {
    /// The frames that answer one request.
    fn answer(&mut self, frame: &Frame<'_>, place: &Place, manner: Manner) -> Vec<u8> {
        let mut out = Vec::new();
        let id = frame.header.request_id;
        let request = Request::decode(&frame.header, frame.body, &RequestLimits::default())
            .expect("the client asks sensibly");
        let asked = match &request {
            Request::Command(checked) => Some((FrameKind::Command, checked.command.key)),
            Request::Get(get) => Some((FrameKind::Get, get.query.key)),
            Request::Range(range) => Some((FrameKind::Range, range.query.start)),
            Request::Hello(_)
            | Request::Ping
            | Request::GetMany(_)
            | Request::Batch(_)
            | Request::Cancel { .. }
            | Request::Status
            | Request::ShardMap
            | Request::Count(_)
            | Request::Admin(_) => None,
        };
        if let Some((kind, key)) = asked
            && let Some(error) = place.refusal(key)
        {
            append_error(&mut out, kind, id, &error);
            return out;
        }
        match request {
            Request::Hello(_) => append_hello(&mut out, id, &greeting(place)),
            _ if matches!(manner, Manner::Silent) => {}
            Request::Ping => append_pong(&mut out, id),
            Request::Command(_) if matches!(manner, Manner::Refuses) => {
                let error = WireError::new(ErrorCode::Overloaded);
                append_error(&mut out, FrameKind::Command, id, &error);
            }
            Request::Command(checked) => append_outcome(&mut out, id, &self.put(&checked.command)),
            Request::Batch(batch) => {
                self.batches += 1;
                append_batch(&mut out, id, |reply| {
                    for checked in batch.commands() {
                        match place.refusal(checked.command.key) {
                            Some(error) => reply.error(&error),
                            None => reply.outcome(&self.put(&checked.command)),
                        }
                    }
                });
            }
            Request::Get(get) => {
                let forced = if let Manner::Finds { value_bytes } = manner {
                    Some(vec![7; value_bytes])
                } else {
                    None
                };
                let key = get.query.key;
                let found = self.values.get(key);
                let row = match &forced {
                    Some(value) => Some(row_of(key, value, Revision(1))),
                    None => found.map(|found| row_of(key, &found.value, found.revision)),
                };
                let position = ReadPosition {
                    shard: 0,
                    revision: Revision(self.revision),
                };
                append_get(&mut out, id, position, row);
            }
            Request::Status => append_status(&mut out, id, &self.status(place)),
            Request::ShardMap => append_shard_map(&mut out, id, &shard_map(place)),
            Request::Range(range) => self.append_range(&mut out, id, &range.query),
            Request::GetMany(_)
            | Request::Count(_)
            | Request::Admin(_)
            | Request::Cancel { .. } => {
                panic!("load does not ask {request:?}")
            }
        }
        out
    }

    fn put(&mut self, command: &Command<'_>) -> Outcome<'static> {
        let found = self.values.get(command.key);
        let found = found.map_or(Revision(0), |found| found.revision);
        let outcome = |code, revision| Outcome {
            code,
            revision,
            number: None,
            previous: None,
            detail: None,
        };
        if command
            .expected_revision
            .is_some_and(|expected| expected != found)
        {
            return outcome(OutcomeCode::Conflict, found);
        }
        self.revision += 1;
        let revision = Revision(self.revision);
        let value = command.value.to_vec();
        self.values
            .insert(command.key.to_vec(), Versioned { value, revision });
        outcome(OutcomeCode::Done, revision)
    }

    /// In two chunks, as a large range would be, the first one row long.
    fn append_range(&self, out: &mut Vec<u8>, id: RequestId, query: &RangeQuery<'_>) {
        let rows: Vec<(&Vec<u8>, &Versioned)> = self
            .values
            .range(query.start.to_vec()..)
            .take_while(|(key, _)| key.starts_with(query.prefix))
            .take(usize::try_from(query.limit).expect("the load limits its lists"))
            .collect();
        let (first, rest) = rows.split_at(rows.len().min(1));
        let write = |rows: &[(&Vec<u8>, &Versioned)], chunk: &mut ChunkWriter<'_>| {
            for (key, found) in rows {
                chunk.row(&row_of(key, &found.value, found.revision));
            }
        };
        append_chunk(out, id, ChunkEnd::More, |chunk| write(first, chunk));
        let revisions = [ShardRevision {
            shard: 0,
            revision: Revision(self.revision),
        }];
        append_chunk(out, id, ChunkEnd::Last(&revisions), |chunk| {
            write(rest, chunk)
        });
    }

    fn status(&self, place: &Place) -> StatusReply {
        let mut status = StatusReply {
            version: "fake".to_owned(),
            shards: 1,
            ..StatusReply::default()
        };
        status.log.durable_writes = self.durable_writes;
        status.log.flush_method = "none".to_owned();
        if let Some(member) = &place.member {
            member.add_to_status(&mut status);
        }
        status
    }
}

fn row_of<'a>(key: &'a [u8], value: &'a [u8], revision: Revision) -> Row<'a> {
    Row {
        key,
        value,
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    }
}

fn greeting(place: &Place) -> HelloReply {
    HelloReply {
        version: 1,
        info: HelloInfo {
            cluster_id: 1,
            node_id: place.member.as_ref().map_or(1, Member::node_id),
            core_index: 0,
            core_count: 1,
            first_port: place.address.port(),
            map_epoch: 1,
            server_version: "fake".to_owned(),
        },
        limits: ServerLimits::default(),
    }
}

fn shard_map(place: &Place) -> ShardMapReply {
    if let Some(member) = &place.member {
        return member.shard_map();
    }
    ShardMapReply {
        epoch: 1,
        slot_count: 16_384,
        shards: vec![ShardPlace {
            shard: 0,
            slots: Vec::new(),
            node_id: 1,
            core_index: 0,
            address: place.address.to_string(),
            followers: Vec::new(),
            follower_nodes: Vec::new(),
        }],
    }
}
