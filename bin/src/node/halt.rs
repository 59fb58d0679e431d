//! Stopping at once: what must never go on.

use std::fmt::Display;

/// Stops the process now, without cleaning up: after a failed flush nobody knows what the disk holds, so nothing more
/// may be answered, on any core.
pub(crate) fn halt(reason: &dyn Display) -> ! {
    eprintln!("metastore: halted: {reason}");
    eprintln!(
        "metastore: nothing that was acknowledged depends on this; start again to recover from the log"
    );
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
