//! A run as lines of text, one an event, for people and for `diff`.

use std::fmt::{self, Display};

use metastore_engine::Time;

/// Where the lines go.
pub type Sink = Box<dyn FnMut(&str)>;

/// Writes one line an event, if anybody reads it.
///
/// ```text
///   12.345678  n2.0  sent     Entries to n1.0: AppendResponse 7 -> 4 term 3 index 55
///   |          |     |        |
///   |          |     |        details
///   |          |     what happened
///   |          where: node and core, client, or the world
///   true time in milliseconds
/// ```
#[derive(Default)]
pub struct EventLog {
    sink: Option<Sink>,
}

impl EventLog {
    /// A log that is read.
    #[must_use]
    pub fn new(sink: Sink) -> EventLog {
        EventLog { sink: Some(sink) }
    }

    /// Whether anybody reads it.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.sink.is_some()
    }

    /// Something happened.
    pub fn add(&mut self, now: Time, place: &dyn Display, what: &str, details: fmt::Arguments<'_>) {
        if let Some(sink) = &mut self.sink {
            let (milliseconds, rest) = (now.0 / 1_000_000, now.0 % 1_000_000);
            sink(&format!(
                "{milliseconds:>6}.{rest:06}  {place:<5} {what:<10} {details}"
            ));
        }
    }
}
