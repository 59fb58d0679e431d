#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    metastore_engine::fuzz::fuzz_peer_batch(data);
});
