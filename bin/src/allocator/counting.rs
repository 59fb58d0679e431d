//! An allocator that counts what it hands to another.

#![allow(
    unsafe_code,
    reason = "an allocator is an unsafe interface; every call is passed on as it came"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};

use mimalloc::MiMalloc;

/// Counts calls and the bytes that were asked for; what the allocator beneath rounds up is not in them.
#[derive(Debug)]
pub(crate) struct Counting {
    allocations: AtomicU64,
    allocated_bytes: AtomicU64,
    freed_bytes: AtomicU64,
}

impl Counting {
    /// Nothing is counted yet.
    pub(crate) const fn new() -> Counting {
        Counting {
            allocations: AtomicU64::new(0),
            allocated_bytes: AtomicU64::new(0),
            freed_bytes: AtomicU64::new(0),
        }
    }

    /// The counts with their names.
    pub(crate) fn counters(&self) -> [(&'static str, u64); 3] {
        // The counts are taken one after the other and may lie a few allocations apart.
        [
            ("process_allocations", &self.allocations),
            ("process_allocated_bytes", &self.allocated_bytes),
            ("process_freed_bytes", &self.freed_bytes),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }

    fn count_allocation(&self, bytes: usize) {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        self.allocated_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn count_free(&self, bytes: usize) {
        self.freed_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: every method hands its arguments unchanged to `MiMalloc` and returns what that returns; counting neither
// allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count_allocation(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same beneath.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.count_free(layout.size());
        // SAFETY: the pointer came from `MiMalloc` with this layout, for every allocation here does.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count_allocation(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same beneath.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Growing is an allocation too: the bytes move unless there happens to be room behind them.
        self.count_allocation(new_size);
        self.count_free(layout.size());
        // SAFETY: the pointer came from `MiMalloc` with this layout, and the caller keeps the rest of the contract.
        unsafe { MiMalloc.realloc(pointer, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_bytes_are_counted() {
        let counting = Counting::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        let larger = Layout::from_size_align(300, 8).unwrap();
        // SAFETY: the layouts are those of the calls before, and the pointers are used no further than freed.
        unsafe {
            let pointer = counting.alloc(layout);
            let pointer = counting.realloc(pointer, layout, larger.size());
            counting.dealloc(pointer, larger);
            let zeroed = counting.alloc_zeroed(layout);
            assert_eq!(*zeroed, 0);
        }
        let counts = counting.counters().map(|(_, count)| count);
        assert_eq!(counts, [3, 500, 400]);
    }
}
