#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    metastore_wal::fuzz::fuzz_record(data);
});
