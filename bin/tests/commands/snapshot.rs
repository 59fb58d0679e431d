//! `snapshot inspect` and `snapshot verify`, on whole and damaged files.

use std::fs;
use std::path::{Path, PathBuf};

use metastore_engine::snapshot::{SectionTag, SnapshotIdentity, SnapshotWriter};
use metastore_engine::{ClusterId, LogIndex, NodeId, ReplicaId, ShardId, Term};
use metastore_statemachine::{
    Batch, BatchBuilder, Command, ExportProgress, NamespaceId, Parameters, ShardTime, SliceLimit,
    StateMachine,
};

use crate::harness::TestDirectory;
use crate::store::{Answer, run};

fn snapshot(words: &[&str], file: &Path) -> Answer {
    let file = file.to_str().expect("text");
    run(
        "127.0.0.1:1",
        ["snapshot"].iter().chain(words).chain(&[file]),
    )
}

/// The sections of a state with two keys.
fn sections() -> Vec<(SectionTag, Vec<u8>)> {
    let mut machine = StateMachine::new(Parameters::default());
    let mut builder = BatchBuilder::new();
    for key in [&b"/a"[..], b"/b"] {
        let mut bytes = Vec::new();
        Command::put(NamespaceId::DEFAULT, key, b"value").encode_into(&mut bytes);
        builder.push(&bytes);
    }
    let sealed = builder.seal(ShardTime(1), 1);
    let batch = Batch::decode(&sealed).expect("it was just sealed");
    machine
        .apply(&batch, &mut |_| {})
        .expect("puts are applied");
    let slice = SliceLimit {
        rows: 100,
        bytes: 100_000,
        visits: 100,
    };
    let mut sections = Vec::new();
    let mut export = machine.begin_export();
    loop {
        let mut bytes = Vec::new();
        match machine.export_slice(&mut export, slice, &mut bytes) {
            Ok(ExportProgress::More { section }) => sections.push((section, bytes)),
            Ok(ExportProgress::Finished) => return sections,
            Err(error) => panic!("{error}"),
        }
    }
}

fn write(directory: &TestDirectory, sections: &[(SectionTag, Vec<u8>)]) -> PathBuf {
    let identity = SnapshotIdentity {
        cluster: ClusterId(0xc1),
        node: NodeId(1),
        shard: ShardId(3),
        replica: ReplicaId(7),
        index: LogIndex(1000),
        term: Term(5),
        members: Vec::new(),
    };
    let mut bytes = Vec::new();
    let mut writer = SnapshotWriter::new(&identity, &mut bytes);
    for (section, items) in sections {
        writer.push(*section, items);
    }
    let _summary = writer.finish(&mut bytes);
    let path = directory.path().join("snap-5-1000.snap");
    fs::write(&path, bytes).expect("writes");
    path
}

#[test]
fn a_whole_file_is_told_by_what_it_holds() {
    let directory = TestDirectory::new("snapshot-whole");
    let file = write(&directory, &sections());
    let shown = snapshot(&["inspect"], &file);
    let text = shown.expect(0);
    assert!(
        text.starts_with("shard 3 at index 1000 of term 5, written by replica 7 on node 1"),
        "{text}"
    );
    assert!(
        text.contains("history") && text.contains("whole: "),
        "{text}"
    );
    assert!(!text.contains("loaded"), "{text}");
    let verified = snapshot(&["verify"], &file);
    assert!(
        verified
            .expect(0)
            .contains("the state can be loaded: 2 keys")
    );
    let document = &snapshot(&["verify", "--json"], &file).json(0)[0];
    assert_eq!(document["whole"], true);
    assert_eq!(
        (&document["shard"], &document["index"]),
        (&3.into(), &1000.into())
    );
    assert_eq!(document["keys"], 2);
    assert_eq!(document["sections"][0]["section"], "counters");
}

#[test]
fn damage_is_told_by_file_offset_and_section() {
    let directory = TestDirectory::new("snapshot-damaged");
    let file = write(&directory, &sections());
    let whole = fs::read(&file).expect("reads");
    let mut damaged = whole.clone();
    // The header has no members behind it, and the first chunk's own header has 48 bytes.
    damaged[80 + 48] ^= 1;
    fs::write(&file, &damaged).expect("writes");
    for words in [["inspect"], ["verify"]] {
        let answer = snapshot(&words, &file);
        let expected = format!(
            "{}: offset 80, section counters: the checksum does not match",
            file.display()
        );
        assert!(answer.expect(1).contains(&expected), "{answer:?}");
    }
    let document = &snapshot(&["inspect", "--json"], &file).json(1)[0];
    assert_eq!(document["whole"], false);
    assert_eq!(
        document["fault"],
        "offset 80, section counters: the checksum does not match"
    );
    fs::write(&file, &whole[..whole.len() - 1]).expect("writes");
    let answer = snapshot(&["verify"], &file);
    assert!(
        answer.expect(1).contains("trailer: the file ends after"),
        "{answer:?}"
    );
    fs::write(&file, b"something else").expect("writes");
    assert!(
        snapshot(&["verify"], &file)
            .expect(1)
            .contains("header: the file ends after 14 bytes")
    );
}

#[test]
fn a_file_without_a_state_is_whole_and_not_verified() {
    let directory = TestDirectory::new("snapshot-foreign");
    let file = write(
        &directory,
        &[(SectionTag(999), b"from a later version".to_vec())],
    );
    snapshot(&["inspect"], &file).expect(0);
    let answer = snapshot(&["verify"], &file);
    assert!(
        answer
            .expect(1)
            .contains("section number 999 needs a newer version"),
        "{answer:?}"
    );
}

#[test]
fn a_file_that_is_not_there_is_wrong_usage() {
    let answer = snapshot(&["verify"], Path::new("/nonexistent/snap-1-1.snap"));
    answer.expect(2);
    assert!(
        answer.err.contains("/nonexistent/snap-1-1.snap"),
        "{answer:?}"
    );
}
