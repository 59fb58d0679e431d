//! The files of a core's log that a start finds, and how many there may ever be.

use std::path::{Path, PathBuf};

use metastore_wal::device::{self, FileRef, Ring};
use metastore_wal::{FileNumber, LogOptions};

use super::StartError;

/// The marks and every segment of full length: the log may write into any of them that it finds fit to be used again.
pub(crate) struct LogFiles {
    directory: PathBuf,
    segments: Vec<FileNumber>,
}

impl LogFiles {
    /// Looks through a core's directory.
    pub(crate) fn find(directory: &Path, segment_bytes: u64) -> Result<LogFiles, StartError> {
        let failed = |source| StartError::File {
            path: directory.to_owned(),
            source,
        };
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(device::segment_number) else {
                continue;
            };
            // A shorter file is half prepared: it is filled again and registered then.
            if entry.metadata().map_err(failed)?.len() == segment_bytes {
                segments.push(number);
            }
        }
        Ok(LogFiles {
            directory: directory.to_owned(),
            segments,
        })
    }

    /// How many files the ring must have room for at a time: what the budget allows, or what is there when the budget
    /// was larger before; the segment that a start may begin beyond both; spares; and the marks.
    pub(super) fn count_max(&self, options: &LogOptions) -> u32 {
        let segments = options.segments_max().max(self.segments.len());
        u32::try_from(segments + options.spare_segments + 2)
            .expect("the number of segments is limited")
    }

    /// How many segments there are.
    pub(crate) fn count(&self) -> usize {
        self.segments.len()
    }

    /// Opens all of them for the ring.
    pub(crate) fn register(&self, ring: &mut Ring) -> Result<(), StartError> {
        ring.add_file(FileRef::Mark, device::open_marks(&self.directory)?)?;
        for &number in &self.segments {
            let path = device::segment_path(&self.directory, number);
            ring.add_file(FileRef::Segment(number), device::open_segment(&path)?)?;
        }
        Ok(())
    }
}
