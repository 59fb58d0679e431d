//! Cores with nothing behind their connections: they remember what they are told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};
use metastore_net::peer::{IncomingFault, LocalPeer, PeerCore, PeerLane};
use metastore_net::server::{
    IncomingLinks, LinkEnd, PeerLinks, PeerListener, PeerOptions, PeerService, Readiness, Sent,
    bind, serve_peers,
};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The time for a turn of the executor. One of glommio 0.9 whose time is up before the turn has begun takes that for
/// having nothing to do, and sleeps for ever with its tasks ready to run. On a busy machine that happens where the time
/// is a millisecond.
const TURN_MAX: Duration = Duration::from_millis(200);

/// The first core of a node.
pub(crate) fn core_of(node: u32) -> PeerCore {
    PeerCore { node, core: 0 }
}

/// The first core of a node as it shows itself to others.
pub(crate) fn local_of(node: u32) -> LocalPeer {
    LocalPeer {
        cluster_id: 77,
        core: core_of(node),
        incarnation: 1000 + u64::from(node),
        map_epoch: 1,
        initial_map_hash: 99,
        data_id: 500 + u64::from(node),
        cluster_epoch: 3,
    }
}

/// A host of the loopback network that nobody else has, so that its ports stay free between two lives of a node:
/// connections leave from another one.
pub(crate) fn own_host() -> Ipv4Addr {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let [low, high] = (LAST.fetch_add(1, Ordering::Relaxed) + 1).to_le_bytes();
    let process = u8::try_from(2 + std::process::id() % 250).unwrap();
    Ipv4Addr::new(127, process, high, low)
}

/// What a core was told.
#[derive(Debug)]
pub(crate) struct Told {
    local: LocalPeer,
    pub(crate) batches: RefCell<Vec<(PeerCore, PeerLane, Vec<u8>)>>,
    pub(crate) read_ends: Cell<usize>,
    pub(crate) unreachable: RefCell<Vec<(PeerCore, PeerLane, LinkEnd)>>,
    pub(crate) refused: RefCell<Vec<IncomingFault>>,
    /// Which data each node had when it was first heard of.
    known_data: RefCell<BTreeMap<u32, u64>>,
    /// The most that unfinished batches took, looked at every millisecond and after every read.
    pub(crate) held_bytes_peak: Cell<usize>,
    incoming: IncomingLinks,
}

impl Told {
    /// The batches of a lane, in the order in which they came.
    pub(crate) fn of_lane(&self, lane: PeerLane) -> Vec<Vec<u8>> {
        let batches = self.batches.borrow();
        let of_lane = batches.iter().filter(|(_, of, _)| *of == lane);
        of_lane.map(|(_, _, batch)| batch.clone()).collect()
    }

    fn note_held(&self) {
        let peak = self.held_bytes_peak.get().max(self.incoming.held_bytes());
        self.held_bytes_peak.set(peak);
    }
}

impl PeerService for Told {
    fn local(&self) -> LocalPeer {
        self.local
    }

    fn has_known_data(&self, node: u32, data_id: u64) -> bool {
        let mut known = self.known_data.borrow_mut();
        *known.entry(node).or_insert(data_id) == data_id
    }

    fn on_batch(&self, from: PeerCore, lane: PeerLane, batch: &[u8]) {
        let mut batches = self.batches.borrow_mut();
        batches.push((from, lane, batch.to_vec()));
        self.note_held();
    }

    fn on_read_end(&self) {
        self.read_ends.set(self.read_ends.get() + 1);
    }

    fn on_unreachable(&self, peer: PeerCore, lane: PeerLane, end: &LinkEnd) {
        self.unreachable.borrow_mut().push((peer, lane, *end));
    }

    fn on_refused(&self, address: Option<SocketAddr>, fault: &IncomingFault) {
        assert!(address.is_some_and(|address| address.ip().is_loopback()));
        self.refused.borrow_mut().push(*fault);
    }
}

/// What lives in the thread of a core.
pub(crate) struct Inside {
    pub(crate) told: Rc<Told>,
    pub(crate) incoming: IncomingLinks,
    pub(crate) links: PeerLinks<Told>,
}

impl Inside {
    /// Sends one batch in a turn of its own.
    pub(crate) fn send(&self, to: PeerCore, lane: PeerLane, batch: &[u8]) -> Sent {
        let sent = self.links.send(to, lane, batch);
        self.links.flush();
        sent
    }
}

type Call = Box<dyn FnOnce(&Inside) + Send>;

/// One core of a node in a thread of its own, ended when dropped.
pub(crate) struct TestCore {
    pub(crate) address: SocketAddr,
    pub(crate) core: PeerCore,
    calls: Option<mpsc::Sender<Call>>,
    thread: Option<glommio::ExecutorJoinHandle<()>>,
}

impl TestCore {
    /// The first core of a node.
    pub(crate) fn start(node: u32) -> TestCore {
        TestCore::start_with(node, PeerOptions::default())
    }

    pub(crate) fn start_with(node: u32, options: PeerOptions) -> TestCore {
        let address = SocketAddr::from((own_host(), 0));
        TestCore::start_at(address, local_of(node), options)
    }

    pub(crate) fn start_at(
        address: SocketAddr,
        local: LocalPeer,
        options: PeerOptions,
    ) -> TestCore {
        let (call_sender, calls) = mpsc::channel();
        let listener = bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let thread = LocalExecutorBuilder::new(Placement::Unbound)
            .name("test-core")
            .spawn(move || async move {
                let queue = glommio::executor().create_task_queue(
                    Shares::default(),
                    Latency::Matters(TURN_MAX),
                    "connections",
                );
                let run = run(listener, local, options, calls);
                glommio::spawn_local_into(run, queue).unwrap().await;
            })
            .unwrap();
        TestCore {
            address,
            core: local.core,
            calls: Some(call_sender),
            thread: Some(thread),
        }
    }

    /// Does something in the thread of the core.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Inside) -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = mpsc::channel();
        let call = move |inside: &Inside| sender.send(what(inside)).unwrap();
        self.calls.as_ref().unwrap().send(Box::new(call)).unwrap();
        receiver.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until something is true of the core.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        is_there: impl Fn(&Inside) -> bool + Clone + Send + 'static,
    ) {
        let started = Instant::now();
        while !self.call(is_there.clone()) {
            if started.elapsed() > PATIENCE {
                self.call(|inside| eprintln!("{}", describe(inside)));
                panic!("{what} does not come");
            }
        }
    }

    pub(crate) fn knows(&self, other: &TestCore) {
        let (peer, address) = (other.core, other.address);
        self.call(move |inside| inside.links.set_peer(peer, address));
    }

    pub(crate) fn send(&self, to: PeerCore, lane: PeerLane, batch: &[u8]) -> Sent {
        let batch = batch.to_vec();
        self.call(move |inside| inside.send(to, lane, &batch))
    }

    pub(crate) fn unreachable(&self) -> Vec<(PeerCore, PeerLane, LinkEnd)> {
        self.call(|inside| inside.told.unreachable.borrow().clone())
    }
}

impl Drop for TestCore {
    fn drop(&mut self) {
        drop(self.calls.take());
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn describe(inside: &Inside) -> String {
    format!(
        "{} batches, {:?}, {:?}, {} connections, {} open, {:?}, {:?}",
        inside.told.batches.borrow().len(),
        inside.incoming.counts(),
        inside.links.counts(),
        inside.incoming.count(),
        inside.incoming.open_count(),
        inside.told.unreachable.borrow(),
        inside.told.refused.borrow(),
    )
}

async fn run(
    listener: std::net::TcpListener,
    local: LocalPeer,
    options: PeerOptions,
    calls: mpsc::Receiver<Call>,
) {
    let readiness = Readiness::new().unwrap();
    glommio::spawn_local(readiness.clone().watch(|| Duration::ZERO)).detach();
    let listener = PeerListener::new(listener, readiness).unwrap();
    let incoming = IncomingLinks::new();
    let told = Rc::new(Told {
        local,
        batches: RefCell::default(),
        read_ends: Cell::new(0),
        unreachable: RefCell::default(),
        refused: RefCell::default(),
        known_data: RefCell::default(),
        held_bytes_peak: Cell::new(0),
        incoming: incoming.clone(),
    });
    let inside = Inside {
        told: Rc::clone(&told),
        incoming: incoming.clone(),
        links: PeerLinks::new(&listener, Rc::clone(&told), options, local.incarnation),
    };
    let serving = serve_peers(listener, told, incoming.clone(), options);
    let serving = glommio::spawn_local(serving).detach();
    loop {
        match calls.try_recv() {
            Ok(call) => call(&inside),
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => break,
        }
        inside.told.note_held();
        glommio::timer::sleep(Duration::from_millis(1)).await;
    }
    incoming.close();
    serving.await.unwrap();
    let began = Instant::now();
    while incoming.count() > 0 {
        assert!(began.elapsed() < PATIENCE, "connections do not end");
        glommio::timer::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(incoming.held_bytes(), 0, "who has ended holds nothing");
    assert_eq!(incoming.open_count(), 0);
}
