//! The aligned buffer that a record is built in and that the device writes from.

use crate::format::BLOCK_BYTES;

/// A byte buffer of fixed capacity whose first byte is aligned to [`BLOCK_BYTES`], as direct I/O demands.
///
/// It is owned by exactly one party at a time: the log fills it, the device writes it, and it comes back
/// with the completion. Its memory never moves while it exists, so a ring can register it once.
pub struct LogBuffer {
    number: u16,
    memory: Vec<u8>,
    start: usize,
    capacity: usize,
    len: usize,
}

impl LogBuffer {
    /// A zeroed, empty buffer. `number` is its place in the ring's table of registered buffers, `capacity` is in bytes.
    #[must_use]
    pub fn new(number: u16, capacity: usize) -> Self {
        // The alignment is found inside a larger allocation: this needs no unsafe code and costs one block of memory.
        let memory = vec![0; capacity + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES, "a byte pointer can always be aligned");
        Self {
            number,
            memory,
            start,
            capacity,
            len: 0,
        }
    }

    /// The place of this buffer in the ring's table of registered buffers.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// How many bytes it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes it holds.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// The bytes it holds, to be changed in place.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    /// All its memory, whatever it holds: what a ring registers.
    #[must_use]
    pub fn memory_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.capacity]
    }

    /// Forgets the bytes it holds.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends `bytes`. The caller has checked that they fit.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let len = self.len + bytes.len();
        assert!(
            len <= self.capacity,
            "the record was measured before it was built"
        );
        self.memory[self.start + self.len..self.start + len].copy_from_slice(bytes);
        self.len = len;
    }

    /// Appends zeros until it holds `len` bytes.
    pub fn extend_with_zeros(&mut self, len: usize) {
        assert!(
            self.len <= len && len <= self.capacity,
            "padding grows a record within its buffer"
        );
        self.memory[self.start + self.len..self.start + len].fill(0);
        self.len = len;
    }
}

impl std::fmt::Debug for LogBuffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LogBuffer")
            .field("number", &self.number)
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_and_stays_where_it_is_when_moved() {
        let mut buffer = LogBuffer::new(7, 3 * BLOCK_BYTES);
        buffer.extend_from_slice(b"record");
        let address = buffer.as_slice().as_ptr() as usize;
        assert_eq!(address % BLOCK_BYTES, 0);
        let moved = Box::new(buffer);
        assert_eq!(moved.as_slice().as_ptr() as usize, address);
        assert_eq!(
            (moved.number(), moved.len(), moved.capacity()),
            (7, 6, 3 * BLOCK_BYTES)
        );
    }

    #[test]
    fn padding_overwrites_what_an_earlier_record_left() {
        let mut buffer = LogBuffer::new(0, BLOCK_BYTES);
        buffer.extend_from_slice(&[0xff; 100]);
        buffer.clear();
        buffer.extend_from_slice(b"short");
        buffer.extend_with_zeros(100);
        assert_eq!(&buffer.as_slice()[..5], b"short");
        assert!(buffer.as_slice()[5..].iter().all(|&byte| byte == 0));
    }
}
