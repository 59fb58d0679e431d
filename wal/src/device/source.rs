//! The files of a core's directory as recovery reads them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::DeviceError;
use super::prepare::{mark_path, segment_number, segment_path, sync_directory};
use crate::format::{BLOCK_BYTES, MarkSlot};
use crate::ids::FileNumber;
use crate::log::SegmentFile;
use crate::recovery::{MarkBlocks, SegmentSource};

/// Reads the segments and marks of one directory. It writes nothing, but flushes everything before the first read:
/// what a killed process wrote last may be readable and yet sit in the device's cache only.
#[derive(Debug)]
pub struct DirectorySource {
    directory: PathBuf,
    segments: BTreeMap<FileNumber, File>,
    mark: Option<File>,
}

impl DirectorySource {
    /// Opens and flushes every segment and the mark file of `directory`. Other files are none of its business.
    ///
    /// # Errors
    /// Says what failed.
    pub fn open(directory: &Path) -> Result<Self, DeviceError> {
        let directory_error = |source| DeviceError::Path {
            path: directory.to_owned(),
            source,
        };
        let mut segments = BTreeMap::new();
        for entry in std::fs::read_dir(directory).map_err(directory_error)? {
            let name = entry.map_err(directory_error)?.file_name();
            if let Some(number) = name.to_str().and_then(segment_number) {
                let path = segment_path(directory, number);
                segments.insert(
                    number,
                    open_flushed(&path).map_err(|source| DeviceError::Path { path, source })?,
                );
            }
        }
        let path = mark_path(directory);
        let mark = match open_flushed(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(DeviceError::Path { path, source }),
        };
        sync_directory(directory).map_err(directory_error)?;
        Ok(Self {
            directory: directory.to_owned(),
            segments,
            mark,
        })
    }
}

impl SegmentSource for DirectorySource {
    type Error = DeviceError;

    fn files(&mut self) -> Result<Vec<SegmentFile>, DeviceError> {
        let length = |(&number, file): (&FileNumber, &File)| match file.metadata() {
            Ok(metadata) => Ok(SegmentFile {
                number,
                bytes: metadata.len(),
            }),
            Err(source) => Err(DeviceError::Path {
                path: segment_path(&self.directory, number),
                source,
            }),
        };
        self.segments.iter().map(length).collect()
    }

    fn read(&mut self, file: FileNumber, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let opened = self.segments.get(&file).ok_or(io::ErrorKind::NotFound);
        let read = opened
            .map_err(io::Error::from)
            .and_then(|opened| opened.read_exact_at(into, offset));
        read.map_err(|source| DeviceError::Read {
            file,
            offset,
            source,
        })
    }

    fn marks(&mut self) -> Result<MarkBlocks, DeviceError> {
        let mut blocks = [None, None];
        let Some(file) = &self.mark else {
            return Ok(blocks);
        };
        for (slot, block) in MarkSlot::BOTH.into_iter().zip(&mut blocks) {
            let mut bytes = vec![0; BLOCK_BYTES].into_boxed_slice();
            match file.read_exact_at(&mut bytes, slot.offset()) {
                Ok(()) => *block = Some(bytes),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(source) => {
                    return Err(DeviceError::Path {
                        path: mark_path(&self.directory),
                        source,
                    });
                }
            }
        }
        Ok(blocks)
    }
}

fn open_flushed(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    file.sync_data()?;
    Ok(file)
}
