//! The log's segments: made ahead of their use, and removed after it, on threads that may block.

use std::rc::Rc;
use std::time::Duration;

use glommio::timer::Timer;
use metastore_engine::Input;
use metastore_wal::FileNumber;
use metastore_wal::device::{self, FileRef, Pace};

use super::Driver;
use crate::log;
use crate::node::halt::halt;

/// How long to wait before a segment is tried again after the disk had no room for it.
const PREPARE_RETRY: Duration = Duration::from_secs(1);
/// Segments are filled no faster than this while clients are answered, unless the next one is urgent.
const PREPARE_BYTES_PER_SECOND_MAX: u64 = 256 << 20;

impl Driver {
    /// The first segments hold up the start, later ones must not hold up the log.
    fn preparation_pace(&self) -> Pace {
        match self.is_ready() {
            true => Pace::limited(PREPARE_BYTES_PER_SECOND_MAX, self.background_pause.clone())
                .hurried_by(self.segment_hurry.clone()),
            false => Pace::unlimited(),
        }
    }

    /// Whether the cut of the recovery waits for a segment: nothing can be answered before it is written.
    fn waits_for_first_segment(&self) -> bool {
        let core = self.core.borrow();
        !core.has_begun() && core.is_log_stalled()
    }

    /// Makes a segment on a thread that may block, and tells the core when it is there.
    pub(super) async fn prepare_segment(self: Rc<Self>, file: FileNumber, bytes: u64) {
        let mut is_told = false;
        loop {
            let directory = self.log_directory.clone();
            let pace = self.preparation_pace();
            let prepared = glommio::executor()
                .spawn_blocking(move || device::prepare_segment(&directory, file, bytes, &pace))
                .await;
            match prepared {
                Ok(opened) => {
                    let name = FileRef::Segment(file);
                    let added = self.ring.borrow_mut().add_file(name, opened);
                    if let Err(error) = added {
                        halt(&format!("a new log segment cannot be used: {error}"));
                    }
                    self.step(Input::SegmentPrepared { file });
                    self.turn_wanted.set();
                    return;
                }
                // What is kept for bad times is for this too.
                Err(error)
                    if error.is_no_space()
                        && self.waits_for_first_segment()
                        && self.disk.give_up_reserve().is_ok_and(|held| held) => {}
                Err(error) if error.is_no_space() => {
                    // Once for each segment: a disk stays full for long.
                    if !is_told {
                        log::warning!(
                            "no room for a log segment; trying again until there is",
                            core = self.facts.hello.core_index,
                            bytes = bytes,
                            error = log::text(&error),
                        );
                        is_told = true;
                    }
                    Timer::new(PREPARE_RETRY).await;
                }
                Err(error) => halt(&format!("a log segment cannot be prepared: {error}")),
            }
        }
    }

    /// Removes a segment that the log has given up.
    pub(super) async fn remove_segment(self: Rc<Self>, file: FileNumber) {
        let forgotten = self.ring.borrow_mut().remove_file(FileRef::Segment(file));
        if let Err(error) = forgotten {
            halt(&format!("a log segment cannot be given up: {error}"));
        }
        let directory = self.log_directory.clone();
        let removed = glommio::executor()
            .spawn_blocking(move || device::remove_segment(&directory, file))
            .await;
        if let Err(error) = removed {
            halt(&format!("a log segment cannot be removed: {error}"));
        }
        self.step(Input::SegmentRemoved { file });
        self.turn_wanted.set();
    }
}
