//! A server with a service that keeps nothing: it answers from what it is asked.

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};
use metastore_net::blocking::{Client, ConnectOptions};
use metastore_net::server::{
    ConnectionId, Connections, Listener, Readiness, ServerOptions, Service, bind, serve,
};
use metastore_net::*;
use metastore_statemachine::{Outcome, OutcomeCode, Revision, Row};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub(crate) const CLUSTER: u128 = 77;

/// The time for a turn of the executor. One of glommio 0.9 whose time is up before the turn has begun takes that for
/// having nothing to do, and sleeps for ever with its tasks ready to run.
const TURN_MAX: Duration = Duration::from_millis(200);

/// The server's core has nothing to do but to wait for its sockets.
const WAIT_IN_PLACE: Duration = Duration::from_micros(250);

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the service has seen, for tests to look at from outside.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Requests handed to the service.
    pub(crate) requests: AtomicUsize,
    /// Connections that were closed after a hello.
    pub(crate) closed: AtomicUsize,
    /// Connections since the start.
    pub(crate) opened: AtomicUsize,
    /// Live connections, looked at every few milliseconds.
    pub(crate) live: AtomicUsize,
    /// The most memory of answers that waited to be sent.
    pub(crate) outbound_bytes_max: AtomicUsize,
    /// What it takes now, and what unfinished frames take.
    pub(crate) outbound_bytes: AtomicUsize,
    pub(crate) inbound_bytes: AtomicUsize,
    /// Connections closed because a frame or a hello took too long, and because answers were not taken.
    pub(crate) timed_out: AtomicUsize,
    pub(crate) unread: AtomicUsize,
}

/// Set by tests to make the server act.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Answer the commands that are held.
    pub(crate) release: AtomicBool,
    /// Answer no more, finish what is under way.
    pub(crate) drain: AtomicBool,
    /// End everything.
    pub(crate) stop: AtomicBool,
}

/// A server on a port of its own, ended when dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    pub(crate) orders: Arc<Orders>,
    thread: Option<glommio::ExecutorJoinHandle<()>>,
}

impl TestServer {
    pub(crate) fn start(options: ServerOptions) -> TestServer {
        let seen = Arc::new(Seen::default());
        let orders = Arc::new(Orders::default());
        let (address_sender, address_receiver) = mpsc::channel();
        let (seen_inside, orders_inside) = (Arc::clone(&seen), Arc::clone(&orders));
        let thread = LocalExecutorBuilder::new(Placement::Unbound)
            .name("test-server")
            .spawn(move || async move {
                let queue = glommio::executor().create_task_queue(
                    Shares::default(),
                    Latency::Matters(TURN_MAX),
                    "connections",
                );
                let run = run(options, seen_inside, orders_inside, address_sender);
                glommio::spawn_local_into(run, queue).unwrap().await;
            })
            .unwrap();
        let address = address_receiver.recv_timeout(PATIENCE).unwrap();
        TestServer {
            address,
            seen,
            orders,
            thread: Some(thread),
        }
    }

    pub(crate) fn connect(&self) -> Client {
        let options = ConnectOptions {
            timeout: PATIENCE,
            cluster_id: Some(CLUSTER),
            ..ConnectOptions::default()
        };
        Client::connect_with(self.address, &options).unwrap()
    }

    /// Waits until the server has seen what the test waits for.
    pub(crate) fn wait_until(&self, what: &str, is_there: impl Fn(&Seen) -> bool) {
        let started = Instant::now();
        while !is_there(&self.seen) {
            assert!(started.elapsed() < PATIENCE, "{what}: {:?}", self.seen);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the server has ended by itself.
    pub(crate) fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

async fn run(
    options: ServerOptions,
    seen: Arc<Seen>,
    orders: Arc<Orders>,
    address: mpsc::Sender<SocketAddr>,
) {
    let connections = Connections::new();
    let readiness = Readiness::new().unwrap();
    glommio::spawn_local(readiness.clone().watch(|| WAIT_IN_PLACE)).detach();
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = Listener::new(socket, readiness).unwrap();
    address.send(listener.local_addr().unwrap()).unwrap();
    let service = Rc::new(Echo {
        connections: connections.clone(),
        seen: Arc::clone(&seen),
        revision: Cell::new(0),
        held: RefCell::default(),
        streams: RefCell::default(),
    });
    let serving = serve(listener, Rc::clone(&service), connections.clone(), options);
    let serving = glommio::spawn_local(serving).detach();
    loop {
        glommio::timer::sleep(Duration::from_millis(2)).await;
        seen.live.store(connections.count(), Ordering::Relaxed);
        let counts = connections.counts();
        for (seen, count) in [
            (&seen.opened, counts.opened),
            (&seen.timed_out, counts.timed_out),
            (&seen.unread, counts.unread),
        ] {
            seen.store(usize::try_from(count).unwrap(), Ordering::Relaxed);
        }
        let waiting = connections.outbound_bytes();
        seen.outbound_bytes.store(waiting, Ordering::Relaxed);
        let inbound_bytes = connections.inbound_bytes();
        seen.inbound_bytes.store(inbound_bytes, Ordering::Relaxed);
        seen.outbound_bytes_max
            .fetch_max(waiting, Ordering::Relaxed);
        if orders.release.load(Ordering::Relaxed) {
            service.release();
        }
        if orders.drain.load(Ordering::Relaxed) {
            connections.begin_drain();
        }
        if orders.stop.load(Ordering::Relaxed) {
            connections.close_all();
        }
        let is_over = orders.stop.load(Ordering::Relaxed) || orders.drain.load(Ordering::Relaxed);
        if is_over && connections.count() == 0 {
            break;
        }
    }
    serving.await.unwrap();
}

/// Answers a get with a row whose value is the key, a command with the next revision, and a range with `limit` rows. Commands on keys that begin with `hold` wait for an order.
struct Echo {
    connections: Connections,
    seen: Arc<Seen>,
    revision: Cell<u64>,
    held: RefCell<Vec<(ConnectionId, RequestId)>>,
    streams: RefCell<Vec<Stream>>,
}

struct Stream {
    connection: ConnectionId,
    id: RequestId,
    rows_left: u64,
    value_bytes: usize,
}

const ROWS_PER_CHUNK: u64 = 10;

/// The rows of a range with this prefix have 100 bytes of value, those of others 64 KiB.
pub(crate) const SMALL_ROWS: &[u8] = b"small";

pub(crate) fn echo_row<'a>(key: &'a [u8], value: &'a [u8]) -> Row<'a> {
    Row {
        key,
        value,
        create_revision: Revision(1),
        mod_revision: Revision(2),
        version: 2,
        lease: 0,
    }
}

impl Echo {
    fn next_outcome(&self) -> Outcome<'static> {
        self.revision.set(self.revision.get() + 1);
        Outcome {
            code: OutcomeCode::Done,
            revision: Revision(self.revision.get()),
            number: None,
            previous: None,
            detail: None,
        }
    }

    fn release(&self) {
        for (connection, id) in self.held.borrow_mut().drain(..) {
            let outcome = self.next_outcome();
            self.connections.reply(connection, |out| {
                append_outcome(out, id, &outcome);
                Answered::Last
            });
        }
        self.connections.flush();
    }

    fn position(&self) -> ReadPosition {
        ReadPosition {
            shard: 1,
            revision: Revision(self.revision.get()),
        }
    }

    /// Writes the next chunk of a stream; whether it is complete.
    fn write_chunk(&self, stream: &mut Stream) -> bool {
        let count = stream.rows_left.min(ROWS_PER_CHUNK);
        stream.rows_left -= count;
        let is_last = stream.rows_left == 0;
        let revisions = [ShardRevision {
            shard: 1,
            revision: self.position().revision,
        }];
        let end = if is_last {
            ChunkEnd::Last(&revisions)
        } else {
            ChunkEnd::More
        };
        let value = vec![7; stream.value_bytes];
        self.connections.reply(stream.connection, |out| {
            append_chunk(out, stream.id, end, |rows| {
                for _ in 0..count {
                    rows.row(&echo_row(b"row", &value));
                }
            });
            if is_last {
                Answered::Last
            } else {
                Answered::More
            }
        });
        is_last
    }
}

impl Service for Echo {
    fn hello(&self) -> HelloInfo {
        HelloInfo {
            cluster_id: CLUSTER,
            node_id: 1,
            core_index: 0,
            core_count: 1,
            first_port: 7400,
            map_epoch: 1,
            server_version: "test".to_owned(),
        }
    }

    fn on_request(
        &self,
        connection: ConnectionId,
        id: RequestId,
        _deadline_ms: u32,
        request: Request<'_>,
    ) {
        self.seen.requests.fetch_add(1, Ordering::Relaxed);
        let reply = |encode: &dyn Fn(&mut Vec<u8>)| {
            self.connections.reply(connection, |out| {
                encode(out);
                Answered::Last
            });
        };
        match request {
            Request::Get(get) => {
                let row = echo_row(get.query.key, get.query.key);
                let row = (get.query.key != b"absent").then_some(row);
                reply(&|out| append_get(out, id, self.position(), row));
            }
            Request::GetMany(get) => reply(&|out| {
                append_get_many(out, id, self.position(), |rows| {
                    for key in get.keys() {
                        rows.row((key != b"absent").then_some(&echo_row(key, key)));
                    }
                });
            }),
            Request::Command(command) if command.command.key.starts_with(b"hold") => {
                self.held.borrow_mut().push((connection, id));
            }
            Request::Command(_) => {
                let outcome = self.next_outcome();
                reply(&|out| append_outcome(out, id, &outcome));
            }
            Request::Batch(batch) => reply(&|out| {
                append_batch(out, id, |items| {
                    for command in batch.commands() {
                        if command.command.key == b"full" {
                            items.error(&WireError::new(ErrorCode::ReadOnly));
                        } else {
                            items.outcome(&self.next_outcome());
                        }
                    }
                });
            }),
            Request::Range(range) => {
                let mut stream = Stream {
                    connection,
                    id,
                    rows_left: range.query.limit,
                    value_bytes: if range.query.prefix == SMALL_ROWS {
                        100
                    } else {
                        64 * 1024
                    },
                };
                if !self.write_chunk(&mut stream) {
                    self.streams.borrow_mut().push(stream);
                }
            }
            Request::Cancel { range } => {
                let is_it = |stream: &Stream| stream.connection == connection && stream.id == range;
                let mut streams = self.streams.borrow_mut();
                if let Some(index) = streams.iter().position(is_it) {
                    streams.swap_remove(index);
                    reply(&|out| {
                        append_error(
                            out,
                            FrameKind::Range,
                            range,
                            &WireError::new(ErrorCode::Cancelled),
                        );
                    });
                }
                reply(&|out| append_cancelled(out, id));
            }
            Request::Status => reply(&|out| append_status(out, id, &StatusReply::default())),
            Request::ShardMap => {
                let map = ShardMapReply {
                    epoch: 1,
                    slot_count: 16384,
                    shards: Vec::new(),
                };
                reply(&|out| append_shard_map(out, id, &map));
            }
            Request::Count(_) => {
                let counted = CountReply {
                    count: 7,
                    revisions: Vec::new(),
                };
                reply(&|out| append_count(out, id, &counted));
            }
            Request::Admin(_) => reply(&|out| append_admin(out, id, &AdminReply::default())),
            Request::Hello(_) | Request::Ping => unreachable!("answered by the connection"),
        }
    }

    fn on_read_end(&self) {
        self.connections.flush();
    }

    fn on_drained(&self, connection: ConnectionId) {
        let mut streams = self.streams.borrow_mut();
        streams.retain_mut(|stream| stream.connection != connection || !self.write_chunk(stream));
        self.connections.flush();
    }

    fn on_closed(&self, connection: ConnectionId) {
        self.seen.closed.fetch_add(1, Ordering::Relaxed);
        self.streams
            .borrow_mut()
            .retain(|stream| stream.connection != connection);
        self.held
            .borrow_mut()
            .retain(|(held, _)| *held != connection);
    }
}
