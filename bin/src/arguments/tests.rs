use std::os::unix::ffi::OsStringExt;

use super::*;

fn parse<const COUNT: usize>(words: [&str; COUNT]) -> Result<Command, clap::Error> {
    parse_os(words.map(OsString::from))
}

fn parse_os<const COUNT: usize>(words: [OsString; COUNT]) -> Result<Command, clap::Error> {
    let words = std::iter::once(OsString::from("metastore")).chain(words);
    Arguments::try_parse_from(words).map(|arguments| arguments.command)
}

#[test]
fn the_definition_is_consistent() {
    use clap::CommandFactory;
    Arguments::command().debug_assert();
}

#[test]
fn every_flag_sets_a_key_that_exists() {
    let words = [
        "serve",
        "--config",
        "c.toml",
        "--data",
        "d",
        "--format",
        "if-empty",
        "--listen",
        "::1",
        "--port",
        "1",
        "--cores",
        "2",
        "--shards",
        "4",
        "--cpus",
        "0-1",
        "--segment-bytes",
        "64MiB",
        "--wal-budget",
        "8GiB",
        "--flush",
        "write-then-sync",
        "--admin",
        "off",
        "--log-level",
        "debug",
        "--log-format",
        "json",
        "--set",
        "wal.spare_segments = 8",
    ];
    let Ok(Command::Serve(serve)) = parse(words) else {
        panic!("every flag is known");
    };
    assert_eq!(serve.config.config, Some(PathBuf::from("c.toml")));
    let flags = serve.config.settings.flags();
    assert_eq!(flags.len(), 14, "{flags:?}");
    let sources = crate::config::Sources {
        flags,
        ..Default::default()
    };
    let configuration = crate::config::Configuration::load(&sources).expect("all are allowed");
    for flag in &sources.flags {
        let key = crate::config::Key::find(&flag.name).expect("a key");
        let setting = configuration.get(key);
        assert_eq!(setting.value.to_string(), flag.text);
        assert_eq!(
            setting.origin,
            crate::config::Origin::Flag(flag.flag.clone())
        );
    }
    let Ok(Command::Dev(dev)) = parse(["dev"]) else {
        panic!("dev needs no arguments");
    };
    assert_eq!(dev.settings.flags(), []);
    assert!(parse(["serve", "--set", "wal.budget"]).is_err());
    assert!(parse(["dev", "--config", "c.toml"]).is_err());
}

#[test]
fn keys_and_values_are_any_bytes() {
    let odd = OsString::from_vec(vec![0xFF, b'/', 0xFE]);
    let words = ["put".into(), odd.clone(), odd.clone(), "--json".into()];
    let Ok(Command::Put(put)) = parse_os(words) else {
        panic!("what is not UTF-8 is fine");
    };
    assert_eq!(put.key.as_bytes(), [0xFF, b'/', 0xFE]);
    assert_eq!(put.value, odd);
    assert_eq!(put.client.format(), Format::Json);
    assert_eq!(put.client.timeout, Duration::from_secs(5));
    let Ok(Command::Get(get)) = parse(["get", "--", "--json"]) else {
        panic!("a key may look like a flag");
    };
    assert_eq!(get.key.as_bytes(), b"--json");
    assert_eq!(get.client.format(), Format::People);
}

#[test]
fn an_empty_key_is_refused_and_an_empty_value_or_prefix_is_not() {
    let error = parse(["put", "", "v"]).expect_err("no key").to_string();
    assert!(error.contains("at least one byte"), "{error}");
    assert!(parse(["put", "k", ""]).is_ok());
    assert!(parse(["list", ""]).is_ok());
}

#[test]
fn contradictions_are_refused() {
    assert!(parse(["put", "k", "v", "--if-absent"]).is_ok());
    assert!(parse(["put", "k", "v", "--if-revision", "0"]).is_ok());
    assert!(parse(["put", "k", "v", "--if-absent", "--if-revision", "3"]).is_err());
    // Revision 0 is before the first change: there is nothing to read.
    assert!(parse(["get", "k", "--at", "0"]).is_err());
}

#[test]
fn a_counter_takes_negative_numbers() {
    let Ok(Command::Add(add)) = parse(["add", "k", "-5"]) else {
        panic!("a number is no flag");
    };
    assert_eq!(add.number, -5);
}

#[test]
fn wal_and_import_tree_have_their_flags() {
    let Ok(Command::Wal(WalCommand::Inspect(inspect))) = parse([
        "wal", "inspect", "--data", "d", "--core", "1", "--limit", "7", "--json",
    ]) else {
        panic!("every flag is known");
    };
    assert_eq!(inspect.wal.data, PathBuf::from("d"));
    assert_eq!((inspect.core, inspect.limit), (Some(1), Some(7)));
    assert_eq!(inspect.wal.format(), Format::Json);
    assert!(parse(["wal", "verify"]).is_ok());
    let Ok(Command::ImportTree(import)) = parse([
        "import-tree",
        "/usr",
        "--prefix",
        "p",
        "--verify-only",
        "--connect",
        "h:1",
    ]) else {
        panic!("every flag is known");
    };
    assert_eq!(import.path, PathBuf::from("/usr"));
    assert_eq!((import.prefix, import.verify_only), ("p".into(), true));
    assert_eq!(import.client.connect, "h:1");
}

#[test]
fn operators_name_nodes_and_shards_and_bounds_are_held() {
    let replace = parse(["member", "replace", "--dead", "3", "--with", "4"]);
    let Ok(Command::Member(MemberCommand::Replace(replace))) = replace else {
        panic!("that is all it needs");
    };
    assert_eq!((replace.dead, replace.with), (3, 4));
    assert_eq!(replace.many.at_once, 4);
    assert_eq!(replace.many.operator.timeout, Duration::from_secs(600));
    assert!(!replace.even_if_alive && !replace.give_up_spare);
    assert!(parse(["member", "replace", "--dead", "3"]).is_err());
    let at_once = ["member", "promote", "--node", "3", "--at-once", "65"];
    assert!(parse(at_once).is_err());
    let transfer = parse(["shard", "transfer-leader", "--shard", "0"]);
    let Ok(Command::Shard(ShardCommand::TransferLeader(transfer))) = transfer else {
        panic!("whoever is best leads");
    };
    assert_eq!((transfer.shard, transfer.to), (0, None));
    let node = ["member", "add", "--node", "4", "--cores", "1"];
    let places = ["--clients", "n4:7400", "--peers", "n4"];
    let words: Vec<_> = node.into_iter().chain(places).collect();
    let words: [&str; 10] = words.try_into().expect("ten words");
    let error = parse(words).expect_err("where are the peers?");
    assert!(error.to_string().contains("\"n4\" has no port"), "{error}");
}
