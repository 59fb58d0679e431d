//! The files of a log, cut out of one input.

use std::collections::BTreeMap;
use std::convert::Infallible;

use crate::format::{BLOCK_BYTES, round_up_to_blocks};
use crate::ids::FileNumber;
use crate::log::SegmentFile;
use crate::recovery::{MarkBlocks, SegmentSource};

/// What stands in front of a segment's bytes: the number of its file, and their length.
pub(super) const SEGMENT_HEAD_BYTES: usize = 16;

/// Where the segments begin.
pub(super) const MARKS_BYTES: usize = 2 * BLOCK_BYTES;

/// Files in memory, borrowed from an input. What a segment has used is followed by zeros up to a whole block.
pub(super) struct Source<'a> {
    marks: &'a [u8],
    files: BTreeMap<FileNumber, &'a [u8]>,
}

impl<'a> Source<'a> {
    /// Whatever the input is, there is something to read: a length that is too long takes what is left.
    pub(super) fn parse(data: &'a [u8]) -> Source<'a> {
        let (marks, mut rest) = data.split_at(data.len().min(MARKS_BYTES));
        let mut files = BTreeMap::new();
        while let Some((head, behind)) = rest.split_first_chunk::<SEGMENT_HEAD_BYTES>() {
            let (number, used) = split_head(head);
            let used = usize::try_from(used).unwrap_or(usize::MAX);
            let (content, behind) = behind.split_at(used.min(behind.len()));
            // A directory has one file of a name.
            files.entry(FileNumber(number)).or_insert(content);
            rest = behind;
        }
        Source { marks, files }
    }
}

/// The number and the length of a segment.
pub(super) fn split_head(head: &[u8; SEGMENT_HEAD_BYTES]) -> (u64, u64) {
    let (number, used) = head.split_at(8);
    let field = |bytes: &[u8]| {
        let mut field = [0; 8];
        field.copy_from_slice(bytes);
        u64::from_le_bytes(field)
    };
    (field(number), field(used))
}

impl SegmentSource for Source<'_> {
    type Error = Infallible;

    fn files(&mut self) -> Result<Vec<SegmentFile>, Infallible> {
        let files = self.files.iter();
        Ok(files
            .map(|(&number, content)| SegmentFile {
                number,
                bytes: round_up_to_blocks(content.len()) as u64,
            })
            .collect())
    }

    fn read(&mut self, file: FileNumber, offset: u64, into: &mut [u8]) -> Result<(), Infallible> {
        let content = self.files[&file];
        let offset = usize::try_from(offset).expect("a file in memory has no such offset");
        let there = content.get(offset..).unwrap_or(&[]);
        let (front, zeros) = into.split_at_mut(there.len().min(into.len()));
        front.copy_from_slice(&there[..front.len()]);
        zeros.fill(0);
        Ok(())
    }

    fn marks(&mut self) -> Result<MarkBlocks, Infallible> {
        let block = |index: usize| {
            let block = self
                .marks
                .get(index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES);
            block.map(Box::from)
        };
        Ok([block(0), block(1)])
    }
}
