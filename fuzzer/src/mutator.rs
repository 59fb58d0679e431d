//! From a corpus to inputs.

use crate::random::Random;
use crate::target::Target;

/// No input grows beyond this.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// The part of an input that is changed most often, because there the structure is.
const FRONT_BYTES: usize = 64;

const BYTES: [u8; 9] = [0, 1, 2, 4, 8, 0x7f, 0x80, 0xfe, 0xff];
const NUMBERS: [u64; 14] = [
    0,
    1,
    7,
    8,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    u64::MAX / 4,
    i64::MAX as u64,
    u64::MAX,
];

/// Makes the input of every execution.
#[derive(Debug)]
pub struct Mutator<'a> {
    target: &'a Target,
    seed: u64,
    /// Of each input of the corpus, where its bytes are not 0: what is mostly padding is not changed there alone.
    filled: Vec<Vec<u32>>,
    input: Vec<u8>,
    scratch: Vec<u8>,
}

impl<'a> Mutator<'a> {
    /// The inputs of one target.
    #[must_use]
    pub fn new(target: &'a Target, seed: u64) -> Mutator<'a> {
        let filled = target
            .corpus
            .iter()
            .map(|input| {
                (target.kept_bytes..input.len())
                    .filter(|&at| input[at] != 0)
                    .map(|at| at as u32)
                    .collect()
            })
            .collect();
        Mutator {
            target,
            seed,
            filled,
            input: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The input of one execution: the corpus first, then mutations.
    pub fn input(&mut self, number: u64) -> &[u8] {
        let corpus = &self.target.corpus;
        self.input.clear();
        if let Some(whole) = usize::try_from(number).ok().and_then(|at| corpus.get(at)) {
            self.input.extend_from_slice(whole);
            return &self.input;
        }
        let mut random = Random::of(self.seed, number);
        let which = random.below(corpus.len());
        self.input.extend_from_slice(&corpus[which]);
        let rounds = match random.below(16) {
            0 => 16,
            few => 1 + few % 4,
        };
        for _ in 0..rounds {
            self.change(&mut random, which);
        }
        self.input.truncate(INPUT_BYTES_MAX);
        if !self.target.mends.is_empty() && random.below(8) > 0 {
            random.one_of(self.target.mends)(&mut self.input);
        }
        &self.input
    }

    /// One change.
    fn change(&mut self, random: &mut Random, which: usize) {
        let kept = self.target.kept_bytes;
        if self.input.len() <= kept {
            self.input.push(random.number() as u8);
            return;
        }
        let at = self.place(random, which);
        match random.below(16) {
            0..=2 => self.input[at] ^= 1 << random.below(8),
            3 => self.input[at] = random.number() as u8,
            4 | 5 => self.input[at] = *random.one_of(&BYTES),
            6 | 7 => self.add(random, at),
            8 | 9 => self.set_number(random, at),
            10 => self.input.truncate(at),
            11 => {
                let bytes = random.number().to_le_bytes();
                let count = 1 + random.below(8);
                self.insert(at, &bytes[..count]);
            }
            12 => {
                let end = (at + 1 + random.below(16)).min(self.input.len());
                self.input.drain(at..end);
            }
            13 => self.duplicate(random, at),
            14 => self.splice(random, at),
            _ if self.target.words.is_empty() => self.overwrite(random, at),
            _ => {
                let word = random.one_of(self.target.words);
                self.insert(at, word.as_bytes());
            }
        }
    }

    /// Where to change something.
    fn place(&self, random: &mut Random, which: usize) -> usize {
        let kept = self.target.kept_bytes;
        let length = self.input.len() - kept;
        let filled = &self.filled[which];
        let at = match random.below(4) {
            0 => kept + random.below(length),
            1 => kept + random.below(length.min(FRONT_BYTES)),
            _ if filled.is_empty() => kept + random.below(length),
            _ => *random.one_of(filled) as usize,
        };
        at.min(self.input.len() - 1)
    }

    /// Adds a little to a number of 1, 2, 4 or 8 bytes, or takes it away.
    fn add(&mut self, random: &mut Random, at: usize) {
        let width = 1 << random.below(4);
        let change = match random.below(2) {
            0 => 1 + random.below(16) as u64,
            _ => (1 + random.below(16) as u64).wrapping_neg(),
        };
        let Some(bytes) = self.input.get_mut(at..at + width) else {
            return;
        };
        let mut number = [0; 8];
        number[..width].copy_from_slice(bytes);
        let changed = u64::from_le_bytes(number)
            .wrapping_add(change)
            .to_le_bytes();
        bytes.copy_from_slice(&changed[..width]);
    }

    /// Writes a number that lies at a border, of the types or of this input.
    fn set_number(&mut self, random: &mut Random, at: usize) {
        let width = 1 << random.below(4);
        let length = self.input.len();
        let number = match random.below(NUMBERS.len() + 3) {
            0 => length as u64,
            1 => (length - at) as u64,
            2 => (length - at).saturating_sub(width) as u64,
            other => NUMBERS[other - 3],
        };
        if let Some(bytes) = self.input.get_mut(at..at + width) {
            bytes.copy_from_slice(&number.to_le_bytes()[..width]);
        }
    }

    fn insert(&mut self, at: usize, bytes: &[u8]) {
        self.input.splice(at..at, bytes.iter().copied());
    }

    /// Doubles a span.
    fn duplicate(&mut self, random: &mut Random, at: usize) {
        let end = (at + 1 + random.below(FRONT_BYTES)).min(self.input.len());
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.input[at..end]);
        self.input.splice(end..end, self.scratch.iter().copied());
    }

    /// Puts the end of another input of the corpus behind the front of this one.
    fn splice(&mut self, random: &mut Random, at: usize) {
        let other = random.one_of(&self.target.corpus);
        let from = match random.below(2) {
            0 => at.min(other.len()),
            _ => random.below(other.len() + 1),
        };
        self.input.truncate(at);
        self.input.extend_from_slice(&other[from..]);
    }

    /// Copies a span over another place.
    fn overwrite(&mut self, random: &mut Random, at: usize) {
        let from = self.target.kept_bytes + random.below(self.input.len() - self.target.kept_bytes);
        let length = 1 + random.below(FRONT_BYTES);
        let room = self.input.len() - at.max(from);
        self.input.copy_within(from..from + length.min(room), at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        let mut target = Target::new(
            "test",
            |_| true,
            vec![
                b"kkone input of some length".to_vec(),
                b"kkanother".to_vec(),
            ],
        );
        target.kept_bytes = 2;
        target
    }

    #[test]
    fn an_input_follows_from_seed_and_number_alone() {
        let target = target();
        let inputs = |from: u64| -> Vec<Vec<u8>> {
            let mut mutator = Mutator::new(&target, 7);
            (from..500).map(|n| mutator.input(n).to_vec()).collect()
        };
        assert_eq!(inputs(0)[300..], inputs(300));
        assert_ne!(Mutator::new(&target, 8).input(300), inputs(300)[0]);
    }

    #[test]
    fn the_corpus_comes_first_and_the_front_stays() {
        let target = target();
        let mut mutator = Mutator::new(&target, 1);
        let mut lengths = std::collections::BTreeSet::new();
        for number in 0..10_000 {
            let input = mutator.input(number);
            if let Some(whole) = target.corpus.get(number as usize) {
                assert_eq!(input, whole);
            }
            assert_eq!(&input[..2], b"kk");
            lengths.insert(input.len());
        }
        assert!(lengths.contains(&2) && lengths.iter().any(|&length| length > 30));
    }

    #[test]
    fn inputs_differ() {
        let target = target();
        let mut mutator = Mutator::new(&target, 1);
        let inputs: std::collections::BTreeSet<Vec<u8>> =
            (0..10_000).map(|n| mutator.input(n).to_vec()).collect();
        assert!(inputs.len() > 7_000, "{}", inputs.len());
    }
}
