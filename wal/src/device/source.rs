//! The files of a directory as recovery reads them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::directory::{mark_path, segment_number, segment_path, sync_directory};
use super::error::{Deed, DeviceError, Errno};
use super::system;
use crate::format::{BLOCK_BYTES, MarkSlot};
use crate::ids::FileNumber;
use crate::log::SegmentFile;
use crate::recovery::SegmentSource;

/// A read of so many bytes is one of a file that is read from its beginning to its end.
const READ_ON_BYTES: usize = 1 << 20;
/// How far ahead of such a reader the device is put to work.
const READ_AHEAD_BYTES: u64 = 4 << 20;

/// The segments and marks of a directory, flushed to the device before anything is read.
///
/// The flush matters. After a killed process its last writes can be read, but may sit only in the device's cache; if
/// recovery believed in them and the power failed, they would be gone. Reads are buffered, and the page cache is emptied
/// of these files first, so that they come from the device.
///
/// A read that the device refuses is an error with file and offset, never a gap to be skipped: what lies there may
/// have been acknowledged.
#[derive(Debug)]
pub struct DirectorySource {
    directory: PathBuf,
    segments: BTreeMap<FileNumber, Segment>,
    marks: Option<File>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    bytes: u64,
}

impl DirectorySource {
    /// Opens and flushes every segment, the marks and the directory. Files of other names are left alone; a directory
    /// without marks or segments is not an error here.
    ///
    /// # Errors
    /// When the directory cannot be listed, or a file cannot be opened or flushed. After a failed flush the process
    /// must end.
    pub fn open(directory: &Path) -> Result<Self, DeviceError> {
        let list = |error| DeviceError::file(Deed::List, directory, &error);
        let mut segments = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(list)? {
            let name = entry.map_err(list)?.file_name();
            let Some(number) = name.to_str().and_then(segment_number) else {
                continue;
            };
            let path = directory.join(&name);
            let file =
                File::open(&path).map_err(|error| DeviceError::file(Deed::Open, &path, &error))?;
            let bytes = file
                .metadata()
                .map_err(|error| DeviceError::file(Deed::Inspect, &path, &error))?
                .len();
            flush(&path, &file)?;
            segments.insert(number, Segment { file, bytes });
        }
        let path = mark_path(directory);
        let marks = match File::open(&path) {
            Ok(file) => {
                flush(&path, &file)?;
                Some(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(DeviceError::file(Deed::Open, &path, &error)),
        };
        sync_directory(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            segments,
            marks,
        })
    }

    /// Whether there is a mark file. Without one, this directory was never formatted, or has lost it.
    #[must_use]
    pub fn has_marks(&self) -> bool {
        self.marks.is_some()
    }

    fn read_mark(&self, slot: MarkSlot) -> Result<Option<Box<[u8]>>, DeviceError> {
        let Some(file) = &self.marks else {
            return Ok(None);
        };
        let offset = slot.offset();
        let mut block = vec![0; BLOCK_BYTES].into_boxed_slice();
        match file.read_exact_at(&mut block, offset) {
            Ok(()) => Ok(Some(block)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(DeviceError::file(
                Deed::Read { offset },
                &mark_path(&self.directory),
                &error,
            )),
        }
    }
}

impl SegmentSource for DirectorySource {
    type Error = DeviceError;

    fn files(&mut self) -> Result<Vec<SegmentFile>, DeviceError> {
        let files = self.segments.iter();
        Ok(files
            .map(|(&number, segment)| SegmentFile {
                number,
                bytes: segment.bytes,
            })
            .collect())
    }

    fn read(&mut self, file: FileNumber, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let path = segment_path(&self.directory, file);
        let deed = Deed::Read { offset };
        let Some(segment) = self.segments.get(&file) else {
            return Err(DeviceError::File {
                deed,
                path,
                errno: Errno(libc::ENOENT),
            });
        };
        segment
            .file
            .read_exact_at(into, offset)
            .map_err(|error| DeviceError::file(deed, &path, &error))?;
        // Whoever reads so much reads on: the device works while it is taken in.
        if into.len() >= READ_ON_BYTES {
            let next = offset + into.len() as u64;
            system::read_ahead(&segment.file, next, READ_AHEAD_BYTES);
        }
        Ok(())
    }

    fn marks(&mut self) -> Result<[Option<Box<[u8]>>; 2], DeviceError> {
        let [first, second] = MarkSlot::BOTH;
        Ok([self.read_mark(first)?, self.read_mark(second)?])
    }
}

/// Makes what the file shows durable, and has later reads come from the device.
fn flush(path: &Path, file: &File) -> Result<(), DeviceError> {
    file.sync_data()
        .map_err(|error| DeviceError::file(Deed::Sync, path, &error))?;
    system::forget_cached(file).map_err(|error| DeviceError::file(Deed::Inspect, path, &error))
}

#[cfg(test)]
mod tests {
    use super::super::test_directory::TestDirectory;
    use super::*;

    #[test]
    fn it_shows_segments_and_marks_and_nothing_else() {
        let directory = TestDirectory::new("it_shows_segments");
        let path = directory.path();
        fs::write(segment_path(path, FileNumber(7)), [7; 5000]).expect("it can be written");
        fs::write(segment_path(path, FileNumber(12)), [12; 8192]).expect("it can be written");
        fs::write(path.join("log-7.seg.old"), [0; 10]).expect("it can be written");
        fs::write(mark_path(path), [3; 4096 + 100]).expect("it can be written");
        let mut source = DirectorySource::open(path).expect("it opens");
        let files = source.files().expect("they are known");
        let expected = [(7, 5000), (12, 8192)];
        assert_eq!(
            files,
            expected.map(|(number, bytes)| SegmentFile {
                number: FileNumber(number),
                bytes
            })
        );
        let mut bytes = [0; 100];
        source
            .read(FileNumber(12), 8092, &mut bytes)
            .expect("it can be read");
        assert_eq!(bytes, [12; 100]);
        let [first, second] = source.marks().expect("they can be read");
        assert_eq!(
            (first.as_deref(), second),
            (Some(&[3; 4096][..]), None),
            "half a block is none"
        );
        assert!(source.has_marks());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let directory = TestDirectory::new("what_cannot_be_read");
        let path = segment_path(directory.path(), FileNumber(7));
        fs::write(&path, [7; 5000]).expect("it can be written");
        let mut source = DirectorySource::open(directory.path()).expect("it opens");
        assert!(!source.has_marks());
        assert_eq!(source.marks(), Ok([None, None]));
        let deed = Deed::Read { offset: 4096 };
        let error = source
            .read(FileNumber(7), 4096, &mut [0; 4096])
            .expect_err("the file ends before");
        assert_eq!(
            error,
            DeviceError::File {
                deed,
                path,
                errno: Errno(libc::EIO)
            }
        );
        let error = source
            .read(FileNumber(8), 4096, &mut [0; 1])
            .expect_err("there is no such file");
        assert!(error.to_string().contains("log-8.seg"), "{error}");
    }
}
