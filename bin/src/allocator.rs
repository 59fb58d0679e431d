//! The allocator of the whole program.
//!
//! Built with the feature `count-allocations` it counts, for measurements: every allocation then costs three shared
//! additions, so a store that serves is built without it.

#[cfg(feature = "count-allocations")]
mod counting;

#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting::new();

/// What the whole process has allocated, as named numbers that only grow; none unless it counts.
pub(crate) fn counters() -> Vec<(&'static str, u64)> {
    #[cfg(feature = "count-allocations")]
    return ALLOCATOR.counters().to_vec();
    #[cfg(not(feature = "count-allocations"))]
    Vec::new()
}
