//! Which cores of other nodes are clearly faster than this one, as far as they said.

use super::neighbours::Neighbours;
use crate::peer::PeerCore;

/// The tick that this core needs beside those of its neighbours: a round trip and a write of the log.
pub(crate) struct Pace<'a> {
    neighbours: &'a Neighbours,
    /// `None` where the lengths of ticks say nothing.
    needed_ns: Option<u64>,
}

/// How another core does beside this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    /// It is clearly faster.
    Faster,
    /// It is not, or only a little.
    NotFaster,
    /// Nobody knows.
    Unknown,
}

/// Whether a tick is clearly shorter than another: by a quarter.
pub(super) fn is_clearly_shorter(tick_ns: u64, other_ns: u64) -> bool {
    tick_ns <= other_ns - other_ns / 4
}

impl<'a> Pace<'a> {
    pub(super) fn new(neighbours: &'a Neighbours, needed_ns: Option<u64>) -> Pace<'a> {
        Pace {
            neighbours,
            needed_ns,
        }
    }

    pub(crate) fn of(&self, core: PeerCore) -> Other {
        let theirs_ns = self.neighbours.tick_needed_ns(core);
        match (self.needed_ns, theirs_ns) {
            (Some(ours_ns), Some(theirs_ns)) if is_clearly_shorter(theirs_ns, ours_ns) => {
                Other::Faster
            }
            (Some(_), Some(_)) => Other::NotFaster,
            (None, _) | (_, None) => Other::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metastore_wal::{CoreId, NodeId};

    use super::*;
    use crate::ids::{BootNonce, Time};
    use crate::peer::Stamp;

    #[test]
    fn who_is_clearly_faster_is_told_from_who_is_not_and_who_did_not_say() {
        let core = |node| PeerCore {
            node: NodeId(node),
            core: CoreId(0),
        };
        let mut neighbours = Neighbours::new(BootNonce(1), 10);
        neighbours.set(&BTreeSet::from([core(2), core(3), core(4), core(5)]));
        for (node, tick_needed_us) in [(2, 15_000), (3, 151_000), (4, 0)] {
            let stamp = Stamp {
                boot: 1,
                sent_ns: 1,
                tick_needed_us,
                ..Stamp::default()
            };
            neighbours.on_beat(Time(1), core(node), &stamp);
        }
        let pace = Pace::new(&neighbours, Some(200_000_000));
        let others = [2, 3, 4, 5].map(|node| pace.of(core(node)));
        let expected = [
            Other::Faster,
            Other::NotFaster,
            Other::Unknown,
            Other::Unknown,
        ];
        assert_eq!(others, expected);
        assert_eq!(Pace::new(&neighbours, None).of(core(2)), Other::Unknown);
    }
}
