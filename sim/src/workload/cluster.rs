//! What clients of a cluster ask for: all that clients of one node do, and counts, common prefixes and reads in the past.

use metastore_statemachine::{Direction, Revision, Scope};

use super::{Known, Workload, directory_of};
use crate::operation::{Operation, RangeOf};

/// How many revisions a read in the past goes back at most from what its client knows.
const PAST_REVISIONS_MAX: u64 = 12;

impl Workload {
    /// What a client of a cluster asks for next.
    pub fn draw_of_cluster(&mut self, known: &Known) -> Operation {
        #[derive(Clone, Copy)]
        enum Choice {
            Mutate,
            Compound,
            Batch,
            Get,
            GetMany,
            Directory,
            Wide,
            Count,
        }
        let choice = self.random.weighted(&[
            (40, Choice::Mutate),
            (18, Choice::Compound),
            (5, Choice::Batch),
            (18, Choice::Get),
            (6, Choice::GetMany),
            (8, Choice::Directory),
            (2, Choice::Wide),
            (3, Choice::Count),
        ]);
        match choice {
            Choice::Mutate => Operation::Mutate(self.draw_mutation(known)),
            Choice::Compound => Operation::Compound(self.draw_compound(known)),
            Choice::Batch => {
                let count = self.random.between(2, 6);
                Operation::Batch((0..count).map(|_| self.draw_mutation(known)).collect())
            }
            Choice::Get => {
                let (key, _) = self.draw_key();
                let at = self.draw_past(directory_of(&key), known);
                Operation::Get { key, at }
            }
            Choice::GetMany => {
                let directory = self.draw_directory();
                let at = self.draw_past(&directory, known);
                let count = self.random.between(2, 6);
                let keys = (0..count).map(|_| self.draw_key_in(&directory).0);
                Operation::GetMany {
                    keys: keys.collect(),
                    at,
                }
            }
            Choice::Directory => Operation::Range(self.draw_directory_range(known)),
            Choice::Wide => Operation::Range(self.draw_wide_range()),
            Choice::Count => Operation::Count(RangeOf {
                limit: 0,
                direction: Direction::Forward,
                ..self.draw_directory_range(known)
            }),
        }
    }

    /// Children of one directory, all of them, the first few, or their common prefixes.
    fn draw_directory_range(&mut self, known: &Known) -> RangeOf {
        let directory = self.draw_directory();
        let names: [&[u8]; 3] = [b"", b"plain", b"co"];
        let name = self.random.weighted(&[(4, 0), (1, 1), (1, 2)]);
        RangeOf {
            scope: Scope::Children { separator: b'/' },
            delimiter: self.random.weighted(&[(3, None), (1, Some(b'-'))]),
            at: self.draw_past(&directory, known),
            direction: self
                .random
                .weighted(&[(2, Direction::Forward), (1, Direction::Reverse)]),
            limit: self.random.weighted(&[(3, 0), (1, 1), (1, 5)]),
            // Mostly several chunks, so that a position is held while other things happen.
            chunk_bytes: self.random.weighted(&[(2, 256), (1, 4096)]),
            prefix: [directory.as_slice(), names[name]].concat(),
        }
    }

    /// Several shards at once: each part is one revision, all of it is none.
    fn draw_wide_range(&mut self) -> RangeOf {
        RangeOf {
            prefix: b"/d".to_vec(),
            delimiter: self.random.weighted(&[(2, None), (1, Some(b'/'))]),
            direction: self
                .random
                .weighted(&[(2, Direction::Forward), (1, Direction::Reverse)]),
            limit: self.random.weighted(&[(2, 0), (1, 7)]),
            chunk_bytes: self.random.weighted(&[(1, 512), (1, 4096)]),
            ..RangeOf::everything()
        }
    }

    /// A revision that has been, now and then: mostly none, which is the newest.
    fn draw_past(&mut self, directory: &[u8], known: &Known) -> Option<Revision> {
        let newest = known.get(directory).copied()?;
        if !self.random.chance(200) {
            return None;
        }
        let back = self.random.below(PAST_REVISIONS_MAX);
        Some(Revision(newest.0.saturating_sub(back).max(1)))
    }
}
