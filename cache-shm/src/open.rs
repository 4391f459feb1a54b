//! Finding, making or remaking the region that a handle asks for.
//!
//! Owns: the loop that turns a name into an attachment, whatever stands under that name
//! and whoever else is at work on it. Each turn ends in an attachment, an error, or with
//! something changed in the directory; the whole loop has a deadline.
//!
//! ```text
//! found                              then
//! nothing                            make (or Missing)
//! a region of this boot              attach (or Exists)
//! a region of an earlier boot        make anew as it was (or EarlierBoot, read-only)
//! unpublished, maker at work         wait (HalfMade at the deadline)
//! unpublished, maker dead            take its name away, look again
//! destroyed, still with its name     take its name away, look again
//! ephemeral, nobody left in it       take its name away, look again
//! anything else                      a named error; nothing is touched
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_core::{Error, Geometry, Mode, Result};

use crate::attach::{Attachment, Manner, Target};
use crate::clock::Clock;
use crate::create::{self, Recipe};
use crate::directory::{Directory, Sharing};
use crate::file::{Content, RegionFile};
use crate::fork::Process;
use crate::liveness::{self, MAKER_BYTE};
use crate::mapping::Mapping;
use crate::name::Location;

/// Pause between two looks at a region that is being made.
const LOOK_PAUSE: Duration = Duration::from_millis(2);
/// Turns of the loop. Each one that repeats has seen somebody else make progress.
const TURNS_MAX: u32 = 10_000;

/// What a handle does when it meets a region of another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mismatch {
    /// Attach, and say so in [`Opened::size_mismatch`].
    #[default]
    Warn,
    /// Fail with `SizeMismatch`.
    Error,
}

/// How a handle came to its region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// True if this handle made the region.
    pub created: bool,
    /// The size that was asked for and the one the region has, where they differ.
    pub size_mismatch: Option<(u64, u64)>,
    /// True if this handle replaced a region of an earlier boot.
    pub remade_after_boot: bool,
    /// The size this handle chose because none was given.
    pub default_size: Option<u64>,
    /// True if this handle asked for huge pages ([`crate::Builder::prealloc`]) and the kernel
    /// had none to give.
    pub without_huge_pages: bool,
}

/// What may be done to come to an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Open,
    Create,
    OpenOrCreate,
}

/// Everything a handle was asked to be; also what it needs to attach again later.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// `None`: a private region.
    pub(crate) location: Option<Location>,
    pub(crate) how: How,
    pub(crate) bytes: Option<u64>,
    pub(crate) mode: Mode,
    pub(crate) prealloc: bool,
    pub(crate) ephemeral: bool,
    pub(crate) read_only: bool,
    pub(crate) sharing: Sharing,
    pub(crate) on_mismatch: Mismatch,
    pub(crate) timeout: Duration,
    pub(crate) reattach: bool,
    /// Instead of the directory's.
    pub(crate) clock: Option<Clock>,
    /// What the handle's region was, which is gone: the one that takes its place is the same.
    pub(crate) before: Option<Before>,
}

/// The properties of a region that is gone.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    pub(crate) bytes: u64,
    pub(crate) mode: Mode,
    pub(crate) ephemeral: bool,
    /// `None` where its file does not tell.
    pub(crate) sharing: Option<Sharing>,
}

impl Before {
    /// Those of the region that `old` was attached to.
    pub(crate) fn of(old: &Attachment) -> Before {
        let os = old.os();
        let stat = os.file.with_fd(|fd| rustix::fs::fstat(fd).ok()).flatten();
        let sharing = stat.map(|stat| {
            let file_mode = stat.st_mode & 0o660;
            Sharing { file_mode, group: (file_mode & 0o060 != 0).then_some(stat.st_gid) }
        });
        Before { bytes: os.geometry.region_bytes, mode: os.geometry.mode, ephemeral: os.identity().ephemeral, sharing }
    }
}

enum Turn {
    Done(Arc<Attachment>, Opened),
    /// Something changed, or somebody is at work.
    Again {
        pause: bool,
    },
}

impl Plan {
    /// An attachment as planned. `inherited` is what the process that forked us had: a
    /// private region is reached through it, and the memory is not mapped twice.
    ///
    /// # Errors
    /// Whatever stands in the way; see the module.
    pub(crate) fn attach(
        &self,
        process: &mut Process,
        inherited: Option<&Attachment>,
    ) -> Result<(Arc<Attachment>, Opened)> {
        let Some(location) = &self.location else { return self.attach_private(process, inherited) };
        let may_make = self.how != How::Open && !self.read_only;
        let directory = Directory::open(location, self.sharing, may_make && location.make_directory)?;
        let clock = match &self.clock {
            Some(clock) => clock.clone(),
            None => Clock::of_directory(&directory, self.sharing)?,
        };
        let manner = Manner { read_only: self.read_only, clock: &clock };
        let deadline = Instant::now() + self.timeout;
        for _ in 0..TURNS_MAX {
            match self.turn(process, &directory, location, inherited, manner)? {
                Turn::Done(attachment, opened) => return Ok((attachment, opened)),
                Turn::Again { pause } => {
                    if Instant::now() >= deadline {
                        break;
                    }
                    if pause {
                        std::thread::sleep(LOOK_PAUSE);
                    }
                }
            }
        }
        Err(Error::HalfMade { path: location.path() })
    }

    /// Destroys the region without attaching to it, whatever state it is in, as long as it
    /// is a region that this plan may open.
    ///
    /// # Errors
    /// `Missing`, `NotRegion`, `Symlink`, `ForeignOwner`, `Permission`, `Io`.
    pub(crate) fn destroy(&self, location: &Location) -> Result<()> {
        let directory = Directory::open(location, self.sharing, false)?;
        let file = RegionFile::open(&directory, &location.file, self.sharing, true)?
            .ok_or_else(|| Error::Missing { path: location.path() })?;
        match file.content() {
            Err(error @ (Error::NotRegion { .. } | Error::Io { .. })) => Err(error),
            _ => create::destroy(&directory, &location.file, &file),
        }
    }

    /// Looks whether there is, or could be, a region of this plan, changing nothing.
    ///
    /// # Errors
    /// What stands in the way.
    pub(crate) fn look(&self, location: &Location) -> Result<()> {
        let Some(directory) = Directory::find(location, self.sharing)? else { return Ok(()) };
        let file = RegionFile::open(&directory, &location.file, self.sharing, !self.read_only)?;
        let Some(content) = file.map(|file| file.content()).transpose()? else { return Ok(()) };
        match content {
            Content::Ready(geometry, _) => self.size_mismatch(&geometry).map(drop),
            _ => Ok(()),
        }
    }

    /// The size that was asked for and the one that the region has, where they differ.
    ///
    /// # Errors
    /// `SizeMismatch` if that is none; `InvalidSize`.
    fn size_mismatch(&self, geometry: &Geometry) -> Result<Option<(u64, u64)>> {
        let bytes_existing = geometry.region_bytes;
        let asked = self.bytes.map(create::whole_pages).transpose()?;
        match (asked.filter(|bytes| *bytes != bytes_existing), self.on_mismatch) {
            (Some(bytes), Mismatch::Error) => Err(Error::SizeMismatch { bytes, bytes_existing }),
            (found, _) => Ok(found.map(|bytes| (bytes, bytes_existing))),
        }
    }

    fn recipe(&self) -> Recipe {
        let asked = Recipe {
            bytes: self.bytes,
            mode: self.mode,
            prealloc: self.prealloc,
            ephemeral: self.ephemeral,
            sharing: self.sharing,
        };
        let Some(before) = &self.before else { return asked };
        Recipe {
            bytes: asked.bytes.or(Some(before.bytes)),
            mode: before.mode,
            ephemeral: before.ephemeral,
            sharing: before.sharing.unwrap_or(asked.sharing),
            ..asked
        }
    }

    fn turn(
        &self,
        process: &mut Process,
        directory: &Directory,
        location: &Location,
        inherited: Option<&Attachment>,
        manner: Manner<'_>,
    ) -> Result<Turn> {
        let name = &*location.file;
        let path = || -> PathBuf { directory.path().join(name) };
        let Some(file) = RegionFile::open(directory, name, self.sharing, !self.read_only)? else {
            if self.how == How::Open || self.read_only {
                return Err(Error::Missing { path: path() });
            }
            let made = create::make(process, directory, name, &self.recipe(), manner, None)?;
            return Ok(self.made(made, Opened { created: true, ..Opened::default() }));
        };
        let content = file.content()?;
        if self.read_only {
            return match content {
                Content::Ready(geometry, identity) => {
                    self.attach_to(process, Target { file, geometry, identity, mapping: None }, inherited, manner)
                }
                Content::EarlierBoot(..) => Err(Error::EarlierBoot { path: path() }),
                Content::Half => Ok(Turn::Again { pause: true }),
                Content::Destroyed => Err(Error::Missing { path: path() }),
            };
        }
        if create::remove_left_over(directory, name, &file)? {
            return Ok(Turn::Again { pause: false });
        }
        match content {
            Content::Half => {
                let maker_is_dead = file.with_fd(|fd| liveness::is_free(fd, MAKER_BYTE, 1)).flatten() == Some(true);
                if maker_is_dead {
                    directory.lock().remove(name, file.id())?;
                }
                Ok(Turn::Again { pause: !maker_is_dead })
            }
            Content::Destroyed => {
                directory.lock().remove(name, file.id())?;
                Ok(Turn::Again { pause: false })
            }
            Content::EarlierBoot(geometry, identity) => {
                let recipe = Recipe {
                    bytes: Some(self.bytes.unwrap_or(geometry.region_bytes)),
                    mode: geometry.mode,
                    ephemeral: identity.ephemeral,
                    ..self.recipe()
                };
                let made = create::make(process, directory, name, &recipe, manner, Some(file.id()))?;
                Ok(self.made(made, Opened { created: true, remade_after_boot: true, ..Opened::default() }))
            }
            Content::Ready(..) if self.how == How::Create => Err(Error::Exists { path: path() }),
            Content::Ready(geometry, identity) => {
                // An ephemeral region may be leaving with its last participant, who
                // holds this lock to make sure that he is.
                let names = identity.ephemeral.then(|| directory.lock());
                if names.is_some() && directory.file_id(name)? != Some(file.id()) {
                    return Ok(Turn::Again { pause: false });
                }
                self.attach_to(process, Target { file, geometry, identity, mapping: None }, inherited, manner)
            }
        }
    }

    fn made(&self, made: Option<create::Made>, opened: Opened) -> Turn {
        match made {
            Some(made) => {
                let without_huge_pages = !self.settle(&made.attachment);
                let opened = Opened { default_size: made.default_bytes, without_huge_pages, ..opened };
                Turn::Done(made.attachment, opened)
            }
            None => Turn::Again { pause: false },
        }
    }

    /// What takes long and hinders nobody: done when the new region has its name. False if
    /// it could not be done.
    fn settle(&self, attachment: &Attachment) -> bool {
        !self.prealloc || attachment.os().mapping.use_huge_pages()
    }

    fn attach_to(
        &self,
        process: &mut Process,
        mut target: Target,
        inherited: Option<&Attachment>,
        manner: Manner<'_>,
    ) -> Result<Turn> {
        let size_mismatch = self.size_mismatch(&target.geometry)?;
        target.mapping = inherited.and_then(|old| self.inherited_mapping(old, &target));
        match Attachment::of(process, target, manner)? {
            Some(attachment) => Ok(Turn::Done(attachment, Opened { size_mismatch, ..Opened::default() })),
            None => Ok(Turn::Again { pause: false }),
        }
    }

    /// The memory of the process that forked us, if it is the same region.
    fn inherited_mapping(&self, old: &Attachment, target: &Target) -> Option<Arc<Mapping>> {
        let os = old.os();
        let same = os.file.id() == target.file.id()
            && os.geometry.region_bytes == target.geometry.region_bytes
            && os.index.is_none() == self.read_only;
        same.then(|| Arc::clone(&os.mapping))
    }

    fn attach_private(
        &self,
        process: &mut Process,
        inherited: Option<&Attachment>,
    ) -> Result<(Arc<Attachment>, Opened)> {
        let clock = self.clock.clone().unwrap_or_default();
        let manner = Manner { read_only: self.read_only, clock: &clock };
        let Some(old) = inherited else {
            let made = create::make_private(process, &self.recipe(), manner)?;
            let without_huge_pages = !self.settle(&made.attachment);
            let default_size = made.default_bytes;
            let opened = Opened { created: true, default_size, without_huge_pages, ..Opened::default() };
            return Ok((made.attachment, opened));
        };
        let os = old.os();
        let gone = || Error::Gone { path: os.file.shown() };
        let file = RegionFile::from_fd(os.file.reopen()?, None)?;
        let target = Target {
            file,
            geometry: os.geometry.clone(),
            identity: os.identity().clone(),
            mapping: Some(Arc::clone(&os.mapping)),
        };
        let attachment = Attachment::of(process, target, manner)?.ok_or_else(gone)?;
        Ok((attachment, Opened::default()))
    }
}
