//! Which checks recovery makes.

use crate::format::{BodyFault, RecordBody, RecordHeader};

/// The checks, complete or with one left out.
///
/// Servers know [`Rules::Complete`] alone. Each of the others is a bug that a simulator plants to prove that it would
/// find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "testing"),
    expect(unreachable_pub, reason = "only a simulator may choose")
)]
pub enum Rules {
    /// All of them.
    Complete,
    /// Damage to what was durable is cut off as if it were a torn tail.
    #[cfg(feature = "testing")]
    DamageIsTorn,
    /// What follows the last record in its file is taken for the next one, even when an earlier use of the file left
    /// it there.
    #[cfg(feature = "testing")]
    StaleIsLive,
    /// A segment whose first record was torn counts as damaged, as if no crash could come while a segment is begun.
    #[cfg(feature = "testing")]
    TornSegmentStartIsDamage,
    /// A record is taken for what its header says, whatever its body is.
    #[cfg(feature = "testing")]
    BodyIsNotChecked,
}

/// What becomes of a log that is damaged where it was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damages {
    /// It is refused.
    AreRefused,
    /// What is damaged is left out, and the replicas whose it is are named: others may have what they lost.
    AreLeftOut,
}

impl Rules {
    /// Whether damage to what was durable is cut off.
    pub(super) fn cuts_damage(self) -> bool {
        match self {
            #[cfg(feature = "testing")]
            Rules::DamageIsTorn => true,
            #[cfg(feature = "testing")]
            Rules::StaleIsLive | Rules::TornSegmentStartIsDamage | Rules::BodyIsNotChecked => false,
            Rules::Complete => false,
        }
    }

    /// Whether records of an earlier use of a file are taken for live ones.
    pub(super) fn follows_stale(self) -> bool {
        match self {
            #[cfg(feature = "testing")]
            Rules::StaleIsLive => true,
            #[cfg(feature = "testing")]
            Rules::DamageIsTorn | Rules::TornSegmentStartIsDamage | Rules::BodyIsNotChecked => {
                false
            }
            Rules::Complete => false,
        }
    }

    /// Whether a torn record at the start of a segment is damage.
    pub(super) fn refuses_torn_starts(self) -> bool {
        match self {
            #[cfg(feature = "testing")]
            Rules::TornSegmentStartIsDamage => true,
            #[cfg(feature = "testing")]
            Rules::DamageIsTorn | Rules::StaleIsLive | Rules::BodyIsNotChecked => false,
            Rules::Complete => false,
        }
    }

    /// Checks the body of a record.
    pub(super) fn decode_body<'a>(
        self,
        header: &RecordHeader,
        record: &'a [u8],
    ) -> Result<RecordBody<'a>, BodyFault> {
        match self {
            #[cfg(feature = "testing")]
            Rules::BodyIsNotChecked => RecordBody::decode_unchecked(header, record),
            #[cfg(feature = "testing")]
            Rules::DamageIsTorn | Rules::StaleIsLive | Rules::TornSegmentStartIsDamage => {
                RecordBody::decode(header, record)
            }
            Rules::Complete => RecordBody::decode(header, record),
        }
    }
}
