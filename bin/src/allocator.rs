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

/// The allocator's number for its option `purge_delay`, in milliseconds.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// What is freed goes back to the system after this time. Under writes as much is allocated as is freed: what is given
/// back sooner is asked for again at once, and the system fills it with zeros.
const FREED_MEMORY_KEPT_MS: std::ffi::c_long = 10_000;

/// Sets the allocator up, unless its own environment variables say otherwise. To be called before there are threads.
#[expect(unsafe_code, reason = "the allocator's options have no safe interface")]
pub(crate) fn set_up() {
    // SAFETY: setting an option writes one number of the allocator's own table; no other thread reads it yet.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, FREED_MEMORY_KEPT_MS) }
}

/// What the whole process has allocated, as named numbers that only grow; none unless it counts.
pub(crate) fn counters() -> Vec<(&'static str, u64)> {
    #[cfg(feature = "count-allocations")]
    return ALLOCATOR.counters().to_vec();
    #[cfg(not(feature = "count-allocations"))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the allocator's options have no safe interface")]
    fn the_option_has_the_number_that_is_thought() {
        // SAFETY: reading an option touches nothing but the allocator's own table of options.
        let value = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        // No other option has this default.
        assert_eq!(value(), 1_000);
        set_up();
        assert_eq!(value(), FREED_MEMORY_KEPT_MS);
    }
}
