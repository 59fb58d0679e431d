//! Which checks recovery makes.

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
}

impl Rules {
    /// Whether damage to what was durable is cut off.
    pub(super) fn cuts_damage(self) -> bool {
        match self {
            Rules::Complete => false,
            #[cfg(feature = "testing")]
            Rules::DamageIsTorn => true,
            #[cfg(feature = "testing")]
            Rules::StaleIsLive => false,
        }
    }

    /// Whether records of an earlier use of a file are taken for live ones.
    pub(super) fn follows_stale(self) -> bool {
        match self {
            Rules::Complete => false,
            #[cfg(feature = "testing")]
            Rules::DamageIsTorn => false,
            #[cfg(feature = "testing")]
            Rules::StaleIsLive => true,
        }
    }
}
