//! Every fuzz function has a harness for cargo-fuzz.

#[test]
fn every_fuzz_function_has_its_harness() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../");
    let manifest = std::fs::read_to_string(format!("{root}fuzz/Cargo.toml")).expect("a manifest");
    let mut count = 0;
    for source in [
        "statemachine/src/fuzz.rs",
        "net/src/fuzz.rs",
        "net/src/fuzz/peer.rs",
        "wal/src/fuzz.rs",
        "engine/src/fuzz.rs",
        "engine/src/snapshot/fuzz.rs",
        "engine/src/peer/fuzz.rs",
    ] {
        let text = std::fs::read_to_string(format!("{root}{source}")).expect("a source file");
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("pub fn fuzz_") else {
                continue;
            };
            let name = rest.split('(').next().expect("a name");
            let harness = format!("{root}fuzz/fuzz_targets/{name}.rs");
            let harness = std::fs::read_to_string(&harness).unwrap_or_default();
            assert!(harness.contains(&format!("::fuzz_{name}(data)")), "{name}");
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 20, "a source file has moved");
}
