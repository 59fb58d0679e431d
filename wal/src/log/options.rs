//! The limits of a log, and how they depend on each other.

use thiserror::Error;

use crate::buffer::LogBuffer;
use crate::format::{BLOCK_BYTES, ENTRY_HEADER_BYTES, RECORD_HEADER_BYTES, SUB_HEADER_BYTES};
use crate::ids::{Identity, SealKey};

const MIB: usize = 1024 * 1024;

/// How many segments a budget must allow at least: the one being written, one that is full, and two in reserve.
const SEGMENTS_MIN: u64 = 4;

/// How a log is laid out and what it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Whose log it is.
    pub identity: Identity,
    /// The log's secret.
    pub seal: SealKey,
    /// The length of a segment file.
    pub segment_bytes: u64,
    /// The length of the longest record, which is also that of a record buffer.
    pub record_bytes_max: usize,
    /// What all segment files together may take.
    pub budget_bytes: u64,
    /// How many prepared segments wait for use.
    pub spare_segments: usize,
    /// How many records may be on their way to the device at the same time.
    pub writes_in_flight_max: usize,
}

/// Which relation of the options does not hold.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LogOptionsError {
    /// A record must be whole blocks, at least two and at most 1 GiB.
    #[error(
        "a record of {record_bytes_max} bytes is not between 8 KiB and 1 GiB in whole blocks of 4 KiB"
    )]
    RecordBytes {
        /// What was asked for.
        record_bytes_max: usize,
    },
    /// A segment must be whole blocks and hold at least a checkpoint and a record, each of the largest size.
    #[error(
        "a segment of {segment_bytes} bytes is not whole blocks of 4 KiB for two records of {record_bytes_max} bytes"
    )]
    SegmentBytes {
        /// What was asked for.
        segment_bytes: u64,
        /// The longest record.
        record_bytes_max: usize,
    },
    /// The budget must hold four segments.
    #[error("a budget of {budget_bytes} bytes holds less than 4 segments of {segment_bytes} bytes")]
    BudgetBytes {
        /// What was asked for.
        budget_bytes: u64,
        /// The length of a segment.
        segment_bytes: u64,
    },
    /// Without a spare the log would stop at the end of each segment.
    #[error("at least one spare segment is needed")]
    SpareSegments,
    /// Without a write in flight nothing becomes durable; more than 64 have no use.
    #[error("{writes_in_flight_max} writes in flight are not between 1 and 64")]
    WritesInFlight {
        /// What was asked for.
        writes_in_flight_max: usize,
    },
}

impl LogOptions {
    /// The defaults: segments of 64 MiB, records of 4 MiB, a budget of 8 GiB, 4 spares, one write in flight.
    #[must_use]
    pub fn new(identity: Identity, seal: SealKey) -> Self {
        Self {
            identity,
            seal,
            segment_bytes: 64 * MIB as u64,
            record_bytes_max: 4 * MIB,
            budget_bytes: 8 * 1024 * MIB as u64,
            spare_segments: 4,
            writes_in_flight_max: 1,
        }
    }

    /// Checks the relations between the limits.
    ///
    /// # Errors
    /// Names the first one that does not hold, with the values.
    pub fn validate(&self) -> Result<(), LogOptionsError> {
        let Self {
            segment_bytes,
            record_bytes_max,
            budget_bytes,
            writes_in_flight_max,
            ..
        } = *self;
        let record_is_blocks = record_bytes_max.is_multiple_of(BLOCK_BYTES);
        if !record_is_blocks || !(2 * BLOCK_BYTES..=1024 * MIB).contains(&record_bytes_max) {
            return Err(LogOptionsError::RecordBytes { record_bytes_max });
        }
        if !segment_bytes.is_multiple_of(BLOCK_BYTES as u64)
            || segment_bytes < 2 * record_bytes_max as u64
        {
            return Err(LogOptionsError::SegmentBytes {
                segment_bytes,
                record_bytes_max,
            });
        }
        if budget_bytes / segment_bytes < SEGMENTS_MIN {
            return Err(LogOptionsError::BudgetBytes {
                budget_bytes,
                segment_bytes,
            });
        }
        if self.spare_segments == 0 {
            return Err(LogOptionsError::SpareSegments);
        }
        if !(1..=64).contains(&writes_in_flight_max) {
            return Err(LogOptionsError::WritesInFlight {
                writes_in_flight_max,
            });
        }
        Ok(())
    }

    /// The length of the longest entry's data: alone in a record, it fits.
    #[must_use]
    pub fn entry_bytes_max(&self) -> usize {
        self.record_bytes_max - RECORD_HEADER_BYTES - SUB_HEADER_BYTES - ENTRY_HEADER_BYTES
    }

    /// How many segments the budget allows.
    #[must_use]
    pub fn segments_max(&self) -> usize {
        usize::try_from(self.budget_bytes / self.segment_bytes).unwrap_or(usize::MAX)
    }

    /// The buffers a log with these options needs: one for each write in flight, then one for marks, numbered in order.
    #[must_use]
    pub fn new_buffers(&self) -> Vec<LogBuffer> {
        let capacities = std::iter::repeat_n(self.record_bytes_max, self.writes_in_flight_max)
            .chain([BLOCK_BYTES]);
        (0..)
            .zip(capacities)
            .map(|(number, capacity)| LogBuffer::new(number, capacity))
            .collect()
    }
}
