//! The live connections of one core.

use crate::outbox::{Answered, Outbox};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

/// Names a connection of a core. Never used again in the life of the process: an answer that comes too late finds
/// nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The low bits of a connection id are its place in the table, the others count connections.
const INDEX_BITS: u32 = 20;

/// What a connection's task and the rest of the core share.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: ConnectionId,
    pub(super) outbox: RefCell<Outbox>,
    /// When it was accepted, by [`Connections::now_ms`].
    pub(super) opened_ms: u64,
    /// When bytes last came in or went out, by [`Connections::now_ms`].
    pub(super) last_activity_ms: Cell<u64>,
    /// When the client last took some of what waits for it, or it began to wait, by [`Connections::now_ms`].
    pub(super) last_sent_ms: Cell<u64>,
    /// Set by whoever wants the task to end without sending what is left.
    pub(super) is_cut: Cell<bool>,
    pub(super) waker: RefCell<Option<Waker>>,
    /// Whether it stands in the list of connections to wake at the next flush.
    is_dirty: Cell<bool>,
}

impl Slot {
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teardown {
    /// Nothing has been said.
    Serving,
    /// No connection is accepted, no request is taken; each connection closes once its last answer is sent.
    Draining,
    /// Everything is closed at once.
    Closed,
}

#[derive(Debug)]
struct Registry {
    slots: RefCell<Vec<Option<Rc<Slot>>>>,
    free: RefCell<Vec<u32>>,
    dirty: RefCell<Vec<Rc<Slot>>>,
    opened_total: Cell<u64>,
    now_ms: Cell<u64>,
    teardown: Cell<Teardown>,
    accept_waker: RefCell<Option<Waker>>,
}

/// A handle to the live connections of one core; clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Connections {
    registry: Rc<Registry>,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections::new()
    }
}

impl Connections {
    /// No connections.
    pub fn new() -> Connections {
        Connections {
            registry: Rc::new(Registry {
                slots: RefCell::default(),
                free: RefCell::default(),
                dirty: RefCell::default(),
                opened_total: Cell::new(0),
                now_ms: Cell::new(0),
                teardown: Cell::new(Teardown::Serving),
                accept_waker: RefCell::default(),
            }),
        }
    }

    // Answers.

    /// Appends response frames to what goes out on a connection; they are on their way after [`Connections::flush`]. A
    /// connection that has closed meanwhile is passed over in silence. `encode` must not call back.
    ///
    /// # Panics
    /// When more requests are answered for the last time than were handed out.
    pub fn reply(&self, connection: ConnectionId, encode: impl FnOnce(&mut Vec<u8>) -> Answered) {
        let slots = self.registry.slots.borrow();
        let Some(slot) = find(&slots, connection) else {
            return;
        };
        let mut outbox = slot.outbox.borrow_mut();
        if outbox.unsent().is_empty() {
            slot.last_sent_ms.set(self.now_ms());
        }
        outbox.reply(encode);
        drop(outbox);
        if !slot.is_dirty.replace(true) {
            self.registry.dirty.borrow_mut().push(Rc::clone(slot));
        }
    }

    /// Lets every connection that got answers since the last flush send them: once a turn, so that a connection
    /// makes one write of them.
    pub fn flush(&self) {
        let mut dirty = self.registry.dirty.borrow_mut();
        for slot in dirty.drain(..) {
            slot.is_dirty.set(false);
            slot.wake();
        }
    }

    // Numbers.

    /// Live connections.
    pub fn count(&self) -> usize {
        self.registry.slots.borrow().len() - self.registry.free.borrow().len()
    }

    /// Connections since the start.
    pub fn opened_total(&self) -> u64 {
        self.registry.opened_total.get()
    }

    /// Bytes that wait to be sent, on all connections.
    pub fn outbound_bytes(&self) -> usize {
        let waiting = |slot: &Rc<Slot>| slot.outbox.borrow().unsent().len();
        self.live().iter().map(waiting).sum()
    }

    /// Bytes that wait to be sent on one connection, 0 when it has closed.
    pub fn outbound_bytes_of(&self, connection: ConnectionId) -> usize {
        let slots = self.registry.slots.borrow();
        find(&slots, connection).map_or(0, |slot| slot.outbox.borrow().unsent().len())
    }

    /// Requests under way, on all connections.
    pub fn in_flight(&self) -> usize {
        let under_way = |slot: &Rc<Slot>| slot.outbox.borrow().in_flight() as usize;
        self.live().iter().map(under_way).sum()
    }

    // The end.

    /// Stops accepting, answers new requests with `ShuttingDown`, and closes each connection when what is under way
    /// has been answered and sent. A client that does not close in turn is cut after the handshake timeout.
    pub fn begin_drain(&self) {
        if self.registry.teardown.get() == Teardown::Serving {
            self.registry.teardown.set(Teardown::Draining);
        }
        for slot in self.live() {
            slot.outbox.borrow_mut().begin_drain();
            slot.wake();
        }
        self.wake_accept();
    }

    /// Stops accepting and closes every connection, whatever is under way.
    pub fn close_all(&self) {
        self.registry.teardown.set(Teardown::Closed);
        for slot in self.live() {
            slot.is_cut.set(true);
            slot.wake();
        }
        self.wake_accept();
    }

    /// How connections end at present.
    pub fn teardown(&self) -> Teardown {
        self.registry.teardown.get()
    }

    // For the tasks of this core.

    /// Coarse time, moved by the task that looks for timeouts.
    pub(super) fn now_ms(&self) -> u64 {
        self.registry.now_ms.get()
    }

    pub(super) fn set_now_ms(&self, now_ms: u64) {
        self.registry.now_ms.set(now_ms);
    }

    pub(super) fn set_accept_waker(&self, waker: &Waker) {
        *self.registry.accept_waker.borrow_mut() = Some(waker.clone());
    }

    fn wake_accept(&self) {
        if let Some(waker) = self.registry.accept_waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn insert(&self, outbox: Outbox) -> Rc<Slot> {
        let mut slots = self.registry.slots.borrow_mut();
        let index = self.registry.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(None);
            u32::try_from(slots.len() - 1).expect("connections are limited")
        });
        assert!(index < 1 << INDEX_BITS, "connections are limited");
        let serial = self.registry.opened_total.get() + 1;
        self.registry.opened_total.set(serial);
        let slot = Rc::new(Slot {
            id: ConnectionId(serial << INDEX_BITS | u64::from(index)),
            outbox: RefCell::new(outbox),
            opened_ms: self.now_ms(),
            last_activity_ms: Cell::new(self.now_ms()),
            last_sent_ms: Cell::new(self.now_ms()),
            is_cut: Cell::new(false),
            waker: RefCell::new(None),
            is_dirty: Cell::new(false),
        });
        let previous = slots[index as usize].replace(Rc::clone(&slot));
        assert!(previous.is_none(), "a free place holds no connection");
        slot
    }

    pub(super) fn remove(&self, connection: ConnectionId) {
        let index = index_of(connection);
        let slot = self.registry.slots.borrow_mut()[index].take();
        assert!(
            slot.is_some_and(|slot| slot.id == connection),
            "a connection is removed once"
        );
        self.registry.free.borrow_mut().push(index as u32);
    }

    /// The live connections, so that what is done to them may add or remove some.
    pub(super) fn live(&self) -> Vec<Rc<Slot>> {
        self.registry
            .slots
            .borrow()
            .iter()
            .flatten()
            .cloned()
            .collect()
    }
}

fn index_of(connection: ConnectionId) -> usize {
    (connection.0 & ((1 << INDEX_BITS) - 1)) as usize
}

fn find(slots: &[Option<Rc<Slot>>], connection: ConnectionId) -> Option<&Rc<Slot>> {
    let slot = slots.get(index_of(connection))?.as_ref()?;
    (slot.id == connection).then_some(slot)
}
