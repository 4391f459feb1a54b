//! From bytes to records, and past what is damaged.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::format::{
    CHUNK_BYTES, Content, HEAD_BYTES, HEADER_BYTES, Head, Header, RECORD_BYTES_MAX, Record, end_totals,
};
use super::{Problem, Progress, Watch};
use crate::failure::{Failure, Result};

/// So many problems are kept; the others are only counted.
const PROBLEMS_MAX: usize = 100;

/// A snapshot that is read from its start to its end.
pub(super) struct Chunks<'a> {
    stream: &'a mut dyn Read,
    /// Where it was read from, for errors.
    path: &'a Path,
    /// Bytes that were read and are to be read again.
    again: Vec<u8>,
    /// Where the next byte is in the snapshot.
    pub offset: u64,
    pub header: Header,
    sequence: u64,
    items: u64,
    value_bytes: u64,
    skips: bool,
    is_over: bool,
    /// What was skipped: the first [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    pub problem_count: u64,
}

impl<'a> Chunks<'a> {
    /// Begins with the header. With `skips`, what is damaged behind it is noted and passed over.
    pub fn new(stream: &'a mut dyn Read, path: &'a Path, skips: bool) -> Result<Chunks<'a>> {
        let mut bytes = [0; HEADER_BYTES];
        let length = fill(stream, &mut bytes).map_err(|error| unreadable(path, &error))?;
        let wrong = |problem| Failure::Snapshot { path: path.display().to_string(), problem };
        if length < bytes.len() {
            let is_one = length >= 8 && bytes.starts_with(super::format::MAGIC);
            let problem = if is_one { Problem::Truncated { bytes: length as u64 } } else { Problem::NotSnapshot };
            return Err(wrong(problem));
        }
        let header = Header::from_bytes(&bytes).map_err(wrong)?;
        Ok(Chunks {
            stream,
            path,
            again: Vec::new(),
            offset: HEADER_BYTES as u64,
            header,
            sequence: 0,
            items: 0,
            value_bytes: 0,
            skips,
            is_over: false,
            problems: Vec::new(),
            problem_count: 0,
        })
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let known = self.again.len().min(bytes.len());
        bytes[..known].copy_from_slice(&self.again[..known]);
        self.again.drain(..known);
        let length = known + fill(self.stream, &mut bytes[known..]).map_err(|error| unreadable(self.path, &error))?;
        self.offset += length as u64;
        Ok(length)
    }

    /// Notes a problem, or ends with it.
    fn meet(&mut self, problem: Problem) -> Result<()> {
        if self.skips {
            self.problem_count += 1;
            if self.problems.len() < PROBLEMS_MAX {
                self.problems.push(problem);
            }
            return Ok(());
        }
        Err(Failure::Snapshot { path: self.path.display().to_string(), problem })
    }

    /// Reads the next sound chunk of records into `payload`; the number of records, or `None` at
    /// the end.
    pub fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<u32>> {
        while !self.is_over {
            let Some((offset, head)) = self.next_head()? else { break };
            if head.sequence != self.sequence {
                self.meet(Problem::Damaged { offset, what: "a part before it is missing" })?;
            }
            self.sequence = head.sequence.wrapping_add(1);
            payload.clear();
            payload.shrink_to(1 << 20);
            // What there is, not what the head says, decides how much memory is taken.
            let mut rest = head.payload_bytes;
            while rest > 0 {
                let start = payload.len();
                let more = rest.min(1 << 20) as usize;
                payload.try_reserve(more).map_err(|_| unreadable(self.path, &io::ErrorKind::OutOfMemory.into()))?;
                payload.resize(start + more, 0);
                let length = self.fill(&mut payload[start..])?;
                payload.truncate(start + length);
                if length == 0 {
                    self.is_over = true;
                    self.meet(Problem::Truncated { bytes: self.offset })?;
                    return Ok(None);
                }
                rest -= length as u64;
            }
            if crc32fast::hash(payload) != head.payload_crc {
                self.meet(Problem::Damaged { offset, what: "the checksum of a chunk is not that of its bytes" })?;
                continue;
            }
            match head.content {
                Content::Records if is_sound(payload, head.records) => {
                    self.items += u64::from(head.records);
                    self.value_bytes += records(payload).map(|record| record.value.len() as u64).sum::<u64>();
                    return Ok(Some(head.records));
                }
                Content::Records => {
                    self.meet(Problem::Damaged { offset, what: "a chunk holds what no writer makes" })?;
                }
                Content::End => {
                    self.is_over = true;
                    let is_all = end_totals(payload) == Some((self.items, self.value_bytes));
                    if !is_all && self.problem_count == 0 {
                        self.meet(Problem::Damaged { offset, what: "the end does not agree with what came before" })?;
                    }
                    let offset = self.offset;
                    if self.fill(&mut [0])? > 0 {
                        self.meet(Problem::Damaged { offset, what: "something follows the end" })?;
                    }
                }
            }
        }
        Ok(None)
    }

    /// The head of a chunk that a writer makes, if these bytes are one.
    fn head(&self, bytes: &[u8; HEAD_BYTES]) -> Option<Head> {
        // A chunk is closed by the record that makes it too long, and no record is larger than its region.
        let payload_bytes_max = CHUNK_BYTES as u64 + self.header.region_bytes.min(RECORD_BYTES_MAX);
        Head::from_bytes(bytes, self.header.id).filter(|head| head.payload_bytes <= payload_bytes_max)
    }

    /// The next head and where it is; `None` where the snapshot is cut off.
    fn next_head(&mut self) -> Result<Option<(u64, Head)>> {
        let mut window = [0; HEAD_BYTES];
        let offset = self.offset;
        let length = self.fill(&mut window)?;
        if length == HEAD_BYTES
            && let Some(head) = self.head(&window)
        {
            return Ok(Some((offset, head)));
        }
        if length == HEAD_BYTES {
            self.meet(Problem::Damaged { offset, what: "no chunk begins here" })?;
            if let Some(found) = self.search(window)? {
                return Ok(Some(found));
            }
        }
        self.is_over = true;
        self.meet(Problem::Truncated { bytes: self.offset })?;
        Ok(None)
    }

    /// Looks for the next head from the second byte of `window` on.
    fn search(&mut self, window: [u8; HEAD_BYTES]) -> Result<Option<(u64, Head)>> {
        let id = self.header.id.to_le_bytes();
        let mut seen = window[1..].to_vec();
        let mut more = vec![0; 1 << 16];
        loop {
            let length = self.fill(&mut more)?;
            seen.extend_from_slice(&more[..length]);
            let start = self.offset - seen.len() as u64;
            for at in 0..(seen.len() + 1).saturating_sub(HEAD_BYTES) {
                if seen[at..at + 8] == id
                    && let Some(bytes) = seen[at..].first_chunk()
                    && let Some(head) = self.head(bytes)
                {
                    // What follows the head is read again.
                    self.again.splice(..0, seen[at + HEAD_BYTES..].iter().copied());
                    self.offset = start + (at + HEAD_BYTES) as u64;
                    return Ok(Some((start + at as u64, head)));
                }
            }
            if length == 0 {
                return Ok(None);
            }
            let kept = seen.len().min(HEAD_BYTES - 1);
            seen.drain(..seen.len() - kept);
        }
    }
}

/// The records of a payload, up to the first that no writer makes.
pub(super) fn records(mut payload: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || Record::take_from(&mut payload))
}

fn is_sound(mut payload: &[u8], count: u32) -> bool {
    (0..count).all(|_| Record::take_from(&mut payload).is_some()) && payload.is_empty()
}

fn fill(stream: &mut dyn Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match stream.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::file("read the snapshot", path, error)
}

pub(super) fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

/// Reads the header of a snapshot.
///
/// # Errors
/// The file cannot be read or is no snapshot.
pub fn header(path: &Path) -> Result<Header> {
    Ok(Chunks::new(&mut open(path)?, path, false)?.header)
}

/// Reads a snapshot to its end and says what it is.
///
/// # Errors
/// The file cannot be read, is no snapshot, is damaged, or was cut off. `Cancelled` if `watch`, who is told of
/// bytes alone, said so.
pub fn check(path: &Path, watch: &mut Watch<'_>) -> Result<Header> {
    let mut file = open(path)?;
    let mut chunks = Chunks::new(&mut file, path, false)?;
    let mut payload = Vec::new();
    while chunks.next(&mut payload)?.is_some() {
        let progress = Progress { items: 0, items_expected: chunks.header.items, bytes: chunks.offset };
        if watch(progress).is_break() {
            return Err(Failure::Cancelled);
        }
    }
    Ok(chunks.header)
}
