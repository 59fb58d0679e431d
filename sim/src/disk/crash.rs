//! What a crash leaves.

use super::{Disk, File, SECTOR_BYTES, Sector, Stage, Write, sector_of};
use crate::random::Random;

/// What happens to the machine.
///
/// | | in flight | in the cache | files being made or removed |
/// |---|---|---|---|
/// | power loss | each sector old, new or torn | each sector old, new or torn | there or not, of any length |
/// | process killed | each sector old or new, in the cache | stays, and stays volatile | there or not, of any length |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// The cache is lost.
    PowerLoss,
    /// The process is gone, the device runs on.
    ProcessKilled,
}

/// How the sectors of one interrupted write fare. Real devices mostly do the simple things; the strange ones are
/// what a log must be ready for.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    AllOld,
    AllNew,
    /// The first so many are new.
    Prefix(usize),
    /// Each sector on its own.
    Mixed,
}

#[derive(Clone, Copy, Debug)]
enum SectorFate {
    Old,
    New,
    /// The first so many bytes are new.
    Torn(usize),
    Noise,
}

impl Disk {
    /// The machine stops. Nothing that was submitted completes any more.
    pub fn crash(&mut self, kind: CrashKind) {
        self.flushes.clear();
        for write in std::mem::take(&mut self.writes).into_values() {
            self.leave_remains(write, kind);
        }
        if kind == CrashKind::PowerLoss {
            self.lose_cache();
        }
        self.settle_files(kind);
        self.snapshots.crash(&mut self.random, kind);
    }

    /// An interrupted write leaves some of its sectors.
    pub(super) fn leave_remains(&mut self, write: Write, kind: CrashKind) {
        let sectors = write.bytes.len() / SECTOR_BYTES;
        let pattern = self.random.weighted(&[
            (3, Pattern::AllOld),
            (2, Pattern::AllNew),
            (2, Pattern::Prefix(0)),
            (3, Pattern::Mixed),
        ]);
        let pattern = match pattern {
            Pattern::Prefix(_) => Pattern::Prefix(self.random.index(sectors + 1)),
            Pattern::AllOld | Pattern::AllNew | Pattern::Mixed => pattern,
        };
        let file = self
            .files
            .get_mut(&write.file)
            .expect("it was written to a file");
        for (index, new) in write.bytes.chunks_exact(SECTOR_BYTES).enumerate() {
            let sector = write.offset / SECTOR_BYTES + index;
            let fate = fate(&mut self.random, pattern, index, kind);
            leave_sector(&mut self.random, file, (sector, new), fate, kind);
        }
    }

    fn lose_cache(&mut self) {
        for file in self.files.values_mut() {
            for (sector, new) in std::mem::take(&mut file.cache) {
                let fate = fate(&mut self.random, Pattern::Mixed, 0, CrashKind::PowerLoss);
                leave_sector(
                    &mut self.random,
                    file,
                    (sector, &new[..]),
                    fate,
                    CrashKind::PowerLoss,
                );
            }
        }
    }

    fn settle_files(&mut self, kind: CrashKind) {
        let random = &mut self.random;
        self.files.retain(|_, file| match file.stage {
            Stage::There if kind == CrashKind::PowerLoss && !file.is_name_durable => {
                file.is_name_durable = true;
                random.chance(500)
            }
            Stage::There => true,
            Stage::Removing => {
                file.stage = Stage::There;
                random.chance(500)
            }
            Stage::Preparing => {
                file.stage = Stage::There;
                let length = file.durable.len();
                // Neither nothing nor everything need not even be whole blocks.
                let partial = random.index(length + 1);
                let kept = random.weighted(&[(1, 0), (1, length), (1, partial)]);
                file.durable.truncate(kept);
                random.chance(700)
            }
        });
    }
}

fn fate(random: &mut Random, pattern: Pattern, index: usize, kind: CrashKind) -> SectorFate {
    match (pattern, kind) {
        (Pattern::AllOld, _) => SectorFate::Old,
        (Pattern::AllNew, _) => SectorFate::New,
        (Pattern::Prefix(count), _) if index < count => SectorFate::New,
        (Pattern::Prefix(count), CrashKind::PowerLoss) if index == count => {
            SectorFate::Torn(random.index(SECTOR_BYTES))
        }
        (Pattern::Prefix(_), _) => SectorFate::Old,
        (Pattern::Mixed, CrashKind::ProcessKilled) => {
            random.weighted(&[(1, SectorFate::Old), (1, SectorFate::New)])
        }
        (Pattern::Mixed, CrashKind::PowerLoss) => {
            let torn_bytes = random.index(SECTOR_BYTES);
            random.weighted(&[
                (8, SectorFate::Old),
                (8, SectorFate::New),
                (2, SectorFate::Torn(torn_bytes)),
                (1, SectorFate::Noise),
            ])
        }
    }
}

fn leave_sector(
    random: &mut Random,
    file: &mut File,
    (sector, new): (usize, &[u8]),
    fate: SectorFate,
    kind: CrashKind,
) {
    let mut left: Sector = match fate {
        SectorFate::Old => return,
        SectorFate::New | SectorFate::Torn(_) | SectorFate::Noise => sector_of(new),
    };
    match fate {
        SectorFate::Old | SectorFate::New => {}
        SectorFate::Torn(new_bytes) => {
            left[new_bytes..].copy_from_slice(&file.durable_sector(sector)[new_bytes..]);
        }
        SectorFate::Noise => random.fill(&mut left[..]),
    }
    match kind {
        CrashKind::PowerLoss => file.durable_sector(sector).copy_from_slice(&left[..]),
        CrashKind::ProcessKilled => {
            file.cache.insert(sector, left);
        }
    }
}
