//! What a node has done, in numbers.

/// What a node has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounters {
    /// Inputs of its core.
    pub inputs: u64,
    /// Writes that were cut short and completed.
    pub short_writes: u64,
    /// Segments prepared.
    pub segments: u64,
    /// Segments for which there was no room.
    pub full_disks: u64,
    /// Times that the disk became low.
    pub low_disks: u64,
    /// Records and marks written.
    pub writes: u64,
    /// Parts of the log that were read back.
    pub log_reads: u64,
    /// Parts of snapshots that were read for others.
    pub snapshot_reads: u64,
    /// Snapshots that got their name.
    pub snapshots: u64,
    /// Snapshots that a start loaded.
    pub loads: u64,
}

impl NodeCounters {
    /// Adds what another life did.
    pub fn add(&mut self, other: &NodeCounters) {
        self.inputs += other.inputs;
        self.short_writes += other.short_writes;
        self.segments += other.segments;
        self.full_disks += other.full_disks;
        self.low_disks += other.low_disks;
        self.writes += other.writes;
        self.log_reads += other.log_reads;
        self.snapshot_reads += other.snapshot_reads;
        self.snapshots += other.snapshots;
        self.loads += other.loads;
    }
}
