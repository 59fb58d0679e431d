//! A hash over everything that went into a core and came out of it.

use std::fmt::{self, Debug, Write};

use xxhash_rust::xxh3::Xxh3;

/// Two runs with the same trace did the same, byte for byte. It takes so many inputs and what follows from all but the
/// last, then nothing more.
pub struct Trace {
    hasher: Xxh3,
    scratch: String,
    inputs: u64,
    inputs_max: u64,
}

impl Trace {
    /// A trace of nothing that will take `inputs_max` inputs.
    #[must_use]
    pub fn new(inputs_max: u64) -> Trace {
        Trace {
            hasher: Xxh3::new(),
            scratch: String::new(),
            inputs: 0,
            inputs_max,
        }
    }

    /// Adds an input of the core at a time.
    pub fn add_input(&mut self, now_ns: u64, input: &dyn Debug) {
        self.add_bytes(&now_ns.to_le_bytes());
        self.add_debug(input);
        self.inputs = (self.inputs + 1).min(self.inputs_max);
    }

    /// Adds something by its debug form.
    pub fn add_debug(&mut self, what: &dyn Debug) {
        if self.is_full() {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        write!(scratch, "{what:?}").expect("a string takes everything");
        self.add_bytes(scratch.as_bytes());
        self.scratch = scratch;
    }

    /// Adds bytes, with their length, so that no two sequences of bytes run together.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        if self.is_full() {
            return;
        }
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// Whether it has as many inputs as it takes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inputs == self.inputs_max
    }

    /// The hash.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.hasher.digest()
    }
}

impl Debug for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:016x} after {} inputs",
            self.value(),
            self.inputs
        )
    }
}
