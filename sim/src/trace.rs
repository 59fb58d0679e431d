//! A hash over everything that went into a core and came out of it.

use std::fmt::{self, Debug, Write};

use xxhash_rust::xxh3::Xxh3;

/// Two runs with the same trace did the same, byte for byte.
pub struct Trace {
    hasher: Xxh3,
    scratch: String,
    inputs: u64,
}

impl Trace {
    /// A trace of nothing.
    #[must_use]
    pub fn new() -> Trace {
        Trace {
            hasher: Xxh3::new(),
            scratch: String::new(),
            inputs: 0,
        }
    }

    /// Adds an input of the core at a time.
    pub fn add_input(&mut self, now_ns: u64, input: &dyn Debug) {
        self.inputs += 1;
        self.add_bytes(&now_ns.to_le_bytes());
        self.add_debug(input);
    }

    /// Adds something by its debug form.
    pub fn add_debug(&mut self, what: &dyn Debug) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        write!(scratch, "{what:?}").expect("a string takes everything");
        self.add_bytes(scratch.as_bytes());
        self.scratch = scratch;
    }

    /// Adds bytes, with their length, so that no two sequences of bytes run together.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// How many inputs it has.
    #[must_use]
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// The hash.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.hasher.digest()
    }
}

impl Default for Trace {
    fn default() -> Self {
        Trace::new()
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
