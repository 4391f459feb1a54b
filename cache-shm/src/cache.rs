//! The handle that programs use.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cache_core::{
    Cas, Cursor, Destination, Error, Geometry, Host, Map, Meta, NEVER, Namespace, NamespaceInfo, PinnedValue, Repaired,
    Report, Result, Stats, WriteOptions, kind,
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
/// # Errors
/// Reads fail with `Closed`, `Gone` (the region was destroyed, nobody made another, and
/// the handle may not), or `Corrupt`; a missing key is `None`. Writes also with `Busy` at
/// the handle's timeout, `ReadOnly`, `KeyEmpty`, `KeyTooLong`, `ValueTooLarge`, `Full`
/// (no-evict regions) and `NoSpace`. After an error nothing has changed.
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
    /// handle's timeout.
    pub fn options<'a>(&self) -> WriteOptions<'a> {
        WriteOptions { kind: kind::BYTES, timeout_ns: self.timeout_ns(), ..WriteOptions::default() }
    }

    fn timeout_ns(&self) -> u64 {
        u64::try_from(self.0.plan.timeout.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = Vec::new();
        let at = self.scope()?;
        Ok(at.map.get(at.key(key), &mut value)?.map(|_| value))
    }

    /// Copies the value of `key` where `destination` says.
    pub fn get_into<D: Destination>(&self, key: &[u8], destination: &mut D) -> Result<Option<Meta>> {
        let at = self.scope()?;
        at.map.get(at.key(key), destination)
    }

    /// What is known of `key` without its value; does not count as a use.
    pub fn meta(&self, key: &[u8]) -> Result<Option<Meta>> {
        let at = self.scope()?;
        at.map.meta(at.key(key))
    }

    /// True if `key` is there.
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        let at = self.scope()?;
        at.map.contains(at.key(key))
    }

    /// How long `key` has left: `None` if it is missing, [`Duration::MAX`] if it never
    /// expires.
    pub fn ttl(&self, key: &[u8]) -> Result<Option<Duration>> {
        let at = self.scope()?;
        Ok(at.map.meta(at.key(key))?.map(|meta| match meta.expires_at_ms {
            NEVER => Duration::MAX,
            expires_at_ms => Duration::from_millis(expires_at_ms.saturating_sub(at.map.host().now_ms())),
        }))
    }

    /// The value of `key` where it lies, without a copy: it stays as it is when the key is
    /// overwritten, deleted or evicted. Where nothing can be pinned (a read-only
    /// attachment, too many views) it is a private copy.
    pub fn view(&self, key: &[u8]) -> Result<Option<View>> {
        loop {
            let at = self.scope()?;
            let attachment = self.0.attachment()?;
            if !std::ptr::eq(attachment.map(), at.map) {
                // Another thread attached anew between the two.
                continue;
            }
            let attachment = self.0.share(attachment);
            let Some(pinned) = handover::pin(&attachment, at.key(key))? else { return Ok(None) };
            return Ok(Some(View { attachment: ManuallyDrop::new(attachment), pinned: ManuallyDrop::new(pinned) }));
        }
    }

    /// Looks up many keys at once, faster than one by one. `visit` gets the position of
    /// each key that is there with its value; returns how many are.
    pub fn get_many(&self, keys: &[&[u8]], visit: &mut dyn FnMut(usize, &Meta, &[u8])) -> Result<usize> {
        let at = self.scope()?;
        let keys: Vec<_> = keys.iter().map(|key| at.key(key)).collect();
        at.map.get_many(&keys, visit)
    }

    /// Stores `value`; returns its version.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<u64> {
        let at = self.writing_scope()?;
        at.map.set(at.key(key), value, &self.options())
    }

    /// Stores `value`, to expire after `ttl`; returns its version.
    pub fn set_for(&self, key: &[u8], value: &[u8], ttl: Duration) -> Result<u64> {
        let options = WriteOptions { expires_at_ms: self.expiry(ttl)?, ..self.options() };
        let at = self.writing_scope()?;
        at.map.set(at.key(key), value, &options)
    }

    /// Stores `value` as `options` say; returns its version.
    pub fn set_with(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<u64> {
        let at = self.writing_scope()?;
        at.map.set(at.key(key), value, options)
    }

    /// Stores `value` if `key` is missing; `None` if it is there.
    pub fn add(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<Option<u64>> {
        let at = self.writing_scope()?;
        at.map.add(at.key(key), value, options)
    }

    /// Stores `value` if `key` is there; `None` if it is missing.
    pub fn replace(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<Option<u64>> {
        let at = self.writing_scope()?;
        at.map.replace(at.key(key), value, options)
    }

    /// Stores `value` if `key` still has `version`.
    pub fn cas(&self, key: &[u8], version: u64, value: &[u8], options: &WriteOptions) -> Result<Cas> {
        let at = self.writing_scope()?;
        at.map.cas(at.key(key), version, value, options)
    }

    /// Copies what is there into `destination`, or stores `value` (`None`).
    pub fn get_or_add<D: Destination>(
        &self,
        key: &[u8],
        value: &[u8],
        options: &WriteOptions,
        destination: &mut D,
    ) -> Result<Option<Meta>> {
        let at = self.writing_scope()?;
        at.map.get_or_add(at.key(key), value, options, destination)
    }

    /// Removes `key`; true if it was there.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        let at = self.writing_scope()?;
        at.map.delete(at.key(key), self.timeout_ns())
    }

    /// Removes `key` and copies its value into `destination`, in one step.
    pub fn take<D: Destination>(&self, key: &[u8], destination: &mut D) -> Result<Option<Meta>> {
        let at = self.writing_scope()?;
        at.map.take(at.key(key), self.timeout_ns(), destination)
    }

    /// Removes any one key and copies key and value; `None` if there is none.
    pub fn take_any<D: Destination>(&self, key: &mut Vec<u8>, destination: &mut D) -> Result<Option<Meta>> {
        let at = self.writing_scope()?;
        at.map.take_any(at.namespace, self.timeout_ns(), key, destination)
    }

    /// Adds `delta` to the integer at `key` and returns the sum. A missing key counts as
    /// `initial`, or gives `None` without one. The expiry of an existing key stays.
    ///
    /// # Errors
    /// `NotInteger`, `Overflow`; nothing changed.
    pub fn incr(&self, key: &[u8], delta: i64, initial: Option<i64>) -> Result<Option<i64>> {
        let at = self.writing_scope()?;
        at.map.incr(at.key(key), delta, initial, &self.options())
    }

    /// As [`Cache::incr`], with options for a key that it makes.
    pub fn incr_with(
        &self,
        key: &[u8],
        delta: i64,
        initial: Option<i64>,
        options: &WriteOptions,
    ) -> Result<Option<i64>> {
        let at = self.writing_scope()?;
        at.map.incr(at.key(key), delta, initial, options)
    }

    /// Appends to the value of `key` and returns its new length; `None` if it is missing.
    pub fn append(&self, key: &[u8], bytes: &[u8]) -> Result<Option<usize>> {
        let at = self.writing_scope()?;
        at.map.append(at.key(key), bytes, None, &self.options())
    }

    /// Lets `key` expire after `ttl`, or never (`None`); false if it is missing.
    pub fn touch(&self, key: &[u8], ttl: Option<Duration>) -> Result<bool> {
        let expires_at_ms = ttl.map_or(Ok(NEVER), |ttl| self.expiry(ttl))?;
        let at = self.writing_scope()?;
        at.map.touch(at.key(key), expires_at_ms, self.timeout_ns())
    }

    /// Stores many values, each an operation of its own; returns how many were stored.
    /// `on_error` gets the position of each that was not.
    pub fn set_many(
        &self,
        items: &[(&[u8], &[u8], WriteOptions)],
        on_error: &mut dyn FnMut(usize, Error),
    ) -> Result<usize> {
        let at = self.writing_scope()?;
        let items: Vec<_> = items.iter().map(|(key, value, options)| (at.key(key), *value, *options)).collect();
        Ok(at.map.set_many(&items, on_error))
    }

    /// Removes many keys, each an operation of its own; returns how many were there.
    pub fn delete_many(&self, keys: &[&[u8]]) -> Result<usize> {
        let at = self.writing_scope()?;
        let keys: Vec<_> = keys.iter().map(|key| at.key(key)).collect();
        at.map.delete_many(&keys, self.timeout_ns())
    }

    /// Removes all keys of this namespace at once.
    pub fn clear(&self) -> Result<()> {
        let at = self.writing_scope()?;
        at.map.clear_of(at.namespace)
    }

    /// Removes the keys of all namespaces at once.
    pub fn clear_all(&self) -> Result<()> {
        self.writer()?.clear()
    }

    /// Another handle on this region, in the namespace `name`, 1 to 64 bytes, which is made if it
    /// is not there yet. The same bytes are another key in each namespace. Handles are closed
    /// each by itself.
    ///
    /// ```
    /// # use cache_shm::Cache;
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// let users = cache.namespace(b"users")?;
    /// users.set(b"7", b"Ada")?;
    /// assert_eq!(cache.get(b"7")?, None);
    /// users.clear()?;
    /// assert_eq!(users.get(b"7")?, None);
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// `LabelLength`, `NamespacesFull`, `Busy`. A read-only handle finds nothing in a namespace
    /// that nobody has made.
    pub fn namespace(&self, name: &[u8]) -> Result<Cache> {
        // Says whether the name is one; an empty one would be the default namespace's.
        self.map()?.find_namespace(name)?;
        let handle = Cache(Arc::new(self.0.sibling(name)?));
        handle.0.namespace.in_map(handle.map()?, !self.is_read_only())?;
        Ok(handle)
    }

    /// The namespace's name; empty for the default one.
    pub fn namespace_name(&self) -> &[u8] {
        self.0.namespace.name()
    }

    /// The default namespace and all that were made, with their counters.
    pub fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        Ok(self.map()?.namespaces())
    }

    /// Removes every value of this namespace that was stored with the tag `name`, 1 to 255 bytes,
    /// at once. Tags share words: a value of another tag may go as well, seldom.
    ///
    /// ```
    /// # use cache_shm::{Cache, WriteOptions};
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// let options = WriteOptions { tags: &[b"user:7"], ..cache.options() };
    /// cache.set_with(b"page:1", b"Hello, Ada", &options)?;
    /// cache.evict_tag(b"user:7")?;
    /// assert_eq!(cache.get(b"page:1")?, None);
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    pub fn evict_tag(&self, name: &[u8]) -> Result<()> {
        let at = self.writing_scope()?;
        at.map.evict_tag(at.namespace, name)
    }

    /// Walks over the keys, some at each call: from [`Cursor::START`] until it returns
    /// `None`. A key that is there all the time is seen at least once, whatever changes
    /// meanwhile.
    pub fn scan(&self, cursor: Cursor, visit: &mut dyn FnMut(&[u8], &Meta)) -> Result<Option<Cursor>> {
        let at = self.scope()?;
        at.map.scan(cursor, &mut |key, meta| {
            if meta.namespace == at.namespace {
                visit(key, meta);
            }
        })
    }

    /// Number of unexpired keys, counted by a walk over those of all namespaces.
    pub fn len(&self) -> Result<u64> {
        let at = self.scope()?;
        Ok(at.map.len_of(at.namespace))
    }

    /// True if there is no unexpired key.
    pub fn is_empty(&self) -> Result<bool> {
        let at = self.scope()?;
        Ok(at.map.is_empty_of(at.namespace))
    }

    /// Counters and sizes of the region.
    pub fn stats(&self) -> Result<Stats> {
        Ok(self.map()?.stats())
    }

    /// Begins to count anew, for everybody: the counters of this namespace, or from a handle in
    /// the default one those of the whole region.
    pub fn reset_stats(&self) -> Result<()> {
        let at = self.writing_scope()?;
        match at.namespace {
            Namespace::DEFAULT => at.map.reset_stats(),
            namespace => at.map.reset_stats_of(namespace),
        }
    }

    /// Recounts the whole region and reports what does not fit. Changes nothing.
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

    /// Does up to `budget_bytes` of reclaim work in advance.
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
    attachment: ManuallyDrop<Arc<Attachment>>,
    pinned: ManuallyDrop<PinnedValue>,
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
