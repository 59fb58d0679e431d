//! Which requests of a connection await an answer.

use crate::frame::{FrameKind, RequestId};

/// A slab of requests in flight. The low half of a request id is the slot, the high half the slot's serial number,
/// which is never 0: finding a request is one index, and an id that was answered before is recognised.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    slots: Vec<Slot>,
    /// Free slots; the one freed last is used first, because it is in the cache.
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    serial: u32,
    kind: Option<FrameKind>,
}

impl Pending {
    /// Takes note of a request and gives it an id.
    pub(crate) fn insert(&mut self, kind: FrameKind) -> RequestId {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).expect("far fewer requests in flight");
                self.slots.push(Slot {
                    serial: 0,
                    kind: None,
                });
                index
            }
        };
        let slot = &mut self.slots[index as usize];
        assert!(slot.kind.is_none(), "a free slot has no request");
        slot.serial = slot.serial.checked_add(1).unwrap_or(1);
        slot.kind = Some(kind);
        id_of(index, slot.serial)
    }

    /// The kind of a request in flight.
    pub(crate) fn kind(&self, id: RequestId) -> Option<FrameKind> {
        let slot = self.slots.get(id.0 as u32 as usize)?;
        if u64::from(slot.serial) == id.0 >> 32 {
            slot.kind
        } else {
            None
        }
    }

    /// The request has its last answer.
    pub(crate) fn remove(&mut self, id: RequestId) {
        let index = id.0 as u32;
        let kind = self.slots[index as usize].kind.take();
        assert!(kind.is_some(), "only a request in flight is removed");
        self.free.push(index);
    }

    /// How many are in flight.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes all out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (RequestId, FrameKind)> + use<> {
        self.free.clear();
        let slots = std::mem::take(&mut self.slots);
        slots.into_iter().enumerate().filter_map(|(index, slot)| {
            let kind = slot.kind?;
            Some((id_of(index as u32, slot.serial), kind))
        })
    }
}

fn id_of(index: u32, serial: u32) -> RequestId {
    RequestId(u64::from(serial) << 32 | u64::from(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answered_id_is_not_known_again() {
        let mut pending = Pending::default();
        let first = pending.insert(FrameKind::Get);
        assert_eq!(pending.kind(first), Some(FrameKind::Get));
        pending.remove(first);
        assert_eq!(pending.kind(first), None);
        let second = pending.insert(FrameKind::Ping);
        assert_ne!(first, second);
        assert_eq!(first.0 as u32, second.0 as u32, "the slot is used again");
        assert_eq!(pending.kind(first), None);
        assert_eq!(pending.kind(second), Some(FrameKind::Ping));
    }

    #[test]
    fn ids_are_never_the_connections_own() {
        let mut pending = Pending::default();
        for _ in 0..3 {
            let id = pending.insert(FrameKind::Get);
            assert_ne!(id, RequestId::CONNECTION);
        }
        pending.slots[0].serial = u32::MAX;
        pending.slots[0].kind = None;
        pending.free.push(0);
        let id = pending.insert(FrameKind::Get);
        assert_eq!(id, RequestId(1 << 32));
    }

    #[test]
    fn drain_yields_what_is_in_flight() {
        let mut pending = Pending::default();
        let get = pending.insert(FrameKind::Get);
        let put = pending.insert(FrameKind::Command);
        let ping = pending.insert(FrameKind::Ping);
        pending.remove(put);
        assert_eq!(pending.len(), 2);
        let drained: Vec<_> = pending.drain().collect();
        assert_eq!(drained, [(get, FrameKind::Get), (ping, FrameKind::Ping)]);
        assert_eq!(pending.len(), 0);
    }
}
