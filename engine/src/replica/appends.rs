//! Appends as they leave: anchored where their entries begin, and no longer than a message may be.
//!
//! raft adds entries to an append to the same follower that has not left yet. It looks neither at how long that append
//! has become nor, when it is empty, at whether the entries follow.

use metastore_bugs::{Mutant, is_planted};
use raft::eraftpb::{Message, MessageType};

/// What an entry takes in a message beside its data.
const ENTRY_HEAD_BYTES: u64 = 16;

/// Makes an append say what comes before its entries; `false` when that is not known any more.
///
/// After a rejection the entries that raft adds to an empty append begin further back than the append says. A receiver
/// numbers entries by their place behind the append's index, so it would take each for another.
pub(super) fn anchor(message: &mut Message, term_of: impl Fn(u64) -> Option<u64>) -> bool {
    let is_append = message.get_msg_type() == MessageType::MsgAppend;
    // Other messages carry what they are about in the data of an entry that has no index.
    let first = message.get_entries().first().filter(|_| is_append);
    let Some(first) = first.map(|entry| entry.index) else {
        return true;
    };
    if first == message.index + 1 || is_planted(Mutant::AppendNotAnchored) {
        return true;
    }
    let Some(term) = term_of(first - 1) else {
        return false;
    };
    message.index = first - 1;
    message.log_term = term;
    true
}

/// Takes off an append what does not fit `bytes_max`: an append of its own, which follows. One entry stays in any case.
pub(super) fn split_off(message: &mut Message, bytes_max: u64) -> Option<Message> {
    if message.get_msg_type() != MessageType::MsgAppend || message.get_entries().len() < 2 {
        return None;
    }
    let mut bytes = 0;
    let fitting = message.get_entries().iter().take_while(|entry| {
        bytes += entry.data.len() as u64 + entry.context.len() as u64 + ENTRY_HEAD_BYTES;
        bytes <= bytes_max
    });
    let kept = fitting.count().max(1);
    if kept == message.get_entries().len() {
        return None;
    }
    let mut entries: Vec<_> = message.take_entries().into();
    let rest = entries.split_off(kept);
    let last = entries.last().expect("one stays in any case");
    let mut after = message.clone();
    after.index = last.index;
    after.log_term = last.term;
    after.set_entries(rest.into());
    message.set_entries(entries.into());
    Some(after)
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;

    fn append(index: u64, entries: &[(u64, u64)]) -> Message {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        message.index = index;
        message.log_term = 3;
        let entry = |&(index, term): &(u64, u64)| Entry {
            index,
            term,
            ..Entry::default()
        };
        let entries: Vec<Entry> = entries.iter().map(entry).collect();
        message.set_entries(entries.into());
        message
    }

    /// An empty append at index 926 waited to be sent; the follower rejected an earlier one, and raft put entry 926 into
    /// it. The follower took that for entry 927.
    #[test]
    fn entries_that_raft_put_into_an_empty_append_keep_their_indexes() {
        let mut message = append(926, &[(926, 3)]);
        assert!(anchor(&mut message, |index| (index == 925).then_some(2)));
        assert_eq!((message.index, message.log_term), (925, 2));
        let mut message = append(926, &[(926, 3)]);
        assert!(!anchor(&mut message, |_| None), "it cannot be sent");
    }

    #[test]
    fn an_append_that_is_right_stays_as_it_is() {
        for entries in [&[][..], &[(927, 3), (928, 3)]] {
            let mut message = append(926, entries);
            assert!(anchor(&mut message, |_| panic!("there is nothing to ask")));
            assert_eq!(message, append(926, entries));
        }
    }

    fn large(entries: std::ops::RangeInclusive<u64>) -> Message {
        let entries: Vec<(u64, u64)> = entries.map(|index| (index, index / 3)).collect();
        let mut message = append(entries[0].0 - 1, &entries);
        message.log_term = (entries[0].0 - 1) / 3;
        message.commit = 12;
        for entry in message.mut_entries() {
            entry.data = vec![7; 1000].into();
        }
        message
    }

    #[test]
    fn a_large_append_leaves_in_parts_that_follow_each_other() {
        for bytes_max in [1, 999, 1000, 1100, 2200, 3500, 100_000] {
            let whole = large(10..=20);
            let mut rest = whole.clone();
            let mut entries = Vec::new();
            let mut before = (whole.index, whole.log_term);
            loop {
                let after = split_off(&mut rest, bytes_max);
                assert_eq!((rest.index, rest.log_term), before);
                assert_eq!((rest.commit, rest.to), (whole.commit, whole.to));
                let bytes = rest.get_entries().len() as u64 * (1000 + ENTRY_HEAD_BYTES);
                assert!(bytes <= bytes_max || rest.get_entries().len() == 1);
                let last = rest.get_entries().last().expect("no part is empty");
                before = (last.index, last.term);
                entries.extend(rest.get_entries().to_vec());
                match after {
                    Some(after) => rest = after,
                    None => break,
                }
            }
            assert_eq!(entries, whole.get_entries());
        }
    }

    #[test]
    fn what_is_no_append_is_not_split() {
        let mut message = large(10..=20);
        message.set_msg_type(MessageType::MsgReadIndex);
        assert_eq!(split_off(&mut message, 1), None);
    }
}
