//! Disks of nodes that have one of their own: a small file system on a loop device, which others fill, or which takes
//! nothing for a while.
//!
//! `fsfreeze` holds up whoever writes, in the kernel, until the file system is thawed: for seconds, which is a disk that
//! hangs; or for milliseconds, again and again, which is a slow one. The program that is tested needs no code for it.
//!
//! A file system that stays frozen cannot be unmounted, and who writes to it cannot be killed. So nothing is frozen without a
//! [`guard`] outside, and what is frozen stands in a file for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::guard;
use crate::small_disk::{DiskError, SmallDisk};
use crate::stopwatch::Stopwatch;

/// The disks of a round. Dropped, they are well again and gone.
pub(crate) struct Disks {
    /// Where the guard looks for what is frozen.
    notes: PathBuf,
    disks: BTreeMap<u32, NodeDisk>,
}

struct NodeDisk {
    disk: SmallDisk,
    frost: Option<Frost>,
}

/// How a disk is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// For how long it takes nothing.
    pub(crate) frozen: Duration,
    /// For how long it takes something again; then it freezes anew.
    pub(crate) thawed: Duration,
}

/// A disk that freezes and thaws, until this is dropped.
struct Frost {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How soon a disk thaws when it is to.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Disks {
    /// Makes a disk for each of these nodes, below a directory.
    pub(crate) fn mount(
        directory: &Path,
        notes: PathBuf,
        nodes: &[u32],
    ) -> Result<Disks, DiskError> {
        let mut disks = BTreeMap::new();
        for &node in nodes {
            let disk = SmallDisk::mount(&place_of(directory, node))?;
            disks.insert(node, NodeDisk { disk, frost: None });
        }
        Ok(Disks { notes, disks })
    }

    /// Where the data of each node lies that has a disk.
    pub(crate) fn data(&self) -> BTreeMap<u32, PathBuf> {
        let disks = self.disks.iter();
        disks.map(|(&node, own)| (node, own.disk.data())).collect()
    }

    /// The nodes that have one.
    pub(crate) fn nodes(&self) -> Vec<u32> {
        self.disks.keys().copied().collect()
    }

    /// Takes every free byte of a disk.
    pub(crate) fn fill(&mut self, node: u32) -> Result<(), DiskError> {
        self.disks
            .get_mut(&node)
            .map_or(Ok(()), |own| own.disk.fill())
    }

    /// Gives it back.
    pub(crate) fn free(&mut self, node: u32) -> Result<(), DiskError> {
        self.disks
            .get_mut(&node)
            .map_or(Ok(()), |own| own.disk.free())
    }

    /// Freezes a disk, again and again, until it is thawed.
    pub(crate) fn freeze(&mut self, node: u32, pulse: Pulse) {
        if let Some(own) = self.disks.get_mut(&node) {
            own.frost = None;
            own.frost = Some(Frost::begin(
                self.notes.clone(),
                own.disk.mounted_at().to_owned(),
                pulse,
            ));
        }
    }

    /// A disk takes everything again. Who writes to it cannot be killed before.
    pub(crate) fn thaw(&mut self, node: u32) {
        if let Some(own) = self.disks.get_mut(&node) {
            own.frost = None;
        }
    }

    /// Copies what lies on the disks beside them, because they go with this process.
    pub(crate) fn keep(&mut self, directory: &Path) {
        for (&node, own) in &mut self.disks {
            own.frost = None;
            let mut copy = Command::new("cp");
            copy.args(["-r", "--sparse=always"]).arg(own.disk.data());
            copy.arg(directory.join(format!("node-{node}")));
            // What cannot be copied is missing, and says so.
            let _copied = copy.status();
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for own in self.disks.values_mut() {
            own.frost = None;
            // Otherwise it goes with the room.
            let _unmounted = own.disk.unmount();
        }
    }
}

/// Where the disk of a node is made.
fn place_of(directory: &Path, node: u32) -> PathBuf {
    directory.join(format!("disk-{node}"))
}

impl Frost {
    #[expect(
        clippy::disallowed_methods,
        reason = "a real disk freezes in real time, and this thread decides nothing"
    )]
    fn begin(notes: PathBuf, at: PathBuf, pulse: Pulse) -> Frost {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let noted = guard::note(&notes, &at);
                run_fsfreeze("--freeze", &at);
                wait(pulse.frozen, &over);
                run_fsfreeze("--unfreeze", &at);
                drop(noted);
                wait(pulse.thawed, &over);
            }
        });
        Frost {
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Frost {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has no reason to panic; if it did, the guard thaws.
            let _joined = thread.join();
        }
    }
}

fn wait(time: Duration, is_over: &AtomicBool) {
    let waiting = Stopwatch::start();
    while waiting.passed() < time && !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY.min(time.saturating_sub(waiting.passed())));
    }
}

/// Freezes or thaws. What is so already stays so.
pub(crate) fn run_fsfreeze(how: &str, at: &Path) {
    let mut tool = Command::new("fsfreeze");
    tool.arg(how).arg(at);
    tool.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _ran = tool.status();
}

/// Whether disks can be frozen here.
pub(crate) fn can_freeze(directory: &Path) -> bool {
    let mut tool = Command::new("fsfreeze");
    tool.arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let ran = tool.stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success()) && fs::metadata(guard::ready(directory)).is_ok()
}
