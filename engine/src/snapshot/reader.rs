//! Reading a snapshot file, front to back.

use metastore_statemachine::SectionTag;

use super::chunk::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, ChunkPlace};
use super::error::{SnapshotError, SnapshotPart};
use super::header::{FileSeed, Header, SNAPSHOT_HEADER_BYTES, SnapshotIdentity};
use super::totals::{ChunkLength, SnapshotSummary, Totals};
use crate::fields::array_at;

/// Checks the bytes of a file and hands out its sections.
///
/// Bytes go in with [`feed`](SnapshotReader::feed), cut anywhere; [`read_next`](SnapshotReader::read_next) is
/// called until it needs more. What it hands out has been checked, but the file is whole only when
/// [`finish`](SnapshotReader::finish) says so: nothing that was built from it may be used before.
///
/// ```text
///    header --> members --> ( chunk header --> stored bytes )* --> trailer --> end
/// ```
#[derive(Debug)]
pub struct SnapshotReader {
    expected: Option<SnapshotIdentity>,
    state: State,
    /// What is known since the header has been read.
    body: Option<Body>,
    /// Bytes that were fed and have not been read, behind `read_bytes` that have.
    fed: Vec<u8>,
    read_bytes: usize,
    /// Where in the file the part begins that is read next.
    offset: u64,
    /// The bytes of the last chunk.
    raw: Vec<u8>,
}

/// What the next bytes of a file turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum SnapshotStep<'a> {
    /// More bytes are needed.
    NeedMore,
    /// The header: whose snapshot it is.
    Identity(&'a SnapshotIdentity),
    /// The next bytes of a section, cut anywhere.
    Section {
        /// The section.
        section: SectionTag,
        /// Its bytes.
        bytes: &'a [u8],
        /// Where in the file the chunk begins that held them.
        offset: u64,
    },
    /// The trailer: everything was there.
    Finished(&'a SnapshotSummary),
}

/// What is read next.
#[derive(Debug)]
enum State {
    Header,
    Chunk,
    End(SnapshotSummary),
    Failed(SnapshotError),
}

#[derive(Debug)]
struct Body {
    identity: SnapshotIdentity,
    seed: FileSeed,
    totals: Totals,
    /// The section of the last chunk.
    after: Option<SectionTag>,
}

/// A part of the file that is there as a whole, or why it is not.
enum Part {
    Short(Short),
    Header(Header),
    Chunk(ChunkHeader),
}

/// A part that ends too early, for now.
struct Short {
    offset: u64,
    part: SnapshotPart,
    needed: usize,
    available: usize,
}

/// What was read.
enum Read {
    NeedMore,
    Identity,
    Block { section: SectionTag, offset: u64 },
    End,
}

impl SnapshotReader {
    /// Reads the snapshot that is expected, or any. Its node, replica and members are not compared: who wrote it does
    /// not matter, and the log names the members.
    #[must_use]
    pub fn new(expected: Option<SnapshotIdentity>) -> SnapshotReader {
        SnapshotReader {
            expected,
            state: State::Header,
            body: None,
            fed: Vec::new(),
            read_bytes: 0,
            offset: 0,
            raw: Vec::new(),
        }
    }

    /// Takes the next bytes of the file. They are kept until they are read: read what there is before feeding more.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed.drain(..self.read_bytes);
        self.read_bytes = 0;
        self.fed.extend_from_slice(bytes);
    }

    /// Reads the next part.
    ///
    /// # Errors
    /// Any [`SnapshotError`] but [`SnapshotError::Truncated`]; the same again when it is called again.
    pub fn read_next(&mut self) -> Result<SnapshotStep<'_>, SnapshotError> {
        let read = match self.read_part() {
            Ok(read) => read,
            Err(error) => {
                self.state = State::Failed(error);
                return Err(error);
            }
        };
        match (read, &self.body, &self.state) {
            (Read::Identity, Some(body), _) => Ok(SnapshotStep::Identity(&body.identity)),
            (Read::Block { section, offset }, ..) => Ok(SnapshotStep::Section {
                section,
                bytes: &self.raw,
                offset,
            }),
            (Read::End, _, State::End(summary)) => Ok(SnapshotStep::Finished(summary)),
            (Read::NeedMore | Read::Identity | Read::End, ..) => Ok(SnapshotStep::NeedMore),
        }
    }

    /// What the file holds, when nothing more comes.
    ///
    /// # Errors
    /// [`SnapshotError::Truncated`], [`SnapshotError::TrailingBytes`] for what was fed with the trailer and lies behind
    /// it, or what [`SnapshotReader::read_next`] said.
    ///
    /// # Panics
    /// When there is a part that was fed and not read.
    pub fn finish(&self) -> Result<&SnapshotSummary, SnapshotError> {
        match &self.state {
            State::End(summary) if self.rest().is_empty() => Ok(summary),
            State::End(_) => Err(SnapshotError::TrailingBytes {
                offset: self.offset,
            }),
            State::Failed(error) => Err(*error),
            State::Header | State::Chunk => match self.find_part()? {
                Part::Short(short) => Err(SnapshotError::Truncated {
                    offset: short.offset,
                    part: short.part,
                    needed: short.needed as u64,
                    available: short.available as u64,
                }),
                Part::Header(_) | Part::Chunk(_) => {
                    panic!("a snapshot is finished before it was read")
                }
            },
        }
    }

    fn read_part(&mut self) -> Result<Read, SnapshotError> {
        match &self.state {
            State::Failed(error) => return Err(*error),
            State::End(_) if self.rest().is_empty() => return Ok(Read::End),
            State::End(_) => {
                let offset = self.offset;
                return Err(SnapshotError::TrailingBytes { offset });
            }
            State::Header | State::Chunk => {}
        }
        match self.find_part()? {
            Part::Short(_) => Ok(Read::NeedMore),
            Part::Header(header) => self.read_header(header),
            Part::Chunk(header) => self.read_chunk(&header),
        }
    }

    /// The part that begins where reading has come to. Looking at it again when more is there costs next to nothing.
    fn find_part(&self) -> Result<Part, SnapshotError> {
        let rest = self.rest();
        let offset = self.offset;
        let short = |offset, part, needed, available| {
            Ok(Part::Short(Short {
                offset,
                part,
                needed,
                available,
            }))
        };
        let Some(body) = &self.body else {
            let Some(bytes) = rest.first_chunk() else {
                let part = SnapshotPart::Header;
                return short(offset, part, SNAPSHOT_HEADER_BYTES, rest.len());
            };
            let header = Header::decode(bytes)?;
            if let Some(expected) = &self.expected {
                expected.check_same(&header.identity)?;
            }
            let members = &rest[SNAPSHOT_HEADER_BYTES..];
            if members.len() < header.members_bytes {
                let offset = offset + SNAPSHOT_HEADER_BYTES as u64;
                let part = SnapshotPart::Members;
                return short(offset, part, header.members_bytes, members.len());
            }
            return Ok(Part::Header(header));
        };
        let after = body.after;
        let Some(bytes) = rest.first_chunk() else {
            let part = SnapshotPart::ChunkHeader { after };
            return short(offset, part, CHUNK_HEADER_BYTES, rest.len());
        };
        let number = body.totals.next_chunk();
        let place = ChunkPlace {
            offset,
            number,
            after,
        };
        let header = ChunkHeader::decode(bytes, body.seed, place)?;
        let needed = CHUNK_HEADER_BYTES + header.stored_bytes;
        if rest.len() < needed {
            return short(offset, header.part(), needed, rest.len());
        }
        Ok(Part::Chunk(header))
    }

    fn read_header(&mut self, header: Header) -> Result<Read, SnapshotError> {
        let length = SNAPSHOT_HEADER_BYTES + header.members_bytes;
        let bytes = &self.rest()[..length];
        let totals = Totals::new(bytes);
        let seed = header.seed;
        let identity = header.with_members(&bytes[SNAPSHOT_HEADER_BYTES..])?;
        self.body = Some(Body {
            identity,
            seed,
            totals,
            after: None,
        });
        self.state = State::Chunk;
        self.skip(length);
        Ok(Read::Identity)
    }

    fn read_chunk(&mut self, header: &ChunkHeader) -> Result<Read, SnapshotError> {
        let offset = self.offset;
        let length = CHUNK_HEADER_BYTES + header.stored_bytes;
        let Some(body) = &mut self.body else {
            panic!("a chunk was found before the header");
        };
        let bytes = &self.fed[self.read_bytes..][..length];
        let stored = &bytes[CHUNK_HEADER_BYTES..];
        header.open(stored, body.seed, offset, &mut self.raw)?;
        let read = match header.kind {
            ChunkKind::Block => {
                let section = header.section;
                let chunk_length = ChunkLength {
                    raw_bytes: header.raw_bytes,
                    stored_bytes: header.stored_bytes,
                };
                if !body.totals.add(section, &array_at(bytes, 0), chunk_length) {
                    return Err(SnapshotError::Malformed {
                        offset,
                        part: header.part(),
                        what: "the section, one more than a file may have,",
                        found: section.0.into(),
                    });
                }
                body.after = Some(section);
                Read::Block { section, offset }
            }
            ChunkKind::Trailer => {
                if let Some(what) = body.totals.find_difference(&self.raw) {
                    return Err(SnapshotError::WrongTotal { offset, what });
                }
                self.state = State::End(body.totals.summary(length));
                Read::End
            }
        };
        self.skip(length);
        Ok(read)
    }

    /// What was fed and is to be read.
    fn rest(&self) -> &[u8] {
        &self.fed[self.read_bytes..]
    }

    fn skip(&mut self, length: usize) {
        self.read_bytes += length;
        self.offset += length as u64;
    }
}
