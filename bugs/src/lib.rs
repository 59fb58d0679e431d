//! The bug bank: bugs that other stores have had, and that can be planted here one at a time, to prove that whoever
//! looks for bugs would find them.
//!
//! Where a bug can be planted, the code asks [`is_planted`]. Without the feature `bug-bank` that is a constant `false`:
//! the compiler drops the question and the bug, and no name of one is in the program. No package enables the feature;
//! a simulator that plants bugs is built with it by name, in a place of its own.
//!
//! ```text
//!   metastore-sim (bug-bank) ──plant(mutant)──> this thread ──is_planted──> wal, statemachine, engine, net, driver
//! ```
//!
//! One bug is planted at a time, in one thread: tests that run side by side do not see each other's. A server that was
//! built with the feature begins each thread with the bug that `METASTORE_MUTANT` names, for harnesses of real processes.
//!
//! What this crate does not do: it holds no bug. Each is in the code that it breaks, as the smallest change that brings
//! it back. Which of them is looked for where, and by whom it is found, is up to the simulator.

mod mutant;
#[cfg(feature = "bug-bank")]
mod planted;

pub use mutant::Mutant;
#[cfg(feature = "bug-bank")]
pub use mutant::UnknownMutant;
#[cfg(feature = "bug-bank")]
pub use planted::{Planted, is_planted, plant};

/// Whether a bug is planted: it never is.
#[cfg(not(feature = "bug-bank"))]
#[inline(always)]
#[must_use]
pub const fn is_planted(_mutant: Mutant) -> bool {
    false
}

/// The name of the bug that is planted, if any.
#[must_use]
pub fn planted_name() -> Option<&'static str> {
    #[cfg(feature = "bug-bank")]
    return planted::planted().map(Mutant::name);
    #[cfg(not(feature = "bug-bank"))]
    None
}
