//! The live connections of one core.

use crate::outbox::{Answered, ConnectionLimits, Outbox};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
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

/// A connection with less than this waiting is never closed at once for it.
const FAR_TOO_MUCH_BYTES_MIN: usize = 1024 * 1024;

/// What every connection may hold however short memory is.
pub(super) const SMALL_BYTES: usize = 4 * 1024;

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
    /// When something began to wait that has not left since, by [`Connections::now_ms`]; 0 when nothing waits.
    pub(super) unsent_since_ms: Cell<u64>,
    /// When the unfinished frame began, by [`Connections::now_ms`], while it is the client that we wait for.
    pub(super) frame_since_ms: Cell<Option<u64>>,
    /// What its two buffers take, as it stands in the books of the core.
    inbound_bytes: Cell<usize>,
    outbound_bytes: Cell<usize>,
    /// Whether it stands in the list of connections that wait for memory.
    is_stalled: Cell<bool>,
    /// Set by whoever wants the task to end without sending what is left.
    pub(super) is_cut: Cell<bool>,
    pub(super) waker: RefCell<Option<Waker>>,
    /// Whether it stands in the list of connections to wake at the next flush.
    is_dirty: Cell<bool>,
}

impl Slot {
    /// What waits to be sent.
    fn unsent_bytes(&self) -> usize {
        self.outbox.borrow().unsent().len()
    }

    /// What the unfinished frame takes.
    pub(super) fn inbound_bytes(&self) -> usize {
        self.inbound_bytes.get()
    }

    /// What the answers take that wait to be sent.
    pub(super) fn outbound_bytes(&self) -> usize {
        self.outbound_bytes.get()
    }

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

/// What has happened to the connections of a core since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionCounts {
    /// Accepted.
    pub opened: u64,
    /// Turned away because there were too many.
    pub refused: u64,
    /// Not accepted for want of descriptors or memory, counted once for each attempt.
    pub accept_failures: u64,
    /// Closed because a frame, a hello or a closing took too long.
    pub timed_out: u64,
    /// Closed because the client did not take its answers.
    pub unread: u64,
}

/// What the connections of a core hold together.
#[derive(Debug, Default)]
struct Books {
    inbound_bytes: Cell<usize>,
    outbound_bytes: Cell<usize>,
    /// How much of either they may hold.
    bytes_max: Cell<usize>,
    /// Whether the node has no memory left for load, whatever is left here.
    is_node_short: Cell<bool>,
    /// Those that wait for memory, the first first.
    stalled: RefCell<VecDeque<Rc<Slot>>>,
    /// The one that may finish its frame although memory is short: without it, many that have begun could wait for
    /// each other for ever.
    pass: Cell<Option<ConnectionId>>,
}

impl Books {
    fn is_short(&self) -> bool {
        self.is_node_short.get()
            || self.inbound_bytes.get() > self.bytes_max.get()
            || self.outbound_bytes.get() > self.bytes_max.get()
    }
}

#[derive(Debug)]
struct Registry {
    slots: RefCell<Vec<Option<Rc<Slot>>>>,
    free: RefCell<Vec<u32>>,
    dirty: RefCell<Vec<Rc<Slot>>>,
    books: Books,
    counts: Cell<ConnectionCounts>,
    serial: Cell<u64>,
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
                books: Books {
                    bytes_max: Cell::new(usize::MAX),
                    ..Books::default()
                },
                counts: Cell::default(),
                serial: Cell::new(0),
                // Times of 0 say that nothing is going on.
                now_ms: Cell::new(1),
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
            slot.unsent_since_ms.set(self.now_ms());
        }
        outbox.reply(encode);
        let outbound_bytes = outbox.buffer_bytes();
        drop(outbox);
        self.book_outbound(slot, outbound_bytes);
        if self.is_far_too_much(outbound_bytes) && !slot.is_cut.replace(true) {
            self.note(|counts| counts.unread += 1);
        }
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

    /// What has happened to them since the start.
    pub fn counts(&self) -> ConnectionCounts {
        self.registry.counts.get()
    }

    /// Memory of answers that wait to be sent, on all connections.
    pub fn outbound_bytes(&self) -> usize {
        self.registry.books.outbound_bytes.get()
    }

    /// Memory of frames that have arrived in part or wait for a limit, on all connections.
    pub fn inbound_bytes(&self) -> usize {
        self.registry.books.inbound_bytes.get()
    }

    /// Whether anything waits to be sent on any connection.
    pub fn has_unsent(&self) -> bool {
        let has_unsent = |slot: &Rc<Slot>| !slot.outbox.borrow().unsent().is_empty();
        self.registry
            .slots
            .borrow()
            .iter()
            .flatten()
            .any(has_unsent)
    }

    // Memory.

    /// Says whether the node has memory for load. While it has not, connections that hold more than a few KiB are not
    /// read.
    pub fn set_node_short(&self, is_short: bool) {
        self.registry.books.is_node_short.set(is_short);
        if !is_short {
            self.wake_stalled();
        }
    }

    pub(super) fn set_buffer_bytes_max(&self, bytes: usize) {
        self.registry.books.bytes_max.set(bytes);
    }

    /// Whether connections that hold much must wait.
    pub(super) fn is_short(&self) -> bool {
        self.registry.books.is_short()
    }

    /// Whether answers hold more than they may.
    pub(super) fn is_outbound_short(&self) -> bool {
        let books = &self.registry.books;
        books.outbound_bytes.get() > books.bytes_max.get()
    }

    /// Whether a connection that holds this much must go at once: requests that were taken are answered beyond the
    /// limit, but not without end.
    fn is_far_too_much(&self, outbound_bytes: usize) -> bool {
        let books = &self.registry.books;
        outbound_bytes > FAR_TOO_MUCH_BYTES_MIN
            && books.outbound_bytes.get() / 2 > books.bytes_max.get()
    }

    /// Whether a connection may be read. One that may not is woken when it may.
    pub(super) fn may_read(&self, slot: &Rc<Slot>) -> bool {
        let books = &self.registry.books;
        let sends_much = slot.inbound_bytes.get() > SMALL_BYTES;
        let is_behind = slot.unsent_bytes() > SMALL_BYTES;
        if !books.is_short() || !(sends_much || is_behind) {
            return true;
        }
        let holds_pass = books.pass.get() == Some(slot.id);
        // Who does not take its answers gets no pass: reading more of it would make them more.
        if !is_behind && (holds_pass || books.pass.get().is_none()) {
            books.pass.set(Some(slot.id));
            return true;
        }
        if !slot.is_stalled.replace(true) {
            books.stalled.borrow_mut().push_back(Rc::clone(slot));
        }
        false
    }

    /// Enters what a connection's buffers take now.
    pub(super) fn book(&self, slot: &Slot, inbound_bytes: usize) {
        let books = &self.registry.books;
        let before = slot.inbound_bytes.replace(inbound_bytes);
        books
            .inbound_bytes
            .set(books.inbound_bytes.get() - before + inbound_bytes);
        self.book_outbound(slot, slot.outbox.borrow().buffer_bytes());
        let is_done = inbound_bytes == 0 && books.pass.get() == Some(slot.id);
        if is_done {
            books.pass.set(None);
        }
        if is_done || !books.is_short() {
            self.wake_stalled();
        }
    }

    fn book_outbound(&self, slot: &Slot, outbound_bytes: usize) {
        let books = &self.registry.books;
        let before = slot.outbound_bytes.replace(outbound_bytes);
        books
            .outbound_bytes
            .set(books.outbound_bytes.get() - before + outbound_bytes);
    }

    /// Lets everybody who waits for memory look again. The first in line comes first.
    pub(super) fn wake_stalled(&self) {
        let mut stalled = self.registry.books.stalled.borrow_mut();
        for slot in stalled.drain(..) {
            slot.is_stalled.set(false);
            slot.wake();
        }
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

    pub(super) fn note(&self, change: impl FnOnce(&mut ConnectionCounts)) {
        let mut counts = self.registry.counts.get();
        change(&mut counts);
        self.registry.counts.set(counts);
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
        let serial = self.registry.serial.get() + 1;
        self.registry.serial.set(serial);
        self.note(|counts| counts.opened += 1);
        let slot = Rc::new(Slot {
            id: ConnectionId(serial << INDEX_BITS | u64::from(index)),
            outbox: RefCell::new(outbox),
            opened_ms: self.now_ms(),
            last_activity_ms: Cell::new(self.now_ms()),
            last_sent_ms: Cell::new(self.now_ms()),
            unsent_since_ms: Cell::new(0),
            frame_since_ms: Cell::new(None),
            inbound_bytes: Cell::new(0),
            outbound_bytes: Cell::new(0),
            is_stalled: Cell::new(false),
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
        let slot = slot
            .filter(|slot| slot.id == connection)
            .expect("a connection is removed once");
        *slot.outbox.borrow_mut() = Outbox::new(&ConnectionLimits::default());
        self.book(&slot, 0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::RequestId;
    use crate::outbox::Weight;

    #[test]
    fn a_connection_that_is_cut_for_what_it_leaves_unread_is_counted_once() {
        let connections = Connections::new();
        connections.set_buffer_bytes_max(FAR_TOO_MUCH_BYTES_MIN);
        let slot = connections.insert(Outbox::new(&ConnectionLimits::default()));
        let weight = Weight {
            commands: 1,
            frame_bytes: 100,
        };
        for id in 1..=4 {
            slot.outbox.borrow_mut().on_request(RequestId(id), weight);
        }
        for _ in 1..=4 {
            connections.reply(slot.id, |out| {
                out.resize(out.len() + 3 * FAR_TOO_MUCH_BYTES_MIN, 0);
                Answered::Last
            });
        }
        assert!(slot.is_cut.get());
        assert_eq!(connections.counts().unread, 1);
    }
}
