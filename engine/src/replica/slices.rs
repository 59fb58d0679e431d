//! A replica's background work.

use metastore_statemachine::SliceLimit;

use super::{Replica, Turn};
use crate::core::SliceKind;
use crate::settings::Settings;

impl Replica {
    /// Whether background work of a kind waits.
    pub(crate) fn has_slice(&self, kind: SliceKind) -> bool {
        match kind {
            SliceKind::Range => self.parts.has_slice(),
            SliceKind::Snapshot => self.has_snapshot_slice(),
            SliceKind::Reclaim => self.state.has_reclaimable(),
        }
    }

    /// Does a slice of the kind of work that waits.
    pub(crate) fn run_slice(&mut self, turn: &mut Turn<'_>, kind: SliceKind) {
        match kind {
            SliceKind::Range => {
                let limit = slice_limit(turn.settings);
                self.parts
                    .run_slice(&mut self.state, turn.now, limit, turn.answers);
            }
            SliceKind::Snapshot => self.run_snapshot_slice(slice_limit(turn.settings)),
            SliceKind::Reclaim => {
                self.state.reclaim(turn.settings.slice_reclaims_max);
            }
        }
    }
}

fn slice_limit(settings: &Settings) -> SliceLimit {
    SliceLimit {
        rows: settings.slice_rows_max,
        bytes: settings.slice_bytes_max,
        visits: settings.slice_visits_max,
    }
}
