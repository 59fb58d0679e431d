//! A disk that others fill: a file system of its own on a loop device, and a foreign program's files on it.
//!
//! It is mounted inside of a [room](crate::room), which takes it away.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use metastore_wal::device::{DeviceError, DiskReserve, FileSystemSpace};
use thiserror::Error;

/// As small as a store may have it without being short of room all the time.
const DISK_BYTES: u64 = 256 << 20;
/// The first piece that the foreign program takes, and the smallest, one block.
const PIECE_BYTES_MAX: u64 = 64 << 20;
const PIECE_BYTES_MIN: u64 = 4 << 10;
/// How many pieces it takes at one time: a store that gives room back meanwhile does not keep it busy for ever.
const PIECES_MAX: usize = 1_000;

/// Why there is no such disk, or it does not do what it should.
#[derive(Debug, Error)]
pub(crate) enum DiskError {
    /// A tool does not run.
    #[error("{tool}: {source}")]
    Tool {
        /// Which one.
        tool: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A tool failed.
    #[error("{tool}: {said}")]
    Refused {
        /// Which one.
        tool: &'static str,
        /// What it said.
        said: String,
    },
    /// A file of this program.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system does not answer.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// It is not full after all that.
    #[error("{free_bytes} bytes are still free")]
    NotFull {
        /// What is free.
        free_bytes: u64,
    },
}

/// The disk, mounted.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    at: PathBuf,
    pieces: Vec<DiskReserve>,
    next_piece: u64,
}

/// Where the image of the disk is while it is being made, beside where it will be mounted.
pub(crate) fn image_path(directory: &Path) -> PathBuf {
    directory.join("full-disk.img")
}

/// Where the disk is mounted.
pub(crate) fn mount_path(directory: &Path) -> PathBuf {
    directory.join("full-disk")
}

impl SmallDisk {
    /// Makes a file system of which nothing is kept for root, and mounts it.
    pub(crate) fn mount(directory: &Path) -> Result<SmallDisk, DiskError> {
        let (image, at) = (image_path(directory), mount_path(directory));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::File { path, source }
        };
        fs::create_dir_all(&at).map_err(failed(&at))?;
        let made = File::create(&image).and_then(|file| file.set_len(DISK_BYTES));
        let mounted = made.map_err(failed(&image)).and_then(|()| {
            let options = ["-q", "-F", "-m", "0"].map(Path::new);
            run("mkfs.ext4", options.into_iter().chain([image.as_path()]))?;
            run("mount", [Path::new("-oloop"), &image, &at])
        });
        // The loop device holds the file from here on; without a name it goes with the device.
        fs::remove_file(&image).map_err(failed(&image))?;
        mounted?;
        let disk = SmallDisk {
            pieces: Vec::new(),
            next_piece: 0,
            at,
        };
        let foreign = disk.foreign();
        fs::create_dir(&foreign).map_err(failed(&foreign))?;
        Ok(disk)
    }

    /// Where a store's data belong.
    pub(crate) fn data(&self) -> PathBuf {
        self.at.join("store")
    }

    /// Where it is mounted.
    #[allow(dead_code, reason = "each program uses a part of it")]
    pub(crate) fn mounted_at(&self) -> &Path {
        &self.at
    }

    /// Takes it away before the room is: nobody may use it any more.
    #[allow(dead_code, reason = "each program uses a part of it")]
    pub(crate) fn unmount(&mut self) -> Result<(), DiskError> {
        self.free()?;
        run("umount", [self.at.as_path()])
    }

    fn foreign(&self) -> PathBuf {
        self.at.join("foreign")
    }

    /// What is free, and what there is, in bytes.
    pub(crate) fn space(&self) -> Result<FileSystemSpace, DiskError> {
        Ok(FileSystemSpace::of(&self.at)?)
    }

    /// Takes every free byte.
    pub(crate) fn fill(&mut self) -> Result<(), DiskError> {
        let mut piece_bytes = PIECE_BYTES_MAX;
        for _ in 0..PIECES_MAX {
            let free_bytes = self.space()?.free_bytes;
            if free_bytes == 0 {
                return Ok(());
            }
            let path = self.foreign().join(self.next_piece.to_string());
            self.next_piece += 1;
            let mut piece = DiskReserve::at(path);
            piece_bytes = piece_bytes.min(free_bytes).max(PIECE_BYTES_MIN);
            if piece.grow(piece_bytes).is_err() {
                // Between the two looks somebody else took it, or the file system needs some for itself.
                piece_bytes /= 2;
            }
            // What failed may have taken a part.
            self.pieces.push(piece);
        }
        let free_bytes = self.space()?.free_bytes;
        Err(DiskError::NotFull { free_bytes })
    }

    /// Gives everything back that was taken.
    pub(crate) fn free(&mut self) -> Result<(), DiskError> {
        while let Some(mut piece) = self.pieces.pop() {
            piece.give_up()?;
        }
        Ok(())
    }
}

fn run<'a>(
    tool: &'static str,
    arguments: impl IntoIterator<Item = &'a Path>,
) -> Result<(), DiskError> {
    let ran = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| DiskError::Tool { tool, source })?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
    Err(DiskError::Refused { tool, said })
}
