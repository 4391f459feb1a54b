//! Request streams: one request a line, `KEY` or `KEY SIZE`.
//!
//! Owns: opening a plain, gzip or zstd file (told apart by their first bytes, not by
//! name), splitting it into requests, and the complaint about a line that is none.
//!
//! Must never: hold the whole file in memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

use crate::failure::{Failure, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// No line of a trace is longer: a key has at most 65,535 bytes.
const LINE_BYTES_MAX: usize = 65_535 + 32;

/// Counts the bytes that were taken from the file, for the progress bar.
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        // Relaxed: a number for the progress bar; nothing is inferred from it.
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

type Compressed = BufReader<Counted<Box<dyn Read>>>;

/// zstd frames one after the other; the decoder itself ends with each frame.
struct ZstdFrames {
    frame: Option<Box<StreamingDecoder<Compressed, ruzstd::decoding::FrameDecoder>>>,
    rest: Option<Compressed>,
}

impl Read for ZstdFrames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                self.rest = self.frame.take().map(|ended| ended.into_inner());
            }
            let Some(mut rest) = self.rest.take() else { return Ok(0) };
            if rest.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let frame = StreamingDecoder::new(rest).map_err(|error| io::Error::other(error.to_string()))?;
            self.frame = Some(Box::new(frame));
        }
    }
}

/// One request of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The key, as it stands in the line.
    pub key: &'a [u8],
    /// Bytes of the value, where the line says so.
    pub value_bytes: Option<u32>,
}

/// A trace that is being read.
pub struct Trace {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    line: Vec<u8>,
    line_number: u64,
    file_bytes: Option<u64>,
    taken: Arc<AtomicU64>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("path", &self.path).field("line_number", &self.line_number).finish()
    }
}

impl Trace {
    /// Opens the file at `path`, or standard input for `-`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(path: &Path) -> Result<Trace> {
        let failed = |error: io::Error| Failure::file("read the trace", path, &error);
        let (input, file_bytes): (Box<dyn Read>, _) = if path.as_os_str() == "-" {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).map_err(failed)?;
            let about = file.metadata().map_err(failed)?;
            if about.is_dir() {
                return Err(failed(io::ErrorKind::IsADirectory.into()));
            }
            (Box::new(file), about.is_file().then_some(about.len()))
        };
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: input, taken: Arc::clone(&taken) };
        let mut compressed = BufReader::with_capacity(1 << 16, counted);
        let first = compressed.fill_buf().map_err(failed)?;
        let lines: Box<dyn BufRead> = if first.starts_with(&GZIP_MAGIC) {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(compressed)))
        } else if first.starts_with(&ZSTD_MAGIC) {
            let frames = ZstdFrames { frame: None, rest: Some(compressed) };
            Box::new(BufReader::with_capacity(1 << 16, frames))
        } else {
            Box::new(compressed)
        };
        Ok(Trace { path: path.to_owned(), lines, line: Vec::new(), line_number: 0, file_bytes, taken })
    }

    /// Bytes of the file and bytes of it that were read so far, where it has a length.
    pub fn progress(&self) -> (Option<u64>, u64) {
        // Relaxed: see `Counted`.
        (self.file_bytes, self.taken.load(Ordering::Relaxed))
    }

    /// The next request, or nothing at the end. Blank lines are passed over.
    ///
    /// # Errors
    /// The file cannot be read on, or the line is not a request; the line is named.
    pub fn next_request(&mut self) -> Result<Option<Request<'_>>> {
        loop {
            self.line.clear();
            let mut limited = (&mut self.lines).take(LINE_BYTES_MAX as u64 + 1);
            let count = limited
                .read_until(b'\n', &mut self.line)
                .map_err(|error| Failure::file("read the trace", &self.path, &error))?;
            if count == 0 {
                return Ok(None);
            }
            self.line_number += 1;
            if self.line.len() > LINE_BYTES_MAX {
                return Err(self.bad_line("it is longer than any key may be (65,535 bytes)"));
            }
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        parse_line(&self.line).map_err(|reason| self.bad_line(&reason))
    }

    fn bad_line(&self, reason: &str) -> Failure {
        Failure::usage(format!(
            "line {} of {} is not a request: {reason}; each line is `KEY` or `KEY SIZE`",
            self.line_number,
            self.path.display()
        ))
    }
}

fn parse_line(line: &[u8]) -> std::result::Result<Option<Request<'_>>, String> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let Some(key) = fields.next() else { return Ok(None) };
    let value_bytes = match fields.next() {
        None => None,
        Some(field) => {
            let text = String::from_utf8_lossy(field);
            Some(text.parse::<u32>().map_err(|_| format!("{text:?} is not a size in bytes (0 to {})", u32::MAX))?)
        }
    };
    match fields.next() {
        Some(extra) => Err(format!("it has a third field {:?}", String::from_utf8_lossy(extra))),
        None if key.len() > 65_535 => Err("its key is longer than 65,535 bytes".to_owned()),
        None => Ok(Some(Request { key, value_bytes })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn requests(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Option<u32>)>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut trace = Trace::open(file.path())?;
        let mut all = Vec::new();
        while let Some(request) = trace.next_request()? {
            all.push((request.key.to_vec(), request.value_bytes));
        }
        Ok(all)
    }

    const TEXT: &[u8] = b"alpha\n\nbeta 17\r\n  gamma\t0\nlast";

    fn expected() -> Vec<(Vec<u8>, Option<u32>)> {
        vec![
            (b"alpha".to_vec(), None),
            (b"beta".to_vec(), Some(17)),
            (b"gamma".to_vec(), Some(0)),
            (b"last".to_vec(), None),
        ]
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn a_trace_reads_the_same_plain_gzipped_and_zstd() {
        assert_eq!(requests(TEXT).unwrap(), expected());
        assert_eq!(requests(&gzip(TEXT)).unwrap(), expected());
        assert_eq!(requests(&zstd(TEXT)).unwrap(), expected());
    }

    #[test]
    fn several_compressed_members_read_as_one_trace() {
        let joined = [TEXT, b"\n", TEXT].concat();
        let twice: Vec<_> = expected().into_iter().chain(expected()).collect();
        assert_eq!(requests(&joined).unwrap(), twice);
        let halves = [TEXT, b"\n"].concat();
        assert_eq!(requests(&[gzip(&halves), gzip(TEXT)].concat()).unwrap(), twice);
        assert_eq!(requests(&[zstd(&halves), zstd(TEXT)].concat()).unwrap(), twice);
    }

    #[test]
    fn a_line_that_is_no_request_is_named() {
        for (text, expected) in [
            (&b"a\nb\nc twelve\n"[..], "line 3"),
            (b"a 1 2\n", "third field \"2\""),
            (b"a -5\n", "\"-5\" is not a size"),
            (b"a 4294967296\n", "not a size"),
        ] {
            let message = requests(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let long = vec![b'x'; 70_000];
        assert!(requests(&long).unwrap_err().to_string().contains("65,535"));
    }

    #[test]
    fn a_compressed_trace_that_was_cut_short_is_an_error() {
        let many: Vec<u8> =
            (0..20_000u32).flat_map(|n| format!("{}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        for whole in [gzip(&many), zstd(&many)] {
            assert_eq!(requests(&whole).unwrap().len(), 20_000);
            let message = requests(&whole[..whole.len() / 2]).unwrap_err().to_string();
            assert!(message.contains("read the trace"), "{message}");
        }
    }
}
