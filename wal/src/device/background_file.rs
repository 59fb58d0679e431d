//! A file that is written beside the log and must not get in its way: in small direct writes, at a limited rate.
//! Everything here blocks.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::directory::{checked_alignment, open_direct, sync_directory};
use super::error::{Deed, DeviceError};
use super::pace::Pace;
use crate::buffer::LogBuffer;
use crate::format::{BLOCK_BYTES, round_up_to_blocks};

/// How much is written at a time. The log's own write waits for no more than this.
const WRITE_BYTES: usize = 256 * 1024;

/// How far a file may fall behind its rate and still catch up: after a longer pause it goes on at its rate.
const CATCH_UP_MAX: Duration = Duration::from_millis(100);

/// A file on its way to its name.
///
/// It is written past the page cache, so that the device is busy with a little of it at a time and no flush ever has
/// much to do. Until [`BackgroundFile::finish`] it has another name, under which a crash may leave it in any state; the
/// name that it gets then stands for a file that is complete and durable.
#[derive(Debug)]
pub struct BackgroundFile {
    path: PathBuf,
    file: File,
    buffer: LogBuffer,
    /// Since when the rate counts, and what has been written since.
    paced_since: Instant,
    paced_bytes: u64,
}

impl BackgroundFile {
    /// Begins the file at `path`; what is there is replaced.
    ///
    /// # Errors
    /// When it cannot be made, or its file system has no direct I/O.
    pub fn create(path: &Path) -> Result<Self, DeviceError> {
        let file = open_direct(path, OpenOptions::new().create(true).truncate(true))?;
        checked_alignment(path, &file)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            buffer: LogBuffer::new(0, WRITE_BYTES),
            paced_since: Instant::now(),
            paced_bytes: 0,
        })
    }

    /// Writes `bytes` at `offset`, which is whole blocks. Bytes that end within a block are the last of the file, and
    /// are followed by zeros until it is finished.
    ///
    /// # Errors
    /// When it cannot be written; [`DeviceError::is_no_space`] when the disk is full.
    pub fn write(&mut self, offset: u64, bytes: &[u8], pace: &Pace) -> Result<(), DeviceError> {
        assert!(
            offset.is_multiple_of(BLOCK_BYTES as u64),
            "direct I/O is done in whole blocks"
        );
        for (piece, offset) in bytes
            .chunks(WRITE_BYTES)
            .zip((offset..).step_by(WRITE_BYTES))
        {
            self.wait(pace);
            self.buffer.clear();
            self.buffer.extend_from_slice(piece);
            self.buffer
                .extend_with_zeros(round_up_to_blocks(piece.len()));
            self.file
                .write_all_at(self.buffer.as_slice(), offset)
                .map_err(|error| DeviceError::file(Deed::Write { offset }, &self.path, &error))?;
            self.paced_bytes += piece.len() as u64;
        }
        Ok(())
    }

    /// Makes the file durable, `bytes` long, and gives it its name, durably too: in this order, so that the name never
    /// stands for half a file.
    ///
    /// # Errors
    /// When a step fails. Under which name the file is then, only a look at the directory can tell.
    pub fn finish(self, bytes: u64, name: &Path) -> Result<(), DeviceError> {
        let sync = |error| DeviceError::file(Deed::Sync, &self.path, &error);
        self.file.set_len(bytes).map_err(sync)?;
        self.file.sync_all().map_err(sync)?;
        fs::rename(&self.path, name)
            .map_err(|error| DeviceError::file(Deed::Rename, &self.path, &error))?;
        sync_directory(name.parent().unwrap_or(Path::new(".")))
    }

    fn wait(&mut self, pace: &Pace) {
        let behind = pace.behind(self.paced_bytes, self.paced_since.elapsed());
        if behind > CATCH_UP_MAX {
            self.paced_since = Instant::now();
            self.paced_bytes = 0;
        }
        pace.wait(self.paced_bytes, self.paced_since);
    }
}

/// Removes a file and makes that durable. A file that is not there is removed already.
///
/// # Errors
/// When it cannot be removed, or its directory cannot be flushed.
pub fn remove_file(path: &Path) -> Result<(), DeviceError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path.parent().unwrap_or(Path::new("."))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DeviceError::file(Deed::Remove, path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_directory::TestDirectory;
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn a_finished_file_holds_what_was_written_to_the_byte() {
        for length in [
            1,
            4095,
            4096,
            4097,
            WRITE_BYTES - 1,
            WRITE_BYTES,
            3 * WRITE_BYTES + 5,
        ] {
            let directory = TestDirectory::new(&format!("a_finished_file-{length}"));
            let (path, name) = (directory.path().join("a.tmp"), directory.path().join("a"));
            // Of an earlier attempt that was longer.
            fs::write(&path, vec![7; 5 * WRITE_BYTES]).expect("it can be written");
            let content = bytes(length);
            let mut file = BackgroundFile::create(&path).expect("it is made");
            let cut = length / 2 / BLOCK_BYTES * BLOCK_BYTES;
            let pace = Pace::unlimited();
            file.write(0, &content[..cut], &pace)
                .expect("it is written");
            file.write(cut as u64, &content[cut..], &pace)
                .expect("it is written");
            assert!(!name.exists(), "it has no name before it is finished");
            file.finish(length as u64, &name).expect("it is finished");
            assert!(!path.exists());
            assert_eq!(fs::read(&name).expect("it is there"), content);
        }
    }

    #[test]
    fn it_keeps_to_its_rate_and_does_not_make_up_for_a_pause() {
        let directory = TestDirectory::new("it_keeps_to_its_rate");
        let mut file = BackgroundFile::create(&directory.path().join("a.tmp")).expect("it is made");
        let pace = Pace::limited(4 << 20, super::super::Switch::default());
        std::thread::sleep(CATCH_UP_MAX * 2);
        let began = Instant::now();
        file.write(0, &bytes(4 * WRITE_BYTES), &pace)
            .expect("it is written");
        // The last of four pieces begins when the three before it are due: 768 KiB at 4 MiB a second.
        assert!(
            began.elapsed() >= Duration::from_millis(187),
            "{:?}",
            began.elapsed()
        );
    }

    #[test]
    fn a_file_that_is_gone_is_removed() {
        let directory = TestDirectory::new("a_file_that_is_gone");
        let path = directory.path().join("a");
        fs::write(&path, "x").expect("it can be written");
        remove_file(&path).expect("it is removed");
        assert!(!path.exists());
        remove_file(&path).expect("it is removed already");
    }
}
