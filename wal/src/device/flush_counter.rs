//! How many flushes a disk has carried out: what a tool compares with the flushes that a log claims.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{Deed, DeviceError};
use super::system;

const BLOCK_DEVICES: &str = "/sys/dev/block";

/// The place of the number of completed flushes in a disk's `stat`, counted from 0.
const FLUSHES_FIELD: usize = 15;

/// What a disk says about its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCache {
    /// It has a cache that loses its content with the power: durable writes need flushes, which are counted.
    WriteBack,
    /// What it has acknowledged is durable. The kernel then sends it no flushes, and the count stands still.
    WriteThrough,
}

/// The flush counter of the disk that holds a path.
///
/// Flushes are counted for a whole disk, of all its partitions and users. A durable write that the disk takes with its
/// force-unit-access bit ([`BlockDeviceFlushes::has_forced_writes`]) needs no flush and is not counted.
/// A stacked device (device mapper, md) passes flushes on and may not count them itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDeviceFlushes {
    /// The disk's directory in the kernel's device tree.
    disk: PathBuf,
}

impl BlockDeviceFlushes {
    /// Finds the disk that holds `path`: from a partition one step up.
    ///
    /// # Errors
    /// [`DeviceError::NoBlockDevice`] if the file system does not lie on one block device (tmpfs, overlay, btrfs, network).
    pub fn of(path: &Path) -> Result<Self, DeviceError> {
        let metadata =
            fs::metadata(path).map_err(|error| DeviceError::file(Deed::Inspect, path, &error))?;
        let (major, minor) = system::device_numbers(metadata.dev());
        let no_device = |_| DeviceError::NoBlockDevice {
            path: path.to_owned(),
            major,
            minor,
        };
        let device =
            fs::canonicalize(format!("{BLOCK_DEVICES}/{major}:{minor}")).map_err(no_device)?;
        Ok(Self {
            disk: disk_of(device),
        })
    }

    /// The disk's name, such as `nvme0n1`.
    #[must_use]
    pub fn disk_name(&self) -> String {
        self.disk
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// How many flushes the disk has completed since it appeared.
    ///
    /// # Errors
    /// When the kernel does not say; before Linux 5.5 it did not.
    pub fn completed(&self) -> Result<u64, DeviceError> {
        let path = self.disk.join("stat");
        let flushes = completed_flushes(&read(&path)?);
        flushes.ok_or(DeviceError::Statistics { path })
    }

    /// What the disk says about its cache.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn write_cache(&self) -> Result<WriteCache, DeviceError> {
        let path = self.disk.join("queue/write_cache");
        match read(&path)?.trim() {
            "write back" => Ok(WriteCache::WriteBack),
            "write through" => Ok(WriteCache::WriteThrough),
            _ => Err(DeviceError::Statistics { path }),
        }
    }

    /// Whether the disk can write past its cache: such durable writes are not counted as flushes.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn has_forced_writes(&self) -> Result<bool, DeviceError> {
        let path = self.disk.join("queue/fua");
        match read(&path)?.trim() {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(DeviceError::Statistics { path }),
        }
    }
}

/// The disk of a device: a partition lies in the directory of its disk.
fn disk_of(device: PathBuf) -> PathBuf {
    match device.parent() {
        Some(disk) if device.join("partition").exists() => disk.to_owned(),
        _ => device,
    }
}

fn completed_flushes(stat: &str) -> Option<u64> {
    stat.split_ascii_whitespace()
        .nth(FLUSHES_FIELD)?
        .parse()
        .ok()
}

fn read(path: &Path) -> Result<String, DeviceError> {
    fs::read_to_string(path)
        .map_err(|error| DeviceError::file(Deed::Read { offset: 0 }, path, &error))
}

#[cfg(test)]
mod tests {
    use super::super::test_directory::TestDirectory;
    use super::*;

    #[test]
    fn the_count_is_the_sixteenth_field() {
        let stat = "   83223    24264 10088818    92856     7619    35511  5321288    15419        0    12180   108821     5601       26   357328      541       99        3\n";
        assert_eq!(completed_flushes(stat), Some(99));
        let before_linux_5_5 =
            "83223 24264 10088818 92856 7619 35511 5321288 15419 0 12180 108821 5601 26 357328 541";
        assert_eq!(completed_flushes(before_linux_5_5), None);
    }

    #[test]
    fn a_partition_counts_with_its_disk() {
        let directory = TestDirectory::new("a_partition_counts");
        let disk = directory.path().join("nvme0n1");
        let partition = disk.join("nvme0n1p2");
        fs::create_dir_all(&partition).expect("it can be made");
        fs::write(partition.join("partition"), "2\n").expect("it can be written");
        fs::create_dir_all(disk.join("queue")).expect("it can be made");
        fs::write(
            disk.join("stat"),
            "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n",
        )
        .expect("it can be written");
        fs::write(disk.join("queue/write_cache"), "write back\n").expect("it can be written");
        fs::write(disk.join("queue/fua"), "1\n").expect("it can be written");
        assert_eq!(disk_of(disk.clone()), disk);
        let flushes = BlockDeviceFlushes {
            disk: disk_of(partition),
        };
        assert_eq!(flushes.disk_name(), "nvme0n1");
        assert_eq!(flushes.completed(), Ok(16));
        assert_eq!(flushes.write_cache(), Ok(WriteCache::WriteBack));
        assert_eq!(flushes.has_forced_writes(), Ok(true));
        fs::write(disk.join("queue/write_cache"), "write around\n").expect("it can be written");
        let path = disk.join("queue/write_cache");
        assert_eq!(flushes.write_cache(), Err(DeviceError::Statistics { path }));
    }

    #[test]
    fn what_lies_in_memory_has_no_disk() {
        let error = BlockDeviceFlushes::of(Path::new("/proc")).expect_err("no disk holds it");
        assert!(
            matches!(error, DeviceError::NoBlockDevice { .. }),
            "{error}"
        );
    }
}
