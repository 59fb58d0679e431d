//! The first pass: what lies at every block boundary of every file, without a judgement.

use super::walk::Damages;
use super::{RecoveryError, SegmentSource};
use crate::format::{
    BLOCK_BYTES, BodyFault, FORMAT_VERSION, HeaderFault, HeaderRemains, Mark, MarkFault, MarkState,
    RecordBody, RecordHeader,
};
use crate::ids::{FileNumber, Identity, SealKey};
use crate::log::SegmentFile;

/// How much is read at once.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// A record whose header is valid, wherever and however old it is.
#[derive(Clone, Debug)]
pub(super) struct FoundRecord {
    pub(super) file: FileNumber,
    pub(super) offset: u64,
    pub(super) header: RecordHeader,
    pub(super) digest: u64,
    pub(super) fault: Option<BodyFault>,
    /// Whether a part of it takes a snapshot or removes a replica.
    pub(super) moves_snapshots: bool,
    /// Whether it is a checkpoint that calls a replica damaged.
    pub(super) names_damage: bool,
}

/// A place where a header seems to have been.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundRemains {
    pub(super) file: FileNumber,
    pub(super) offset: u64,
    pub(super) remains: HeaderRemains,
}

/// Everything that was found.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) files: Vec<SegmentFile>,
    pub(super) records: Vec<FoundRecord>,
    pub(super) remains: Vec<FoundRemains>,
    /// Headers with a right checksum that contradict themselves.
    pub(super) malformed: Vec<(FileNumber, u64)>,
    pub(super) marks: [MarkState; 2],
    /// Whether places that cannot be read are passed over.
    damages: Damages,
}

/// A record as the scan passes it.
pub(super) struct Passed<'a> {
    pub(super) found: &'a FoundRecord,
    pub(super) bytes: &'a [u8],
}

impl FoundRecord {
    /// Where the next record of the segment begins.
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.header.record_bytes)
    }

    pub(super) fn is_valid(&self) -> bool {
        self.fault.is_none()
    }
}

impl Scan {
    pub(super) fn file(&self, number: FileNumber) -> Option<SegmentFile> {
        self.files
            .iter()
            .find(|file| file.number == number)
            .copied()
    }

    pub(super) fn valid_marks(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter().filter_map(|state| match state {
            MarkState::Valid(mark) => Some(mark),
            MarkState::Unwritten | MarkState::Unreadable => None,
        })
    }

    pub(super) fn has_remains_at(&self, file: FileNumber, offset: u64) -> Option<HeaderRemains> {
        let found = self
            .remains
            .iter()
            .find(|found| found.file == file && found.offset == offset)?;
        Some(found.remains)
    }
}

/// Reads everything once.
pub(super) fn scan<S: SegmentSource>(
    source: &mut S,
    (identity, seal): (&Identity, SealKey),
    damages: Damages,
    on_record: &mut dyn FnMut(Passed<'_>),
) -> Result<Scan, RecoveryError<S::Error>> {
    let marks = source.marks().map_err(RecoveryError::Source)?;
    let marks = [
        read_mark(marks[0].as_deref(), identity)?,
        read_mark(marks[1].as_deref(), identity)?,
    ];
    let mut files = source.files().map_err(RecoveryError::Source)?;
    files.sort_unstable_by_key(|file| file.number);
    let mut scan = Scan {
        files,
        records: Vec::new(),
        remains: Vec::new(),
        malformed: Vec::new(),
        marks,
        damages,
    };
    for index in 0..scan.files.len() {
        scan_file(
            source,
            scan.files[index],
            (identity, seal, damages),
            &mut scan,
            on_record,
        )?;
    }
    Ok(scan)
}

fn scan_file<S: SegmentSource>(
    source: &mut S,
    file: SegmentFile,
    (identity, seal, damages): (&Identity, SealKey, Damages),
    scan: &mut Scan,
    on_record: &mut dyn FnMut(Passed<'_>),
) -> Result<(), RecoveryError<S::Error>> {
    // A half-prepared file may end within a block, where no record can be.
    let end = file.bytes - file.bytes % BLOCK_BYTES as u64;
    let mut reader = FileReader {
        damages,
        ..FileReader::new(source, file)
    };
    let mut offset = 0;
    while offset < end {
        let block = reader
            .bytes(offset, BLOCK_BYTES)
            .map_err(RecoveryError::Source)?;
        match RecordHeader::decode(block, seal) {
            Ok((header, _)) if offset + u64::from(header.record_bytes) > end => {
                // No writer divides a record: the file was cut short, or this was written to a wrong place.
                let remains = HeaderRemains {
                    segment: header.segment,
                    sequence: header.sequence,
                };
                scan.remains.push(FoundRemains {
                    file: file.number,
                    offset,
                    remains,
                });
                offset += BLOCK_BYTES as u64;
            }
            Ok((header, digest)) => {
                check_identity(&header.identity, identity)?;
                let record_bytes = header.record_bytes as usize;
                let bytes = reader
                    .bytes(offset, record_bytes)
                    .map_err(RecoveryError::Source)?;
                let body = RecordBody::decode(&header, bytes);
                let moves_snapshots = body.as_ref().is_ok_and(RecordBody::moves_snapshots);
                let names_damage = body.as_ref().is_ok_and(RecordBody::names_damage);
                let fault = body.err();
                let found = FoundRecord {
                    file: file.number,
                    offset,
                    header,
                    digest,
                    fault,
                    moves_snapshots,
                    names_damage,
                };
                on_record(Passed {
                    found: &found,
                    bytes,
                });
                offset = found.end();
                scan.records.push(found);
            }
            Err(HeaderFault::NewerFormat { reader_min }) => {
                return Err(RecoveryError::NewerFormat {
                    found: reader_min,
                    supported: FORMAT_VERSION,
                });
            }
            Err(HeaderFault::Malformed) => {
                scan.malformed.push((file.number, offset));
                offset += BLOCK_BYTES as u64;
            }
            Err(fault @ (HeaderFault::Unreadable | HeaderFault::Unsealed { .. })) => {
                // A segment begins with a record, so what stands there is no client's: it says whose file this is.
                if let HeaderFault::Unsealed { identity: found } = fault
                    && offset == 0
                {
                    check_identity(&found, identity)?;
                }
                if let Some(remains) = HeaderRemains::find(block, identity) {
                    scan.remains.push(FoundRemains {
                        file: file.number,
                        offset,
                        remains,
                    });
                }
                offset += BLOCK_BYTES as u64;
            }
        }
    }
    Ok(())
}

fn read_mark<E>(block: Option<&[u8]>, identity: &Identity) -> Result<MarkState, RecoveryError<E>> {
    let Some(block) = block else {
        return Ok(MarkState::Unwritten);
    };
    if block.iter().all(|&byte| byte == 0) {
        return Ok(MarkState::Unwritten);
    }
    match Mark::decode(block) {
        Ok(mark) => {
            check_identity(&mark.identity, identity)?;
            Ok(MarkState::Valid(mark))
        }
        Err(MarkFault::Unreadable) => Ok(MarkState::Unreadable),
        Err(MarkFault::NewerFormat { reader_min }) => Err(RecoveryError::NewerFormat {
            found: reader_min,
            supported: FORMAT_VERSION,
        }),
    }
}

fn check_identity<E>(found: &Identity, expected: &Identity) -> Result<(), RecoveryError<E>> {
    if found.cluster != expected.cluster {
        return Err(RecoveryError::OtherCluster { found: *found });
    }
    if found.node != expected.node {
        return Err(RecoveryError::OtherNode { found: found.node });
    }
    if found.core != expected.core {
        return Err(RecoveryError::OtherCore { found: found.core });
    }
    Ok(())
}

/// Reads a file mostly forwards, a chunk at a time.
pub(super) struct FileReader<'s, S> {
    source: &'s mut S,
    file: SegmentFile,
    chunk: Vec<u8>,
    chunk_offset: u64,
    damages: Damages,
}

impl<'s, S: SegmentSource> FileReader<'s, S> {
    fn new(source: &'s mut S, file: SegmentFile) -> Self {
        Self {
            source,
            file,
            chunk: Vec::new(),
            chunk_offset: 0,
            damages: Damages::AreRefused,
        }
    }

    /// A reader of a file that was scanned before: it passes over what the scan passed over.
    pub(super) fn of_scanned(source: &'s mut S, scan: &Scan, file: SegmentFile) -> Self {
        Self {
            damages: scan.damages,
            ..Self::new(source, file)
        }
    }

    pub(super) fn number(&self) -> FileNumber {
        self.file.number
    }

    /// `length` bytes from `offset`, which lie within the file.
    pub(super) fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8], S::Error> {
        let end = offset + length as u64;
        assert!(end <= self.file.bytes, "what is read lies within the file");
        let chunk_end = self.chunk_offset + self.chunk.len() as u64;
        if offset < self.chunk_offset || end > chunk_end {
            let wanted = (length as u64)
                .max(CHUNK_BYTES)
                .min(self.file.bytes - offset);
            self.chunk
                .resize(usize::try_from(wanted).expect("a chunk fits memory"), 0);
            self.chunk_offset = offset;
            if let Err(error) = self.source.read(self.file.number, offset, &mut self.chunk)
                && !self.read_blocks()
            {
                self.chunk.clear();
                return Err(error);
            }
        }
        let start = usize::try_from(offset - self.chunk_offset).expect("a chunk fits memory");
        Ok(&self.chunk[start..start + length])
    }

    /// Reads the chunk again, block by block, zeros in the place of those that cannot be read; `false` when none can: then
    /// it is not a place that is damaged, it is the device.
    fn read_blocks(&mut self) -> bool {
        if self.damages == Damages::AreRefused {
            return false;
        }
        let mut has_any = false;
        for (number, block) in (0..).zip(self.chunk.chunks_mut(BLOCK_BYTES)) {
            let offset = self.chunk_offset + number * BLOCK_BYTES as u64;
            match self.source.read(self.file.number, offset, block) {
                Ok(()) => has_any = true,
                Err(_unreadable) => block.fill(0),
            }
        }
        has_any
    }

    /// As [`Self::bytes`], but reads no more than is asked for, unless that cannot be read at once.
    pub(super) fn bytes_exactly(mut self, offset: u64, length: usize) -> Result<Vec<u8>, S::Error> {
        let mut bytes = vec![0; length];
        match self.source.read(self.file.number, offset, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(_unreadable) => self.bytes(offset, length).map(<[u8]>::to_vec),
        }
    }
}
