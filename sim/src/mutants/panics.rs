//! Where the assertion stands that failed last.

use std::cell::RefCell;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps assertions that fail from being printed, because they are findings; from then on a hunt knows where they stand.
pub fn silence_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|location| {
            let file = location.file();
            // Of a package from elsewhere its name and what follows are enough.
            let file = file
                .split_once("/src/index.crates.io-")
                .map_or(file, |(_, path)| {
                    path.split_once('/').map_or(path, |(_, path)| path)
                });
            format!("{file}:{}", location.line())
        });
        LAST.set(place);
    }));
}

pub(super) fn forget() {
    LAST.set(None);
}

pub(super) fn last() -> Option<String> {
    LAST.with_borrow(Clone::clone)
}
