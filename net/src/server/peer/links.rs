//! The connections to other cores.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::peer::{BatchQueue, PeerCore, PeerLane, Queued};
use crate::server::peer::counts::LinkCounts;
use crate::server::peer::incoming::PeerListener;
use crate::server::peer::link_task::LinkTask;
use crate::server::peer::task_waker::TaskWaker;
use crate::server::peer::{PeerOptions, PeerService, place_of};
use crate::server::readiness::Readiness;

/// What became of a batch that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way after [`PeerLinks::flush`], and may still be lost with its connection.
    Queued,
    /// It is dropped: too much waits on its connection.
    Full,
    /// It is dropped: there is no connection, and it is not yet time to try again.
    Unreachable,
    /// It is dropped: nobody has said where its receiver is.
    Unknown,
    /// It is dropped: it is empty or longer than a batch may be.
    Unsendable,
}

/// Where a connection to another core is in its life.
///
/// ```text
///          a batch waits                answer           end
///   Idle ---------------> Connecting ----------> Open -------> Waiting
///    ^                        |                                 |  ^
///    |                        +---------- no answer ------------|--+
///    +------------------------- back-off is over ---------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was to be sent since the start, or since the last back-off.
    Idle,
    /// What is to be sent waits for the connection.
    Connecting,
    /// What is to be sent waits for the socket.
    Open,
    /// What is to be sent is dropped until the back-off is over: it would be old by then.
    Waiting,
}

/// What the task of a connection and [`PeerLinks`] share.
#[derive(Debug)]
pub(super) struct LinkSlot {
    pub(super) peer: PeerCore,
    pub(super) lane: PeerLane,
    pub(super) address: Cell<SocketAddr>,
    pub(super) queue: RefCell<BatchQueue>,
    pub(super) phase: Cell<Phase>,
    pub(super) waker: TaskWaker,
    /// Since when the other end has taken nothing of what waits.
    pub(super) stalled_since: Cell<Option<Instant>>,
    /// Whether it stands in the list of connections to wake at the next flush.
    is_dirty: Cell<bool>,
}

/// What all of them share.
#[derive(Debug)]
pub(super) struct LinkBooks {
    counts: Cell<LinkCounts>,
    random: Cell<u64>,
}

impl LinkBooks {
    pub(super) fn note(&self, change: impl FnOnce(&mut LinkCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// A connection has ended, or could not be made: what waits for it is lost.
    pub(super) fn on_end(&self, slot: &LinkSlot) {
        let was_open = slot.phase.replace(Phase::Waiting) == Phase::Open;
        slot.stalled_since.set(None);
        let lost = slot.queue.borrow_mut().clear() as u64;
        self.note(|counts| {
            counts.ended += u64::from(was_open);
            counts.lost += lost;
        });
    }

    /// SplitMix64: enough for waits that shall not fall together.
    pub(super) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Who has taken nothing for so long may never take anything: nobody waits for it who has something better to do.
const STALLED_AFTER: Duration = Duration::from_millis(500);

/// A connection; its task ends with it.
#[derive(Debug)]
struct Link {
    slot: Rc<LinkSlot>,
    _task: glommio::Task<()>,
}

/// The connections to other cores, three for each.
///
/// A connection is made when there is something to send, and again some time after it has ended, when there is something
/// to send. What waits when it ends is lost. Dropping it closes all of them at once, whatever waits.
#[derive(Debug)]
pub struct PeerLinks<S: PeerService> {
    service: Rc<S>,
    readiness: Readiness,
    options: PeerOptions,
    peers: RefCell<BTreeMap<PeerCore, [Link; 3]>>,
    dirty: RefCell<Vec<Rc<LinkSlot>>>,
    books: Rc<LinkBooks>,
}

impl<S: PeerService> PeerLinks<S> {
    /// No connections. Their sockets are watched together with those of `listener`. `seed` makes the waits of this core differ from those of
    /// others.
    #[must_use]
    pub fn new(
        listener: &PeerListener,
        service: Rc<S>,
        options: PeerOptions,
        seed: u64,
    ) -> PeerLinks<S> {
        PeerLinks {
            service,
            readiness: listener.readiness().clone(),
            options,
            peers: RefCell::default(),
            dirty: RefCell::default(),
            books: Rc::new(LinkBooks {
                counts: Cell::default(),
                random: Cell::new(seed),
            }),
        }
    }

    /// From now on a core is to be found there. A connection that exists lives on. Must be called in the task queue in
    /// which the connections shall run.
    pub fn set_peer(&self, peer: PeerCore, address: SocketAddr) {
        let mut peers = self.peers.borrow_mut();
        if let Some(links) = peers.get(&peer) {
            for link in links {
                link.slot.address.set(address);
            }
        } else {
            let links = PeerLane::ALL.map(|lane| self.make_link(peer, lane, address));
            peers.insert(peer, links);
        }
    }

    fn make_link(&self, peer: PeerCore, lane: PeerLane, address: SocketAddr) -> Link {
        let queued_bytes_max = self.options.queued_bytes_max_of(lane);
        let slot = Rc::new(LinkSlot {
            peer,
            lane,
            address: Cell::new(address),
            queue: RefCell::new(BatchQueue::new(queued_bytes_max)),
            phase: Cell::new(Phase::Idle),
            waker: TaskWaker::default(),
            stalled_since: Cell::new(None),
            is_dirty: Cell::new(false),
        });
        let task = LinkTask {
            slot: Rc::clone(&slot),
            service: Rc::clone(&self.service),
            readiness: self.readiness.clone(),
            options: self.options,
            books: Rc::clone(&self.books),
        };
        Link {
            slot,
            _task: glommio::spawn_local(task.run()),
        }
    }

    /// Closes the connections to a core, whatever waits; nothing is said about it.
    pub fn remove_peer(&self, peer: PeerCore) {
        let removed = self.peers.borrow_mut().remove(&peer);
        for link in removed.iter().flatten() {
            self.books.on_end(&link.slot);
            // The slot may live on in the list of those to wake.
            link.slot.waker.forget();
        }
    }

    /// Appends a batch to what goes to a core over one of its connections; it is on its way after
    /// [`PeerLinks::flush`].
    pub fn send(&self, to: PeerCore, lane: PeerLane, batch: &[u8]) -> Sent {
        let peers = self.peers.borrow();
        let Some(links) = peers.get(&to) else {
            self.books.note(|counts| counts.dropped_unsendable += 1);
            return Sent::Unknown;
        };
        let slot = &links[place_of(lane)].slot;
        if slot.phase.get() == Phase::Waiting {
            self.books.note(|counts| counts.dropped_unreachable += 1);
            return Sent::Unreachable;
        }
        match slot.queue.borrow_mut().push(batch) {
            Queued::Taken => {}
            Queued::Full => {
                self.books.note(|counts| counts.dropped_full += 1);
                return Sent::Full;
            }
            Queued::Unsendable => {
                self.books.note(|counts| counts.dropped_unsendable += 1);
                return Sent::Unsendable;
            }
        }
        if !slot.is_dirty.replace(true) {
            self.dirty.borrow_mut().push(Rc::clone(slot));
        }
        Sent::Queued
    }

    /// Lets every connection that got batches since the last flush send them: once a turn, so that a connection makes
    /// one write of them. Says whether there are any.
    pub fn flush(&self) -> bool {
        let mut dirty = self.dirty.borrow_mut();
        let has_some = !dirty.is_empty();
        for slot in dirty.drain(..) {
            slot.is_dirty.set(false);
            slot.waker.wake();
        }
        has_some
    }

    /// Whether a connection can be used.
    #[must_use]
    pub fn is_open(&self, peer: PeerCore, lane: PeerLane) -> bool {
        let peers = self.peers.borrow();
        peers
            .get(&peer)
            .is_some_and(|links| links[place_of(lane)].slot.phase.get() == Phase::Open)
    }

    /// Bytes that wait to be sent, on all connections that can be used and whose other ends take some. Who stops waits
    /// until there are none.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        let peers = self.peers.borrow();
        let slots = peers.values().flatten().map(|link| &link.slot);
        let is_stalled = |slot: &LinkSlot| {
            let since = slot.stalled_since.get();
            since.is_some_and(|since| since.elapsed() >= STALLED_AFTER)
        };
        let open = slots.filter(|slot| slot.phase.get() == Phase::Open && !is_stalled(slot));
        open.map(|slot| slot.queue.borrow().unsent().len()).sum()
    }

    /// Memory of what waits to be sent, on all connections.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        let peers = self.peers.borrow();
        let queues = peers.values().flatten().map(|link| &link.slot.queue);
        queues.map(|queue| queue.borrow().buffer_bytes()).sum()
    }

    /// What has happened to them since the start.
    #[must_use]
    pub fn counts(&self) -> LinkCounts {
        self.books.counts.get()
    }
}

impl<S: PeerService> Drop for PeerLinks<S> {
    fn drop(&mut self) {
        let peers: Vec<_> = self.peers.borrow().keys().copied().collect();
        for peer in peers {
            self.remove_peer(peer);
        }
    }
}
