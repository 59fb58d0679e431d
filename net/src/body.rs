//! A cursor over a body of fixed layouts and bytes.

use crate::body_error::BodyError;

/// What is left of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a> {
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Body<'a> {
        Body { rest: bytes }
    }

    /// The next `length` bytes.
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], BodyError> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(BodyError::Truncated {
                needed: length,
                available: self.rest.len(),
            });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes, as the array that a fixed layout is made of.
    pub(crate) fn take_array<const N: usize>(&mut self) -> Result<[u8; N], BodyError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(BodyError::Truncated {
                needed: N,
                available: self.rest.len(),
            });
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// The next number.
    pub(crate) fn take_u32(&mut self) -> Result<u32, BodyError> {
        Ok(u32::from_le_bytes(self.take_array()?))
    }

    /// All that is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Passes over `length` bytes that a reader of [`Body::rest`] has used.
    pub(crate) fn skip(&mut self, length: usize) {
        self.rest = &self.rest[length..];
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), BodyError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(BodyError::Trailing {
                bytes: self.rest.len(),
            })
        }
    }
}

/// A length or count on the wire.
///
/// # Panics
/// When it does not fit 32 bits: every limit lies far below.
pub(crate) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("lengths and counts on the wire are below 4 GiB")
}
