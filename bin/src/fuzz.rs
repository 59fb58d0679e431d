//! Fuzz targets for what people and programs tell this one: the configuration, the node's file, quantities, and requests
//! to the admin port.
//!
//! The program is no library, so its tests run them: `METASTORE_FUZZ="--executions 10000000"` is the command line of
//! such a run, and `scripts/fuzz` gives it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;
use metastore_fuzzer::{Arguments, Target, corpus, run};

use crate::admin::http::fuzz_head;
use crate::arguments::TXN_HELP;
use crate::commands::txn::document::fuzz_document;
use crate::config::{Configuration, FlagValue, KEYS, Sources, example};
use crate::node::cluster_file::{fuzz_cluster_file, sample_text};
use crate::node::cpus::parse_list;
use crate::node::node_file::{NodeFile, clustered_sample, recovering_sample, sample};
use crate::node::snapshot_files::fuzz_name;
use crate::quantity::{parse_duration, parse_size, show_duration_ms, show_size};

/// Words of configurations.
const WORDS: &[&str] = &[
    "\n",
    "=",
    "\"",
    "'",
    "[",
    "]",
    "[[",
    "]]",
    ".",
    "#",
    "{",
    "}",
    "\"\"\"",
    "0x",
    "1_000",
    "1e9",
    "inf",
    "true",
    "1979-05-27",
    "\\u00e9",
    "KiB",
    "GiB",
    "ms",
    "h",
    "-1",
    "18446744073709551615",
    "wal",
    "raft",
    "replica",
    "shard",
    "[[node]]",
    "id",
    "cores",
    "clients",
    "peers",
    "10.0.0.1:7400",
    "[::1]",
];

/// A size or a duration that is read is shown so that it reads the same.
fn fuzz_quantity(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let size = parse_size(text);
    if let Ok(bytes) = size {
        assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
    }
    let duration = parse_duration(text);
    if let Ok(duration) = duration {
        let milliseconds = u64::try_from(duration.as_millis()).expect("it was read from this many");
        assert_eq!(
            parse_duration(&show_duration_ms(milliseconds)),
            Ok(duration)
        );
    }
    size.is_ok() || duration.is_ok()
}

/// A configuration is taken with every value where it was written, or refused with a reason that names a place.
fn fuzz_config(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let sources = Sources {
        file: Some(Path::new("F")),
        ..Sources::default()
    };
    match Configuration::of_text(&sources, text) {
        Ok(_) => true,
        Err(errors) => {
            assert!(errors.to_string().contains('F'), "{errors}");
            false
        }
    }
}

/// A value on the command line is taken or refused by its name.
fn fuzz_flag(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let Some((name, value)) = text.split_once('=') else {
        return false;
    };
    let sources = Sources {
        flags: vec![FlagValue {
            name: name.to_owned(),
            text: value.to_owned(),
            flag: "--set".to_owned(),
        }],
        ..Sources::default()
    };
    match Configuration::load(&sources) {
        Ok(_) => true,
        Err(errors) => {
            assert!(!errors.to_string().is_empty());
            false
        }
    }
}

/// A node's file that is read is written so that it reads the same.
fn fuzz_node_file(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    match NodeFile::parse(PathBuf::from("F"), text) {
        Ok(file) => {
            let again = NodeFile::parse(PathBuf::from("F"), &file.to_text());
            assert_eq!(again.expect("what is written can be read"), file);
            true
        }
        Err(error) => {
            assert!(error.to_string().contains('F'), "{error}");
            false
        }
    }
}

/// A list of processors names each once, and no more than there can be.
fn fuzz_cpus(data: &[u8]) -> bool {
    let Some(list) = std::str::from_utf8(data).ok().and_then(parse_list) else {
        return false;
    };
    let distinct: BTreeSet<usize> = list.iter().copied().collect();
    assert_eq!(distinct.len(), list.len());
    true
}

fn targets() -> Vec<Target> {
    let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let quantities = ["64MiB", "8 GiB", "4096", "500ms", "2h", "16777215TiB"];
    let settings = "data = \"d\"\n[wal]\nbudget = \"8GiB\"\nspare_segments = 0x4\n";
    let configs = [settings, &example()];
    let flags: Vec<String> = KEYS
        .iter()
        .map(|spec| format!("{}={}", spec.name, spec.default))
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let heads = [
        "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*",
        "HEAD /healthz?a=b HTTP/1.0",
        "POST / HTTP/1.1",
    ];
    let help = TXN_HELP;
    let start = help.find('{').expect("the help shows a document");
    let end = help.find("\n\nA condition").expect("and explains it");
    let documents = [&help[start..end]];
    let mut targets = vec![
        Target::new("program/quantity", fuzz_quantity, bytes(&quantities)).with_words(WORDS),
        Target::new("program/config", fuzz_config, bytes(&configs))
            .with_words(WORDS)
            .holding(1 << 20),
        Target::new("program/flag", fuzz_flag, bytes(&flags)).with_words(WORDS),
        Target::new(
            "program/node_file",
            fuzz_node_file,
            bytes(&[
                &sample().to_text(),
                &clustered_sample().to_text(),
                &recovering_sample().to_text(),
            ]),
        )
        .with_words(WORDS)
        .holding(1 << 20),
        Target::new(
            "program/cluster_file",
            fuzz_cluster_file,
            bytes(&[&sample_text()]),
        )
        .with_words(WORDS)
        .holding(64 << 20),
        Target::new("program/txn", fuzz_document, bytes(&documents))
            .with_words(&[
                "{", "}", "[", "]", ",", ":", "\"", "\"hex\"", "if", "then", "else", "put",
                "range", "null", "-1", "1e99",
            ])
            .holding(1 << 20),
        Target::new(
            "program/snapshot_name",
            fuzz_name,
            bytes(&["snap-3-17.snap", "snap-3-17.snap.tmp"]),
        ),
        Target::new(
            "program/cpus",
            fuzz_cpus,
            bytes(&["0-3,8", "5", "0-60000,60001-65535"]),
        )
        .with_words(&["-", ",", "0", "65536"])
        .holding(8 << 20),
        Target::new("program/http", fuzz_head, bytes(&heads))
            .with_words(&["\r\n", " ", "/", "?", "GET", "HTTP/1."]),
    ];
    for target in &mut targets {
        target.corpus.extend(corpus::committed("bin", &target.name));
    }
    targets
}

/// A short run, or the one that `METASTORE_FUZZ` asks for.
#[test]
fn what_the_program_is_told_is_taken_or_refused() {
    let asked = std::env::var("METASTORE_FUZZ").unwrap_or_else(|_| "--executions 2000".to_owned());
    let words = std::iter::once("metastore-fuzz").chain(asked.split_whitespace());
    let arguments = Arguments::parse_from(words);
    if let Err(failure) = run(&targets(), &arguments) {
        panic!("{failure}");
    }
}
