//! What is fuzzed.

/// A decoder, the inputs to begin with, and what it may use.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name on the command line and in the record.
    pub name: String,
    /// Takes any input and says whether it was accepted. It panics when the decoder breaks a promise.
    pub run: fn(&[u8]) -> bool,
    /// The inputs that are mutated. Executions begin with them as they are.
    pub corpus: Vec<Vec<u8>>,
    /// How many bytes in front of every input stay as they are: those that choose the decoder.
    pub kept_bytes: usize,
    /// Make checksums and lengths of a mutated input fit, so that what lies behind them is reached.
    pub mends: &'static [fn(&mut [u8])],
    /// Words of the format, for targets that read text.
    pub words: &'static [&'static str],
    /// The most memory that one execution may hold at a time, in bytes; what the target does to check is in it.
    pub memory_bytes_max: usize,
}

impl Target {
    /// A small decoder.
    #[must_use]
    pub fn new(name: impl Into<String>, run: fn(&[u8]) -> bool, corpus: Vec<Vec<u8>>) -> Target {
        let name = name.into();
        assert!(!corpus.is_empty(), "{name} has nothing to begin with");
        Target {
            name,
            run,
            corpus,
            kept_bytes: 0,
            mends: &[],
            words: &[],
            memory_bytes_max: 256 * 1024,
        }
    }

    /// Leaves the front of every input alone.
    #[must_use]
    pub fn keeping(mut self, bytes: usize) -> Target {
        self.kept_bytes = bytes;
        self
    }

    /// Makes most of the mutated inputs fit their checksums.
    #[must_use]
    pub fn mended(mut self, mends: &'static [fn(&mut [u8])]) -> Target {
        self.mends = mends;
        self
    }

    /// Inserts these words.
    #[must_use]
    pub fn with_words(mut self, words: &'static [&'static str]) -> Target {
        self.words = words;
        self
    }

    /// Lets an execution hold this much.
    #[must_use]
    pub fn holding(mut self, memory_bytes_max: usize) -> Target {
        self.memory_bytes_max = memory_bytes_max;
        self
    }
}
