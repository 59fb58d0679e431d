//! The checkers. They stand outside of what they check: they see what goes to the disk, what clients send and what
//! they are answered, and nothing inside the core.

mod history;
mod ledger;
mod model;

pub use history::{Attempt, AttemptEnd, FoundRow, History, Moment, Sighting};
pub use ledger::{Floor, Ledger, RecordPlace, Survivors};
pub use model::{Model, ModelOutcome, ModelRow};

/// Everything that is checked.
#[derive(Debug)]
pub struct Oracle {
    /// Every answer against what is durable.
    pub ledger: Ledger,
}
