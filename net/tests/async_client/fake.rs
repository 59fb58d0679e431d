//! A server in this process that keeps keys in memory and makes trouble when it is told to.

use metastore_net::{
    Answered, ChunkEnd, ConnectionLimits, ErrorCode, HelloInfo, Intake, Outbox, ReadPosition,
    Request, RequestId, ServerConnection, ShardMapReply, ShardPlace, ShardRevision, SlotRange,
    WireError, append_batch, append_chunk, append_error, append_get, append_get_many,
    append_outcome, append_shard_map,
};
use metastore_statemachine::{Command, CommandKind, Outcome, OutcomeCode, Revision, Row};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to one of the next requests. Hellos, pings and questions for the map are never troubled.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// None: it is served.
    Serve,
    /// The connection is closed before the request is carried out.
    CutBefore,
    /// It is carried out, and the connection is closed without an answer.
    CutAfter,
    /// It is carried out, and the connection is closed in the middle of the answer.
    CutInAnswer,
    /// It is carried out, and bytes that are no frame are the answer.
    Garbage,
    /// It is carried out, and the answer has the id of no request.
    WrongId,
    /// It is not carried out, and answered with this.
    Refuse(WireError),
    /// Of a batch, the commands from this one on are not carried out, and answered with this.
    RefuseFrom(usize, WireError),
    /// It is carried out, and answered with this.
    CarryOutAndSay(WireError),
    /// It is carried out and answered after a while.
    Slow(Duration),
    /// It is not carried out and never answered, although the connection lives.
    Swallow,
    /// It is not carried out, and nothing is heard of this connection any more.
    FallSilent,
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) rows: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    pub(crate) revision: u64,
    /// How many commands were carried out.
    pub(crate) applied: usize,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) troubles: Mutex<VecDeque<Trouble>>,
    pub(crate) map: Mutex<ShardMapReply>,
    /// Requests for data that arrived here.
    pub(crate) requests: AtomicUsize,
    pub(crate) map_requests: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    pub(crate) live: AtomicUsize,
    /// Nothing is answered any more, as by a process that stands still.
    pub(crate) is_still: AtomicBool,
    /// Which cluster it says that it belongs to.
    pub(crate) cluster: AtomicUsize,
    limits: ConnectionLimits,
}

/// One core of a fake store, on a port of its own, ended when dropped.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start() -> Fake {
        Fake::start_with(ConnectionLimits::default(), Arc::default()).await
    }

    /// A core of a store whose other cores have the same keys.
    pub(crate) async fn start_beside(other: &Fake) -> Fake {
        Fake::start_with(ConnectionLimits::default(), Arc::clone(&other.state.store)).await
    }

    /// The same store at the same place again.
    pub(crate) async fn start_at(address: &str, store: Arc<Mutex<Store>>) -> Fake {
        let listener = TcpListener::bind(address).await.unwrap();
        Fake::serve_on(listener, ConnectionLimits::default(), store)
    }

    pub(crate) async fn start_with(limits: ConnectionLimits, store: Arc<Mutex<Store>>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Fake::serve_on(listener, limits, store)
    }

    fn serve_on(listener: TcpListener, limits: ConnectionLimits, store: Arc<Mutex<Store>>) -> Fake {
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            store,
            troubles: Mutex::default(),
            map: Mutex::new(map(1, &[&address])),
            requests: AtomicUsize::new(0),
            map_requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            is_still: AtomicBool::new(false),
            cluster: AtomicUsize::new(77),
            limits,
        });
        let inside = Arc::clone(&state);
        let task = tokio::spawn(async move {
            // Dropped with the listener, and with it every connection.
            let mut tasks = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&inside);
                state.connections.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(async move {
                    state.live.fetch_add(1, Ordering::SeqCst);
                    serve(stream, &state).await;
                    state.live.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Fake {
            address,
            state,
            task,
        }
    }

    /// What happens to the next requests for data, in this order.
    pub(crate) fn trouble(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.state.troubles.lock().unwrap().extend(troubles);
    }

    pub(crate) fn set_map(&self, epoch: u64, addresses: &[&str]) {
        *self.state.map.lock().unwrap() = map(epoch, addresses);
    }

    pub(crate) fn applied(&self) -> usize {
        self.state.store.lock().unwrap().applied
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn value(&self, key: &str) -> Option<Vec<u8>> {
        let store = self.state.store.lock().unwrap();
        store
            .rows
            .get(key.as_bytes())
            .map(|(value, _)| value.clone())
    }
}

/// The slots, split evenly over cores at these addresses.
pub(crate) fn map(epoch: u64, addresses: &[&str]) -> ShardMapReply {
    let count = addresses.len();
    let first = |shard: usize| u16::try_from(16_384 * shard / count).unwrap();
    let place = |(shard, address): (usize, &&str)| ShardPlace {
        shard: u32::try_from(shard).unwrap(),
        slots: vec![SlotRange {
            first: first(shard),
            last: first(shard + 1) - 1,
        }],
        node_id: 1,
        core_index: u16::try_from(shard).unwrap(),
        address: (*address).to_owned(),
        followers: Vec::new(),
        follower_nodes: Vec::new(),
    };
    ShardMapReply {
        epoch,
        slot_count: 16_384,
        shards: addresses.iter().enumerate().map(place).collect(),
    }
}

/// What the task does with the socket after it has taken bytes in.
enum Act {
    Send(Vec<u8>),
    SendLater(Duration, Vec<u8>),
    Close,
    FallSilent,
}

async fn serve(mut stream: TcpStream, state: &State) {
    let mut connection = ServerConnection::new(&state.limits);
    let outbox = RefCell::new(Outbox::new(&state.limits));
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = stream.read(&mut bytes).await else {
            return;
        };
        if state.is_still.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let mut acts = Vec::new();
        let hello = || hello(state);
        let mut intake = connection.on_bytes(&bytes[..count], &outbox, hello, |id, _, request| {
            on_request(state, id, &request, &mut acts);
        });
        while intake != Intake::Closing && connection.is_holding() {
            forget_in_flight(&outbox);
            intake = connection.on_bytes(&[], &outbox, hello, |id, _, request| {
                on_request(state, id, &request, &mut acts);
            });
        }
        forget_in_flight(&outbox);
        let own = take_unsent(&outbox);
        if stream.write_all(&own).await.is_err() || intake == Intake::Closing {
            return;
        }
        for act in acts {
            let written = match act {
                Act::Send(answer) => stream.write_all(&answer).await,
                Act::SendLater(delay, answer) => {
                    tokio::time::sleep(delay).await;
                    stream.write_all(&answer).await
                }
                Act::Close => return,
                Act::FallSilent => std::future::pending().await,
            };
            if written.is_err() {
                return;
            }
        }
    }
}

/// This server answers past the outbox: as far as it knows, everything has been answered.
fn forget_in_flight(outbox: &RefCell<Outbox>) {
    let mut outbox = outbox.borrow_mut();
    while outbox.in_flight() > 0 {
        outbox.reply(|_| Answered::Last);
    }
}

fn take_unsent(outbox: &RefCell<Outbox>) -> Vec<u8> {
    let mut outbox = outbox.borrow_mut();
    let unsent = outbox.unsent().to_vec();
    outbox.on_sent(unsent.len());
    unsent
}

fn hello(state: &State) -> HelloInfo {
    HelloInfo {
        cluster_id: state.cluster.load(Ordering::SeqCst) as u128,
        node_id: 1,
        core_index: 0,
        core_count: 1,
        first_port: 1,
        map_epoch: state.map.lock().unwrap().epoch,
        server_version: "fake".to_owned(),
    }
}

fn on_request(state: &State, id: RequestId, request: &Request<'_>, acts: &mut Vec<Act>) {
    if matches!(request, Request::ShardMap) {
        state.map_requests.fetch_add(1, Ordering::SeqCst);
        let mut answer = Vec::new();
        append_shard_map(&mut answer, id, &state.map.lock().unwrap());
        acts.push(Act::Send(answer));
        return;
    }
    state.requests.fetch_add(1, Ordering::SeqCst);
    let trouble = state.troubles.lock().unwrap().pop_front();
    let carry_out = |id| {
        let mut answer = Vec::new();
        answer_request(state, id, request, &mut answer);
        answer
    };
    match trouble.unwrap_or(Trouble::Serve) {
        Trouble::Serve => acts.push(Act::Send(carry_out(id))),
        Trouble::CutBefore => acts.push(Act::Close),
        Trouble::CutAfter => {
            carry_out(id);
            acts.push(Act::Close);
        }
        Trouble::CutInAnswer => {
            let mut answer = carry_out(id);
            answer.truncate(answer.len() / 2);
            acts.push(Act::Send(answer));
            acts.push(Act::Close);
        }
        Trouble::Garbage => {
            carry_out(id);
            acts.push(Act::Send(vec![0xee; 100]));
        }
        Trouble::WrongId => acts.push(Act::Send(carry_out(RequestId(0x7777_0000_0000)))),
        Trouble::Refuse(error) => {
            let mut answer = Vec::new();
            append_error(&mut answer, request.kind(), id, &error);
            acts.push(Act::Send(answer));
        }
        Trouble::RefuseFrom(first, error) => {
            let Request::Batch(batch) = request else {
                panic!("only batches are refused in part");
            };
            let mut answer = Vec::new();
            let mut store = state.store.lock().unwrap();
            append_batch(&mut answer, id, |writer| {
                for (index, command) in batch.commands().enumerate() {
                    if index < first {
                        writer.outcome(&store.apply(&command.command));
                    } else {
                        writer.error(&error);
                    }
                }
            });
            acts.push(Act::Send(answer));
        }
        Trouble::CarryOutAndSay(error) => {
            carry_out(id);
            let mut answer = Vec::new();
            append_error(&mut answer, request.kind(), id, &error);
            acts.push(Act::Send(answer));
        }
        Trouble::Slow(delay) => acts.push(Act::SendLater(delay, carry_out(id))),
        Trouble::Swallow => {}
        Trouble::FallSilent => acts.push(Act::FallSilent),
    }
}

fn answer_request(state: &State, id: RequestId, request: &Request<'_>, out: &mut Vec<u8>) {
    let mut store = state.store.lock().unwrap();
    let position = ReadPosition {
        shard: 0,
        revision: Revision(store.revision),
    };
    match request {
        Request::Get(get) => append_get(out, id, position, store.row(get.query.key)),
        Request::GetMany(get) => append_get_many(out, id, position, |writer| {
            for key in get.keys() {
                writer.row(store.row(key).as_ref());
            }
        }),
        Request::Command(command) => {
            let outcome = store.apply(&command.command);
            append_outcome(out, id, &outcome);
        }
        Request::Batch(batch) => append_batch(out, id, |writer| {
            for command in batch.commands() {
                writer.outcome(&store.apply(&command.command));
            }
        }),
        Request::Range(range) => store.append_range(range.query.prefix, id, out),
        Request::Hello(_)
        | Request::Ping
        | Request::Count(_)
        | Request::Admin(_)
        | Request::Cancel { .. }
        | Request::Status
        | Request::ShardMap => {
            append_error(
                out,
                request.kind(),
                id,
                &WireError::new(ErrorCode::Unsupported),
            );
        }
    }
}

impl Store {
    fn row<'a>(&'a self, key: &'a [u8]) -> Option<Row<'a>> {
        let (value, revision) = self.rows.get(key)?;
        Some(Row {
            key,
            value,
            create_revision: Revision(*revision),
            mod_revision: Revision(*revision),
            version: 1,
            lease: 0,
        })
    }

    /// Puts, deletes and adds, with expected revisions.
    fn apply(&mut self, command: &Command<'_>) -> Outcome<'static> {
        self.applied += 1;
        let current = self.rows.get(command.key).map_or(0, |(_, at)| *at);
        let is_refused = command
            .expected_revision
            .is_some_and(|expected| expected.0 != current);
        if is_refused {
            return outcome(OutcomeCode::Conflict, current, None);
        }
        self.revision += 1;
        let mut number = None;
        if command.kind == CommandKind::Delete {
            self.rows.remove(command.key);
            return outcome(OutcomeCode::Done, self.revision, None);
        }
        let value = if command.kind == CommandKind::AddI64 {
            let before = self.rows.get(command.key).map_or(0, |(value, _)| {
                i64::from_le_bytes(value.as_slice().try_into().unwrap())
            });
            let sum = before + i64::from_le_bytes(command.value.try_into().unwrap());
            number = Some(sum);
            sum.to_le_bytes().to_vec()
        } else {
            command.value.to_vec()
        };
        self.rows
            .insert(command.key.to_vec(), (value, self.revision));
        outcome(OutcomeCode::Done, self.revision, number)
    }

    /// Ten rows a chunk.
    fn append_range(&self, prefix: &[u8], id: RequestId, out: &mut Vec<u8>) {
        let keys: Vec<&Vec<u8>> = self
            .rows
            .keys()
            .filter(|key| key.starts_with(prefix))
            .collect();
        for chunk in keys.chunks(10) {
            append_chunk(out, id, ChunkEnd::More, |writer| {
                for key in chunk {
                    writer.row(&self.row(key).unwrap());
                }
            });
        }
        let revisions = [ShardRevision {
            shard: 0,
            revision: Revision(self.revision),
        }];
        append_chunk(out, id, ChunkEnd::Last(&revisions), |_| ());
    }
}

fn outcome(code: OutcomeCode, revision: u64, number: Option<i64>) -> Outcome<'static> {
    Outcome {
        code,
        revision: Revision(revision),
        number,
        previous: None,
        detail: None,
    }
}
