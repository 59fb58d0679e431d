//! How much memory this thread holds, and the most it held.

#![allow(
    unsafe_code,
    reason = "an allocator is an unsafe interface; every call is passed on as it came"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Signed, because a thread may free what another allocated.
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

/// Counts what a thread asks the system's allocator for.
///
/// A program that runs targets has it as its global allocator; without it every peak is 0, which a run refuses.
#[derive(Debug)]
pub struct Counting;

/// The memory of this thread from now on.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    held_bytes: isize,
}

impl Meter {
    /// Counts from here.
    #[must_use]
    pub fn start() -> Meter {
        let held_bytes = HELD_BYTES.get();
        PEAK_BYTES.set(held_bytes);
        Meter { held_bytes }
    }

    /// The most that was held at a time since the start, beyond what was held then.
    #[must_use]
    pub fn peak_bytes(self) -> usize {
        usize::try_from(PEAK_BYTES.get() - self.held_bytes).unwrap_or(0)
    }
}

/// Whether this program's global allocator is [`Counting`].
pub(crate) fn is_counting() -> bool {
    let meter = Meter::start();
    drop(std::hint::black_box(Box::new(0_u64)));
    meter.peak_bytes() > 0
}

fn count(change_bytes: isize) {
    let held = HELD_BYTES.get() + change_bytes;
    HELD_BYTES.set(held);
    if held > PEAK_BYTES.get() {
        PEAK_BYTES.set(held);
    }
}

// SAFETY: every method hands its arguments unchanged to `System` and returns what that returns. Counting touches two cells
// of the thread that need no destructor, and neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same beneath.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the pointer came from `System` with this layout, for every allocation here does.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same beneath.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as isize - layout.size() as isize);
        // SAFETY: the pointer came from `System` with this layout, and the caller vouches for the new size.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}
