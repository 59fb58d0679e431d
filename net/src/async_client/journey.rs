//! How far an operation has come, and where it goes next.

use crate::async_client::backoff::Backoff;
use crate::async_client::call::Effect;
use crate::async_client::error::{Error, Fault};
use crate::async_client::placement::{Placement, Route};
use crate::async_client::settings::{ClientSettings, ReadFrom};
use crate::async_client::suspects::Suspects;

/// One operation on its way from attempt to attempt.
#[derive(Debug)]
pub(super) struct Journey {
    pub(super) backoff: Backoff,
    /// Who is asked next, because somebody said so.
    pub(super) hint: Option<String>,
    /// How often somebody said so. Two that name each other must not be asked in a loop.
    pub(super) hints: u32,
    /// Who was asked last.
    asked: String,
    /// Who was asked in vain, until everybody was.
    tried: Vec<String>,
    /// Where the addresses begin that are as good as others, so that operations spread.
    turn: usize,
    pub(super) last: Option<Fault>,
    /// An earlier attempt that may have been applied.
    pub(super) unknown: Option<Fault>,
}

impl Journey {
    /// `turn` differs from operation to operation.
    pub(super) fn new(settings: &ClientSettings, turn: usize) -> Journey {
        Journey {
            backoff: Backoff::new(settings.backoff_min, settings.backoff_max),
            hint: None,
            hints: 0,
            asked: String::new(),
            tried: Vec::new(),
            turn,
            last: None,
            unknown: None,
        }
    }

    /// This one is asked, whoever chose it.
    pub(super) fn note_asked(&mut self, address: &str) {
        self.asked = address.to_owned();
    }

    /// Whether others are better asked.
    pub(super) fn has_tried(&self, address: &str) -> bool {
        self.tried.iter().any(|one| one == address)
    }

    pub(super) fn turn(&self) -> usize {
        self.turn
    }

    /// Who was asked last could not help. How many have been asked in vain since everybody was.
    pub(super) fn note_in_vain(&mut self) -> usize {
        let asked = std::mem::take(&mut self.asked);
        if !asked.is_empty() && !self.tried.contains(&asked) {
            self.tried.push(asked);
        }
        self.tried.len()
    }

    /// Where to send the next attempt: who was named; then the first of `candidates` that was not asked in vain, those
    /// that may be silent last; and when all were, everybody once more. `None` when there is nobody.
    pub(super) fn choose(
        &mut self,
        candidates: Vec<String>,
        suspects: &Suspects,
    ) -> Option<String> {
        if let Some(hint) = self.hint.take() {
            self.asked.clone_from(&hint);
            return Some(hint);
        }
        if candidates.iter().all(|one| self.tried.contains(one)) {
            self.tried.clear();
        }
        let mut untried = candidates
            .into_iter()
            .filter(|one| !self.tried.contains(one))
            .peekable();
        let first = untried.peek().cloned();
        let chosen = untried.find(|one| !suspects.is_to_be_avoided(one));
        let chosen = chosen.or(first)?;
        self.asked.clone_from(&chosen);
        Some(chosen)
    }

    /// Who may be asked, the best first: of `all`, who can be asked anything, and `placement`, which says who has what.
    pub(super) fn candidates(
        &self,
        (route, effect): (Route, Effect),
        read_from: ReadFrom,
        placement: Option<&Placement>,
        mut all: Vec<String>,
    ) -> Vec<String> {
        rotate(&mut all, self.turn);
        let replicas = match (route, placement) {
            (Route::Slot(slot), Some(map)) => map.replicas(slot),
            (Route::Slot(_), None) | (Route::Any, _) => &[],
        };
        let mut best = replicas.to_vec();
        match (effect, read_from) {
            (Effect::Read, ReadFrom::Any) => rotate(&mut best, self.turn),
            (Effect::Read, ReadFrom::Leader) | (Effect::Write(_) | Effect::WriteOnce, _) => {
                // The leader stays in front.
                let followers = best.get_mut(1..).unwrap_or_default();
                rotate(followers, self.turn);
            }
        }
        all.retain(|one| !best.contains(one));
        best.append(&mut all);
        best
    }

    /// The operation ends without an answer: what is known of it.
    pub(super) fn end(&mut self, failed: Error) -> Error {
        match self.unknown.take() {
            Some(cause) => Error::OutcomeUnknown {
                cause: Box::new(cause),
            },
            None => failed,
        }
    }

    pub(super) fn late(&mut self) -> Error {
        let last = self.last.take().map(Box::new);
        self.end(Error::Deadline { last })
    }
}

fn rotate(addresses: &mut [String], turn: usize) {
    if !addresses.is_empty() {
        addresses.rotate_left(turn % addresses.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard_map::{ShardMapReply, ShardPlace, SlotRange};
    use metastore_statemachine::Slot;

    fn placement() -> Placement {
        Placement::new(&ShardMapReply {
            epoch: 1,
            slot_count: 16_384,
            shards: vec![ShardPlace {
                shard: 0,
                slots: vec![SlotRange {
                    first: 0,
                    last: 16_383,
                }],
                node_id: 1,
                core_index: 0,
                address: "leader".to_owned(),
                followers: vec!["second".to_owned(), "third".to_owned()],
                follower_nodes: Vec::new(),
            }],
        })
    }

    fn journey(turn: usize) -> Journey {
        Journey::new(&ClientSettings::default(), turn)
    }

    fn candidates(turn: usize, effect: Effect, read_from: ReadFrom) -> Vec<String> {
        let all = ["leader", "second", "third", "seed"].map(str::to_owned);
        let asked = (Route::Slot(Slot(7)), effect);
        journey(turn).candidates(asked, read_from, Some(&placement()), all.to_vec())
    }

    #[test]
    fn reads_are_spread_over_the_replicas_when_asked_and_writes_never() {
        let read = |turn, from| candidates(turn, Effect::Read, from);
        for turn in 0..6 {
            let first = ["leader", "second", "third"][turn % 3];
            assert_eq!(read(turn, ReadFrom::Any)[0], first);
            assert_eq!(read(turn, ReadFrom::Leader)[0], "leader");
            let written = candidates(turn, Effect::WriteOnce, ReadFrom::Any);
            assert_eq!(written[0], "leader");
            // Who has no replica comes last, and nobody comes twice.
            assert_eq!(written[3], "seed");
            assert_eq!(written.len(), 4);
        }
    }

    #[test]
    fn everybody_is_asked_before_anybody_is_asked_again() {
        let mut journey = journey(0);
        let suspects = Suspects::default();
        suspects.note("a");
        let mut asked = Vec::new();
        for _ in 0..6 {
            let all = ["a", "b", "c"].map(str::to_owned).to_vec();
            asked.push(journey.choose(all, &suspects).expect("there are three"));
            journey.note_in_vain();
        }
        assert_eq!(asked, ["b", "c", "a", "b", "c", "a"]);
        journey.hint = Some("d".to_owned());
        assert_eq!(
            journey.choose(Vec::new(), &suspects).as_deref(),
            Some("d"),
            "who is named is asked"
        );
        assert_eq!(journey.choose(Vec::new(), &suspects), None);
    }
}
