//! The one table of errors, for every language that meets the cache.
//!
//! Owns: the error type of all crates and its rendering as a C number, a word
//! (for logs, JSON and the wire), the base class of its Python exception and an
//! exit code. Numbers and words never change meaning; new rows are appended.
//!
//! Must never: be turned into text inside a critical section (texts allocate).

use std::fmt;
use std::path::PathBuf;

/// What every fallible call of the cache returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with the evidence and the next step.
///
/// Nothing stored is harmed by any of these.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A key has no bytes.
    KeyEmpty,
    /// A key is longer than [`crate::KEY_BYTES_MAX`].
    KeyTooLong {
        /// Bytes of the key that was given.
        bytes: u64,
        /// The most a key may have.
        bytes_max: u64,
    },
    /// A value (with its key and header) is larger than a quarter of the region.
    ValueTooLarge {
        /// Bytes of the value that was given.
        bytes: u64,
        /// The most a value with this key may have in this region.
        bytes_max: u64,
    },
    /// The value is neither an integer nor canonical decimal text.
    NotInteger,
    /// The result does not fit a signed 64-bit integer; nothing was changed.
    Overflow,
    /// Another process or thread held what was needed until the deadline.
    Busy {
        /// Milliseconds that the call waited.
        waited_ms: u64,
    },
    /// The region has no room: a no-evict region drops nothing, an evicting one found
    /// nothing that it may drop.
    Full {
        /// Bytes that were asked for.
        bytes: u64,
        /// Bytes of the whole region.
        region_bytes: u64,
    },
    /// The file system that holds the region has no space left.
    NoSpace {
        /// Bytes that were asked of the file system.
        bytes: u64,
        /// Bytes that it says are free.
        free_bytes: u64,
        /// The region's file.
        path: PathBuf,
    },
    /// A write on a read-only attachment.
    ReadOnly,
    /// The handle was closed.
    Closed,
    /// The region was destroyed, unlinked or replaced.
    Gone {
        /// The region's file.
        path: PathBuf,
    },
    /// The file is not a region at all.
    NotRegion {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        reason: &'static str,
    },
    /// The file is a region of another format.
    FormatVersion {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The version this library reads.
        supported: u32,
    },
    /// The region's fixed bytes contradict each other.
    Corrupt {
        /// What was found wrong.
        reason: &'static str,
    },
    /// The file is shorter than its header says.
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that it has.
        bytes: u64,
        /// Bytes that it should have.
        bytes_expected: u64,
    },
    /// The region was made before this boot (only where it may not be made anew).
    EarlierBoot {
        /// The file.
        path: PathBuf,
    },
    /// The region belongs to another user or group.
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// User id of its owner.
        uid: u32,
        /// User id that was expected.
        uid_expected: u32,
    },
    /// The file, its mode or its directory may be changed by others, or may not be opened.
    Permission {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A symbolic link stands where the region's file should be.
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// A region name with a forbidden character, or none.
    InvalidName {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A size below the minimum, over the maximum, or not a size.
    InvalidSize {
        /// The size as it was given.
        given: String,
        /// The smallest size that works.
        bytes_min: u64,
    },
    /// The region exists with another size.
    SizeMismatch {
        /// Bytes that were asked for.
        bytes: u64,
        /// Bytes that the existing region has.
        bytes_existing: u64,
    },
    /// A region of that name exists (create only).
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// No region of that name exists (open only).
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Every participant slot of the region is taken by a living process.
    ParticipantsFull {
        /// The number of slots.
        count: u32,
    },
    /// Every pin cell of this process is in use.
    PinsFull {
        /// The number of cells.
        count: u32,
    },
    /// The file system cannot hold a region (network, overlay).
    UnsupportedFilesystem {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The operating system refused a call.
    Io {
        /// What was tried.
        operation: &'static str,
        /// The system's error number.
        errno: i32,
        /// The file, where there is one.
        path: PathBuf,
    },
    /// The caller's buffer is too small for the value.
    BufferTooSmall {
        /// Bytes that the value has.
        bytes: u64,
        /// Bytes that the buffer has.
        bytes_given: u64,
    },
    /// An argument makes no sense.
    InvalidArgument {
        /// Which one, and why.
        reason: &'static str,
    },
    /// Another process is creating the region and did not finish in time.
    HalfMade {
        /// The file.
        path: PathBuf,
    },
    /// A defect of this library: a panic was stopped at a language boundary.
    Internal,
    /// An object of a type that a key or value cannot have.
    UnsupportedType {
        /// Name of the type that was given.
        given: String,
        /// What was wanted instead, and what else helps.
        wanted: &'static str,
    },
    /// A value is nested deeper than the encoding allows, or contains itself.
    NestedTooDeep {
        /// The most levels of nesting.
        depth_max: u32,
    },
    /// A stored value's bytes are not what its kind says.
    BadEncoding {
        /// Kind of the value, see [`crate::kind`].
        kind: u8,
        /// Where in the value's bytes decoding stopped.
        offset: u64,
        /// What was found wrong.
        reason: &'static str,
    },
    /// A stored value was written by a serializer that this handle does not use.
    WrongSerializer {
        /// The serializer that wrote it.
        found: String,
    },
    /// The value is neither bytes nor text, or is text and what is appended is not.
    NotAppendable,
    /// Every lease row that the name can have is in use.
    LeasesFull {
        /// Rows of the region.
        count: u32,
    },
    /// A lease is given back or extended by who does not hold it.
    NotHolder {
        /// Why it is not held.
        reason: &'static str,
    },
    /// A value is not signed, or its signature is not that of its key and bytes.
    BadSignature {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option in the environment or in a configuration file makes no sense.
    InvalidConfig {
        /// The variable, or the file and the line.
        place: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A tag or the name of a namespace is empty or too long.
    LabelLength {
        /// Bytes of what was given.
        bytes: u64,
        /// The most that it may have.
        bytes_max: u64,
    },
    /// Every row of the namespace table has a name.
    NamespacesFull {
        /// Rows of the region.
        count: u32,
    },
    /// A value has more than [`crate::TAG_COUNT_MAX`] tags.
    TooManyTags {
        /// Tags that were given.
        count: u64,
        /// The most that a value may have.
        count_max: u64,
    },
}

/// One row of the table: how an [`Error`] is rendered outside Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rendering {
    /// Number in the C API; 0 is success and 1 "not found", which are not errors.
    pub number: i32,
    /// Word in JSON, logs and on the wire; also the C constant in capitals.
    pub word: &'static str,
    /// Name of the Python exception.
    pub python_class: &'static str,
    /// Built-in exception it derives from.
    pub python_base: &'static str,
    /// Exit code of the command line.
    pub exit_code: u8,
}

/// Exit code of the command line for every error.
pub const EXIT_ERROR: u8 = 2;

macro_rules! table {
    ($($variant:ident = $number:literal, $word:literal, $class:literal, $base:literal;)*) => {
        /// Every row, in the order of the numbers.
        pub const TABLE: &[Rendering] = &[$(Rendering {
            number: $number,
            word: $word,
            python_class: $class,
            python_base: $base,
            exit_code: EXIT_ERROR,
        }),*];

        impl Error {
            /// How this error is rendered in C, Python, on the wire and as an exit code.
            pub fn rendering(&self) -> Rendering {
                let number = match self { $(Error::$variant { .. } => $number),* };
                // Numbers ascend, each once; the test below holds them to it.
                TABLE[TABLE.partition_point(|row| row.number < number)]
            }
        }
    };
}

table! {
    KeyEmpty = 2, "key_empty", "InvalidKey", "ValueError";
    KeyTooLong = 3, "key_too_long", "InvalidKey", "ValueError";
    ValueTooLarge = 4, "value_too_large", "ValueTooLarge", "ValueError";
    NotInteger = 5, "not_integer", "NotInteger", "TypeError";
    Overflow = 6, "overflow", "IntegerOverflow", "OverflowError";
    Busy = 7, "busy", "Busy", "TimeoutError";
    Full = 8, "full", "RegionFull", "MemoryError";
    NoSpace = 9, "no_space", "NoSpace", "OSError";
    ReadOnly = 10, "read_only", "ReadOnly", "PermissionError";
    Closed = 11, "closed", "Closed", "ValueError";
    Gone = 12, "gone", "RegionGone", "OSError";
    NotRegion = 13, "not_region", "NotRegion", "ValueError";
    FormatVersion = 14, "format_version", "FormatVersion", "ValueError";
    Corrupt = 15, "corrupt", "RegionCorrupt", "OSError";
    Truncated = 16, "truncated", "RegionTruncated", "OSError";
    EarlierBoot = 17, "earlier_boot", "EarlierBoot", "OSError";
    ForeignOwner = 18, "foreign_owner", "ForeignOwner", "PermissionError";
    Permission = 19, "permission", "RegionPermission", "PermissionError";
    Symlink = 20, "symlink", "RegionSymlink", "PermissionError";
    InvalidName = 21, "invalid_name", "InvalidName", "ValueError";
    InvalidSize = 22, "invalid_size", "InvalidSize", "ValueError";
    SizeMismatch = 23, "size_mismatch", "SizeMismatch", "ValueError";
    Exists = 24, "exists", "RegionExists", "FileExistsError";
    Missing = 25, "missing", "RegionMissing", "FileNotFoundError";
    ParticipantsFull = 26, "participants_full", "ParticipantsFull", "OSError";
    PinsFull = 27, "pins_full", "PinsFull", "OSError";
    UnsupportedFilesystem = 28, "unsupported_filesystem", "UnsupportedFilesystem", "OSError";
    Io = 29, "io", "RegionIOError", "OSError";
    BufferTooSmall = 30, "buffer_too_small", "BufferTooSmall", "BufferError";
    InvalidArgument = 31, "invalid_argument", "InvalidArgument", "ValueError";
    HalfMade = 32, "half_made", "RegionHalfMade", "TimeoutError";
    Internal = 33, "internal", "InternalError", "RuntimeError";
    UnsupportedType = 34, "unsupported_type", "UnsupportedType", "TypeError";
    NestedTooDeep = 35, "nested_too_deep", "NestedTooDeep", "ValueError";
    BadEncoding = 36, "bad_encoding", "BadEncoding", "ValueError";
    WrongSerializer = 37, "wrong_serializer", "WrongSerializer", "ValueError";
    NotAppendable = 38, "not_appendable", "NotAppendable", "TypeError";
    LeasesFull = 39, "leases_full", "LeasesFull", "OSError";
    NotHolder = 40, "not_holder", "NotHolder", "RuntimeError";
    BadSignature = 41, "bad_signature", "BadSignature", "ValueError";
    InvalidConfig = 42, "invalid_config", "InvalidConfig", "ValueError";
    LabelLength = 43, "label_length", "InvalidLabel", "ValueError";
    NamespacesFull = 44, "namespaces_full", "NamespacesFull", "OSError";
    TooManyTags = 45, "too_many_tags", "TooManyTags", "ValueError";
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::KeyEmpty => write!(f, "the key is empty; a key has 1 to 65,535 bytes"),
            Error::KeyTooLong { bytes, bytes_max } => {
                write!(f, "the key has {bytes} bytes, the most is {bytes_max}; hash long keys before use")
            }
            Error::ValueTooLarge { bytes, bytes_max } => write!(
                f,
                "the value has {bytes} bytes, the most in this region is {bytes_max}; create a larger region or split the value"
            ),
            Error::NotInteger => write!(
                f,
                "the stored value is neither an integer nor canonical decimal text of 64 bits; delete it or use another key"
            ),
            Error::Overflow => {
                write!(f, "the result does not fit a signed 64-bit integer; nothing was changed")
            }
            Error::Busy { waited_ms } => write!(
                f,
                "another process held the lock for this key's stripe for {waited_ms} ms; try again, or see with `ps -eo pid,stat,comm` who is stopped (T)"
            ),
            Error::Full { bytes, region_bytes } => write!(
                f,
                "no room for {bytes} bytes in the region of {region_bytes} bytes; delete keys, release views, or create a larger region"
            ),
            Error::NoSpace { bytes, free_bytes, path } => write!(
                f,
                "the file system of {} has {free_bytes} bytes free and {bytes} are needed; in Docker /dev/shm is 64 MiB unless --shm-size says more, or set CACHE_SHM_DIR to another tmpfs",
                path.display()
            ),
            Error::ReadOnly => write!(f, "this attachment is read-only; open the region without read_only to write"),
            Error::Closed => write!(f, "the cache handle is closed; open it again"),
            Error::Gone { path } => {
                write!(
                    f,
                    "the region {} was destroyed or replaced; the next call uses the one that is there then, or makes it, unless the handle was opened not to",
                    path.display()
                )
            }
            Error::NotRegion { path, reason } => {
                write!(f, "{} is not a cache region ({reason}); choose another name or remove the file", path.display())
            }
            Error::FormatVersion { path, found, supported } => write!(
                f,
                "{} has format version {found}, this library reads version {supported}; use the matching release or destroy the region",
                path.display()
            ),
            Error::Corrupt { reason } => {
                write!(f, "the region is damaged ({reason}); run `cache-shm verify`, or destroy and create it")
            }
            Error::Truncated { path, bytes, bytes_expected } => write!(
                f,
                "{} has {bytes} bytes and should have {bytes_expected}: it was truncated; destroy and create it",
                path.display()
            ),
            Error::EarlierBoot { path } => write!(
                f,
                "{} was made before this boot and cannot be read; open it for writing to have it made anew",
                path.display()
            ),
            Error::ForeignOwner { path, uid, uid_expected } => write!(
                f,
                "{} belongs to user {uid}, not to user {uid_expected}; share a region with mode=0o660 and group= in a directory of its own",
                path.display()
            ),
            Error::Permission { path, reason } => {
                write!(f, "{} cannot be used: {reason}", path.display())
            }
            Error::Symlink { path } => write!(
                f,
                "{} is a symbolic link, which is never followed; remove it or name the real file",
                path.display()
            ),
            Error::InvalidName { name, reason } => {
                write!(f, "{name:?} cannot name a region: {reason}")
            }
            Error::InvalidSize { given, bytes_min } => write!(
                f,
                "{given:?} is not a usable region size; give bytes or text such as \"256MB\", at least {bytes_min} bytes"
            ),
            Error::SizeMismatch { bytes, bytes_existing } => write!(
                f,
                "the region exists with {bytes_existing} bytes and {bytes} were asked for; omit the size, or destroy the region first"
            ),
            Error::Exists { path } => {
                write!(f, "the region {} exists; open it, or destroy it first", path.display())
            }
            Error::Missing { path } => {
                write!(f, "there is no region {}; create it, or check the name and CACHE_SHM_DIR", path.display())
            }
            Error::ParticipantsFull { count } => write!(
                f,
                "all {count} participant slots of the region are taken by living processes; attach fewer, or create a larger region"
            ),
            Error::PinsFull { count } => {
                write!(f, "all {count} pins of this process are in use; release views, or use get, which copies")
            }
            Error::UnsupportedFilesystem { path, reason } => {
                write!(f, "{} cannot hold a region: {reason}; use a tmpfs or a local disk", path.display())
            }
            Error::Io { operation, errno, path } => {
                write!(f, "{operation} failed on {}: {}", path.display(), std::io::Error::from_raw_os_error(*errno))
            }
            Error::BufferTooSmall { bytes, bytes_given } => {
                write!(f, "the value has {bytes} bytes, the buffer {bytes_given}; give a larger buffer")
            }
            Error::InvalidArgument { reason } => write!(f, "invalid argument: {reason}"),
            Error::HalfMade { path } => write!(
                f,
                "another process is still creating {}; try again, or remove the file if its maker hangs",
                path.display()
            ),
            Error::Internal => {
                write!(f, "a defect in the cache library was stopped at the language boundary; please report it")
            }
            Error::UnsupportedType { given, wanted } => write!(f, "{given} is not supported here; {wanted}"),
            Error::NestedTooDeep { depth_max } => {
                write!(f, "the value is nested deeper than {depth_max} levels, or contains itself; flatten it")
            }
            Error::BadEncoding { kind, offset, reason } => write!(
                f,
                "the stored value of kind {kind} cannot be decoded at byte {offset}: {reason}; it was written by another program or is damaged, delete the key"
            ),
            Error::WrongSerializer { found } => write!(
                f,
                "the value was written with serializer={found:?}, which this handle does not use; open the cache with it, but only if you trust every writer"
            ),
            Error::NotAppendable => write!(
                f,
                "only bytes and text can be appended to, and only UTF-8 to text; read the value, change it and store it with `cas`"
            ),
            Error::LeasesFull { count } => write!(
                f,
                "there is no row left for this name among the region's {count} lease rows; release locks and permits, use fewer names, or create a larger region"
            ),
            Error::NotHolder { reason } => write!(f, "not held by this caller: {reason}"),
            Error::BadSignature { reason } => {
                write!(f, "the stored value is not to be trusted: {reason}; find out who wrote it, and delete the key")
            }
            Error::InvalidConfig { place, reason } => write!(f, "a mistake in the configuration, {place}: {reason}"),
            Error::LabelLength { bytes, bytes_max } => {
                write!(f, "a tag or the name of a namespace has 1 to {bytes_max} bytes here, not {bytes}; give another")
            }
            Error::NamespacesFull { count } => write!(
                f,
                "all {count} namespaces of the region are in use, and they stay; use tags or prefixes of keys for what comes and goes, or create a larger region"
            ),
            Error::TooManyTags { count, count_max } => {
                write!(f, "the value has {count} tags, and can have {count_max}; use fewer, coarser ones")
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::TABLE;

    #[test]
    fn the_error_table_is_total_and_unique() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(row.number >= 2 && TABLE[..at].iter().all(|other| other.number < row.number), "ascending: {row:?}");
            assert!(!row.word.is_empty() && !row.python_class.is_empty());
            for other in &TABLE[..at] {
                assert_ne!(row.word, other.word);
                if row.python_class == other.python_class {
                    assert_eq!(row.python_base, other.python_base);
                }
            }
        }
    }
}
