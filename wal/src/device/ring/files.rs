//! The files that a ring writes, in the kernel's table of registered files.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use io_uring::Submitter;

use crate::device::DeviceError;
use crate::device::prepare::{mark_path, open_mark_file, open_segment, segment_path};
use crate::ids::FileNumber;

/// How many files are kept open. Only the newest segments are ever written.
const FILES_MAX: u32 = 64;

/// A file that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Mark,
    Segment(FileNumber),
}

/// Whether a flush of a file is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syncing {
    No,
    Yes,
}

#[derive(Debug)]
struct OpenFile {
    slot: u32,
    last_use: u64,
    /// Writes that are not durable yet.
    writes: usize,
    syncing: Syncing,
    /// The kernel's table keeps the file open as well; this one goes when the slot is given away.
    _file: File,
}

/// Opens files when they are first written, and closes the one not used for longest when the table is full.
#[derive(Debug)]
pub(super) struct FileTable {
    directory: PathBuf,
    files: BTreeMap<Target, OpenFile>,
    uses: u64,
}

impl FileTable {
    pub(super) fn new(submitter: &Submitter<'_>, directory: &Path) -> Result<Self, DeviceError> {
        submitter
            .register_files_sparse(FILES_MAX)
            .map_err(|source| DeviceError::Ring { source })?;
        Ok(Self {
            directory: directory.to_owned(),
            files: BTreeMap::new(),
            uses: 0,
        })
    }

    /// Opens the file if it is not open, and keeps it open until [`Self::end_write`].
    pub(super) fn begin_write(
        &mut self,
        submitter: &Submitter<'_>,
        target: Target,
    ) -> Result<(), DeviceError> {
        if !self.files.contains_key(&target) {
            let file = match target {
                Target::Mark => open_mark_file(&self.directory)?,
                Target::Segment(number) => open_segment(&self.directory, number)?,
            };
            let slot = self.free_slot(submitter)?;
            update_slot(submitter, slot, file.as_raw_fd())?;
            let open = OpenFile {
                slot,
                last_use: 0,
                writes: 0,
                syncing: Syncing::No,
                _file: file,
            };
            self.files.insert(target, open);
        }
        self.uses += 1;
        let last_use = self.uses;
        let file = self.file_mut(target);
        file.last_use = last_use;
        file.writes += 1;
        Ok(())
    }

    /// A write to the file is durable.
    pub(super) fn end_write(&mut self, target: Target) {
        self.file_mut(target).writes -= 1;
    }

    /// Closes a file to which nothing is being written.
    pub(super) fn close(
        &mut self,
        submitter: &Submitter<'_>,
        target: Target,
    ) -> Result<(), DeviceError> {
        let Some(file) = self.files.remove(&target) else {
            return Ok(());
        };
        assert_eq!(file.writes, 0, "a file is closed after its last write");
        update_slot(submitter, file.slot, -1)
    }

    /// The file's place in the kernel's table.
    pub(super) fn slot(&self, target: Target) -> u32 {
        self.files[&target].slot
    }

    pub(super) fn is_syncing(&self, target: Target) -> bool {
        self.files[&target].syncing == Syncing::Yes
    }

    pub(super) fn set_syncing(&mut self, target: Target, syncing: Syncing) {
        self.file_mut(target).syncing = syncing;
    }

    pub(super) fn path(&self, target: Target) -> PathBuf {
        match target {
            Target::Mark => mark_path(&self.directory),
            Target::Segment(number) => segment_path(&self.directory, number),
        }
    }

    fn free_slot(&mut self, submitter: &Submitter<'_>) -> Result<u32, DeviceError> {
        if self.files.len() >= FILES_MAX as usize {
            let idle = self.files.iter().filter(|(_, file)| file.writes == 0);
            let oldest = idle
                .min_by_key(|(_, file)| file.last_use)
                .map(|(&target, _)| target);
            self.close(
                submitter,
                oldest.expect("fewer files are being written than the table holds"),
            )?;
        }
        let is_free = |slot: &u32| self.files.values().all(|file| file.slot != *slot);
        Ok((0..FILES_MAX).find(is_free).expect("a slot was just freed"))
    }

    fn file_mut(&mut self, target: Target) -> &mut OpenFile {
        self.files
            .get_mut(&target)
            .expect("a file with writes is open")
    }
}

/// Puts a descriptor into the kernel's table; -1 empties the place.
fn update_slot(submitter: &Submitter<'_>, slot: u32, descriptor: i32) -> Result<(), DeviceError> {
    let updated = submitter.register_files_update(slot, &[descriptor]);
    updated
        .map(drop)
        .map_err(|source| DeviceError::Ring { source })
}
