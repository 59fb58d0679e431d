//! Stopping at once: what must never go on.

use std::fmt::Display;

use metastore_engine::HaltReason;

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
            HaltReason::EntryKind { .. } => {
                "the next start will come to the same entry and halt too: keep the data, and use the version that wrote it, or newer"
            }
        },
    )
}

fn halt_with(reason: &dyn Display, advice: &str) -> ! {
    eprintln!("metastore: halted: {reason}");
    eprintln!("metastore: {advice}");
    std::process::abort();
}

/// Makes a panic on any thread halt the process: a core that is gone must not leave the others answering.
pub(crate) fn halt_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
