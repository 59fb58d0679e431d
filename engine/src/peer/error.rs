//! Why what comes from a peer is of no use.

use thiserror::Error;

/// Why bytes from a peer are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PeerError {
    /// It ends too early.
    #[error("{actual} bytes are fewer than the {needed} that it needs")]
    Short {
        /// What it needs.
        needed: usize,
        /// What is there.
        actual: usize,
    },
    /// Another version of the format.
    #[error("its version is {version}, this program knows {known}")]
    Version {
        /// Its version.
        version: u16,
        /// What is known.
        known: u16,
    },
    /// The checksum is wrong.
    #[error("its checksum is {found:08x}, its bytes have {expected:08x}")]
    Checksum {
        /// What the bytes have.
        expected: u32,
        /// What it says.
        found: u32,
    },
    /// It is from another cluster, for another core, or from another sender than the connection's.
    #[error("it is not from that sender to this core of this cluster")]
    Misdirected,
    /// A field has a value that means nothing.
    #[error("at byte {offset}: a value that means nothing")]
    Malformed {
        /// Where.
        offset: usize,
    },
}
