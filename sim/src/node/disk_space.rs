//! How a node watches how full its disk is, and keeps a reserve on it.

use metastore_engine::{DiskSpace, Input, Time};

use super::{Machine, Node};

impl Node {
    /// Looks at the disk, tells the core what has changed, and lets the reserve grow.
    pub(super) fn watch_disk(&mut self, now: Time, machine: &mut Machine<'_>) {
        let low_bytes = self.config.disk_low_bytes;
        if low_bytes == 0 {
            return;
        }
        let disk = &mut *machine.disk;
        let wanted_bytes = self.core.snapshot_bytes_max();
        let missing_bytes = wanted_bytes.saturating_sub(disk.reserve_bytes());
        if missing_bytes > 0 && disk.free_bytes() >= missing_bytes + low_bytes {
            disk.set_reserve(wanted_bytes);
        }
        // What the reserve lacks counts as taken, and what was refused is taken again only well above the limit.
        let missing_bytes = wanted_bytes.saturating_sub(disk.reserve_bytes());
        let free_bytes = disk.free_bytes().saturating_sub(missing_bytes);
        let limit_bytes = match self.is_disk_low {
            false => low_bytes,
            true => low_bytes + low_bytes / 4,
        };
        let is_low = free_bytes < limit_bytes;
        if is_low != self.is_disk_low {
            self.is_disk_low = is_low;
            self.counters.low_disks += u64::from(is_low);
            let space = match is_low {
                false => DiskSpace::Enough,
                true => DiskSpace::Low {
                    free_bytes,
                    low_bytes,
                },
            };
            self.step(now, Input::DiskSpace(space), machine);
        }
    }
}
