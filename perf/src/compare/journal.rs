//! The file that a comparison is kept in while it goes on.
//!
//! ```text
//! {"header":{...}}\n       the conditions, once
//! {"round":{...}}\n        a round, whole
//! {"round":{...}}\n
//! {"reported":{}}\n       the result has been written, and nothing follows
//!
//! {"rou                    instead: what a run that was killed has begun to write
//! ```
//!
//! Each line is written at once and is on the disk before the next round begins. After a crash the file holds whole
//! lines and at most one part of a line behind them, which is cut off: its round is measured again. A line that ends and
//! cannot be read is **not** taken for such a part; the file is left as it is and the comparison refused.
//!
//! What belongs to another comparison, or to one that is finished, is never overwritten: the file is kept under a name
//! with its time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::document::{Header, Round};

/// How many files of one second may be kept beside each other.
const KEPT_OF_ONE_SECOND_MAX: u32 = 100;

/// One line.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum LineOut<'a> {
    Header(&'a Header),
    Round(&'a Round),
    Reported {},
}

/// The same, as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LineIn {
    Header(Box<Header>),
    Round(Box<Round>),
    Reported {},
}

/// Why rounds cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("the results in {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("another comparison is adding to {path}")]
    InUse { path: PathBuf },
    #[error(
        "line {line} of {path} cannot be read, and the comparison there not be continued: {source}; name another file \
         with --results, or take this one away"
    )]
    Damaged {
        path: PathBuf,
        line: usize,
        source: serde_json::Error,
    },
    #[error(
        "line {line} of {path} is out of its order: the first line is the header, and no other"
    )]
    Order { path: PathBuf, line: usize },
}

/// What a file holds.
#[derive(Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) header: Header,
    pub(super) rounds: Vec<Round>,
    /// Whether the result was written, so that nobody waits for it any more.
    pub(super) is_reported: bool,
}

/// An open file, which nobody else adds to.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Whole lines.
    whole_bytes: u64,
    /// What was cut off behind them.
    cut_bytes: u64,
}

impl Journal {
    /// Opens a file, or makes it, and reads what it holds: nothing if not even its first line is whole.
    pub(super) fn open(path: &Path) -> Result<(Journal, Option<Stored>), JournalError> {
        let failed = |source| JournalError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = open_locked(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n');
        let whole = whole.map_or(0, |position| position + 1);
        let stored = parse(path, &bytes[..whole])?;
        let journal = Journal {
            path: path.to_owned(),
            file,
            whole_bytes: whole as u64,
            cut_bytes: (bytes.len() - whole) as u64,
        };
        Ok((journal, stored))
    }

    /// How much of a half-written line [`Journal::resume`] cuts off.
    pub(super) fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// Goes on behind the last whole line.
    pub(super) fn resume(&mut self) -> Result<(), JournalError> {
        let cut = self.file.set_len(self.whole_bytes);
        cut.and_then(|()| self.file.seek(io::SeekFrom::Start(self.whole_bytes)))
            .map(|_| ())
            .map_err(|source| self.failed(source))
    }

    /// Begins anew with a header. Whole lines that are there are kept under another name, which is told.
    pub(super) fn begin(
        self,
        header: &Header,
        kept_as: Option<&str>,
    ) -> Result<(Journal, Option<PathBuf>), JournalError> {
        let kept = match kept_as {
            Some(words) if self.whole_bytes > 0 => Some(self.set_aside(words)?),
            Some(_) | None => None,
        };
        let path = self.path.clone();
        let mut journal = match kept {
            Some(_) => Journal {
                file: open_locked(&path)?,
                path,
                whole_bytes: 0,
                cut_bytes: 0,
            },
            None => self,
        };
        journal.whole_bytes = 0;
        journal.resume()?;
        journal.append_line(&LineOut::Header(header))?;
        Ok((journal, kept))
    }

    /// Adds a round.
    pub(super) fn append(&mut self, round: &Round) -> Result<(), JournalError> {
        self.append_line(&LineOut::Round(round))
    }

    /// Notes that the result was written: the comparison is finished.
    pub(super) fn finish(&mut self) -> Result<(), JournalError> {
        self.append_line(&LineOut::Reported {})
    }

    fn append_line(&mut self, line: &LineOut<'_>) -> Result<(), JournalError> {
        let mut text = serde_json::to_vec(line).map_err(|error| self.failed(error.into()))?;
        text.push(b'\n');
        let written = self.file.write_all(&text);
        written
            .and_then(|()| self.file.sync_data())
            .map_err(|source| self.failed(source))?;
        self.whole_bytes += text.len() as u64;
        Ok(())
    }

    /// Gives the file a name of its own.
    fn set_aside(&self, words: &str) -> Result<PathBuf, JournalError> {
        for number in 1..=KEPT_OF_ONE_SECOND_MAX {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{words}"));
            if number > 1 {
                name.push(format!(".{number}"));
            }
            let name = PathBuf::from(name);
            match fs::hard_link(&self.path, &name) {
                Ok(()) => {
                    fs::remove_file(&self.path).map_err(|source| self.failed(source))?;
                    return Ok(name);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        Err(self.failed(io::ErrorKind::AlreadyExists.into()))
    }

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Closing would not be enough: a process that is being started holds all files for a moment.
        let _unlocked = self.file.unlock();
    }
}

fn open_locked(path: &Path) -> Result<File, JournalError> {
    let failed = |source| JournalError::Io {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Reads whole lines.
fn parse(path: &Path, bytes: &[u8]) -> Result<Option<Stored>, JournalError> {
    let mut stored: Option<Stored> = None;
    let lines = bytes.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    for (position, line) in lines.enumerate() {
        let parsed = serde_json::from_slice(line).map_err(|source| JournalError::Damaged {
            path: path.to_owned(),
            line: position + 1,
            source,
        })?;
        match (parsed, &mut stored) {
            (LineIn::Header(header), None) => {
                stored = Some(Stored {
                    header: *header,
                    rounds: Vec::new(),
                    is_reported: false,
                });
            }
            (LineIn::Round(round), Some(stored)) if !stored.is_reported => {
                stored.rounds.push(*round);
            }
            (LineIn::Reported {}, Some(stored)) if !stored.is_reported => {
                stored.is_reported = true;
            }
            (LineIn::Header(_) | LineIn::Round(_) | LineIn::Reported {}, _) => {
                return Err(JournalError::Order {
                    path: path.to_owned(),
                    line: position + 1,
                });
            }
        }
    }
    Ok(stored)
}

#[cfg(test)]
mod tests;
