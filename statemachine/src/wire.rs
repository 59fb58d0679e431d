//! Bounds-checked reading of self-delimiting bytes.

/// A front-to-back reader that never reads past its input.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

/// The input ends before what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Short {
    /// Length of the input that would have sufficed so far.
    pub(crate) needed: usize,
    /// Length of the input.
    pub(crate) available: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0 }
    }

    /// Bytes consumed so far.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let needed = self.position.saturating_add(length);
        let Some(taken) = self.bytes.get(self.position..needed) else {
            return Err(Short {
                needed,
                available: self.bytes.len(),
            });
        };
        self.position = needed;
        Ok(taken)
    }

    pub(crate) fn take_array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Short> {
        let taken = self.take(LENGTH)?;
        let mut array = [0; LENGTH];
        array.copy_from_slice(taken);
        Ok(array)
    }

    pub(crate) fn take_u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_le_bytes(self.take_array()?))
    }
}

/// A length as it stands on the wire.
///
/// # Panics
/// When it does not fit 32 bits: every limit lies far below, so such a length is a bug of the caller.
pub(crate) fn length_u32(length: usize) -> u32 {
    match u32::try_from(length) {
        Ok(length) => length,
        Err(_) => panic!("a length of {length} bytes does not fit the format"),
    }
}

/// A length that came from the wire, as an index. Lossless: there are no 16-bit hosts.
pub(crate) fn length_usize(length: u32) -> usize {
    length as usize
}
