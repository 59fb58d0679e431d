//! One client mutation, as it stands on the wire, in the log, and at apply.

mod error;
mod flags;

pub use error::{CommandError, Feature};
pub use flags::CommandFlags;

use crate::generated;
use crate::ids::{NamespaceId, Revision};
use crate::structured::{STRUCTURED_BYTES_MAX, Structured};
use crate::wire::{Reader, length_u32, length_usize};

/// Length of the part that every command has.
pub const COMMAND_BASE_BYTES: usize = size_of::<generated::CommandBase>();

/// A mutation: of one key, or with structure, of several.
///
/// ```text
///      0        2        4                 8
///    0 |  kind  | flags  |    namespace    |   kind: what to do; flags: which optional parts follow
///    8 |   key length    |  value length   |
///   16 |               lease               |   only with LEASE
///      |         expected revision         |   only with EXPECTED_REVISION
///      |      session: log index           |   only with SESSION, 32 bytes:
///      |      session: nonce               |     index and nonce are the session's handle,
///      |      sequence                     |     sequence names this command in it,
///      |      lowest unanswered sequence   |     answers below it may be forgotten
///      |  key, then value, unpadded   ...  |
/// ```
///
/// Little-endian, at any byte offset, self-delimiting. It is checked once, by [`Command::check`] at the edge, and
/// stays these bytes until it is applied; [`Command::decode`] costs bounds checks and may be repeated anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// What to do.
    pub kind: CommandKind,
    /// Conditions and requests, and which optional parts are present.
    pub flags: CommandFlags,
    /// The keyspace.
    pub namespace: NamespaceId,
    /// The key, not empty.
    pub key: &'a [u8],
    /// The value, the bytes to append, the eight bytes of a counter's operand, or what [`Structured`] reads.
    pub value: &'a [u8],
    /// The lease that the key shall hang on. Present exactly with [`CommandFlags::LEASE`].
    pub lease: Option<u64>,
    /// Act only if the key was last changed at this revision; zero means that it must be absent. Present exactly
    /// with [`CommandFlags::EXPECTED_REVISION`].
    pub expected_revision: Option<Revision>,
    /// Exactly-once retries. Present exactly with [`CommandFlags::SESSION`].
    pub session: Option<SessionStamp>,
}

/// What a command does.
///
/// Numbers 16 to 23 leases, 24 to 31 sessions, 32 `put_stamped`, 33 `import`, 40 `prepare`, 41 `decide` and
/// 42 `forget` are reserved.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandKind {
    /// Set a key to a value.
    Put = 1,
    /// Remove a key.
    Delete = 2,
    /// Add to a counter: a value of exactly eight bytes, a little-endian `i64`.
    AddI64 = 3,
    /// Raise a counter to at least the operand.
    MaxI64 = 4,
    /// Lower a counter to at most the operand.
    MinI64 = 5,
    /// Put bytes behind the value.
    Append = 6,
    /// Remove the keys of a range, as many as one command may.
    DeleteRange = 7,
    /// Compares, then operations, all or nothing.
    Txn = 8,
    /// Mutations, if nothing that was read has changed.
    Commit = 9,
    /// Forget what happened before a revision.
    Compact = 10,
}

/// Names a command for exactly-once retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStamp {
    /// Log index at which the session was opened: one half of its handle.
    pub handle_index: u64,
    /// Random number drawn when it was opened: the other half.
    pub handle_nonce: u64,
    /// This command's number in the session.
    pub sequence: u64,
    /// The lowest number whose answer the client has not seen.
    pub unanswered_sequence_min: u64,
}

/// Sizes that the edge accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandLimits {
    /// Longest key.
    pub key_bytes_max: usize,
    /// Longest value of one command.
    pub value_bytes_max: usize,
}

impl<'a> Command<'a> {
    /// Sets `key` to `value`.
    #[must_use]
    pub fn put(namespace: NamespaceId, key: &'a [u8], value: &'a [u8]) -> Command<'a> {
        Command::new(CommandKind::Put, namespace, key, value)
    }

    /// Removes `key`.
    #[must_use]
    pub fn delete(namespace: NamespaceId, key: &'a [u8]) -> Command<'a> {
        Command::new(CommandKind::Delete, namespace, key, &[])
    }

    /// Adds a little-endian `i64` to a counter; an absent one becomes the operand.
    #[must_use]
    pub fn add_i64(namespace: NamespaceId, key: &'a [u8], operand: &'a [u8; 8]) -> Command<'a> {
        Command::new(CommandKind::AddI64, namespace, key, operand)
    }

    /// Raises a counter to at least a little-endian `i64`; an absent one becomes the operand.
    #[must_use]
    pub fn max_i64(namespace: NamespaceId, key: &'a [u8], operand: &'a [u8; 8]) -> Command<'a> {
        Command::new(CommandKind::MaxI64, namespace, key, operand)
    }

    /// Lowers a counter to at most a little-endian `i64`; an absent one becomes the operand.
    #[must_use]
    pub fn min_i64(namespace: NamespaceId, key: &'a [u8], operand: &'a [u8; 8]) -> Command<'a> {
        Command::new(CommandKind::MinI64, namespace, key, operand)
    }

    /// Puts `bytes` behind the value of `key`; an absent value counts as empty.
    #[must_use]
    pub fn append(namespace: NamespaceId, key: &'a [u8], bytes: &'a [u8]) -> Command<'a> {
        Command::new(CommandKind::Append, namespace, key, bytes)
    }

    /// A command with structure: `value` is what [`Structured::encode`] made, `key` its routing key.
    #[must_use]
    pub fn structured(
        kind: CommandKind,
        namespace: NamespaceId,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Command<'a> {
        debug_assert!(kind.has_structure());
        Command::new(kind, namespace, key, value)
    }

    fn new(
        kind: CommandKind,
        namespace: NamespaceId,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Command<'a> {
        Command {
            kind,
            flags: CommandFlags::NONE,
            namespace,
            key,
            value,
            lease: None,
            expected_revision: None,
            session: None,
        }
    }

    /// Acts only if the key is absent.
    #[must_use]
    pub fn with_if_absent(mut self) -> Command<'a> {
        self.flags = self.flags.with(CommandFlags::IF_ABSENT);
        self
    }

    /// Answers with the row as the command found it.
    #[must_use]
    pub fn with_return_previous(mut self) -> Command<'a> {
        self.flags = self.flags.with(CommandFlags::RETURN_PREVIOUS);
        self
    }

    /// Acts only if the key was last changed at `revision`; zero: if it is absent.
    #[must_use]
    pub fn with_expected_revision(mut self, revision: Revision) -> Command<'a> {
        self.flags = self.flags.with(CommandFlags::EXPECTED_REVISION);
        self.expected_revision = Some(revision);
        self
    }

    /// Hangs the key on a lease.
    #[must_use]
    pub fn with_lease(mut self, lease: u64) -> Command<'a> {
        self.flags = self.flags.with(CommandFlags::LEASE);
        self.lease = Some(lease);
        self
    }

    /// Names the command for exactly-once retries.
    #[must_use]
    pub fn with_session(mut self, session: SessionStamp) -> Command<'a> {
        self.flags = self.flags.with(CommandFlags::SESSION);
        self.session = Some(session);
        self
    }

    /// Reads the command at the front of `bytes` and tells how many bytes it has. Checks bounds, kind and flags,
    /// nothing else.
    ///
    /// # Errors
    /// [`CommandError::Truncated`], [`CommandError::UnknownKind`], [`CommandError::UnknownFlags`].
    pub fn decode(bytes: &'a [u8]) -> Result<(Command<'a>, usize), CommandError> {
        let mut reader = Reader::new(bytes);
        let base = generated::CommandBase(reader.take_array()?);
        let Some(kind) = CommandKind::from_number(base.kind()) else {
            return Err(CommandError::UnknownKind { kind: base.kind() });
        };
        let flags = CommandFlags::from_bits(base.flags())?;
        let lease = if flags.contains(CommandFlags::LEASE) {
            Some(reader.take_u64()?)
        } else {
            None
        };
        let expected_revision = if flags.contains(CommandFlags::EXPECTED_REVISION) {
            Some(Revision(reader.take_u64()?))
        } else {
            None
        };
        let session = if flags.contains(CommandFlags::SESSION) {
            Some(SessionStamp::from_wire(generated::SessionStamp(
                reader.take_array()?,
            )))
        } else {
            None
        };
        let key = reader.take(length_usize(base.key_length()))?;
        let value = reader.take(length_usize(base.value_length()))?;
        let namespace = NamespaceId(base.namespace_id());
        let command = Command {
            kind,
            flags,
            namespace,
            key,
            value,
            lease,
            expected_revision,
            session,
        };
        Ok((command, reader.position()))
    }

    /// The check of the edge: [`Command::decode`], then every rule that a client's command must keep.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(
        bytes: &'a [u8],
        limits: &CommandLimits,
    ) -> Result<(Command<'a>, usize), CommandError> {
        let (command, length) = Command::decode(bytes)?;
        if command.namespace == NamespaceId::CLUSTER {
            return Err(CommandError::NamespaceReserved {
                namespace: command.namespace,
            });
        }
        command.check_sizes(limits)?;
        command.check_rules()?;
        let _structured = Structured::check(&command, limits)?;
        Ok((command, length))
    }

    /// The sizes that the edge keeps.
    pub(crate) fn check_sizes(&self, limits: &CommandLimits) -> Result<(), CommandError> {
        if self.key.len() > limits.key_bytes_max {
            return Err(CommandError::KeyTooLarge {
                limit: limits.key_bytes_max,
                actual: self.key.len(),
            });
        }
        let value_bytes_max = if self.kind.has_structure() {
            STRUCTURED_BYTES_MAX
        } else {
            limits.value_bytes_max
        };
        if self.value.len() > value_bytes_max {
            return Err(CommandError::ValueTooLarge {
                limit: value_bytes_max,
                actual: self.value.len(),
            });
        }
        Ok(())
    }

    /// [`Command::check`] for bytes that must be one command and nothing else.
    ///
    /// # Errors
    /// As [`Command::check`], and [`CommandError::TrailingBytes`].
    pub fn check_only(
        bytes: &'a [u8],
        limits: &CommandLimits,
    ) -> Result<Command<'a>, CommandError> {
        let (command, length) = Command::check(bytes, limits)?;
        if length < bytes.len() {
            return Err(CommandError::TrailingBytes {
                count: bytes.len() - length,
            });
        }
        Ok(command)
    }

    /// The rules that hold wherever a command comes from and whatever the limits are: the edge refuses what breaks
    /// them, and apply halts on it, because then something else than the edge wrote the log.
    pub(crate) fn check_rules(&self) -> Result<(), CommandError> {
        if self.key.is_empty() {
            return Err(CommandError::KeyEmpty);
        }
        for flag in CommandFlags::OF_SINGLE_KEYS {
            if self.flags.contains(flag) && !self.kind.is_flag_allowed(flag) {
                return Err(CommandError::FlagNotAllowed {
                    kind: self.kind,
                    flag,
                });
            }
        }
        if self.flags.contains(CommandFlags::IF_ABSENT)
            && self.flags.contains(CommandFlags::EXPECTED_REVISION)
        {
            return Err(CommandError::Contradiction);
        }
        if self.lease.is_some() {
            return Err(CommandError::NotSupported {
                feature: Feature::Lease,
            });
        }
        if self.session.is_some() {
            return Err(CommandError::NotSupported {
                feature: Feature::Session,
            });
        }
        match self.kind {
            CommandKind::Delete if !self.value.is_empty() => {
                Err(CommandError::ValueNotAllowed { kind: self.kind })
            }
            CommandKind::AddI64 | CommandKind::MaxI64 | CommandKind::MinI64
                if self.value.len() != 8 =>
            {
                Err(CommandError::OperandNotI64 {
                    length: self.value.len(),
                })
            }
            CommandKind::Put
            | CommandKind::Delete
            | CommandKind::AddI64
            | CommandKind::MaxI64
            | CommandKind::MinI64
            | CommandKind::Append
            | CommandKind::DeleteRange
            | CommandKind::Txn
            | CommandKind::Commit
            | CommandKind::Compact => Ok(()),
        }
    }

    /// Whether the answer shall show the row as the command finds it.
    pub(crate) fn is_previous_wanted(&self) -> bool {
        self.flags.contains(CommandFlags::RETURN_PREVIOUS)
    }

    /// Whether the key must be absent.
    pub(crate) fn is_absence_required(&self) -> bool {
        self.flags.contains(CommandFlags::IF_ABSENT)
    }

    /// Appends the command's bytes to `out`.
    ///
    /// # Panics
    /// When a length does not fit 32 bits, or a flag and its optional part disagree.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        assert_eq!(
            self.lease.is_some(),
            self.flags.contains(CommandFlags::LEASE)
        );
        assert_eq!(
            self.expected_revision.is_some(),
            self.flags.contains(CommandFlags::EXPECTED_REVISION)
        );
        assert_eq!(
            self.session.is_some(),
            self.flags.contains(CommandFlags::SESSION)
        );
        let base = generated::CommandBase::new(
            self.kind as u16,
            self.flags.bits(),
            self.namespace.0,
            length_u32(self.key.len()),
            length_u32(self.value.len()),
        );
        out.reserve(self.encoded_len());
        out.extend_from_slice(&base.0);
        if let Some(lease) = self.lease {
            out.extend_from_slice(&lease.to_le_bytes());
        }
        if let Some(revision) = self.expected_revision {
            out.extend_from_slice(&revision.0.to_le_bytes());
        }
        if let Some(session) = self.session {
            out.extend_from_slice(&session.to_wire().0);
        }
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value);
    }

    /// Length of the command's bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let lease_bytes = if self.lease.is_some() { 8 } else { 0 };
        let expected_bytes = if self.expected_revision.is_some() {
            8
        } else {
            0
        };
        let session_bytes = if self.session.is_some() {
            size_of::<generated::SessionStamp>()
        } else {
            0
        };
        COMMAND_BASE_BYTES
            + lease_bytes
            + expected_bytes
            + session_bytes
            + self.key.len()
            + self.value.len()
    }
}

impl CommandKind {
    pub(crate) fn from_number(number: u16) -> Option<CommandKind> {
        match number {
            1 => Some(CommandKind::Put),
            2 => Some(CommandKind::Delete),
            3 => Some(CommandKind::AddI64),
            4 => Some(CommandKind::MaxI64),
            5 => Some(CommandKind::MinI64),
            6 => Some(CommandKind::Append),
            7 => Some(CommandKind::DeleteRange),
            8 => Some(CommandKind::Txn),
            9 => Some(CommandKind::Commit),
            10 => Some(CommandKind::Compact),
            _ => None,
        }
    }

    /// Whether the value is more than bytes: [`Structured`] reads it.
    #[must_use]
    pub fn has_structure(self) -> bool {
        match self {
            CommandKind::DeleteRange
            | CommandKind::Txn
            | CommandKind::Commit
            | CommandKind::Compact => true,
            CommandKind::Put
            | CommandKind::Delete
            | CommandKind::AddI64
            | CommandKind::MaxI64
            | CommandKind::MinI64
            | CommandKind::Append => false,
        }
    }

    /// Whether a change of a key may be of this kind: a transaction's changes are those of its mutations.
    pub(crate) fn changes_a_key(self) -> bool {
        !self.has_structure() || self == CommandKind::DeleteRange
    }

    /// Whether it makes the state smaller and nothing else: what is let in when space is short. A transaction may
    /// delete, but it may also write, so it is not among them.
    #[must_use]
    pub fn frees_space(self) -> bool {
        matches!(
            self,
            CommandKind::Delete | CommandKind::DeleteRange | CommandKind::Compact
        )
    }

    fn is_flag_allowed(self, flag: CommandFlags) -> bool {
        match flag {
            _ if self.has_structure() => false,
            CommandFlags::LEASE => self == CommandKind::Put,
            CommandFlags::IF_ABSENT => self != CommandKind::Delete,
            _ => true,
        }
    }
}

impl SessionStamp {
    fn from_wire(wire: generated::SessionStamp) -> SessionStamp {
        SessionStamp {
            handle_index: wire.handle_index(),
            handle_nonce: wire.handle_nonce(),
            sequence: wire.sequence(),
            unanswered_sequence_min: wire.unanswered_sequence_min(),
        }
    }

    fn to_wire(self) -> generated::SessionStamp {
        generated::SessionStamp::new(
            self.handle_index,
            self.handle_nonce,
            self.sequence,
            self.unanswered_sequence_min,
        )
    }
}

impl Default for CommandLimits {
    fn default() -> CommandLimits {
        CommandLimits {
            key_bytes_max: 4096,
            value_bytes_max: 1536 * 1024,
        }
    }
}

#[cfg(test)]
mod tests;
