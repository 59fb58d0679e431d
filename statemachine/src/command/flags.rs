//! The bits of a command that say what else it carries and asks.

use super::CommandError;

/// Conditions and requests of a command, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CommandFlags(u16);

impl CommandFlags {
    /// No flag.
    pub const NONE: CommandFlags = CommandFlags(0);
    /// The command carries a lease.
    pub const LEASE: CommandFlags = CommandFlags(1);
    /// The command carries an expected revision.
    pub const EXPECTED_REVISION: CommandFlags = CommandFlags(2);
    /// The command carries a session stamp.
    pub const SESSION: CommandFlags = CommandFlags(4);
    /// Act only if the key is absent.
    pub const IF_ABSENT: CommandFlags = CommandFlags(8);
    /// Answer with the row as the command found it.
    pub const RETURN_PREVIOUS: CommandFlags = CommandFlags(16);

    /// Flags that mean something for commands on single keys alone, and some of them not for all of these.
    pub(super) const OF_SINGLE_KEYS: [CommandFlags; 4] = [
        CommandFlags::LEASE,
        CommandFlags::EXPECTED_REVISION,
        CommandFlags::IF_ABSENT,
        CommandFlags::RETURN_PREVIOUS,
    ];

    const ALL: u16 = 0b1_1111;

    /// The flags that `bits` name.
    ///
    /// # Errors
    /// [`CommandError::UnknownFlags`] with the bits that mean nothing.
    pub fn from_bits(bits: u16) -> Result<CommandFlags, CommandError> {
        match bits & !CommandFlags::ALL {
            0 => Ok(CommandFlags(bits)),
            unknown => Err(CommandError::UnknownFlags { flags: unknown }),
        }
    }

    /// The flags as bits.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Whether every flag of `other` is set.
    #[must_use]
    pub fn contains(self, other: CommandFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub fn with(self, other: CommandFlags) -> CommandFlags {
        CommandFlags(self.0 | other.0)
    }
}
