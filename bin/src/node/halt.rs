//! Stopping at once: what must never go on.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::panic::PanicHookInfo;

use metastore_engine::HaltReason;

use crate::log;

/// Stops the process now, without cleaning up: after a failed flush nobody knows what the disk holds, so nothing more
/// may be answered, on any core.
pub(crate) fn halt(reason: &dyn Display) -> ! {
    halt_with(
        reason,
        "nothing that was acknowledged depends on this; start again to recover from the log",
    )
}

/// Stops the process now for what the core found in its log, which the next start will find there too.
pub(crate) fn halt_for(reason: &HaltReason) -> ! {
    halt_with(
        reason,
        match reason {
            HaltReason::Apply { .. } => {
                "the next start will come to the same entry and halt too: keep the data, and report this"
            }
            HaltReason::DiskHangs { .. } => {
                "nothing that was acknowledged depends on this; look after the disk, then start again"
            }
            HaltReason::EntryKind { .. } => {
                "the next start will come to the same entry and halt too: keep the data, and use the version that wrote it, or newer"
            }
        },
    )
}

fn halt_with(reason: &dyn Display, advice: &str) -> ! {
    log::last_words(
        "halted",
        &[("reason", log::text(reason)), ("advice", advice.into())],
    );
    std::process::abort();
}

/// Makes a panic on any thread halt the process: a core that is gone must not leave the others answering. The report
/// goes through the log, because a standard error that nobody reads must not keep the process alive.
pub(crate) fn halt_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let mut fields = vec![
            ("thread", thread.name().unwrap_or("unnamed").into()),
            ("reason", log::text(&panic_message(panic))),
        ];
        if let Some(place) = panic.location() {
            fields.push(("place", log::text(place)));
        }
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            fields.push(("backtrace", log::text(&backtrace)));
        }
        log::last_words(
            "halted by a panic, which is a bug: please report it",
            &fields,
        );
        std::process::abort();
    }));
}

fn panic_message<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    panic.payload_as_str().unwrap_or("without a message")
}
