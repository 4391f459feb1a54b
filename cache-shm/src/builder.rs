//! How a handle is asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cache_core::{Error, Mode, Result};

use crate::cache::Cache;
use crate::clock::Clock;
use crate::config::Settings;
use crate::directory::Sharing;
use crate::name::Location;
use crate::open::{How, Mismatch, Plan};

/// The wait of writers that were not told otherwise.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Options of a [`Cache`], see [`Cache::builder`].
///
/// What no method here was called for comes from [`Settings`]: the environment, else a file.
///
/// ```
/// use std::time::Duration;
/// use cache_shm::{Cache, Error, Mode};
///
/// let cache = Cache::builder(None).size(1 << 20).mode(Mode::NoEvict).timeout(Duration::from_millis(50)).create()?;
/// let full = (0..100_u32).find_map(|number| cache.set(&number.to_le_bytes(), &[0; 50_000]).err());
/// assert!(matches!(full, Some(Error::Full { region_bytes: 1_048_576, .. })));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until open, create or open_or_create"]
pub struct Builder {
    name: Option<String>,
    dir: Option<PathBuf>,
    bytes: Option<u64>,
    mode: Option<Mode>,
    prealloc: Option<bool>,
    ephemeral: Option<bool>,
    read_only: Option<bool>,
    file_mode: Option<u32>,
    group: Option<u32>,
    on_mismatch: Option<Mismatch>,
    timeout: Option<Duration>,
    reattach: bool,
    clock: Option<Clock>,
    settings: Option<Settings>,
}

impl Builder {
    pub(crate) fn new(name: Option<&str>) -> Builder {
        Builder {
            name: name.map(str::to_owned),
            dir: None,
            bytes: None,
            mode: None,
            prealloc: None,
            ephemeral: None,
            read_only: None,
            file_mode: None,
            group: None,
            on_mismatch: None,
            timeout: None,
            reattach: true,
            clock: None,
            settings: None,
        }
    }

    /// Bytes of the region, rounded up to whole pages; at least 1 MiB. Without a size an
    /// existing region is attached as it is, and a new one gets 256 MiB or half of what
    /// the file system has free, whichever is less.
    pub fn size(mut self, bytes: u64) -> Builder {
        self.bytes = Some(bytes);
        self
    }

    /// What a full region does: evict (the default) or refuse.
    pub fn mode(mut self, mode: Mode) -> Builder {
        self.mode = Some(mode);
        self
    }

    /// Gives a new region all its memory at once instead of as it fills, in pages of 2 MiB
    /// where the kernel has them (Linux 6.1 and later), which makes reads all over a large
    /// region faster. Takes some three seconds a GiB.
    pub fn prealloc(mut self, prealloc: bool) -> Builder {
        self.prealloc = Some(prealloc);
        self
    }

    /// A new region disappears with its last participant.
    pub fn ephemeral(mut self, ephemeral: bool) -> Builder {
        self.ephemeral = Some(ephemeral);
        self
    }

    /// Maps the region read-only: the kernel refuses every write, no participant slot is
    /// taken, and nothing in the region shows that somebody is attached. Never makes a
    /// region.
    pub fn read_only(mut self, read_only: bool) -> Builder {
        self.read_only = Some(read_only);
        self
    }

    /// Permission bits of a new region: `0o600` by default, `0o660` with a group; 0o640
    /// lets the group attach read-only. Others can never be let in.
    pub fn file_mode(mut self, mode: u32) -> Builder {
        self.file_mode = Some(mode);
        self
    }

    /// Shares the region with the group `gid`: a new region belongs to it, and an
    /// existing one is attached only if it does, whoever owns it. Give such regions a
    /// directory of their own that this group may write to.
    pub fn group(mut self, gid: u32) -> Builder {
        self.group = Some(gid);
        self
    }

    /// The directory for a name without a slash, instead of [`crate::default_dir`]. It is
    /// made if it is not there (its parent must be).
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Builder {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// What to do when the region exists with another size than [`Builder::size`].
    pub fn on_mismatch(mut self, on_mismatch: Mismatch) -> Builder {
        self.on_mismatch = Some(on_mismatch);
        self
    }

    /// Longest wait of a write for other writers, and of opening for a region that
    /// somebody is making. One second by default; zero tries once.
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = Some(timeout);
        self
    }

    /// Whether the handle attaches anew, as it was opened, when its region was destroyed
    /// or replaced (true by default). If there is none it makes one like that which is gone: of
    /// the size that was asked for or else the same one, evicting or not and shared as it was.
    /// Otherwise every write fails with `Gone` from then
    /// on, and reads go on in the old region.
    pub fn reattach(mut self, reattach: bool) -> Builder {
        self.reattach = reattach;
        self
    }

    /// The clock by which values expire, instead of the directory's or the system's. For tests.
    pub fn clock(mut self, clock: Clock) -> Builder {
        self.clock = Some(clock);
        self
    }

    /// What is configured, instead of what [`Settings::read`] finds when the region is
    /// opened. `Settings::default()` is for programs that want neither environment nor file.
    pub fn settings(mut self, settings: Settings) -> Builder {
        self.settings = Some(settings);
        self
    }

    /// Attaches to an existing region.
    ///
    /// # Errors
    /// `Missing` if there is none. Both like the others below: `InvalidName`, `Symlink`,
    /// `NotRegion`, `FormatVersion`, `Corrupt`, `Truncated`, `ForeignOwner`,
    /// `Permission`, `HalfMade`, `ParticipantsFull`, `UnsupportedFilesystem`, `Io`; and
    /// `InvalidConfig`, see [`Settings::read`].
    pub fn open(self) -> Result<Cache> {
        Cache::start(self.plan(How::Open)?)
    }

    /// Makes a region.
    ///
    /// # Errors
    /// `Exists` if there is one of this boot; `InvalidSize`, `NoSpace`.
    pub fn create(self) -> Result<Cache> {
        Cache::start(self.plan(How::Create)?)
    }

    /// Attaches to the region, or makes it: whoever comes first. See [`Cache::opened`].
    ///
    /// # Errors
    /// As for [`Builder::open`] and [`Builder::create`], but `Missing` and `Exists`.
    pub fn open_or_create(self) -> Result<Cache> {
        self.plan(How::OpenOrCreate).and_then(Cache::start)
    }

    /// Looks whether [`Builder::open_or_create`] could do its work, without making or
    /// attaching anything; the region's file, if it has a name.
    ///
    /// # Errors
    /// As for [`Builder::open_or_create`], as far as it can be known.
    pub fn check(self) -> Result<Option<PathBuf>> {
        let plan = self.plan(How::OpenOrCreate)?;
        plan.location.as_ref().map(|location| plan.look(location).map(|()| location.path())).transpose()
    }

    /// Destroys the region without attaching to it, whatever state it is in (truncated,
    /// damaged, of an earlier boot or another version), as long as it is a region that
    /// these options could open for writing.
    ///
    /// # Errors
    /// `Missing`, `InvalidName`, `NotRegion`, `Symlink`, `ForeignOwner`, `Permission`,
    /// `Io`; `ReadOnly` with [`Builder::read_only`].
    pub fn destroy(self) -> Result<()> {
        let plan = self.plan(How::Open)?;
        if plan.read_only {
            return Err(Error::ReadOnly);
        }
        let location =
            plan.location.as_ref().ok_or(Error::InvalidArgument { reason: "a private region has no name" })?;
        plan.destroy(location)
    }

    fn plan(self, how: How) -> Result<Plan> {
        let refuse = |reason| Err(Error::InvalidArgument { reason });
        let name = self.name.as_deref();
        let configured = self.settings.map_or_else(|| Settings::read(name), Ok)?;
        let dir = self.dir.or(configured.dir);
        let location = name.map(|name| Location::resolve(name, dir.as_deref())).transpose()?;
        // Nobody means a private region, which only its maker has.
        let read_only = self.read_only.or(configured.read_only.filter(|_| location.is_some())).unwrap_or(false);
        let file_mode = self.file_mode.or(configured.mode);
        let group = self.group.or(configured.group);
        let bytes = self.bytes.or(configured.size);
        let evict = |evict| if evict { Mode::Evict } else { Mode::NoEvict };
        if read_only && how == How::Create {
            return refuse("a region cannot be created read-only; open it read-only afterwards");
        }
        if location.is_none() && (read_only || how == How::Open) {
            return refuse("a private region has no name by which it could be opened; give a name");
        }
        if file_mode.is_some_and(|mode| mode & 0o600 != 0o600 || mode & !0o660 != 0) {
            return refuse(
                "the file mode must let the owner read and write, and only the group besides (0o600 to 0o660)",
            );
        }
        if group.is_some() && file_mode == Some(0o600) {
            return refuse("file mode 0o600 keeps the group out; give 0o660, or no group");
        }
        if let Some(bytes) = bytes {
            crate::create::whole_pages(bytes)?;
        }
        let file_mode = file_mode.unwrap_or(if group.is_some() { 0o660 } else { 0o600 });
        let own_group = || rustix::process::getegid().as_raw();
        let group = group.or_else(|| (file_mode & 0o060 != 0).then(own_group));
        Ok(Plan {
            location,
            how,
            bytes,
            mode: self.mode.or(configured.evict.map(evict)).unwrap_or_default(),
            prealloc: self.prealloc.or(configured.prealloc).unwrap_or(false),
            ephemeral: self.ephemeral.or(configured.ephemeral).unwrap_or(false),
            read_only,
            sharing: Sharing { file_mode, group },
            on_mismatch: self.on_mismatch.or(configured.on_mismatch).unwrap_or_default(),
            timeout: self.timeout.or(configured.timeout).unwrap_or(TIMEOUT),
            reattach: self.reattach,
            clock: self.clock,
            before: None,
        })
    }
}
