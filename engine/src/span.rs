//! Ranges of bytes in an arena: how replies, reads and messages refer to bytes that they do not own.

/// A range of bytes in the arena that belongs to the message that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Number of bytes.
    pub length: u32,
}

impl Span {
    /// The span of everything that was added to `arena` since it had `start` bytes.
    #[must_use]
    pub fn since(arena: &[u8], start: usize) -> Span {
        let narrow = |bytes: usize| u32::try_from(bytes).expect("an arena stays below 4 GiB");
        Span {
            start: narrow(start),
            length: narrow(arena.len() - start),
        }
    }

    /// The bytes of the span.
    ///
    /// # Panics
    /// When the span does not lie in `arena`.
    #[must_use]
    pub fn of<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.start as usize..][..self.length as usize]
    }

    /// Copies the span's bytes from one arena to the end of another and returns where they are now.
    pub(crate) fn copied(self, from: &[u8], to: &mut Vec<u8>) -> Span {
        let start = to.len();
        to.extend_from_slice(self.of(from));
        Span::since(to, start)
    }
}
