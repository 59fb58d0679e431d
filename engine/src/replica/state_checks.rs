//! Whether replicas that applied the same entries have the same state: their leader says now and then what its own is.
//!
//! It tells that two states differ. It does **not** tell which of them is right: nobody knows, so a replica that differs
//! from its leader's word takes part in nothing any more.

use metastore_wal::LogIndex;

use super::quarantine::Quarantine;
use super::{Replica, Turn};
use crate::fields::{put, u16_at, u64_at};
use crate::ids::Time;
use crate::settings::Settings;

const VERSION: u16 = 1;
const WORD_BYTES: usize = 24;
const _: () = assert!(WORD_BYTES.is_multiple_of(8));

/// What a leader says about the state.
///
/// ```text
///      0       1       2       3       4       5       6       7
///  +-------+-------+-----------------------------------------------+
///  | version (u16) | 0                                             |
///  +---------------+-----------------------------------------------+
///  | index (u64)                                                   |
///  +---------------------------------------------------------------+
///  | hash of the state after that entry (u64)                      |
///  +---------------------------------------------------------------+
/// ```
///
/// The index is that of the word before it in the log, 0 when the leader does not know the state there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    index: u64,
    hash: u64,
}

impl Word {
    fn encode(self) -> Vec<u8> {
        let mut bytes = vec![0; WORD_BYTES];
        put(&mut bytes, 0, VERSION.to_le_bytes());
        put(&mut bytes, 8, self.index.to_le_bytes());
        put(&mut bytes, 16, self.hash.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Word> {
        let is_known = bytes.len() == WORD_BYTES
            && u16_at(bytes, 0) == VERSION
            && bytes[2..8].iter().all(|&byte| byte == 0);
        is_known.then(|| Word {
            index: u64_at(bytes, 8),
            hash: u64_at(bytes, 16),
        })
    }
}

/// The state after a word was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    index: u64,
    hash: u64,
    /// Whether anything had been applied since the word before it.
    has_news: bool,
}

/// What came of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    /// The states are the same, or there is nothing here to compare with.
    Fine,
    /// They differ.
    Differs(Quarantine),
    /// It is not a word that this version knows.
    Unknown,
}

/// What a replica remembers of its state, to be compared with what its leader says.
///
/// Entries that are under way when a leader proposes are not in its state yet, so it cannot say what the state will be
/// when its word is applied. Each word therefore does two things: it tells the hash after the word before it, and every
/// replica that applies it notes the hash of its own state there, for the next.
///
/// ```text
///   word 1 (nothing)   entries   word 2 (hash after word 1)   entries   word 3 (hash after word 2)
///      note the hash ──────────────> compare, note the hash ──────────────> compare, note the hash
/// ```
#[derive(Debug, Default)]
pub(super) struct StateChecks {
    mark: Option<Mark>,
    /// Whether anything was applied since the last word.
    has_news: bool,
    /// When the last word was applied, or proposed.
    last_at: Time,
    /// States that were compared.
    compared: u64,
}

impl StateChecks {
    /// An entry of the state machine was applied.
    pub(super) fn on_applied(&mut self) {
        self.has_news = true;
    }

    /// The state is another replica's: nothing of what was noted belongs to it.
    pub(super) fn forget(&mut self) {
        self.mark = None;
    }

    /// Time begins anew: recovery knows none.
    pub(super) fn begin(&mut self, now: Time) {
        self.last_at = now;
    }

    /// A leader's word is applied as entry `index`, where our state has this hash.
    pub(super) fn on_word(&mut self, index: u64, word: &[u8], state_hash: u64) -> Checked {
        let Some(word) = Word::decode(word) else {
            return Checked::Unknown;
        };
        let mut checked = Checked::Fine;
        if let Some(mark) = self.mark
            && mark.index == word.index
        {
            self.compared += 1;
            if mark.hash != word.hash {
                checked = Checked::Differs(Quarantine::StateDiffers {
                    index: LogIndex(mark.index),
                    here: mark.hash,
                    leader: word.hash,
                });
            }
        }
        self.mark = Some(Mark {
            index,
            hash: state_hash,
            has_news: std::mem::take(&mut self.has_news),
        });
        checked
    }

    fn is_due(&self, now: Time, interval_ms: u64) -> bool {
        let is_worth_it = self.has_news || self.mark.is_some_and(|mark| mark.has_news);
        is_worth_it && now.millis_since(self.last_at) >= interval_ms
    }

    /// What a leader proposes now, if it is time: nothing while nothing happens.
    fn take_due(&mut self, now: Time, interval_ms: u64) -> Option<Vec<u8>> {
        if !self.is_due(now, interval_ms) {
            return None;
        }
        self.last_at = now;
        let word = self.mark.map_or(Word { index: 0, hash: 0 }, |mark| Word {
            index: mark.index,
            hash: mark.hash,
        });
        Some(word.encode())
    }

    /// States that were compared since the start.
    pub(super) fn compared(&self) -> u64 {
        self.compared
    }
}

impl Replica {
    /// Whether it is time that this replica says what its state is, though its group sleeps.
    pub(crate) fn has_state_check_due(&self, now: Time, settings: &Settings) -> bool {
        self.is_serving()
            && !self.is_sole_voter()
            && settings
                .state_check_ms
                .is_some_and(|interval_ms| self.state_checks.is_due(now, interval_ms))
    }

    /// A leader says what its state is, if it is time. A group of one has nobody to tell.
    pub(super) fn propose_state_check(&mut self, turn: &Turn<'_>) {
        let Some(interval_ms) = turn.settings.state_check_ms else {
            return;
        };
        if !self.is_serving() || self.is_sole_voter() {
            return;
        }
        if let Some(word) = self.state_checks.take_due(turn.now, interval_ms)
            && let Err(error) = self.node.propose(word, Vec::new())
        {
            // While the lead is handed over raft takes nothing. The next leader says it.
            slog::debug!(self.logger, "raft takes no word about the state"; "why" => %error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_its_layout() {
        let word = Word {
            index: 0x0102,
            hash: 0x0a0b_0c0d,
        };
        let bytes = word.encode();
        let expected = [
            1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0x0d, 0x0c, 0x0b, 0x0a, 0, 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(Word::decode(&bytes), Some(word));
        assert_eq!(Word::decode(&bytes[..23]), None);
        for position in [0, 1, 2, 7] {
            let mut other = bytes.clone();
            other[position] ^= 2;
            assert_eq!(Word::decode(&other), None, "byte {position}");
        }
    }

    #[test]
    fn a_word_is_compared_with_what_was_noted_at_the_word_before_it() {
        let (mut leader, mut follower) = (StateChecks::default(), StateChecks::default());
        let word = |checks: &mut StateChecks, now| checks.take_due(Time(0).plus_ms(now), 100);
        assert_eq!(word(&mut leader, 1_000), None, "nothing has happened");
        leader.on_applied();
        follower.on_applied();
        let first = word(&mut leader, 1_000).expect("something has");
        for checks in [&mut leader, &mut follower] {
            assert_eq!(checks.on_word(7, &first, 11), Checked::Fine);
        }
        assert_eq!(word(&mut leader, 1_050), None, "it is too early");
        let second = word(&mut leader, 1_100).expect("the first noted something new");
        assert_eq!(leader.on_word(9, &second, 11), Checked::Fine);
        assert_eq!(follower.on_word(9, &second, 11), Checked::Fine);
        assert_eq!((leader.compared(), follower.compared()), (1, 1));
        assert_eq!(word(&mut leader, 9_000), None, "all is compared");
    }

    #[test]
    fn another_state_is_told_with_what_differs() {
        let mut checks = StateChecks::default();
        let word = |index, hash| Word { index, hash }.encode();
        assert_eq!(checks.on_word(7, &word(0, 0), 11), Checked::Fine);
        let differs = Checked::Differs(Quarantine::StateDiffers {
            index: LogIndex(7),
            here: 11,
            leader: 12,
        });
        assert_eq!(checks.on_word(9, &word(7, 12), 13), differs);
        checks.forget();
        assert_eq!(checks.on_word(12, &word(9, 99), 14), Checked::Fine);
        assert_eq!(checks.on_word(13, &[0; WORD_BYTES], 14), Checked::Unknown);
    }
}
