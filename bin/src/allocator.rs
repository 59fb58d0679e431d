//! The allocator of the whole program.
//!
//! Built with the feature `count-allocations` it counts, for measurements: every allocation then costs three shared
//! additions, so a store that serves is built without it.

#[cfg(feature = "count-allocations")]
mod counting;

#[cfg(not(any(feature = "count-allocations", test)))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tests measure what one execution of a fuzz target holds.
#[cfg(test)]
#[global_allocator]
static TEST_ALLOCATOR: metastore_fuzzer::memory::Counting = metastore_fuzzer::memory::Counting;

#[cfg(feature = "count-allocations")]
#[cfg_attr(not(test), global_allocator)]
static ALLOCATOR: counting::Counting = counting::Counting::new();

/// What the whole process has allocated, as named numbers that only grow; none unless it counts.
pub(crate) fn counters() -> Vec<(&'static str, u64)> {
    #[cfg(feature = "count-allocations")]
    return ALLOCATOR.counters().to_vec();
    #[cfg(not(feature = "count-allocations"))]
    Vec::new()
}
