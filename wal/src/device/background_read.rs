//! Reading a part of a file while the log is written. Everything here blocks.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::error::{Deed, DeviceError, Errno};
use crate::buffer::LogBuffer;
use crate::format::{BLOCK_BYTES, round_up_to_blocks};

/// Reads `bytes` bytes of a file from `offset` on, which is whole blocks.
///
/// It reads past the page cache: what a ring has written is there, and what is read once for others does not push
/// anything out.
///
/// # Errors
/// When the file cannot be read, or ends before.
pub fn read_in_background(
    path: &Path,
    offset: u64,
    bytes: usize,
) -> Result<LogBuffer, DeviceError> {
    assert!(
        offset.is_multiple_of(BLOCK_BYTES as u64),
        "direct I/O is done in whole blocks"
    );
    let deed = Deed::Read { offset };
    let failed = |error: io::Error| DeviceError::file(deed, path, &error);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .map_err(|error| DeviceError::file(Deed::Open, path, &error))?;
    let mut buffer = LogBuffer::new(0, round_up_to_blocks(bytes));
    buffer.extend_with_zeros(bytes);
    let memory = buffer.memory_mut();
    let mut read = 0;
    while read < bytes {
        match file.read_at(&mut memory[read..], offset + read as u64) {
            Ok(count)
                if count > 0 && (count.is_multiple_of(BLOCK_BYTES) || read + count >= bytes) =>
            {
                read += count;
            }
            // In the middle of a block a file ends.
            Ok(_) => {
                return Err(DeviceError::File {
                    deed,
                    path: path.to_owned(),
                    errno: Errno(libc::ENODATA),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::test_directory::TestDirectory;
    use super::*;

    #[test]
    fn a_part_of_a_file_is_read_up_to_its_end_and_not_beyond() {
        let directory = TestDirectory::new("background_read");
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..10_000_u32).map(|number| number as u8).collect();
        fs::write(&path, &content).expect("it can be written");
        let read = |offset, bytes| read_in_background(&path, offset, bytes);
        for (offset, bytes) in [
            (0, 4096),
            (4096, 5904),
            (8192, 1808),
            (0, 10_000),
            (8192, 1),
        ] {
            let buffer = read(offset, bytes).expect("it is there");
            let start = offset as usize;
            assert_eq!(
                buffer.as_slice(),
                &content[start..start + bytes],
                "{offset}"
            );
        }
        for (offset, bytes) in [(8192, 1809), (0, 10_001), (12_288, 1)] {
            let error = read(offset, bytes).expect_err("the file is shorter");
            assert!(error.to_string().contains("file"), "{error}");
        }
        let gone = read_in_background(&directory.path().join("gone"), 0, 1);
        assert!(
            gone.expect_err("it is not there")
                .to_string()
                .contains("gone")
        );
    }
}
