#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    metastore_net::fuzz::fuzz_peer_incoming(data);
});
