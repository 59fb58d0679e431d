//! The file format: what is written is read, and nothing else is.

use metastore_statemachine::{
    Batch, BatchBuilder, Command, ExportProgress, NamespaceId, Parameters, ShardTime, SliceLimit,
    SnapshotImport, StateMachine,
};
use metastore_wal::{ClusterId, LogIndex, NodeId, ReplicaId, ShardId, Term};

use super::*;

mod damage;

/// Bytes of sections, in the order of the file.
type Sections = Vec<(SectionTag, Vec<u8>)>;

fn identity() -> SnapshotIdentity {
    SnapshotIdentity {
        cluster: ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        node: NodeId(1),
        shard: ShardId(3),
        replica: ReplicaId(7),
        index: LogIndex(1000),
        term: Term(5),
        members: b"members".to_vec(),
    }
}

fn small_sections() -> Sections {
    vec![
        (SectionTag::COUNTERS, b"counters".to_vec()),
        (
            SectionTag::KEYS,
            b"/a/key /a/key /a/key /a/key /a/key /a/key ".to_vec(),
        ),
        (SectionTag::HISTORY, (0..=255).collect()),
    ]
}

/// Writes a file, with what is pushed cut into pieces.
fn write(identity: &SnapshotIdentity, sections: &Sections, cut_bytes: usize) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = SnapshotWriter::new(identity, &mut file);
    for (section, bytes) in sections {
        for piece in bytes.chunks(cut_bytes) {
            writer.push(*section, piece);
            while writer.write_block(&mut file) {}
            assert!(writer.waiting_bytes() < SNAPSHOT_BLOCK_BYTES);
        }
    }
    let summary = writer.finish(&mut file);
    assert_eq!(summary.file_bytes, file.len() as u64);
    file
}

/// Reads a file that is fed in pieces.
fn read(
    expected: Option<SnapshotIdentity>,
    file: &[u8],
    cut_bytes: usize,
) -> Result<(SnapshotIdentity, Sections, SnapshotSummary), SnapshotError> {
    let mut reader = SnapshotReader::new(expected);
    let mut identity = None;
    let mut sections = Sections::new();
    for piece in file.chunks(cut_bytes) {
        reader.feed(piece);
        loop {
            match reader.read_next()? {
                SnapshotStep::NeedMore | SnapshotStep::Finished(_) => break,
                SnapshotStep::Identity(found) => identity = Some(found.clone()),
                SnapshotStep::Section { section, bytes, .. } => match sections.last_mut() {
                    Some((last, gathered)) if *last == section => gathered.extend_from_slice(bytes),
                    Some(_) | None => sections.push((section, bytes.to_vec())),
                },
            }
        }
    }
    let summary = reader.finish()?.clone();
    Ok((identity.unwrap(), sections, summary))
}

#[test]
fn what_is_written_is_read_whatever_the_cuts() {
    let mut random = 1_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let next = |_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 56) as u8
        };
        (0..length).map(next).collect()
    };
    let sections = vec![
        (SectionTag::COUNTERS, vec![1]),
        (SectionTag::NAMESPACES, vec![2; SNAPSHOT_BLOCK_BYTES]),
        (SectionTag::KEYS, noise(3 * SNAPSHOT_BLOCK_BYTES + 1)),
        (SectionTag::HISTORY, b"a change ".repeat(20_000)),
    ];
    let file = write(&identity(), &sections, usize::MAX);
    for cut_bytes in [1000, SNAPSHOT_BLOCK_BYTES, 100_000] {
        assert_eq!(write(&identity(), &sections, cut_bytes), file);
    }
    for cut_bytes in [777, 4096, usize::MAX] {
        let (found, read_sections, summary) = read(Some(identity()), &file, cut_bytes).unwrap();
        assert_eq!(found, identity());
        assert_eq!(read_sections, sections);
        assert_eq!(summary.file_bytes, file.len() as u64);
        let chunks: Vec<_> = summary
            .sections
            .iter()
            .map(|total| total.chunk_count)
            .collect();
        assert_eq!(chunks, [1, 1, 4, 3]);
        let raw: usize = sections.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(summary.raw_bytes, raw as u64);
        assert_eq!(summary.chunk_count, 9);
    }
    let stored = file.len();
    assert!(
        stored < 3 * SNAPSHOT_BLOCK_BYTES + 20_000,
        "{stored} bytes: repetition is compressed"
    );
}

#[test]
fn an_empty_snapshot_has_a_header_and_a_trailer() {
    let file = write(&identity(), &Sections::new(), 1);
    let (_, sections, summary) = read(None, &file, 1).unwrap();
    assert_eq!(sections, Sections::new());
    assert_eq!((summary.chunk_count, summary.raw_bytes), (0, 0));
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let file = write(&identity(), &small_sections(), usize::MAX);
    let golden = include_bytes!("../../testdata/snapshot-small.bin");
    assert_eq!(
        file, golden,
        "the format has changed: it needs a new version"
    );
    assert_eq!(&file[..8], b"MSSNAPSH");
    assert_eq!(&file[SNAPSHOT_HEADER_BYTES..][..7], b"members");
    assert_eq!(&file[SNAPSHOT_HEADER_BYTES + 7..][..4], b"MSCK");
    assert_eq!(SNAPSHOT_HEADER_BYTES, 80);
    assert_eq!(CHUNK_HEADER_BYTES, 48);
}

#[test]
fn a_snapshot_of_something_else_is_refused_by_what_differs() {
    let file = write(&identity(), &small_sections(), usize::MAX);
    let others = [
        (
            "cluster",
            SnapshotIdentity {
                cluster: ClusterId(1),
                ..identity()
            },
        ),
        (
            "shard",
            SnapshotIdentity {
                shard: ShardId(4),
                ..identity()
            },
        ),
        (
            "index",
            SnapshotIdentity {
                index: LogIndex(1001),
                ..identity()
            },
        ),
        (
            "term",
            SnapshotIdentity {
                term: Term(6),
                ..identity()
            },
        ),
    ];
    for (name, other) in others {
        let refused = read(Some(other), &file, usize::MAX).unwrap_err();
        assert!(
            matches!(refused, SnapshotError::WrongIdentity { field, .. } if field == name),
            "{refused}"
        );
    }
    let elsewhere = SnapshotIdentity {
        node: NodeId(9),
        replica: ReplicaId(8),
        ..identity()
    };
    assert!(read(Some(elsewhere), &file, usize::MAX).is_ok());
}

#[test]
fn a_chunk_is_made_in_one_call_however_much_waits() {
    let mut file = Vec::new();
    let mut writer = SnapshotWriter::new(&identity(), &mut file);
    writer.push(SectionTag::KEYS, &[7; 10 * SNAPSHOT_BLOCK_BYTES + 1]);
    for left in (0..10).rev() {
        assert!(writer.write_block(&mut file));
        assert_eq!(writer.waiting_bytes(), left * SNAPSHOT_BLOCK_BYTES + 1);
    }
    assert!(!writer.write_block(&mut file), "the last block may grow");
    writer.push(SectionTag::HISTORY, b"next");
    assert!(writer.write_block(&mut file), "the section is complete");
    assert!(!writer.has_block());
    assert_eq!(writer.finish(&mut file).chunk_count, 12);
}

/// A state with rows below its floor, a tombstone and a history.
fn state() -> StateMachine {
    let mut machine = StateMachine::new(Parameters {
        history_revisions_max: 3,
        ..Parameters::default()
    });
    let namespace = NamespaceId::DEFAULT;
    let mut builder = BatchBuilder::new();
    for command in [
        Command::put(namespace, b"/a", b"1"),
        Command::put(namespace, b"/b", b"2"),
        Command::put(namespace, b"/c", b"3"),
        Command::delete(namespace, b"/a"),
        Command::append(namespace, b"/b", b"2"),
    ] {
        let mut bytes = Vec::new();
        command.encode_into(&mut bytes);
        builder.push(&bytes);
    }
    let sealed = builder.seal(ShardTime(10), 1);
    let batch = Batch::decode(&sealed).unwrap();
    machine.apply(&batch, &mut |_| {}).unwrap();
    machine
}

fn export(machine: &mut StateMachine) -> Sections {
    let slice = SliceLimit {
        rows: 2,
        bytes: 1000,
        visits: 10,
    };
    let mut sections = Sections::new();
    let mut export = machine.begin_export();
    loop {
        let mut bytes = Vec::new();
        match machine
            .export_slice(&mut export, slice, &mut bytes)
            .unwrap()
        {
            ExportProgress::More { section } => match sections.last_mut() {
                Some((last, gathered)) if *last == section => gathered.extend_from_slice(&bytes),
                Some(_) | None => sections.push((section, bytes)),
            },
            ExportProgress::Finished => break,
        }
    }
    machine.end_export(export);
    sections
}

/// Loads a file as a node does: what was built counts only when the file was whole.
fn load(file: &[u8]) -> Option<StateMachine> {
    let mut reader = SnapshotReader::new(Some(identity()));
    let mut import = SnapshotImport::new(Parameters::default());
    reader.feed(file);
    loop {
        match reader.read_next().ok()? {
            SnapshotStep::Section { section, bytes, .. } => import.section(section, bytes).ok()?,
            SnapshotStep::Identity(_) => {}
            SnapshotStep::NeedMore | SnapshotStep::Finished(_) => break,
        }
    }
    reader.finish().ok()?;
    import.finish().ok()
}

#[test]
fn a_state_comes_out_of_a_file_as_it_was_or_not_at_all() {
    let mut machine = state();
    let sections = export(&mut machine);
    let file = write(&identity(), &sections, 100);
    let mut loaded = load(&file).unwrap();
    assert_eq!(loaded.state_hash(), machine.state_hash());
    assert_eq!(export(&mut loaded), sections);
    for position in 0..file.len() {
        for bit in [0, 3, 7] {
            let mut damaged = file.clone();
            damaged[position] ^= 1 << bit;
            assert!(load(&damaged).is_none(), "bit {bit} of byte {position}");
        }
        assert!(load(&file[..position]).is_none(), "cut at {position}");
    }
}
