#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    metastore_statemachine::fuzz::fuzz_import(data);
});
