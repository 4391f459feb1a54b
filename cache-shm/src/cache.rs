//! The handle that programs use.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cache_core::{
    Error, Geometry, Host, Map, Meta, NEVER, Namespace, PinnedValue, Repaired, Report, Result, Stats, WriteOptions,
    kind,
};

use crate::attach::{Attachment, release};
use crate::builder::Builder;
use crate::create;
use crate::directory::Directory;
use crate::handle::Handle;
use crate::handover;
use crate::name::region_name;
use crate::namespace::Scope;
use crate::news;
use crate::open::{Opened, Plan};
use crate::os::Os;

/// A shared cache: a handle on a region that any number of processes use at once, and in it
/// on the default namespace or the one that [`Cache::namespace`] named.
///
/// Clones are the same handle. All methods take `&self` and may be called from any
/// thread. After a `fork` the handle works in the child as well; what the parent holds
/// stays the parent's. Do not keep the result of [`Cache::map`] across a `fork`.
///
/// Keys have 1 to 65,535 bytes of any content, values up to a quarter of the region. What holds
/// for concurrent calls is said once, on [the front page](crate#guarantees).
///
/// # Errors
/// *Reads* fail with `Closed`, `Gone` (the region was destroyed, nobody made another, and
/// the handle may not), or `Corrupt`; a missing key is `None`. *Writes* also with `Busy` at
/// the handle's timeout, `ReadOnly`, `KeyEmpty`, `KeyTooLong`, `ValueTooLarge`, `Full`
/// (no-evict regions) and `NoSpace`. After an error nothing has changed. [`Error`] says of each
/// what to do about it.
///
/// ```
/// use cache_shm::Cache;
/// let cache = Cache::builder(None).size(1 << 20).create()?;
/// cache.set(b"greeting", b"hello")?;
/// assert_eq!(cache.get(b"greeting")?, Some(b"hello".to_vec()));
/// assert_eq!(cache.incr(b"visits", 1, Some(0))?, Some(1));
/// # Ok::<(), cache_shm::Error>(())
/// ```
#[derive(Clone)]
pub struct Cache(pub(crate) Arc<Handle>);

impl Cache {
    /// Options for a handle on the region `name`: a plain name in [`crate::default_dir`],
    /// or a path if it has a slash. `None` is a private region that only this process and
    /// the children it forks can reach.
    pub fn builder(name: Option<&str>) -> Builder {
        Builder::new(name)
    }

    pub(crate) fn start(plan: Plan) -> Result<Cache> {
        let cache = Cache(Arc::new(Handle::new(plan)?));
        news::opened(cache.opened(), &cache.shown_path());
        Ok(cache)
    }

    /// How this handle came to its region.
    pub fn opened(&self) -> &Opened {
        &self.0.opened
    }

    /// The region's name, as it was given or as its path says; `None` if it is private.
    pub fn name(&self) -> Option<&str> {
        Some(region_name(&self.0.plan.location.as_ref()?.file))
    }

    /// The region's file; `None` if it is private.
    pub fn path(&self) -> Option<PathBuf> {
        Some(self.0.plan.location.as_ref()?.path())
    }

    fn shown_path(&self) -> PathBuf {
        self.path().unwrap_or_else(|| PathBuf::from("(private region)"))
    }

    /// Tells the `log` crate what this process noticed in the region, such as the end of a
    /// process that held something: every write does that at its beginning, and a binding
    /// where [`crate::untold`] says so. The caller holds no lock that a logger might want.
    pub fn tell(&self) {
        if let Ok(attachment) = self.0.attachment() {
            attachment.os().tell();
        }
    }

    /// True if this handle only reads.
    pub fn is_read_only(&self) -> bool {
        self.0.plan.read_only
    }

    /// The region's numbers.
    ///
    /// # Errors
    /// `Closed`.
    pub fn geometry(&self) -> Result<&Geometry> {
        Ok(self.map()?.geometry())
    }

    /// The engine behind this handle, for reads. One compare when nothing happened; in a
    /// forked child the first call attaches anew. Do not keep it across a `fork`, and
    /// ask again for every operation: only so a destroyed region is noticed.
    ///
    /// # Errors
    /// `Closed`; and if it has to attach anew, what [`Builder::open`] says.
    #[inline]
    pub fn map(&self) -> Result<&Map<Os>> {
        self.0.map()
    }

    /// As [`Cache::map`], for writes: looks whether the region is still the one that
    /// others find under its name (a flag in memory each time, the file once a second).
    ///
    /// # Errors
    /// As for [`Cache::map`]; `Gone` once after the region was destroyed or replaced,
    /// whereupon the next call attaches anew (see [`Builder::reattach`]).
    #[inline]
    pub fn writer(&self) -> Result<&Map<Os>> {
        self.0.writer()
    }

    /// The engine behind this handle and its namespace there, for reads; as [`Cache::map`].
    ///
    /// # Errors
    /// As for [`Cache::map`].
    #[inline]
    pub fn scope(&self) -> Result<Scope<'_>> {
        let map = self.0.map()?;
        Ok(Scope { map, namespace: self.0.namespace.in_map(map, false)? })
    }

    /// As [`Cache::scope`], for writes.
    ///
    /// # Errors
    /// As for [`Cache::writer`]; `NamespacesFull` if the region is another one by now and has no
    /// row left.
    #[inline]
    pub fn writing_scope(&self) -> Result<Scope<'_>> {
        let map = self.0.writer()?;
        Ok(Scope { map, namespace: self.0.namespace.in_map(map, map.owner().is_some())? })
    }

    /// Closes the handle, all clones included: their next call is `Closed`. Calls that
    /// are under way in other threads end as usual, and views stay valid. The process
    /// detaches when the last clone, view and call is gone.
    pub fn close(self) {
        self.0.close();
    }

    /// True after [`Cache::close`].
    pub fn is_closed(&self) -> bool {
        self.0.attachment().is_err()
    }

    /// Destroys the region: its name is free at once, and everybody who is attached gets
    /// `Gone` on the next write; this handle too. The memory is given back when the last
    /// handle and view that used the region is dropped: a handle that attached anew keeps
    /// the old mapping until then, because another thread may still be reading in it.
    ///
    /// # Errors
    /// `ReadOnly`, `Closed`, `Permission`, `Io`.
    pub fn destroy(&self) -> Result<()> {
        if self.0.plan.read_only {
            return Err(Error::ReadOnly);
        }
        let os = self.map()?.host();
        let Some(path) = os.file.path() else {
            // A private region has no name to take away.
            cache_core::header::mark_destroyed(&os.region());
            return Ok(());
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(Error::Gone { path: path.to_owned() });
        };
        create::destroy(&Directory::reopen(parent)?, name, &os.file)
    }

    /// Destroys the region of that name without attaching to it, whatever state it is in
    /// (truncated, damaged, of an earlier boot or another version), as long as it is a
    /// region and ours.
    ///
    /// # Errors
    /// As for [`Builder::destroy`].
    pub fn destroy_name(name: &str, dir: Option<&Path>) -> Result<()> {
        let builder = Cache::builder(Some(name));
        match dir {
            Some(dir) => builder.dir(dir).destroy(),
            None => builder.destroy(),
        }
    }

    /// The moment `ttl` from now, as [`WriteOptions`] wants it. A ttl that is longer than
    /// the clock can tell never ends.
    ///
    /// # Errors
    /// As for [`Cache::map`].
    pub fn expiry(&self, ttl: Duration) -> Result<u64> {
        // A part of a millisecond counts as a whole one: nothing expires early.
        let ttl_ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER);
        Ok(self.map()?.host().now_ms().saturating_add(ttl_ms))
    }

    /// What a write does unless told otherwise: plain bytes that never expire, with this
    /// handle's timeout. Where other options begin:
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_shm::{Cache, WriteOptions};
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// let minute = WriteOptions { expires_at_ms: cache.expiry(Duration::from_secs(60))?, ..cache.options() };
    /// assert!(cache.add(b"k", b"v", &minute)?.is_some());
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    pub fn options<'a>(&self) -> WriteOptions<'a> {
        WriteOptions { kind: kind::BYTES, timeout_ns: self.timeout_ns(), ..WriteOptions::default() }
    }

    pub(crate) fn timeout_ns(&self) -> u64 {
        u64::try_from(self.0.plan.timeout.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Counters and sizes of the region, of all processes that ever used it. Each is exact when
    /// nobody is at work; together they are not one instant.
    ///
    /// ```
    /// # use cache_shm::Cache;
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// cache.set(b"k", b"v")?;
    /// cache.get(b"k")?;
    /// cache.get(b"another")?;
    /// let stats = cache.stats()?;
    /// assert_eq!((stats.hits, stats.misses, stats.sets, stats.items), (1, 1, 1, 1));
    /// assert!(stats.fields().contains(&("region_bytes", 1 << 20)));
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a read.
    pub fn stats(&self) -> Result<Stats> {
        Ok(self.map()?.stats())
    }

    /// Begins to count anew, for everybody: the counters of this namespace, or from a handle in
    /// the default one those of the whole region. What others count at this moment may be on either
    /// side.
    ///
    /// # Errors
    /// Those of a write.
    pub fn reset_stats(&self) -> Result<()> {
        let at = self.writing_scope()?;
        match at.namespace {
            Namespace::DEFAULT => at.map.reset_stats(),
            namespace => at.map.reset_stats_of(namespace),
        }
    }

    /// Recounts the whole region and reports what does not fit. Changes nothing and takes no lock.
    /// While others write it counts a moving picture, and looks at each contradiction twice before
    /// it reports it.
    ///
    /// # Errors
    /// Those of a read.
    pub fn validate(&self) -> Result<Report> {
        Ok(self.map()?.validate())
    }

    /// Heals what contradicts itself: gives back what the dead held, removes slots that name
    /// nothing, and empties stripes that cannot be healed. Sound stripes keep their keys, and
    /// others may use the region meanwhile; each lock is waited for up to this handle's
    /// timeout, and what a living process holds is left alone.
    ///
    /// # Errors
    /// `ReadOnly`, `Busy`, `Gone`.
    pub fn repair(&self) -> Result<Repaired> {
        let repaired = self.writer()?.repair(self.timeout_ns())?;
        news::repaired(&repaired, &self.shown_path());
        Ok(repaired)
    }

    /// Process ids of the others that are attached for writing, as they noted them
    /// themselves. Who only reads is not seen.
    ///
    /// # Errors
    /// As for [`Cache::map`].
    pub fn others(&self) -> Result<Vec<u32>> {
        Ok(self.map()?.host().living())
    }

    /// Does about `budget_bytes` bytes of reclaim work in advance, so that writes find free space;
    /// returns how many bytes are free then (a hint). For a thread or process that has time; without
    /// it each write does its share.
    ///
    /// # Errors
    /// Those of a write.
    pub fn maintain(&self, budget_bytes: u64) -> Result<u64> {
        self.writer()?.maintain(budget_bytes)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("path", &self.path()).field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// A value where it lies in the region, see [`Cache::view`]. It holds on to its region:
/// closing or dropping the cache, or destroying the region, does not end it. After a
/// `fork` it is valid in the parent and in the child, until each drops its own.
pub struct View {
    pub(crate) attachment: ManuallyDrop<Arc<Attachment>>,
    pub(crate) pinned: ManuallyDrop<PinnedValue>,
}

// SAFETY: R6. The bytes are pinned for the whole process, not for a thread, and unpinning
// takes a lock; the attachment is shared between threads anyway.
unsafe impl Send for View {}
// SAFETY: R6. As above; a view is only read.
unsafe impl Sync for View {}

impl View {
    /// What is known of the value.
    pub fn meta(&self) -> Meta {
        *self.pinned.meta()
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: R6, S1. Pinned: nobody writes to these bytes until `drop`; the attachment keeps
        // them mapped.
        unsafe { std::slice::from_raw_parts(self.pinned.as_ptr(), self.pinned.meta().value_bytes) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: S6. Both are taken here.
        let (pinned, attachment) =
            unsafe { (ManuallyDrop::take(&mut self.pinned), ManuallyDrop::take(&mut self.attachment)) };
        handover::unpin(&attachment, pinned);
        // SAFETY: S3. The view's own reference.
        unsafe { release(Arc::into_raw(attachment)) };
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("meta", &self.meta()).finish_non_exhaustive()
    }
}
