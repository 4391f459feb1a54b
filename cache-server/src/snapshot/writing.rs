//! From a region to a snapshot.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cache_shm::{Cache, Cursor, FORMAT_VERSION, Key, Namespace};
use rustix::fs::{Access, AtFlags, CWD, OFlags, access, linkat};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::format::{CHUNK_BYTES, Content, Head, Header, Record, end_payload, to_unix_ms};
use super::{Progress, Watch};
use crate::clock::unix_ms;
use crate::failure::{Failure, Result};

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Values.
    pub items: u64,
    /// Bytes of the values.
    pub value_bytes: u64,
    /// Values with tags.
    pub tagged: u64,
    /// Bytes of the snapshot.
    pub bytes: u64,
    /// Its id, as in its header.
    pub id: u64,
    /// The region that it is of.
    pub region_id: [u8; 16],
}

/// Where a process finds its open files.
const OWN_FILES: &str = "/proc/self/fd";
/// So often a snapshot makes way for others of the same name.
const LINK_TURNS_MAX: u32 = 100;

/// Writes the contents of all namespaces of `cache`'s region to the file `path`, which is
/// replaced in one step at the end. Any handle will do; a read-only one leaves no trace at all.
/// A pipe or a character device of that name is written to instead, as by [`write_to`], also
/// behind a symbolic link.
///
/// # Errors
/// The file cannot be written, or is a region, a directory, a socket or a disk; then whatever was there
/// is untouched. `Busy` if writers kept one bucket of the index changing all the time. `Cancelled` if
/// `watch` said so.
pub fn write(cache: &Cache, path: &Path, watch: &mut Watch<'_>) -> Result<Summary> {
    if let Place::Stream = place(path)? {
        let failed = |error: &io::Error| Failure::file("write the snapshot", path, error);
        // Not made if it went meanwhile, and no terminal becomes ours.
        let flags = OFlags::NOCTTY.bits().cast_signed();
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path).map_err(|error| failed(&error))?;
        if file.is_terminal() {
            return Err(Failure::usage("a snapshot is not for terminals; send it to a file or a pipe"));
        }
        let mut stream = BufWriter::with_capacity(1 << 20, file);
        return write_to(cache, &mut stream, watch).map_err(|failure| failure.at(path));
    }
    Unpublished::write(cache, path, watch)?.publish()
}

/// A snapshot that is whole and on disk, and has yet to get its name. Nothing is left of one that
/// goes without.
pub struct Unpublished<'a> {
    path: &'a Path,
    file: Written,
    directory: File,
    summary: Summary,
}

enum Written {
    /// Without a name.
    Unnamed(File),
    /// Where the file system has no such files; gone if we fail.
    Named(NamedTempFile),
}

impl<'a> Unpublished<'a> {
    /// As [`write()`], but nothing has the name `path` yet.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn write(cache: &Cache, path: &'a Path, watch: &mut Watch<'_>) -> Result<Unpublished<'a>> {
        let failed = |error: &io::Error| Failure::file("write the snapshot", path, error);
        if let Place::Stream = place(path)? {
            return Err(failed(&io::Error::other("it is no regular file")));
        }
        let parent = directory_of(path);
        // First: what cannot be synced in the end is not begun.
        let directory = File::open(parent).map_err(|error| failed(&error))?;
        let file = match unnamed(parent) {
            Ok(file) => Written::Unnamed(file),
            Err(error) if has_no_unnamed(&error) => {
                let file = tempfile::Builder::new().prefix(".snapshot-").tempfile_in(parent);
                Written::Named(file.map_err(|error| failed(&error))?)
            }
            Err(error) => return Err(failed(&error)),
        };
        let bytes = match &file {
            Written::Unnamed(file) => file,
            Written::Named(file) => file.as_file(),
        };
        let mut stream = BufWriter::with_capacity(1 << 20, bytes);
        let summary = write_to(cache, &mut stream, watch).map_err(|failure| failure.at(path))?;
        drop(stream);
        bytes.sync_all().map_err(|error| failed(&error))?;
        Ok(Unpublished { path, file, directory, summary })
    }

    /// What it holds.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Puts it in the place of what has its name.
    ///
    /// # Errors
    /// The system refuses; then what has the name keeps it.
    pub fn publish(self) -> Result<Summary> {
        let failed = |error: &io::Error| Failure::file("write the snapshot", self.path, error);
        match self.file {
            Written::Unnamed(file) => link(&file, self.path).map_err(|error| failed(&error))?,
            Written::Named(file) => drop(file.persist(self.path).map_err(|error| failed(&error.error))?),
        }
        // The name as well as the bytes.
        self.directory.sync_all().map_err(|error| failed(&error))?;
        Ok(self.summary)
    }
}

/// Looks whether snapshots can be written to the file `path` from time to time.
///
/// # Errors
/// What has the name is no regular file, or is a region; or nothing can be written in its directory.
pub fn check_place(path: &Path) -> Result<()> {
    let directory = directory_of(path);
    let unusable = |error: &io::Error| Failure::file("write snapshots in", directory, error);
    if !std::fs::metadata(directory).map_err(|error| unusable(&error))?.is_dir() {
        return Err(unusable(&io::ErrorKind::NotADirectory.into()));
    }
    let may = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    access(directory, may).map_err(|errno| unusable(&errno.into()))?;
    match place(path)? {
        Place::File => Ok(()),
        Place::Stream => {
            let error = io::Error::other("it is no regular file, which snapshots from time to time need");
            Err(Failure::file("write the snapshot", path, &error))
        }
    }
}

/// Where `path` is.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name `.NAME.what` beside the file `NAME`.
pub fn hidden(path: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

/// What a snapshot does with what has its name.
enum Place {
    /// It takes the name.
    File,
    /// It flows through it.
    Stream,
}

/// Looks at what has the name, and refuses what a snapshot must not replace.
fn place(path: &Path) -> Result<Place> {
    let failed = |error: &io::Error| Failure::file("write the snapshot", path, error);
    let refused =
        |what: &str| Err(failed(&io::Error::other(format!("it is {what}, which a snapshot does not replace"))));
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        // Also a link that leads nowhere.
        Err(error) if is_missing(&error) => return Ok(Place::File),
        Err(error) => return Err(failed(&error)),
    };
    let kind = found.file_type();
    if kind.is_fifo() || kind.is_char_device() {
        return Ok(Place::Stream);
    }
    if kind.is_dir() {
        return refused("a directory");
    }
    if path.is_symlink() {
        return Ok(Place::File);
    }
    if !kind.is_file() {
        return refused("no regular file");
    }
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| file.take(8).read_to_end(&mut first));
    read.map_err(|error| failed(&error))?;
    if first == cache_shm::MAGIC.to_le_bytes() {
        return refused("a region");
    }
    Ok(Place::File)
}

/// A file of which nothing is left if this process is killed.
fn unnamed(directory: &Path) -> io::Result<File> {
    // It gets its name by way of this.
    std::fs::metadata(OWN_FILES)?;
    let flags = OFlags::TMPFILE.bits().cast_signed();
    OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(directory)
}

/// True where files have names, or get them, in the plain way only; any other error is one of
/// named files too.
fn has_no_unnamed(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT))
}

/// Gives a finished file its name, in place of what had it.
fn link(file: &File, path: &Path) -> io::Result<()> {
    let itself = format!("{OWN_FILES}/{}", file.as_raw_fd());
    // A link replaces nothing, so it is made under another name first. That is always the same one: what
    // a kill leaves there goes with the next snapshot.
    let first = hidden(path, "new");
    for turn in 1.. {
        let _ = std::fs::remove_file(&first);
        let named = linkat(CWD, &itself, CWD, &first, AtFlags::SYMLINK_FOLLOW)
            .map_err(io::Error::from)
            .and_then(|()| std::fs::rename(&first, path).inspect_err(|_| drop(std::fs::remove_file(&first))));
        match named {
            // Another snapshot of the same name was faster between two steps.
            Err(error)
                if turn < LINK_TURNS_MAX
                    && matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
            done => return done,
        }
    }
    unreachable!("the last turn returns")
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// As [`write()`], to a stream, which is flushed at the end.
///
/// # Errors
/// As [`write()`]; what was written by then is no whole snapshot, and known as such.
pub fn write_to(cache: &Cache, out: &mut dyn Write, watch: &mut Watch<'_>) -> Result<Summary> {
    let map = cache.map()?;
    let stats = map.stats();
    let header = Header {
        id: random(),
        created_unix_ms: unix_ms(),
        region_bytes: stats.region_bytes,
        items: stats.items,
        live_bytes: stats.live_bytes,
        region_format: FORMAT_VERSION,
    };
    let region_id = map.host().identity().region_id;
    let summary = Summary { id: header.id, region_id, ..Summary::default() };
    let mut chunks = Chunks { out, id: header.id, sequence: 0, summary };
    chunks.put(&header.to_bytes())?;
    let mut names = Names::default();
    let mut payload = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
    let mut records = 0;
    let mut keys: Vec<(Namespace, Vec<u8>)> = Vec::new();
    let mut value = Vec::new();
    let mut cursor = Some(Cursor::START);
    while let Some(from) = cursor.take() {
        cursor = map.scan(from, &mut |key, meta| keys.push((meta.namespace, key.to_vec())))?;
        for (namespace, key) in keys.drain(..) {
            let Some(carried) = map.carry(Key::new(namespace, &key), &mut value)? else { continue };
            let name = names.of(cache, namespace)?;
            let record = Record {
                namespace: name,
                key: &key,
                value: &value,
                kind: carried.meta.kind,
                key_form: carried.meta.key_form,
                client_flags: carried.meta.client_flags,
                server_flags: carried.meta.server_flags,
                tag_count: carried.tag_count.min(u8::MAX.into()) as u8,
                uses: carried.uses,
                is_main: carried.is_main,
                expires_unix_ms: to_unix_ms(&carried.meta, map.now_ms(), unix_ms()),
            };
            record.append_to(&mut payload);
            records += 1;
            chunks.summary.items += 1;
            chunks.summary.value_bytes += value.len() as u64;
            chunks.summary.tagged += u64::from(carried.tag_count > 0);
            if payload.len() >= CHUNK_BYTES {
                chunks.close(Content::Records, records, &payload)?;
                payload.clear();
                // One large value must not keep its memory to the end.
                payload.shrink_to(2 * CHUNK_BYTES);
                records = 0;
            }
        }
        let Summary { items, bytes, .. } = chunks.summary;
        if watch(Progress { items, items_expected: header.items.max(items), bytes }).is_break() {
            return Err(Failure::Cancelled);
        }
    }
    if records > 0 {
        chunks.close(Content::Records, records, &payload)?;
    }
    let Summary { items, value_bytes, .. } = chunks.summary;
    chunks.close(Content::End, 0, &end_payload(items, value_bytes))?;
    chunks.out.flush().map_err(unwritable)?;
    Ok(chunks.summary)
}

fn unwritable(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::file("write the snapshot", "to the stream".as_ref(), &error),
    }
}

struct Chunks<'a> {
    out: &'a mut dyn Write,
    id: u64,
    sequence: u64,
    summary: Summary,
}

impl Chunks<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(unwritable)?;
        self.summary.bytes += bytes.len() as u64;
        Ok(())
    }

    fn close(&mut self, content: Content, records: u32, payload: &[u8]) -> Result<()> {
        let head = Head::of(self.sequence, content, records, payload);
        self.sequence += 1;
        self.put(&head.to_bytes(self.id))?;
        self.put(payload)
    }
}

/// Names of namespaces by their numbers, which never change.
#[derive(Default)]
struct Names(Vec<Vec<u8>>);

impl Names {
    fn of(&mut self, cache: &Cache, namespace: Namespace) -> Result<&[u8]> {
        let index = usize::from(namespace.number());
        if index >= self.0.len() {
            self.0 = cache.namespaces()?.into_iter().map(|info| info.name).collect();
        }
        // A row whose name was damaged after its items were found has none.
        self.0
            .get(index)
            .map(Vec::as_slice)
            .ok_or_else(|| cache_shm::Error::Corrupt { reason: "an item is of a namespace that has no name" }.into())
    }
}
