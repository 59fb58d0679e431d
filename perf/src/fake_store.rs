//! A store for tests: it speaks the protocol, keeps everything in memory, and misbehaves on demand.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use metastore_net::{
    ErrorCode, FRAME_BYTES_MAX_DEFAULT, Frame, FrameKind, HelloInfo, HelloReply, ReadPosition,
    Request, RequestLimits, ServerLimits, ShardMapReply, ShardPlace, StatusReply, WireError,
    append_batch, append_error, append_get, append_hello, append_outcome, append_pong,
    append_shard_map, append_status, cut_frame,
};
use metastore_statemachine::{Command, Outcome, OutcomeCode, Revision, Row};

/// How a fake store treats what it gets.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// Answers everything, the newest request of a read first.
    Reversed,
    /// As before, but once a connection it sleeps in the middle of the run.
    StallsOnce { after: Duration, stall: Duration },
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
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    batches: u64,
    /// What the store claims: one for each read of a socket that held commands.
    durable_writes: u64,
}

impl FakeStore {
    /// Begins to serve.
    pub(crate) fn start(manner: Manner) -> FakeStore {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback interface is up");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(stream, address, manner, &state));
            }
        });
        FakeStore { address, state }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many batches it has got.
    pub(crate) fn batches(&self) -> u64 {
        self.state
            .lock()
            .expect("no thread of the store has panicked")
            .batches
    }
}

/// Serves one connection until it ends.
fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
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
            answers.push(locked.answer(&frame, address, manner));
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
    fn answer(&mut self, frame: &Frame<'_>, address: SocketAddr, manner: Manner) -> Vec<u8> {
        let mut out = Vec::new();
        let id = frame.header.request_id;
        let request = Request::decode(&frame.header, frame.body, &RequestLimits::default())
            .expect("the client asks sensibly");
        match request {
            Request::Hello(_) => append_hello(&mut out, id, &greeting()),
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
                        reply.outcome(&self.put(&checked.command));
                    }
                });
            }
            Request::Get(get) => {
                let forced = if let Manner::Finds { value_bytes } = manner {
                    Some(vec![7; value_bytes])
                } else {
                    None
                };
                let value = forced.as_ref().or_else(|| self.values.get(get.query.key));
                let row = value.map(|value| Row {
                    key: get.query.key,
                    value,
                    create_revision: Revision(1),
                    mod_revision: Revision(1),
                    version: 1,
                    lease: 0,
                });
                let position = ReadPosition {
                    shard: 0,
                    revision: Revision(1),
                };
                append_get(&mut out, id, position, row);
            }
            Request::Status => append_status(&mut out, id, &self.status()),
            Request::ShardMap => append_shard_map(&mut out, id, &shard_map(address)),
            Request::GetMany(_) | Request::Range(_) | Request::Cancel { .. } => {
                panic!("load does not ask {request:?}")
            }
        }
        out
    }

    fn put(&mut self, command: &Command<'_>) -> Outcome<'static> {
        self.values
            .insert(command.key.to_vec(), command.value.to_vec());
        Outcome {
            code: OutcomeCode::Done,
            revision: Revision(1),
            number: None,
            previous: None,
            detail: None,
        }
    }

    fn status(&self) -> StatusReply {
        let mut status = StatusReply {
            version: "fake".to_owned(),
            shards: 1,
            ..StatusReply::default()
        };
        status.log.durable_writes = self.durable_writes;
        status.log.flush_method = "none".to_owned();
        status
    }
}

fn greeting() -> HelloReply {
    HelloReply {
        version: 1,
        info: HelloInfo {
            cluster_id: 1,
            node_id: 1,
            core_index: 0,
            core_count: 1,
            first_port: 1,
            map_epoch: 1,
            server_version: "fake".to_owned(),
        },
        limits: ServerLimits::default(),
    }
}

fn shard_map(address: SocketAddr) -> ShardMapReply {
    ShardMapReply {
        epoch: 1,
        slot_count: 16_384,
        shards: vec![ShardPlace {
            shard: 0,
            slots: Vec::new(),
            node_id: 1,
            core_index: 0,
            address: address.to_string(),
        }],
    }
}
