//! What the server says to its operator: levels, fields, text or JSON, one line a message on the standard error.
//!
//! A message never makes a core wait. It is formatted where it arises, goes into a bounded queue, and a thread of its own
//! writes it; when nobody reads the standard error the queue fills, and what finds no place is counted and told of
//! later. One place in the code cannot fill the log: beyond ten messages a second it is silent, and says how often.
//!
//! This module does **not** write files and does not rotate them; that is for whoever started the process.

mod message;
mod queue;
mod raft;
mod site;
mod timestamp;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use self::message::Message;
pub(crate) use self::message::{Field, FieldValue, Level, text};
use self::queue::Queue;
pub(crate) use self::raft::raft_logger;
pub(crate) use self::site::Site;
use crate::config::{LogFormat, LogSettings};

/// How long a process that halts waits for what it has said to be written.
pub(crate) const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

static LOGGER: OnceLock<Logger> = OnceLock::new();
/// The least important level that is written, as a number; nothing before the logger is started.
static LEVEL_MAX: AtomicU8 = AtomicU8::new(0);

struct Logger {
    queue: Queue,
    format: LogFormat,
    started: Instant,
}

/// How many messages were lost, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogCounts {
    /// They found the queue full.
    pub(crate) dropped: u64,
    /// Their place in the code had said enough.
    pub(crate) suppressed: u64,
}

/// Starts the writer. Messages from before, and all of a process that never does this, go nowhere.
///
/// # Errors
/// When there can be no thread.
///
/// # Panics
/// The second time.
pub(crate) fn start(settings: LogSettings) -> std::io::Result<()> {
    let queue = Queue::start(settings.format, std::io::stderr())?;
    let logger = Logger {
        queue,
        format: settings.format,
        started: Instant::now(),
    };
    assert!(LOGGER.set(logger).is_ok(), "there is one log");
    LEVEL_MAX.store(settings.level as u8, Ordering::Release);
    Ok(())
}

/// What was lost since the start.
pub(crate) fn counts() -> LogCounts {
    LOGGER
        .get()
        .map_or(LogCounts::default(), |logger| LogCounts {
            dropped: logger.queue.dropped(),
            suppressed: site::suppressed(),
        })
}

/// Whether messages of a level are written at all.
pub(crate) fn is_enabled(level: Level) -> bool {
    level as u8 <= LEVEL_MAX.load(Ordering::Acquire)
}

/// Says something from one place in the code; the macros call it.
pub(crate) fn emit(site: &Site, level: Level, words: &str, fields: &[Field<'_>]) {
    let Some(logger) = LOGGER.get() else {
        return;
    };
    if !is_enabled(level) {
        return;
    }
    let now_ms = u64::try_from(logger.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let Some(suppressed) = site.admit(now_ms) else {
        return;
    };
    let message = Message {
        time: SystemTime::now(),
        level,
        words,
        fields,
        suppressed,
    };
    logger.queue.push(message.format(logger.format));
}

/// Says why the process ends, and waits, for a bounded time, until everything said is written. Without a started log it
/// goes to the standard error directly.
pub(crate) fn last_words(words: &str, fields: &[Field<'_>]) {
    let Some(logger) = LOGGER.get() else {
        let message = Message {
            time: SystemTime::now(),
            level: Level::Error,
            words,
            fields,
            suppressed: 0,
        };
        // Nobody is left to hear that it cannot be said.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            message.format(LogFormat::Text).as_bytes(),
        );
        return;
    };
    let message = Message {
        time: SystemTime::now(),
        level: Level::Error,
        words,
        fields,
        suppressed: 0,
    };
    let line = message.format(logger.format);
    logger.queue.push_and_flush(line, LAST_WORDS_LIMIT);
}

/// Waits, for a bounded time, until everything said is written.
pub(crate) fn flush() {
    if let Some(logger) = LOGGER.get() {
        logger.queue.flush(LAST_WORDS_LIMIT);
    }
}

/// Says something at a level: words, then fields as `name = value`.
macro_rules! event {
    ($level:expr, $words:expr $(, $name:ident = $value:expr)* $(,)?) => {{
        static SITE: $crate::log::Site = $crate::log::Site::new();
        if $crate::log::is_enabled($level) {
            $crate::log::emit(&SITE, $level, $words, &[
                $((stringify!($name), $crate::log::FieldValue::from($value))),*
            ]);
        }
    }};
}

macro_rules! error {
    ($($rest:tt)*) => { $crate::log::event!($crate::log::Level::Error, $($rest)*) };
}

macro_rules! warning {
    ($($rest:tt)*) => { $crate::log::event!($crate::log::Level::Warn, $($rest)*) };
}

macro_rules! info {
    ($($rest:tt)*) => { $crate::log::event!($crate::log::Level::Info, $($rest)*) };
}

pub(crate) use {error, event, info, warning};
