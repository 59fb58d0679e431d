//! Accepting connections from other cores.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::peer::{PeerCore, PeerHello, PeerLane, RefusalCode, Room};
use crate::server::peer::counts::IncomingCounts;
use crate::server::peer::held::{HeldMemory, LinkSerial, Progress};
use crate::server::peer::incoming_task::IncomingTask;
use crate::server::peer::task_waker::TaskWaker;
use crate::server::peer::{PeerOptions, PeerService};
use crate::server::readiness::Readiness;
use crate::server::socket::{Listener, Socket};
use crate::server::task::new_read_buffer;

/// Accepting fails for want of descriptors or memory. Trying again at once would only burn the core.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where cores of other nodes connect to.
#[derive(Debug)]
pub struct PeerListener {
    listener: Listener,
}

impl PeerListener {
    /// Brings a listening socket to the core that is to serve it.
    ///
    /// # Errors
    /// What the kernel says when it has no descriptor or memory left.
    pub fn new(socket: std::net::TcpListener, readiness: Readiness) -> io::Result<PeerListener> {
        let listener = Listener::new(socket, readiness)?;
        Ok(PeerListener { listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) fn readiness(&self) -> &Readiness {
        self.listener.readiness()
    }
}

/// What the task of a connection and the others share.
#[derive(Debug)]
pub(super) struct IncomingSlot {
    serial: LinkSerial,
    /// Whose it is, once that is known, and as long as no newer one has taken its place.
    place: Cell<Option<(PeerCore, PeerLane)>>,
    /// Set by whoever wants the task to end.
    is_cut: Cell<bool>,
    pub(super) waker: TaskWaker,
}

impl IncomingSlot {
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    fn cut(&self) {
        self.is_cut.set(true);
        self.waker.wake();
    }
}

#[derive(Debug)]
struct Shared {
    slots: RefCell<BTreeMap<LinkSerial, Rc<IncomingSlot>>>,
    /// Which of them are open.
    places: RefCell<BTreeMap<(PeerCore, PeerLane), LinkSerial>>,
    last_serial: Cell<u64>,
    held: RefCell<HeldMemory>,
    counts: Cell<IncomingCounts>,
    is_closed: Cell<bool>,
    accept_waker: TaskWaker,
}

/// A handle to the connections from other cores; clones are handles to the same.
#[derive(Debug, Clone)]
pub struct IncomingLinks {
    shared: Rc<Shared>,
}

impl Default for IncomingLinks {
    fn default() -> IncomingLinks {
        IncomingLinks::new()
    }
}

impl IncomingLinks {
    /// No connections.
    #[must_use]
    pub fn new() -> IncomingLinks {
        IncomingLinks {
            shared: Rc::new(Shared {
                slots: RefCell::default(),
                places: RefCell::default(),
                last_serial: Cell::new(0),
                // The bound is told by whoever serves.
                held: RefCell::new(HeldMemory::new(usize::MAX)),
                counts: Cell::default(),
                is_closed: Cell::new(false),
                accept_waker: TaskWaker::default(),
            }),
        }
    }

    /// Live connections, those that have not said hello included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.slots.borrow().len()
    }

    /// Connections that have said hello.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.shared.places.borrow().len()
    }

    /// Memory of batches that have come in part.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.shared.held.borrow().bytes()
    }

    /// What has happened to them since the start.
    #[must_use]
    pub fn counts(&self) -> IncomingCounts {
        self.shared.counts.get()
    }

    /// Stops accepting and closes every connection.
    pub fn close(&self) {
        self.shared.is_closed.set(true);
        for slot in self.shared.slots.borrow().values() {
            slot.cut();
        }
        self.shared.accept_waker.wake();
    }

    // For the tasks of this core.

    pub(super) fn note(&self, change: impl FnOnce(&mut IncomingCounts)) {
        let mut counts = self.shared.counts.get();
        change(&mut counts);
        self.shared.counts.set(counts);
    }

    fn strangers(&self) -> usize {
        self.count() - self.open_count()
    }

    fn insert(&self) -> Rc<IncomingSlot> {
        let serial = LinkSerial(self.shared.last_serial.get() + 1);
        self.shared.last_serial.set(serial.0);
        let slot = Rc::new(IncomingSlot {
            serial,
            place: Cell::new(None),
            is_cut: Cell::new(false),
            waker: TaskWaker::default(),
        });
        let mut slots = self.shared.slots.borrow_mut();
        slots.insert(serial, Rc::clone(&slot));
        slot
    }

    /// A right hello came on a connection. It takes the place of an older one of the same core and lane: who connects
    /// again has given that one up, even if nobody has told us.
    pub(super) fn admit(
        &self,
        slot: &IncomingSlot,
        hello: &PeerHello,
        links_max: usize,
    ) -> Result<(), RefusalCode> {
        let place = (hello.sender.core, hello.lane);
        let mut places = self.shared.places.borrow_mut();
        if !places.contains_key(&place) && places.len() >= links_max {
            self.note(|counts| counts.full += 1);
            return Err(RefusalCode::Full);
        }
        slot.place.set(Some(place));
        self.note(|counts| counts.opened += 1);
        if let Some(older) = places.insert(place, slot.serial) {
            self.note(|counts| counts.replaced += 1);
            let slots = self.shared.slots.borrow();
            let older = slots.get(&older).expect("who has a place is there");
            older.place.set(None);
            older.cut();
        }
        Ok(())
    }

    pub(super) fn remove(&self, slot: &IncomingSlot) {
        let released = self.shared.held.borrow_mut().on_end(slot.serial);
        if let Some(place) = slot.place.take() {
            self.shared.places.borrow_mut().remove(&place);
        }
        let removed = self.shared.slots.borrow_mut().remove(&slot.serial);
        assert!(removed.is_some(), "a connection is removed once");
        self.wake(&released);
    }

    /// Whether a connection may be read as far as memory goes. If not, it is woken when it may.
    pub(super) fn may_read(&self, slot: &IncomingSlot) -> bool {
        self.shared.held.borrow_mut().may_read(slot.serial)
    }

    /// How much a connection may take for the batch that comes next.
    pub(super) fn room(&self, slot: &IncomingSlot) -> Room {
        self.shared.held.borrow().room(slot.serial)
    }

    /// Enters what the unfinished batch of a connection takes after a read.
    pub(super) fn book(&self, slot: &IncomingSlot, held_bytes: usize, progress: Progress) {
        let mut held = self.shared.held.borrow_mut();
        let released = held.on_held(slot.serial, held_bytes, progress);
        self.wake(&released);
    }

    fn wake(&self, links: &[LinkSerial]) {
        let slots = self.shared.slots.borrow();
        for link in links {
            let slot = slots.get(link).expect("who waits for memory is there");
            slot.waker.wake();
        }
    }
}

/// Accepts connections from other cores and hands out what they send, until [`IncomingLinks::close`].
///
/// Everything is spawned into the task queue of the caller. The task that watches the sockets stays until the executor
/// ends; it watches those of [`PeerLinks`](crate::server::PeerLinks) too.
pub async fn serve_peers<S: PeerService>(
    listener: PeerListener,
    service: Rc<S>,
    links: IncomingLinks,
    options: PeerOptions,
) {
    links
        .shared
        .held
        .borrow_mut()
        .set_bytes_max(options.held_bytes_max);
    let read_buffer = new_read_buffer();
    while let Some(accepted) = accept(&listener.listener, &links).await {
        let Ok(stream) = accepted else {
            links.note(|counts| counts.accept_failures += 1);
            glommio::timer::sleep(ACCEPT_RETRY).await;
            continue;
        };
        if links.strangers() >= options.strangers_max {
            links.note(|counts| counts.turned_away += 1);
            drop(stream);
        } else {
            let task = IncomingTask::new(
                stream,
                links.insert(),
                Rc::clone(&service),
                links.clone(),
                options,
                Rc::clone(&read_buffer),
            );
            glommio::spawn_local(task.run()).detach();
        }
        // Many that come at once must not keep the core from those that are here.
        glommio::executor().yield_now().await;
    }
}

/// The next connection, or `None` when no more shall be accepted.
async fn accept(listener: &Listener, links: &IncomingLinks) -> Option<io::Result<Socket>> {
    let mut accepting = pin!(listener.accept());
    std::future::poll_fn(|context| {
        links.shared.accept_waker.remember(context);
        if links.shared.is_closed.get() {
            Poll::Ready(None)
        } else {
            accepting.as_mut().poll(context).map(Some)
        }
    })
    .await
}
