//! Messages of one core that wait for room in the channels to the others.

use std::collections::VecDeque;

use metastore_engine::{CoreId, MeshBatch};

/// Where messages to another core go.
pub(crate) trait MeshSender {
    /// Hands over the messages, or says why not.
    fn try_send(&self, core: CoreId, batch: MeshBatch) -> Result<(), Unsent>;
}

/// Why messages did not leave.
pub(crate) enum Unsent {
    /// The other core is behind; here they are.
    Full(MeshBatch),
    /// The other core has ended.
    Closed,
}

/// A queue for each other core: one that is behind holds up nobody else.
///
/// The queues have no bound of their own. All that waits in them are requests of clients and answers to such, and a
/// connection is not read while 1,024 of its requests are under way. With at most 8,192 connections a core that bounds
/// the messages that begin at one core at 8.4 million.
pub(crate) struct Outgoing {
    mesh: Option<Box<dyn MeshSender>>,
    waiting: Vec<VecDeque<MeshBatch>>,
}

impl Outgoing {
    /// Nothing waits. A core that is alone has no mesh.
    pub(crate) fn new(mesh: Option<Box<dyn MeshSender>>, cores: usize) -> Outgoing {
        Outgoing {
            mesh,
            waiting: (0..cores).map(|_| VecDeque::new()).collect(),
        }
    }

    pub(crate) fn push(&mut self, core: CoreId, batch: MeshBatch) {
        self.waiting[usize::from(core.0)].push_back(batch);
    }

    /// Bytes of the messages that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.iter().flatten().map(MeshBatch::bytes).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Sends what finds room, in order for each core. What is meant for a core that has ended is dropped, and
    /// `on_closed` is told.
    pub(crate) fn flush(&mut self, mut on_closed: impl FnMut(CoreId)) {
        for (core, waiting) in (0..).map(CoreId).zip(&mut self.waiting) {
            while let Some(batch) = waiting.pop_front() {
                let mesh = self.mesh.as_ref();
                let mesh = mesh.expect("only a node of several cores forwards");
                match mesh.try_send(core, batch) {
                    Ok(()) => {}
                    Err(Unsent::Full(batch)) => {
                        // What is behind must wait too, or messages would overtake each other.
                        waiting.push_front(batch);
                        break;
                    }
                    Err(Unsent::Closed) => on_closed(core),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use super::*;

    /// How much room each core's channel has, none for one that has ended; and who was sent how many batches.
    #[derive(Default)]
    struct FakeMesh {
        room: RefCell<BTreeMap<CoreId, usize>>,
        sent: RefCell<Vec<CoreId>>,
    }

    impl MeshSender for Rc<FakeMesh> {
        fn try_send(&self, core: CoreId, batch: MeshBatch) -> Result<(), Unsent> {
            match self.room.borrow_mut().get_mut(&core) {
                None => Err(Unsent::Closed),
                Some(0) => Err(Unsent::Full(batch)),
                Some(room) => {
                    *room -= 1;
                    self.sent.borrow_mut().push(core);
                    Ok(())
                }
            }
        }
    }

    #[test]
    fn a_core_that_is_behind_holds_up_nobody_else() {
        let mesh = Rc::new(FakeMesh::default());
        *mesh.room.borrow_mut() = BTreeMap::from([(CoreId(1), 1), (CoreId(2), 9)]);
        let mut outgoing = Outgoing::new(Some(Box::new(Rc::clone(&mesh))), 4);
        for core in [1, 1, 1, 2, 3, 2] {
            outgoing.push(CoreId(core), MeshBatch::default());
        }
        let mut closed = Vec::new();
        outgoing.flush(|core| closed.push(core));
        assert_eq!(*mesh.sent.borrow(), [CoreId(1), CoreId(2), CoreId(2)]);
        assert_eq!(closed, [CoreId(3)]);
        assert!(!outgoing.is_empty(), "two batches wait for core 1");
        mesh.room.borrow_mut().insert(CoreId(1), 2);
        outgoing.flush(|core| panic!("core {core} has not ended"));
        assert!(outgoing.is_empty());
        assert_eq!(mesh.sent.borrow().len(), 5);
    }
}
