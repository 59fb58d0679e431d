//! What is stored of an entry of a tree.

use std::fmt::{self, Write};
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::commands::text::{Escaped, unescape};

/// The attributes of an entry, as its value in the store says them:
///
/// ```text
/// type=file mode=0644 uid=0 gid=0 size=12 mtime=1700000000.000000001
/// type=symlink mode=0777 uid=0 gid=0 size=7 mtime=-2.500000000 target=usr/bin
/// ```
///
/// It is text because people look at it with `metastore get`, and it is short enough. There is one way to write it:
/// fields in this order, one space between them, numbers in decimal without leading zeros, `mode` as four octal
/// digits without the type. `mtime` counts seconds since 1970, and behind the point the nanoseconds that are **added**
/// to them, so that a time before 1970 has negative seconds. `target` is there exactly for symbolic links; it comes last
/// and may hold spaces, a backslash and control characters are escaped and bytes that are not UTF-8 are `\xNN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) kind: EntryKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size_bytes: u64,
    pub(super) mtime: Timestamp,
    pub(super) target: Option<Vec<u8>>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
    /// Something that only newer systems know.
    Other,
}

/// Names of the kinds, one pair a line, so that both directions read the same table.
const KINDS: [(EntryKind, &str); 8] = [
    (EntryKind::File, "file"),
    (EntryKind::Directory, "directory"),
    (EntryKind::Symlink, "symlink"),
    (EntryKind::Fifo, "fifo"),
    (EntryKind::Socket, "socket"),
    (EntryKind::CharacterDevice, "character-device"),
    (EntryKind::BlockDevice, "block-device"),
    (EntryKind::Other, "other"),
];

/// A point in time: seconds since 1970, rounded down, and the nanoseconds from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// The bits of a mode that are permissions and not the type.
const MODE_MASK: u32 = 0o7777;

impl Attributes {
    /// Looks at an entry without following it, and tells its device too.
    pub(super) fn look(path: &Path) -> io::Result<(Attributes, u64)> {
        let metadata = fs::symlink_metadata(path)?;
        let target = if metadata.is_symlink() {
            Some(fs::read_link(path)?.into_os_string().into_vec())
        } else {
            None
        };
        Ok((Attributes::new(&metadata, target), metadata.dev()))
    }

    fn new(metadata: &Metadata, target: Option<Vec<u8>>) -> Attributes {
        let nanoseconds = u32::try_from(metadata.mtime_nsec());
        Attributes {
            kind: EntryKind::of(metadata.file_type()),
            mode: metadata.mode() & MODE_MASK,
            uid: metadata.uid(),
            gid: metadata.gid(),
            size_bytes: metadata.size(),
            mtime: Timestamp {
                seconds: metadata.mtime(),
                nanoseconds: nanoseconds.expect("the kernel keeps nanoseconds below a second"),
            },
            target,
        }
    }

    /// The value to store.
    pub(super) fn to_value(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// What a stored value says, `None` when it is not what [`Attributes::to_value`] writes.
    pub(super) fn from_value(value: &[u8]) -> Option<Attributes> {
        let text = std::str::from_utf8(value).ok()?;
        let (fields, target) = match text.split_once(" target=") {
            Some((fields, target)) => (fields, Some(unescape(target)?)),
            None => (text, None),
        };
        let mut fields = fields.split(' ');
        let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=');
        let kind = EntryKind::from_name(field("type")?)?;
        let attributes = Attributes {
            kind,
            mode: u32::from_str_radix(field("mode")?, 8).ok()?,
            uid: field("uid")?.parse().ok()?,
            gid: field("gid")?.parse().ok()?,
            size_bytes: field("size")?.parse().ok()?,
            mtime: Timestamp::from_text(field("mtime")?)?,
            target,
        };
        // The one way to write it is the only one that is read: spare spaces, signs and zeros show here.
        (attributes.to_value() == value).then_some(attributes)
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "type={} mode={:04o} uid={} gid={} size={} mtime={}",
            self.kind, self.mode, self.uid, self.gid, self.size_bytes, self.mtime
        )?;
        if let Some(target) = &self.target {
            formatter.write_str(" target=")?;
            Escaped(target).fmt(formatter)?;
        }
        Ok(())
    }
}

impl EntryKind {
    fn of(file_type: FileType) -> EntryKind {
        if file_type.is_file() {
            EntryKind::File
        } else if file_type.is_dir() {
            EntryKind::Directory
        } else if file_type.is_symlink() {
            EntryKind::Symlink
        } else if file_type.is_fifo() {
            EntryKind::Fifo
        } else if file_type.is_socket() {
            EntryKind::Socket
        } else if file_type.is_char_device() {
            EntryKind::CharacterDevice
        } else if file_type.is_block_device() {
            EntryKind::BlockDevice
        } else {
            EntryKind::Other
        }
    }

    fn from_name(name: &str) -> Option<EntryKind> {
        let pair = KINDS.iter().find(|(_, known)| *known == name)?;
        Some(pair.0)
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = KINDS.iter().find(|(kind, _)| kind == self);
        formatter.write_str(pair.expect("every kind stands in the table").1)
    }
}

impl Timestamp {
    fn from_text(text: &str) -> Option<Timestamp> {
        let (seconds, nanoseconds) = text.split_once('.')?;
        Some(Timestamp {
            seconds: seconds.parse().ok()?,
            nanoseconds: nanoseconds.parse().ok()?,
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.seconds)?;
        formatter.write_char('.')?;
        write!(formatter, "{:09}", self.nanoseconds)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn example() -> Attributes {
        Attributes {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 1000,
            gid: 100,
            size_bytes: 12,
            mtime: Timestamp {
                seconds: 1_700_000_000,
                nanoseconds: 1,
            },
            target: None,
        }
    }

    #[test]
    fn a_value_is_the_text_of_the_format() {
        let golden = "type=file mode=0644 uid=1000 gid=100 size=12 mtime=1700000000.000000001";
        assert_eq!(example().to_string(), golden);
        assert_eq!(Attributes::from_value(golden.as_bytes()), Some(example()));
        let link = Attributes {
            kind: EntryKind::Symlink,
            mode: 0o4777,
            mtime: Timestamp {
                seconds: -2,
                nanoseconds: 500_000_000,
            },
            target: Some(b"a b target=c\n\xff\\".to_vec()),
            ..example()
        };
        let golden = "type=symlink mode=4777 uid=1000 gid=100 size=12 mtime=-2.500000000 \
                      target=a b target=c\\n\\xff\\\\";
        assert_eq!(link.to_string(), golden);
        assert_eq!(Attributes::from_value(golden.as_bytes()), Some(link));
    }

    #[test]
    fn every_kind_and_the_extremes_survive_the_round_trip() {
        for (kind, _) in KINDS {
            let attributes = Attributes {
                kind,
                mode: MODE_MASK,
                uid: u32::MAX,
                gid: 0,
                size_bytes: u64::MAX,
                mtime: Timestamp {
                    seconds: i64::MIN,
                    nanoseconds: 999_999_999,
                },
                target: Some(Vec::new()),
            };
            assert_eq!(
                Attributes::from_value(&attributes.to_value()),
                Some(attributes)
            );
        }
    }

    #[test]
    fn what_was_not_written_so_is_not_read() {
        let golden = example().to_string();
        let changes = [
            ("type=file", "type=door"),
            ("type=file ", ""),
            ("mode=0644", "mode=644"),
            ("uid=1000", "uid=+1000"),
            (" gid", "  gid"),
            ("size=12", "size=-12"),
            (".000000001", ""),
            (".000000001", ".1"),
            (".000000001", ".000000001 more=1"),
        ];
        for (from, to) in changes {
            let changed = golden.replace(from, to);
            assert_ne!(changed, golden);
            assert_eq!(
                Attributes::from_value(changed.as_bytes()),
                None,
                "{changed}"
            );
        }
        assert_eq!(Attributes::from_value(b"\xff"), None);
        assert_eq!(Attributes::from_value(b""), None);
    }

    #[test]
    fn a_real_entry_is_seen_as_it_is() {
        let path = Path::new("/dev/null");
        let (attributes, device) = Attributes::look(path).expect("every system has it");
        assert_eq!(attributes.kind, EntryKind::CharacterDevice);
        assert_eq!(attributes.uid, 0);
        assert_ne!(device, 0);
        assert!(Attributes::look(Path::new("/dev/null/below")).is_err());
    }
}
