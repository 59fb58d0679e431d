//! The disk as recovery reads it.

use metastore_wal::SegmentFile;
use metastore_wal::format::{BLOCK_BYTES, MarkSlot};
use metastore_wal::recovery::SegmentSource;

use super::{Disk, DiskError, FileName};
use metastore_wal::FileNumber;

/// Reads what a program would read: the cache over what is durable. Whoever wants to rely on it flushes first.
#[derive(Debug)]
pub struct DiskReader<'a> {
    disk: &'a Disk,
    reads: Reads,
}

/// What a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// The cache over what is durable.
    Everything,
    /// What a loss of power would leave.
    Durable,
}

impl Disk {
    /// A reader of everything that can be read.
    #[must_use]
    pub fn reader(&self) -> DiskReader<'_> {
        DiskReader {
            disk: self,
            reads: Reads::Everything,
        }
    }

    /// A reader of what is durable.
    pub(super) fn durable_reader(&self) -> DiskReader<'_> {
        DiskReader {
            disk: self,
            reads: Reads::Durable,
        }
    }

    /// Reads a part of a file, cache included.
    ///
    /// # Errors
    /// The device failed, or the file is gone or shorter.
    pub fn read(
        &mut self,
        file: FileName,
        offset: u64,
        bytes: usize,
    ) -> Result<Vec<u8>, DiskError> {
        if self.random.chance(self.faults.io_error_per_mille) {
            return Err(DiskError::Io { file });
        }
        let found = self.files.get(&file).ok_or(DiskError::Io { file })?;
        let offset = usize::try_from(offset).expect("a segment fits the memory");
        if offset + bytes > found.durable.len() || !self.is_readable(file, offset, bytes) {
            return Err(DiskError::Io { file });
        }
        let mut read = vec![0; bytes];
        found.read(offset, &mut read);
        Ok(read)
    }
}

impl SegmentSource for DiskReader<'_> {
    type Error = DiskError;

    fn files(&mut self) -> Result<Vec<SegmentFile>, DiskError> {
        let segments = self
            .disk
            .files
            .iter()
            .filter_map(|(&name, file)| match name {
                FileName::Segment(number) => Some(SegmentFile {
                    number,
                    bytes: file.durable.len() as u64,
                }),
                FileName::Mark => None,
            });
        Ok(segments.collect())
    }

    fn read(&mut self, file: FileNumber, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let file = FileName::Segment(file);
        let found = self.disk.files.get(&file).ok_or(DiskError::Io { file })?;
        let offset = usize::try_from(offset).expect("a segment fits the memory");
        match self.reads {
            Reads::Durable => into.copy_from_slice(&found.durable[offset..offset + into.len()]),
            Reads::Everything if !self.disk.is_readable(file, offset, into.len()) => {
                return Err(DiskError::Io { file });
            }
            Reads::Everything => found.read(offset, into),
        }
        Ok(())
    }

    fn marks(&mut self) -> Result<[Option<Box<[u8]>>; 2], DiskError> {
        let Some(file) = self.disk.files.get(&FileName::Mark) else {
            return Ok([None, None]);
        };
        Ok(MarkSlot::BOTH.map(|slot| {
            let mut block = vec![0; BLOCK_BYTES];
            let offset = usize::try_from(slot.offset()).expect("a mark file is small");
            file.read(offset, &mut block);
            Some(block.into_boxed_slice())
        }))
    }
}
