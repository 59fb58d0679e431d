//! Everything there is to know about a log without using it: for people who inspect or verify one.

use super::decision::Plan;
use super::scan::{self, Passed};
use super::walk::Damages;
use super::{
    Damage, Decision, MarkState, RecoveryError, SegmentSource, TornTail, attribution, replay,
};
use crate::format::{BodyFault, RecordBody, RecordHeader, SubHeader};
use crate::ids::{FileNumber, Identity, RecordSequence, RecoveryEpoch, SealKey};
use crate::log::SegmentFile;

/// Something met on the way through the files.
#[derive(Debug)]
pub enum SurveyItem<'a> {
    /// A record with a valid header: live, void or left by an earlier use of the file.
    Record {
        /// Its file.
        file: FileNumber,
        /// Where it begins.
        offset: u64,
        /// Its header.
        header: &'a RecordHeader,
        /// What is wrong with the rest, if anything.
        fault: Option<BodyFault>,
        /// Its parts; `None` in the place of one that cannot be read.
        parts: &'a [Option<SubHeader>],
    },
    /// A place where a record was, or was to be, whose header cannot be read.
    Remains {
        /// The file.
        file: FileNumber,
        /// Where in the file.
        offset: u64,
    },
}

/// What recovery would make of the log.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The files, by number.
    pub files: Vec<SegmentFile>,
    /// The two mark blocks.
    pub marks: [MarkState; 2],
    /// What recovery would decide. Damage that shows only when the records are put together counts.
    pub decision: Decision,
    /// The highest watermark.
    pub watermark: RecordSequence,
    /// The newest epoch.
    pub epoch: RecoveryEpoch,
    /// How many records would survive.
    pub surviving_records: u64,
    /// The last of them.
    pub last_record: RecordSequence,
    /// What would be cut off.
    pub torn: Option<TornTail>,
    /// What is damaged.
    pub findings: Vec<Damage>,
}

/// Reads a log as [`super::recover`] does, reports every record on the way and never refuses damage.
///
/// # Errors
/// Says why the files cannot be judged: they cannot be read, or they are not this log's.
pub fn survey<S: SegmentSource>(
    source: &mut S,
    identity: &Identity,
    seal: SealKey,
    on_item: &mut dyn FnMut(SurveyItem<'_>),
) -> Result<Survey, RecoveryError<S::Error>> {
    let scan = scan::scan(
        source,
        (identity, seal),
        Damages::AreRefused,
        &mut |passed: Passed<'_>| {
            let parts = RecordBody::sub_headers_of(&passed.found.header, passed.bytes);
            on_item(SurveyItem::Record {
                file: passed.found.file,
                offset: passed.found.offset,
                header: &passed.found.header,
                fault: passed.found.fault,
                parts: &parts,
            });
        },
    )?;
    for found in &scan.remains {
        on_item(SurveyItem::Remains {
            file: found.file,
            offset: found.offset,
        });
    }
    let plan = Plan::new(&scan, Damages::AreRefused);
    let torn = attribution::torn_tail(source, &scan, &plan).map_err(RecoveryError::Source)?;
    let mut decision = plan.decision;
    let mut findings = Vec::new();
    if decision == Decision::Corrupt {
        findings = attribution::attribute(source, &scan, &plan).map_err(RecoveryError::Source)?;
    } else {
        match replay::replay(source, &scan, &plan, &mut |_| {}) {
            Ok(_) => {}
            Err(RecoveryError::Corrupt { findings: found }) => {
                decision = Decision::Corrupt;
                findings = found;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Survey {
        decision,
        watermark: plan.watermark,
        epoch: plan.epoch,
        surviving_records: plan.surviving.len() as u64,
        last_record: plan.last_sequence(),
        torn,
        findings,
        files: scan.files,
        marks: scan.marks,
    })
}
